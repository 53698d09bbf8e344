"""Tempered sequential Monte Carlo: a cloud of particles carried from a start law to a target, with a first log Z.

The path is that of `ornstein.core.methods.annealed`, walked one level at a time. Each next level is the one at which the conditional
effective sample size of the incremental weights

    w = gamma_s(x) / gamma_t(x),    CESS = n (mean w)^2 / mean(w^2),                                          (1)

is a chosen fraction of n (Zhou et al. 2016, section 3.3); then the particles are resampled, and moved by the core's loop.
Preconditioner and step size follow the particles, so this log Z is consistent, not unbiased: for exploring, not for reporting.
"""

__all__ = ["Particles", "resample", "tempered_smc"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.methods.annealed import Annealed, Metropolis
from ornstein.core.noise import Noise
from ornstein.core.solve import Step, simulate
from ornstein.errors import OrnsteinError
from ornstein.learn.density.ledger import LogDensity
from ornstein.learn.density.normal import Normal


class Particles(NamedTuple):
    """Equally weighted particles at the target.

    Attributes:
        x: ``(n, d)``.
        log_z: estimate of log Z in nats.
        levels: the temperatures visited, from 1 to 0.
        acceptance: mean acceptance probability at the last level.
    """

    x: Tensor
    log_z: float
    levels: list[float]
    acceptance: float


def resample(log_w: Float[Tensor, " n"], n: int, noise: Noise) -> Tensor:
    """Indices ``(n,)`` of a systematic resampling, in random order: sample i is taken ``n w_i / sum w`` times, up or down rounded."""
    w = torch.softmax(log_w.double(), 0)
    points = (torch.arange(n, dtype=torch.float64) + noise.uniform((1,), torch.float64)) / n
    chosen = torch.searchsorted(w.cumsum(0), points).clamp(max=len(w) - 1)
    return chosen[noise.fold(1).uniform((n,), torch.float64).argsort()]


def tempered_smc(
    target: LogDensity, start: Normal, n: int, noise: Noise, moves: int = 5, cess: float = 0.9, max_levels: int = 200
) -> Particles:
    """Carry n particles from ``start`` to ``target``.

    Args:
        target: unnormalised log-density, ``(n, d) -> (n,)``; -inf outside its support.
        start: start law; wide enough to cover the target.
        n: particles.
        noise: source of randomness.
        moves: Metropolis proposals per level.
        cess: fraction of (1) that each level keeps, in (0, 1).
        max_levels: give up beyond.

    Raises:
        OrnsteinError: if the target is -inf at every particle, or ``max_levels`` do not suffice.
    """
    path = Annealed(start.log_prob, target)
    x = start.map(noise.fold(0).normal((n, len(start.mean)), start.mean.dtype))
    level, log_z, size, levels, acceptance = 1.0, 0.0, 1.0, [1.0], 0.0
    for k in range(1, max_levels + 1):
        with torch.no_grad():
            potential = (target(x) - start.log_prob(x)).double()
        below = _next_level(potential, level, cess)
        times = torch.tensor([level, below], dtype=torch.float64)
        accepted = _Acceptance()
        log_w = (level - below) * potential
        log_z += float(torch.logsumexp(log_w, 0)) - math.log(n)
        x = x[resample(log_w, n, noise.fold(k, 1))]
        x = simulate(path, x, times, Metropolis(size, Normal.fit(x).factor, moves), noise.fold(k), [accepted])
        size *= math.exp(accepted.rate - 0.57)  # 0.57: optimal for Langevin proposals, Roberts and Rosenthal 1998
        level, acceptance = below, accepted.rate
        levels.append(level)
        if level == 0:
            rest = Annealed(target, target)
            settle = Metropolis(size, Normal.fit(x).factor, 2 * moves)
            x = simulate(rest, x, torch.tensor([1.0, 0.0]), settle, noise.fold(0, 1))
            return Particles(x, log_z, levels, acceptance)
    raise OrnsteinError(f"tempering is at level {level:.2g} after {max_levels} steps: start nearer to the target (start_std, _mean)")


class _Acceptance:
    """Watches the acceptance rate that `Metropolis` leaves in its memory."""

    rate = 0.0

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        self.rate = float(step.memory)


def _next_level(potential: Tensor, level: float, cess: float) -> float:
    """The lowest level whose incremental weights keep a conditional ESS (1) of ``cess n``, by bisection."""
    if not bool(torch.isfinite(potential).any()):
        raise OrnsteinError("the log-density is -inf at every starting point: start nearer to its support (start_std, start_mean)")

    def kept(below: float) -> float:
        log_w = (level - below) * potential
        return float((2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0)).exp()) / len(potential)

    if kept(0.0) >= cess:
        return 0.0
    low, high = 0.0, level
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if kept(middle) >= cess else (middle, high)
    return min(high, level * (1 - 1e-6))
