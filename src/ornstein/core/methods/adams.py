"""A multistep method of variable step and one evaluation per step, for smooth ODEs to a tolerance.

With nodes ``t_0 > t_1 > ...`` (newest first), slopes ``v_j`` there, and I[...] the integral over
the step of the polynomial through the slopes in brackets, a step of k back values is

    p = x_t + I[v_0 .. v_{k-1}],    v = drift(p, s),    x_s = x_t + I[v, v_0 .. v_{k-1}],        (1)
    e = x_s - (x_t + I[v, v_0 .. v_{k-2}]).                                                      (2)

With P the polynomial through v_0 .. v_{k-1}, whose integral is in p, and ``w(u) = prod_j (u -
t_j)`` over its nodes,

    x_s = p + (v - P(s)) int w / w(s),    e = (v - P(s)) int (u - s) w / (u - t_{k-1}) / w(s).   (3)

Adams and Bashforth predict, Adams and Moulton correct, and v serves the next step as the slope at s
(PEC mode). The error (2) of the corrector of one order less controls the step. Hairer, Norsett and
Wanner 1993, section III.1 and III.5.
"""

__all__ = ["Adams", "Errors"]

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.core.methods.multistep import require_ode
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Method, Step
from ornstein.errors import OrnsteinError

START = 5.0  # how much longer a step may be than the last, until there are slopes enough
LEGENDRE = np.stack(np.polynomial.legendre.leggauss(5)) / 2 + [
    [0.5],
    [0.0],
]  # nodes and weights on [0, 1], exact for 10 nodes

Weigh = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""``(error, x, slope, t) -> (b, m)``: what an error of the state means, in parts with their
signs."""


class History(NamedTuple):
    """Times and slopes ``(k, b, *event)`` of the last evaluations, newest first; the next step
    length; the sizes of the weighed errors, summed, ``(b,)``."""

    nodes: tuple[float, ...]
    slopes: Tensor
    length: float
    error: Tensor


@dataclass(frozen=True)
class Adams(Method):
    """The method (1) between the times of the grid, which may be just a start and an end.

    Where an evaluation is dear and the solution smooth, it needs half of what a Runge-Kutta pair
    does. The whole batch takes the same steps: sample i therefore depends on its batch, by less
    than the tolerance.

    Args:
        tol: the largest error of a step over the batch: the sum of the sizes of the parts that
            ``weigh`` makes of it.
        back: slopes k that are kept, which is the order of the predictor.
        weigh: turns an error (2) into parts of a number per sample; by default its root mean square
            over ``1 + |x|``.
        first: length of the first step as a fraction of the first interval.
        most: evaluations allowed between two times of the grid.
    """

    tol: float = 1e-5
    back: int = 4
    weigh: Weigh | None = None
    first: float = 1e-3
    most: int = 10_000

    def __post_init__(self) -> None:
        if not (self.tol > 0 and 1 <= self.back <= 8):
            raise OrnsteinError(
                f"Adams(tol={self.tol}, back={self.back}): a positive tolerance, and 1 to 8 slopes"
            )

    @property
    def order(self) -> int:
        """Of the corrector."""
        return self.back + 1

    def noisy(self, sde: Any) -> bool:
        """Never."""
        return False

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses SDEs, a `Reverse` in its own time, and per-sample times."""
        require_ode(self, sde)
        if times.ndim > 1 or isinstance(sde, Reverse):
            raise OrnsteinError(
                "Adams() solves an ODE on a grid (n,) that all samples share; for samples see"
                " Multistep and Adaptive"
            )

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """As many steps as the tolerance needs."""
        now, end, evaluations = float(t), float(s), 0
        if memory is None:
            slope = sde.drift(x, torch.tensor(now, dtype=torch.float64))
            memory, evaluations = (
                History((now,), slope[None], self.first * (end - now), x.new_zeros(len(x))),
                1,
            )
        while now != end:
            if evaluations >= self.most:
                raise OrnsteinError(
                    f"{self} took {self.most} evaluations and reached t={now:g} of {end:g}: loosen"
                    " tol or raise most"
                )
            h, rest = memory.length, end - now
            h = rest if abs(rest) <= 1.01 * abs(h) else rest / 2 if abs(rest) < 1.5 * abs(h) else h
            then = end if h == rest else now + h
            y, slopes, error = self._try(sde, x, now, then, memory)
            evaluations += 1
            error = error.detach()
            worst = float(error.abs().sum(1).max()) / self.tol
            worst = worst if math.isfinite(worst) else 1e9
            factor = 0.85 * max(worst, 1e-8) ** (-1 / (min(self.back, len(memory.nodes)) + 1))
            if worst > 1:
                memory = memory._replace(length=h * max(0.25, factor))
                continue
            longest = 2.0 if len(memory.nodes) == self.back else START
            nodes, length = (then, *memory.nodes)[: self.back], h * min(longest, max(0.3, factor))
            x, now, memory = (
                y,
                then,
                History(nodes, slopes[: self.back], length, memory.error + error.sum(1).abs()),
            )
        return Step(x, memory=memory, evaluations=evaluations)

    def _try(
        self, sde: Any, x: Tensor, now: float, then: float, memory: History
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The state (1), the slopes with the new one, and the error (2) as it is weighed."""
        weights, correct, miss = _weights(memory.nodes, now, then)
        rows = torch.from_numpy(weights).to(memory.slopes) @ memory.slopes.flatten(1)
        rise, expected = rows.reshape(2, *x.shape).unbind()
        slope = sde.drift(x + rise, torch.tensor(then, dtype=torch.float64))
        off = slope - expected
        x = torch.add(x + rise, off, alpha=correct)  # (3)
        return (
            x,
            torch.cat([slope[None], memory.slopes]),
            (self.weigh or _relative)(miss * off, x, slope, then),
        )


@dataclass
class Errors:
    """A watcher that keeps the summed sizes of the weighed errors of an `Adams` run, ``(b,)``, and
    counts its evaluations."""

    value: Tensor = field(default_factory=lambda: torch.zeros(()))
    evaluations: int = 0

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        self.value = step.memory.error
        self.evaluations += step.evaluations


def _weights(nodes: tuple[float, ...], a: float, b: float) -> tuple[np.ndarray, float, float]:
    """Weights of the slopes in I[v_0 ..] and in P(s), and the factors of v - P(s) in (3), by
    Gauss-Legendre quadrature on [a, b], which has no node inside."""
    at = np.array(nodes)
    points = a + LEGENDRE[0] * (b - a)
    gaps, ahead, apart = points[:, None] - at, b - at, at[:, None] - at
    np.fill_diagonal(apart, 1.0)
    apart, weights, whole = apart.prod(1), (b - a) * LEGENDRE[1], ahead.prod()
    through = weights * gaps.prod(1)
    rows = np.stack([through @ (1 / gaps), whole / ahead]) / apart
    return (
        rows,
        float(through.sum() / whole),
        float((weights * (points - b) * gaps[:, :-1].prod(1)).sum() / whole),
    )


def _relative(error: Tensor, x: Tensor, slope: Tensor, t: float) -> Tensor:
    return (error / (1 + x.abs())).square().flatten(1).mean(1, keepdim=True).sqrt()
