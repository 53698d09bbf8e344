"""flow_matching's `ODESolver` (fixed steps of torchdiffeq) on the straight path ``x_t = t x_0 + (1
- t) z``, t from 0 to 1.

The velocity is ``(E[x_0 | x_t] - x_t) / (1 - t)``; its limits at both ends are taken a little
inside.
"""

__all__ = ["COLUMNS"]

from collections.abc import Callable
from functools import partial

import torch
from flow_matching.solver import ODESolver
from torch import Tensor

from benchmarks.peers import Column, Counted, column
from benchmarks.peers.edm import karras

_FIRST, _LAST = 1e-7, 1 - 1e-5  # where the limits are taken


def _velocity(denoiser: Counted, x: Tensor, t: Tensor) -> Tensor:
    inside = min(max(float(t), _FIRST), _LAST)
    return (denoiser(x / inside, (1 - inside) / inside) - x) / (1 - inside)


def _uniform(n: int) -> Tensor:
    return torch.linspace(0, 1, n + 1, dtype=torch.float64)


def _shifted(n: int) -> Tensor:
    noise = 1 - _uniform(n)
    return 1 - 3 * noise / (1 + 2 * noise)


def _cosine(n: int) -> Tensor:
    angle = _uniform(n) * torch.pi / 2
    return angle.sin() / (angle.sin() + angle.cos())


def _karras(n: int) -> Tensor:
    times = 1 / (1 + karras(n))
    times[0] = 0
    return times


_GRIDS: dict[str, Callable[[int], Tensor]] = {
    "uniform": _uniform,
    "shift=3": _shifted,
    "cosine": _cosine,
    "karras": _karras,
}
_METHODS = {
    "euler": 1,
    "midpoint": 2,
    "heun2": 2,
    "heun3": 3,
    "rk4": 4,
    "explicit_adams": 1,
}  # calls per step


def _solve(
    denoiser: Counted, n: int, method: str, grid: Callable[[int], Tensor]
) -> tuple[Tensor, float]:
    start = denoiser.start(1 / _FIRST) * _FIRST
    solver = ODESolver(velocity_model=partial(_velocity, denoiser))
    return solver.sample(start, step_size=None, method=method, time_grid=grid(n)), 0.0


COLUMNS: dict[str, Column] = {
    f"flow_matching {method} {where}": column(partial(_solve, method=method, grid=grid), calls)
    for method, calls in _METHODS.items()
    for where, grid in _GRIDS.items()
}
