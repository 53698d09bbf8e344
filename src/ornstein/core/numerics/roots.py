"""Roots of monotone functions by bisection."""

__all__ = ["bisect"]

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)


def bisect(
    root_is_above: Callable[[Number], Tensor | bool], low: Number, high: Number, steps: int
) -> tuple[Number, Number]:
    """Halve an interval ``steps`` times, each time to the half in which the root lies.

    Args:
        root_is_above: whether the root lies above a point; for tensors elementwise.
        low, high: ends of the interval, two floats or two tensors of one shape.
        steps: how often it is halved: 60 are enough for every digit of a double.

    Returns:
        The ends of the last interval. Their mean is the usual answer; one of them where the answer
        must lie on one side of the root.
    """
    for _ in range(steps):
        middle = (low + high) / 2
        above = root_is_above(middle)
        if isinstance(middle, Tensor):
            is_above = torch.as_tensor(above)
            low, high = torch.where(is_above, middle, low), torch.where(is_above, high, middle)
        elif above:
            low = middle
        else:
            high = middle
    return low, high
