"""Test whether an integrand is adapted, that is, whether it uses the path only up to its own time.

An Ito integrand is adapted: its value at t depends on the path up to t only. Then another future of
the path changes nothing. With an independent motion B' let

    B*_u = B_u for u <= t,      B*_u = B_t + B'_u - B'_t for u > t,                              (1)

which is a Brownian motion too; an adapted f is the same on B and B* at every time up to t.
"""

__all__ = ["AdaptednessCheck", "check_adapted"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.calculus.integrals.integrand import DerivedMotion, as_grid
from ornstein.core.processes.linear import Time
from ornstein.core.random.motion import Motion


@dataclass(frozen=True)
class _Resampled(DerivedMotion):
    """The Brownian motion (1): one motion up to the time ``now``, increments of another after."""

    other: Motion
    now: float

    def increment(self, s: Time, t: Time) -> Tensor:
        start, end = float(s), float(t)
        if start > end:
            return -self.increment(end, start)
        if end <= self.now:
            return self.path.increment(start, end)
        if start >= self.now:
            return self.other.increment(start, end)
        return self.path.increment(start, self.now) + self.other.increment(self.now, end)  # (1)

    def levy_area(self, s: Time, t: Time, moment: int = 1) -> Tensor:
        # an area that reaches into the future may be any number that is not that of B
        past = max(float(s), float(t)) <= self.now
        return (self.path if past else self.other).levy_area(s, t, moment)


_TOLERANCE = 1e-5  # relative change of a value that is more than rounding, also in float32


class AdaptednessCheck(NamedTuple):
    """Whether an integrand stayed the same under other futures of the path.

    Attributes:
        adapted: True if no value changed.
        time: the first time at which a value changed; None if there is none.
        change: by how much the value changed at most, 0 if it did not.
    """

    adapted: bool
    time: float | None
    change: float


def check_adapted(
    f: Callable[[Motion], Callable[[Time], Any]],
    path: Motion,
    other: Motion,
    grid: Tensor | Sequence[float],
) -> AdaptednessCheck:
    """Test whether an integrand is adapted, by giving the path other futures.

    After each time of the grid the path is replaced by an independent motion, and f is compared at
    that time and all earlier ones. A value that differs is proof that f is not adapted; that none
    differs is evidence, for the grid and the samples that were tried.

    Args:
        f: the integrand as a function of the path: ``path -> (t -> x)``, such as
            ``lambda B: lambda t: B(t) ** 2``.
        path: the path on which f is tried.
        other: an independent motion of the same shape and interval: the same path with another
            seed.
        grid: times, increasing.
    """
    times = as_grid(grid).tolist()
    integrand = f(path)
    values = [torch.as_tensor(integrand(t)) for t in times]
    for k, now in enumerate(times):
        changed = f(_Resampled(path, other, now))
        for t, value in list(zip(times, values, strict=True))[: k + 1]:
            again = torch.as_tensor(changed(t))
            if torch.equal(value, again):
                continue
            difference = float((value - again).abs().max())
            if difference > _TOLERANCE * float(1 + value.abs().max()):
                return AdaptednessCheck(False, t, difference)
    return AdaptednessCheck(True, None, 0.0)
