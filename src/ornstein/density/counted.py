"""Wrap a user's log-density: count its evaluations, and replace NaN and +inf by -inf.

`sample_density` evaluates the density through this wrapper only, so that the reported cost is what
the user's function was really asked.
"""

__all__ = ["CountedLogDensity", "LogDensity"]

from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.errors import OrnsteinError


@dataclass
class CountedLogDensity:
    """A log-density whose evaluations are counted, and whose bad values count as -inf.

    The user's function is called in the dtype that it takes: in float64, or, if it refuses that
    with an error, in float32 from then on. Values are returned in the dtype of x.

    Args:
        fn: the log-density ``(n, d) -> (n,)``, in nats.
        dim: d.

    Attributes:
        values: points at which the density was evaluated, with or without gradient.
        gradients: points at which its gradient was evaluated: counted when the gradient is
            computed, not when it could be.
        bad: points at which the value was NaN or +inf.
        dtype: the dtype in which it is called.
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
        """Return the user's log-density, computed in the precision that its function takes."""
        is_double = x.dtype == torch.float64
        try:
            return self.fn(x.to(self.dtype) if is_double else x)
        except RuntimeError as error:
            if "numpy()" in str(error):  # torch refuses to hand points with a gradient to NumPy
                raise OrnsteinError(
                    "the log-density calls NumPy, which loses its gradient: use"
                    " orn.from_numpy(fn, dim) with fn(x) -> (value, gradient)"
                ) from error
            if not is_double or self.dtype == torch.float32:
                raise
            value = self.fn(x.float())
            self.dtype = torch.float32
            return value

    def _count(self, gradient: Tensor) -> None:
        """Add the gradients of one backward pass to the count."""
        self.gradients += len(gradient)
