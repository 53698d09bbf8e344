"""Path measures along a geometric path of densities: annealed, Langevin and kinetic samplers.

Between the start law (t = 1) and the target (t = 0) lie the levels ``gamma_t = pi^t rho^(1 - t)``
of a `GeometricPath`. The kernels of a measure either leave each level invariant (annealed
importance sampling, SMC), or follow its score without correction; in both cases the weights of
`ornstein.core.paths.measure` are exact.
"""

__all__ = ["annealed_paths", "kinetic_paths", "langevin_paths"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import GeometricPath, LogDensity
from ornstein.core.mcmc.underdamped import UnderdampedLangevin
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.paths.measure import Law, Moves, PathMeasure
from ornstein.core.processes.linear import Time
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.method import Method
from ornstein.errors import OrnsteinError


def annealed_paths(
    start: Law, target: LogDensity, times: Float[Tensor, " k"], moves: Method
) -> PathMeasure:  # fmt: skip
    """Return the path measure of annealed importance sampling, by moves that preserve each level.

    Args:
        start: pi.
        target: the unnormalised log-density.
        times: levels, from 1 (pi) down to 0 (rho).
        moves: a method of `GeometricPath`, such as `MALA`.
    """
    path = GeometricPath(start.log_prob, target)
    step = Moves(path, moves)
    return PathMeasure(
        start, target, times, step, step, lambda x, t: path.log_density(x, t)[0], through_path=False
    )


def kinetic_paths(
    start: Law, target: LogDensity, times: Float[Tensor, " k"], moves: UnderdampedLangevin
) -> PathMeasure:
    """Return the path measure of underdamped Langevin steps along the geometric path.

    States are ``(n, 2, d)``, positions and momenta, and Z is that of the positions. Geffner and
    Domke 2021.

    Args:
        start: pi, of the positions.
        target: the unnormalised log-density of the positions.
        times: levels, from 1 (pi) down to 0 (rho).
        moves: the steps.
    """
    path = GeometricPath(start.log_prob, target)
    step = Moves(path, moves)

    return PathMeasure(
        _WithMomenta(start), lambda x: target(x[:, 0]) + _kinetic(x), times, step, step,
        lambda x, t: path.log_density(x[:, 0], t)[0] + _kinetic(x),
    )  # fmt: skip


def _kinetic(x: Tensor) -> Tensor:
    """Return the log-density ``log N(p; 0, I)`` of the momenta, ``(n,)``."""
    p = x[:, 1]
    return Gaussian(torch.zeros_like(p), torch.ones((), dtype=p.dtype)).log_prob(p)


@dataclass(frozen=True)
class _WithMomenta:
    """The law of positions together with standard normal momenta."""

    positions: Law

    def draw(self, n: int, noise: Noise) -> Tensor:
        q = self.positions.draw(n, noise)
        return torch.stack([q, noise.fold(1).normal(q.shape, q.dtype)], 1)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.positions.log_prob(x[:, 0]) + _kinetic(x)


Control = Callable[[Tensor, Time], Tensor]
"""``(x, t) -> (n, *event)``, added to the score of the level."""


def langevin_paths(
    start: Law,
    target: LogDensity,
    times: Float[Tensor, " k"],
    size: float,
    control: Control | None = None,
    reverse: Control | None = None,
) -> PathMeasure:
    """Return the path measure of unadjusted Langevin steps along the geometric path.

    With h the size of a step,

        F = N(x + h (score_t(x) + u(x, t)), 2 h),   B = N(x + h (score_s(x) - v(x, s)), 2 h).    (1)

    With many small steps and ``u = v`` the velocity that carries the levels into each other, all
    weights are equal. The scores carry no gradient (for losses through the path that is the usual
    stop-gradient); the controls do. Densities between the two ends other than those of the
    geometric path, with scores ``score_t + g``, are ``u + g`` and ``u - g`` in the places of u and
    v.

    Args:
        start: pi.
        target: the unnormalised log-density.
        times: levels, from 1 (pi) down to 0 (rho).
        size: h of every step, positive.
        control: u, by default 0.
        reverse: v, by default u.
    """
    if not size > 0:
        raise OrnsteinError(f"langevin_paths(size={size}): the length of a step, positive")
    path = GeometricPath(start.log_prob, target)
    back = reverse or control

    def kernel(x: Tensor, t: Time, push: Control | None, sign: float) -> Gaussian:
        force = path.log_density(x, t)[1]
        force = force if push is None else force + sign * push(x, t)
        return Gaussian(x + size * force, torch.full((), (2 * size) ** 0.5, dtype=x.dtype))  # (1)

    return PathMeasure(
        start, target, times,
        lambda x, t, s: kernel(x, t, control, 1.0), lambda x, s, t: kernel(x, s, back, -1.0),
        lambda x, t: path.log_density(x, t)[0],
    )  # fmt: skip
