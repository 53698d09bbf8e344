"""The list of calls whose numbers `benchmarks.numbers` records, and what several of them share."""

__all__ = ["CALLS", "F64", "Numbers", "call", "mixture", "plain_log_prob"]

from collections.abc import Callable

import torch
from torch import Tensor

import ornstein as orn

F64 = torch.float64
Numbers = dict[str, Tensor | float | int]
CALLS: dict[str, Callable[[], Numbers]] = {}


def call(name: str) -> Callable[[Callable[[], Numbers]], Callable[[], Numbers]]:
    """Register a function without arguments under a plain name.

    Raises:
        ValueError: if the name is taken.
    """

    def register(function: Callable[[], Numbers]) -> Callable[[], Numbers]:
        if name in CALLS:
            raise ValueError(f"two calls are named {name!r}")
        CALLS[name] = function
        return function

    return register


def mixture() -> orn.targets.GaussianMixture:
    """Three Gaussians in the plane: the data of most calls, whose posterior is known exactly."""
    means = torch.tensor([[-2.0, 0.5], [1.5, -1.0], [0.5, 2.0]])
    stds = torch.tensor([[0.4, 0.6], [0.7, 0.3], [0.5, 0.5]])
    return orn.targets.GaussianMixture(means, stds, torch.tensor([0.3, 0.5, 0.2]))


def plain_log_prob(z: Tensor) -> Tensor:
    """An unnormalised log-density in the plane with two modes, ``(n, 2) -> (n,)``."""
    x, y = z.T
    return -((x**2 - 2) ** 2) - (y - x) ** 2 / 2
