"""Look-up in sorted tables: cells, linear interpolation, quantiles, and draws of an index."""

__all__ = ["cell", "interpolate", "pick", "quantile"]

import torch
from torch import Tensor


def cell(knots: Tensor, x: Tensor) -> Tensor:
    """Return the index k of the cell ``[knots_k, knots_{k+1})`` in which each x lies.

    Values beyond the ends get the first or the last cell.

    Args:
        knots: ``(..., n)``, increasing along the last dimension.
        x: values; of the leading shape of ``knots`` where that has one.
    """
    return (torch.searchsorted(knots, x, right=True) - 1).clamp(0, knots.shape[-1] - 2)


def interpolate(knots: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """Return the piecewise linear function through ``(knots_k, values_k)`` at x.

    It is constant beyond the ends.

    Args:
        knots: ``(n,)``, increasing; or ``(b, n)``, one row of knots for each row of x.
        values: ``(n,)``.
        x: any shape; ``(b, m)`` for rows of knots.
    """
    k = cell(knots, x)
    if knots.ndim == 1:
        below, above = knots[k], knots[k + 1]
    else:
        below, above = knots.gather(-1, k), knots.gather(-1, k + 1)
    part = ((x - below) / (above - below)).clamp(0, 1)
    return torch.lerp(values[k], values[k + 1], part)


def quantile(nodes: Tensor, mass: Tensor, u: Tensor) -> Tensor:
    """Return the quantiles of laws on the line, from probabilities at equidistant nodes.

    The distribution function is the trapezoidal sum of the probabilities, linear between nodes.

    Args:
        nodes: ``(n,)``, increasing.
        mass: ``(n,)``, or ``(b, n)`` for b laws; probabilities at the nodes.
        u: uniform numbers in [0, 1), of any shape, or ``(b, m)`` for b laws.
    """
    pairs = (mass[..., 1:] + mass[..., :-1]) / 2
    cdf = torch.cat([torch.zeros_like(mass[..., :1]), pairs.cumsum(-1)], -1)
    total = cdf[-1] if cdf.ndim == 1 else cdf[:, -1:]
    return interpolate(cdf, nodes, u * total)


def pick(probabilities: Tensor, u: Tensor) -> Tensor:
    """Return the index ``i`` with probability ``probabilities_i``, from uniform numbers.

    The inverse of the distribution function at u in [0, 1).

    Args:
        probabilities: ``(..., n)``, normalised along the last dimension.
        u: of the leading shape of ``probabilities`` and any last dimension.
    """
    last = probabilities.shape[-1] - 1
    return torch.searchsorted(probabilities.cumsum(-1), u).clamp(max=last)
