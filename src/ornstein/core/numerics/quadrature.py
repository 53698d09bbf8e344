"""Gauss-Legendre quadrature: integrals of smooth functions over an interval."""

__all__ = ["gauss_legendre"]

from functools import cache

import numpy as np
import torch
from torch import Tensor


@cache
def _rule(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes and weights of the Gauss-Legendre rule on [-1, 1]."""
    return np.polynomial.legendre.leggauss(n)


def gauss_legendre(n: int, low: float = -1.0, high: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return n nodes and weights with ``int_low^high f(x) dx ~ sum_i weights_i f(nodes_i)``.

    The rule is exact for polynomials of degree ``2 n - 1``. Both are float64. Abramowitz and Stegun
    1964, eq. 25.4.29 and 25.4.30.
    """
    nodes, weights = (torch.from_numpy(part.copy()) for part in _rule(n))
    if (low, high) == (-1.0, 1.0):
        return nodes, weights
    half = (high - low) / 2
    return low + half * (nodes + 1), half * weights
