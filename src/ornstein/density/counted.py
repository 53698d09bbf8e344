"""The user's log-density, with its calls counted and its bad values made -inf."""

__all__ = ["CountedLogDensity", "LogDensity"]

from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.errors import OrnsteinError


@dataclass
class CountedLogDensity:
    """The user's density with its calls counted and its bad values made -inf (and counted).

    It is called in the dtype that it takes: in float64, or, if it refuses that with an error, in
    float32 from then on. Values come back in the dtype of x.

    Args:
        fn: the log-density.
        dim: d.

    Attributes:
        values: points at which the density was evaluated, with or without gradient.
        gradients: points at which its gradient was: counted when the gradient is computed, not when
            it could be.
        bad: points where it was NaN or +inf.
        dtype: that in which it is called.
    """

    fn: LogDensity
    dim: int
    values: int = 0
    gradients: int = 0
    bad: int = 0
    dtype: torch.dtype = torch.float64

    def __call__(self, x: Tensor) -> Tensor:
        value = self._call(x)
        if not isinstance(value, Tensor) or value.shape != (len(x),):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise OrnsteinError(
                f"log_prob of a ({len(x)}, {self.dim}) batch returned {got}, need ({len(x)},): wrap"
                " a one-point function in torch.vmap"
            )
        self.values += len(x)
        bad = torch.isnan(value) | (value == torch.inf)
        self.bad += int(bad.sum())
        value = torch.where(bad, -torch.inf, value.to(x.dtype))
        if value.requires_grad:
            value.register_hook(self._count)
        return value

    def _call(self, x: Tensor) -> Tensor:
        wide = x.dtype == torch.float64
        try:
            return self.fn(x.to(self.dtype) if wide else x)
        except RuntimeError:
            if not wide or self.dtype == torch.float32:
                raise
            value = self.fn(x.float())
            self.dtype = torch.float32
            return value

    def _count(self, gradient: Tensor) -> None:
        self.gradients += len(gradient)
