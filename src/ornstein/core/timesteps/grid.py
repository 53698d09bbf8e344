"""Common parts of time grids: the type of a spacing, the ends of a grid, and the last step to 0.

Notation: ``r = sigma / alpha`` is the noise-to-signal ratio and ``lambda = -2 log r`` the log-SNR.
A grid that is uniform in a variable that is infinite at an end is cut there: the first time is then
T itself, and the last step jumps from the cut to 0.
"""

__all__ = [
    "LOG_SNR_RANGE",
    "Spacing",
    "grid_in_levels",
    "grid_in_log_snr",
    "log_snr_ends",
    "ramp",
    "ratio_ends",
]

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.core.numerics.checks import require_finite
from ornstein.core.processes.constants import check_steps
from ornstein.core.processes.linear import LinearSDE
from ornstein.errors import OrnsteinError

Spacing = Callable[[LinearSDE, int], Tensor]
"""``(sde, n) -> times``: ``n + 1`` times, decreasing, float64."""

LOG_SNR_RANGE = (-10.0, -2 * math.log(0.002))
"""Where an infinite log-SNR is cut: ``alpha / sigma = e^-5``, and the ``sigma_min`` of EDM."""

_LOG_SNR_TOLERANCE = 1e-9  # a last level this close to the log-SNR at 0 is the data itself


def ramp(n: int) -> Tensor:
    """Return ``n + 1`` equidistant numbers from 0 to 1, float64.

    Raises:
        OrnsteinError: if n is not a positive integer.
    """
    check_steps(n)
    return torch.linspace(0, 1, n + 1, dtype=torch.float64)


def log_snr_ends(sde: LinearSDE) -> tuple[float, float]:
    """Return the log-SNR at T and at 0, cut to `LOG_SNR_RANGE` where it is infinite."""
    low, high = float(sde.log_snr(sde.T)), float(sde.log_snr(0.0))
    return (low if math.isfinite(low) else LOG_SNR_RANGE[0]), min(high, LOG_SNR_RANGE[1])


def ratio_ends(sde: LinearSDE, sigma_min: float, sigma_max: float | None) -> tuple[float, float]:
    """Return the largest and the smallest noise-to-signal ratio of a grid.

    These are the given ones, as far as the process has them.

    Args:
        sde: the process.
        sigma_min, sigma_max: ratios ``sigma / alpha``; None for the ratio at T.

    Raises:
        OrnsteinError: if they are no positive numbers, or leave no range.
    """
    require_finite(sigma_min=sigma_min)
    if sigma_max is not None:
        require_finite(sigma_max=sigma_max)
    last, first = (float(sde.ratio(t)) for t in (sde.T, 0.0))
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


def grid_in_levels(
    sde: LinearSDE, n: int, last: float, levels: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return a grid of n steps that is given by its log-SNRs.

    It has T, the levels in between, and 0. The step to 0 is one more step where the last level of
    the grid still has more noise than the data.

    Args:
        sde: the process.
        n: number of steps.
        last: the last log-SNR.
        levels: from positions, evenly from 0 to 1, to log-SNRs, increasing to ``last``.
    """
    check_steps(n)
    steps_to_zero = last < float(sde.log_snr(0.0)) - _LOG_SNR_TOLERANCE
    times = sde.time(levels(ramp(max(n - 1, 1))[:n] if steps_to_zero else ramp(n)))
    if steps_to_zero:
        times = torch.cat([times, times.new_zeros(1)])
    times[0], times[-1] = sde.T, 0.0
    return times


def grid_in_log_snr(sde: LinearSDE, n: int, first: float, last: float) -> Tensor:
    """Return a grid with equal steps in the log-SNR from ``first`` to ``last``, then 0."""
    return grid_in_levels(sde, n, last, lambda u: first + u * (last - first))
