"""Importance weights: effective sample size, Pareto tail index, and systematic resampling.

They tell how many independent draws a weighted sample is worth, and whether the mean of its weights
can be trusted. Notation: log-weights ``log w_i`` of n samples from a proposal. Their mean estimates
Z, with a relative variance that the effective sample size

    ESS = (sum_i w_i)^2 / sum_i w_i^2                                                            (1)

measures, if that variance exists. Whether it does is read off the largest weights: beyond a high
threshold u they follow a generalised Pareto law ``P(w - u > x) = (1 + k x / sigma)^(-1/k)``, which
has moments below 1 / k only.
"""

__all__ = ["ess", "ess_of_weights", "log_ess", "pareto_k", "require_two", "systematic_indices"]

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.tables import pick
from ornstein.errors import DataError, OrnsteinError


def require_two(log_w: Tensor) -> int:
    """Return the number of log-weights, of which a variance needs at least two.

    Raises:
        OrnsteinError: for fewer.
    """
    if len(log_w) < 2:
        raise OrnsteinError(f"{len(log_w)} log-weights: a variance needs at least two paths")
    return len(log_w)


def ess(log_w: Float[Tensor, " n"]) -> float:
    """Return the effective sample size ``(sum w)^2 / sum w^2`` of log-weights.

    It is between 1 and n; divide by n for the fraction. Kong 1992.

    Args:
        log_w: log-weights; -inf is a weight of 0.

    Raises:
        DataError: for NaN, +inf, or weights that are all 0.

    Example:
        >>> orn.metrics.ess(torch.zeros(5))
        5.0
    """
    w = _weights(log_w).exp()
    return float(w.sum().square() / w.square().sum())  # (1)


def pareto_k(log_w: Float[Tensor, " n"]) -> float:
    """Return the Pareto tail index k-hat of the weights, a diagnostic of importance sampling.

    Below 0.5 the variance of the weights is finite; above 0.7 averages cannot be trusted. A
    generalised Pareto law fitted to the ``M = min(n / 5, 3 sqrt(n))`` largest weights by the method
    of Zhang and Stephens 2009, then shrunk towards 0.5 as ``(M k + 5) / (M + 10)``. Vehtari,
    Simpson, Gelman, Yao and Gabry 2024 (PSIS).

    Args:
        log_w: log-weights; -inf is a weight of 0.

    Returns:
        k-hat; ``inf`` if fewer than 5 weights exceed the threshold, which is too few to tell; 0 if
        all are equal.

    Raises:
        DataError: for NaN, +inf, or weights that are all 0.

    Example:
        >>> orn.metrics.pareto_k(torch.zeros(100))
        0.0
    """
    logs = _weights(log_w).sort().values
    size = math.ceil(min(len(logs) / 5, 3 * math.sqrt(len(logs))))
    if size >= 5 and float(logs[0]) == 0:
        return 0.0
    w = logs.exp()
    excess = w[-size:] - w[-size - 1] if size >= 5 else w[:0]
    excess = excess[excess > 0]
    if len(excess) < 5:
        return math.inf
    return (len(excess) * _generalised_pareto(excess) + 5) / (len(excess) + 10)


def _weights(log_w: Tensor) -> Tensor:
    """Return ``log_w - max log_w`` in float64, or raise for weights that have no mean."""
    if log_w.ndim != 1 or not len(log_w):
        raise DataError(
            f"log_w has shape {tuple(log_w.shape)}: pass one log-weight per sample, (n,) with n"
            " >= 1"
        )
    if bool(log_w.isnan().any()) or not bool(log_w.max().isfinite()):
        raise DataError(
            f"log_w has {int(log_w.isnan().sum())} NaN among {len(log_w)} and maximum"
            f" {float(log_w.max())}: a weight may be 0 (-inf), but not all, and none may be"
            " infinite; look at log_prob where these samples are"
        )
    return log_w.double() - log_w.max().double()


def _generalised_pareto(x: Tensor) -> float:
    """Return the shape k of sorted positive values, a posterior mean over a grid.

    Zhang and Stephens 2009.
    """
    n = len(x)
    grid = 30 + int(math.sqrt(n))
    quartile = x[int(n / 4 + 0.5) - 1]
    steps = torch.arange(1, grid + 1, dtype=x.dtype, device=x.device)
    theta = 1 / x[-1] + (1 - (grid / (steps - 0.5)).sqrt()) / (3 * quartile)
    k = torch.log1p(-theta[:, None] * x).mean(1)
    log_likelihood = n * ((-theta / k).log() - k - 1)
    theta_hat = (log_likelihood.softmax(0) * theta).sum()
    return float(torch.log1p(-theta_hat * x).mean())


def log_ess(log_w: Tensor, dim: int = -1) -> Tensor:
    """Return the logarithm of the effective sample size over a dimension of log-weights.

    ``2 log sum w - log sum w^2``, for log-weights of any size; NaN where all weights are 0.
    """
    return 2 * log_w.logsumexp(dim) - (2 * log_w).logsumexp(dim)


def ess_of_weights(weights: Float[Tensor, " n"]) -> float:
    """Return the effective sample size ``1 / sum_i w_i^2`` of weights that add up to 1."""
    return 1 / float(weights.square().sum())


def systematic_indices(weights: Tensor, n: int, offset: Tensor) -> Tensor:
    """Return the n indices of a systematic resampling by normalised weights.

    They are those at which the running sum of the weights passes ``(i + offset) / n``. Sample i is
    taken ``n w_i`` times, rounded up or down. Kitagawa 1996.

    Args:
        weights: ``(..., m)``, normalised along the last dimension.
        n: how many are taken.
        offset: ``(..., 1)``, uniform in [0, 1).
    """
    points = (torch.arange(n, dtype=torch.float64) + offset) / n
    return pick(weights, points)
