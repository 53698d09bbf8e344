"""Laws on the line by quadrature: the normaliser, expectations and quantiles of any density that
can be tabulated.

For a density ``rho`` on the line, tabulated at equidistant nodes ``u_i`` of step h between ends
where it has died out,

    Z = int rho  ~  h sum_i rho(u_i),      E[f] ~ sum_i f(u_i) rho(u_i) / sum_i rho(u_i),        (1)

the trapezoidal rule, whose error for a smooth density falls faster than any power of h (Trefethen
and Weideman 2014). The distribution function is its running sum; between nodes it is taken to be
linear, so a quantile is off by less than h.
"""

__all__ = ["Line"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.errors import OrnsteinError


@dataclass(frozen=True, eq=False)
class Line:
    """A density ``exp(log_density(u))`` on ``[low, high]``, unnormalised, that is negligible at
    both ends.

    Args:
        log_density: elementwise, called once with all nodes in float64.
        low, high: ends of the table.
        count: number of nodes.
    """

    log_density: Callable[[Tensor], Tensor]
    low: float
    high: float
    count: int = 1 << 15

    def __post_init__(self) -> None:
        if not self.low < self.high or self.count < 3:
            raise OrnsteinError(
                f"Line({self.low}, {self.high}, {self.count}): needs low < high and at least 3"
                " nodes"
            )

    @cached_property
    def nodes(self) -> Float[Tensor, " n"]:
        """The equidistant nodes, float64."""
        return torch.linspace(self.low, self.high, self.count, dtype=torch.float64)

    @cached_property
    def _logs(self) -> Tensor:
        return self.log_density(self.nodes)

    @cached_property
    def log_z(self) -> float:
        """``log int exp(log_density)`` by (1)."""
        step = (self.high - self.low) / (self.count - 1)
        return float(self._logs.logsumexp(0)) + math.log(step)  # (1)

    def mean(self, values: Float[Tensor, "n *event"]) -> Float[Tensor, "*event"]:
        """The expectation (1) of a function given by its ``values`` at the `nodes`."""
        return torch.tensordot(self._logs.softmax(0), values, dims=1)  # (1)

    def quantile(self, u: Tensor) -> Tensor:
        """The point below which the probability is u, for u in [0, 1): uniform numbers become exact
        samples."""
        mass = self._logs.softmax(0)
        cdf = torch.cat([mass.new_zeros(1), ((mass[1:] + mass[:-1]) / 2).cumsum(0)])
        level = u.double() * cdf[-1]
        left = (torch.searchsorted(cdf, level, right=True) - 1).clamp(0, self.count - 2)
        part = ((level - cdf[left]) / (cdf[left + 1] - cdf[left])).clamp(0, 1)
        return torch.lerp(self.nodes[left], self.nodes[left + 1], part)
