"""The clock by which an integral is a Brownian motion.

The integral ``M_t = int_0^t f dB`` runs faster where f is large. On the clock ``A_t = int_0^t f^2
ds`` of its own variance, with

    tau(t) = inf{u : A_u > t},       W_t = M_{tau(t)},                                           (1)

it is a Brownian motion (Dambis 1965; Dubins and Schwarz 1965). With f constant over each step of a
grid, (1) holds exactly and not in a limit: given what is before the step, M moves over it as a
Brownian motion does over ``f_k^2 h`` of the clock. Its values between the ends are drawn from the
bridge that they pin.
"""

__all__ = ["TimeChange", "kolmogorov", "time_change"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.calculus.integrals.integrals import Integrand, as_grid, as_value, reader, steps
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.random.motion import Motion
from ornstein.errors import OrnsteinError

_CLOCK = 0x636C6F636B  # key of the numbers that fill in the bridges


def kolmogorov(x: Float[Tensor, " n"]) -> tuple[float, float]:
    """The Kolmogorov-Smirnov distance of a sample from the standard normal law, and the probability
    of a larger one by chance.

    ``P(sqrt(n) D > y) = 2 sum_k (-1)^(k-1) exp(-2 k^2 y^2)``, with ``y = (sqrt(n) + 0.12 + 0.11 /
    sqrt(n)) D`` (Stephens 1970).
    """
    n = len(x)
    cdf = torch.special.ndtr(x.double().sort().values)
    rank = torch.arange(n, dtype=torch.float64)
    distance = float(torch.maximum((rank + 1) / n - cdf, cdf - rank / n).max())
    y = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    if y < 0.2:
        return distance, 1.0
    return distance, min(
        max(
            2 * math.fsum((-1) ** (k - 1) * math.exp(-2 * (k * y) ** 2) for k in range(1, 40)), 0.0
        ),
        1.0,
    )


@dataclass(frozen=True)
class TimeChange:
    """An integral on its own clock.

    Attributes:
        clock: ``A`` on the grid, ``(n + 1, b, *event)``.
        integral: ``M`` on the grid, the same.
        tau: first time at which the clock passes each of ``times``, ``(m, b, *event)``.
        motion: ``W`` at ``times``, the same.
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
    """The Brownian motion (1) that ``int f dB`` is on its own clock, at ``times``, with a test that
    it is one.

    Args:
        f: the integrand, adapted.
        path: a Brownian path.
        grid: times of the integral, ``(n + 1,)``.
        times: times of the new clock, ``(m,)``, increasing from 0; every sample's clock must reach
            the last.

    Raises:
        OrnsteinError: if ``times`` is no such grid, or the clock of a sample stops before its end.
    """
    u, ts = as_grid(grid), as_grid(times)
    if ts[0] != 0:
        raise OrnsteinError(f"the new clock starts at 0, got times from {float(ts[0])}")
    read, zero = reader(f, path, u), torch.zeros(tuple(path.shape), dtype=path.dtype)
    clock, integral = [zero.double()], [zero]
    for step in steps(path, u):
        value = as_value(read(step), step.dx)
        clock.append(clock[-1] + value.double().square() * (step.s - step.t))
        integral.append(integral[-1] + value * step.dx)
    a, m = torch.stack(clock), torch.stack(integral)
    if bool((a[-1] < ts[-1]).any()):
        raise OrnsteinError(
            f"the clock of a sample stops at {float(a[-1].min()):.4g}, before {float(ts[-1])}: end"
            " `times` earlier or the grid later"
        )
    tau, w = _fill(a, m.double(), u, ts, path)
    scale = per_sample(ts.diff().sqrt(), w[1:])
    return TimeChange(a, m, tau, w.to(m.dtype), ts, *kolmogorov((w.diff(dim=0) / scale).flatten()))


def _fill(a: Tensor, m: Tensor, u: Tensor, ts: Tensor, path: Motion) -> tuple[Tensor, Tensor]:
    """``tau`` and ``W`` (1) at ``ts``: in each step of the clock, a bridge from the last known
    point to the step's end."""
    columns = a.flatten(1).T.contiguous()
    where = (
        torch.searchsorted(columns, ts[None].expand(len(columns), -1).contiguous(), right=True).T
        - 1
    )
    where = where.clamp(max=len(a) - 2).reshape(
        len(ts), *a.shape[1:]
    )  # the step of each time; the last where the clock ends there
    stream = path.beside().fold(_CLOCK).stream_like(m[0])
    tau, w, last, value = [], [], torch.zeros_like(m[0]), torch.zeros_like(m[0])
    for t, k in zip(ts, where, strict=True):
        l, h, ml, mh = (x.gather(0, i[None])[0] for x in (a, m) for i in (k, k + 1))
        tau.append(u[k] + (u[k + 1] - u[k]) * (t - l) / (h - l))
        inside = last > l
        l, ml = torch.where(inside, last, l), torch.where(inside, value, ml)
        p = torch.where(h > l, (t - l) / (h - l), 1.0)
        value = ml + p * (mh - ml) + (p * (h - t)).clamp(min=0).sqrt() * stream.normal()
        last = t.expand_as(last)
        w.append(value)
    return torch.stack(tau), torch.stack(w)
