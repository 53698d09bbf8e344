"""Weighted samples: draws of a proposal with importance weights, and systematic resampling.

Importance samplers, particle filters and tempered Monte Carlo all return this record. With draws
``x_i`` of a proposal q and a target density rho that has an unknown normaliser Z, the weights
``w_i = rho(x_i) / q(x_i)`` make them draws of the target: ``E[f] ~ sum w_i f(x_i) / sum w_i``, and
the mean weight estimates Z.
"""

__all__ = ["WeightedSample", "resample"]

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.importance import log_ess, systematic_indices
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError

_ORDER = 1  # key of the numbers that shuffle the resampled points


@dataclass(frozen=True)
class WeightedSample:
    """Draws of a proposal with log-weights that make them draws of a target density.

    The points may come in independent groups of equal size, one after another; within a group they
    may depend on each other, as particles of one filter do.

    Args:
        x: ``(n, *event)``, the points.
        log_w: ``(n,)``, their log-weights in nats, -inf for a weight of 0. If the weights are
            unnormalised, their mean estimates Z.
        independent_groups: number of independent groups; n for independent points.
        cost: evaluations that the points took, as the function that returns them says.
    """

    x: Tensor
    log_w: Tensor
    independent_groups: int = 0
    cost: int = 0

    def __post_init__(self) -> None:
        if self.log_w.shape != self.x.shape[:1]:
            raise OrnsteinError(
                f"WeightedSample: {len(self.x)} points need as many log-weights, got"
                f" {tuple(self.log_w.shape)}"
            )
        if self.independent_groups == 0:
            object.__setattr__(self, "independent_groups", len(self.x))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def normalised(self) -> Tensor:
        """The weights divided by their sum, ``(n,)``, float64."""
        return torch.softmax(self.log_w.double(), 0)

    @property
    def ess(self) -> float:
        """The effective sample size ``(sum w)^2 / sum w^2`` of the weights."""
        return float(log_ess(self.log_w.double(), 0).exp())

    def resample(self, n: int, noise: Noise) -> Tensor:
        """Return n equally weighted points by systematic resampling, in random order."""
        return self.x[resample(self.log_w, n, noise)]


def resample(log_w: Float[Tensor, " m"], n: int, noise: Noise) -> Tensor:
    """Return the indices ``(n,)`` of a systematic resampling by log-weights, in random order."""
    weights = torch.softmax(log_w.double(), 0)
    chosen = systematic_indices(weights, n, noise.uniform((1,), torch.float64))
    return chosen[noise.fold(_ORDER).uniform((n,), torch.float64).argsort()]
