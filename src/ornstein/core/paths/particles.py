"""Sequential Monte Carlo along any measure on paths: paths that go astray are dropped on the way,
and Z stays unbiased.

With unnormalised densities ``gamma_t`` between the start law (t = T) and the target (t = 0), the
weight (1) of `ornstein.core.paths.measure` is a product of

    gamma_s(x_s) / gamma_t(x_t)  prod [B / F]                                                    (1)

over pieces of the path. Where these have become uneven the particles are resampled; then E of the
product of their means is still Z, whatever gamma is, if it is positive wherever a path may yet
reach the support (Del Moral 2004, theorem 7.4.2). Along Langevin steps with a control this is SCLD
(Chen et al. 2025), along a denoiser the sampler of Phillips et al. 2024 (PDDS).
"""

__all__ = ["lookahead", "particle_filter", "resample"]

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.paths.measure import PathMeasure, WeightedSamples
from ornstein.core.processes.linear import Time
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError


def resample(log_w: Float[Tensor, " n"], n: int, noise: Noise) -> Tensor:
    """Indices ``(n,)`` of a systematic resampling, in random order: sample i is taken ``n w_i / sum
    w`` times, up or down rounded."""
    w = torch.softmax(log_w.double(), 0)
    points = (torch.arange(n, dtype=torch.float64) + noise.uniform((1,), torch.float64)) / n
    chosen = torch.searchsorted(w.cumsum(0), points).clamp(max=len(w) - 1)
    return chosen[noise.fold(1).uniform((n,), torch.float64).argsort()]


def particle_filter(
    measure: PathMeasure, n: int, noise: Noise, stops: int = 16, keep: float = 0.5
) -> WeightedSamples:
    """n particles along a measure, resampled where less than ``keep`` of them count; ``E[mean w] =
    Z``.

    The weights of one run are not independent: for a standard error, run several (islands).

    Args:
        measure: one with a ``level``.
        n: particles.
        noise: source of randomness.
        stops: pieces of the path, at most its steps.
        keep: fraction of n, in [0, 1].

    Raises:
        OrnsteinError: if the measure has no levels. Where all particles die, all weights are 0: an
            estimate like any other.
    """
    if measure.level is None:
        raise OrnsteinError(
            "resampling on the way needs densities between the start and the target: give the"
            " measure a level"
        )
    steps = len(measure.times) - 1
    ends = torch.linspace(0, steps, min(stops, steps) + 1).round().long().unique().tolist()
    x = measure.start.draw(n, noise)
    before, log_w, log_z, evaluations = (
        measure.start.log_prob(x),
        torch.zeros(n, dtype=torch.float64),
        0.0,
        0,
    )
    for k in range(len(ends) - 1):
        a, b = ends[k], ends[k + 1]
        x, ratio, calls = measure.carry(x, measure.times[a : b + 1], noise.fold(k))
        after = measure.target(x) if b == steps else measure.level(x, measure.times[b])
        log_w, evaluations = log_w + (after - before + ratio).double(), evaluations + calls  # (1)
        if not bool((log_w > -torch.inf).any()):
            break
        if (
            b < steps
            and float((2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()) < keep * n
        ):
            log_z += float(log_w.logsumexp(0)) - math.log(n)
            index = resample(log_w, n, noise.fold(k, 1))
            x, after, log_w = x[index], after[index], torch.zeros_like(log_w)
        before = after
    return WeightedSamples(x, log_w + log_z, evaluations)


def lookahead(
    posterior: Posterior, target: LogDensity, var: float = 1.0, least: float = 0.0
) -> Callable[[Tensor, Time], Tensor]:
    """A level for `denoising_paths`: with N the Gaussian ``N(0, var)`` of an event and N_t that
    noised,

        gamma_t(x) = N_t(x) rho(m) / N(m),        m = E[x_0 | x_t = x],

    the target as seen from the posterior mean. Phillips et al. 2024, section 3.1. Costs a call of
    posterior and density.

    Args:
        posterior, target: N_t is noised by the process of the one, rho the other.
        var: of N.
        least: ``log rho(m) / N(m)`` where m lies outside the support, which x_0 need not: somewhat
            below log Z.
    """

    def level(x: Tensor, t: Time) -> Tensor:
        sde, mean = posterior.sde, posterior(x, t).mean
        zero = torch.zeros_like(mean)
        noised = Gaussian(
            zero, (sde.alpha(t).square() * var + sde.sigma(t).square()).sqrt().to(x.dtype)
        )
        lift = target(mean) - Gaussian(zero, torch.full_like(zero[:1], var**0.5)).log_prob(mean)
        return noised.log_prob(x) + torch.where(lift.isfinite(), lift, least)

    return level
