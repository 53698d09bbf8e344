"""Short Markov chains from one point: explore the region that a proposal does not cover.

Adaptive importance sampling (`ornstein.density.proposals.imis`) and the search for missing mass
(`ornstein.density.learned.coverage`) have single points at which the importance weight is large.
The chains below start there, spread over the region around it, and a Gaussian fitted to their ends
describes that region. Step size and preconditioner follow the chains, so the chains are no draws of
the target; they need not be, since the Gaussian only enters proposals.
"""

__all__ = ["chain_moves", "run_short_chains", "wider_normal"]

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import DensityPath, FixedLevel, GeometricPath, LogDensity
from ornstein.core.mcmc.mala import MALA
from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.method import Method, Step

_MALA_ACCEPTANCE = 0.57  # rate at which MALA is most efficient (Roberts and Rosenthal 1998)
_MOVES = 4  # Langevin moves between two adaptations
_FIRST_SIZE = 0.1  # step size before the scale of the region is known, in the units of x
_POINTS_PER_DIMENSION = 4  # below, a covariance is taken to be diagonal


def run_short_chains(
    log_prob: LogDensity,
    x: Float[Tensor, " d"],
    noise: Noise,
    chains: int | None = None,
    rounds: int = 24,
) -> Float[Tensor, "chains d"]:
    """Return the ends of adaptive Langevin chains that all start at one point.

    Args:
        log_prob: the unnormalised log-density, differentiable.
        x: ``(d,)``, where all chains start.
        noise: source of randomness.
        chains: number of chains; None: four per dimension, between 64 and 512.
        rounds: number of rounds of four moves; step size and preconditioner are adapted in between.
    """
    d = len(x)
    ends = x.repeat(chains or min(512, max(64, 4 * d)), 1)
    size = _FIRST_SIZE
    factor = torch.eye(d, dtype=x.dtype)
    path = GeometricPath(_flat, log_prob)
    for k in range(rounds):
        if k >= rounds // 2 and k % 4 == 0:
            factor = _fit_normal(ends).factor
            size = 1.0 if k == rounds // 2 else size
        ends, acceptance = chain_moves(path, 0.0, ends, MALA(size, factor, _MOVES), noise.fold(k))
        size *= math.exp(2 * (float(acceptance) - _MALA_ACCEPTANCE))
    return ends


def wider_normal(x: Float[Tensor, "n d"]) -> Normal:
    """Fit a Gaussian to points, and widen the fit by the factor ``1 + 0.5 / sqrt(d)``."""
    fitted = _fit_normal(x)
    return Normal(fitted.mean, (1 + 0.5 / math.sqrt(x.shape[1])) * fitted.factor)


def chain_moves(
    path: DensityPath, level: Tensor | float, x: Float[Tensor, "n d"], kernel: Method, noise: Noise
) -> tuple[Float[Tensor, "n d"], Any]:
    """Apply one step of a Markov kernel that leaves ``gamma_level`` invariant.

    Args:
        path: the path of densities ``gamma``.
        level: temperature between 0 (the target) and 1, a number, or ``(n,)``, one for each point.
        x: ``(n, d)``, the states of the chains.
        kernel: `MALA`, `HMC` or another method on paths of densities.
        noise: source of randomness.

    Returns:
        The new states, and what the kernel leaves in ``Step.memory``: the mean acceptance
        probability for `MALA`, a `HMCState` for `HMC`.
    """
    memories = list[Any]()

    def watch(t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        memories.append(step.memory)

    times = torch.tensor([1.0, 0.0], dtype=torch.float64)
    x = simulate(FixedLevel(path, level), x, times, kernel, noise, [watch])
    return x.detach(), memories[-1]


def _flat(x: Tensor) -> Tensor:
    """Return zeros in place of the start density, which has no influence at temperature 0."""
    return x.new_zeros(len(x))


def _fit_normal(x: Tensor) -> Normal:
    """Fit a Gaussian by moments; a diagonal one if there are fewer than four points a dimension."""
    if len(x) >= _POINTS_PER_DIMENSION * x.shape[1]:
        return Normal.fit(x)
    return Normal(x.mean(0), torch.diag(x.std(0).clamp(min=1e-12)))
