"""Time grids: where to put n steps between T and 0.

A spacing is a function ``(sde, n) -> times`` with ``n + 1`` decreasing times, T first and 0 last. Apart from the ends, which
are exact, a spacing is uniform in some clock of the process: t itself, its square root, the angle ``atan(sigma / alpha)``, the
log-SNR, or a power of the noise-to-signal ratio. Clocks that are infinite at an end are cut: the first time is then T
itself, and the last step jumps from the cut to 0.
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


def _ramp(n: int, last: int = 0) -> Tensor:
    """``n + 1`` numbers from 0 to 1, float64; with ``last = 1`` only ``n``, the end 0 being appended by the caller."""
    if n < 1:
        raise OrnsteinError(f"a grid of {n} steps: at least 1 step is needed, usually 10 to 100")
    return torch.linspace(0, 1, n + 1 - last, dtype=torch.float64)


def uniform(sde: LinearSDE, n: int) -> Tensor:
    """Equal steps in t."""
    return sde.T * (1 - _ramp(n))


def quadratic(sde: LinearSDE, n: int) -> Tensor:
    """Equal steps in sqrt(t). Song et al. 2021 (DDIM), appendix D.2."""
    return sde.T * (1 - _ramp(n)).square()


def cosine(sde: LinearSDE, n: int) -> Tensor:
    """Equal steps in the angle ``atan(sigma / alpha)``, in which a cosine schedule is uniform. Nichol and Dhariwal 2021."""
    T = torch.tensor(sde.T, dtype=torch.float64)
    largest = math.pi / 2 if sde.pinned else torch.atan2(sde.sigma(T), sde.alpha(T))
    angle = largest * (1 - _ramp(n))
    return _pin_ends(sde, sde.time(-2 * angle.tan().log()))


def log_snr(sde: LinearSDE, n: int) -> Tensor:
    """Equal steps in the log-SNR, cut to `LOG_SNR_RANGE` where it is infinite, then a step to 0."""
    return _from_log_snr(sde, n, *_range(sde))


@dataclass(frozen=True)
class Lu:
    """Equal steps in the log-SNR from T to ``t_min T``, then a step to 0. Lu et al. 2022 (DPM-Solver), section 3.3."""

    t_min: float = 1e-3

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        return _from_log_snr(sde, n, _range(sde)[0], float(sde.log_snr(self.t_min * sde.T)))


@dataclass(frozen=True)
class Karras:
    """Equal steps in ``(sigma / alpha)^(1 / rho)`` between two noise-to-signal ratios, then a step to 0.

    Karras et al. 2022 (EDM), eq. 5. ``sigma_max = None`` takes what the process ends with.
    """

    rho: float = 7.0
    sigma_min: float = 0.002
    sigma_max: float | None = None

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        sigma_max = self.sigma_max or math.exp(-_range(sde)[0] / 2)
        high, low = sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        ratio = (high + _ramp(n, last=1) * (low - high)) ** self.rho
        return _pin_ends(sde, torch.cat([sde.time(-2 * ratio.log()), ratio.new_zeros(1)]))


def _range(sde: LinearSDE) -> tuple[float, float]:
    """The log-SNR at T and at 0, cut where infinite."""
    low, high = float(sde.log_snr(sde.T)), float(sde.log_snr(0.0))
    return (low if math.isfinite(low) else LOG_SNR_RANGE[0]), min(high, LOG_SNR_RANGE[1])


def _from_log_snr(sde: LinearSDE, n: int, low: float, high: float) -> Tensor:
    times = sde.time(low + _ramp(n, last=1) * (high - low))
    return _pin_ends(sde, torch.cat([times, times.new_zeros(1)]))


def _pin_ends(sde: LinearSDE, times: Tensor) -> Tensor:
    """Put the ends exactly at T and 0."""
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
