"""One-dimensional distributions by quadrature: normaliser, expectations and quantiles of a table.

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

from ornstein.core.numerics.tables import quantile
from ornstein.errors import OrnsteinError


@dataclass(frozen=True, eq=False)
class Line:
    """An unnormalised density ``exp(log_density(u))`` on ``[low, high]``, negligible at both ends.

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
        """The equidistant nodes of the table, float64."""
        return torch.linspace(self.low, self.high, self.count, dtype=torch.float64)

    @cached_property
    def _logs(self) -> Tensor:
        """The log-density at the nodes of the table."""
        return self.log_density(self.nodes)

    @cached_property
    def log_z(self) -> float:
        """The log-normaliser ``log int exp(log_density)``, by the trapezoidal rule."""
        step = (self.high - self.low) / (self.count - 1)
        return float(self._logs.logsumexp(0)) + math.log(step)  # (1)

    def mean(self, values: Float[Tensor, "n *event"]) -> Float[Tensor, "*event"]:
        """Return the expectation of a function that is given by its ``values`` at the `nodes`."""
        return torch.tensordot(self._logs.softmax(0), values, dims=1)  # (1)

    def quantile(self, u: Tensor) -> Tensor:
        """Return the quantiles of the law: the points below which the probability is u.

        Uniform numbers u in [0, 1) become samples of the law.
        """
        return quantile(self.nodes, self._logs.softmax(0), u.double())
