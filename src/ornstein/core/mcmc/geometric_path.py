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

__all__ = ["Annealed", "Held", "Local", "LogDensity", "Metropolis", "Path", "value_and_gradient"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import Time
from ornstein.core.random.noise import Draws
from ornstein.core.simulation.loop import Method, Step

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
class Annealed:
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


@dataclass(frozen=True)
class Metropolis(Method):
    """Metropolis-adjusted Langevin moves with a linear preconditioner: exact invariance of
    ``gamma_s``.

    Proposal ``y ~ N(x + h^2/2 C C^T grad, h^2 C C^T)``, accepted with probability ``min(1,
    ratio)``. Roberts and Tweedie 1996. Memory, and so ``Step.memory``, is the mean acceptance
    probability of the step's moves.

    Args:
        size: h, dimensionless once C whitens the target.
        factor: C, ``(d, d)``, for instance a Cholesky factor of the covariance.
        moves: proposals per step, each one evaluation of density and gradient.
    """

    size: float
    factor: Tensor
    moves: int = 4
    order: int = 1

    def noisy(self, sde: Any) -> bool:
        """Always."""
        return True

    def step(self, sde: Path, x: Tensor, t: Tensor, s: Tensor, stream: Draws, memory: Any) -> Step:
        """Weight, then move."""
        value, gradient = sde.at(sde.local(x), s)
        before, accepted, inverse = (
            value,
            torch.zeros((), dtype=x.dtype),
            torch.linalg.inv(self.factor).mT,
        )
        for _ in range(self.moves):
            forward = self._proposal(x, gradient)
            z = stream.normal()
            y = forward.mean + self.size * z @ self.factor.mT
            value_y, gradient_y = sde.at(sde.local(y), s)
            back = (x - self._proposal(y, gradient_y).mean) @ inverse / self.size
            log_ratio = value_y - value + (z.square() - back.square()).sum(1) / 2
            accept = torch.log(stream.uniform()[:, 0]) < log_ratio
            x = torch.where(accept[:, None], y, x)
            value, gradient = (
                torch.where(accept, value_y, value),
                torch.where(accept[:, None], gradient_y, gradient),
            )
            accepted = accepted + log_ratio.exp().clamp(max=1).nan_to_num().mean() / self.moves
        return Step(x, memory=accepted, evaluations=self.moves + 1, log_ratio=before - value)

    def _proposal(self, x: Tensor, gradient: Tensor) -> Gaussian:
        return Gaussian(
            x + self.size**2 / 2 * gradient @ self.factor @ self.factor.mT, torch.ones(())
        )
