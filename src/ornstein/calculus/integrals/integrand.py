"""Integrands of stochastic integrals: their kinds, the grid, and how an integrand is evaluated.

An integral along a path is a sum over the steps of a grid. This file reads the grid, yields the
steps of the integrator, and turns an integrand of any kind (a function of time, of value and time,
a motion, a functional of the past, values on the grid, a number) into a function of the step.
"""

__all__ = [
    "DerivedMotion",
    "GridStep",
    "Integrand",
    "Integrator",
    "PathFunctional",
    "as_grid",
    "as_value",
    "grid_steps",
    "reader",
]

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.processes.linear import Time, as_time
from ornstein.core.random.motion import Motion
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import check_grid
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class PathFunctional:
    """An integrand ``f(path, t)`` that may use the whole past of the path.

    Such integrands are a running mean, or the time since a crossing. The function gets the path up
    to t; a question about a later time is refused.

    Args:
        f: ``(path, t) -> (b, *event)``, where ``path(s)`` and ``path(r, s)`` are values and
            increments up to t.
    """

    f: Callable[[Motion, Time], Any]


Integrand = PathFunctional | Callable[..., Any] | Tensor | float
"""A function ``f(t)``, or ``f(x, t)`` of the value of the path, another motion, `PathFunctional`,
values on the grid ``(n + 1, ...)``, or a number."""
Integrator = Motion | Tensor
"""A path, or the values of any process on the grid, ``(n + 1, b, *event)``."""


@dataclass(frozen=True)
class DerivedMotion(Motion):
    """A motion made of another motion, with the same shape, interval, dtype and order."""

    path: Motion

    def __post_init__(self) -> None:
        for name in ("shape", "t0", "t1", "dtype", "order"):
            object.__setattr__(self, name, getattr(self.path, name))

    def independent_noise(self) -> Noise:
        return self.path.independent_noise()


@dataclass(frozen=True)
class _Past(DerivedMotion):
    """A path that answers for times up to the present only."""

    now: float

    def __call__(self, s: Time, t: Time | None = None) -> Tensor:
        self._check(s, self.path.t0 if t is None else t)
        return self.path(s) if t is None else self.path(s, t)

    def increment(self, s: Time, t: Time) -> Tensor:
        self._check(s, t)
        return self.path.increment(s, t)

    def levy_area(self, s: Time, t: Time, moment: int = 1) -> Tensor:
        self._check(s, t)
        return self.path.levy_area(s, t, moment)

    def _check(self, *times: Time) -> None:
        """Raise `OrnsteinError` if a time is later than the present."""
        for t in times:
            if float(t) > self.now:
                raise OrnsteinError(
                    f"at time {self.now} the integrand asks for the path at {float(t)}, which is"
                    " not known yet: an Ito integrand is adapted, it may use the path up to its"
                    " own time only"
                )


class GridStep(NamedTuple):
    """One step of a grid: its index, both times, the value and the increment of the integrator.

    Attributes:
        k: index of the step.
        t: time at the start.
        s: time at the end.
        x: value of the integrator at the start, ``(b, *event)``.
        dx: increment of the integrator over the step.
    """

    k: int
    t: float
    s: float
    x: Tensor
    dx: Tensor


def as_grid(grid: Tensor | Sequence[float]) -> Float[Tensor, " n"]:
    """Return a grid of increasing times as a tensor in float64.

    Raises:
        OrnsteinError: if the times are not increasing, or not one-dimensional.
    """
    times = torch.as_tensor(grid, dtype=torch.float64)
    check_grid(times)
    if times.ndim != 1 or times[0] > times[1]:
        raise OrnsteinError(
            f"integrals run up in time, along one grid for all samples: got {times[:3].tolist()}"
            " ...; flip it?"
        )
    return times


def grid_steps(x: Integrator, times: Tensor) -> Iterator[GridStep]:
    """Yield the steps of a process on a grid, with its values and increments.

    Raises:
        OrnsteinError: if values do not fit the grid.
    """
    if isinstance(x, Tensor):
        if len(x) != len(times):
            raise OrnsteinError(
                f"values of shape {tuple(x.shape)} on a grid of {len(times)} times: the first"
                " dimension runs over the times"
            )
        steps = zip(pairwise(times.tolist()), pairwise(x), strict=True)
        for k, ((t, s), (before, after)) in enumerate(steps):
            yield GridStep(k, t, s, before, after - before)
        return
    value = x(float(times[0]))
    for k, (t, s) in enumerate(pairwise(times.tolist())):
        jump = x.increment(t, s)
        yield GridStep(k, t, s, value, jump)
        value = value + jump


def reader(
    f: Integrand, x: Integrator, times: Tensor, theta: float = 0.0
) -> Callable[[GridStep], Any]:
    """Return a function that evaluates an integrand f at the fraction theta of a grid step.

    Args:
        f: the integrand.
        x: the integrator.
        times: the grid, ``(n + 1,)``.
        theta: 0 for the left end of the step, 1 for the right end.

    Raises:
        OrnsteinError: if f is none of the kinds of `Integrand`, or of a kind that does not go with
            theta or x.
    """

    def time(step: GridStep) -> Tensor:
        t = (1 - theta) * step.t + theta * step.s if theta else step.t
        return torch.tensor(t, dtype=torch.float64)

    if isinstance(f, Tensor) and f.ndim:
        if len(f) != len(times):
            raise OrnsteinError(
                f"an integrand of shape {tuple(f.shape)} on a grid of {len(times)} times: one value"
                " for each time"
            )
        return lambda step: torch.lerp(f[step.k], f[step.k + 1], theta) if theta else f[step.k]
    if isinstance(f, PathFunctional):
        if theta or not isinstance(x, Motion):
            raise OrnsteinError(
                "PathFunctional is an Ito integrand on a path: use ito(f, B, grid), or give the"
                " values of f on the grid"
            )
        return lambda step: f.f(_Past(x, step.t), time(step))
    if not callable(f):
        return lambda step: f
    if isinstance(f, Motion) or _count_arguments(f) == 1:
        return lambda step: f(time(step))
    return lambda step: f(step.x + theta * step.dx if theta else step.x, time(step))


def _count_arguments(f: Callable[..., Any]) -> int:
    """Return 1 for a function of time and 2 for one of value and time; raise for all others."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except ValueError:
        raise OrnsteinError(
            f"{f} does not tell its arguments: write lambda t: ... or lambda x, t: ..."
        ) from None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(p.default is p.empty and p.kind in positional for p in parameters)
    if count not in (1, 2):
        raise OrnsteinError(
            f"an integrand has arguments (t) or (x, t), got a function of {count}: for the past of"
            " the path see PathFunctional"
        )
    return count


def as_value(f: Any, like: Tensor) -> Tensor:
    """Return a number or a broadcastable tensor as a tensor of the shape and dtype of ``like``."""
    return as_time(f).to(like.dtype).expand_as(like)
