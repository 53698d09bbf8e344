"""Adaptive importance sampling: repair a proposal by adding Gaussians where it is too thin.

A proposal q for an unnormalised target rho gives each draw x the importance weight rho(x) / q(x). A
weight far above the mean weight Z marks a region that q undersamples: a mode, a corner, the narrow
part of a funnel. Incremental mixture importance sampling (Raftery and Bao 2010) adds a Gaussian
there; in this library it is fitted to the ends of short Markov chains from that point, where the
paper takes the nearest draws. The mixture weights are then estimated anew by population Monte Carlo
(Cappe et al. 2008):

    pi_k  <-  E_rho[pi_k q_k(x) / q(x)],        q = sum_k pi_k q_k.                              (1)

This is repeated until no weight is far above the mean.
"""

__all__ = ["refine_proposal"]

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.random.noise import Noise
from ornstein.core.random.weighted_sample import WeightedSample
from ornstein.density.proposals.mixture import DefensiveMixture, Mixture
from ornstein.density.smc.particles import StartLaw
from ornstein.density.smc.short_chains import run_short_chains, wider_normal
from ornstein.density.smc.tempered_smc import importance_sample

_LARGE = 2.0  # nats above the mean weight at which a point marks an undersampled region
_MIN_WEIGHT = 0.003  # smallest mixture weight of a component
_NEW_WEIGHT = 0.03  # mixture weight of a new Gaussian before it is fitted
_MAX_NEW = 4  # largest number of new Gaussians in one round
_MAX_POINTS = 64  # points of large weight that are examined in one round
_WEIGHT_STEPS = 20  # iterations of (1)
_DRAW, _EXPLORE = 0, 1  # keys of random numbers


def refine_proposal(
    target: LogDensity,
    law: StartLaw,
    n: int,
    noise: Noise,
    extra: Float[Tensor, "m d"] | None = None,
    rounds: int = 12,
) -> StartLaw:
    """Add Gaussians to a proposal where its importance weights are far above their mean.

    Args:
        target: the unnormalised log-density, differentiable.
        law: the proposal, normalised.
        n: draws that are weighted in each round.
        noise: source of randomness.
        extra: ``(m, d)``, points from elsewhere that are weighted too in the first round, such as
            particles that tempering has moved. In later rounds the ends of the chains take their
            place.
        rounds: largest number of rounds.

    Returns:
        The refined proposal; one with even weights is returned unchanged, as one component.
    """
    law = law if isinstance(law, DefensiveMixture) else DefensiveMixture((law,), (1.0,))
    for k in range(rounds):
        sample = importance_sample(target, law, n, 1, noise.fold(_DRAW, k))
        x, log_w = sample.x, sample.log_w
        if extra is not None and len(extra):
            with torch.no_grad():
                log_w = torch.cat([log_w, target(extra) - law.log_prob(extra)])
            x = torch.cat([x, extra])
        log_w = log_w - sample.log_z.value
        new, extra = _new_gaussians(target, x, log_w, noise.fold(_EXPLORE, k))
        if not new and k == 0:
            break
        law = _fit_weights(law, sample)
        if not new:
            break
        scale = 1 - _NEW_WEIGHT * len(new)
        law = DefensiveMixture(
            (*law.laws, *(_as_mixture(normal) for normal in new)),
            (*(scale * weight for weight in law.weights), *[_NEW_WEIGHT] * len(new)),
        )
    return law


def _new_gaussians(
    target: LogDensity, x: Tensor, log_w: Tensor, noise: Noise
) -> tuple[list[Normal], Tensor]:
    """Fit Gaussians around the points of the largest weights; return the ends of the chains too."""
    new = list[Normal]()
    ends = [x[:0]]
    chains = min(1024, max(256, 16 * x.shape[1]))
    for i in log_w.argsort(descending=True)[:_MAX_POINTS].tolist():
        if log_w[i] < _LARGE or len(new) == _MAX_NEW:
            break
        if not any(_typical(normal, x[i]) for normal in new):
            ends.append(run_short_chains(target, x[i], noise.fold(i), chains))
            new.append(wider_normal(ends[-1]))
    return new, torch.cat(ends)


def _as_mixture(normal: Normal) -> Mixture:
    """Return a Gaussian as a mixture of one component."""
    return Mixture(torch.ones(1).double(), normal.mean[None], normal.factor[None])


def _fit_weights(law: DefensiveMixture, sample: WeightedSample) -> DefensiveMixture:
    """Estimate the mixture weights by (1) from weighted draws, none below about `_MIN_WEIGHT`."""
    joint = torch.stack([part.log_prob(sample.x) for part in law.laws], 1).double()
    weights = torch.tensor(law.weights, dtype=torch.float64)
    w = torch.softmax(sample.log_w, 0)
    for _ in range(_WEIGHT_STEPS):
        weights = w @ torch.softmax(joint + weights.log(), 1)  # (1)
        weights = (weights + _MIN_WEIGHT) / (1 + _MIN_WEIGHT * len(weights))
    return DefensiveMixture(law.laws, tuple(weights.tolist()))


def _typical(normal: Normal, x: Tensor) -> bool:
    """Return whether a point is as near to a Gaussian's mean as nearly all of its draws.

    Their squared Mahalanobis distance is chi-squared with d degrees of freedom; the limit is four
    standard deviations above its mean d.
    """
    d = len(x)
    distance = normal.whiten(x[None]).square().sum()
    return float(distance) < d + 4 * (2 * d) ** 0.5
