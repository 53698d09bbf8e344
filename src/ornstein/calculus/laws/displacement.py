"""From trajectories to a diffusion constant: mean squared displacements, and a fit with its error.

For ``dX = v dt + sqrt(2 D) dB`` in d dimensions ``E|X_{t+s} - X_t|^2 = |v|^2 s^2 + 2 d D s``.
Displacements over overlapping intervals share increments, and so do those at different lags; a line
fitted to the curve as if its points were independent claims a precision that it does not have.
Increments over *disjoint* intervals of length s are independent. With m of them,

    v = mean(dx) / s,    D = var(dx) / (2 s),                                                    (1)

which for normal increments is all that the data say (maximum likelihood), with standard errors

    stderr(v) = std(dx) / sqrt(m) / s,    stderr(D) = std((dx - v s)^2) / sqrt(m) / (2 s),       (2)

for any law of the increments, so also for those of a walk on a lattice; in several dimensions the
squares are averaged over them. Qian, Sheetz and Elson 1991; Berglund 2010.
"""

__all__ = ["Displacements", "Transport", "estimate_diffusion_constant", "mean_squared_displacement"]

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.errors import DataError, OrnsteinError


class Transport(NamedTuple):
    """Estimates (1) with standard errors (2).

    Attributes:
        diffusion, diffusion_stderr: D, the mean over the dimensions, length^2 per time.
        velocity, velocity_stderr: v, ``(d,)``, length per time.
        increments: how many independent increments were used, per dimension.
    """

    diffusion: float
    diffusion_stderr: float
    velocity: Float[Tensor, " d"]
    velocity_stderr: Float[Tensor, " d"]
    increments: int


class Displacements(NamedTuple):
    """A curve of mean squared displacements.

    Attributes:
        lags: times s, ``(l,)``.
        value: mean of ``|X_{t+s} - X_t|^2`` over t and over trajectories, ``(l,)``.
        stderr: standard error from the scatter between trajectories, ``(l,)``; points of the curve
            are correlated.
    """

    lags: Float[Tensor, " l"]
    value: Float[Tensor, " l"]
    stderr: Float[Tensor, " l"]


def _trajectories(x: Tensor, least: int) -> Tensor:
    """``(n, times)`` or ``(n, times, d)`` as float64 ``(n, times, d)``."""
    if x.ndim not in (2, 3) or x.shape[1] < least:
        raise DataError(
            f"trajectories of shape {tuple(x.shape)}: need (n, times) or (n, times, d) with at"
            f" least {least} times"
        )
    if not bool(torch.isfinite(x).all()):
        raise DataError(
            "trajectories with NaN or infinite entries: cut them where a particle was lost"
        )
    return x.detach().double().reshape(*x.shape[:2], -1)


def mean_squared_displacement(
    x: Float[Tensor, "n times *d"], dt: float, lags: Sequence[int]
) -> Displacements:
    """Mean squared displacement over all starts within each trajectory, with the scatter between
    trajectories as the error.

    Args:
        x: ``(n, times)`` or ``(n, times, d)``: n >= 2 independent trajectories at equidistant
            times.
        dt: time between rows.
        lags: whole numbers of dt, from 1 to ``times - 1``.

    Raises:
        DataError: if there are fewer than 2 trajectories, or NaN.
        OrnsteinError: if a lag does not fit.
    """
    paths = _trajectories(x, 2)
    if len(paths) < 2:
        raise DataError(
            "one trajectory has no scatter between trajectories: cut it into pieces, or use"
            " fit_diffusion"
        )
    if not lags or not all(1 <= lag < paths.shape[1] for lag in lags):
        raise OrnsteinError(
            f"lags {list(lags)[:4]} ...: must be whole numbers from 1 to {paths.shape[1] - 1}"
        )
    each = torch.stack(
        [(paths[:, lag:] - paths[:, :-lag]).square().sum(2).mean(1) for lag in lags], 1
    )
    return Displacements(
        dt * torch.tensor(lags, dtype=torch.float64), each.mean(0), each.std(0) / len(each) ** 0.5
    )


def estimate_diffusion_constant(
    x: Float[Tensor, "n times *d"], dt: float, lag: int = 1
) -> Transport:
    """Diffusion constant and velocity (1) from trajectories, with standard errors (2).

    Only disjoint increments are used, so the errors hold as they stand. Where the motion is not
    diffusive at once (inertia, a camera's error), take a lag beyond which the mean squared
    displacement is straight. The same D is assumed in all dimensions.

    Args:
        x: ``(n, times)`` or ``(n, times, d)``: one or more independent trajectories at equidistant
            times.
        dt: time between rows.
        lag: length of the increments in units of dt.

    Raises:
        DataError: if there are fewer than 4 increments, or NaN.
        OrnsteinError: if the lag does not fit.
    """
    paths = _trajectories(x, 2)
    if not (dt > 0 and 1 <= lag < paths.shape[1]):
        raise OrnsteinError(
            f"dt={dt}, lag={lag}: needs dt > 0 and a whole lag from 1 to {paths.shape[1] - 1}"
        )
    jumps = paths[:, ::lag].diff(dim=1).flatten(0, 1)
    m, s = len(jumps), dt * lag
    if m < 4:
        raise DataError(
            f"{m} independent increments at lag {lag}: at least 4 are needed, many for an error to"
            " mean anything"
        )
    squares = (jumps - jumps.mean(0)).square().mean(1)
    diffusion = float(squares.sum()) / (m - 1) / (2 * s)  # (1)
    stderr = float(squares.std()) / m**0.5 / (2 * s)  # (2)
    return Transport(diffusion, stderr, jumps.mean(0) / s, jumps.std(0) / m**0.5 / s, m)  # (1), (2)
