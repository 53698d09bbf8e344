"""Gauss-Newton in the space of linear samplers: the search behind
`ornstein.inference.sampling.tune`.

With residuals ``e_i(theta)`` of samples i, their derivatives J_i and the weights ``w_i =
rho'(|e_i|^2)``, a step solves

    (sum_i w_i J_i^T J_i + mu diag) (theta - theta') = sum_i w_i J_i^T e_i,                      (1)

and is taken if the loss falls; mu, the damping, falls with success and rises with failure
(Levenberg 1944, Marquardt 1963).
"""

__all__ = ["Batch", "Fit", "Limits", "rms", "search"]

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.core.methods.multistep import MultistepState
from ornstein.core.methods.tabulated import TabulatedMultistep, tabulate
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.random.noise import Noise, NoiseStream
from ornstein.core.simulation.loop import Watcher, simulate
from ornstein.core.simulation.method import Method, Step
from ornstein.inference.sampling.sample import automatic

STARTS = tuple(
    product((1.0, 0.7, 1.4, 2.0, 2.8), (1.0, 2.0), (1.0, 1.3))
)  # for `automatic`; the first is that of "auto"
RANKED = 128  # samples that rank them
SEARCHES = 3  # of them from which searches start
POWERS = (1.0, 2.0, 1.5)  # p of (1)
JACOBIAN = (
    64,
    256,
)  # samples whose derivatives are taken, at least; more in few dimensions, where each says less
PATIENCE = 4  # iterations without a better error on held-out noise, after which a search ends


@dataclass(frozen=True)
class Batch:
    """Noise and the ends of the accurate solution from it."""

    x_T: Tensor
    end: Tensor

    def errors(self, found: Tensor) -> Tensor:
        """Mean square error of each sample, ``(b,)``."""
        return (found - self.end).square().flatten(1).mean(1)


@dataclass
class Fit:
    """The search over theta: the logs of the n - 1 inner levels, n factors a, then the weights b,
    row by row."""

    posterior: Posterior
    table: TabulatedMultistep
    spent: list[int]  # evaluations, counted over all searches

    def __post_init__(self) -> None:
        flat = [b for row in self.table.weights for b in row]
        self.steps = len(self.table.weights)
        levels = torch.tensor(self.table.ratios[1:-1], dtype=torch.float64).log()
        self.start = torch.cat(
            [
                levels,
                torch.ones_like(levels[:1]).expand(self.steps),
                torch.tensor(flat, dtype=torch.float64),
            ]
        )
        rows = [k for k, row in enumerate(self.table.weights) for _ in row]
        self.first = [
            *range(self.steps - 1),
            *range(self.steps),
            *rows,
        ]  # the first step that each parameter changes

    def sane(self, theta: Tensor) -> bool:
        """Whether the levels fall, each by half a percent at least."""
        ends = [
            math.log(r) if r else -math.inf for r in (self.table.ratios[0], self.table.ratios[-1])
        ]
        levels = [ends[0], *theta[: self.steps - 1].tolist(), ends[1]]
        return bool(theta.isfinite().all()) and all(a - b > 5e-3 for a, b in pairwise(levels))

    def found(self, theta: Tensor) -> TabulatedMultistep:
        """theta as a method."""
        sizes = [self.steps - 1, self.steps, *map(len, self.table.weights)]
        levels, keep, *weights = (tuple(part.tolist()) for part in theta.split(sizes))
        inner = tuple(math.exp(level) for level in levels)
        return replace(
            self.table,
            ratios=(self.table.ratios[0], *inner, self.table.ratios[-1]),
            keep=keep,
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
        """The end of the sampler theta from ``x_T``, or from a state and memory on the way."""
        table = self.found(theta)
        times, reverse = table.spacing(self.posterior.sde, self.steps), Reverse(self.posterior, 0.0)
        self.spent[0] += self.steps - since
        if memory is None:
            return simulate(reverse, x_T, times, table, watch=watch)
        rows = table.start(reverse, times).rows
        return simulate(
            reverse,
            x_T,
            times[since:],
            _Onward(table, MultistepState(rows, since, memory.residuals)),
        )

    def jacobian(self, theta: Tensor, x_T: Tensor) -> tuple[Tensor, Tensor]:
        """``x(theta)`` and ``dx / dtheta``, ``(b d, p)``, by differences: theta is perturbed, the
        steps before are not run again.

        Differences need nothing of a posterior but its values, and cost one run where forward mode
        costs two to three.
        """
        states: list[tuple[Tensor, MultistepState]] = [(x_T, MultistepState(()))]
        base = self.run(theta, x_T, [lambda t, s, x, step: states.append((step.x, step.memory))])
        h, columns = torch.finfo(x_T.dtype).eps ** 0.5, []
        for p, since in enumerate(self.first):
            moved = theta.clone()
            moved[p] += h
            x, memory = states[since]
            columns.append(((self.run(moved, x, since=since, memory=memory) - base) / h).flatten())
        return base, torch.stack(columns, 1)


@dataclass(frozen=True)
class _Onward(Method):
    """A method taken up in the middle of its run."""

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


class Limits(NamedTuple):
    """How long a search may take."""

    iterations: int
    until: float
    progress: Callable[[str], None]
    noise: Noise

    def over(self) -> bool:
        return time.monotonic() > self.until


def search(
    posterior: Posterior, steps: int, order: int, fitting: Batch, choosing: Batch, limits: Limits
) -> tuple[Fit, Tensor]:  # fmt: skip
    """Gauss-Newton runs with every power from every start, the most promising first, while there is
    time.

    The problem has many local minima; which start and power lead to a good one cannot be known
    beforehand.
    """
    spent = [0]
    fits = [Fit(posterior, _table(posterior, steps, start, order), spent) for start in STARTS]
    few = Batch(choosing.x_T[:RANKED], choosing.end[:RANKED])
    fits = sorted(fits, key=lambda fit: rms(few, fit.run(fit.start, few.x_T)))[:SEARCHES]
    best = (rms(choosing, fits[0].run(fits[0].start, choosing.x_T)), fits[0], fits[0].start)
    for power in POWERS:
        for fit in fits:
            if limits.over():
                break
            error, theta = _gauss_newton(fit, fitting, choosing, power, limits)
            limits.progress(f"power {power}: held-out error {error:.3g}")
            best = min(best, (error, fit, theta), key=lambda found: found[0])
    return best[1], best[2]


def _gauss_newton(
    fit: Fit, fitting: Batch, choosing: Batch, power: float, limits: Limits
) -> tuple[float, Tensor]:
    """Levenberg-Marquardt on (1), from the fit's start; the iterate that is best on the batch for
    choosing, and its error."""
    theta, damping, stale = fit.start, 1e-2, 0
    best = (rms(choosing, fit.run(theta, choosing.x_T)), theta)
    for k in range(limits.iterations):
        if limits.over():
            break
        squares = fitting.errors(fit.run(theta, fitting.x_T)).double()
        loss = _Robust(0.3 * float(squares.median()), power)
        few, weights = _pick(
            squares, loss.weight(squares), len(theta), fitting.end[0].numel(), limits.noise.fold(k)
        )
        found, jacobian = fit.jacobian(theta, fitting.x_T[few])
        jacobian, residual = jacobian.double(), (found - fitting.end[few]).double().flatten()
        weighted = jacobian * weights.repeat_interleave(found[0].numel())[:, None]
        normal, gradient = weighted.mT @ jacobian, weighted.mT @ residual
        scale, before = (normal.diagonal() + 1e-9 * normal.diagonal().mean()).diag(), loss(squares)
        for _ in range(8):
            candidate = theta - torch.linalg.solve(normal + damping * scale, gradient)
            if (
                fit.sane(candidate)
                and loss(fitting.errors(fit.run(candidate, fitting.x_T)).double()) < before
            ):
                break
            damping *= 5
        else:
            break
        theta, damping = candidate, max(damping / 4, 1e-7)
        held_out = rms(choosing, fit.run(theta, choosing.x_T))
        best, stale = (
            min(best, (held_out, theta), key=lambda pair: pair[0]),
            0 if held_out < best[0] else stale + 1,
        )
        if stale == PATIENCE:
            break
    return best


def _pick(
    squares: Tensor, weights: Tensor, parameters: int, dim: int, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Samples whose derivatives are taken, with their weights: at random, the more probable the
    more they matter.

    A derivative costs as many runs as there are parameters, an error one; so most samples only
    judge.
    """
    matter = squares * weights
    probability = matter / matter.sum() + 1 / len(squares)
    size = min(
        len(squares), max(JACOBIAN[0], min(JACOBIAN[1], 4096 // dim), 10 * parameters // dim)
    )
    race = noise.uniform((len(squares),), torch.float64).clamp(min=1e-12).log() / probability.cpu()
    few = race.topk(size).indices
    chance = (size * probability[few] / 2).clamp(max=1)
    return few, weights[few] / chance


@dataclass(frozen=True)
class _Robust:
    """rho of (1) as a mean over samples, and the weight of each in a least-squares step: the
    derivative of rho."""

    delta: float
    power: float

    def __call__(self, squares: Tensor) -> float:
        value = float(((squares + self.delta) ** (self.power / 2)).mean())
        return value if math.isfinite(value) else math.inf

    def weight(self, squares: Tensor) -> Tensor:
        return (squares + self.delta) ** (self.power / 2 - 1)


def _table(
    posterior: Posterior, steps: int, start: tuple[float, ...], order: int
) -> TabulatedMultistep:
    """The fixed rule with other constants, as a table with room for ``order`` weights in each
    row."""
    chosen = automatic(posterior, *start)
    table = tabulate(
        chosen.method, Reverse(posterior, 0.0), posterior.sde.times(steps, chosen.spacing)
    )  # type: ignore[arg-type]
    rows = [row + (0.0,) * (min(order, k + 1) - len(row)) for k, row in enumerate(table.weights)]
    return replace(table, weights=tuple(row[:order] for row in rows))


def rms(batch: Batch, found: Tensor) -> float:
    """Root mean square error per coordinate over the batch; infinite where it is not a number."""
    value = float(batch.errors(found).mean().sqrt())
    return value if value == value else float("inf")
