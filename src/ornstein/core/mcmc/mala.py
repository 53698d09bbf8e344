"""MALA: the Metropolis-adjusted Langevin algorithm, on a path of tempered densities."""

__all__ = ["MALA"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import Path
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Method, Step


@dataclass(frozen=True)
class MALA(Method):
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

    def step(
        self, sde: Path, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
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
