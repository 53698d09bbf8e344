"""Hamiltonian moves that leave a density of a path invariant, with steps that fit the place.

In coordinates ``x = F q`` of a preconditioner F, with momenta ``p ~ N(0, I)`` and the gradient ``G
= F^T grad log gamma``, a move runs L leapfrog steps of size h,

    p += h G / 2,   q += h p,   p += h G / 2,                                                    (1)

which preserve volume and are undone by reversing p. The size is drawn for each particle and move
from a law that depends on where the particle is,

    log h ~ N(log(size s(x)), jitter^2),      s(x)^-2 = 1 - a + a (1 + |G(x)|^2) / d,            (2)

because in a Gaussian ``|G|^2 / d`` is the mean curvature: steps are short in a neck and long in a
mouth. Drawn sizes break periodic orbits; that their law moves with x is paid for in the acceptance,

    min(1, gamma(x') N(p') p(h | x') / (gamma(x) N(p) p(h | x))),                                (3)

so that gamma is left invariant exactly: momenta, then h, are Gibbs draws, the rest is a reversible
map. Duane et al. 1987; Neal 2011, section 4.2 (random sizes); Bou-Rabee, Carpenter and Marsden 2024
(sizes that depend on the state).
"""

__all__ = ["HMC", "Moved"]

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import Local, Path
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Method, Step
from ornstein.errors import OrnsteinError

_LOST = 1000.0  # nats of energy error beyond which a trajectory is given up


class Moved(NamedTuple):
    """What a Hamiltonian step leaves behind.

    Attributes:
        local: the evaluations at the new state.
        acceptance: mean acceptance probability of its moves, ``(b,)``.
        jump: expected squared distance of a move in the coordinates q, per dimension, ``(b,)``.
    """

    local: Local
    acceptance: Tensor
    jump: Tensor


@dataclass(frozen=True)
class HMC(Method):
    """Metropolised Hamiltonian moves (1)-(3) along an `GeometricPath` path: weight, then move.

    Memory, and so ``Step.memory``, is a `Moved`; a step whose memory is known costs no evaluation
    but those of its moves.

    Args:
        size: scale of the steps h, dimensionless once F whitens the density; a number, or ``(b,)``
            for one of each particle.
        factor: F, ``(d, d)`` dense or ``(d,)`` diagonal.
        leaps: L, leapfrog steps per move, each one evaluation of density and gradient.
        moves: moves per step.
        jitter: standard deviation of log h, positive.
        local: a, how far the size follows the place: 0 for the same law everywhere, at most 1.
        known: the evaluations at the first state, where they are known.

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
    known: Local | None = None
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

    def noisy(self, sde: Any) -> bool:
        """Always."""
        return True

    def start(self, sde: Any, times: Tensor) -> Moved | None:
        """What is known before the first step."""
        return None if self.known is None else Moved(self.known, torch.ones(()), torch.zeros(()))

    def step(
        self, sde: Path, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Moved | None
    ) -> Step:
        """Weight, then move."""
        local = sde.local(x) if memory is None else memory.local
        before = sde.at(local, s)[0]
        acceptance = jump = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for _ in range(self.moves):
            x, local, accepted, distance = self._move(sde, x, local, s, stream)
            acceptance, jump = (
                acceptance + accepted / self.moves,
                jump + accepted * distance / self.moves,
            )
        log_ratio = before - sde.at(local, s)[0]
        cost = self.moves * self.leaps + (memory is None)
        return Step(x, memory=Moved(local, acceptance, jump), evaluations=cost, log_ratio=log_ratio)

    def _move(
        self, sde: Path, x: Tensor, local: Local, s: Tensor, stream: NoiseStream
    ) -> tuple[Tensor, Local, Tensor, Tensor]:
        """One move: the new state and its evaluations, the acceptance probabilities and the squared
        distances proposed."""
        p, jitter, chance = (
            stream.normal(),
            self.jitter * stream.normal()[:, 0],
            stream.uniform()[:, 0],
        )
        value, gradient = sde.at(local, s)
        pull, energy = self._back(gradient), value - p.square().sum(1) / 2
        log_h = self._log_scale(pull) + jitter
        h = log_h.exp()[:, None]
        y, v, there, peak = x, p, local, energy
        lost, travel = torch.zeros_like(value, dtype=torch.bool), torch.zeros_like(x)
        for _ in range(self.leaps):
            v = v + h / 2 * pull  # (1)
            travel = travel + h * v
            ahead = x + self._forth(travel)
            lost = lost | ~ahead.isfinite().all(1)
            y = torch.where(lost[:, None], y, ahead)
            there = sde.local(y)
            reached, gradient = sde.at(there, s)
            pull = self._back(gradient)
            v = v + h / 2 * pull
            height = reached - v.square().sum(1) / 2
            peak = torch.minimum(peak, height)
            lost = lost | ~(
                energy - height < _LOST
            )  # its end would be refused in any case, and so would its start from there
        lost = lost | ~(height - peak < _LOST)
        back = (log_h - self._log_scale(pull)).square() - jitter.square()
        log_ratio = height - energy - back / (2 * self.jitter**2)  # (3)
        log_ratio = torch.where(lost | log_ratio.isnan(), -torch.inf, log_ratio)
        accept = chance.log() < log_ratio
        probability = log_ratio.clamp(max=0).exp()
        return (
            torch.where(accept[:, None], y, x),
            local.update(accept, there),
            probability,
            travel.square().mean(1).nan_to_num(0, 0, 0),
        )

    def _log_scale(self, pull: Tensor) -> Tensor:
        inverse = 1 - self.local + self.local * (1 / pull.shape[1] + pull.square().mean(1))
        return torch.as_tensor(self.size, dtype=pull.dtype).log() - inverse.log() / 2  # (2)

    def _forth(self, q: Tensor) -> Tensor:
        return q * self.factor if self.factor.ndim == 1 else q @ self.factor.mT

    def _back(self, gradient: Tensor) -> Tensor:
        return gradient * self.factor if self.factor.ndim == 1 else gradient @ self.factor
