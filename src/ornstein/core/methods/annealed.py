"""Kernels along a path of densities: annealed importance sampling and sequential Monte Carlo.

Between a normalised start density pi (t = 1) and the target rho (t = 0) lies the geometric path

    log gamma_t = t log pi + (1 - t) log rho.                                                                 (1)

A step t -> s first weights the state and then moves it with a Metropolis chain that leaves ``gamma_s`` invariant. Such a chain
is its own reversal, so the log ratio of backward to forward kernel is ``log gamma_s(x_t) - log gamma_s(x_s)``; summed over the
path with the end points it gives the weights of Neal 2001, eq. 7, and their mean is Z for any schedule and any step.
"""

__all__ = ["Annealed", "Metropolis"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.gaussian import Gaussian
from ornstein.core.linear import Time
from ornstein.core.noise import Draws
from ornstein.core.solve import Method, Step

LogDensity = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Annealed:
    """The geometric path (1).

    Args:
        start: the normalised log-density at t = 1.
        target: the unnormalised log-density at t = 0.
    """

    start: LogDensity
    target: LogDensity

    def log_density(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """``log gamma_t(x)`` and its gradient; outside the support ``-inf`` and 0."""
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            value = t * self.start(y) + (1 - t) * self.target(y)  # (1)
            (gradient,) = torch.autograd.grad(value.sum(), y)
        inside = torch.isfinite(value.detach())
        gradient = torch.where(inside[:, None] & torch.isfinite(gradient), gradient, 0.0)
        return torch.where(inside, value.detach(), -torch.inf), gradient


@dataclass(frozen=True)
class Metropolis(Method):
    """Metropolis-adjusted Langevin moves with a linear preconditioner: exact invariance of ``gamma_s``.

    Proposal ``y ~ N(x + h^2/2 C C^T grad, h^2 C C^T)``, accepted with probability ``min(1, ratio)``. Roberts and Tweedie 1996.
    Memory, and so ``Step.memory``, is the mean acceptance probability of the step's moves.

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

    def step(self, sde: Annealed, x: Tensor, t: Tensor, s: Tensor, stream: Draws, memory: Any) -> Step:
        """Weight, then move."""
        value, gradient = sde.log_density(x, s)
        before, accepted = value, torch.zeros((), dtype=x.dtype)
        for _ in range(self.moves):
            forward = self._proposal(x, gradient)
            z = stream.normal()
            y = forward.mean + self.size * z @ self.factor.mT
            value_y, gradient_y = sde.log_density(y, s)
            back = (x - self._proposal(y, gradient_y).mean) @ torch.linalg.inv(self.factor).mT / self.size
            log_ratio = value_y - value + (z.square() - back.square()).sum(1) / 2
            accept = torch.log(stream.uniform()[:, 0]) < log_ratio
            x = torch.where(accept[:, None], y, x)
            value, gradient = torch.where(accept, value_y, value), torch.where(accept[:, None], gradient_y, gradient)
            accepted = accepted + log_ratio.exp().clamp(max=1).nan_to_num().mean() / self.moves
        return Step(x, memory=accepted, evaluations=self.moves + 1, log_ratio=before - value)

    def _proposal(self, x: Tensor, gradient: Tensor) -> Gaussian:
        return Gaussian(x + self.size**2 / 2 * gradient @ self.factor @ self.factor.mT, torch.ones(()))
