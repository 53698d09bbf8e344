"""Build the start distribution of tempering: a mixture that covers the modes of a density.

The mixture has Laplace's Gaussian at each mode (where the modes can be counted), a Gaussian and a
Student distribution over all modes, and isotropic Student distributions at the best scales. So it
covers the density before it fits. The weights w of its components are then fitted by population
Monte Carlo (Cappe et al. 2008),

    w_k <- E_rho[ P(k | x) ],                                                                    (1)

where P(k | x) is the probability that the mixture drew x from component k. The expectation is
estimated by importance sampling from the mixture, with weights tempered so that the effective
sample size is half of the number of draws.
"""

__all__ = ["Modes", "start_mixture", "temper"]

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.numerics.covariance import covariance_factor
from ornstein.core.numerics.importance import ess_of_weights
from ornstein.core.numerics.roots import bisect
from ornstein.core.random.noise import Noise
from ornstein.density.proposals.mixture import Mixture

_COVER = 0.05  # smallest weight of the Student distribution over all modes
_HEAVY = 4.0  # degrees of freedom of the wide distributions
_WIDE = 5  # number of wide distributions
_OVER_ALL = -4  # place of the Student distribution over all modes among the components
_USELESS = 1e-3  # weight, times the number of components, below which a component is dropped
_RIDGE = 1e-12  # added to variances, relative to the mean variance
_ROUNDS = 4  # rounds of population Monte Carlo
_DRAWS = 2048  # draws in each round
_ESS_FRACTION = 0.5  # effective draws per draw after tempering the weights
_BISECTIONS = 30  # bisections for the exponent of tempered weights: precise to 1e-9


class Modes(NamedTuple):
    """Distinct modes with Laplace's approximation at each, and all ends of ascents.

    Attributes:
        x: ``(m, d)``, the modes.
        factors: ``(m, d, d)``, factors of Laplace's covariances.
        log_masses: ``(m,)``, logarithms of Laplace's masses.
        counts: ``(m,)``, ascents that ended at each mode.
        ends: ``(n, d)``, where all ascents ended.
        countable: whether every end belongs to a mode.
    """

    x: Float[Tensor, "m d"]
    factors: Float[Tensor, "m d d"]
    log_masses: Float[Tensor, " m"]
    counts: Int[Tensor, " m"]
    ends: Float[Tensor, "n d"]
    countable: bool = True

    @classmethod
    def none(cls, dim: int) -> "Modes":
        """Return the empty set of modes in d dimensions."""
        empty = torch.zeros(0, dim, dtype=torch.float64)
        factors = torch.zeros(0, dim, dim, dtype=torch.float64)
        return cls(empty, factors, empty[:, 0], torch.zeros(0, dtype=torch.long), empty)


def start_mixture(
    target: LogDensity, modes: Modes, centre: Float[Tensor, " d"], scale: float, noise: Noise
) -> Mixture:
    """Return a normalised mixture that covers the modes, with weights fitted to the density.

    Args:
        target: log rho, ``(n, d) -> (n,)``.
        modes: at least one mode.
        centre: ``(d,)``, centre of the isotropic components.
        scale: smallest standard deviation of the isotropic components.
        noise: source of randomness.
    """
    return _fit_weights(target, _covering_mixture(modes, centre, scale), noise)


def _covering_mixture(modes: Modes, centre: Tensor, scale: float) -> Mixture:
    """Return a mixture, half of Laplace's Gaussians at the modes and half of wide distributions."""
    d = len(centre)
    eye = torch.eye(d, dtype=centre.dtype)
    weights = torch.softmax(modes.log_masses, 0)
    flattened = (weights + 1 / len(weights)) / 2
    within = torch.einsum("k,kij,klj->il", flattened, modes.factors, modes.factors)
    middle = modes.ends.mean(0)
    if modes.countable:
        middle = (middle + weights @ modes.x) / 2
    whole = _joint_factor(within, modes.ends - middle)
    means = torch.stack([middle, middle, centre, centre, centre])
    factors = torch.stack(
        [whole * 1.1, whole * 1.5, eye * scale, eye * scale * 3, eye * scale * 10]
    )
    df = torch.tensor([torch.inf, *[_HEAVY] * (_WIDE - 1)], dtype=centre.dtype)
    wide = Mixture(torch.ones(_WIDE, dtype=centre.dtype), means, factors, df)
    if not modes.countable:
        return wide
    return Mixture(
        torch.cat([weights + 0.1 / len(weights), wide.weights / _WIDE]),
        torch.cat([modes.x, means]),
        torch.cat([modes.factors, factors]),
        torch.cat([torch.full_like(weights, torch.inf), df]),
    )


def _joint_factor(within: Tensor, deviations: Tensor) -> Tensor:
    """Return a Cholesky factor of the covariance within modes plus that between them."""
    eye = torch.eye(len(within), dtype=within.dtype)
    between = deviations.mT @ deviations / len(deviations)
    return covariance_factor(within + between + _RIDGE * within.diagonal().mean() * eye)


def _fit_weights(target: LogDensity, law: Mixture, noise: Noise) -> Mixture:
    """Fit the component weights by equation (1), and drop the components of no use."""
    cover = torch.zeros_like(law.weights)
    cover[_OVER_ALL] = _COVER
    for k in range(_ROUNDS):
        x = law.draw(_DRAWS, noise.fold(k))
        joint = law.components(x)
        with torch.no_grad():
            log_w = target(x) - joint.logsumexp(1)
        if not bool(log_w.isfinite().any()):
            break
        weights = temper(log_w, _ESS_FRACTION) @ torch.softmax(joint, 1)  # (1)
        useful = (cover > 0) | (weights > _USELESS / len(weights))
        law = law.reweighted(torch.where(useful, (1 - _COVER) * weights + cover, 0.0))
        cover = cover[useful]
    return law


def temper(log_w: Float[Tensor, " n"], ess_fraction: float) -> Float[Tensor, " n"]:
    """Flatten weights: return ``w^b / sum w^b``, b <= 1 largest for an effective fraction.

    Args:
        log_w: ``(n,)``, log-weights; -inf is a weight of 0.
        ess_fraction: smallest effective sample size over n, in (0, 1).
    """

    def weights(b: float) -> Tensor:
        return torch.softmax(torch.where(log_w > -torch.inf, b * log_w, -torch.inf), 0)

    def even_enough(b: float) -> bool:
        return ess_of_weights(weights(b)) >= ess_fraction * len(log_w)

    if even_enough(1.0):
        return weights(1.0)
    low, _ = bisect(even_enough, 0.0, 1.0, _BISECTIONS)
    return weights(low)
