"""Monte Carlo estimation of ``E f(X_T)`` for the solution of an equation, with standard errors.

With n independent values ``y_i`` the mean has the standard error ``s / sqrt n``, s^2 their sample
variance. The values are

    Plain         f at the end of a path,
    Antithetic    the mean of f over a path and its mirror,                                      (1)
    Sobol         the mean of f over all paths of one scrambling of the points.                  (2)

Where f at a path and at its mirror have correlation r, the variance of (1) is (1 + r) / 2 of a
plain value's. All have the bias of the steps, which `Multilevel` also estimates. Glasserman 2003
(Monte Carlo methods in financial engineering), chapters 4 and 5; Owen 1997.
"""

__all__ = [
    "Antithetic",
    "Estimator",
    "Expectation",
    "Level",
    "Plain",
    "Problem",
    "Sobol",
    "expectation",
]

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.calculus.montecarlo.quasi_random import Mirrored, SobolPaths
from ornstein.core.numerics.estimate import Estimate
from ornstein.core.random.noise import Noise, NoiseSource
from ornstein.core.simulation.method import Method
from ornstein.core.solvers.solve import default_method, solve
from ornstein.errors import OrnsteinError

_BATCH = 1 << 20  # numbers of the states that are simulated at once, unless one sample has more
_EXPECTATION = 0x6D65616E  # key that separates these draws from others of a seed


class Level(NamedTuple):
    """One term of a multilevel estimate, the mean of ``P_l - P_{l-1}``.

    P_l is the value f at the end of a path of ``steps`` steps.

    Attributes:
        steps: of the fine path.
        n: samples.
        mean: of the samples.
        variance: of a sample.
        cost: steps of a sample, the coarse path's included.
    """

    steps: int
    n: int
    mean: float
    variance: float
    cost: int


@dataclass(frozen=True, eq=False)
class Expectation(Estimate):
    """An estimate of ``E f(X_T)``, with the bias of the steps where it was estimated.

    Attributes:
        value: estimate of ``E f(X_T)``.
        stderr: standard error of the value from the sampling.
        interval: ``(low, high)``, without the bias.
        cost: steps of all paths together.
        bias: what the length of the steps may add, where it was estimated.
        levels: of a multilevel estimate.
    """

    bias: float | None = None
    levels: tuple[Level, ...] = ()


@dataclass(frozen=True)
class Problem:
    """The quantity ``E f(X_T)`` to be estimated: the arguments of `expectation`."""

    f: Callable[[Tensor], Tensor]
    sde: Any
    x0: Float[Tensor, "*event"]
    T: float
    steps: int
    method: Method
    noise: Noise

    def grid(self, steps: int) -> Tensor:
        """Return a grid of equal steps from 0 to T."""
        return torch.linspace(0, self.T, steps + 1, dtype=torch.float64)

    def values(self, n: int, grid: Tensor, source: NoiseSource) -> Float[Tensor, " n"]:
        """Return f at the ends of n paths, ``(n,)``.

        Raises:
            OrnsteinError: if f does not give one finite number for each.
        """
        starts = self.x0.expand(n, *self.x0.shape).contiguous()
        dt = self.T / (len(grid) - 1)
        ends = solve(self.sde, starts, grid[[0, -1]], self.method, source, dt)[-1]
        y = self.f(ends).detach().double()
        if y.shape != (n,) or not bool(torch.isfinite(y).all()):
            what = "values that are not finite (too long steps?)"
            if y.shape != (n,):
                what = f"shape {tuple(y.shape)}"
            raise OrnsteinError(
                f"f gave {what} for {n} states of shape {tuple(self.x0.shape)}: it must give (n,),"
                " all finite"
            )
        return y

    def batches(self, n: int) -> Iterator[tuple[int, int]]:
        """Yield the first sample and the size of each batch of n samples."""
        size = max(1, _BATCH // max(1, self.x0.numel()))
        for start in range(0, n, size):
            yield start, min(size, n - start)


@runtime_checkable
class Estimator(Protocol):
    """A method that `expectation` runs to estimate a mean."""

    def estimate(self, problem: Problem) -> Expectation:
        """Return the estimate of the mean and its error."""
        ...


@dataclass(frozen=True)
class Plain:
    """Plain Monte Carlo: the mean of f over n independent simulated paths.

    Args:
        n: number of paths, at least 2.
    """

    n: int = 100_000

    def __post_init__(self) -> None:
        _require(self, self.n >= 2, "2 paths or more, for an error")

    def estimate(self, problem: Problem) -> Expectation:
        """Return the mean over all paths, simulated by batches.

        A path is the same whatever the size of the batch.
        """
        grid = problem.grid(problem.steps)
        values = [
            problem.values(k, grid, problem.noise.shift(start))
            for start, k in problem.batches(self.n)
        ]
        return _mean(torch.cat(values), self.n * problem.steps)


@dataclass(frozen=True)
class Antithetic:
    """Antithetic Monte Carlo: the mean of f over n paths, half of them mirrors of the others.

    It has a smaller error where f is monotone in the noise, and a larger one where f is even.

    Args:
        n: number of paths, even, at least 4.
    """

    n: int = 100_000

    def __post_init__(self) -> None:
        _require(self, self.n >= 4 and self.n % 2 == 0, "an even number, 4 or more")

    def estimate(self, problem: Problem) -> Expectation:
        """Return the mean over all pairs of mirrored paths, simulated by batches of pairs."""
        grid = problem.grid(problem.steps)
        pairs: list[Tensor] = []
        for start, k in problem.batches(self.n // 2):
            values = problem.values(2 * k, grid, Mirrored(problem.noise.shift(start)))
            pairs.append(values.reshape(2, k).mean(0))  # (1)
        return _mean(torch.cat(pairs), self.n * problem.steps)


@dataclass(frozen=True)
class Sobol:
    """Quasi-Monte Carlo: the mean of f over several random scramblings of n Sobol' points.

    For smooth f in a small number of effective dimensions the error falls almost as 1/n.

    Args:
        n: points of each scrambling, a power of 2.
        scramblings: number of independent scramblings, from whose means the error is estimated, to
            1 part in ``sqrt(2 scramblings)``.
    """

    n: int = 4096
    scramblings: int = 16

    def __post_init__(self) -> None:
        _require(self, self.n >= 1 and self.n & (self.n - 1) == 0, "n must be a power of 2")
        _require(self, self.scramblings >= 2, "2 scramblings or more, for an error")

    def estimate(self, problem: Problem) -> Expectation:
        """Return the mean over the scramblings, one simulation for each."""
        grid = problem.grid(problem.steps)
        runs = [
            problem.values(self.n, grid, SobolPaths(grid, problem.noise.fold(k))).mean()
            for k in range(self.scramblings)
        ]  # (2)
        return _mean(torch.stack(runs), self.n * self.scramblings * problem.steps)


def _require(estimator: Any, valid: bool, what: str) -> None:
    """Raise `OrnsteinError` unless the parameters of an estimator are valid."""
    if not valid:
        raise OrnsteinError(f"{estimator}: {what}")


def _mean(y: Tensor, cost: int) -> Expectation:
    """Return the mean of independent values with its standard error."""
    return Expectation(float(y.mean()), float(y.std()) / math.sqrt(len(y)), cost=cost)


def expectation(
    f: Callable[[Float[Tensor, "n *event"]], Float[Tensor, " n"]],
    sde: Any,
    x0: Float[Tensor, "*event"],
    T: float = 1.0,
    estimator: Estimator = Plain(),
    method: Method | None = None,
    steps: int = 64,
    seed: int | Noise = 0,
) -> Expectation:
    """Estimate ``E f(X_T)`` for the solution of an equation from ``X_0 = x0``, with an error.

    Args:
        f: of the states at T, ``(n, *event) -> (n,)``.
        sde: as in `solve`.
        x0: one state, ``(*event)``: not a batch.
        T: time at the end.
        estimator: `Plain`, `Antithetic`, `Sobol` or `Multilevel` of `orn.montecarlo`.
        method: as in `solve`, which chooses the method by default.
        steps: of each path, equal; of the coarsest level for `Multilevel`.
        seed: an integer or a `Noise`.

    Returns:
        An `Expectation`: value, stderr, interval, cost in steps; bias and levels of `Multilevel`.

    Raises:
        OrnsteinError: if T or steps is not positive, or f does not give one finite number for each
            state.

    Example:
        >>> sde = orn.SDE(lambda x, t: 0.5 * x, lambda x, t: 0.8 * x)
        >>> plain, start = orn.montecarlo.Plain(1000), torch.tensor(1.0)
        >>> call = orn.expectation(lambda x: (x - 1).clamp(min=0), sde, start, 1.0, plain)
        >>> call.value > 0, call.cost
        (True, 64000)
    """
    if not (0 < T < math.inf and steps >= 1):
        raise OrnsteinError(f"expectation(T={T}, steps={steps}): both are positive")
    noise = Noise.of(seed).fold(_EXPECTATION)
    method = method or default_method(sde)
    problem = Problem(f, sde, torch.as_tensor(x0), T, steps, method, noise)
    return estimator.estimate(problem)
