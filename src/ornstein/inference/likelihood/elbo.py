"""Bounds on the likelihood. The generating kernels against the noising process give, for any
posterior and any grid,

    -log p(x_0) <= KL(q(x_T | x_0) || pi)                                          (prior)
                   + sum_k E KL(q(x_s | x_t, x_0) || p(x_s | x_t))                 (diffusion)
                   - E log p(x_0 | x_{t_1}),                                       (reconstruction)  (1)

where q are the exact kernels of the process and p those of the posterior. Sohl-Dickstein et al.
2015; Ho et al. 2020, eq. 5; Kingma et al. 2021, eq. 11. For quantised data the last term is the
probability of the level, the integral of the Gaussian over its cell, the outermost cells open (Ho
et al. 2020, eq. 13): then (1) bounds the probability of the discrete data.
"""

__all__ = ["Bound", "bits_per_dim", "elbo", "level_log_prob"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.methods import ForwardTransition
from ornstein.core.numerics.gaussian import Gaussian, sum_event
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.method import Step
from ornstein.core.simulation.watchers import KernelKL
from ornstein.core.timesteps.spacing import Spacing
from ornstein.errors import OrnsteinError
from ornstein.models.codecs.affine import Levels


@dataclass(frozen=True)
class Bound:
    """A lower bound on the log-likelihood, nats per sample: ``value = -(prior + diffusion +
    reconstruction)``, the terms of (1).

    Attributes:
        value: ``(b,)``, estimates of the bound, unbiased.
        stderr: ``(b,)``, their Monte Carlo standard errors.
        prior, diffusion, reconstruction: ``(b,)``, the terms, all costs in nats.
        evaluations: posterior evaluations per sample.
    """

    value: Tensor
    stderr: Tensor
    prior: Tensor
    diffusion: Tensor
    reconstruction: Tensor
    evaluations: int

    def bits_per_dim(self, numel: int) -> tuple[float, float]:
        """Mean over samples of ``-value / (numel log 2)`` with its standard error (over samples and
        noise)."""
        return bits_per_dim(self.value, numel)


def bits_per_dim(nats: Float[Tensor, " b"], numel: int) -> tuple[float, float]:
    """Mean of ``-nats / (numel log 2)`` over samples, with its standard error."""
    bits = -nats.double() / (numel * math.log(2))
    return float(bits.mean()), float(bits.std() / math.sqrt(len(bits)))


def elbo(
    posterior: Posterior,
    x: Float[Tensor, "b *event"],
    steps: int = 100,
    seed: int | Noise = 0,
    repeats: int = 2,
    levels: Levels | None = None,
    var: float | None = None,
    spacing: Spacing | None = None,
) -> Bound:
    """The bound (1) on ``log p(x)``, each sample with ``repeats`` independent noising paths.

    Args:
        posterior: the model.
        x: samples in the posterior's own space.
        steps: size of the grid, at least 2; more is tighter wherever the posterior is good.
        seed: an integer or a `Noise`.
        repeats: paths per sample, at least 2 so that there is a standard error.
        levels: of quantised data, in the posterior's space; without, the bound is on the density.
        var: data variance that the start law assumes; by default the posterior's ``data_std``
            squared, or 1.
        spacing: where to put the steps. Every grid gives a bound; for quantised data one whose last
            level before 0 is well below the distance of the levels is tight, and finer ones add
            only what the posterior does not know there.
    """
    if steps < 2 or repeats < 2:
        raise OrnsteinError(f"elbo(steps={steps}, repeats={repeats}): both at least 2")
    sde = posterior.sde
    if sde.pinned:
        raise OrnsteinError(
            f"{type(sde).__name__} ends in one point: a bound needs a process with a start density,"
            " such as VP"
        )
    noise = seed if isinstance(seed, Noise) else Noise(seed)
    times = sde.times(steps, spacing).flip(0)
    start = sde.prior(x.shape, (getattr(posterior, "data_std", 1.0) ** 2) if var is None else var)
    prior = sde.marginal(x, times[-1]).kl(Gaussian(start.mean.to(x), start.std))
    with torch.no_grad():
        draws = [_path_terms(posterior, x, times, noise.fold(k), levels) for k in range(repeats)]
    diffusion, reconstruction = (torch.stack(terms) for terms in zip(*draws, strict=True))
    totals = -(prior + diffusion + reconstruction)
    stderr = totals.std(0) / math.sqrt(repeats)
    return Bound(
        totals.mean(0), stderr, prior, diffusion.mean(0), reconstruction.mean(0), steps * repeats
    )


def _path_terms(
    posterior: Posterior, x: Tensor, times: Tensor, noise: Noise, levels: Levels | None
) -> tuple[Tensor, Tensor]:
    """One draw of the diffusion and reconstruction terms."""
    sde, first = posterior.sde, times[1]

    def exact(t: Tensor, s: Tensor, x_t: Tensor, step: Step) -> Gaussian:
        return sde.posterior(step.x, x, t, s)

    def model(t: Tensor, s: Tensor, x_t: Tensor, step: Step) -> Gaussian:
        return sde.posterior(step.x, posterior(step.x, s), t, s)

    x_first = sde.marginal(x, first).draw(noise.fold(1).stream_like(x).normal())
    kl = KernelKL(exact, model)
    simulate(sde, x_first, times[1:], ForwardTransition(), noise.fold(2), [kl])
    decoder = sde.posterior(x_first, posterior(x_first, first), times[0], first)
    return kl.value, -(
        decoder.log_prob(x) if levels is None else level_log_prob(decoder, x, levels)
    )


def level_log_prob(decoder: Gaussian, x: Tensor, levels: Levels) -> Tensor:
    """Log-probability of each sample's levels: the Gaussian's mass between the midpoints around
    them."""
    std = decoder.std.expand_as(x).double()
    centred, half = (x - decoder.mean).double(), levels.step / 2
    upper, lower = (centred + half) / std, (centred - half) / std
    index = ((x - levels.low) / levels.step).round()
    upper = torch.where(index >= levels.count - 1, torch.inf, upper)
    lower = torch.where(index <= 0, -torch.inf, lower)
    flip = lower > 0  # compute in the tail where differences of probabilities keep their digits
    upper, lower = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    return sum_event(log_upper + torch.log1p(-(log_lower - log_upper).exp())).to(x.dtype)
