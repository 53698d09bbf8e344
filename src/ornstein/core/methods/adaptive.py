"""Embedded Runge-Kutta pairs that choose their own steps, for any ODE to a tolerance.

Two methods of neighbouring order share their slopes k_i; the difference of their results estimates
the error of a step,

    e = |h sum_i (b_i - b'_i) k_i| / (atol + rtol max(|x_t|, |x_s|)),                            (1)

as root mean square over each sample and the largest over the batch. A PI controller chooses the
next step so that e stays below 1: longer than the last by the factor

    0.9 e_n^(-0.7/q) e_{n-1}^(0.4/q),        q the order,                                        (2)

between 0.2 and 5. Hairer, Norsett and Wanner 1993, section II.4.
"""

__all__ = ["Adaptive"]

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.ancestral import Ancestral
from ornstein.core.methods.runge_kutta import (
    RungeKutta,
    Tableau,
    dormand_prince,
    linear_combination,
    slopes_of,
)
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step, require_shared_grid
from ornstein.errors import OrnsteinError

_SAFETY = 0.9  # fraction of the step that would just meet the tolerance
_SHORTEST, _LONGEST = 0.2, 5.0  # smallest and largest factor between two steps
_GAIN, _MEMORY = 0.7, 0.4  # exponents of the last two errors in (2)
_SMALLEST_ERROR, _SMALLEST_BEFORE = 1e-10, 1e-4  # smallest values of the last two errors in (2)
_NOT_FINITE = 1e9  # stands for an error that is infinite or NaN
_LAST_RATIO = 1e-4  # noise-to-signal ratio from which the last step to the data is one DDIM step
_LAST_FACTOR = 100.0  # or the ratio at the start divided by this factor, if that is smaller


@renamed_arguments(first="initial_step", most="max_steps")
@dataclass(frozen=True)
class Adaptive(RungeKutta):
    """An embedded Runge-Kutta pair that chooses its own steps between the times of the grid.

    The grid may be just ``[T, 0]``. A PI controller bounds the error of a step, ``e = |h sum_i (b_i
    - b'_i) k_i| / (atol + rtol max(|x_t|, |x_s|))`` as root mean square over each sample and the
    largest over the batch, by 1. The whole batch takes the same steps: sample i therefore depends
    on its batch, by less than the tolerance. Hairer, Norsett and Wanner 1993, section II.4.

    Args:
        tableau: a pair, `dormand_prince` or `bogacki_shampine`.
        rtol, atol: relative and absolute tolerance of a step, in the units of the state.
        initial_step: length of the first step as a fraction of the first interval.
        max_steps: steps allowed between two times of the grid.

    Raises:
        OrnsteinError: for a tableau without an embedded method, or if ``max_steps`` steps do not
            suffice.

    Example:
        >>> equation = orn.SDE(lambda x, t: -x)
        >>> x = orn.simulate(equation, torch.ones(1), torch.tensor([0.0, 1.0]), orn.Adaptive())
        >>> bool((x - torch.tensor(-1.0).exp()).abs() < 1e-4)
        True
    """

    tableau: Tableau = dormand_prince
    rtol: float = 1e-5
    atol: float = 1e-6
    initial_step: float = 1e-3
    max_steps: int = 10_000

    def __post_init__(self) -> None:
        if not self.tableau.low:
            raise OrnsteinError(
                f"Adaptive({self.tableau.name}): no embedded method; use dormand_prince or"
                " bogacki_shampine"
            )
        if not (self.rtol >= 0 and self.atol >= 0 and self.rtol + self.atol > 0):
            raise OrnsteinError(
                f"Adaptive(rtol={self.rtol}, atol={self.atol}): not negative, and not both 0"
            )

    def start(self, sde: Any, times: Tensor) -> None:
        """Raise for SDEs, for per-sample times, and for grids that start without noise."""
        super().start(sde, times)
        require_shared_grid(self, times, "the batch takes one step")

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take as many steps as the tolerance needs; the memory is the last length and error."""
        last = _before_clean(sde, t, s)
        length, before = memory or (float(self.initial_step * (last - t)), 1.0)
        evaluations = 0
        first: Tensor | None = None
        failed = False
        for _ in range(self.max_steps):
            remaining = float(last - t)
            h = length if abs(length) < abs(remaining) else remaining
            step_length = torch.tensor(h, dtype=torch.float64)
            slopes = slopes_of(self.tableau, sde, x, t, step_length, first)
            evaluations += len(slopes) - (first is not None)
            y = x + h * linear_combination(self.tableau.weights, slopes)
            error = self._error(h, slopes, x, y)
            if error > 1:
                length = h * max(_SHORTEST, _SAFETY * error ** (-1 / self.order))
                first = slopes[0]
                failed = True
                continue
            growth = self._growth(error, before)
            length = h * (min(growth, 1.0) if failed else growth)
            before = max(error, _SMALLEST_BEFORE)
            if h == remaining:
                step = Step(y, memory=(length, before), evaluations=evaluations)
                return step if last is s else _end_clean(step, sde, last, s, stream)
            t = t + h
            x = y
            first = self._reusable(slopes)
            failed = False
        raise OrnsteinError(
            f"{self} took {self.max_steps} steps and reached t={float(t):g} of {float(s):g}: loosen"
            " rtol or raise max_steps"
        )

    def _error(self, h: float, slopes: list[Tensor], x: Tensor, y: Tensor) -> float:
        """Return the estimated error (1) of a step, relative to the tolerance."""
        gap = tuple(b - low for b, low in zip(self.tableau.weights, self.tableau.low, strict=True))
        size = self.atol + self.rtol * torch.maximum(x.detach().abs(), y.detach().abs())
        relative = h * linear_combination(gap, slopes).detach() / size
        error = float(relative.square().reshape(len(x), -1).mean(1).sqrt().max())
        return error if math.isfinite(error) else _NOT_FINITE  # (1)

    def _growth(self, error: float, before: float) -> float:
        """Return the factor (2) by which the next step is longer than the last step."""
        integral = max(error, _SMALLEST_ERROR) ** (-_GAIN / self.order)
        factor = _SAFETY * integral * before ** (_MEMORY / self.order)  # (2)
        return min(_LONGEST, max(_SHORTEST, factor))

    def _reusable(self, slopes: list[Tensor]) -> Tensor | None:
        """Return the last slope if the next step starts with the same slope, else None."""
        same = self.tableau.matrix[-1] == self.tableau.weights[:-1] and self.tableau.nodes[-1] == 1
        return slopes[-1] if same else None


def _end_clean(step: Step, sde: Any, t: Tensor, s: Tensor, stream: NoiseStream) -> Step:
    """Extend a step that ended at t by one exact DDIM step to the data."""
    last = Ancestral(eta=0.0).step(sde, step.x, t, s, stream, None)
    return Step(last.x, memory=step.memory, evaluations=step.evaluations + 1)


def _before_clean(sde: Any, t: Tensor, s: Tensor) -> Tensor:
    """Return s, or a time shortly before it if there is no noise at s."""
    if not (isinstance(sde, Reverse) and sde.ends_clean(s)):
        return s
    log_snr = torch.maximum(
        sde.process.log_snr(t) + 2 * math.log(_LAST_FACTOR),
        torch.tensor(-2 * math.log(_LAST_RATIO), dtype=torch.float64),
    )
    return sde.process.time(log_snr)
