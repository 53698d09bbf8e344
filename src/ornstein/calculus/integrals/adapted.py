"""Does an integrand know the future?

An integrand is adapted if its value at t depends on the path up to t only. If it does, giving the
path another future changes nothing: with an independent motion B' let

    B*_u = B_u for u <= t,      B*_u = B_t + B'_u - B'_t for u > t,                              (1)

which is a Brownian motion too; then f must be the same on B and B* at every time up to t.
"""

__all__ = ["AdaptednessCheck", "check_adapted"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.calculus.integrals.integrals import as_grid
from ornstein.core.processes.linear import Time
from ornstein.core.random.motion import Motion
from ornstein.core.random.noise import Noise


@dataclass(frozen=True)
class _Resampled(Motion):
    """(1): one motion up to ``now``, another after it."""

    path: Motion
    other: Motion
    now: float

    def __post_init__(self) -> None:
        for name in ("shape", "t0", "t1", "dtype", "order"):
            object.__setattr__(self, name, getattr(self.path, name))

    def increment(self, s: Time, t: Time) -> Tensor:
        a, b = float(s), float(t)
        if a > b:
            return -self.increment(b, a)
        if b <= self.now:
            return self.path.increment(a, b)
        if a >= self.now:
            return self.other.increment(a, b)
        return self.path.increment(a, self.now) + self.other.increment(self.now, b)  # (1)

    def levy_area(self, s: Time, t: Time, moment: int = 1) -> Tensor:
        past = (
            max(float(s), float(t)) <= self.now
        )  # else it sees the future, and any number that is not B's tells
        return (self.path if past else self.other).levy_area(s, t, moment)

    def beside(self) -> Noise:
        return self.path.beside()


class AdaptednessCheck(NamedTuple):
    """Whether f stayed the same, and where not: the first time at which it knew a later one, and by
    how much it moved at most."""

    adapted: bool
    time: float | None
    change: float


def check_adapted(
    f: Callable[[Motion], Callable[[Time], Any]],
    path: Motion,
    other: Motion,
    grid: Tensor | Sequence[float],
) -> AdaptednessCheck:
    """Give the path another future (1) after each time of the grid, and see whether f changes at
    that time or one before.

    A value that differs is proof; that none does is evidence, on the grid and the samples tried.

    Args:
        f: the integrand as a function of the path: ``path -> (t -> x)``, such as ``lambda B: lambda
            t: B(t) ** 2``.
        path: where to try it.
        other: an independent motion of the same shape and interval: the same path with another
            seed.
        grid: times, increasing.
    """
    times = as_grid(grid).tolist()
    known = f(path)
    values = [torch.as_tensor(known(t)) for t in times]
    for k, now in enumerate(times):
        changed = f(_Resampled(path, other, now))
        for t, value in list(zip(times, values, strict=True))[: k + 1]:
            again = torch.as_tensor(changed(t))
            if not torch.equal(value, again) and float((value - again).abs().max()) > 1e-5 * float(
                1 + value.abs().max()
            ):
                return AdaptednessCheck(False, t, float((value - again).abs().max()))
    return AdaptednessCheck(True, None, 0.0)
