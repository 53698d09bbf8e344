"""MALA, the Metropolis-adjusted Langevin algorithm, on a path of tempered densities.

A proposal follows the gradient of the log-density and adds noise; the Metropolis test makes the
chain leave the density invariant. Used in annealed importance sampling and for short chains.
"""

__all__ = ["MALA"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import DensityPath
from ornstein.core.methods.base import StochasticMethod
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step


@dataclass(frozen=True)
class MALA(StochasticMethod):
    """The Metropolis-adjusted Langevin algorithm with a linear preconditioner.

    It leaves the level ``gamma_s`` exactly invariant. Proposal ``y ~ N(x + h^2/2 C C^T grad, h^2 C
    C^T)``, accepted with probability ``min(1, ratio)``. Roberts and Tweedie 1996. Memory, and so
    ``Step.memory``, is the mean acceptance probability of the step's moves.

    Args:
        size: h, dimensionless once C whitens the target.
        factor: C, ``(d, d)``, for instance a Cholesky factor of the covariance.
        moves: proposals per step, each one evaluation of density and gradient.
    """

    size: float
    factor: Tensor
    moves: int = 4
    order: int = 1

    def step(
        self, sde: DensityPath, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Weight the state at the new level, then move it ``moves`` times."""
        value, gradient = sde.at(sde.local(x), s)
        before = value
        accepted = torch.zeros((), dtype=x.dtype)
        inverse = torch.linalg.inv(self.factor).mT
        for _ in range(self.moves):
            forward = self._proposal(x, gradient)
            z = stream.normal()
            y = forward.mean + self.size * z @ self.factor.mT
            value_y, gradient_y = sde.at(sde.local(y), s)
            back = (x - self._proposal(y, gradient_y).mean) @ inverse / self.size
            log_ratio = value_y - value + (z.square() - back.square()).sum(1) / 2
            accept = torch.log(stream.uniform()[:, 0]) < log_ratio
            x = torch.where(accept[:, None], y, x)
            value = torch.where(accept, value_y, value)
            gradient = torch.where(accept[:, None], gradient_y, gradient)
            accepted = accepted + log_ratio.exp().clamp(max=1).nan_to_num().mean() / self.moves
        return Step(x, memory=accepted, evaluations=self.moves + 1, log_ratio=before - value)

    def _proposal(self, x: Tensor, gradient: Tensor) -> Gaussian:
        """Return the mean of the Langevin proposal from x, in whitened coordinates."""
        return Gaussian(
            x + self.size**2 / 2 * gradient @ self.factor @ self.factor.mT, torch.ones(())
        )
