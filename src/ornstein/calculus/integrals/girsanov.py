"""Girsanov's theorem: importance weights between processes that differ in their drift.

If X solves ``dX = b dt + g dB`` under P and ``dX = (b + g u) dt + g dB`` under P^u, then along a
path of P^u

    log dP / dP^u = -int u . dB - int |u|^2 / 2 dt,                                              (1)

so that ``E_P[F] = E_u[F dP / dP^u]``. For the paths of a method that draws from Gaussians ``N(m_u,
v)`` the ratio is that of the kernels, ``sum_k log N(x_k+1; m, v) - log N(x_k+1; m_u, v)``, exactly:
it has mean 1 for every number of steps. Girsanov 1960.
"""

__all__ = ["Accumulate", "Girsanov"]

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.processes.linear import Time
from ornstein.core.processes.sde import Equation
from ornstein.core.simulation.method import Step
from ornstein.errors import OrnsteinError


@dataclass
class Girsanov:
    """A watcher of `simulate` that sums the log-weights ``log dP / dP^u`` of paths of P^u.

    After a simulation by `EulerMaruyama` the attribute ``value``, ``(b,)``, is the log-weight of
    each path, which makes expectations under P^u those under P.

    Args:
        reference: the process P; the process that is simulated, P^u, must have the same diffusion.
        value: the sum so far; leave it out.
    """

    reference: Equation
    value: Tensor = field(default_factory=lambda: torch.zeros(()))

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        kernel = step.kernel
        if kernel is None:
            raise OrnsteinError(
                "Girsanov weights need steps that draw from a Gaussian: simulate with"
                " EulerMaruyama()"
            )
        mean = x + self.reference.drift(x, t) * per_sample(s - t, x)
        reference = Gaussian(mean, kernel.std)
        self.value = self.value + reference.log_prob(step.x) - kernel.log_prob(step.x)  # (1)


@dataclass
class Accumulate:
    """A watcher of `simulate` that integrates a function along each path, ``int fn(X_t, t) |dt|``.

    After a simulation the attribute ``value``, ``(b,)``, is the integral by the left rectangle of
    each step.

    Args:
        fn: ``(b, *event), t -> (b,)``, per unit of time.
        value: the sum so far; leave it out.
    """

    fn: Callable[[Tensor, Time], Tensor]
    value: Tensor = field(default_factory=lambda: torch.zeros(()))

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        self.value = self.value + self.fn(x, t) * (s - t).abs()
