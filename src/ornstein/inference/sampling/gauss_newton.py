"""Gauss-Newton search over linear multistep samplers, for `ornstein.inference.sampling.tune`.

A sampler is a table of noise levels and multistep weights, with parameters theta. With residuals
``e_i(theta)`` of samples i, that is their distances to an accurate solution, their derivatives J_i
and the weights ``w_i = rho'(|e_i|^2)`` of a robust loss rho, a step solves

    (sum_i w_i J_i^T J_i + mu diag) (theta - theta') = sum_i w_i J_i^T e_i,                      (1)

and is taken if the loss falls; mu, the damping, falls with success and rises with failure
(Levenberg 1944, Marquardt 1963).
"""

__all__ = ["SearchLimits", "search"]

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.methods.multistep import Multistep
from ornstein.core.methods.tabulated import TabulatedMultistep, tabulate
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.random.noise import Noise
from ornstein.inference.sampling.multistep_family import MultistepFamily, ReferenceSolutions, rms
from ornstein.inference.sampling.samplers import default_sampler

# Arguments (width, turn, std) of `default_sampler` for the candidates to start from; the first is
# that of "auto".
STARTS = tuple(product((1.0, 0.7, 1.4, 2.0, 2.8), (1.0, 2.0), (1.0, 1.3)))
RANKING_SAMPLES = 128  # samples that rank the candidates
SEARCHES = 3  # candidates from which searches start, the best of the ranking
POWERS = (1.0, 2.0, 1.5)  # p of the robust loss, tried in this order
# Bounds on the number of samples whose derivatives are taken; more in low dimension, where each
# says less.
MIN_JACOBIAN_SAMPLES, MAX_JACOBIAN_SAMPLES = 64, 256
_JACOBIAN_NUMBERS = 4096  # residuals in a Jacobian, between those bounds
PATIENCE = 4  # iterations without a better error on held-out noise, after which a search ends
_INITIAL_DAMPING, _MIN_DAMPING = 1e-2, 1e-7  # mu of (1), in units of the diagonal
_DAMPING_TRIALS = 8  # dampings that are tried in one iteration, each five times the last
_ROBUST_SCALE = 0.3  # delta of the robust loss, in units of the median squared error


class SearchLimits(NamedTuple):
    """The time limit, the callback and the random numbers of a search.

    Attributes:
        iterations: Gauss-Newton steps of each search.
        until: value of ``time.monotonic()`` after which no iteration starts.
        callback: called with a line of text after each search.
        noise: chooses the samples whose derivatives are taken.
    """

    iterations: int
    until: float
    callback: Callable[[str], None]
    noise: Noise

    def over(self) -> bool:
        """Return whether the time limit of the search is exceeded."""
        return time.monotonic() > self.until


def search(
    posterior: Posterior,
    steps: int,
    order: int,
    fitting: ReferenceSolutions,
    choosing: ReferenceSolutions,
    limits: SearchLimits,
) -> tuple[MultistepFamily, Tensor]:
    """Search for the multistep sampler of smallest error, by Gauss-Newton from several starts.

    Every power of the robust loss runs from every start, the most promising first, while there is
    time: the problem has many local minima, and which start and power lead to a good one cannot be
    known beforehand.

    Args:
        posterior: the model.
        steps: evaluations of the sampler.
        order: evaluations that a step may use.
        fitting: solutions that the parameters are fitted to.
        choosing: solutions on other noise, on which the best iterate is chosen.
        limits: of time and iterations.

    Returns:
        The best family and its parameters.
    """
    evaluations = [0]
    families = [
        MultistepFamily(posterior, _table(posterior, steps, start, order), evaluations)
        for start in STARTS
    ]
    ranking = choosing.first(RANKING_SAMPLES)
    families = sorted(families, key=lambda f: rms(ranking, f.run(f.initial, ranking.x_T)))
    families = families[:SEARCHES]
    first = families[0]
    best = (rms(choosing, first.run(first.initial, choosing.x_T)), first, first.initial)
    for power in POWERS:
        for family in families:
            if limits.over():
                break
            error, theta = _gauss_newton(family, fitting, choosing, power, limits)
            limits.callback(f"power {power}: held-out error {error:.3g}")
            best = min(best, (error, family, theta), key=lambda candidate: candidate[0])
    return best[1], best[2]


def _gauss_newton(
    family: MultistepFamily,
    fitting: ReferenceSolutions,
    choosing: ReferenceSolutions,
    power: float,
    limits: SearchLimits,
) -> tuple[float, Tensor]:
    """Minimise (1) by the Levenberg-Marquardt algorithm, from the family's initial parameters.

    Returns the error and the parameters of the iterate that is best on the solutions for choosing.
    """
    theta = family.initial
    damping = _INITIAL_DAMPING
    stale = 0
    best = (rms(choosing, family.run(theta, choosing.x_T)), theta)
    for k in range(limits.iterations):
        if limits.over():
            break
        squares = fitting.errors(family.run(theta, fitting.x_T)).double()
        loss = _RobustLoss(_ROBUST_SCALE * float(squares.median()), power)
        chosen, weights = _choose_samples(
            squares, loss.weight(squares), len(theta), fitting.x_0[0].numel(), limits.noise.fold(k)
        )
        x, jacobian = family.jacobian(theta, fitting.x_T[chosen])
        jacobian = jacobian.double()
        residual = (x - fitting.x_0[chosen]).double().flatten()
        weighted = jacobian * weights.repeat_interleave(x[0].numel())[:, None]
        normal, gradient = weighted.mT @ jacobian, weighted.mT @ residual
        scale = (normal.diagonal() + 1e-9 * normal.diagonal().mean()).diag()
        before = loss(squares)
        for _ in range(_DAMPING_TRIALS):
            candidate = theta - torch.linalg.solve(normal + damping * scale, gradient)  # (1)
            if (
                family.is_valid(candidate)
                and loss(fitting.errors(family.run(candidate, fitting.x_T)).double()) < before
            ):
                break
            damping *= 5
        else:
            break
        theta, damping = candidate, max(damping / 4, _MIN_DAMPING)
        held_out = rms(choosing, family.run(theta, choosing.x_T))
        stale = 0 if held_out < best[0] else stale + 1
        best = min(best, (held_out, theta), key=lambda pair: pair[0])
        if stale == PATIENCE:
            break
    return best


def _choose_samples(
    squares: Tensor, weights: Tensor, parameters: int, dim: int, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Draw samples to take derivatives of, in proportion to their part in the loss.

    A derivative costs as many runs as there are parameters, an error one; so most samples only
    judge. Returns indices and weights, which make up for the chance of being chosen.
    """
    importance = squares * weights
    probability = importance / importance.sum() + 1 / len(squares)
    target = max(MIN_JACOBIAN_SAMPLES, min(MAX_JACOBIAN_SAMPLES, _JACOBIAN_NUMBERS // dim))
    size = min(len(squares), max(target, 10 * parameters // dim))
    race = noise.uniform((len(squares),), torch.float64).clamp(min=1e-12).log() / probability.cpu()
    indices = race.topk(size).indices
    chance = (size * probability[indices] / 2).clamp(max=1)
    return indices, weights[indices] / chance


@dataclass(frozen=True)
class _RobustLoss:
    """The robust loss ``rho(e) = (e + delta)^(p/2)``, averaged over samples, with its weights."""

    delta: float
    power: float

    def __call__(self, squares: Tensor) -> float:
        value = float(((squares + self.delta) ** (self.power / 2)).mean())
        return value if math.isfinite(value) else math.inf

    def weight(self, squares: Tensor) -> Tensor:
        return (squares + self.delta) ** (self.power / 2 - 1)


def _table(
    posterior: Posterior, steps: int, start: tuple[float, ...], order: int
) -> TabulatedMultistep:
    """Return the default sampler with other constants, as a table of ``order`` weights per row."""
    base_sampler = default_sampler(posterior, *start)
    assert isinstance(base_sampler.method, Multistep)
    times = posterior.sde.times(steps, base_sampler.spacing)
    table = tabulate(base_sampler.method, Reverse(posterior, 0.0), times)
    rows = [row + (0.0,) * (min(order, k + 1) - len(row)) for k, row in enumerate(table.weights)]
    return replace(table, weights=tuple(row[:order] for row in rows))
