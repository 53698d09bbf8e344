"""Probabilities on a lattice from a recurrence of three neighbours, with full relative accuracy.

The law of a random walk obeys, on each side of the origin, a recurrence of the form

    P_{j-1} = x_j P_j + y_j P_{j+1},    j = n .. 1,     x_j, y_j >= 0,                           (1)

from far out towards the origin. Only positive numbers are added, so the recurrence loses no digits
(backward recurrence; Gautschi 1967). Its values span many orders of magnitude; they are stored as
mantissas and powers of 2^300.
"""

__all__ = ["Coefficients", "two_sided_law"]

import math
from collections.abc import Callable

import torch
from torch import Tensor

_SCALE = 2.0**300  # exact in floating point, and far from overflow when multiplied by a mantissa

Coefficients = Callable[[float, float, Tensor], tuple[Tensor, Tensor]]
"""``(outward, inward, j) -> (x_j, y_j)`` of (1), from the rates that lead away from the origin and
back."""


def two_sided_law(n: int, left: float, right: float, coefficients: Coefficients) -> Tensor:
    """Return the probabilities of the sites ``-n .. n`` from the recurrences of both sides.

    The sides agree on P_0, or, where that is 0, on ``right P_{-1} = left P_1``. There is nothing on
    a side that no step leads to.

    Args:
        n: number of sites on each side.
        left, right: rates of steps to either side.
        coefficients: those of the recurrence of one side.
    """
    low, low_power = _inward(n if left else 0, lambda j: coefficients(left, right, j))
    high, high_power = _inward(n if right else 0, lambda j: coefficients(right, left, j))
    if left and right:
        common = 0 if low[0] > 0 else 1
        high, high_power = (
            high * low[common] / high[common],
            high_power + low_power[common] - high_power[common],
        )
        high = high * (right / left) if common else high
    values = torch.cat([low.flip(0), high[1:]] if left else [high])
    powers = torch.cat([low_power.flip(0), high_power[1:]] if left else [high_power])
    margins = (0 if left else n, 0 if right else n)
    values, powers = (torch.nn.functional.pad(v, margins) for v in (values, powers))
    powers = powers - powers[(values.log() / math.log(_SCALE) + powers).argmax()]
    law = (values.log() + powers * math.log(_SCALE)).exp()
    return law / law.sum()


def _inward(n: int, terms: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return ``P_0 .. P_n`` of (1) up to a common factor, with powers of 2^300 against overflow."""
    values = [1.0]
    powers = [0]
    outer = 0.0
    inner = 1.0
    power = 0
    x_terms, y_terms = (part.tolist() for part in terms(torch.arange(n, 0, -1).double()))
    for x, y in zip(x_terms, y_terms, strict=True):
        outer, inner = inner, x * inner + y * outer  # (1)
        largest = max(outer, inner)
        if largest > _SCALE:
            outer, inner, power = outer / _SCALE, inner / _SCALE, power + 1
        elif largest < 1 / _SCALE:
            outer, inner, power = outer * _SCALE, inner * _SCALE, power - 1
        values.append(inner)
        powers.append(power)
    values.reverse()
    powers.reverse()
    return torch.tensor(values, dtype=torch.float64), torch.tensor(powers, dtype=torch.float64)
