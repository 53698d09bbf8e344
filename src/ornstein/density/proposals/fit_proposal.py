"""Fit a proposal to weighted particles: Gaussian mixtures and triangular maps, made defensive.

A proposal q for the target rho is good if the importance weights ``rho / q`` are even. Each family
of distributions is fitted to four fifths of the particles, and the fits are compared on the
remaining fifth, which are equally weighted draws of rho: the best has the smallest

    E_rho[rho / q]  =  E_q[(rho / q)^2],                                                         (1)

the second moment of its weights. The best mixture and the best triangular map then form one
defensive mixture (Hesterberg 1995), whose wide components keep the weights bounded where the others
are too thin.
"""

__all__ = ["FIT_POINTS", "fit_proposal"]

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.random.noise import Noise
from ornstein.core.random.weighted_sample import WeightedSample
from ornstein.density.proposals.mixture import DefensiveMixture, Mixture, fit_mixture
from ornstein.density.proposals.triangular import (
    Triangular,
    fit_triangular,
    independent,
    with_mixtures,
    with_tails,
)
from ornstein.density.smc.particles import StartLaw

FIT_POINTS = 16384
"""Number of effective draws that a fit to weighted draws of a proposal asks for."""
_COUNT_POINTS = 4096  # points by which the number of Gaussians is chosen
_ORDER_POINTS = 1024  # points by which the order of a triangular map is chosen
_ORDER_STEPS = 10  # iterations of the fits that choose the order
_MAX_TRIANGULAR_DIM = 100  # dimensions up to which a triangular map is fitted
_RIDGE = 0.3  # penalty of the nonlinear coefficients of maps that are nearly linear
_COMPONENTS = (2, 4, 8, 16, 32, 64)  # numbers of Gaussians that are tried
_BETTER = 0.01  # nats by which a larger mixture has to score better
_DEFENCE = 0.1  # mixture weight of the wide components
_USEFUL = 0.02  # mixture weight below which a component is not worth its evaluation
_WEIGHT_STEPS = 50  # iterations of expectation maximisation for the weights

Score = Callable[[StartLaw], float]
"""Minus the logarithm of (1) up to a constant, on particles that no fit has seen."""


def fit_proposal(
    target: LogDensity,
    sample: WeightedSample,
    modes: Float[Tensor, "m d"] | None,
    noise: Noise,
) -> DefensiveMixture:
    """Fit a mixture of Gaussians and a triangular map to weighted particles of the target.

    Args:
        target: log rho, ``(n, d) -> (n,)``.
        sample: the particles.
        modes: ``(m, d)``, means at which a mixture may start; None if they cannot be counted.
        noise: source of randomness.

    Returns:
        The fitted distributions with positive weights, then wide Student distributions.
    """
    x = sample.resample(min(len(sample), FIT_POINTS), noise.fold(0)).double()
    test = x[: len(x) // 5]
    x = x[len(x) // 5 :]
    with torch.no_grad():
        log_rho = target(test)

    def score(law: StartLaw) -> float:
        log_spread = float((log_rho - law.log_prob(test)).logsumexp(0))
        return -math.inf if math.isnan(log_spread) else -log_spread  # (1)

    single = fit_mixture(x, 1, noise)
    d = x.shape[1]
    laws = list[StartLaw]([_best_mixture(x, single, modes, score, noise)])
    student = Mixture(
        torch.ones(1).double(),
        single.means,
        1.5 * single.factors,
        torch.full((1,), 4.0).double(),
    )
    wide = list[StartLaw]([student])
    if 1 < d <= _MAX_TRIANGULAR_DIM:
        triangular = _best_triangular(x, score)
        laws.append(with_tails(triangular, 0.1 / d))
        wide.append(with_tails(triangular, 1 / d))
    return _defensive(laws, wide, test)


def _best_mixture(
    x: Tensor, single: Mixture, modes: Tensor | None, score: Score, noise: Noise
) -> Mixture:
    """Return the mixture whose number of Gaussians scores best, or one Gaussian at each mode."""
    part = x[:_COUNT_POINTS]
    best = single
    best_score = score(single)
    failures = 0
    for k in _COMPONENTS:
        if len(part) < 4 * k * (x.shape[1] + 2) ** 0.5 or failures == 2:
            break
        law = fit_mixture(part, k, noise.fold(1, k))
        law_score = score(law)
        if law_score > best_score + _BETTER:
            best = law
            best_score = law_score
            failures = 0
        else:
            failures += 1
    if modes is not None and len(modes) > 1:
        law = fit_mixture(part, len(modes), noise, means=modes)
        best = law if score(law) > best_score else best
    if len(x) == len(part):
        return best
    return fit_mixture(x, len(best.means), noise, means=best.means)


def _best_triangular(x: Tensor, score: Score) -> Triangular:
    """Return the triangular map whose order, penalty and base distribution score best."""
    ascending = torch.arange(x.shape[1])

    def score_of_order(order: Tensor) -> float:
        return score(fit_triangular(x[:_ORDER_POINTS], order, _RIDGE, _ORDER_STEPS))

    order = max((ascending, ascending.flip(0)), key=score_of_order)
    normal = max((fit_triangular(x, order, ridge) for ridge in (0.0, _RIDGE)), key=score)
    mixed = (with_mixtures(law, x) for law in (normal, independent(x)))
    return max((normal, *mixed), key=score)


def _defensive(laws: list[StartLaw], wide: list[StartLaw], test: Tensor) -> DefensiveMixture:
    """Mix the fits by expectation maximisation on test points, largest first, with wide ones."""
    joint = torch.stack([law.log_prob(test) for law in laws], 1)
    weights = torch.full((len(laws),), 1 / len(laws), dtype=joint.dtype)
    for _ in range(_WEIGHT_STEPS):
        weights = torch.softmax(joint + weights.log(), 1).mean(0)
    order = weights.argsort(descending=True).tolist()
    useful = [j for j in order if weights[j] >= _USEFUL]
    if not useful:  # no fit has a density at the test points: the target has no such shape
        return DefensiveMixture(tuple(wide), (1 / len(wide),) * len(wide))
    factor = (1 - _DEFENCE) / float(weights[useful].sum())
    fitted = [factor * float(weights[j]) for j in useful]
    return DefensiveMixture(
        (*(laws[j] for j in useful), *wide), (*fitted, *[_DEFENCE / len(wide)] * len(wide))
    )
