"""Estimation of a diffusion constant from trajectories, with its standard error.

For ``dX = v dt + sqrt(2 D) dB`` in d dimensions ``E|X_{t+s} - X_t|^2 = |v|^2 s^2 + 2 d D s``, the
mean squared displacement. Displacements over overlapping intervals share increments, and so do
those at different lags; a line fitted to the curve as if its points were independent claims a
precision that it does not have. Increments over *disjoint* intervals of length s are independent.
With m of them,

    v = mean(dx) / s,    D = var(dx) / (2 s),                                                    (1)

which for normal increments are sufficient (maximum likelihood), with standard errors

    stderr(v) = std(dx) / sqrt(m) / s,    stderr(D) = std((dx - v s)^2) / sqrt(m) / (2 s),       (2)

for any law of the increments, so also for those of a walk on a lattice; in several dimensions the
squares are averaged over them. Qian, Sheetz and Elson 1991; Berglund 2010.
"""

__all__ = ["Displacements", "Transport", "estimate_diffusion_constant", "mean_squared_displacement"]

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.estimate import Estimate
from ornstein.errors import DataError, OrnsteinError


class Transport(NamedTuple):
    """Diffusion constant and velocity of trajectories, each with its standard error.

    Attributes:
        diffusion: estimate of D, the mean over the dimensions, length^2 per time; a float.
        velocity: estimate of v, ``(d,)``, length per time.
        increments: number of independent increments that were used, per dimension.
    """

    diffusion: Estimate
    velocity: Estimate
    increments: int


@dataclass(frozen=True, eq=False)
class Displacements(Estimate):
    """A curve of mean squared displacements over time lags, with standard errors.

    Attributes:
        value: mean of ``|X_{t+s} - X_t|^2`` over t and over trajectories, ``(l,)``.
        stderr: standard error from the scatter between trajectories, ``(l,)``; points of the curve
            are correlated.
        lags: times s, ``(l,)``.
    """

    _: KW_ONLY
    lags: Float[Tensor, " l"]


_MIN_INCREMENTS = 4  # below that a standard error says nothing


def _trajectories(x: Tensor) -> Tensor:
    """Return ``(n, times)`` or ``(n, times, d)`` as float64 ``(n, times, d)``."""
    if x.ndim not in (2, 3) or x.shape[1] < 2:
        raise DataError(
            f"trajectories of shape {tuple(x.shape)}: need (n, times) or (n, times, d) with at"
            " least 2 times"
        )
    if not bool(torch.isfinite(x).all()):
        raise DataError(
            "trajectories with NaN or infinite entries: cut them where a particle was lost"
        )
    return x.detach().double().reshape(*x.shape[:2], -1)


def mean_squared_displacement(
    x: Float[Tensor, "n times *d"], dt: float, lags: Sequence[int]
) -> Displacements:
    """Estimate the mean squared displacement of trajectories at several time lags.

    The mean is over all starts within each trajectory; the error is from the scatter between
    trajectories.

    Args:
        x: ``(n, times)`` or ``(n, times, d)``: n >= 2 independent trajectories at equidistant
            times.
        dt: time between rows.
        lags: whole numbers of dt, from 1 to ``times - 1``.

    Raises:
        DataError: if there are fewer than 2 trajectories, or NaN.
        OrnsteinError: if a lag does not fit.
    """
    paths = _trajectories(x)
    if len(paths) < 2:
        raise DataError(
            "one trajectory has no scatter between trajectories: cut it into pieces, or use"
            " estimate_diffusion_constant"
        )
    if not lags or not all(1 <= lag < paths.shape[1] for lag in lags):
        raise OrnsteinError(
            f"lags {list(lags)[:4]} ...: must be whole numbers from 1 to {paths.shape[1] - 1}"
        )
    per_trajectory = torch.stack(
        [(paths[:, lag:] - paths[:, :-lag]).square().sum(2).mean(1) for lag in lags], 1
    )
    stderr = per_trajectory.std(0) / len(per_trajectory) ** 0.5
    times = dt * torch.tensor(lags, dtype=torch.float64)
    return Displacements(per_trajectory.mean(0), stderr, lags=times)


def estimate_diffusion_constant(
    x: Float[Tensor, "n times *d"], dt: float, lag: int = 1
) -> Transport:
    """Estimate the diffusion constant and the velocity of trajectories, with standard errors.

    Only disjoint increments are used, so the errors are right as they stand. Where the motion is
    not diffusive at short times (inertia, a camera's error), take a lag beyond which the mean
    squared displacement is straight. The same D is assumed in all dimensions.

    Args:
        x: ``(n, times)`` or ``(n, times, d)``: one or more independent trajectories at equidistant
            times.
        dt: time between rows.
        lag: length of the increments in units of dt.

    Raises:
        DataError: if there are fewer than 4 increments, or NaN.
        OrnsteinError: if the lag does not fit.
    """
    paths = _trajectories(x)
    if not (dt > 0 and 1 <= lag < paths.shape[1]):
        raise OrnsteinError(
            f"dt={dt}, lag={lag}: needs dt > 0 and a whole lag from 1 to {paths.shape[1] - 1}"
        )
    jumps = paths[:, ::lag].diff(dim=1).flatten(0, 1)
    m = len(jumps)
    s = dt * lag
    if m < _MIN_INCREMENTS:
        raise DataError(
            f"{m} independent increments at lag {lag}: at least {_MIN_INCREMENTS} are needed, many"
            " for an error to mean anything"
        )
    squares = (jumps - jumps.mean(0)).square().mean(1)
    value = float(squares.sum()) / (m - 1) / (2 * s)  # (1)
    stderr = float(squares.std()) / m**0.5 / (2 * s)  # (2)
    velocity = Estimate(jumps.mean(0) / s, jumps.std(0) / m**0.5 / s)  # (1), (2)
    return Transport(Estimate(value, stderr), velocity, m)
