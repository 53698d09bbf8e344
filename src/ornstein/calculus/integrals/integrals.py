"""Integrals along a path, as the sums of which they are limits.

On a grid ``t_0 < ... < t_n`` with steps of X from ``X_k`` to ``X_{k+1}``, and a fraction theta,

    int f dX  =  lim sum_k f_k^theta (X_{k+1} - X_k),                                            (1)

where f is read off at the fraction theta of the step, in time and in value: ``(1 - theta) t_k +
theta t_{k+1}``, and the same of X or of an integrand given by its values. The limit depends on
theta by ``theta [f, X]``: theta = 0 is Ito's integral, a martingale, as f does not see the
increment that it multiplies; theta = 1/2 is Stratonovich's, which obeys the rules of ordinary
calculus; theta = 1 is Haenggi's. For deterministic f they agree. The brackets are

    [X, Y]  =  lim sum_k (X_{k+1} - X_k) (Y_{k+1} - Y_k),                                        (2)

``[B, B]_t = t``. Ito 1944; Stratonovich 1966 (A new representation for stochastic integrals and
equations).
"""

__all__ = [
    "Integrand",
    "Integrator",
    "PathFunctional",
    "by_parts",
    "covariation",
    "ito",
    "ito_process",
    "quadratic_variation",
    "stratonovich",
    "theta_integral",
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
    """An integrand that may look at the whole past of the path, ``f(path, t)``: a running mean, the
    time since a crossing.

    It is given the path up to t. A question about a later time is refused.

    Args:
        f: ``(path, t) -> (b, *event)``, where ``path(s)`` and ``path(r, s)`` are values and
            increments up to t.
    """

    f: Callable[[Motion, Time], Any]


Integrand = PathFunctional | Callable[..., Any] | Tensor | float
"""A function ``f(t)``, or ``f(x, t)`` of the path's value, another motion, `PathFunctional`, values on the
grid ``(n + 1, ...)``, a number."""
Integrator = Motion | Tensor
"""A path, or the values of any process on the grid, ``(n + 1, b, *event)``."""


@dataclass(frozen=True)
class _Past(Motion):
    """A path up to the present."""

    path: Motion
    now: float

    def __post_init__(self) -> None:
        for name in ("shape", "t0", "t1", "dtype", "order"):
            object.__setattr__(self, name, getattr(self.path, name))

    def __call__(self, s: Time, t: Time | None = None) -> Tensor:
        self._check(s, self.path.t0 if t is None else t)
        return self.path(s) if t is None else self.path(s, t)

    def increment(self, s: Time, t: Time) -> Tensor:
        self._check(s, t)
        return self.path.increment(s, t)

    def levy_area(self, s: Time, t: Time, moment: int = 1) -> Tensor:
        self._check(s, t)
        return self.path.levy_area(s, t, moment)

    def beside(self) -> Noise:
        return self.path.beside()

    def _check(self, *times: Time) -> None:
        for t in times:
            if float(t) > self.now:
                raise OrnsteinError(
                    f"at time {self.now} the integrand asks for the path at {float(t)}, which is"
                    " not known yet: an Ito integrand is adapted, it may use the path up to its"
                    " own time only"
                )


class _Step(NamedTuple):
    """One step: where it starts, its ends, the value and the increment of the integrator."""

    k: int
    t: float
    s: float
    x: Tensor
    dx: Tensor


def as_grid(grid: Tensor | Sequence[float]) -> Float[Tensor, " n"]:
    """A grid of increasing times, in float64.

    Raises:
        OrnsteinError: if it is none.
    """
    times = torch.as_tensor(grid, dtype=torch.float64)
    check_grid(times)
    if times.ndim != 1 or times[0] > times[1]:
        raise OrnsteinError(
            f"integrals run up in time, along one grid for all samples: got {times[:3].tolist()}"
            " ...; flip it?"
        )
    return times


def steps(x: Integrator, times: Tensor) -> Iterator[_Step]:
    """The steps of a process along a grid.

    Raises:
        OrnsteinError: if values do not fit the grid.
    """
    if isinstance(x, Tensor):
        if len(x) != len(times):
            raise OrnsteinError(
                f"values of shape {tuple(x.shape)} on a grid of {len(times)} times: the first"
                " dimension runs along it"
            )
        for k, ((t, s), (a, b)) in enumerate(
            zip(pairwise(times.tolist()), pairwise(x), strict=True)
        ):
            yield _Step(k, t, s, a, b - a)
        return
    value = x(float(times[0]))
    for k, (t, s) in enumerate(pairwise(times.tolist())):
        jump = x.increment(t, s)
        yield _Step(k, t, s, value, jump)
        value = value + jump


def _arguments(f: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(f).parameters.values()
    except ValueError:
        raise OrnsteinError(
            f"{f} does not tell its arguments: write lambda t: ... or lambda x, t: ..."
        ) from None
    need = sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in parameters
    )
    if need not in (1, 2):
        raise OrnsteinError(
            f"an integrand has arguments (t) or (x, t), got a function of {need}: for the past of"
            " the path see PathFunctional"
        )
    return need


def reader(
    f: Integrand, x: Integrator, times: Tensor, theta: float = 0.0
) -> Callable[[_Step], Any]:
    """``step -> f`` at the fraction theta of the step.

    Raises:
        OrnsteinError: if f is none of the kinds of `Integrand`, or of a kind that does not go with
            theta or x.
    """

    def at(step: _Step) -> Tensor:
        return torch.tensor(
            (1 - theta) * step.t + theta * step.s if theta else step.t, dtype=torch.float64
        )

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
                "PathFunctional is an Ito integrand on a path: use ito(f, B, grid), or give the values of f"
                " on the grid"
            )
        return lambda step: f.f(_Past(x, step.t), at(step))
    if not callable(f):
        return lambda step: f
    if isinstance(f, Motion) or _arguments(f) == 1:
        return lambda step: f(at(step))
    return lambda step: f(step.x + theta * step.dx if theta else step.x, at(step))


def _sums(
    f: Integrand, x: Integrator, grid: Tensor | Sequence[float], theta: float
) -> Iterator[Tensor]:
    if not 0 <= theta <= 1:
        raise OrnsteinError(
            f"theta={theta}: from 0, the left end of a step (Ito), to 1, its right end; 1/2 is"
            " Stratonovich"
        )
    times, total = as_grid(grid), None
    read = reader(f, x, times, theta)
    for step in steps(x, times):
        term = read(step) * step.dx
        total = term if total is None else total + term  # (1)
        yield total


def theta_integral(
    f: Integrand, x: Integrator, grid: Tensor | Sequence[float], theta: float
) -> Tensor:
    """The sum (1) at the end of the grid, ``(b, *event)``; products are entry by entry.

    Args:
        f: the integrand.
        x: what is integrated against: a path, or values on the grid.
        grid: ``(n + 1,)``, increasing.
        theta: in [0, 1].

    Raises:
        OrnsteinError: if the grid is not increasing, theta outside [0, 1], or f or x do not fit the
            grid.
    """
    *_, last = _sums(f, x, grid, theta)
    return last


def ito(f: Integrand, x: Integrator, grid: Tensor | Sequence[float]) -> Tensor:
    """Ito's integral: f at the left end of each step. See `theta_integral`."""
    return theta_integral(f, x, grid, 0.0)


def stratonovich(f: Integrand, x: Integrator, grid: Tensor | Sequence[float]) -> Tensor:
    """Stratonovich's integral: f in the middle of each step, of its time and of its values. See
    `theta_integral`."""
    return theta_integral(f, x, grid, 0.5)


def ito_process(f: Integrand, x: Integrator, grid: Tensor | Sequence[float]) -> Tensor:
    """Ito's integral up to each time of the grid, ``(n + 1, b, *event)``, 0 at the first."""
    sums = list(_sums(f, x, grid, 0.0))
    return torch.stack([torch.zeros_like(sums[0]), *sums])


def covariation(x: Integrator, y: Integrator, grid: Tensor | Sequence[float]) -> Tensor:
    """``[X, Y]`` (2) over the grid, entry by entry."""
    times = as_grid(grid)
    pairs = zip(steps(x, times), steps(y, times), strict=True)
    first, *rest = (a.dx * b.dx for a, b in pairs)
    return sum(rest, first)  # (2)


def quadratic_variation(x: Integrator, grid: Tensor | Sequence[float]) -> Tensor:
    """``[X, X]`` (2) over the grid: of a Brownian motion its length, of an Ito process ``int g^2
    dt``, of a smooth function 0."""
    times = as_grid(grid)
    first, *rest = (step.dx.square() for step in steps(x, times))
    return sum(rest, first)  # (2)


def by_parts(f: Callable[[Tensor], Tensor], x: Motion, grid: Tensor | Sequence[float]) -> Tensor:
    """``int f dB = f(T) B_T - f(t_0) B_{t_0} - int B_s f'(s) ds`` for a differentiable function of
    time, ``(b, *event)``.

    f' by automatic differentiation and the last integral by the mean of the path over each step,
    ``B_k + dB / 2 + H``, with f' in its
    middle: second order in the step for a path of ``order=2``, which knows H, and of first order
    without it.
    """
    times = as_grid(grid)
    slope = [
        torch.func.jvp(f, (m,), (torch.ones_like(m),))[1] for m in (times[:-1] + times[1:]) / 2
    ]
    start = x(float(times[0]))
    end, total = start, torch.zeros_like(start)
    for step in steps(x, times):
        mean = step.x + step.dx / 2 + (x.levy_area(step.t, step.s) if x.order > 1 else 0.0)
        total = total + mean * (slope[step.k] * (step.s - step.t))
        end = step.x + step.dx
    return f(times[-1]) * end - f(times[0]) * start - total


def as_value(f: Any, like: Tensor) -> Tensor:
    """A number or a broadcastable tensor as one of the shape of ``like``."""
    return as_time(f).to(like.dtype).expand_as(like)
