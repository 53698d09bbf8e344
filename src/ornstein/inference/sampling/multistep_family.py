"""Linear multistep samplers as functions of parameters: noise levels, factors and weights.

Every sampler that combines the last evaluations of a posterior linearly is a table, eq. 1 of
`ornstein.core.methods.tabulated`. `MultistepFamily` makes such tables from a vector theta, runs
them, and differentiates their samples with respect to theta; `ornstein.inference.sampling.tune`
searches theta for the sampler that is closest to accurate solutions of the probability flow.
"""

__all__ = ["MultistepFamily", "ReferenceSolutions", "rms"]

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.multistep import MultistepState
from ornstein.core.methods.tabulated import TabulatedMultistep
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.loop import Watcher, simulate
from ornstein.core.simulation.method import Method, Step

_MIN_LEVEL_GAP = 5e-3  # between the logarithms of successive noise levels


@dataclass(frozen=True)
class ReferenceSolutions:
    """Initial noise with the ends of accurate solutions of the probability flow from there.

    Args:
        x_T: states at T, ``(b, *event)``.
        x_0: the solution at t = 0, ``(b, *event)``.
    """

    x_T: Tensor
    x_0: Tensor

    def errors(self, x: Tensor) -> Tensor:
        """Return the mean square error of each sample over coordinates, ``(b,)``."""
        return (x - self.x_0).square().flatten(1).mean(1)

    def first(self, n: int) -> "ReferenceSolutions":
        """Return the first n of these solutions, or all if there are fewer."""
        return ReferenceSolutions(self.x_T[:n], self.x_0[:n])


@dataclass
class MultistepFamily:
    """The linear multistep samplers with the shape of one table, as functions of parameters theta.

    theta holds the logarithms of the n - 1 inner noise levels, n factors of the state, then the
    weights of the residuals, row by row.

    Args:
        posterior: the model.
        table: the sampler at the initial theta.
        evaluations: one number, the evaluations of the posterior per sample, counted over all
            families of a search.
    """

    posterior: Posterior
    table: TabulatedMultistep
    evaluations: list[int]

    def __post_init__(self) -> None:
        weights = [b for row in self.table.weights for b in row]
        self.steps = len(self.table.weights)
        levels = torch.tensor(self.table.ratios[1:-1], dtype=torch.float64).log()
        factors = torch.ones_like(levels[:1]).expand(self.steps)
        self.initial = torch.cat([levels, factors, torch.tensor(weights, dtype=torch.float64)])
        rows = [k for k, row in enumerate(self.table.weights) for _ in row]
        # the first step that each parameter changes
        self.first_steps = [*range(self.steps - 1), *range(self.steps), *rows]

    def is_valid(self, theta: Tensor) -> bool:
        """Return whether theta is finite and each noise level is half a percent below the last."""
        ends = [
            math.log(r) if r else -math.inf for r in (self.table.ratios[0], self.table.ratios[-1])
        ]
        levels = [ends[0], *theta[: self.steps - 1].tolist(), ends[1]]
        return bool(theta.isfinite().all()) and all(
            a - b > _MIN_LEVEL_GAP for a, b in pairwise(levels)
        )

    def method(self, theta: Tensor) -> TabulatedMultistep:
        """Return the multistep method with the parameters theta."""
        sizes = [self.steps - 1, self.steps, *map(len, self.table.weights)]
        levels, factors, *weights = (tuple(part.tolist()) for part in theta.split(sizes))
        inner = tuple(math.exp(level) for level in levels)
        return replace(
            self.table,
            ratios=(self.table.ratios[0], *inner, self.table.ratios[-1]),
            keep=factors,
            weights=tuple(weights),
        )

    def run(
        self,
        theta: Tensor,
        x_T: Tensor,
        watch: Sequence[Watcher] = (),
        since: int = 0,
        memory: MultistepState | None = None,
    ) -> Tensor:
        """Return the end of the sampler theta from ``x_T``, or from a state at step ``since``.

        Args:
            theta: the parameters.
            x_T: states at T, or at the step ``since``.
            watch: watchers of the run.
            since: number of steps that are done already.
            memory: of the method after these steps.
        """
        table = self.method(theta)
        times = table.spacing(self.posterior.sde, self.steps)
        reverse = Reverse(self.posterior, 0.0)
        self.evaluations[0] += self.steps - since
        if memory is None:
            return simulate(reverse, x_T, times, table, watch=watch)
        rows = table.start(reverse, times).rows
        resumed = _ResumedMethod(table, MultistepState(rows, since, memory.residuals))
        return simulate(reverse, x_T, times[since:], resumed)

    def jacobian(self, theta: Tensor, x_T: Tensor) -> tuple[Tensor, Tensor]:
        """Return the samples ``x(theta)`` and derivatives ``dx / dtheta``, by finite differences.

        Steps before the first that a parameter changes are not run again. Differences need nothing
        of a posterior but its values, and cost one run where forward mode costs two to three.

        Returns:
            The samples ``(b, *event)`` and the derivatives ``(b d, p)``.
        """
        states: list[tuple[Tensor, MultistepState]] = [(x_T, MultistepState(()))]
        base = self.run(theta, x_T, [lambda t, s, x, step: states.append((step.x, step.memory))])
        h = torch.finfo(x_T.dtype).eps ** 0.5
        columns = []
        for p, since in enumerate(self.first_steps):
            moved = theta.clone()
            moved[p] += h
            x, memory = states[since]
            columns.append(((self.run(moved, x, since=since, memory=memory) - base) / h).flatten())
        return base, torch.stack(columns, 1)


@dataclass(frozen=True)
class _ResumedMethod(Method):
    """A method that continues a run in the middle, from a given memory."""

    method: Method
    memory: MultistepState
    order: int = 0

    def noisy(self, sde: Any) -> bool:
        return False

    def start(self, sde: Any, times: Tensor) -> MultistepState:
        return self.memory

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        return self.method.step(sde, x, t, s, stream, memory)


def rms(solutions: ReferenceSolutions, x: Tensor) -> float:
    """Return the root mean square error per coordinate of samples x; infinite where it is NaN."""
    value = float(solutions.errors(x).mean().sqrt())
    return value if value == value else float("inf")
