"""The evidence lower bound (ELBO) of a diffusion model with finitely many steps.

The bound needs no integral over the flow: it compares, on data with noise, the exact generating
kernels q of the process with the kernels p of the model. For any posterior and any grid,

    -log p(x_0) <= KL(q(x_T | x_0) || pi)                                (prior)
                   + sum_k E KL(q(x_s | x_t, x_0) || p(x_s | x_t))       (diffusion)
                   - E log p(x_0 | x_{t_1}).                             (reconstruction)        (1)

Sohl-Dickstein et al. 2015; Ho et al. 2020, eq. 5; Kingma et al. 2021, eq. 11. For quantised data
the last term is the probability of the level, the integral of the Gaussian over the cell of the
level, where the outermost cells have no outer end (Ho et al. 2020, eq. 13): then (1) bounds the
probability of the discrete data.
"""

__all__ = [
    "Bound",
    "LogProbabilities",
    "bits_per_dim",
    "elbo",
    "level_log_prob",
    "require_start_density",
]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.methods import ForwardTransition
from ornstein.core.numerics.checks import require_integers
from ornstein.core.numerics.estimate import Estimate
from ornstein.core.numerics.gaussian import Gaussian, sum_event
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.method import Step
from ornstein.core.simulation.watchers import KernelKL
from ornstein.core.timesteps.spacing import Spacing, as_spacing
from ornstein.errors import OrnsteinError
from ornstein.inference.sampling.samplers import data_std
from ornstein.models.codecs.affine import Levels

_FIRST_STATE = 1  # key of the noise that takes the data to the first level of the grid
_PATH = 2  # key of the noise of the steps after that


@dataclass(frozen=True, eq=False)
class LogProbabilities(Estimate):
    """Estimated log-probabilities of samples, ``(b,)``, in nats."""

    def bits_per_dim(self, numel: int) -> Estimate:
        """Return the mean of ``-value / (numel log 2)`` over samples, the bits per dimension.

        Args:
            numel: number of dimensions of one sample.
        """
        return bits_per_dim(self.value, numel)


@dataclass(frozen=True, eq=False, kw_only=True)
class Bound(LogProbabilities):
    """A lower bound on the log-likelihood, in nats per sample, with its three terms.

    The bound is ``value = -(prior + diffusion + reconstruction)``. ``value`` and ``stderr`` are
    ``(b,)``, an unbiased estimate of the bound and its Monte Carlo standard error; ``cost`` counts
    evaluations of the posterior per sample.

    Args:
        prior: ``(b,)``, the divergence of the data at T from the start law, in nats.
        diffusion: ``(b,)``, the sum of the divergences of the kernels, in nats.
        reconstruction: ``(b,)``, minus the log-probability of the data given the first state.

    Example:
        >>> target = orn.targets.gmm9()
        >>> bound = orn.elbo(target.posterior(orn.VP()), target.sample(4), steps=5)
        >>> bound.value.shape, bound.cost
        (torch.Size([4]), 10)
    """

    prior: Tensor
    diffusion: Tensor
    reconstruction: Tensor


def bits_per_dim(nats: Float[Tensor, " b"], numel: int) -> Estimate:
    """Return the mean of ``-nats / (numel log 2)`` over samples, with its standard error.

    Args:
        nats: log-likelihoods ``(b,)``, in nats.
        numel: number of dimensions of one sample.
    """
    bits = -nats.double() / (numel * math.log(2))
    return Estimate(float(bits.mean()), float(bits.std() / math.sqrt(len(bits))))


def require_start_density(sde: LinearSDE) -> None:
    """Raise `OrnsteinError` for a process that ends in a point, where no density starts."""
    if sde.pinned:
        raise OrnsteinError(
            f"{type(sde).__name__} ends in one point: a likelihood needs a process with a start"
            " density, such as VP"
        )


def elbo(
    posterior: Posterior,
    x: Float[Tensor, "b *event"],
    steps: int = 100,
    seed: int | Noise = 0,
    repeats: int = 2,
    levels: Levels | None = None,
    var: float | None = None,
    spacing: Spacing | str | None = None,
) -> Bound:
    """Estimate the evidence lower bound on ``log p(x)`` of a chain of ``steps`` kernels.

    The kernels are compared on ``repeats`` independent noising paths of each sample. The bound is
    minus the sum of the prior, diffusion and reconstruction terms of the variational bound of Ho et
    al. 2020, eq. 5.

    Args:
        posterior: the model.
        x: samples ``(b, *event)`` in the posterior's own space.
        steps: size of the grid, at least 2; more is tighter wherever the posterior is good.
        seed: an integer or a `Noise`.
        repeats: paths per sample, at least 2 so that there is a standard error.
        levels: of quantised data, in the posterior's space; without, the bound is on the density.
        var: data variance that the start law assumes; by default the posterior's ``data_std``
            squared, or 1.
        spacing: where to put the steps, a member of `ornstein.spacing` or its name. Every grid
            gives a bound; for quantised data one whose last level before 0 is well below the
            distance of the levels is tight, and finer ones add only what the posterior does not
            know there.

    Raises:
        OrnsteinError: for fewer than 2 steps or repeats, or a process that ends in one point.

    Example:
        >>> target = orn.targets.gmm9()
        >>> bound = orn.elbo(target.posterior(orn.VP()), target.sample(64), steps=20)
        >>> bound.value.shape
        torch.Size([64])
    """
    require_integers(2, steps=steps, repeats=repeats)
    sde = posterior.sde
    require_start_density(sde)
    noise = Noise.of(seed)
    grid = sde.times(steps, None if spacing is None else as_spacing(spacing)).flip(0)
    start = sde.prior(x.shape, data_std(posterior) ** 2 if var is None else var)
    prior = sde.marginal(x, grid[-1]).kl(Gaussian(start.mean.to(x), start.std))
    with torch.no_grad():
        terms = [_path_terms(posterior, x, grid, noise.fold(k), levels) for k in range(repeats)]
    diffusion, reconstruction = (torch.stack(term) for term in zip(*terms, strict=True))
    totals = -(prior + diffusion + reconstruction)  # (1)
    return Bound(
        totals.mean(0),
        totals.std(0) / math.sqrt(repeats),
        cost=steps * repeats,
        prior=prior,
        diffusion=diffusion.mean(0),
        reconstruction=reconstruction.mean(0),
    )


def _path_terms(
    posterior: Posterior, x: Tensor, times: Tensor, noise: Noise, levels: Levels | None
) -> tuple[Tensor, Tensor]:
    """Return one draw of the diffusion and reconstruction terms of (1), from one noising path."""
    sde = posterior.sde
    first = times[1]

    def exact(t: Tensor, s: Tensor, x_t: Tensor, step: Step) -> Gaussian:
        return sde.posterior(step.x, x, t, s)

    def model(t: Tensor, s: Tensor, x_t: Tensor, step: Step) -> Gaussian:
        return sde.posterior(step.x, posterior(step.x, s), t, s)

    x_first = sde.marginal(x, first).draw(noise.fold(_FIRST_STATE).stream_like(x).normal())
    kl = KernelKL(exact, model)
    simulate(sde, x_first, times[1:], ForwardTransition(), noise.fold(_PATH), [kl])
    decoder = sde.posterior(x_first, posterior(x_first, first), times[0], first)
    return kl.value, -(
        decoder.log_prob(x) if levels is None else level_log_prob(decoder, x, levels)
    )


def level_log_prob(decoder: Gaussian, x: Tensor, levels: Levels) -> Tensor:
    """Return the log-probability of each sample's levels, a Gaussian's mass between midpoints.

    Args:
        decoder: the Gaussian, with mean ``(b, *event)``.
        x: values that are levels, ``(b, *event)``.
        levels: the lattice of levels; the cells of the lowest and the highest have no outer end.

    Returns:
        ``(b,)`` in nats, in the dtype of x.
    """
    std = decoder.std.expand_as(x).double()
    centred = (x - decoder.mean).double()
    half = levels.step / 2
    upper = (centred + half) / std
    lower = (centred - half) / std
    index = ((x - levels.low) / levels.step).round()
    upper = torch.where(index >= levels.count - 1, torch.inf, upper)
    lower = torch.where(index <= 0, -torch.inf, lower)
    flip = lower > 0  # compute in the tail where differences of probabilities keep their digits
    upper, lower = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    return sum_event(log_upper + torch.log1p(-(log_lower - log_upper).exp())).to(x.dtype)
