"""Samplers of other libraries and papers, all in one form: a `Column` takes start points and a
number of evaluations.

States are in EDM coordinates ``y = x / alpha`` and levels are noise-to-signal ratios ``sigma /
alpha``; every peer computes in its own. Each module exports ``COLUMNS``, a dictionary from the name
of a configuration to its column.
"""

__all__ = ["SIGMA_MAX", "Column", "Counted", "column"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.problems import Problem

SIGMA_MAX = 80.0  # the level of the states that a column is given

Column = Callable[[Problem, Tensor, int], tuple[Tensor, float] | None]
"""``(problem, y, evaluations) -> (y_end, sigma_end)``: from 80 z to where the peer ends, or None
where it has no such run."""


@dataclass(eq=False)
class Counted:
    """The exact denoiser of a problem, which counts its calls.

    Args:
        problem: whose denoiser.
        y: ``(b, d)``, the start at level 80.
        dry: whether only the calls matter: the answer is then 0.
    """

    problem: Problem
    y: Tensor
    dry: bool = False
    calls: int = 0

    def __call__(self, y: Tensor, sigma: float) -> Tensor:
        """``E[x_0 | y]`` in float64."""
        self.calls += 1
        return (
            torch.zeros_like(y, dtype=torch.float64)
            if self.dry
            else self.problem.denoise(y.double(), float(sigma))
        )

    def start(self, sigma: float) -> Tensor:
        """The state at the level where a peer starts.

        Above 80 it is the point that the exact flow brings to y, so that one reference serves all
        peers. Below 80 the peer takes noise for what it is not, and this error is its own: the
        start is ``sigma z``.
        """
        if self.dry or sigma <= SIGMA_MAX * (1 + 1e-6):
            return self.y.double() * (sigma / SIGMA_MAX)
        return self.problem.flow(self.y, SIGMA_MAX)(sigma)


def column(
    solve: Callable[[Counted, int], tuple[Tensor, float]], calls: int = 1, least: int = 1
) -> Column:
    """The column that takes as many steps as the evaluations allow, and never evaluates more often.

    Args:
        solve: ``(denoiser, steps) -> (y_end, sigma_end)``.
        calls: a lower bound of the calls per step, for a first guess.
        least: the least number of steps that the method can take.
    """

    def run(problem: Problem, y: Tensor, evaluations: int) -> tuple[Tensor, float] | None:
        for steps in range(evaluations // calls + 1, least - 1, -1):
            probe = Counted(problem, y[:1], dry=True)
            solve(probe, steps)
            if probe.calls <= evaluations:
                break
        else:
            return None
        denoiser = Counted(problem, y)
        end = solve(denoiser, steps)
        assert denoiser.calls <= evaluations, f"{denoiser.calls} calls of {evaluations}"
        return end

    return run
