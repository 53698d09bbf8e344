"""``E f(X_T)`` by simulation. An estimator is an object; `expectation` runs it.

With n independent values ``y_i`` the mean has the standard error ``s / sqrt n``, s^2 their sample
variance. The values are

    Plain         f at the end of a path,
    Antithetic    the mean of f over a path and its mirror,                                      (1)
    Sobol         the mean of f over all paths of one scrambling of the points.                  (2)

Where f at a path and at its mirror have correlation r, the variance of (1) is (1 + r) / 2 of a
plain value's.

All have the bias of the steps, which `Multilevel` also estimates. Glasserman 2003 (Monte Carlo
methods in financial engineering), chapters 4 and 5; Owen 1997.
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
from ornstein.core.random.noise import Noise, NoiseSource
from ornstein.core.simulation.method import Method
from ornstein.core.solvers.solve import default_method, solve
from ornstein.errors import OrnsteinError

_BATCH = 1 << 20  # numbers of the states that are simulated at once, unless one sample has more
_EXPECTATION = 0x6D65616E  # key that keeps these draws apart from others of a seed


class Level(NamedTuple):
    """What is known of one term of a multilevel estimate, the mean of ``P_l - P_{l-1}``, with P_l
    that of ``steps`` steps.

    Attributes:
        steps: of the fine path.
        n: samples.
        mean: of them.
        variance: of a sample.
        cost: steps of a sample, the coarse path's included.
    """

    steps: int
    n: int
    mean: float
    variance: float
    cost: int


@dataclass(frozen=True)
class Expectation:
    """An estimate.

    Attributes:
        value: of ``E f(X_T)``.
        stderr: its standard error, that of the sampling.
        cost: steps of all paths together.
        bias: what the length of the steps may add, where it was estimated.
        levels: of a multilevel estimate.
    """

    value: float
    stderr: float
    cost: int
    bias: float | None = None
    levels: tuple[Level, ...] = ()


@dataclass(frozen=True)
class Problem:
    """What is to be estimated: arguments of `expectation`."""

    f: Callable[[Tensor], Tensor]
    sde: Any
    x0: Float[Tensor, "*event"]
    T: float
    steps: int
    method: Method
    noise: Noise

    def grid(self, steps: int) -> Tensor:
        """Equal steps from 0 to T."""
        return torch.linspace(0, self.T, steps + 1, dtype=torch.float64)

    def values(self, n: int, grid: Tensor, source: NoiseSource) -> Float[Tensor, " n"]:
        """f at the ends of n paths.

        Raises:
            OrnsteinError: if f does not give one finite number for each.
        """
        starts, dt = self.x0.expand(n, *self.x0.shape).contiguous(), self.T / (len(grid) - 1)
        y = (
            self.f(solve(self.sde, starts, grid[[0, -1]], self.method, source, dt)[-1])
            .detach()
            .double()
        )
        if y.shape != (n,) or not bool(torch.isfinite(y).all()):
            what = (
                f"shape {tuple(y.shape)}"
                if y.shape != (n,)
                else "values that are not finite (too long steps?)"
            )
            raise OrnsteinError(
                f"f gave {what} for {n} states of shape {tuple(self.x0.shape)}: it must give (n,),"
                " all finite"
            )
        return y

    def batches(self, n: int) -> Iterator[tuple[int, int]]:
        """Starts and sizes."""
        size = max(1, _BATCH // max(1, self.x0.numel()))
        for at in range(0, n, size):
            yield at, min(size, n - at)


@runtime_checkable
class Estimator(Protocol):
    """What `expectation` runs."""

    def estimate(self, problem: Problem) -> Expectation:
        """The mean and its error."""
        ...


@dataclass(frozen=True)
class Plain:
    """The mean over n paths."""

    n: int = 100_000

    def __post_init__(self) -> None:
        _require(self, self.n >= 2, "2 paths or more, for an error")

    def estimate(self, problem: Problem) -> Expectation:
        """By batches: a path is the same whatever their size."""
        grid = problem.grid(problem.steps)
        y = torch.cat(
            [problem.values(k, grid, problem.noise.shift(at)) for at, k in problem.batches(self.n)]
        )
        return _summary(y, self.n * problem.steps)


@dataclass(frozen=True)
class Antithetic:
    """The mean over n paths, half of them mirrors of the others (1): better where f is monotone in
    the noise, worse where even."""

    n: int = 100_000

    def __post_init__(self) -> None:
        _require(self, self.n >= 4 and self.n % 2 == 0, "an even number, 4 or more")

    def estimate(self, problem: Problem) -> Expectation:
        """By batches of pairs."""
        grid, pairs = problem.grid(problem.steps), []
        for at, k in problem.batches(self.n // 2):
            pairs.append(
                problem.values(2 * k, grid, Mirrored(problem.noise.shift(at))).reshape(2, k).mean(0)
            )  # (1)
        return _summary(torch.cat(pairs), self.n * problem.steps)


@dataclass(frozen=True)
class Sobol:
    """The mean over several scramblings (2) of n Sobol' points: for smooth f in few effective
    dimensions, with an error near 1/n.

    Args:
        n: points of each, a power of 2.
        scramblings: independent ones, of whose means the error is estimated; it is known to 1 part
            in ``sqrt(2 scramblings)``.
    """

    n: int = 4096
    scramblings: int = 16

    def __post_init__(self) -> None:
        _require(self, self.n >= 1 and self.n & (self.n - 1) == 0, "n must be a power of 2")
        _require(self, self.scramblings >= 2, "2 scramblings or more, for an error")

    def estimate(self, problem: Problem) -> Expectation:
        """One run for each scrambling."""
        grid = problem.grid(problem.steps)
        runs = [
            problem.values(self.n, grid, SobolPaths(grid, problem.noise.fold(k))).mean()
            for k in range(self.scramblings)
        ]  # (2)
        return _summary(torch.stack(runs), self.n * self.scramblings * problem.steps)


def _require(estimator: Any, good: bool, what: str) -> None:
    if not good:
        raise OrnsteinError(f"{estimator}: {what}")


def _summary(y: Tensor, cost: int) -> Expectation:
    return Expectation(float(y.mean()), float(y.std()) / math.sqrt(len(y)), cost)


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
    """``E f(X_T)`` for the solution of an equation from ``X_0 = x0``, with its standard error and
    cost.

        call = orn.expectation(lambda x: (x - 1).clamp(min=0), sde, torch.tensor(1.0), 1.0,
        orn.montecarlo.Multilevel(1e-3)) call.value, call.stderr, call.bias

    Args:
        f: of the states at T, ``(n, *event) -> (n,)``.
        sde: as in `solve`.
        x0: one state, ``(*event)``: not a batch.
        T: time at the end.
        estimator: `Plain`, `Antithetic`, `Sobol` or `Multilevel`.
        method: as in `solve`, which chooses it by default.
        steps: of each path, equal; of the coarsest level for `Multilevel`.
        seed: an integer or a `Noise`.

    Raises:
        OrnsteinError: if T or steps is not positive, or f does not give one finite number for each
            state.
    """
    if not (0 < T < math.inf and steps >= 1):
        raise OrnsteinError(f"expectation(T={T}, steps={steps}): both are positive")
    noise = Noise(seed) if isinstance(seed, int) else seed
    problem = Problem(
        f,
        sde,
        torch.as_tensor(x0),
        T,
        steps,
        method or default_method(sde),
        noise.fold(_EXPECTATION),
    )
    return estimator.estimate(problem)
