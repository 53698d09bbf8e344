"""Unadjusted underdamped Langevin kernels on a path of densities, with exact path weights.

Momenta are partly redrawn, then leapfrog steps follow. The state is a position q and a momentum p,
``(b, 2, d)``, at level t with the density ``gamma_t(q) N(p; 0, I)``. A step t -> s is

    p' = e^-c p + sqrt(1 - e^-2c) z,        (q, p) = leapfrog of gamma_s from (q, p').           (1)

The first half is reversible for N(0, I), the second preserves volume and is undone by its inverse:
whatever the size, the kernel of the other direction is exact, and its log ratio to this one is
``log N(p) - log N(p')``. No step is refused, so that weights are smooth in size and damping.
Geffner and Domke 2021 (MCMC variational inference via uncorrected Hamiltonian annealing); Zhang et
al. 2021.
"""

__all__ = ["UnderdampedLangevin"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import GeometricPath
from ornstein.core.methods.base import StochasticMethod
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class UnderdampedLangevin(StochasticMethod):
    """Underdamped Langevin steps on a `GeometricPath` of positions: redraw momenta, then leapfrog.

    ``p' = e^-c p + sqrt(1 - e^-2c) z, (q, p) = leapfrog of gamma_s from (q, p')``. Geffner and
    Domke 2021.

    Args:
        size: of a leapfrog step, positive; a number, or a tensor to be learned, 0-d or ``(d,)``.
        damping: c, positive; 0-d tensors may be learned.
        leaps: leapfrog steps per step, each one evaluation of the gradient.

    Raises:
        OrnsteinError: for a size or damping that is not positive, or fewer than one leap.
    """

    size: float | Tensor
    damping: float | Tensor = 1.0
    leaps: int = 1
    order: int = 1

    def __post_init__(self) -> None:
        positive = bool(
            (torch.as_tensor(self.size) > 0).all() and (torch.as_tensor(self.damping) > 0).all()
        )
        if not positive or self.leaps < 1:
            raise OrnsteinError(
                f"UnderdampedLangevin(size={self.size}, damping={self.damping},"
                f" leaps={self.leaps}): size and damping positive, leaps at least 1"
            )

    def step(
        self, sde: GeometricPath, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Redraw part of the momentum, then take the leapfrog steps."""
        q, before = x.unbind(1)
        decay = torch.exp(-torch.as_tensor(self.damping, dtype=x.dtype))
        after = decay * before + (1 - decay.square()).sqrt() * stream.normal()[:, 0]
        p = after + self.size / 2 * sde.log_density(q, s)[1]
        for k in range(self.leaps):
            q = q + self.size * p
            half = 1.0 if k < self.leaps - 1 else 0.5
            p = p + self.size * half * sde.log_density(q, s)[1]  # (1)
        ratio = (after.square() - before.square()).sum(1) / 2
        return Step(torch.stack([q, p], 1), evaluations=self.leaps + 1, log_ratio=ratio)
