"""Kernels along a path of densities: annealed importance sampling and sequential Monte Carlo.

Between a normalised start density pi (t = 1) and the target rho (t = 0) lies the geometric path

    log gamma_t = t log pi + (1 - t) log rho.                                                    (1)

A step t -> s first weights the state and then moves it with a Metropolis chain that leaves
``gamma_s`` invariant. Such a chain is its own reversal, so the log ratio of backward to forward
kernel is ``log gamma_s(x_t) - log gamma_s(x_s)``; summed over the path with the end points it gives
the weights of Neal 2001, eq. 7, and their mean is Z for any schedule and any step.

Both ends of the path are evaluated apart and kept (`Local`), so that another temperature costs no
evaluation.
"""

__all__ = ["GeometricPath", "Held", "Local", "LogDensity", "Path", "value_and_gradient"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.core.processes.linear import Time

LogDensity = Callable[[Tensor], Tensor]
"""``(n, d) -> (n,)``, in nats, -inf outside the support."""


class Local(NamedTuple):
    """Both ends of a path at some points: ``log pi``, ``log rho``, ``(n,)``, and their gradients,
    ``(n, d)``."""

    start: Tensor
    target: Tensor
    start_gradient: Tensor
    target_gradient: Tensor

    @property
    def potential(self) -> Tensor:
        """``log rho - log pi``: the slope of (1) in -t."""
        return self.target - self.start

    def take(self, index: Tensor) -> "Local":
        """At some of the points."""
        return Local(*(part[index] for part in self))

    def update(self, mask: Tensor, other: "Local") -> "Local":
        """``other`` where the mask ``(n,)`` says so."""
        pairs = zip(self, other, strict=True)
        return Local(*(torch.where(mask if a.ndim == 1 else mask[:, None], b, a) for a, b in pairs))


@runtime_checkable
class Path(Protocol):
    """What the kernels of this family move along."""

    def local(self, x: Tensor) -> Local:
        """The evaluations at x."""
        ...

    def at(self, local: Local, t: Time) -> tuple[Tensor, Tensor]:
        """``log gamma_t`` and its gradient from them."""
        ...


def value_and_gradient(fn: LogDensity, x: Tensor) -> tuple[Tensor, Tensor]:
    """``fn(x)``, ``(n,)``, and its gradient, ``(n, d)``; outside the support, and where the value
    is NaN, ``-inf`` and 0."""
    with torch.enable_grad():
        y = x.detach().requires_grad_()
        value = fn(y)
        gradient = (
            torch.autograd.grad(value.sum(), y)[0] if value.requires_grad else torch.zeros_like(x)
        )
    value = value.detach()
    inside = torch.isfinite(value)
    return torch.where(inside, value, -torch.inf), torch.where(
        inside[:, None] & gradient.isfinite(), gradient, 0.0
    )


@dataclass(frozen=True)
class GeometricPath:
    """The geometric path (1).

    Args:
        start: the normalised log-density at t = 1.
        target: the unnormalised log-density at t = 0.
    """

    start: LogDensity
    target: LogDensity

    def local(self, x: Tensor) -> Local:
        """Both ends at x."""
        start, start_gradient = value_and_gradient(self.start, x)
        target, target_gradient = value_and_gradient(self.target, x)
        return Local(start, target, start_gradient, target_gradient)

    def at(self, local: Local, t: Time) -> tuple[Tensor, Tensor]:
        """``log gamma_t`` and its gradient; outside the support ``-inf`` and 0. The time is a
        scalar or ``(n,)``."""
        t = torch.as_tensor(t, dtype=local.start.dtype, device=local.start.device).expand(
            len(local.start)
        )
        value = torch.where(t > 0, t * local.start, 0.0) + torch.where(
            t < 1, (1 - t) * local.target, 0.0
        )  # (1)
        return value, t[:, None] * local.start_gradient + (1 - t[:, None]) * local.target_gradient

    def log_density(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """``log gamma_t(x)`` and its gradient."""
        return self.at(self.local(x), t)


@dataclass(frozen=True)
class Held:
    """A path held at one level, ``gamma_level`` at every time: along it the kernels are plain
    Markov chains.

    Args:
        path: the path.
        level: the temperature, a scalar, or ``(n,)`` for one of each particle.
    """

    path: Path
    level: Time

    def local(self, x: Tensor) -> Local:
        """The evaluations at x."""
        return self.path.local(x)

    def at(self, local: Local, t: Time) -> tuple[Tensor, Tensor]:
        """The same at every t."""
        return self.path.at(local, self.level)
