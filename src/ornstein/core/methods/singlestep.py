"""Exponential Runge-Kutta methods, with stages within a step: DPM-Solver-2 and -3, Heun of EDM.

They serve where a step must not depend on the steps before, as in samplers that add noise between
steps. A stage lies at ``c_t + f (c_s - c_t)`` on a clock. Stages and end are reached from the start
of the step by eq. 2 of `ornstein.core.methods.exponential_weights`, interpolating the evaluations
since:

    x_i = A_i x_t + sum_{j < i} b_ij (D_j - kappa_j x_j),                                        (1)

and x_s from x_t and the first and the last evaluation. Members of the family in the literature:

    method                               data_std   clock   stages             weights
    DPM-Solver-2                         inf        Log     (1/2)              middle or exact
    DPM-Solver-3                         inf        Log     (1/3, 2/3)         exact
    DPM-Solver++(2S), "dpmpp_2s"         0          Log     (1/2)              middle
    DPM2 (k-diffusion), KDPM2            inf        Log     (1/2)              middle
    Heun of EDM, "sample_heun"           inf        Ratio   (1)                exact (trapezoidal)
    midpoint rule in the noise level     inf        Ratio   (1/2)              exact
    SEEDS-2, SDE-DPM-Solver-2S           inf or 0   Log     the same on Reverse(posterior, eta=1)

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

from ornstein.core.methods.base import ReverseMethod, require_reverse
from ornstein.core.methods.exponential_weights import (
    FirstOrderStep,
    GridCoefficients,
    Weights,
    exact,
    interpolate,
    linear_part,
    middle,
)
from ornstein.core.methods.linear_multistep import Number, as_number, combine, residual_of
from ornstein.core.methods.plan_cache import once_per_grid
from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step
from ornstein.core.timesteps.clock import Clock, Log
from ornstein.errors import OrnsteinError


class Stage(NamedTuple):
    """The time of a Runge-Kutta stage, and the coefficients that lead there from the step's start.

    ``x_i = keep x_t + sum_j weights_j (D_j - kappa_j x_j) + std z``.
    """

    time: Tensor
    kappa: Number
    keep: Number
    weights: tuple[Number, ...]
    std: Number


@dataclass(frozen=True)
class Singlestep(ReverseMethod):
    """Exponential Runge-Kutta methods of order 2 or 3: ``1 + len(stages)`` evaluations per step.

    A step that starts without signal or ends without noise, where the clock is infinite or the last
    stage is the end, is the exact DDIM step, of one evaluation. With eta > 0 only the end of a step
    draws noise, and the weak order is 1.

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
        """The order: 3 with stages (1/3, 2/3) and weights `exact`, else 2."""
        radau = (
            len(self.stages) == 2 and math.isclose(self.stages[1], 2 / 3) and self.weights is exact
        )
        return 3 if radau else 2

    def start(self, sde: Any, times: Tensor) -> tuple[int, list[list[Stage]]]:
        """Return 0, the index of the first step, and the stages of every step of the grid."""
        reverse = require_reverse(self, sde)
        reverse.check_step(times[:-1], times[1:], reverse.eta)
        return 0, plan(self, reverse.process, reverse.eta, times)

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one step through its stages."""
        index, steps = memory or self.start(sde, torch.stack([t, s]))
        start, *stages, end = steps[index]
        residuals = [residual_of(sde.posterior(x, t).mean, x, start.kappa)]
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
def plan(method: Singlestep, sde: LinearSDE, eta: float, times: Tensor) -> list[list[Stage]]:
    """Return start, stages and end of every step, without stages where a clock is infinite."""
    n = len(times) - 1
    per_step = len(method.stages) + 1
    c = GridCoefficients(sde, times, method.data_std, method.clock).c
    usable = c[:-1].isfinite() & c[1:].isfinite() & (sde.alpha(times[:-1]) > 0)
    if method.stages[-1] == 1:
        usable &= sde.sigma(times[1:]) > 0
    inner = []
    for f in method.stages:
        c_stage = torch.where(usable, c[:-1] + f * (c[1:] - c[:-1]), 0.0)
        ratio, _ = method.clock.inverse(sde, c_stage)
        inner.append(torch.where(usable, sde.time(-2 * ratio.log()), times[:-1]))
    nodes = torch.cat([torch.stack([times[:-1], *inner], 1).flatten(0, 1), times[-1:]])
    grid = GridCoefficients(sde, nodes, method.data_std, method.clock)
    return [_plan_step(method, grid, k * per_step, bool(usable[k].all()), eta) for k in range(n)]


def _plan_step(
    method: Singlestep, grid: GridCoefficients, first: int, usable: bool, eta: float
) -> list[Stage]:
    """Return the stages of the step that starts at node ``first`` of the grid of all stages."""

    def first_order(node: int) -> FirstOrderStep:
        return linear_part(grid, torch.tensor(first), torch.tensor(node), eta)

    def stage(node: int, evaluated: list[int]) -> Stage:
        linear = first_order(node)
        c_evaluated = [grid.c[j] for j in evaluated]
        factors = interpolate(grid, grid.c[first], grid.c[node], c_evaluated, eta, method.weights)
        weights = tuple(
            as_number(linear.gain * a * grid.weight[j] / grid.weight[first])
            for a, j in zip(factors, evaluated, strict=True)
        )
        kappa = as_number(grid.kappa[node])
        return Stage(
            grid.times[node], kappa, as_number(linear.keep), weights, as_number(linear.std)
        )

    start = Stage(grid.times[first], as_number(first_order(first).kappa), 1.0, (), 0.0)
    end = first + len(method.stages) + 1
    if not usable:
        return [start, stage(end, [first])]
    stages = [stage(node, [*range(first, node)]) for node in range(first + 1, end)]
    return [start, *stages, stage(end, [first, end - 1])]
