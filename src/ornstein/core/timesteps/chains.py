"""Time grids that are given as numbers: the steps of a chain, a table of levels, another grid moved
along the noise levels.

Notation: ``r = sigma / alpha`` is the noise-to-signal ratio and ``lambda = -2 log r`` the log-SNR.
A chain of K steps is at ``t = k / K``; its network was trained on the steps k = 1, ..., K, which
diffusers counts from 0. See `ornstein.spacing` for what a spacing is. Of the grids there, these
alone may start below T: `Leading` does, as its definition says, and the state that is handed to the
loop is then taken to be the state at ``times[0]``.
"""

__all__ = ["Leading", "Linspace", "Shifted", "Table", "trailing"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ornstein.core.processes.custom import DiscreteVP
from ornstein.core.processes.linear import LinearSDE
from ornstein.errors import OrnsteinError

Spacing = Callable[[LinearSDE, int], Tensor]
"""``(sde, n) -> times``: ``n + 1`` times, decreasing, float64."""

LOG_SNR_RANGE = (
    -10.0,
    -2 * math.log(0.002),
)  # cuts: alpha / sigma = e^-5, and EDM's sigma_min = 0.002


def ramp(n: int) -> Tensor:
    """``n + 1`` numbers from 0 to 1, float64."""
    if n < 1:
        raise OrnsteinError(f"a grid of {n} steps: at least 1 step is needed, usually 10 to 100")
    return torch.linspace(0, 1, n + 1, dtype=torch.float64)


def log_snr_ends(sde: LinearSDE) -> tuple[float, float]:
    """The log-SNR at T and at 0, cut where infinite."""
    low, high = float(sde.log_snr(sde.T)), float(sde.log_snr(0.0))
    return (low if math.isfinite(low) else LOG_SNR_RANGE[0]), min(high, LOG_SNR_RANGE[1])


def ratio_ends(sde: LinearSDE, sigma_min: float, sigma_max: float | None) -> tuple[float, float]:
    """The largest and the smallest noise-to-signal ratio of a grid: those asked for, as far as the
    process has them."""
    last, first = (math.exp(-float(sde.log_snr(t)) / 2) for t in (sde.T, 0.0))
    high = min(sigma_max, last) if sigma_max else math.exp(-log_snr_ends(sde)[0] / 2)
    low = max(sigma_min, first)
    if not 0 < low < high:
        raise OrnsteinError(
            f"a grid of noise-to-signal ratios from {high:g} down to {low:g} on"
            f" {type(sde).__name__}, which has those from {last:g} to {first:g}:"
            f" sigma_min={sigma_min} must be positive and below sigma_max={sigma_max}, within what"
            " the process has"
        )
    return high, low


def in_clock(sde: LinearSDE, n: int, last: float, levels: Callable[[Tensor], Tensor]) -> Tensor:
    """n steps: T, the levels in between, and 0, which is one more step where the process goes on
    beyond the last level.

    Args:
        sde: the process.
        n: number of steps.
        last: the last log-SNR.
        levels: from positions, evenly from 0 to 1, to log-SNRs, increasing to ``last``.
    """
    beyond = last < float(sde.log_snr(0.0)) - 1e-9
    times = sde.time(levels(ramp(max(n - 1, 1))[:n] if beyond and n > 0 else ramp(n)))
    if beyond:
        times = torch.cat([times, times.new_zeros(1)])
    times[0], times[-1] = sde.T, 0.0
    return times


def trailing(sde: LinearSDE, n: int) -> Tensor:
    """The steps ``round(K - i K / n)`` of a chain, i = 0, ..., n - 1, then the data: the last step
    always counts.

    Lin et al. 2024 (Common diffusion noise schedules are flawed), table 2;
    ``timestep_spacing="trailing"`` in diffusers.
    """
    K = _length(sde, n, n)
    return _at_steps(
        np.arange(K, 0, -K / n)[:n].round(), K
    )  # as diffusers writes it: equal also where rounding is a tie


@dataclass(frozen=True)
class Leading:
    """The steps ``i floor(K / n) + 1 + offset`` of a chain, i = n - 1, ..., 0, then the data.
    Starts below T.

    Lin et al. 2024, table 2; ``timestep_spacing="leading"`` in diffusers.

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
    """n steps of a chain evenly from K down to 1, then the data. Nichol and Dhariwal 2021, section
    4.

    Lin et al. 2024, table 2; ``timestep_spacing="linspace"`` in diffusers, except that a single
    step is the step from K.

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
        low, high = (
            (-sde.log_snr(torch.from_numpy(k / K)) / 2).exp() for k in (left + 1, left + 2)
        )
        times = sde.time(-2 * torch.lerp(low, high, torch.from_numpy(steps - left)).log())
        times[0] = sde.T
        return torch.cat([times, times.new_zeros(1)])


@dataclass(frozen=True)
class Table:
    """A grid given as noise-to-signal ratios, interpolated log-linearly to n of them, then a step
    to 0.

    For published tables; Sabour et al. 2024 (Align Your Steps) interpolate so. The first time is T.

    Args:
        ratios: ``sigma / alpha``, decreasing, at least 2; a 0 at the end is left out.
    """

    ratios: Sequence[float]

    def __post_init__(self) -> None:
        ratios = tuple(float(r) for r in self.ratios)
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
        times = in_clock(
            sde,
            n,
            float(log_snr[-1]),
            lambda u: torch.from_numpy(np.interp(u.numpy(), positions, log_snr)),
        )
        if not bool((times.diff() < 0).all()):
            high, low = (math.exp(-float(sde.log_snr(t)) / 2) for t in (sde.T, 0.0))
            raise OrnsteinError(
                f"a table of noise-to-signal ratios from {self.ratios[0]:g} to {self.ratios[-1]:g}"
                f" on {type(sde).__name__}, which has those from {high:g} to {low:g}: leave out the"
                " others"
            )
        return times


@dataclass(frozen=True)
class Shifted:
    """Another grid at ``shift`` times its noise-to-signal ratios: more steps in the noise for large
    images, or wide data.

    ``r' = shift r``; on `RectifiedFlow` this is ``t' = shift t / (1 + (shift - 1) t)``. Where the
    process has ratios from ``a > 0`` or to ``b < inf`` only, both stay where they are: ``(r' - a) /
    (1 - r' / b) = shift (r - a) / (1 - r / b)``. Hoogeboom et al. 2023 (simple diffusion), section
    3.1; Esser et al. 2024 (SD3), eq. 23; ``shift`` in diffusers' flow-matching schedulers.

    Args:
        spacing: the grid that is moved.
        shift: positive; the ratio of the image sides, to SD3 the root of the ratio of their pixels;
            for the angle of `cosine` it is the width c of the data, ``atan(sigma / (c alpha))``.
    """

    spacing: Spacing
    shift: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.shift < math.inf:
            raise OrnsteinError(
                f"Shifted(shift={self.shift}): positive and finite, usually 1 to 12"
            )

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        base = self.spacing(sde, n)
        r, b, a = ((-sde.log_snr(t) / 2).exp() for t in (base, sde.T, 0.0))
        q = self.shift * (r - a) / (1 - r / b)
        times = sde.time(-2 * ((a + q) / (1 + q / b)).log())
        return torch.where((base == sde.T) | (base == 0), base, times)


def _length(sde: LinearSDE, n: int, points: int) -> int:
    """K of a chain that has room for the points."""
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
    """Times of the steps, then 0."""
    return torch.from_numpy(np.append(steps / K, 0.0))
