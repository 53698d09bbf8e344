"""Sequential Monte Carlo on path measures: paths with resampling, and unbiased estimates of Z.

Paths of small weight are dropped early instead of at the end. With unnormalised densities
``gamma_t`` between the start law (t = T) and the target (t = 0), the weight (1) of
`ornstein.core.paths.measure` is a product of

    gamma_s(x_s) / gamma_t(x_t)  prod [B / F]                                                    (1)

over pieces of the path. Where these have become uneven the particles are resampled; then E of the
product of their means is still Z, whatever gamma is, if it is positive wherever a path may yet
reach the support (Del Moral 2004, theorem 7.4.2). Along Langevin steps with a control this is SCLD
(Chen et al. 2025), along a denoiser the sampler of Phillips et al. 2024 (PDDS).
"""

__all__ = ["lookahead", "particle_filter"]

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.numerics.importance import log_ess
from ornstein.core.paths.measure import PathMeasure
from ornstein.core.processes.linear import Time
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.core.random.weighted_sample import WeightedSample, resample
from ornstein.errors import OrnsteinError

_RESAMPLING = 1  # key of the noise that resamples; the pieces of the path have one integer key


@renamed_arguments(keep="ess_fraction")
def particle_filter(
    measure: PathMeasure, n: int, noise: Noise, stops: int = 16, ess_fraction: float = 0.5
) -> WeightedSample:
    """Run n particles along a path measure with resampling, with an unbiased estimate of Z.

    The particles are resampled where their effective sample size falls below ``ess_fraction * n``.
    The weights of one run are not independent: for a standard error, make several runs. Del Moral
    2004, theorem 7.4.2.

    Args:
        measure: one with a ``level``.
        n: particles.
        noise: source of randomness.
        stops: number of pieces of the path, at most its steps; resampling is between them.
        ess_fraction: effective fraction of the particles below which they are resampled, in [0, 1].

    Returns:
        The particles as one group, with the evaluations per particle as cost. If all weights vanish
        on the way, all log-weights are -inf: an estimate of 0, which unbiasedness requires.

    Raises:
        OrnsteinError: if the measure has no levels.
    """
    if measure.level is None:
        raise OrnsteinError(
            "resampling on the way needs densities between the start and the target: give the"
            " measure a level"
        )
    steps = len(measure.times) - 1
    ends = torch.linspace(0, steps, min(stops, steps) + 1).round().long().unique().tolist()
    x = measure.start.draw(n, noise)
    before = measure.start.log_prob(x)
    log_w = torch.zeros(n, dtype=torch.float64)
    log_z = 0.0
    evaluations = 0
    for k in range(len(ends) - 1):
        a, b = ends[k], ends[k + 1]
        x, ratio, calls = measure.carry(x, measure.times[a : b + 1], noise.fold(k))
        after = measure.target(x) if b == steps else measure.level(x, measure.times[b])
        log_w = log_w + (after - before + ratio).double()  # (1)
        evaluations += calls
        if not bool((log_w > -torch.inf).any()):
            break
        if b < steps and float(log_ess(log_w, 0).exp()) < ess_fraction * n:
            log_z += float(log_w.logsumexp(0)) - math.log(n)
            index = resample(log_w, n, noise.fold(k, _RESAMPLING))
            x = x[index]
            after = after[index]
            log_w = torch.zeros_like(log_w)
        before = after
    return WeightedSample(x, log_w + log_z, independent_groups=1, cost=evaluations)


@renamed_arguments(least="outside")
def lookahead(
    posterior: Posterior, target: LogDensity, var: float = 1.0, outside: float = 0.0
) -> Callable[[Tensor, Time], Tensor]:
    """Return a level for `denoising_paths` that evaluates the target at the posterior mean.

    With N the Gaussian ``N(0, var)`` of an event and N_t the law of N after noising up to t,

        gamma_t(x) = N_t(x) rho(m) / N(m),        m = E[x_0 | x_t = x],

    Phillips et al. 2024, section 3.1. It costs a call of posterior and density.

    Args:
        posterior: gives m; its process adds the noise that makes N_t of N.
        target: log rho, unnormalised.
        var: variance of N.
        outside: the value of ``log rho(m) / N(m)`` where m lies outside the support, which x_0 need
            not: a little below log Z.
    """

    def level(x: Tensor, t: Time) -> Tensor:
        sde = posterior.sde
        mean = posterior(x, t).mean
        zero = torch.zeros_like(mean)
        diffused = Gaussian(
            zero, (sde.alpha(t).square() * var + sde.sigma(t).square()).sqrt().to(x.dtype)
        )
        normal = Gaussian(zero, torch.full_like(zero[:1], var**0.5))
        log_ratio = target(mean) - normal.log_prob(mean)
        return diffused.log_prob(x) + torch.where(log_ratio.isfinite(), log_ratio, outside)

    return level
