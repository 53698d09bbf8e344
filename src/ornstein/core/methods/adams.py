"""The Adams-Bashforth-Moulton method with variable steps, for smooth ODEs to a tolerance.

It solves the probability flow for log-likelihoods, where an evaluation is expensive: one evaluation
per step. With nodes ``t_0 > t_1 > ...`` (newest first), slopes ``v_j`` there, and I[...] the
integral over the step of the polynomial through the slopes in brackets, a step of k back values is

    p = x_t + I[v_0 .. v_{k-1}],    v = drift(p, s),    x_s = x_t + I[v, v_0 .. v_{k-1}],        (1)
    e = x_s - (x_t + I[v, v_0 .. v_{k-2}]).                                                      (2)

With P the polynomial through v_0 .. v_{k-1}, whose integral is in p, and ``w(u) = prod_j (u -
t_j)`` over its nodes,

    x_s = p + (v - P(s)) int w / w(s),    e = (v - P(s)) int (u - s) w / (u - t_{k-1}) / w(s).   (3)

Adams and Bashforth predict, Adams and Moulton correct, and v serves the next step as the slope at s
(PEC mode). The error (2) of the corrector of one order less controls the step. Hairer, Norsett and
Wanner 1993, section III.1 and III.5.
"""

__all__ = ["Adams", "ErrorParts", "Errors", "History", "adams_weights"]

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.core.methods.base import ODEMethod, require_ode
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.numerics.quadrature import gauss_legendre
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step, require_shared_grid
from ornstein.errors import OrnsteinError

# Factors by which one step may be longer or shorter than the step before it.
_LONGEST_START = 5.0  # largest factor until there are as many slopes as the predictor has
_LONGEST = 2.0
_SHORTEST = 0.3
_SHORTEST_REFUSED = 0.25  # smallest factor after a step that was refused
_SAFETY = 0.85  # fraction of the step that would just meet the tolerance
_SMALLEST_ERROR = 1e-8  # smallest error, relative to the tolerance, against division by 0
_NOT_FINITE = 1e9  # stands for an error that is infinite or NaN
_STRETCH = 1.01  # a step may be longer by this factor to end at a time of the grid
_NODES, _WEIGHTS = (part.numpy() for part in gauss_legendre(5, 0.0, 1.0))  # exact to degree 9

ErrorParts = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""``(error, x, slope, t) -> (b, m)``: what an error of the state means, in m parts with signs."""


class History(NamedTuple):
    """The memory of `Adams` between two times of the grid: past slopes, step length, errors.

    Attributes:
        nodes: times of the last evaluations, newest first.
        slopes: the slopes there, ``(k, b, *event)``.
        length: length of the next step.
        error: sum over the steps of the sizes of their errors, ``(b,)``.
    """

    nodes: tuple[float, ...]
    slopes: Tensor
    length: float
    error: Tensor


@renamed_arguments(weigh="error_parts", first="initial_step", most="max_evaluations")
@dataclass(frozen=True)
class Adams(ODEMethod):
    """Adams-Bashforth-Moulton with variable steps between the times of the grid, for smooth ODEs.

    The grid may be just a start and an end. Where an evaluation is expensive and the solution
    smooth, the method needs half of the evaluations of a Runge-Kutta pair. The whole batch takes
    the same steps: sample i therefore depends on its batch, by less than the tolerance. Hairer,
    Norsett and Wanner 1993, section III.5.

    Args:
        tol: the largest error of a step over the batch: the sum of the sizes of its parts.
        back: number k of slopes that are remembered, which is the order of the predictor.
        error_parts: turns the error of a step into parts of a number per sample; by default its
            root mean square relative to ``1 + |x|``.
        initial_step: length of the first step as a fraction of the first interval.
        max_evaluations: evaluations allowed between two times of the grid.
    """

    tol: float = 1e-5
    back: int = 4
    error_parts: ErrorParts | None = None
    initial_step: float = 1e-3
    max_evaluations: int = 10_000

    def __post_init__(self) -> None:
        if not (self.tol > 0 and 1 <= self.back <= 8):
            raise OrnsteinError(
                f"Adams(tol={self.tol}, back={self.back}): a positive tolerance, and 1 to 8 slopes"
            )

    @property
    def order(self) -> int:
        """The order of the corrector, one more than that of the predictor."""
        return self.back + 1

    def start(self, sde: Any, times: Tensor) -> None:
        """Raise for SDEs, for a `Reverse` process, and for per-sample times."""
        require_ode(self, sde)
        require_shared_grid(self, times, "the batch takes one step")
        if isinstance(sde, Reverse):
            raise OrnsteinError(
                "Adams() solves an ODE, not a Reverse process: to draw samples use Multistep or"
                " Adaptive"
            )

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take as many steps as the tolerance needs.

        Raises:
            OrnsteinError: if ``max_evaluations`` do not suffice.
        """
        now = float(t)
        end = float(s)
        evaluations = 0
        if memory is None:
            slope = sde.drift(x, torch.tensor(now, dtype=torch.float64))
            length = self.initial_step * (end - now)
            memory = History((now,), slope[None], length, x.new_zeros(len(x)))
            evaluations = 1
        while now != end:
            if evaluations >= self.max_evaluations:
                raise OrnsteinError(
                    f"{self} took {self.max_evaluations} evaluations and reached t={now:g} of"
                    f" {end:g}: loosen tol or raise max_evaluations"
                )
            h = _towards(end - now, memory.length)
            then = end if h == end - now else now + h
            y, slopes, error = self._try(sde, x, now, then, memory)
            evaluations += 1
            error = error.detach()
            worst = float(error.abs().sum(1).max()) / self.tol
            worst = worst if math.isfinite(worst) else _NOT_FINITE
            order = min(self.back, len(memory.nodes)) + 1
            factor = _SAFETY * max(worst, _SMALLEST_ERROR) ** (-1 / order)
            if worst > 1:
                memory = memory._replace(length=h * max(_SHORTEST_REFUSED, factor))
                continue
            longest = _LONGEST if len(memory.nodes) == self.back else _LONGEST_START
            memory = History(
                (then, *memory.nodes)[: self.back],
                slopes[: self.back],
                h * min(longest, max(_SHORTEST, factor)),
                memory.error + error.sum(1).abs(),
            )
            x = y
            now = then
        return Step(x, memory=memory, evaluations=evaluations)

    def _try(
        self, sde: Any, x: Tensor, now: float, then: float, memory: History
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Try a step: return the state (1), the slopes with the new one, and the errors (2)."""
        weights, correct, miss = adams_weights(memory.nodes, now, then)
        sums = torch.from_numpy(weights).to(memory.slopes) @ memory.slopes.flatten(1)
        rise, extrapolated = sums.reshape(2, *x.shape).unbind()
        slope = sde.drift(x + rise, torch.tensor(then, dtype=torch.float64))
        difference = slope - extrapolated
        x = torch.add(x + rise, difference, alpha=correct)  # (3)
        parts = (self.error_parts or _relative)(miss * difference, x, slope, then)
        return x, torch.cat([slope[None], memory.slopes]), parts


@dataclass
class Errors:
    """A watcher that collects the errors of an `Adams` run, ``(b,)``, and counts its evaluations.

    ``value`` is the sum over the steps of the sizes of their errors.
    """

    value: Tensor = field(default_factory=lambda: torch.zeros(()))
    evaluations: int = 0

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        self.value = step.memory.error
        self.evaluations += step.evaluations


def adams_weights(nodes: tuple[float, ...], a: float, b: float) -> tuple[np.ndarray, float, float]:
    """Return the weights of the past slopes in a step from a to b, by Gauss-Legendre quadrature.

    Args:
        nodes: times of the slopes, newest first; none of them between a and b.
        a, b: start and end of the step.

    Returns:
        The weights of the slopes in ``I[v_0 ..]`` and in ``P(b)``, ``(2, k)``; the factors of ``v -
        P(b)`` in x_s and in the error e.
    """
    times = np.array(nodes)
    points = a + _NODES * (b - a)
    gaps = points[:, None] - times
    ahead = b - times
    between = times[:, None] - times
    np.fill_diagonal(between, 1.0)
    weights = (b - a) * _WEIGHTS
    product = ahead.prod()
    through = weights * gaps.prod(1)
    slope_weights = np.stack([through @ (1 / gaps), product / ahead]) / between.prod(1)
    correct = through.sum() / product
    miss = (weights * (points - b) * gaps[:, :-1].prod(1)).sum() / product
    return slope_weights, float(correct), float(miss)  # (3)


def _towards(distance: float, length: float) -> float:
    """Return a step length that avoids a very short last step before the end of an interval."""
    if abs(distance) <= _STRETCH * abs(length):
        return distance
    return distance / 2 if abs(distance) < 1.5 * abs(length) else length


def _relative(error: Tensor, x: Tensor, slope: Tensor, t: float) -> Tensor:
    """Return the root mean square of the error relative to ``1 + |x|``, ``(b, 1)``."""
    relative = (error / (1 + x.abs())).reshape(len(x), -1)
    return relative.square().mean(1, keepdim=True).sqrt()
