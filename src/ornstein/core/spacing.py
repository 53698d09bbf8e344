"""Time grids: where to put n steps between T and 0.

A spacing is a function ``(sde, n) -> times`` with ``n + 1`` decreasing times, T first and 0 last. Apart from the ends, which
are exact, a spacing is uniform in some clock of the process: t itself, its square root, the angle ``atan(sigma / alpha)``, the
log-SNR, or a power of the noise-to-signal ratio. Clocks that are infinite at an end are cut: the first time is then T
itself, and the last step jumps from the cut to 0. A clock that is finite at 0 is uniform down to there.
"""

__all__ = ["Karras", "Lu", "cosine", "log_snr", "named", "quadratic", "uniform"]

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.linear import LinearSDE
from ornstein.errors import OrnsteinError, UnknownNameError

Spacing = Callable[[LinearSDE, int], Tensor]

LOG_SNR_RANGE = (-10.0, -2 * math.log(0.002))  # cuts: alpha / sigma = e^-5, and EDM's sigma_min = 0.002


def _ramp(n: int) -> Tensor:
    """``n + 1`` numbers from 0 to 1, float64."""
    if n < 1:
        raise OrnsteinError(f"a grid of {n} steps: at least 1 step is needed, usually 10 to 100")
    return torch.linspace(0, 1, n + 1, dtype=torch.float64)


def uniform(sde: LinearSDE, n: int) -> Tensor:
    """Equal steps in t."""
    return sde.T * (1 - _ramp(n))


def quadratic(sde: LinearSDE, n: int) -> Tensor:
    """Equal steps in sqrt(t). Song et al. 2021 (DDIM), appendix D.2."""
    return sde.T * (1 - _ramp(n)).square()


def cosine(sde: LinearSDE, n: int) -> Tensor:
    """Equal steps in the angle ``atan(sigma / alpha)``, in which a cosine schedule is uniform. Nichol and Dhariwal 2021."""
    return sde.times(n)


def log_snr(sde: LinearSDE, n: int) -> Tensor:
    """Equal steps in the log-SNR, cut to `LOG_SNR_RANGE` where it is infinite, then a step to 0."""
    return _in_clock(sde, n, *_range(sde), lambda clock: clock)


@dataclass(frozen=True)
class Lu:
    """Equal steps in the log-SNR from T to ``t_min T``, then a step to 0. Lu et al. 2022 (DPM-Solver), section 3.3."""

    t_min: float = 1e-3

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        return _in_clock(sde, n, _range(sde)[0], float(sde.log_snr(self.t_min * sde.T)), lambda clock: clock)


@dataclass(frozen=True)
class Karras:
    """Equal steps in ``(sigma / alpha)^(1 / rho)`` between two noise-to-signal ratios, then a step to 0.

    Karras et al. 2022 (EDM), eq. 5. ``sigma_max = None`` takes what the process ends with.
    """

    rho: float = 7.0
    sigma_min: float = 0.002
    sigma_max: float | None = None

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        high = self.sigma_max or math.exp(-_range(sde)[0] / 2)
        low = max(self.sigma_min, math.exp(-float(sde.log_snr(0.0)) / 2))
        return _in_clock(
            sde, n, high ** (1 / self.rho), low ** (1 / self.rho), lambda clock: -2 * self.rho * clock.log()
        )  # fmt: skip


def _range(sde: LinearSDE) -> tuple[float, float]:
    """The log-SNR at T and at 0, cut where infinite."""
    low, high = float(sde.log_snr(sde.T)), float(sde.log_snr(0.0))
    return (low if math.isfinite(low) else LOG_SNR_RANGE[0]), min(high, LOG_SNR_RANGE[1])


def _in_clock(sde: LinearSDE, n: int, first: float, last: float, to_log_snr: Callable[[Tensor], Tensor]) -> Tensor:
    """n steps uniform in a clock from ``first`` to ``last``; if the process goes on to 0 from there, the last step does."""
    end, ramp = float(to_log_snr(torch.tensor(last, dtype=torch.float64))), _ramp(n)
    if end < float(sde.log_snr(0.0)) - 1e-9:
        ramp = torch.cat([_ramp(max(n - 1, 1))[:n], ramp[-1:]])
    times = sde.time(to_log_snr(first + ramp * (last - first)))
    times[0], times[-1] = sde.T, 0.0
    return times


_NAMES: dict[str, Spacing] = {
    "cosine": cosine, "karras": Karras(), "log_snr": log_snr, "lu": Lu(), "quadratic": quadratic, "uniform": uniform,
}  # fmt: skip


def named(name: str) -> Spacing:
    """The spacing of that name, for command lines and configurations."""
    if name not in _NAMES:
        raise UnknownNameError("spacing", name, _NAMES)
    return _NAMES[name]
