"""The time change of Dambis and Dubins-Schwarz, which makes an integral a Brownian motion.

The integral ``M_t = int_0^t f dB`` runs faster where f is large. On the clock ``A_t = int_0^t f^2
ds`` of its own variance, with

    tau(t) = inf{u: A_u > t},       W_t = M_{tau(t)},                                            (1)

it is a Brownian motion (Dambis 1965; Dubins and Schwarz 1965). With f constant over each step of a
grid, (1) holds exactly and not in a limit: given the path before the step, M moves over the step as
a Brownian motion does over ``f_k^2 h`` of the clock. Its values between the ends are drawn from the
Brownian bridge between them.
"""

__all__ = ["TimeChange", "kolmogorov", "time_change"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.calculus.integrals.integrand import Integrand, as_grid, as_value, grid_steps, reader
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.numerics.tables import cell
from ornstein.core.random.motion import Motion
from ornstein.errors import OrnsteinError

_BRIDGES = 0x636C6F636B  # key of the normal numbers that draw the values between grid times
_TERMS = 40  # terms of the series for the p-value, more than enough from _CERTAIN on
_CERTAIN = 0.2  # scaled distance below which the p-value is 1 to more than ten digits


def kolmogorov(x: Float[Tensor, " n"]) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov distance from the standard normal law, and its p-value.

    The p-value is the probability of a larger distance by chance, ``P(sqrt(n) D > y) =
    2 sum_k (-1)^(k-1) exp(-2 k^2 y^2)``, with ``y = (sqrt(n) + 0.12 + 0.11 / sqrt(n)) D`` (Stephens
    1970).

    Args:
        x: the sample, ``(n,)``.
    """
    n = len(x)
    cdf = torch.special.ndtr(x.double().sort().values)
    rank = torch.arange(n, dtype=torch.float64)
    distance = float(torch.maximum((rank + 1) / n - cdf, cdf - rank / n).max())
    y = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    if y < _CERTAIN:
        return distance, 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * (k * y) ** 2) for k in range(1, _TERMS))
    return distance, min(max(2 * math.fsum(terms), 0.0), 1.0)


@dataclass(frozen=True)
class TimeChange:
    """An integral as a function of its own variance, with a test that it is a Brownian motion.

    Attributes:
        clock: ``A`` on the grid, ``(n + 1, b, *event)``.
        integral: ``M`` on the grid, of the same shape.
        tau: first time at which the clock passes each of ``times``, ``(m, b, *event)``.
        motion: ``W`` at ``times``, of the same shape.
        times: on the new clock, ``(m,)``, starting at 0.
        distance: Kolmogorov-Smirnov distance of the normalised increments of W, of all samples,
            from the standard normal law.
        p_value: probability of a larger distance, were W a Brownian motion.
    """

    clock: Tensor
    integral: Tensor
    tau: Tensor
    motion: Tensor
    times: Tensor
    distance: float
    p_value: float


def time_change(
    f: Integrand, path: Motion, grid: Tensor | Sequence[float], times: Tensor | Sequence[float]
) -> TimeChange:
    """Return ``int f dB`` as a function of its own variance, where it is a Brownian motion.

    Args:
        f: the integrand, adapted.
        path: a Brownian path.
        grid: times of the integral, ``(n + 1,)``.
        times: times of the new clock, ``(m,)``, increasing from 0; the clock of every sample must
            reach the last.

    Returns:
        The motion at ``times``, with a Kolmogorov-Smirnov test of its increments.

    Raises:
        OrnsteinError: if ``times`` is no such grid, or the clock of a sample stops before its end.
    """
    old_times = as_grid(grid)
    new_times = as_grid(times)
    if new_times[0] != 0:
        raise OrnsteinError(f"the new clock starts at 0, got times from {float(new_times[0])}")
    read = reader(f, path, old_times)
    integrals = [torch.zeros(tuple(path.shape), dtype=path.dtype)]
    clocks = [integrals[0].double()]
    for step in grid_steps(path, old_times):
        value = as_value(read(step), step.dx)
        clocks.append(clocks[-1] + value.double().square() * (step.s - step.t))
        integrals.append(integrals[-1] + value * step.dx)
    clock, integral = torch.stack(clocks), torch.stack(integrals)
    if bool((clock[-1] < new_times[-1]).any()):
        raise OrnsteinError(
            f"the clock of a sample stops at {float(clock[-1].min()):.4g}, before"
            f" {float(new_times[-1])}: end `times` earlier or the grid later"
        )
    tau, motion = _fill(clock, integral.double(), old_times, new_times, path)
    scale = per_sample(new_times.diff().sqrt(), motion[1:])
    distance, p_value = kolmogorov((motion.diff(dim=0) / scale).flatten())
    return TimeChange(clock, integral, tau, motion.to(integral.dtype), new_times, distance, p_value)


def _fill(
    clock: Tensor, integral: Tensor, old_times: Tensor, new_times: Tensor, path: Motion
) -> tuple[Tensor, Tensor]:
    """Return the old time ``tau`` and the value ``W`` of equation (1) at each of the new times.

    In each step of the clock a value is drawn from the bridge from the last value that was drawn to
    the end of the step.
    """
    columns = clock.flatten(1).T.contiguous()
    step = cell(columns, new_times[None].expand(len(columns), -1).contiguous()).T
    step = step.reshape(len(new_times), *clock.shape[1:])  # the last where the clock ends there
    stream = path.independent_noise().fold(_BRIDGES).stream_like(integral[0])
    taus: list[Tensor] = []
    values: list[Tensor] = []
    last_time = torch.zeros_like(integral[0])
    value = torch.zeros_like(integral[0])
    for t, k in zip(new_times, step, strict=True):
        low, high = (clock.gather(0, i[None])[0] for i in (k, k + 1))
        before, after = (integral.gather(0, i[None])[0] for i in (k, k + 1))
        taus.append(old_times[k] + (old_times[k + 1] - old_times[k]) * (t - low) / (high - low))
        inside = last_time > low
        low, before = torch.where(inside, last_time, low), torch.where(inside, value, before)
        part = torch.where(high > low, (t - low) / (high - low), 1.0)
        std = (part * (high - t)).clamp(min=0).sqrt()
        value = before + part * (after - before) + std * stream.normal()
        last_time = t.expand_as(last_time)
        values.append(value)
    return torch.stack(taus), torch.stack(values)
