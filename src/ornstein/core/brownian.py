"""Brownian motion as an object: one path, that may be asked for its value at any time, in any order, at any resolution.

Times run over ``[t0, t1]``, cut at ``c_0 = t0 < c_1 < ... < c_n = t1`` into *cells* whose increments are independent,
``N(0, c_{k+1} - c_k)``. Within a cell the path is refined by halving (P. Levy): given the increment w over [l, h], the part of
it that falls before m is Gaussian, since the covariance with w is ``m - l`` and the variance of w is ``h - l``:

    B(m) - B(l) | w  ~  N(p w, p (h - m)),        p = (m - l) / (h - l).                                      (1)

What is left, w minus that, belongs to [m, h]. Numbers are drawn from sources named by the cell and by the node of its tree
(0 is the whole cell, 1 its middle, 2n and 2n + 1 the middles of the halves of node n), so that nothing depends on what was
asked before. This is the virtual Brownian tree of Li et al. 2020 (Scalable gradients for SDEs, section 4) with the cells of a
time grid as roots. It descends until the time is hit, not to a tolerance: a path interpolated below 2^-40 of a cell would be
wrong by 2^-21 of its size, more than float32 rounds. As (1) takes middles as they were rounded, the law is exact at every
float. Increments are sums of increments, never differences of values, so that short ones keep all their digits.
"""

__all__ = ["BrownianPath", "PathStream"]

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.linear import Time
from ornstein.core.noise import Noise, Stream
from ornstein.errors import OrnsteinError

_BROWNIAN, _REST = 0x42726F776E, 0x72657374  # keys that keep a path, and what a method draws beside it, apart
_DEPTH = 63  # halvings, enough to hit any float but those next to 0; the path is straight in what is left of a cell
_VALUE = "value"  # where the last B(c_k) is kept


@dataclass(frozen=True)
class BrownianPath:
    """A Brownian motion ``B`` on ``[t0, t1]``: ``B(t0) = 0``, ``B(t) - B(s) ~ N(0, t - s)`` in every entry, independently.

    ``B(t)`` is a value, ``B(s, t) = B(t) - B(s)`` an increment, both of ``shape``. Sample i is the same, bit by bit, for every
    ``shape[0]``, every order of queries and every device (it is drawn on the CPU); so is a value however often it is asked for.
    On declared times an increment costs one draw for each cell between, and keeps nothing; elsewhere a query costs a
    draw for each halving down to its time, about 24 for times in float32 and 52 in float64, less what it shares with the
    last query, whose descent (as many states) is kept. ``B(t)`` adds up the cells from t0, or from the last t if that was
    before: to go down a long declared grid, ask for increments. Not differentiable in the times.

    Args:
        shape: ``(b, *event)``; the first dimension counts samples.
        t0: start of the path.
        t1: end of the path.
        seed: an integer, or a `Noise`.
        cells: times that will be asked for, strictly monotone within ``[t0, t1]``, such as ``sde.times(40)``; the ends are
            added. They are part of what names the path: the same seed with other cells is another path.
        dtype: of the values.

    Raises:
        OrnsteinError: if the interval is empty, the cells are not a grid in it, or a time is outside or not a scalar.

    P. Levy 1948 (Processus stochastiques et mouvement brownien); Li et al. 2020; Jelincic et al. 2024 (Single-seed generation
    of Brownian paths and integrals). Called VirtualBrownianTree in diffrax and BrownianInterval in torchsde.
    """

    shape: Sequence[int]
    t0: float = 0.0
    t1: float = 1.0
    seed: int | Noise = 0
    cells: Sequence[float] | Tensor | None = None
    dtype: torch.dtype = torch.float32
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.shape) == 0:
            raise OrnsteinError("a path of shape (): the first dimension counts samples, use shape=(1,) for a single number")
        if not -math.inf < self.t0 < self.t1 < math.inf:
            raise OrnsteinError(f"a path on [{self.t0}, {self.t1}]: the ends must be finite with t0 < t1; swap them?")
        cells = () if self.cells is None else self.cells
        times = [float(t) for t in (cells.tolist() if isinstance(cells, Tensor) else cells)]
        if not all(s < t for s, t in pairwise(times)) and not all(s > t for s, t in pairwise(times)):
            raise OrnsteinError(f"cells must be strictly monotone, got {times[:4]} ...: sort them and drop the repeated ones")
        if not all(self.t0 <= t <= self.t1 for t in times):
            raise OrnsteinError(f"cells must lie in [t0, t1] = [{self.t0}, {self.t1}], got {times[:4]} ...: move the ends of the path")
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "cells", tuple(sorted({float(self.t0), *times, float(self.t1)})))

    def __call__(self, s: Time, t: Time | None = None) -> Float[Tensor, "b *event"]:
        """``B(s)``, or with two times the increment ``B(s, t) = B(t) - B(s)``."""
        return self.increment(self.t0, s) if t is None else self.increment(s, t)

    def increment(self, s: Time, t: Time) -> Float[Tensor, "b *event"]:
        """``B(t) - B(s)`` for scalar times in either order: ``increment(t, s)`` is ``-increment(s, t)``, bit by bit."""
        a, b = self._time(s), self._time(t)
        if self._is_cell(a, b):
            return self.between(a, b).mul_(math.sqrt(abs(b - a)))
        return self._rise(a, b, b) if a < b else self._rise(b, a, b).neg_()

    def between(self, s: Time, t: Time) -> Float[Tensor, "b *event"]:
        """``(B(t) - B(s)) / sqrt|t - s|``, a standard normal number in every entry.

        Raises:
            OrnsteinError: if ``s == t``.
        """
        a, b = self._time(s), self._time(t)
        if self._is_cell(a, b):
            z = self._draw(self._index[min(a, b)])
            return z if a > b else z.neg_()  # a cell's number is for the step down, the way that samplers go
        if a == b:
            raise OrnsteinError(f"the increment from {a} to itself cannot be normalised: use increment(s, t), which is 0")
        return self.increment(a, b).div_(math.sqrt(abs(b - a)))

    def fold(self, *keys: int) -> "BrownianPath":
        """This very path. Users of a `Noise` fold it to get numbers that are theirs alone; a path is what it is."""
        return self

    def stream_like(self, x: Tensor) -> "PathStream":
        """The path as the randomness of one run, in place of `Noise.stream_like`.

        Raises:
            OrnsteinError: if the shape of ``x`` is not that of the path.
        """
        if tuple(x.shape) != self.shape:
            raise OrnsteinError(f"a state of shape {tuple(x.shape)} on a path of shape {self.shape}: make the path with shape=x.shape")
        return PathStream(self, self._noise.fold(_REST).stream_like(x), x[:0].detach())

    @cached_property
    def _noise(self) -> Noise:
        return (self.seed if isinstance(self.seed, Noise) else Noise(self.seed)).fold(_BROWNIAN)

    @cached_property
    def _stream(self) -> Stream:
        """The blocks of a draw, worked out once."""
        return self._noise.stream(self.shape, self.dtype)

    @cached_property
    def _index(self) -> dict[float, int]:
        return {float(t): k for k, t in enumerate(self.cells or ())}

    @cached_property
    def _grid(self) -> tuple[float, ...]:
        return tuple(self._index)

    def _time(self, t: Time) -> float:
        if isinstance(t, Tensor) and t.numel() != 1:
            raise OrnsteinError(f"a path has one time for all samples, got times of shape {tuple(t.shape)}: ask for one at a time")
        value = float(t.item() if isinstance(t, Tensor) else t)
        if not self.t0 <= value <= self.t1:
            raise OrnsteinError(f"time {value} is outside the path's [t0, t1] = [{self.t0}, {self.t1}]: make the path longer")
        return value

    def _is_cell(self, a: float, b: float) -> bool:
        """Whether a and b are the ends of a cell, in either order."""
        i, j = self._index.get(a), self._index.get(b)
        return i is not None and j is not None and abs(i - j) == 1

    def _draw(self, cell: int, node: int = 0) -> Tensor:
        source, stream = self._noise.fold(cell, node), self._stream
        blocks = range(source.start // stream.block, source.start // stream.block + len(stream.generators))
        return stream._replace(generators=tuple(map(source.generator, blocks))).normal()

    def _rise(self, a: float, b: float, end: float) -> Tensor:
        """``B(b) - B(a)`` for a <= b, from left to right; keeps the numbers of the descent to ``end`` for the next query."""
        first, stop = bisect_right(self._grid, a) - 1, bisect_left(self._grid, b)  # the cells that meet (a, b)
        total = torch.zeros(self.shape, dtype=self.dtype)
        last, kept = self._kept, {k: v for k, v in self._kept.items() if k == _VALUE}
        if a == self.t0 and _VALUE in last and self._grid[last[_VALUE][0]] <= b:
            first, total = last[_VALUE]
        for k in range(first, stop):
            l, h = self._grid[k], self._grid[k + 1]
            for piece in self._pieces(k, max(a, l), min(b, h), end, last, kept):
                total = total + piece
            if a == self.t0 and h <= b:
                kept[_VALUE] = (k + 1, total)  # B(c_{k+1})
        object.__setattr__(self, "_kept", kept)
        return total.clone() if a == self.t0 else total

    def _pieces(self, k: int, a: float, b: float, end: float, last: dict[Any, Any], kept: dict[Any, Any]) -> Iterator[Tensor]:
        """Increments whose sum is that over [a, b], within cell k: the nodes of its tree that tile the interval."""

        def number(node: int, l: float, h: float) -> Tensor:
            z = last[k, node] if (k, node) in last else self._draw(k, node)
            if l < end < h:
                kept[k, node] = z
            return z

        l, h = self._grid[k], self._grid[k + 1]
        if a == l and b == h:
            yield self._draw(k).mul_(-math.sqrt(h - l))
            return
        todo = [(1, l, h, number(0, l, h) * -math.sqrt(h - l), a, b)]
        while todo and a < b:  # the nodes that a or b cuts, two at most
            node, l, h, w, a, b = todo.pop()
            if (a == l and b == h) or node >> _DEPTH:
                yield w * ((b - a) / (h - l))
                continue
            m = l + (h - l) / 2
            p = (m - l) / (h - l)
            left = w * p + number(node, l, h) * math.sqrt(p * (h - m))  # (1)
            if m < b:
                todo.append((2 * node + 1, m, h, w - left, max(a, m), b))
            if a < m:
                todo.append((2 * node, l, m, left, a, min(b, m)))


class PathStream(NamedTuple):
    """A `BrownianPath` in the place of a `Stream`, so that runs on different grids follow one Brownian motion.

    Steps go ``t -> s``, as everywhere in the library. What a method draws beside its increments comes from an independent
    source, in the order of the draws.
    """

    path: BrownianPath
    rest: Stream
    like: Tensor

    def normal(self) -> Float[Tensor, "b *event"]:
        """The next standard normal numbers: independent of the path."""
        return self.rest.normal()

    def uniform(self) -> Float[Tensor, "b *event"]:
        """The next uniform numbers on ``[0, 1)``: independent of the path."""
        return self.rest.uniform()

    def increment(self, t: Time, s: Time) -> Float[Tensor, "b *event"]:
        """``B(s) - B(t)``, ``N(0, |s - t|)`` in every entry, for scalar times."""
        return self.path.increment(t, s).to(self.like)

    def between(self, t: Time, s: Time) -> Float[Tensor, "b *event"]:
        """``(B(s) - B(t)) / sqrt|s - t|``: the standard normal numbers of a step, in place of `normal`."""
        return self.path.between(t, s).to(self.like)
