"""Multilevel Monte Carlo: many cheap paths and a small number of expensive ones.

Level l has ``m 2^l`` steps, and with its value P_l

    E P_L = E P_0 + sum_{l=1}^L E(P_l - P_{l-1}),                                                (1)

each mean estimated by itself. Both terms of a difference run on one Brownian motion, the coarse
one's increments the sums of the fine one's, so that its variance V_l falls with the step and a
small number of samples is enough. With cost C_l a sample the numbers that give the variance v at
least cost are

    n_l = 1/v sqrt(V_l / C_l) sum_k sqrt(V_k C_k).                                               (2)

Half of eps^2 is for the variance and half for the squared bias. If the weak order is a the
differences fall like 2^-al, and what the levels beyond L would add is at most

    max_{k=0,1,2} 2^{-ak} |E(P_{L-k} - P_{L-k-1})| / (2^a - 1).                                  (3)

The cost is of order eps^-2 for methods of strong order 1, and eps^-2 log^2 eps for Euler's. Giles
2008 (Multilevel Monte Carlo path simulation), eq. 10 and 12.
"""

__all__ = ["Multilevel"]

import math
from dataclasses import dataclass

from ornstein.calculus.montecarlo.estimators import Expectation, Level, Problem
from ornstein.core.processes.noise_type import driving
from ornstein.core.random import BrownianPath
from ornstein.errors import OrnsteinError

_VARIANCE_FRACTION = 0.5  # fraction of eps^2 for the variance, the other half for the squared bias
_INITIAL_LEVELS = 3  # smallest number of levels from which the bias (3) can be estimated
_REFINEMENTS = 3  # rounds in which the variances, and so the numbers of samples, improve


@dataclass
class _Sums:
    """Running sums of the samples of one level."""

    steps: int
    cost: int
    n: int = 0
    total: float = 0.0
    square: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.n

    @property
    def variance(self) -> float:
        return max(self.square / self.n - self.mean**2, 0.0) * self.n / (self.n - 1)


@dataclass(frozen=True)
class Multilevel:
    """Multilevel Monte Carlo to a root mean square error of eps.

    Args:
        eps: the error, in the units of f.
        first: samples of a new level, from which the variance is first estimated.
        most: the largest number of levels.
        weak: weak order of the method; by default the order that the method declares.

    Raises:
        OrnsteinError: if eps is not positive, ``first`` below 2 or ``most`` below 3; if ``most``
            levels are too few.
    """

    eps: float
    first: int = 1000
    most: int = 14
    weak: float | None = None

    def __post_init__(self) -> None:
        if not (self.eps > 0 and self.first >= 2 and self.most >= 3):
            raise OrnsteinError(f"{self}: eps > 0, first >= 2 and most >= 3")

    def estimate(self, problem: Problem) -> Expectation:
        """Add samples and levels until variance and bias are small enough, and return the estimate.

        Samples are added until the variance is below ``eps^2 / 2``, and levels until the estimated
        bias is below ``eps / sqrt 2``.
        """
        solves = getattr(problem.method, "solves", None)
        weak_order = self.weak or (solves.weak if solves else 1)
        decay = 2 * min(solves.strong_order(problem.sde), 1.0) if solves else 1.0
        sums: list[_Sums] = []
        while len(sums) < self.most:
            for _ in range(1 if sums else _INITIAL_LEVELS):
                steps = problem.steps << len(sums)
                sums.append(_Sums(steps, steps + steps // 2 if sums else steps))
                self._sample(problem, sums, len(sums) - 1, self.first)
            for _ in range(_REFINEMENTS):
                for l, n in enumerate(self._numbers(sums, decay)):
                    self._sample(problem, sums, l, n - sums[l].n)
            differences = [
                abs(level.mean) / 2 ** (weak_order * k)
                for k, level in enumerate(reversed(sums[-3:]))
                if level is not sums[0]
            ]
            bias = max(differences) / (2**weak_order - 1)  # (3)
            if bias <= math.sqrt(1 - _VARIANCE_FRACTION) * self.eps:
                return _result(sums, bias)
        raise OrnsteinError(
            f"{self}: with {sums[-1].steps} steps the bias may still be {bias:.2g}: start with"
            " more, or raise most"
        )

    def _numbers(self, sums: list[_Sums], decay: float) -> list[int]:
        """Return the optimal numbers of samples of the levels, by equation (2).

        No variance is taken for less than half of what the one before it, which falls like the
        squared error of the method, predicts.
        """
        v: list[float] = []
        for l, level in enumerate(sums):
            v.append(level.variance if l < 2 else max(level.variance, v[-1] / 2 ** (decay + 1)))
        total = sum(math.sqrt(a * level.cost) for a, level in zip(v, sums, strict=True))
        variance = _VARIANCE_FRACTION * self.eps**2
        return [
            math.ceil(math.sqrt(a / level.cost) * total / variance)
            for a, level in zip(v, sums, strict=True)
        ]  # (2)

    def _sample(self, problem: Problem, sums: list[_Sums], l: int, n: int) -> None:
        """Simulate n more samples of level l, and add them to the sums of the level."""
        level = sums[l]
        grid = problem.grid(level.steps)
        coarse = problem.grid(level.steps // 2) if l else None
        x = problem.x0[None]
        like = driving(problem.sde).like(x, lambda: problem.sde.diffusion(x, grid[0]))
        for _, k in problem.batches(max(n, 0)):
            noise = problem.noise.fold(l).shift(level.n)
            path = BrownianPath(
                (k, *like.shape[1:]), 0.0, problem.T, noise, cells=grid, dtype=like.dtype, order=2
            )
            y = problem.values(k, grid, path)
            if coarse is not None:
                y = y - problem.values(k, coarse, path)
            level.n += k
            level.total += float(y.sum())
            level.square += float(y.square().sum())


def _result(sums: list[_Sums], bias: float) -> Expectation:
    """Return the sum of the means of all levels as an estimate with its error."""
    levels = tuple(Level(s.steps, s.n, s.mean, s.variance, s.cost) for s in sums)
    stderr = math.sqrt(sum(level.variance / level.n for level in levels))
    value = sum(level.mean for level in levels)
    cost = sum(s.n * s.cost for s in sums)
    return Expectation(value, stderr, cost=cost, bias=bias, levels=levels)
