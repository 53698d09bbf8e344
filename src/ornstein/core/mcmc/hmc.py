"""Hamiltonian Monte Carlo on a path of densities, with step sizes that depend on the state.

It moves the particles of tempered sequential Monte Carlo. In coordinates ``x = F q`` of a
preconditioner F, with momenta ``p ~ N(0, I)`` and the gradient ``G = F^T grad log gamma``, a move
runs L leapfrog steps of size h,

    p += h G / 2,   q += h p,   p += h G / 2,                                                    (1)

which preserve volume and are undone by reversing p. The size is drawn for each particle and move
from a law that depends on where the particle is,

    log h ~ N(log(size s(x)), jitter^2),      s(x)^-2 = 1 - a + a (1 + |G(x)|^2) / d,            (2)

because in a Gaussian ``|G|^2 / d`` is the mean curvature: steps are short where the density is
narrow and long where it is wide. Random sizes break periodic orbits; the acceptance probability
accounts for their dependence on x,

    min(1, gamma(x') N(p') p(h | x') / (gamma(x) N(p) p(h | x))),                                (3)

so that gamma is left invariant exactly: momenta, then h, are Gibbs draws, and what follows is a
reversible map. Duane et al. 1987; Neal 2011, section 4.2 (random sizes); Bou-Rabee, Carpenter and
Marsden 2024 (sizes that depend on the state).
"""

__all__ = ["HMC", "HMCState"]

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import DensityPath, PointEvaluation
from ornstein.core.methods.base import StochasticMethod
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step
from ornstein.errors import OrnsteinError

_DIVERGED = 1000.0  # nats of energy error beyond which a trajectory is given up


class HMCState(NamedTuple):
    """The memory of `HMC`: evaluations at the new state, acceptance probability and jump distance.

    Attributes:
        local: the evaluations at the new state.
        acceptance: mean acceptance probability of its moves, ``(b,)``.
        jump: expected squared distance of a move in the coordinates q, per dimension, ``(b,)``.
    """

    local: PointEvaluation
    acceptance: Tensor
    jump: Tensor


@renamed_arguments(known="initial")
@dataclass(frozen=True)
class HMC(StochasticMethod):
    """Hamiltonian Monte Carlo on a `GeometricPath`: weight the state, then move it.

    The step sizes are random and may depend on the state; the moves leave the level exactly
    invariant. ``Step.memory`` is an `HMCState`; a step with memory costs no evaluation but those of
    its moves. Duane et al. 1987; Neal 2011.

    Args:
        size: scale of the steps h, dimensionless once F whitens the density; a number, or ``(b,)``
            for one of each particle.
        factor: F, ``(d, d)`` dense or ``(d,)`` diagonal.
        leaps: L, leapfrog steps per move, each one evaluation of density and gradient.
        moves: moves per step.
        jitter: standard deviation of log h, positive.
        local: a, how much the size depends on the state: 0 for the same law everywhere, at most 1.
        initial: the evaluations at the first state, to save one; None to evaluate them.

    Raises:
        OrnsteinError: if size or jitter is not positive, leaps or moves below 1, or local outside
            [0, 1].
    """

    size: float | Float[Tensor, " b"]
    factor: Float[Tensor, "d *d"]
    leaps: int = 5
    moves: int = 1
    jitter: float = 0.4
    local: float = 1.0
    initial: PointEvaluation | None = None
    order: int = 2

    def __post_init__(self) -> None:
        counts = self.leaps >= 1 and self.moves >= 1
        if not (
            float(torch.as_tensor(self.size).min()) > 0
            and self.jitter > 0
            and counts
            and 0 <= self.local <= 1
        ):
            raise OrnsteinError(
                f"HMC(size={self.size}, leaps={self.leaps}, moves={self.moves},"
                f" jitter={self.jitter}, local={self.local}): size and jitter must be positive,"
                " leaps and moves at least 1, local in [0, 1]"
            )

    def start(self, sde: Any, times: Tensor) -> HMCState | None:
        """Return the memory before the first step, made of the initial evaluations if given."""
        if self.initial is None:
            return None
        return HMCState(self.initial, torch.ones(()), torch.zeros(()))

    def step(
        self,
        sde: DensityPath,
        x: Tensor,
        t: Tensor,
        s: Tensor,
        stream: NoiseStream,
        memory: HMCState | None,
    ) -> Step:
        """Weight the state at the new level, then move it ``moves`` times."""
        local = sde.local(x) if memory is None else memory.local
        before = sde.at(local, s)[0]
        acceptance = jump = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for _ in range(self.moves):
            x, local, accepted, distance = self._move(sde, x, local, s, stream)
            acceptance = acceptance + accepted / self.moves
            jump = jump + accepted * distance / self.moves
        log_ratio = before - sde.at(local, s)[0]
        cost = self.moves * self.leaps + (memory is None)
        state = HMCState(local, acceptance, jump)
        return Step(x, memory=state, evaluations=cost, log_ratio=log_ratio)

    def _move(
        self, sde: DensityPath, x: Tensor, local: PointEvaluation, s: Tensor, stream: NoiseStream
    ) -> tuple[Tensor, PointEvaluation, Tensor, Tensor]:
        """Make an HMC move: return state, evaluations, acceptance probability, squared jump."""
        p = stream.normal()
        jitter = self.jitter * stream.normal()[:, 0]
        chance = stream.uniform()[:, 0]
        value, gradient = sde.at(local, s)
        force = self._whiten(gradient)
        energy = value - p.square().sum(1) / 2
        log_h = self._log_scale(force) + jitter
        h = log_h.exp()[:, None]
        y = x
        v = p
        local_y = local
        lowest = energy
        diverged = torch.zeros_like(value, dtype=torch.bool)
        travel = torch.zeros_like(x)
        for _ in range(self.leaps):
            v = v + h / 2 * force  # (1)
            travel = travel + h * v
            ahead = x + self._unwhiten(travel)
            diverged = diverged | ~ahead.isfinite().all(1)
            y = torch.where(diverged[:, None], y, ahead)
            local_y = sde.local(y)
            value_y, gradient_y = sde.at(local_y, s)
            force = self._whiten(gradient_y)
            v = v + h / 2 * force
            energy_y = value_y - v.square().sum(1) / 2
            lowest = torch.minimum(lowest, energy_y)
            # Its end would be refused in any case, and so would its start from there.
            diverged = diverged | ~(energy - energy_y < _DIVERGED)
        diverged = diverged | ~(energy_y - lowest < _DIVERGED)
        back = (log_h - self._log_scale(force)).square() - jitter.square()
        log_ratio = energy_y - energy - back / (2 * self.jitter**2)  # (3)
        log_ratio = torch.where(diverged | log_ratio.isnan(), -torch.inf, log_ratio)
        accept = chance.log() < log_ratio
        return (
            torch.where(accept[:, None], y, x),
            local.update(accept, local_y),
            log_ratio.clamp(max=0).exp(),
            travel.square().mean(1).nan_to_num(0, 0, 0),
        )

    def _log_scale(self, force: Tensor) -> Tensor:
        """Return the mean log step size at a state, from the gradient in whitened coordinates."""
        inverse = 1 - self.local + self.local * (1 / force.shape[1] + force.square().mean(1))
        return torch.as_tensor(self.size, dtype=force.dtype).log() - inverse.log() / 2  # (2)

    def _unwhiten(self, q: Tensor) -> Tensor:
        """Map a displacement from whitened coordinates q to a displacement of x."""
        return q * self.factor if self.factor.ndim == 1 else q @ self.factor.mT

    def _whiten(self, gradient: Tensor) -> Tensor:
        """Map a gradient with respect to x to one with respect to whitened coordinates q."""
        return gradient * self.factor if self.factor.ndim == 1 else gradient @ self.factor
