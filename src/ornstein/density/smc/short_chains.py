"""Short Markov chains, moved all at once: what lies around a point."""

__all__ = ["around", "move", "walk"]

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import GeometricPath, LogDensity
from ornstein.core.mcmc.mala import MALA
from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.method import Step


def walk(
    log_prob: LogDensity,
    x: Float[Tensor, " d"],
    noise: Noise,
    chains: int | None = None,
    rounds: int = 24,
) -> Tensor:
    """Where short Markov chains from a point are after ``4 rounds`` moves, ``(chains, d)``.

    Args:
        log_prob: the unnormalised log-density, differentiable.
        x: where all chains start.
        noise: source of randomness.
        chains: how many; None: four per dimension, between 64 and 512.
        rounds: of four moves; step size and preconditioner follow the chains.
    """
    d = len(x)
    cloud, size, factor = (
        x.repeat(chains or min(512, max(64, 4 * d)), 1),
        0.1,
        torch.eye(d, dtype=x.dtype),
    )
    for k in range(rounds):
        if k >= rounds // 2 and k % 4 == 0:
            fitted = _fit(cloud)
            size, factor = (1.0, fitted.factor) if k == rounds // 2 else (size, fitted.factor)
        cloud, rate = move(
            GeometricPath(_flat, log_prob), cloud, 0.0, MALA(size, factor, 4), noise.fold(k)
        )
        size *= math.exp(2 * (rate - 0.57))
    return cloud


def around(cloud: Float[Tensor, "n d"]) -> Normal:
    """A Gaussian somewhat wider than the points."""
    law = _fit(cloud)
    return Normal(law.mean, (1 + 0.5 / math.sqrt(cloud.shape[1])) * law.factor)


def _flat(x: Tensor) -> Tensor:
    """A start law that does not matter at t = 0."""
    return x.new_zeros(len(x))


def _fit(x: Tensor) -> Normal:
    """The Gaussian with the moments of the points; of the variances alone where there are fewer
    than four points per dimension."""
    if len(x) >= 4 * x.shape[1]:
        return Normal.fit(x)
    return Normal(x.mean(0), torch.diag(x.std(0).clamp(min=1e-12)))


def move(
    path: GeometricPath, x: Tensor, t: float, method: MALA, noise: Noise
) -> tuple[Tensor, float]:
    """Moves that leave ``gamma_t`` invariant, and their acceptance rate."""
    rates: list[float] = []

    def watch(t: Tensor, s: Tensor, before: Tensor, step: Step) -> None:
        rates.append(float(step.memory))

    x = simulate(path, x, torch.tensor([t + 1, t], dtype=torch.float64), method, noise, [watch])
    return x.detach(), rates[-1]
