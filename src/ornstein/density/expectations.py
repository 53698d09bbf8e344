"""Estimate averages over a density from weighted particles, with their standard errors.

In K independent groups of particles with weights w, E[f] is a ratio of two means, and its error by
the delta method

    m = sum_k A_k / sum_k B_k,      A_k = sum_{i in k} w_i f(x_i),      B_k = sum_{i in k} w_i,  (1)

    se^2 = K / (K - 1)  sum_k (A_k - m B_k)^2 / (sum_k B_k)^2,                                   (2)

whatever happens within a group. Independent sets of particles count in proportion to their
effective sizes, as they do among the samples of `DensityResult`, whose method ``average`` is this.
"""

__all__ = ["PosteriorMean", "average", "log_size_weights"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.estimate import Estimate
from ornstein.core.random.weighted_sample import WeightedSample
from ornstein.errors import OrnsteinError


@dataclass(frozen=True, eq=False)
class PosteriorMean(Estimate):
    """A mean ``E[f(x)]`` under a density: value and standard error are tensors of the shape of f.

    The error comes from the spread between independent groups of particles.
    """


def log_size_weights(particles: WeightedSample) -> Float[Tensor, " n"]:
    """Return the log of the normalised weights times the effective sample size, ``(n,)``.

    With weights w, that is ``log(w / sum w) + log((sum w)^2 / sum w^2)``: several sets of particles
    with these weights count in proportion to their effective sizes.
    """
    log_w = particles.log_w.double()
    normalised = log_w - log_w.logsumexp(0)
    return normalised - (2 * normalised).logsumexp(0)


def average(sets: Sequence[WeightedSample], f: Callable[[Tensor], Tensor]) -> PosteriorMean:
    """Estimate ``E[f(x)]`` from independent sets of weighted particles.

    Within a set the estimate is ``sum_i w_i f(x_i) / sum_i w_i``, and its error comes from the
    spread of the independent groups; sets count by their effective sizes.

    Args:
        sets: at least one; each in two or more independent groups.
        f: ``(m, d) -> (m, *shape)``; called once for each set, with its particles of positive
            weight.

    Raises:
        OrnsteinError: if f does not return a row for each particle.
    """
    value = torch.zeros((), dtype=torch.float64)
    variance = torch.zeros((), dtype=torch.float64)
    sizes = torch.stack([log_size_weights(particles).logsumexp(0).exp() for particles in sets])
    for particles, fraction in zip(sets, sizes / sizes.sum(), strict=True):
        mean, squared_error = _ratio_of_means(particles, f)
        value = value + fraction * mean
        variance = variance + fraction.square() * squared_error
    return PosteriorMean(value, variance.sqrt())


def _ratio_of_means(
    particles: WeightedSample, f: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the weighted mean (1) of f and the square (2) of its standard error."""
    n = len(particles)
    groups = particles.independent_groups
    finite = particles.log_w > -torch.inf
    w = torch.softmax(particles.log_w[finite].double(), 0)
    positive = w > 0  # 0 times an overflow of f would be NaN
    w = w[positive]
    values = f(particles.x[finite][positive])
    if values.shape[:1] != w.shape:
        raise OrnsteinError(
            f"average: f returned {tuple(values.shape)} for {len(w)} points, need a row for each"
        )
    group = (torch.arange(n) * groups // n)[finite][positive]
    rows = w[:, None] * values.double().reshape(len(w), -1)
    a = torch.zeros(groups, rows.shape[1], dtype=rows.dtype).index_add(0, group, rows)
    b = torch.zeros(groups, dtype=w.dtype).index_add(0, group, w)  # adds up to 1
    mean = a.sum(0)  # (1)
    squared = (a - mean * b[:, None]).square().sum(0) * groups / (groups - 1)  # (2)
    return mean.reshape(values.shape[1:]), squared.reshape(values.shape[1:])
