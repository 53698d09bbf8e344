"""Spacings of time grids: functions that place n steps between T and 0.

A spacing is a function ``(sde, n) -> times`` with ``n + 1`` decreasing times, T first (`Leading`
excepted) and 0 last. Every sampler takes one as its ``spacing``. Apart from the ends, which are
exact, the usual grids are uniform in a function of time: t itself, a root of t, the angle
``atan(sigma / alpha)``, the log-SNR, or a power of the noise-to-signal ratio ``r = sigma / alpha``.
A grid in a function that is infinite at an end is cut there: the first time is then T itself, and
the last step jumps from the cut to 0.

All spacings have their names in this module. Those with ends of one's choice are in
`ornstein.core.timesteps.noise_levels`, those that choose among the steps of a chain or take a table
in `ornstein.core.timesteps.chains`, and the one that is computed from the data in
`ornstein.core.timesteps.align_your_steps`.
"""

__all__ = [
    "Aligned",
    "Balanced",
    "Beta",
    "Exponential",
    "Karras",
    "Leading",
    "Linspace",
    "Lu",
    "Polyexponential",
    "Power",
    "Shifted",
    "Spacing",
    "Table",
    "as_spacing",
    "cosine",
    "log_snr",
    "named",
    "names",
    "quadratic",
    "trailing",
    "uniform",
]

from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.numerics.checks import require_positive
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.timesteps.align_your_steps import Aligned
from ornstein.core.timesteps.chains import Leading, Linspace, Table, trailing
from ornstein.core.timesteps.grid import Spacing, grid_in_log_snr, log_snr_ends, ramp
from ornstein.core.timesteps.noise_levels import (
    Balanced,
    Beta,
    Exponential,
    Karras,
    Lu,
    Polyexponential,
    Power,
)
from ornstein.errors import OrnsteinError, look_up


def uniform(sde: LinearSDE, n: int) -> Tensor:
    """Return a grid of n equal steps in t, from T to 0."""
    return sde.T * (1 - ramp(n))


def quadratic(sde: LinearSDE, n: int) -> Tensor:
    """Return a grid of n equal steps in the square root of t.

    Song et al. 2021 (DDIM), appendix D.2.
    """
    return sde.T * (1 - ramp(n)).square()


def cosine(sde: LinearSDE, n: int) -> Tensor:
    """Return a grid of n equal steps in the angle ``atan(sigma / alpha)``.

    In this angle the cosine process is uniform. Nichol and Dhariwal 2021.
    """
    return sde.times(n)


def log_snr(sde: LinearSDE, n: int) -> Tensor:
    """Return a grid of n steps that is uniform in the log-SNR, then a step to 0.

    The log-SNR is cut where it is infinite: at -10, and at EDM's noise level of 0.002.
    """
    return grid_in_log_snr(sde, n, *log_snr_ends(sde))


@dataclass(frozen=True)
class Shifted:
    """A grid at ``shift`` times the noise-to-signal ratios of another grid.

    It puts more steps in the noise, for large images or wide data. ``r' = shift r``; on
    `RectifiedFlow` this is ``t' = shift t / (1 + (shift - 1) t)``. Where the process has ratios
    from ``a > 0`` or to ``b < inf`` only, both stay where they are: ``(r' - a) / (1 - r' / b) =
    shift (r - a) / (1 - r / b)``. Hoogeboom et al. 2023 (simple diffusion), section 3.1; Esser et
    al. 2024 (SD3), eq. 23; ``shift`` in diffusers' flow-matching schedulers.

    Args:
        spacing: the grid that is moved, or its name.
        shift: positive; the ratio of the image sides, to SD3 the root of the ratio of their pixels;
            for the angle of `cosine` it is the width c of the data, ``atan(sigma / (c alpha))``.
    """

    spacing: Spacing | str
    shift: float = 3.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "spacing", as_spacing(self.spacing))
        require_positive(self, "shift", usual="usually 1 to 12")

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        base = as_spacing(self.spacing)(sde, n)
        r, b, a = (sde.ratio(t) for t in (base, sde.T, 0.0))
        q = self.shift * (r - a) / (1 - r / b)
        times = sde.time(-2 * ((a + q) / (1 + q / b)).log())
        return torch.where((base == sde.T) | (base == 0), base, times)


_NAMES: dict[str, Spacing] = {
    "balanced": Balanced(),
    "beta": Beta(),
    "cosine": cosine,
    "exponential": Exponential(),
    "karras": Karras(),
    "leading": Leading(),
    "linspace": Linspace(),
    "log_snr": log_snr,
    "lu": Lu(),
    "polyexponential": Polyexponential(),
    "quadratic": quadratic,
    "trailing": trailing,
    "uniform": uniform,
}

names: tuple[str, ...] = tuple(_NAMES)
"""The names of spacings that `named` takes."""


def named(name: str) -> Spacing:
    """Return the spacing of a name, for command lines and configurations.

    Raises:
        UnknownNameError: for a name that no spacing has.
    """
    return look_up("spacing", name, _NAMES)


def as_spacing(spacing: Spacing | str) -> Spacing:
    """Return the spacing that a name stands for; a spacing is returned as it is.

    Raises:
        UnknownNameError: for a name that no spacing has.
        OrnsteinError: for what is neither a name nor a function ``(sde, n) -> times``.
    """
    if isinstance(spacing, str):
        return named(spacing)
    if not callable(spacing):
        raise OrnsteinError(
            f"spacing={spacing!r}: pass a member of orn.spacing, its name, such as 'cosine', or a"
            " function (sde, n) -> times"
        )
    return spacing
