"""The simulation loop: every path of the library, generating, noising or annealed, is drawn by it.

A `Method` maps ``(x, t)`` to a `Step`. The loop passes the state of each step on to the next and
shows each step to the *watchers*, which collect what a caller wants to know. If F are the kernels
that drew the path from ``x_T`` to ``x_0`` and B are kernels in the other direction, the log-weight
that `LogWeight` collects is ``sum_k [log B_k - log F_k]``. With the log-densities of both ends it
is a log importance weight on path space, whose mean weight is the normaliser exactly, for every
number of steps.
"""

__all__ = ["Watcher", "as_times", "check_grid", "simulate"]

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.noise_type import driving
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import Noise, NoiseSource
from ornstein.core.simulation.method import Method, Step
from ornstein.errors import OrnsteinError

# The numbers of a path are not those of Noise(seed).normal, from which x_T is often drawn.
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
    """Simulate a process over a time grid and return its state at the last time.

    Differentiable; nothing is stored between calls.

    Args:
        sde: what the method solves: an `Equation`, a `Reverse`, a `LinearSDE` or a `GeometricPath`.
        x: the state at ``times[0]``.
        times: strictly monotone: decreasing to generate, increasing to noise; ``(n,)``, or ``(n,
            b)`` for a grid per sample.
        method: the numerical method, which gives the kernel of each step.
        noise: a `Noise`, or a `BrownianPath` that runs on different grids are to share; may be left
            out without randomness.
        watch: called after each step with ``(t, s, x before, step)``.

    Raises:
        OrnsteinError: if the grid is not strictly monotone or leaves the time of the process, if
            generation starts where there is no noise, or if the method needs noise and there is
            none.

    Example:
        >>> ou, x = orn.OU(), torch.zeros(5, 2)
        >>> times = torch.linspace(0, 1, 11)
        >>> orn.simulate(ou, x, times, orn.EulerMaruyama(), orn.Noise(0)).shape
        torch.Size([5, 2])
    """
    check_grid(times)
    _check_method(method)
    if isinstance(sde, LinearSDE | Reverse):
        sde.check_times(times)
    if noise is None and method.noisy(sde):
        raise OrnsteinError(f"{method} draws random numbers: pass noise=orn.Noise(seed)")
    source = Noise(0) if noise is None else _as_source(noise)
    watch = tuple(watch)
    memory = method.start(sde, times)
    like = driving(sde).like(x, lambda: sde.diffusion(x, times[0]))
    stream = source.fold(_PATH).stream_like(like)
    for t, s in pairwise(times.unbind()):
        step = method.step(sde, x, t, s, stream, memory)
        for watcher in watch:
            watcher(t, s, x, step)
        x, memory = step.x, step.memory
        del step  # frees what the law of the step refers to
    return x


def check_grid(times: Tensor) -> None:
    """Raise `OrnsteinError` unless a time grid is finite and strictly monotone.

    Args:
        times: at least two rows, with one column for all samples or one per sample.
    """
    if not isinstance(times, Tensor) or times.ndim not in (1, 2) or len(times) < 2:
        shape = tuple(times.shape) if isinstance(times, Tensor) else type(times).__name__
        raise OrnsteinError(
            "a time grid has at least two entries along its first dimension, (n,) or (n, b), got"
            f" shape {shape}: see sde.times(n)"
        )
    gaps = times.diff(dim=0)
    if not bool(torch.isfinite(times).all() and ((gaps > 0).all() or (gaps < 0).all())):
        raise OrnsteinError(
            "a time grid must be finite and strictly decreasing (to generate) or increasing (to"
            f" noise), got {times[:4].tolist()} ... {times[-1].tolist()}"
        )


def as_times(times: Any) -> Tensor:
    """Return times as a tensor: a sequence of numbers becomes float64, a tensor is not changed.

    Raises:
        OrnsteinError: for what is no sequence of numbers.
    """
    if isinstance(times, Tensor):
        return times
    try:
        return torch.tensor(list(times), dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise OrnsteinError(
            f"times={times!r}: pass a tensor or a list of numbers, such as [0.0, 0.5, 1.0]"
        ) from error


def _check_method(method: Any) -> None:
    """Raise unless this is an instance of a method; the check is cheap, as every run makes it."""
    if isinstance(method, type) or not callable(getattr(method, "step", None)):
        name = method.__name__ if isinstance(method, type) else repr(method)
        raise OrnsteinError(
            f"method={name}: pass an instance of a method of orn.methods, such as orn.Ancestral()"
            " or orn.EulerMaruyama()"
        )


def _as_source(noise: Any) -> NoiseSource:
    """Return a source of random numbers, or raise for any other object."""
    if callable(getattr(noise, "stream_like", None)) and not isinstance(noise, type):
        source: NoiseSource = noise
        return source
    raise OrnsteinError(
        f"noise={noise!r} is a {type(noise).__name__}: pass orn.Noise(seed) or an orn.BrownianPath"
    )
