"""The geometric path between two densities, on which annealed and sequential Monte Carlo move.

Between a normalised start density pi (t = 1) and the target rho (t = 0) lies the geometric path

    log gamma_t = t log pi + (1 - t) log rho.                                                    (1)

A step t -> s of a kernel first weights the state and then moves it with a Metropolis chain that
leaves ``gamma_s`` invariant. Such a chain is its own reversal, so the log ratio of backward to
forward kernel is ``log gamma_s(x_t) - log gamma_s(x_s)``; summed over the path with the end points
it gives the weights of Neal 2001, eq. 7, and their mean is Z for any schedule and any step.

Both ends of the path are evaluated separately and remembered (`PointEvaluation`), so that another
temperature costs no evaluation.
"""

__all__ = [
    "DensityPath",
    "FixedLevel",
    "GeometricPath",
    "LogDensity",
    "PointEvaluation",
    "value_and_gradient",
]

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.core.processes.linear import Time

LogDensity = Callable[[Tensor], Tensor]
"""``(n, d) -> (n,)``, in nats, -inf outside the support."""


class PointEvaluation(NamedTuple):
    """The log-densities and gradients of both ends of a geometric path at points ``(n, d)``.

    Attributes:
        start: ``log pi``, ``(n,)``, nats.
        target: ``log rho``, ``(n,)``, nats.
        start_gradient: gradient of ``log pi``, ``(n, d)``.
        target_gradient: gradient of ``log rho``, ``(n, d)``.
    """

    start: Tensor
    target: Tensor
    start_gradient: Tensor
    target_gradient: Tensor

    @property
    def potential(self) -> Tensor:
        """The log-ratio ``log rho - log pi`` of target and start density, ``(n,)``."""
        return self.target - self.start

    def take(self, index: Tensor) -> "PointEvaluation":
        """Return the evaluations at the points that an index or a mask selects."""
        return PointEvaluation(*(part[index] for part in self))

    def update(self, mask: Tensor, other: "PointEvaluation") -> "PointEvaluation":
        """Return the evaluations, replaced by ``other`` where the mask ``(n,)`` is True."""
        pairs = zip(self, other, strict=True)
        return PointEvaluation(
            *(torch.where(mask if a.ndim == 1 else mask[:, None], b, a) for a, b in pairs)
        )


@runtime_checkable
class DensityPath(Protocol):
    """A family of densities ``gamma_t`` that Markov chain Monte Carlo kernels move along."""

    def local(self, x: Tensor) -> PointEvaluation:
        """Evaluate at points ``(n, d)`` what the densities of all levels t are computed from."""
        ...

    def at(self, local: PointEvaluation, t: Time) -> tuple[Tensor, Tensor]:
        """Return ``log gamma_t``, ``(n,)``, and the gradient, ``(n, d)``, from evaluations."""
        ...


def value_and_gradient(fn: LogDensity, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``fn(x)``, ``(n,)``, and the gradient, ``(n, d)``.

    Outside the support, and where the value is NaN, they are ``-inf`` and 0.
    """
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
    """The geometric path ``log gamma_t = t log pi + (1 - t) log rho`` between two densities.

    Args:
        start: the normalised log-density at t = 1.
        target: the unnormalised log-density at t = 0.
    """

    start: LogDensity
    target: LogDensity

    def local(self, x: Tensor) -> PointEvaluation:
        """Evaluate both ends of the path and their gradients at points ``(n, d)``."""
        start, start_gradient = value_and_gradient(self.start, x)
        target, target_gradient = value_and_gradient(self.target, x)
        return PointEvaluation(start, target, start_gradient, target_gradient)

    def at(self, local: PointEvaluation, t: Time) -> tuple[Tensor, Tensor]:
        """Return ``log gamma_t`` and the gradient; outside the support they are ``-inf`` and 0.

        Args:
            local: the evaluations of both ends.
            t: the level, a scalar or ``(n,)``.
        """
        t = torch.as_tensor(t, dtype=local.start.dtype, device=local.start.device).expand(
            len(local.start)
        )
        value = torch.where(t > 0, t * local.start, 0.0) + torch.where(
            t < 1, (1 - t) * local.target, 0.0
        )  # (1)
        return value, t[:, None] * local.start_gradient + (1 - t[:, None]) * local.target_gradient

    def log_density(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """Return ``log gamma_t(x)``, ``(n,)``, and the gradient, ``(n, d)``, at the level t."""
        return self.at(self.local(x), t)


@dataclass(frozen=True)
class FixedLevel:
    """A path of densities that stays at one level, so that kernels on it are plain Markov chains.

    Args:
        path: the path.
        level: the level, a scalar, or ``(n,)`` for one of each particle.
    """

    path: DensityPath
    level: Time

    def local(self, x: Tensor) -> PointEvaluation:
        """Evaluate the underlying path at points ``(n, d)``."""
        return self.path.local(x)

    def at(self, local: PointEvaluation, t: Time) -> tuple[Tensor, Tensor]:
        """Return ``log gamma_level`` and the gradient, the same at every t."""
        return self.path.at(local, self.level)
