"""Parallel tempering: replicas at several temperatures that exchange their states, and chains at
one.

On the path ``log gamma_t = t log pi + (1 - t) log rho`` every chain has a replica at each level ``1
= t_1 > ... > t_m = 0``. A step moves all replicas, then neighbours (alternately the even and the
odd pairs) exchange states x, y at levels t, s with probability

    min(1, exp((t - s) (U(x) - U(y)))),      U = log rho - log pi,                               (1)

which leaves the product of all levels invariant (Geyer 1991; Syed et al. 2022 for the alternation).
The replica at t = 1 is drawn afresh from pi at every step. Along the way

    log Z = int_0^1 E_t[U] dt = sum over pairs of log (Z_s / Z_t),                               (2)

and the ratio of each pair is estimated by Bennett's method from both sides (`bar`).
"""

__all__ = ["Chains", "Tempered", "hmc", "parallel_tempering"]

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import GeometricPath, LogDensity, PointEvaluation
from ornstein.core.mcmc.hmc import HMC
from ornstein.core.paths.measure import Law
from ornstein.core.random.noise import Noise
from ornstein.density.log_z import LogZ, bar, student
from ornstein.density.smc.short_chains import chain_moves
from ornstein.errors import OrnsteinError

_ACCEPT = 0.8  # aim of the step sizes


class Chains(NamedTuple):
    """Draws of several chains.

    Attributes:
        x: ``(steps, chains, d)``.
        ess: ``(d,)``, effective draws of each coordinate over all chains.
        r_hat: ``(d,)``; above 1.01 the chains have not mixed.
        acceptance: mean acceptance probability.
        size: step size of the moves.
    """

    x: Tensor
    ess: Tensor
    r_hat: Tensor
    acceptance: float
    size: float


class Tempered(NamedTuple):
    """What parallel tempering returns.

    Attributes:
        chains: at the target.
        log_z: by (2).
        levels: from 1 to 0.
        exchanged: fraction of exchanges accepted, per pair.
    """

    chains: Chains
    log_z: LogZ
    levels: list[float]
    exchanged: list[float]


def hmc(
    target: LogDensity,
    x: Float[Tensor, "chains d"],
    steps: int,
    noise: Noise,
    warmup: int = 300,
    leaps: int = 8,
    thin: int = 1,
) -> Chains:
    """Hamiltonian Monte Carlo from given starts, all chains at once.

    In the warm-up the step size follows the acceptance, and the preconditioner is twice set to the
    spread of the chains: dense where there are at least ten states per dimension, else diagonal.
    Then both are frozen.

    Args:
        target: log rho, finite at the starts.
        x: starts, widely spread, else `Chains.r_hat` says nothing.
        steps: draws of each chain that are returned.
        noise: source of randomness.
        warmup: steps before.
        leaps: leapfrog steps per move.
        thin: moves per draw.

    Raises:
        OrnsteinError: if the density is -inf at a start.
    """
    path, d = GeometricPath(target, target), x.shape[1]
    local = path.local(x)
    if not bool(local.target.isfinite().all()):
        outside = int((~local.target.isfinite()).sum())
        raise OrnsteinError(
            f"hmc: the log-density is -inf at {outside} of {len(x)} starts: start in its support"
        )
    spread = x.std(0) if len(x) > 1 else torch.ones_like(x[0])
    kernel = HMC(0.5 * d**-0.25, spread.clamp(min=1e-12), leaps)
    recent = list[Tensor]()
    for k in range(warmup):
        x, (local, acceptance, _) = chain_moves(
            path, 0.0, x, replace(kernel, initial=local), noise.fold(0, k)
        )
        rate = 1.0 if k < warmup // 2 else 0.3
        kernel = replace(
            kernel, size=kernel.size * math.exp(rate * (float(acceptance.mean()) - _ACCEPT))
        )
        recent.append(x)
        if k in (warmup // 4, warmup // 2):
            kernel = replace(
                kernel, factor=_spread(torch.cat(recent[len(recent) // 2 :])), size=d**-0.25
            )
            recent = []
    draws, rates, kernel = list[Tensor](), list[Tensor](), replace(kernel, moves=thin)
    for k in range(steps):
        x, (local, acceptance, _) = chain_moves(
            path, 0.0, x, replace(kernel, initial=local), noise.fold(1, k)
        )
        draws.append(x)
        rates.append(acceptance.mean())
    return _chains(
        torch.stack(draws),
        float(torch.stack(rates).mean()) if rates else math.nan,
        float(kernel.size),
    )


def _spread(x: Tensor) -> Tensor:
    """A Cholesky factor of the covariance, or standard deviations where the points are too few."""
    n, d = x.shape
    if n < 10 * d:
        return x.std(0).clamp(min=1e-12)
    cov = torch.cov(x.mT).reshape(d, d)
    shrunk = cov * (n / (n + d)) + torch.diag(cov.diagonal() * (d / (n + d)) + 1e-24)
    return torch.linalg.cholesky(shrunk)


def parallel_tempering(
    target: LogDensity,
    law: Law,
    levels: list[float],
    steps: int,
    chains: int,
    noise: Noise,
    warmup: int = 200,
    leaps: int = 5,
) -> Tempered:
    """Replica exchange between ``levels``, for instance those of an `adaptive_smc`.

    Args:
        target: log rho.
        law: normalised start law pi, at the first level.
        levels: from 1 down to 0.
        steps: draws of each chain that are returned.
        chains: independent copies of the whole.
        noise: source of randomness.
        warmup: steps before, in which the step size of each level and a common diagonal
            preconditioner are fitted.
        leaps: leapfrog steps per move.

    Raises:
        OrnsteinError: if the levels do not descend from 1 to 0.
    """
    if (
        len(levels) < 2
        or levels[0] != 1
        or levels[-1] != 0
        or sorted(levels, reverse=True) != list(levels)
    ):
        raise OrnsteinError(
            f"parallel_tempering: levels must descend from 1 to 0, got {levels[:4]} ..."
            f" {levels[-1:]}"
        )
    path, m = GeometricPath(law.log_prob, target), len(levels)
    t = torch.tensor(levels, dtype=torch.float64)
    x = law.draw(m * chains, noise.fold(0))
    d = x.shape[1]
    sizes, spread = torch.full((m,), d**-0.25, dtype=torch.float64), x.std(0)
    local, slopes, draws, swaps, rates = (
        path.local(x),
        list[Tensor](),
        list[Tensor](),
        torch.zeros(m - 1),
        list[float](),
    )
    level, recent = t.repeat_interleave(chains), list[Tensor]()
    for k in range(warmup + steps):
        kernel = HMC(sizes.repeat_interleave(chains), spread, leaps, initial=local)
        x, (local, acceptance, _) = chain_moves(path, level, x, kernel, noise.fold(1, k))
        fresh = law.draw(chains, noise.fold(2, k))
        x = torch.cat([fresh, x[chains:]])
        local = PointEvaluation(
            *(
                torch.cat([new, old[chains:]])
                for new, old in zip(path.local(fresh), local, strict=True)
            )
        )
        x, local, swapped = _exchange(x, local, t, k % 2, noise.fold(3, k))
        rate = acceptance.reshape(m, chains).mean(1)
        if k < warmup:
            sizes = sizes * (0.5 * (rate - _ACCEPT)).exp()
            recent.append(x[-chains:])
            if k in (warmup // 4, warmup // 2):
                factor, recent = torch.cat(recent[len(recent) // 2 :]).std(0).clamp(min=1e-12), []
                sizes, spread = sizes * float((spread / factor).log().mean().exp()), factor
            continue
        draws.append(x.reshape(m, chains, d)[-1])
        slopes.append(local.potential.reshape(m, chains))
        swaps += 2 * swapped / steps
        rates.append(float(rate[-1]))
    log_z = _integrate(torch.stack(slopes, 2).double(), t)
    done = _chains(torch.stack(draws), sum(rates) / len(rates), float(sizes[-1]))
    return Tempered(done, log_z, list(levels), swaps.tolist())


def _exchange(
    x: Tensor, local: PointEvaluation, t: Tensor, parity: int, noise: Noise
) -> tuple[Tensor, PointEvaluation, Tensor]:
    """Exchange neighbours by (1); the fraction accepted of each pair."""
    m, n = len(t), len(x) // len(t)
    index, slope, accepted = (
        torch.arange(m * n).reshape(m, n),
        local.potential.reshape(m, n),
        torch.zeros(m - 1),
    )
    chance = noise.uniform((m, n), torch.float64).log()
    for j in range(parity, m - 1, 2):
        accept = chance[j] < (t[j] - t[j + 1]) * (slope[j] - slope[j + 1])  # (1)
        index[j], index[j + 1] = (
            torch.where(accept, index[j + 1], index[j]),
            torch.where(accept, index[j], index[j + 1]),
        )
        accepted[j] = accept.double().mean()
    flat = index.flatten()
    return x[flat], local.take(flat), accepted


def _integrate(slopes: Float[Tensor, "m chains steps"], t: Tensor) -> LogZ:
    """(2) from each chain; the chains are independent, so their spread is the error."""
    drops = t[:-1] - t[1:]
    estimates = []
    for c in range(slopes.shape[1]):
        pairs = [
            bar(drop * slopes[j, c], drop * slopes[j + 1, c]).value for j, drop in enumerate(drops)
        ]
        estimates.append(sum(pairs))
    log_z = torch.tensor(estimates, dtype=torch.float64)
    value, k = float(log_z.mean()), len(log_z)
    stderr = float(log_z.std()) / math.sqrt(k) if k > 1 else math.inf
    reach = student(k - 1) * stderr
    return LogZ(
        value,
        stderr,
        (value - reach, value + reach),
        elbo=float(slopes[0].mean()),
        ess=float(slopes[0].numel()),
    )


def _chains(x: Float[Tensor, "steps chains d"], acceptance: float, size: float) -> Chains:
    """ESS and R-hat of split chains (Gelman et al., Bayesian Data Analysis, sections 11.4 and 11.5;
    Geyer's initial pairs)."""
    half = len(x) // 2
    parts = torch.cat([x[:half], x[half : 2 * half]], 1)
    n, m = parts.shape[:2]
    within = parts.var(0).mean(0)
    total = within * (n - 1) / n + parts.mean(0).var(0)
    centred = parts - parts.mean(0)
    spectrum = torch.fft.rfft(centred, n=2 * n, dim=0)
    covariance = torch.fft.irfft(spectrum.abs().square(), n=2 * n, dim=0)[:n].mean(1) / n
    rho = 1 - (within * (n - 1) / n - covariance) / total
    pairs = rho[: n - n % 2].reshape(-1, 2, rho.shape[1]).sum(1)
    initial = torch.cummin(pairs.clamp(min=0), 0).values  # positive and monotone
    tau = (2 * initial.sum(0) - 1).clamp(min=1 / math.log10(max(n * m, 10)))
    return Chains(x, n * m / tau, (total / within).sqrt(), acceptance, size)
