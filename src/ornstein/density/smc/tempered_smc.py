"""Tempered sequential Monte Carlo: a cloud of particles carried from a start law to a target, with
log Z.

The path is that of `ornstein.core.mcmc.geometric_path`, walked one rung at a time: weight by

    w = gamma_s(x) / gamma_t(x),    log Z = sum over rungs of log sum_i W_i w_i,                 (1)

with W the weights so far; resample where they have become uneven; move with a kernel that leaves
``gamma_s`` invariant. A *pilot* lays the rungs: each next level is the one at which the conditional
effective sample size

    CESS = n (sum_i W_i w_i)^2 / sum_i W_i w_i^2                                                 (2)

is a chosen fraction of n (Zhou, Johansen and Aston 2016), and sizes, preconditioners and numbers of
moves follow the particles, so that its log Z is consistent, not unbiased. A *run* climbs down the
rungs as they are, in independent islands: E of each island's estimate is Z exactly (Del Moral 2004,
theorem 7.4.2), and their spread is the error of the mean.
"""

__all__ = ["Cloud", "StartLaw", "TemperingStep", "move_at", "pilot", "run", "weigh"]

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import GeometricPath, Held, Local, LogDensity
from ornstein.core.mcmc.hmc import HMC, Moved
from ornstein.core.paths.measure import Law
from ornstein.core.paths.particles import resample
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.method import Step
from ornstein.density.log_z import LogZ, log_z_islands
from ornstein.errors import OrnsteinError

_BATCH = 8192  # draws that are weighed at a time
_ENOUGH = 0.9  # kept by one step to the target, for there to be no moves
_ACCEPT = 0.75  # aim of the step size


@runtime_checkable
class StartLaw(Law, Protocol):
    """What tempering starts from: a law that knows its components."""

    def residual(self, x: Tensor) -> Tensor:
        """x less the middle of the component that it most likely belongs to, ``(n, d)``."""
        ...


class TemperingStep(NamedTuple):
    """One step of the ladder.

    Attributes:
        level: the temperature it leads to; the last is 0.
        kernel: the moves there; None for none.
    """

    level: float
    kernel: HMC | None


class Cloud(NamedTuple):
    """Weighted particles at the target.

    Attributes:
        x: ``(n, d)``.
        log_w: ``(n,)``; their mean weight estimates Z.
        log_z: of the islands together.
        islands: ``(k,)``, log Z of each.
        levels: visited, from 1 to 0.
        cess: of each rung, as a fraction of n.
        acceptance: mean acceptance probability at each rung.
    """

    x: Tensor
    log_w: Tensor
    log_z: LogZ
    islands: Tensor
    levels: list[float]
    cess: list[float]
    acceptance: list[float]

    def equal(self, n: int, noise: Noise) -> Tensor:
        """n equally weighted particles, ``(n, d)``."""
        return self.x[resample(self.log_w, n, noise)]


@dataclass
class _Front:
    """Where the particles stand: states, evaluations, normalised weights W ``(k, n)`` and log Z
    ``(k,)`` of the islands."""

    path: GeometricPath
    x: Tensor
    local: Local
    log_w: Tensor
    log_z: Tensor
    levels: list[float]
    cess: list[float]
    acceptance: list[float]

    @classmethod
    def at_start(
        cls, target: LogDensity, law: StartLaw, n: int, islands: int, noise: Noise
    ) -> "_Front":
        x = torch.cat([law.draw(n, noise.fold(0, k)) for k in range(islands)])
        path = GeometricPath(law.log_prob, target)
        even = torch.full((islands, n), -math.log(n), dtype=torch.float64)
        return cls(
            path, x, path.local(x), even, torch.zeros(islands, dtype=torch.float64), [1.0], [], []
        )

    @property
    def potential(self) -> Tensor:
        slope = self.local.potential.double()
        return torch.where(slope.isnan(), -torch.inf, slope).reshape(self.log_w.shape)

    def weigh(self, level: float) -> None:
        """To the next level by (1), and (2)."""
        increment = (self.levels[-1] - level) * self.potential
        first, second = (
            (self.log_w + increment).logsumexp(1),
            (self.log_w + 2 * increment).logsumexp(1),
        )
        self.cess.append(float((2 * first - second).exp().nan_to_num(0.0).mean()))
        self.log_w = torch.where(
            first[:, None] > -torch.inf, self.log_w + increment - first[:, None], self.log_w
        )
        self.log_z = self.log_z + first
        self.levels.append(level)

    def select(self, noise: Noise) -> None:
        """Resample the islands of which less than half counts."""
        k, n = self.log_w.shape
        uneven = (-(2 * self.log_w).logsumexp(1)).exp() < n / 2
        if not bool(uneven.any()):
            return
        index = torch.arange(k * n).reshape(k, n)
        points = (torch.arange(n, dtype=torch.float64) + noise.uniform((k, 1), torch.float64)) / n
        chosen = (
            torch.searchsorted(self.log_w.exp().cumsum(1), points).clamp(max=n - 1) + index[:, :1]
        )
        index = torch.where(uneven[:, None], chosen, index)
        self.log_w = torch.where(uneven[:, None], -math.log(n), self.log_w)
        self.x, self.local = self.x[index.flatten()], self.local.take(index.flatten())

    def move(self, kernel: HMC, noise: Noise) -> Moved:
        """One step of the kernel at the present level."""
        self.x, moved = move_at(
            self.path, self.levels[-1], self.x, replace(kernel, known=self.local), noise
        )
        self.local = moved.local
        return moved

    def cloud(self) -> Cloud:
        log_w = (self.log_w + self.log_z[:, None] + math.log(self.log_w.shape[1])).flatten()
        log_z = log_z_islands(self.log_z, log_w)
        return Cloud(self.x, log_w, log_z, self.log_z, self.levels, self.cess, self.acceptance)


def move_at(
    path: GeometricPath, level: Tensor | float, x: Tensor, kernel: HMC, noise: Noise
) -> tuple[Tensor, Moved]:
    """One step of a kernel at fixed levels, and what it leaves."""
    left = list[Moved]()

    def watch(t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        left.append(step.memory)

    x = simulate(
        Held(path, level), x, torch.tensor([1.0, 0.0], dtype=torch.float64), kernel, noise, [watch]
    )
    return x, left[-1]


def weigh(target: LogDensity, law: StartLaw, n: int, islands: int, noise: Noise) -> Cloud:
    """``islands`` independent sets of n draws of the law with their weights: (1) in one step,
    without a gradient.

    Raises:
        OrnsteinError: if every weight is 0.
    """
    with torch.no_grad():
        x = [law.draw(n, noise.fold(0, k)) for k in range(islands)]
        log_w = torch.stack(
            [
                torch.cat([(target(y) - law.log_prob(y)).double() for y in part.split(_BATCH)])
                for part in x
            ]
        )
    log_w = torch.where(log_w.isnan(), -torch.inf, log_w)
    log_z = log_w.logsumexp(1) - math.log(n)
    if not bool((log_z > -torch.inf).any()):
        raise OrnsteinError(
            "every particle has weight 0: the start law misses the support of the density"
        )
    total = log_z_islands(log_z, log_w.flatten())
    return Cloud(
        torch.cat(x), log_w.flatten(), total, log_z, [1.0, 0.0], [total.ess / log_w.numel()], []
    )


def run(
    target: LogDensity,
    law: StartLaw,
    rungs: Sequence[TemperingStep],
    n: int,
    islands: int,
    noise: Noise,
) -> Cloud:
    """Climb down the rungs with ``islands`` independent clouds of n particles each: unbiased for Z.

    Raises:
        OrnsteinError: if every particle of every island has weight 0.
    """
    if all(rung.kernel is None for rung in rungs):
        return weigh(target, law, n, islands, noise)
    front = _Front.at_start(target, law, n, islands, noise)
    for k, rung in enumerate(rungs):
        front.weigh(rung.level)
        if not bool((front.log_z > -torch.inf).any()):
            raise OrnsteinError(
                "every particle has weight 0: the start law misses the support of the density"
            )
        if rung.kernel is not None:
            front.select(noise.fold(1, k))
            front.acceptance.append(
                float(front.move(rung.kernel, noise.fold(2, k)).acceptance.mean())
            )
    return front.cloud()


def pilot(
    target: LogDensity,
    law: StartLaw,
    n: int,
    noise: Noise,
    cess: float = 0.8,
    leaps: int = 5,
    max_moves: int = 6,
    max_levels: int = 300,
) -> tuple[Cloud, list[TemperingStep]]:
    """Carry n particles from the law to the target and lay the rungs for `run`.

    Args:
        target: unnormalised log-density, ``(n, d) -> (n,)``; -inf outside its support.
        law: start law; wide enough to cover the target.
        n: particles.
        noise: source of randomness.
        cess: fraction (2) that each rung keeps, in (0, 1).
        leaps: leapfrog steps per move.
        max_moves: per level, at most; fewer where the particles have forgotten where they were.
        max_levels: give up beyond.

    Raises:
        OrnsteinError: if the target is -inf at every particle, or ``max_levels`` do not suffice.
    """
    front = _Front.at_start(target, law, n, 1, noise)
    if _kept(front, 0.0) >= _ENOUGH:
        front.weigh(0.0)
        return front.cloud(), [TemperingStep(0.0, None)]
    size, rungs = front.x.shape[1] ** -0.25, list[TemperingStep]()
    for k in range(max_levels):
        level = _next_level(front, cess)
        front.weigh(level)
        factor = _factor(front, law)
        front.select(noise.fold(1, k))
        kernel = _settle(front, HMC(size, factor, leaps), noise.fold(2, k), max_moves)
        rungs.append(TemperingStep(level, kernel))
        size = kernel.size
        if level == 0:
            return front.cloud(), rungs
    at = front.levels[-1]
    raise OrnsteinError(
        f"tempering is at level {at:.2g} after {max_levels} steps: start nearer to the target"
        " (start_std, _mean)"
    )


def _settle(front: _Front, kernel: HMC, noise: Noise, max_moves: int) -> HMC:
    """Move until the particles have forgotten where they were, fitting the step size; the kernel
    that does it."""
    origin, rates, before = front.x, list[float](), 0.0
    for move in range(max_moves):
        rates.append(float(front.move(kernel, noise.fold(move)).acceptance.mean()))
        kernel = replace(kernel, size=kernel.size * math.exp(rates[-1] - _ACCEPT))
        gone = float(_whitened(front.x - origin, kernel.factor).square().mean())
        if gone > 1.4 or (
            move > 0 and gone < 1.05 * before
        ):  # 2 if independent; or nowhere else to go
            break
        before = gone
    front.acceptance.append(sum(rates) / len(rates))
    return replace(kernel, moves=len(rates))


def _whitened(x: Tensor, factor: Tensor) -> Tensor:
    return (
        x / factor
        if factor.ndim == 1
        else torch.linalg.solve_triangular(factor, x.mT, upper=False).mT
    )


def _factor(front: _Front, law: StartLaw) -> Tensor:
    """The preconditioner: from the weighted covariance within the components of the law; diagonal
    where the particles are too few."""
    w = front.log_w.flatten().exp()
    w = w / w.sum()
    apart = law.residual(front.x.double())
    apart = torch.where((w[:, None] > 0) & apart.isfinite(), apart, 0.0)
    apart = apart - w @ apart
    d, count = apart.shape[1], 1 / float(w.square().sum())
    var = (w @ apart.square()).clamp(min=1e-300)
    if count < 3 * d:
        return var.sqrt()
    cov = (apart * w[:, None]).mT @ apart
    cov = cov * (count / (count + d)) + torch.diag(var * (d / (count + d)))
    factor, failed = torch.linalg.cholesky_ex(cov + 1e-10 * torch.diag(var))
    return factor if int(failed) == 0 else var.sqrt()


def _kept(front: _Front, level: float) -> float:
    """(2) for a step to this level, as a fraction."""
    increment = (front.levels[-1] - level) * front.potential
    first, second = (
        (front.log_w + increment).logsumexp(1),
        (front.log_w + 2 * increment).logsumexp(1),
    )
    return float((2 * first - second).exp().nan_to_num(0.0))


def _next_level(front: _Front, cess: float) -> float:
    """The lowest level whose weights keep ``cess n``, by bisection."""
    level = front.levels[-1]
    if not bool(torch.isfinite(front.potential).any()):
        raise OrnsteinError(
            "the log-density is -inf at every starting point: start nearer to its support"
            " (start_std, start_mean)"
        )
    if _kept(front, 0.0) >= cess:
        return 0.0
    low, high = 0.0, level
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if _kept(front, middle) >= cess else (middle, high)
    return min(high, level * (1 - 1e-6))
