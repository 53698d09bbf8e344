"""Look-up in sorted tables: the cell of a value, linear interpolation, and draws from a table of
probabilities."""

__all__ = ["cell", "interpolate", "pick"]

import torch
from torch import Tensor


def cell(knots: Tensor, x: Tensor) -> Tensor:
    """Index k of the cell ``[knots_k, knots_{k+1})`` that holds each x; the first or last cell for
    values beyond the ends.

    Args:
        knots: ``(..., n)``, increasing along the last dimension.
        x: values; of the leading shape of ``knots`` where that has one.
    """
    return (torch.searchsorted(knots, x, right=True) - 1).clamp(0, knots.shape[-1] - 2)


def interpolate(knots: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """The piecewise linear function through ``(knots_k, values_k)`` at x; constant beyond the ends.

    Args:
        knots: ``(n,)``, increasing.
        values: ``(n,)``.
        x: any shape.
    """
    k = cell(knots, x)
    part = ((x - knots[k]) / (knots[k + 1] - knots[k])).clamp(0, 1)
    return torch.lerp(values[k], values[k + 1], part)


def pick(probabilities: Tensor, u: Tensor) -> Tensor:
    """Index ``i`` with probability ``probabilities_i``, from uniform numbers u in [0, 1): the
    inverse of the distribution function.

    Args:
        probabilities: ``(..., n)``, normalised along the last dimension.
        u: of the leading shape of ``probabilities`` and any last dimension.
    """
    last = probabilities.shape[-1] - 1
    return torch.searchsorted(probabilities.cumsum(-1), u).clamp(max=last)
