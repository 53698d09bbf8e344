"""Averages over a density from weighted particles, with their standard errors.

In K independent islands of particles with weights w, E[f] is a ratio of two means, and its error by
the delta method

    m = sum_k A_k / sum_k B_k,      A_k = sum_{i in k} w_i f(x_i),      B_k = sum_{i in k} w_i,  (1)

    se^2 = K / (K - 1)  sum_k (A_k - m B_k)^2 / (sum_k B_k)^2,                                   (2)

whatever happens within an island. Independent sets of particles count in proportion to their
effective sizes, as in the samples.
"""

__all__ = ["Particles", "PosteriorMean", "average"]

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.errors import OrnsteinError


class Particles(NamedTuple):
    """Weighted particles in independent islands of equal size, one after another.

    Attributes:
        x: ``(n, d)``.
        log_w: ``(n,)``, some of them finite.
        islands: how many, at least two; independent particles may be divided into as many as one
            likes.
    """

    x: Float[Tensor, "n d"]
    log_w: Float[Tensor, " n"]
    islands: int

    @property
    def shares(self) -> Float[Tensor, " n"]:
        """Logarithms of the normalised weights times the effective size ``(sum w)^2 / sum w^2``."""
        log_w = self.log_w.double()
        w = log_w - log_w.logsumexp(0)
        return w - (2 * w).logsumexp(0)


class PosteriorMean(NamedTuple):
    """A mean under the density.

    Attributes:
        value: ``(*shape)``.
        stderr: standard error of each entry, from the spread of islands.
    """

    value: Tensor
    stderr: Tensor


def average(sets: Sequence[Particles], f: Callable[[Tensor], Tensor]) -> PosteriorMean:
    """``E[f(x)]`` by (1) and (2) from independent sets of particles.

    Args:
        sets: at least one.
        f: ``(m, d) -> (m, *shape)``; called once for each set, with its particles of positive
            weight.

    Raises:
        OrnsteinError: if f does not return a row for each particle.
    """
    value = variance = torch.zeros((), dtype=torch.float64)
    sizes = torch.stack([part.shares.logsumexp(0).exp() for part in sets])
    for part, share in zip(sets, sizes / sizes.sum(), strict=True):
        mean, squared = _mean(part, f)
        value, variance = value + share * mean, variance + share.square() * squared
    return PosteriorMean(value, variance.sqrt())


def _mean(part: Particles, f: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """m and the square of its error."""
    n, k = len(part.x), part.islands
    alive = part.log_w > -torch.inf
    found = f(part.x[alive])
    if found.shape[:1] != (int(alive.sum()),):
        raise OrnsteinError(
            f"average: f returned {tuple(found.shape)} for {int(alive.sum())} points, need a row"
            " for each"
        )
    w, island = torch.softmax(part.log_w[alive].double(), 0), (torch.arange(n) * k // n)[alive]
    rows = w[:, None] * found.double().reshape(len(w), -1)
    total = torch.zeros(k, rows.shape[1], dtype=rows.dtype).index_add(0, island, rows)  # A
    weight = torch.zeros(k, dtype=w.dtype).index_add(0, island, w)  # B, which add up to 1
    mean = total.sum(0)
    square = (total - mean * weight[:, None]).square().sum(0) * k / (k - 1)
    return mean.reshape(found.shape[1:]), square.reshape(found.shape[1:])
