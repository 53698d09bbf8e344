"""Brownian paths that can be queried at any time, in any order: a virtual Brownian tree.

Times run over ``[t0, t1]``, cut at ``c_0 = t0 < c_1 < ... < c_n = t1`` into *cells* whose
increments are independent. Within a cell the path is refined by halving (P. Levy): given the
increment W over [l, h], the part of it that falls before m is Gaussian, since the covariance with W
is ``m - l`` and the variance of W is ``h - l``,

    B(m) - B(l) | W  ~  N(p W, p (h - m)),        p = (m - l) / (h - l),                         (1)

and the remainder, W minus that, belongs to [m, h]. With Levy areas an interval has more
coefficients than its increment, and (1) is a rotation of them: see `ornstein.core.random.legendre`.

Numbers are drawn from sources named by the cell and by the node of its tree (0 is the whole cell, 1
its middle, 2n and 2n + 1 the middles of the halves of node n), so that nothing depends on what was
asked before. This is the virtual Brownian tree of Li et al. 2020 (Scalable gradients for SDEs,
section 4) with the cells of a time grid as roots. As (1) takes middles as they were rounded, the
law is exact at every float. Increments are sums of increments, never differences of values, so that
short ones keep all digits.

With a tolerance the tree ends in leaves (`ornstein.core.random.brownian_tree`).
"""

__all__ = ["BrownianPath"]

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.checks import require_finite
from ornstein.core.processes.linear import Time
from ornstein.core.random.blocks import as_shape, scaled
from ornstein.core.random.brownian_tree import DEPTH, Cut, cell_times, cut_at, leaf_length
from ornstein.core.random.legendre import Coefficients, join, split
from ornstein.core.random.motion import Motion
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError

_BROWNIAN = 0x42726F776E  # key of paths, which separates them from other users of a seed


@dataclass(frozen=True)
class BrownianPath(Motion):
    """A Brownian motion on ``[t0, t1]`` that can be queried at any time, in any order.

    ``B(t0) = 0`` and ``B(t) - B(s) ~ N(0, t - s)`` in every entry, independently. ``B(t)`` is a
    value, ``B(s, t) = B(t) - B(s)`` an increment, both of ``shape``. Sample i is the same, bit by
    bit, for every ``shape[0]``, every order of queries and every device (it is drawn on the CPU).

    On declared times an increment costs one draw for each cell between, and stores nothing.
    Elsewhere a query costs a draw for each halving down to its time: 24 for times in float32, 52 in
    float64, with ``tol`` only ``log2`` of the cell over ``tol``. Not differentiable in the times.

    Args:
        shape: ``(b, *event)``; the first dimension counts samples.
        t0: start of the path.
        t1: end of the path.
        seed: an integer, or a `Noise`.
        cells: times that will be asked for, strictly monotone within ``[t0, t1]``, such as
            ``sde.times(40)``; the ends are added. They are part of what names the path: the same
            seed with other cells is another path.
        dtype: of the values.
        tol: length of time below which the path is not resolved, such as the shortest step of an
            adaptive solver; 0 resolves everything. Part of the name too.
        order: 1 gives the increment of an interval, 2 also its space-time Levy area H, 3 also its
            space-time-time Levy area K. On declared times they are drawn only when asked
            for, elsewhere each order costs a draw more.

    Raises:
        OrnsteinError: if the interval is empty, the cells are not a grid in it, ``tol`` is
            negative, or ``order`` not 1, 2 or 3. A query raises it if a time is outside or not a
            scalar, and if an interval lies within what ``tol`` leaves unresolved.

    Example:
        >>> path = orn.BrownianPath((5, 2), seed=0)
        >>> path(0.5).shape
        torch.Size([5, 2])
        >>> torch.equal(path(0.5, 0.7), -path(0.7, 0.5))
        True

    P. Levy 1948 (Processus stochastiques et mouvement brownien); Li et al. 2020; Jelincic et al.
    2024 (Single-seed generation of Brownian paths and integrals). Called VirtualBrownianTree in
    diffrax and BrownianInterval in torchsde.
    """

    shape: Sequence[int]
    t0: float = 0.0
    t1: float = 1.0
    seed: int | Noise = 0
    cells: Sequence[float] | Tensor | None = field(default=None, repr=False)
    dtype: torch.dtype = torch.float32
    tol: float = 0.0
    order: int = 1
    _cuts: dict[tuple[int, int], Cut] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )  # of the last query
    _value: list[tuple[int, Tensor]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )  # the last (k, B(c_k))

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", as_shape(self.shape))
        Noise.of(self.seed)  # raises for what is no seed
        require_finite(t0=self.t0, t1=self.t1, tol=self.tol)
        if not self.t0 < self.t1:
            raise OrnsteinError(
                f"a path on [{self.t0}, {self.t1}]: the ends must have t0 < t1; swap them?"
            )
        if not self.tol >= 0:
            raise OrnsteinError(
                f"a path with tol={self.tol}: it is a length of time, 0 to resolve everything"
            )
        if self.order not in (1, 2, 3):
            raise OrnsteinError(
                f"a path of order {self.order}: 1 has increments, 2 also the Levy area H, 3 also K"
            )
        object.__setattr__(self, "cells", cell_times(self.cells, self.t0, self.t1))

    def increment(self, s: Time, t: Time) -> Float[Tensor, "b *event"]:
        """Return the increment ``B(t) - B(s)`` for scalar times in either order.

        ``increment(t, s)`` is ``-increment(s, t)``, bit by bit.
        """
        a, b = self._time(s), self._time(t)
        k = self._cell(a, b)
        if k is not None:
            # a cell's number is for the step down
            down = self._draw(k, 0, std=math.sqrt(abs(b - a)))
            return down if a > b else down.neg_()
        return self._rise(a, b) if a < b else self._rise(b, a).neg_()

    def between(self, s: Time, t: Time) -> Float[Tensor, "b *event"]:
        """Return the standard normal numbers ``(B(t) - B(s)) / sqrt|t - s|`` of an interval.

        Raises:
            OrnsteinError: if ``s == t``.
        """
        a, b = self._time(s), self._time(t)
        k = self._cell(a, b)
        if k is None:
            return super().between(a, b)
        return self._draw(k, 0) if a > b else self._draw(k, 0).neg_()

    def levy_area(self, s: Time, t: Time, moment: int = 1) -> Float[Tensor, "b *event"]:
        """Return a Levy area of the path over an interval, independent of the increment.

        With h the length of the interval and beta the path minus its chord, ``H = 1/h int beta du``
        is ``N(0, h / 12)`` and K is ``N(0, h / 720)``. The mean of the path over the interval is
        ``B(s) + B(s, t) / 2 + H``; and with ``moment=2`` ``K = 1/h int (1/2 - (u - s) / h) beta
        du``. Against time H is the same, and K changes its sign.

        Raises:
            OrnsteinError: if the path's ``order`` is not above ``moment``.
        """
        if not 1 <= moment < self.order:
            raise OrnsteinError(
                f"Levy areas of moment {moment} on a path of order {self.order}: H is moment 1, K"
                f" is moment 2; make it with order={moment + 1}"
            )
        a, b = self._time(s), self._time(t)
        low, high = min(a, b), max(a, b)
        if low == high:
            return torch.zeros(self.shape, dtype=self.dtype)
        k = self._cell(a, b)
        c = (
            self._joined(low, high)[moment]
            if k is None
            else self._draw(k, 0, moment, std=math.sqrt(high - low))
        )
        return c * (-1 / math.sqrt(12) if moment == 1 else math.copysign(1 / math.sqrt(720), b - a))

    def independent_noise(self) -> Noise:
        """Return a source of random numbers that is independent of the path."""
        return self._noise

    @cached_property
    def _noise(self) -> Noise:
        """The source of the random numbers of the path."""
        return Noise.of(self.seed).fold(_BROWNIAN)

    @cached_property
    def _index(self) -> dict[float, int]:
        """The index of each cell boundary, by the time."""
        return {float(t): k for k, t in enumerate(self.cells or ())}

    @cached_property
    def _grid(self) -> tuple[float, ...]:
        """The increasing times that separate the cells, with both ends."""
        return tuple(self._index)

    def _time(self, t: Time) -> float:
        """Return a time as a float, or raise if the path does not contain the time."""
        if isinstance(t, Tensor) and t.numel() != 1:
            raise OrnsteinError(
                f"a path has one time for all samples, got times of shape {tuple(t.shape)}: ask for"
                " one at a time"
            )
        require_finite(time=t)
        value = float(t.item() if isinstance(t, Tensor) else t)
        if not self.t0 <= value <= self.t1:
            raise OrnsteinError(
                f"time {value} is outside the path's [t0, t1] = [{self.t0}, {self.t1}]: make the"
                " path longer"
            )
        return value

    def _cell(self, a: float, b: float) -> int | None:
        """Return the cell whose ends are a and b, in either order; None if there is none."""
        i, j = self._index.get(a), self._index.get(b)
        return min(i, j) if i is not None and j is not None and abs(i - j) == 1 else None

    def _draw(self, k: int, node: int, moment: int = 0, std: float = 1.0) -> Tensor:
        """Draw the normal numbers for a cell, a node of its tree, and a Legendre coefficient."""
        return self._noise.fold(node, moment).fill(
            tuple(self.shape), self.dtype, "cpu", scaled(std), draw=k
        )

    def _whole(self, k: int, order: int) -> Coefficients:
        """Return the Legendre coefficients of cell k."""
        down, *more = (
            self._draw(k, 0, i, std=math.sqrt(self._grid[k + 1] - self._grid[k]))
            for i in range(order)
        )
        return down.neg_(), *more

    def _rise(self, a: float, b: float) -> Tensor:
        """Return ``B(b) - B(a)`` for a <= b, summed from left to right."""
        first = bisect_right(self._grid, a) - 1
        total: Tensor | None = None
        shared = True  # the total is also stored elsewhere and must not be changed in place
        is_value = a == self.t0
        if is_value and self._value and self._grid[self._value[0][0]] <= b:
            first, total = self._value[0]
            a = self._grid[first]
        for k, _, c in self._pieces(first, a, b, 1):
            if total is None:
                total, shared = c[0], k is None
            else:
                total, shared = (total + c[0] if shared else total.add_(c[0])), False
            if is_value and k is not None:
                self._value[:], shared = [(k + 1, total)], True  # B(c_{k+1})
        if total is None:
            return torch.zeros(self.shape, dtype=self.dtype)
        return total.clone() if shared else total

    def _joined(self, a: float, b: float) -> Coefficients:
        """Return the Legendre coefficients of the path over [a, b]."""
        pieces = self._pieces(bisect_right(self._grid, a) - 1, a, b, self.order)
        _, length, total = next(pieces)
        for _, h, c in pieces:
            total, length = join(total, c, length / (length + h), h / (length + h)), length + h
        return total

    def _pieces(
        self, first: int, a: float, b: float, order: int
    ) -> Iterator[tuple[int | None, float, Coefficients]]:
        """Yield cells and parts of cells that tile [a, b], from left to right.

        For each: the cell that it is (None for a part of one), its length, its coefficients.
        """
        cuts: dict[tuple[int, int], Cut] = {}
        for k in range(first, bisect_left(self._grid, b)):
            l, h = self._grid[k], self._grid[k + 1]
            if a <= l and h <= b:
                yield k, h - l, self._whole(k, order)
            elif a < b:
                yield from self._tile(k, max(a, l), min(b, h), cuts)
        self._cuts.clear()
        self._cuts.update(cuts)

    def _tile(
        self, k: int, a: float, b: float, cuts: dict[tuple[int, int], Cut]
    ) -> Iterator[tuple[None, float, Coefficients]]:
        """Yield the nodes of the tree of cell k that tile [a, b]."""
        l, h = self._grid[k], self._grid[k + 1]
        root = cuts[k, 0] = self._cuts.get((k, 0)) or Cut(l, (), self._whole(k, self.order))
        todo, leaf = [(1, l, h, root.right)], leaf_length(h - l, self.tol)
        while todo:  # the nodes that a or b cuts, two at most
            node, l, h, c = todo.pop()
            if a <= l and h <= b:
                yield None, h - l, c
                continue
            if node >> DEPTH:
                part = min(b, h) - max(a, l)
                yield None, part, tuple(x * (part / (h - l)) for x in c)
                continue
            m, p, q = cut_at(l, h, a, b, leaf, self.tol)
            cut = self._cuts.get((k, node))
            if cut is None or cut.at != m:
                cut = Cut(m, *split(c, partial(self._draw, k, node), p, q, h - l))
            cuts[k, node] = cut
            if m < b:
                todo.append((2 * node + 1, m, h, cut.right))
            if a < m:
                todo.append((2 * node, l, m, cut.left))
