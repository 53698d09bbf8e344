"""Exponential Runge-Kutta methods: stages within a step, nothing remembered between steps.

A stage lies at ``c_t + f (c_s - c_t)`` on a clock. Stages and end are reached from the start of the
step by eq. 2 of `ornstein.core.methods.exponential_weights`, interpolating what was evaluated
since:

    x_i = A_i x_t + sum_{j < i} b_ij (D_j - kappa_j x_j),      x_s from x_t and the first and the last of them.  (1)

=====================================  ==========  =========  =====================
============================== method                                 data_std    clock      stages
weights =====================================  ==========  =========  =====================
============================== DPM-Solver-2, -3                       inf         `Log`      (1/2),
(1/3, 2/3)      `middle` or `exact`; `exact` DPM-Solver++(2S), "dpmpp_2s"           0
`Log`      (1/2)                  `middle` DPM2 (k-diffusion), KDPM2              inf         `Log`
(1/2)                  `middle` Heun of EDM, "sample_heun"             inf         `Ratio`    (1)
`exact`: the trapezoidal rule midpoint in the noise level            inf         `Ratio`    (1/2)
`exact` SEEDS-2, SDE-DPM-Solver-2S             inf or 0    `Log`      the same on
``Reverse(posterior, eta=1)`` =====================================  ==========  =========
=====================  ==============================

With stages (1/3, 2/3) the end uses the first and the last stage, whose linear interpolation is
exact to third order because 2/3 is Radau's node. Lu et al. 2022 (DPM-Solver), algorithms 1 and 2;
Karras et al. 2022, algorithm 1; Gonzalez et al. 2023.
"""

__all__ = ["Singlestep"]

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.core.methods.exponential_weights import (
    GridCoefficients,
    Weights,
    exact,
    interpolate,
    linear_part,
    middle,
    once_per_grid,
)
from ornstein.core.methods.multistep import (
    Number,
    as_number,
    combine,
    requires_reverse,
    residual_of,
)
from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Method, Step
from ornstein.core.timesteps.clock import Clock, Log
from ornstein.errors import OrnsteinError


class Progress(NamedTuple):
    """Where a stage is, and the numbers of (1) that lead to it from the start of the step."""

    time: Tensor
    kappa: Number
    keep: Number
    weights: tuple[Number, ...]
    std: Number


@dataclass(frozen=True)
class Singlestep(Method):
    """Exponential Runge-Kutta methods (1): ``1 + len(stages)`` evaluations per step.

    A step that starts without signal or ends without noise, where the clock is infinite or the last
    stage is the end, is the exact DDIM step, of one evaluation. With eta > 0 only the end of a step
    draws noise.

    Args:
        stages: fractions of the step on the clock, increasing, in (0, 1]; one for order 2, (1/3,
            2/3) with `exact` for order 3.
        data_std: which quantity is interpolated: see `Multistep`.
        clock: the variable of the polynomial and of the stages.
        weights: how it is integrated.

    Raises:
        OrnsteinError: for stages that are not one or two increasing fractions.
    """

    stages: tuple[float, ...] = (0.5,)
    data_std: float = 0.0
    clock: Clock = field(default_factory=Log)
    weights: Weights = middle

    def __post_init__(self) -> None:
        inside = all(0 < f <= 1 for f in self.stages)
        if (
            len(self.stages) not in (1, 2)
            or not inside
            or list(self.stages) != sorted(set(self.stages))
        ):
            raise OrnsteinError(
                f"Singlestep(stages={self.stages}): one or two increasing fractions of the step,"
                " such as (1/3, 2/3)"
            )

    @property
    def order(self) -> int:
        """3 where the end uses Radau's node 2/3 and the integral itself, else 2; on an SDE weak
        order 1."""
        radau = (
            len(self.stages) == 2 and math.isclose(self.stages[1], 2 / 3) and self.weights is exact
        )
        return 3 if radau else 2

    def noisy(self, sde: Any) -> bool:
        """If eta > 0."""
        return requires_reverse(self, sde).eta > 0

    def start(self, sde: Any, times: Tensor) -> tuple[int, list[list[Progress]]]:
        """The stages of every step."""
        reverse = requires_reverse(self, sde)
        reverse.check_step(times[:-1], times[1:], reverse.eta)
        return 0, plan(self, reverse.process, reverse.eta, times)

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (1)."""
        index, steps = memory or self.start(sde, torch.stack([t, s]))
        first, *stages, end = steps[index]
        y, residuals = x, [residual_of(sde.posterior(x, t).mean, x, first.kappa)]
        for stage in stages:
            y = combine(residuals, stage.weights, stage.keep, x)
            residuals.append(residual_of(sde.posterior(y, stage.time).mean, y, stage.kappa))
        used = residuals if len(residuals) == 1 else [residuals[0], residuals[-1]]
        mean = combine(used, end.weights, end.keep, x)
        memory = index + 1, steps
        if not sde.eta:
            return Step(mean, memory=memory, evaluations=len(residuals))
        std = (
            per_sample(end.std, x)
            if isinstance(end.std, Tensor)
            else torch.tensor(end.std, dtype=x.dtype)
        )
        kernel = Gaussian(mean, std)
        return Step(kernel.draw(stream.between(t, s)), lambda: kernel, memory, len(residuals))


@once_per_grid
def plan(method: Singlestep, sde: LinearSDE, eta: float, times: Tensor) -> list[list[Progress]]:
    """For every step its start, its stages and its end; no stages where the clock is infinite."""
    n, m = len(times) - 1, len(method.stages)
    c = GridCoefficients(sde, times, method.data_std, method.clock).c
    usable = c[:-1].isfinite() & c[1:].isfinite() & (sde.alpha(times[:-1]) > 0)
    if method.stages[-1] == 1:
        usable &= sde.sigma(times[1:]) > 0
    inner = []
    for f in method.stages:
        ratio, _ = method.clock.inverse(
            sde, torch.where(usable, c[:-1] + f * (c[1:] - c[:-1]), 0.0)
        )
        inner.append(torch.where(usable, sde.time(-2 * ratio.log()), times[:-1]))
    rows = torch.cat([torch.stack([times[:-1], *inner], 1).flatten(0, 1), times[-1:]])
    grid = GridCoefficients(sde, rows, method.data_std, method.clock)
    return [_plan_step(method, grid, k * (m + 1), bool(usable[k].all()), eta) for k in range(n)]


def _plan_step(
    method: Singlestep, grid: GridCoefficients, first: int, usable: bool, eta: float
) -> list[Progress]:
    def stage(row: int, nodes: list[int]) -> Progress:
        linear = linear_part(grid, torch.tensor(first), torch.tensor(row), eta)
        found = interpolate(
            grid, grid.c[first], grid.c[row], [grid.c[j] for j in nodes], eta, method.weights
        )
        weights = tuple(
            as_number(linear.gain * a * grid.weight[j] / grid.weight[first])
            for a, j in zip(found, nodes, strict=True)
        )
        return Progress(
            grid.times[row],
            as_number(grid.kappa[row]),
            as_number(linear.keep),
            weights,
            as_number(linear.std),
        )

    start = Progress(
        grid.times[first],
        as_number(linear_part(grid, torch.tensor(first), torch.tensor(first), eta).kappa),
        1.0,
        (),
        0.0,
    )
    end = first + len(method.stages) + 1
    if not usable:
        return [start, stage(end, [first])]
    stages = [stage(row, [*range(first, row)]) for row in range(first + 1, end)]
    return [start, *stages, stage(end, [first, end - 1])]
