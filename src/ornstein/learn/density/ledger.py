"""The user's log-density, with its calls counted and its bad values made -inf."""

__all__ = ["Ledger", "LogDensity"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.errors import OrnsteinError

LogDensity = Callable[[Tensor], Tensor]
"""``(n, d) -> (n,)``, in nats, -inf outside the support."""


@dataclass
class Ledger:
    """The user's density with its calls counted and its bad values made -inf (and counted)."""

    fn: LogDensity
    dim: int
    points: int = 0
    bad: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        value = self.fn(x)
        if not isinstance(value, Tensor) or value.shape != (len(x),):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise OrnsteinError(
                f"log_prob of a ({len(x)}, {self.dim}) batch returned {got}, need ({len(x)},): wrap a one-point function in torch.vmap"
            )
        self.points += len(x)
        bad = torch.isnan(value) | (value == torch.inf)
        self.bad += int(bad.sum())
        return torch.where(bad, -torch.inf, value)
