"""One measure on paths: a start law, kernels that generate, kernels that go back, a target. Every
sampler of densities is one.

Kernels F carry ``x_T ~ pi`` over a grid of times down to ``x_0``, kernels B carry it back. For a
target rho with normaliser Z

    log w = log rho(x_0) - log pi(x_T) + sum_k [log B(x_{k+1} | x_k) - log F(x_k | x_{k+1})]     (1)

has ``E_F[w] = Z`` exactly, for any kernels and any number of steps, because all of them are
normalised; on paths that B draws from ``x_0 ~ rho / Z`` it has ``E_B[1 / w] = 1 / Z``. So

    E_F[log w]  <=  log Z  <=  E_B[log w],                                                       (2)

the evidence bounds from below (ELBO) and above (EUBO), equal where all weights are.

| made by | F | B | in the literature |
|---|---|---|---|
| `denoising_paths` | the kernels of a posterior | the exact transitions of its process | DIS (VP), DDS (OU), PIS (bridge) |
| `annealed_paths` | moves that leave a level invariant | the same moves reversed | AIS, SMC |
| `langevin_paths` | Langevin steps with a control u | Langevin steps with -v | ULA (0, 0), MCD (0, v), CMCD (u, u), bridges (u, v) |
| `kinetic_paths` | leapfrog steps with momenta partly redrawn | their inverse | UHA |

Neal 2001; Berner et al. 2022; Vargas et al. 2023 (DDS) and 2024 (CMCD); Doucet et al. 2022 (MCD);
Richter and Berner 2024 (bridges).
"""

__all__ = [
    "GaussianStart",
    "Law",
    "Moves",
    "PathMeasure",
    "WeightedSamples",
    "annealed_paths",
    "denoising_paths",
    "kinetic_paths",
    "langevin_paths",
    "log_weights",
]

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import GeometricPath, LogDensity
from ornstein.core.mcmc.underdamped import UnderdampedLangevin
from ornstein.core.numerics.gaussian import Gaussian, Point
from ornstein.core.paths.kernels import Kernels
from ornstein.core.processes.linear import Time
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.method import Kernel, Method
from ornstein.core.simulation.watchers import Evaluations, LogWeight
from ornstein.errors import OrnsteinError


@runtime_checkable
class Law(Protocol):
    """A start law: normalised, and with samples."""

    def draw(self, n: int, noise: Noise) -> Tensor:
        """``(n, *event)``."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """``(n, *event) -> (n,)``, nats."""
        ...


@dataclass(frozen=True)
class GaussianStart:
    """A `Gaussian` or a `Point`, whose mean has the shape of an event, as a start law."""

    law: Gaussian | Point

    def draw(self, n: int, noise: Noise) -> Tensor:
        """``(n, *event)``."""
        return self.law.draw(noise.normal((n, *self.law.mean.shape), self.law.mean.dtype))

    def log_prob(self, x: Tensor) -> Tensor:
        """``(n,)``."""
        return self.law.log_prob(x)


class WeightedSamples(NamedTuple):
    """Ends of paths with their log-weights.

    Attributes:
        x: ``(n, *event)``, the states at time 0.
        log_w: ``(n,)``, the log-weights (1) in nats.
        evaluations: calls of the posterior or score per path; the density at the end is called once
            more.
    """

    x: Tensor
    log_w: Tensor
    evaluations: int


@dataclass(frozen=True)
class Moves:
    """Kernels that know their own ratio to those of the other direction: a method with
    `Step.log_ratio`, and what it solves."""

    sde: Any
    method: Method


@dataclass(frozen=True)
class PathMeasure:
    """F and B between a start law and a target.

    Args:
        start: pi.
        target: rho, unnormalised.
        times: from T down to 0, 1-D.
        forward: F, a function ``(x, t, s) -> Gaussian`` or `Moves`.
        backward: B, a function ``(x, s, t) -> Gaussian``, or the same `Moves`.
        level: ``(x, t) -> (n,)``, unnormalised densities between pi and rho, for resampling on the
            way; None if there are none.
        through_path: whether gradients flow through the states, as `reverse_kl` needs; if not, only
            through the kernels' densities.
        widen: see `off_path`.
    """

    start: Law
    target: LogDensity
    times: Float[Tensor, " k"]
    forward: Kernel | Moves
    backward: Kernel | Moves
    level: Callable[[Tensor, Time], Tensor] | None = None
    through_path: bool = True
    widen: float = 1.0

    def off_path(self, widen: float = 1.0) -> "PathMeasure":
        """The same with states that carry no gradient, drawn with ``widen`` times the kernels'
        standard deviation.

        For losses that may be taken on any paths; ``E[w] = Z`` holds for ``widen=1`` alone.
        """
        return replace(self, through_path=False, widen=widen)

    def draw(self, n: int, noise: Noise) -> WeightedSamples:
        """n paths of F with their weights (1), whose mean is Z."""
        x_T = self.start.draw(n, noise)
        x_0, ratio, evaluations = self.carry(x_T, self.times, noise)
        return WeightedSamples(
            x_0, self.target(x_0) - self.start.log_prob(x_T) + ratio, evaluations
        )  # (1)

    def back(self, x_0: Float[Tensor, "n *event"], noise: Noise) -> Float[Tensor, " n"]:
        """The log-weights (1) of paths that B draws from given ends: for exact samples their mean
        bounds log Z from above."""
        x_T, ratio, _ = self._run(self.backward, self.forward, x_0, self.times.flip(0), noise)
        return self.target(x_0) - self.start.log_prob(x_T) - ratio  # (1)

    def carry(
        self, x: Float[Tensor, "n *event"], times: Tensor, noise: Noise
    ) -> tuple[Tensor, Tensor, int]:
        """A piece of a path by F: the state at its end, ``sum [log B - log F]`` over it, and the
        evaluations."""
        return self._run(self.forward, self.backward, x, times, noise)

    def _run(
        self, kernels: Kernel | Moves, other: Kernel | Moves, x: Tensor, times: Tensor, noise: Noise
    ) -> tuple[Tensor, Tensor, int]:  # fmt: skip
        """Carry x by one direction's kernels, collecting the log ratio of the other to it."""
        cost = Evaluations()
        if isinstance(kernels, Moves):
            weight = LogWeight()
            x = simulate(kernels.sde, x, times, kernels.method, noise, [weight, cost])
        else:
            if isinstance(other, Moves):
                raise OrnsteinError(
                    "a path measure with Moves in one direction needs the same Moves in the other"
                )
            weight = LogWeight(other)
            x = simulate(
                None,
                x,
                times,
                Kernels(kernels, self.through_path, self.widen),
                noise,
                [weight, cost],
            )
        return x, weight.value, cost.count


def denoising_paths(
    posterior: Posterior,
    target: LogDensity,
    times: Float[Tensor, " k"],
    var: float = 1.0,
    level: Callable[[Tensor, Time], Tensor] | None = None,
    like: Tensor | None = None,
) -> PathMeasure:
    """F from a posterior, B the exact transitions of its process; at the exact posterior log w is
    constant up to the steps' error.

    Args:
        posterior: a `Denoiser`, or any posterior with an ``event_shape``.
        target: the unnormalised log-density.
        times: grid from T down to 0.
        var: variance of the data that the start law assumes.
        level: see `PathMeasure`.
        like: states ``(n, *event)`` whose event, dtype and device to take, where the posterior does
            not know its event.

    Raises:
        OrnsteinError: if the posterior does not know its event shape.
    """
    event = getattr(posterior, "event_shape", None) if like is None else like.shape[1:]
    if event is None:
        raise OrnsteinError(
            "the posterior does not know its event shape: make it with Denoiser(...,"
            " event_shape=(d,))"
        )
    sde, reverse = posterior.sde, Reverse(posterior)
    prior = sde.prior((1, *event), var)
    mean = prior.mean[0] if like is None else prior.mean[0].to(like)
    start = GaussianStart(Point(mean) if sde.pinned else Gaussian(mean, prior.std))

    def forward(x: Tensor, t: Time, s: Time) -> Gaussian:
        reverse.check_step(t, s, 1.0)
        return sde.posterior(x, posterior(x, t), s, t)

    def backward(x: Tensor, s: Time, t: Time) -> Gaussian | Point:
        return Point(mean) if sde.pinned and float(t) == sde.T else sde.transition(x, s, t)

    return PathMeasure(start, target, times, forward, backward, level)


def annealed_paths(
    start: Law, target: LogDensity, times: Float[Tensor, " k"], moves: Method
) -> PathMeasure:  # fmt: skip
    """Moves that leave each level of the geometric path invariant: annealed importance sampling.

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


def log_weights(
    posterior: Posterior, log_prob: LogDensity, times: Float[Tensor, " k"], n: int, noise: Noise,
    var: float = 1.0, through_path: bool = True,
) -> Float[Tensor, " n"]:  # fmt: skip
    """The log-weights (1) of n paths that a posterior generates: those of `denoising_paths`.

    Args:
        posterior, log_prob, times, var: as there.
        n: number of paths.
        noise: source of randomness.
        through_path: as in `PathMeasure`.
    """
    measure = denoising_paths(posterior, log_prob, times, var)
    return (measure if through_path else measure.off_path()).draw(n, noise).log_w


def kinetic_paths(
    start: Law, target: LogDensity, times: Float[Tensor, " k"], moves: UnderdampedLangevin
) -> PathMeasure:
    """Underdamped steps along the geometric path: states are ``(n, 2, d)``, positions and momenta,
    and Z is that of the positions.

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
    """log N(p; 0, I)."""
    p = x[:, 1]
    return Gaussian(torch.zeros_like(p), torch.ones((), dtype=p.dtype)).log_prob(p)


@dataclass(frozen=True)
class _WithMomenta:
    """A law of positions, and standard normal momenta."""

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
    """Unadjusted Langevin steps along the geometric path, with h the size:

        F = N(x + h (score_t(x) + u(x, t)), 2 h),        B = N(x + h (score_s(x) - v(x, s)), 2 h).  (3)

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
    path, back = GeometricPath(start.log_prob, target), reverse or control

    def kernel(x: Tensor, t: Time, push: Control | None, sign: float) -> Gaussian:
        force = path.log_density(x, t)[1]
        force = force if push is None else force + sign * push(x, t)
        return Gaussian(x + size * force, torch.full((), (2 * size) ** 0.5, dtype=x.dtype))  # (3)

    return PathMeasure(
        start, target, times,
        lambda x, t, s: kernel(x, t, control, 1.0), lambda x, s, t: kernel(x, s, back, -1.0),
        lambda x, t: path.log_density(x, t)[0],
    )  # fmt: skip
