"""Time grids given as numbers: the steps of a discrete chain, or a table of noise levels.

A chain of K steps (`DiscreteVP`) is at ``t = k / K``; its network was trained on the steps k = 1,
..., K, which diffusers counts from 0. `Table` takes noise-to-signal ratios ``r = sigma / alpha``.
Of all spacings only `Leading` starts below T, as its definition in the literature says; the state
that is passed to the simulation loop is then taken to be the state at ``times[0]``.
"""

__all__ = ["Leading", "Linspace", "Table", "trailing"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ornstein.core.processes.custom import DiscreteVP
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.timesteps.grid import grid_in_levels, ramp
from ornstein.errors import OrnsteinError


def trailing(sde: LinearSDE, n: int) -> Tensor:
    """Return the steps ``round(K - i K / n)`` of a chain, i = 0, ..., n - 1, then the data.

    The grid always has the last step of the chain. Lin et al. 2024 (Common diffusion noise
    schedules are flawed), table 2; ``timestep_spacing="trailing"`` in diffusers.
    """
    K = _length(sde, n, n)
    # as diffusers writes it: equal also where rounding is a tie
    return _at_steps(np.arange(K, 0, -K / n)[:n].round(), K)


@dataclass(frozen=True)
class Leading:
    """The grid of the steps ``i floor(K / n) + 1 + offset`` of a chain, then the data.

    i runs from n - 1 down to 0, so the grid starts below T. Lin et al. 2024, table 2;
    ``timestep_spacing="leading"`` in diffusers.

    Args:
        offset: ``steps_offset`` in diffusers.
        drop_last: of a grid of one step more the last is left out, as the schedulers of DPM-Solver,
            UniPC and DEIS do.
    """

    offset: int = 0
    drop_last: bool = False

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        points = n + self.drop_last
        K = _length(sde, n, points)
        steps = np.arange(points - 1, points - 1 - n, -1) * (K // points) + 1 + self.offset
        if not 1 <= steps[-1] <= steps[0] <= K:
            raise OrnsteinError(
                f"{self} with n={n}: starts at step {steps[0]} of a chain that has {K}; use"
                " offset=0 or fewer steps"
            )
        return _at_steps(steps, K)


@dataclass(frozen=True)
class Linspace:
    """The grid of n steps of a chain evenly from K down to 1, then the data.

    Nichol and Dhariwal 2021, section 4; Lin et al. 2024, table 2; ``timestep_spacing="linspace"``
    in diffusers, except that a single step is the step from K.

    Args:
        rounded: to whole steps; otherwise the noise-to-signal ratio is interpolated linearly
            between steps, as diffusers' Euler, Heun and LMS do.
        drop_last: of a grid of one step more the last is left out, as the schedulers of DPM-Solver,
            UniPC and DEIS do.
    """

    rounded: bool = True
    drop_last: bool = False

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        points = n + self.drop_last
        K = _length(sde, n, points)
        steps = np.linspace(0, K - 1, points)[::-1][:n] if points > 1 else np.array([K - 1.0])
        if self.rounded:
            return _at_steps(steps.round() + 1, K)
        left = np.clip(np.floor(steps), 0, K - 2)
        low, high = (sde.ratio(torch.from_numpy(k / K)) for k in (left + 1, left + 2))
        times = sde.time(-2 * torch.lerp(low, high, torch.from_numpy(steps - left)).log())
        times[0] = sde.T
        return torch.cat([times, times.new_zeros(1)])


@dataclass(frozen=True)
class Table:
    """A grid given as a table of noise-to-signal ratios, then a step to 0.

    The table is interpolated log-linearly to n ratios. For published tables; Sabour et al. 2024
    (Align Your Steps) interpolate so. The first time is T.

    Args:
        ratios: ``sigma / alpha``, decreasing, at least 2; a 0 at the end is left out.
    """

    ratios: Sequence[float]

    def __post_init__(self) -> None:
        try:
            ratios = tuple(float(r) for r in self.ratios)
        except (TypeError, ValueError) as error:
            raise OrnsteinError(
                f"Table({self.ratios!r}): pass a sequence of ratios sigma / alpha, such as (80.0,"
                " 1.0, 0.002)"
            ) from error
        object.__setattr__(self, "ratios", ratios[:-1] if ratios and ratios[-1] == 0 else ratios)
        falls = all(a > b for a, b in zip(self.ratios, self.ratios[1:], strict=False))
        if len(self.ratios) < 2 or not falls or not 0 < self.ratios[-1] < math.inf:
            raise OrnsteinError(
                f"Table({ratios}): at least two ratios sigma / alpha, positive and decreasing, are"
                " needed"
            )

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        log_snr = -2 * np.log(self.ratios)
        positions = np.linspace(0, 1, len(log_snr))
        times = grid_in_levels(
            sde,
            n,
            float(log_snr[-1]),
            lambda u: torch.from_numpy(np.interp(u.numpy(), positions, log_snr)),
        )
        if not bool((times.diff() < 0).all()):
            high, low = (float(sde.ratio(t)) for t in (sde.T, 0.0))
            raise OrnsteinError(
                f"a table of noise-to-signal ratios from {self.ratios[0]:g} to {self.ratios[-1]:g}"
                f" on {type(sde).__name__}, which has those from {high:g} to {low:g}: leave out the"
                " others"
            )
        return times


def _length(sde: LinearSDE, n: int, points: int) -> int:
    """Return the length K of a chain, or raise if it has fewer steps than the grid needs."""
    ramp(n)
    if not isinstance(sde, DiscreteVP):
        raise OrnsteinError(
            f"{type(sde).__name__} has no steps to choose from: trailing, leading and linspace are"
            " for DiscreteVP; use uniform"
        )
    if points > len(sde.betas):
        raise OrnsteinError(
            f"a grid of {n} steps on a chain of {len(sde.betas)}: fewer steps, or uniform, which"
            " goes between them"
        )
    return len(sde.betas)


def _at_steps(steps: np.ndarray, K: int) -> Tensor:
    """Return the times of the steps of a chain of length K, then the time 0."""
    return torch.from_numpy(np.append(steps / K, 0.0))
