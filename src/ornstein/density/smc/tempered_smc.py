"""Tempered sequential Monte Carlo: carry particles from a start density to a target, with log Z.

The particles walk down the geometric path between both densities: at each of a list of
temperatures they are weighted, resampled where the weights have become uneven, and moved by
Hamiltonian Monte Carlo (see `ParticleSystem` for the formulas). Three functions do this:

- `adaptive_smc` chooses the temperatures while it runs. Each next one is that at which the
  conditional effective sample size is a chosen fraction of n (Zhou, Johansen and Aston 2016); step
  sizes, preconditioners and numbers of moves follow the particles. So its log Z is consistent, but
  not unbiased.
- `frozen_smc` repeats these steps in independent runs without adapting anything. E of each run's
  estimate is Z exactly (Del Moral 2004, theorem 7.4.2), and the spread of the runs is the error of
  their mean.
- `importance_sample` goes from the start density to the target in one step, without moves.
"""

__all__ = ["TemperingStep", "adaptive_smc", "frozen_smc", "importance_sample"]

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.mcmc.hmc import HMC
from ornstein.core.numerics.covariance import shrunk_covariance, weighted_covariance
from ornstein.core.numerics.importance import ess_of_weights
from ornstein.core.numerics.roots import bisect
from ornstein.core.random.noise import Noise
from ornstein.density.smc.particles import ParticleSystem, SMCSample, StartLaw
from ornstein.errors import OrnsteinError

_BATCH = 8192  # points in one call of the density by `importance_sample`
_NEAR_ENOUGH = 0.9  # effective fraction of one step to the target that makes moves unnecessary
_ACCEPTANCE = 0.75  # target acceptance rate, between the best for low and for high dimensions
_INDEPENDENT = 1.4  # mean squared distance of a move, over the variance; 2 if independent
_NO_PROGRESS = 1.05  # growth of that distance by one move below which more moves are useless
_BISECTIONS = 40  # bisections for the next temperature: precise to 1e-12
_POINTS_PER_DIMENSION = 3  # effective particles per dimension that a full covariance needs
_START = 0  # key of the random numbers for draws of the start density
_RESAMPLE = 1  # key of the random numbers for resampling at each temperature
_MOVE = 2  # key of the random numbers for the moves at each temperature
_MISSED = "every particle has weight 0: the start law misses the support of the density"


class TemperingStep(NamedTuple):
    """One step of tempering: the temperature that it leads to and the moves at that temperature.

    Attributes:
        level: the temperature; that of the last step is 0.
        kernel: the moves there; None for none.
    """

    level: float
    kernel: HMC | None


def importance_sample(
    target: LogDensity, law: StartLaw, n: int, runs: int, noise: Noise
) -> SMCSample:
    """Weight draws of a distribution by ``rho(x) / q(x)``, in independent sets of n draws.

    The density is evaluated without a gradient.

    Args:
        target: log rho, ``(n, d) -> (n,)``.
        law: the normalised distribution q.
        n: draws in each set.
        runs: number of sets.
        noise: source of randomness.

    Raises:
        OrnsteinError: if every weight is 0.
    """
    with torch.no_grad():
        x = [law.draw(n, noise.fold(_START, k)) for k in range(runs)]
        log_w = torch.stack([_log_weights(target, law, part) for part in x])
    run_log_z = log_w.logsumexp(1) - math.log(n)
    _require_a_survivor(run_log_z)
    return SMCSample.of_runs(torch.cat(x), log_w, run_log_z, n * runs, [1.0, 0.0])


def _log_weights(target: LogDensity, law: StartLaw, x: Tensor) -> Tensor:
    """Return ``log rho(x) - log q(x)``, in double precision; NaN becomes a weight of 0."""
    parts = [(target(part) - law.log_prob(part)).double() for part in x.split(_BATCH)]
    log_w = torch.cat(parts)
    return torch.where(log_w.isnan(), -torch.inf, log_w)


def _require_a_survivor(run_log_z: Tensor) -> None:
    """Raise if the estimates of Z are all 0."""
    if not bool((run_log_z > -torch.inf).any()):
        raise OrnsteinError(_MISSED)


def frozen_smc(
    target: LogDensity,
    law: StartLaw,
    steps: Sequence[TemperingStep],
    n: int,
    runs: int,
    noise: Noise,
) -> SMCSample:
    """Run tempered SMC with given steps, once for each of the runs; estimates of Z are unbiased.

    Args:
        target: unnormalised log-density, ``(n, d) -> (n,)``.
        law: start distribution.
        steps: temperatures and moves, for instance from `adaptive_smc`.
        n: particles in each run.
        runs: number of independent runs.
        noise: source of randomness.

    Raises:
        OrnsteinError: if every particle of every run has weight 0.
    """
    if all(step.kernel is None for step in steps):
        return importance_sample(target, law, n, runs, noise)
    system = ParticleSystem.start(target, law, n, runs, noise)
    for k, step in enumerate(steps):
        system.reweight(step.level)
        _require_a_survivor(system.log_z)
        if step.kernel is not None:
            system.resample(noise.fold(_RESAMPLE, k))
            moved = system.move(step.kernel, noise.fold(_MOVE, k))
            system.acceptance.append(float(moved.acceptance.mean()))
    return system.sample()


def adaptive_smc(
    target: LogDensity,
    law: StartLaw,
    n: int,
    noise: Noise,
    cess: float = 0.8,
    leaps: int = 5,
    max_moves: int = 6,
    max_levels: int = 300,
) -> tuple[SMCSample, list[TemperingStep]]:
    """Run SMC from a start distribution to a target, choosing temperatures and moves adaptively.

    Args:
        target: unnormalised log-density, ``(n, d) -> (n,)``; -inf outside the support.
        law: start distribution; wide enough to cover the target.
        n: particles.
        noise: source of randomness.
        cess: conditional effective sample size of each step, as a fraction of n, in (0, 1).
        leaps: leapfrog steps of each move.
        max_moves: largest number of moves at each temperature; fewer where the particles are
            independent of their former places sooner.
        max_levels: largest number of temperatures.

    Returns:
        The particles at the target, and the steps for `frozen_smc`.

    Raises:
        OrnsteinError: if the target is -inf at every particle, or ``max_levels`` do not suffice.
    """
    system = ParticleSystem.start(target, law, n, 1, noise)
    if system.cess_at(0.0) >= _NEAR_ENOUGH:
        system.reweight(0.0)
        return system.sample(), [TemperingStep(0.0, None)]
    size = system.x.shape[1] ** -0.25
    steps = list[TemperingStep]()
    for k in range(max_levels):
        level = _next_level(system, cess)
        system.reweight(level)
        factor = _preconditioner(system, law)
        system.resample(noise.fold(_RESAMPLE, k))
        kernel = _adapt_moves(system, HMC(size, factor, leaps), noise.fold(_MOVE, k), max_moves)
        steps.append(TemperingStep(level, kernel))
        size = kernel.size
        if level == 0:
            return system.sample(), steps
    raise OrnsteinError(
        f"tempering is at level {system.level:.2g} after {max_levels} steps: start nearer to the"
        " target (start_std, _mean)"
    )


def _adapt_moves(system: ParticleSystem, kernel: HMC, noise: Noise, max_moves: int) -> HMC:
    """Move particles until they forget where they were, and return the adapted kernel.

    The step size is fitted to the acceptance rate after each move.
    """
    origin = system.x
    rates = list[float]()
    distance = 0.0
    for move in range(max_moves):
        rates.append(float(system.move(kernel, noise.fold(move)).acceptance.mean()))
        kernel = replace(kernel, size=kernel.size * math.exp(rates[-1] - _ACCEPTANCE))
        before = distance
        distance = float(_whiten(system.x - origin, kernel.factor).square().mean())
        if distance > _INDEPENDENT or (move > 0 and distance < _NO_PROGRESS * before):
            break
    system.acceptance.append(sum(rates) / len(rates))
    return replace(kernel, moves=len(rates))


def _whiten(x: Tensor, factor: Tensor) -> Tensor:
    """Return ``factor^-1 x`` of each row, for a triangular factor or a diagonal ``(d,)``."""
    if factor.ndim == 1:
        return x / factor
    return torch.linalg.solve_triangular(factor, x.mT, upper=False).mT


def _preconditioner(system: ParticleSystem, law: StartLaw) -> Tensor:
    """Return a factor of the weighted covariance within the components of the start distribution.

    It is shrunk towards its diagonal, and diagonal where there are too few effective particles.
    """
    w = system.log_w.flatten().exp()
    w = w / w.sum()
    centred = law.residual(system.x.double())
    centred = torch.where((w[:, None] > 0) & centred.isfinite(), centred, 0.0)
    centred = centred - w @ centred
    count = ess_of_weights(w)
    var = (w @ centred.square()).clamp(min=1e-300)
    if count < _POINTS_PER_DIMENSION * centred.shape[1]:
        return var.sqrt()
    cov = shrunk_covariance(weighted_covariance(centred, w), count, var)
    factor, failed = torch.linalg.cholesky_ex(cov + 1e-10 * torch.diag(var))
    return factor if int(failed) == 0 else var.sqrt()


def _next_level(system: ParticleSystem, cess: float) -> float:
    """Return the lowest temperature at which the CESS is at least the fraction ``cess`` of n."""
    if not bool(torch.isfinite(system.potential).any()):
        raise OrnsteinError(
            "the log-density is -inf at every starting point: start nearer to its support"
            " (start_std, start_mean)"
        )
    if system.cess_at(0.0) >= cess:
        return 0.0

    def too_low(level: float) -> bool:
        return system.cess_at(level) < cess

    _, high = bisect(too_low, 0.0, system.level, _BISECTIONS)
    return min(high, system.level * (1 - 1e-6))
