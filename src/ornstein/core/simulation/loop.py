"""The loop. Every path in the library, generating, noising or annealed, is drawn here.

A `Method` maps ``(x, t)`` to a `Step`; the loop feeds steps to each other and shows each to the
*watchers*, which collect what a caller wants to know. If F are the kernels that drew the path from
``x_T`` to ``x_0`` and B kernels in the other direction, the log-weight collected by `LogWeight` is
``sum_k [log B_k - log F_k]``; with the log-densities of both ends it is a log importance weight on
path space, whose mean weight is the normaliser exactly, for every number of steps.
"""

__all__ = ["Watcher", "check_grid", "simulate"]

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.processes.noise_type import driving
from ornstein.core.random.noise import Noise, NoiseSource
from ornstein.core.simulation.method import Method, Step
from ornstein.errors import OrnsteinError

# key that keeps the numbers of a path apart from those of Noise(seed).normal, often used for x_T
_PATH = 0x70617468


Watcher = Callable[[Tensor, Tensor, Tensor, Step], None]
"""Called after each step with ``(t, s, x before, step)``."""


def simulate(
    sde: Any,
    x: Float[Tensor, "b *event"],
    times: Float[Tensor, "n *batch"],
    method: Method,
    noise: NoiseSource | None = None,
    watch: Iterable[Watcher] = (),
) -> Float[Tensor, "b *event"]:
    """Carry ``x`` along ``times`` and return the state at the last one. Differentiable; keeps no
    state between calls.

    Args:
        sde: what the method solves: an `Equation`, a `Reverse`, a `LinearSDE`, an `GeometricPath` path.
        x: the state at ``times[0]``.
        times: strictly monotone: decreasing to generate, increasing to noise; ``(n,)``, or ``(n,
            b)`` for a grid per sample.
        method: the kernels.
        noise: a `Noise`, or a `BrownianPath` that runs on different grids are to share; may be left
            out without randomness.
        watch: called after each step with ``(t, s, x before, step)``.

    Raises:
        OrnsteinError: if the grid is not strictly monotone, or the method needs noise and there is
            none.
    """
    check_grid(times)
    if noise is None and method.noisy(sde):
        raise OrnsteinError(f"{method} draws random numbers: pass noise=orn.Noise(seed)")
    watch, memory = tuple(watch), method.start(sde, times)
    stream = (
        (noise or Noise(0))
        .fold(_PATH)
        .stream_like(driving(sde).like(x, lambda: sde.diffusion(x, times[0])))
    )
    for t, s in pairwise(times.unbind()):
        step = method.step(sde, x, t, s, stream, memory)
        for watcher in watch:
            watcher(t, s, x, step)
        x, memory = step.x, step.memory
        del step  # and what its law remembers
    return x


def check_grid(times: Tensor) -> None:
    """Raise unless ``times`` has 2 rows or more, one column or one per sample, and is finite and
    strictly monotone."""
    if times.ndim not in (1, 2) or len(times) < 2:
        raise OrnsteinError(
            "a time grid has at least two entries along its first dimension, (n,) or (n, b), got"
            f" shape {tuple(times.shape)}: see sde.times(n)"
        )
    gaps = times.diff(dim=0)
    if not bool(torch.isfinite(times).all() and ((gaps > 0).all() or (gaps < 0).all())):
        raise OrnsteinError(
            "a time grid must be finite and strictly decreasing (to generate) or increasing (to"
            f" noise), got {times[:4].tolist()} ... {times[-1].tolist()}"
        )
