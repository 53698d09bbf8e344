"""The loop. Every path in the library, generating, noising or annealed, is drawn here.

A `Method` maps ``(x, t)`` to a `Step`; the loop feeds steps to each other and shows each to the
*watchers*, which collect what a caller wants to know. If F are the kernels that drew the path from
``x_T`` to ``x_0`` and B kernels in the other direction, the log-weight collected by `LogWeight` is
``sum_k [log B_k - log F_k]``; with the log-densities of both ends it is a log importance weight on
path space, whose mean weight is the normaliser exactly, for every number of steps.
"""

__all__ = [
    "Around",
    "Evaluations",
    "Kernel",
    "KernelKL",
    "LogWeight",
    "Method",
    "Step",
    "Trajectory",
    "Watcher",
    "check_grid",
    "simulate",
]

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian, Point
from ornstein.core.processes.linear import Time
from ornstein.core.processes.noise_type import driving
from ornstein.core.random.noise import Draws, Noise, Source
from ornstein.errors import OrnsteinError

# key that keeps the numbers of a path apart from those of Noise(seed).normal, often used for x_T
_PATH = 0x70617468


Kernel = Callable[[Tensor, Time, Time], Gaussian | Point]
"""``(x, t, s)``, a state and its time and the time to go to, to the law of the state there."""


class Step(NamedTuple):
    """What one step of a method yields.

    Attributes:
        x: the new state.
        law: makes the Gaussian it was drawn from; None if the step is deterministic or no Gaussian.
        memory: whatever the method wants back at the next step.
        evaluations: calls of the drift, posterior or density.
        log_ratio: ``(b,)``, log B - log F of the step, for methods that know it without a kernel
            (reversible moves).
    """

    x: Tensor
    law: Callable[[], Gaussian | Point] | None = None
    memory: Any = None
    evaluations: int = 1
    log_ratio: Tensor | None = None

    @property
    def kernel(self) -> Any:
        """The law it was drawn from, computed for those who ask."""
        return None if self.law is None else self.law()


@runtime_checkable
class Method(Protocol):
    """One step ``t -> s`` of an equation. Frozen: what it must remember travels in `Step.memory`.

    ``order`` is the order of convergence without noise, to which the tests hold the method;
    ``noisy`` says whether it draws; ``start`` computes, once per run, what depends on the grid
    alone. A class that names this one as its base inherits a ``start`` that has nothing to compute.
    """

    @property
    def order(self) -> int:
        """Global order on smooth ODEs."""
        ...

    def noisy(self, sde: Any) -> bool:
        """Whether a run needs noise."""
        ...

    def start(self, sde: Any, times: Tensor) -> Any:
        """The memory before the first step; raises where the grid has a step that the method cannot
        take."""
        return None

    def step(self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: Draws, memory: Any) -> Step:
        """From x at time t to time s."""
        ...


@dataclass(frozen=True)
class Around(Method):
    """A method whose steps are made of another's: its order, its noise and what it refuses."""

    method: Method

    @property
    def order(self) -> int:
        """The method's."""
        return self.method.order

    def noisy(self, sde: Any) -> bool:
        """The method's."""
        return self.method.noisy(sde)

    def start(self, sde: Any, times: Tensor) -> Any:
        """The method's."""
        return self.method.start(sde, times)


Watcher = Callable[[Tensor, Tensor, Tensor, Step], None]
"""Called after each step with ``(t, s, x before, step)``."""


def simulate(
    sde: Any,
    x: Float[Tensor, "b *event"],
    times: Float[Tensor, "n *batch"],
    method: Method,
    noise: Source | None = None,
    watch: Iterable[Watcher] = (),
) -> Float[Tensor, "b *event"]:
    """Carry ``x`` along ``times`` and return the state at the last one. Differentiable; keeps no
    state between calls.

    Args:
        sde: what the method solves: an `Equation`, a `Reverse`, a `LinearSDE`, an `Annealed` path.
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


@dataclass
class Trajectory:
    """Keeps every state: ``stacked()`` is ``(n, b, *event)``, the start first."""

    times: list[Tensor] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        if not self.states:
            self.times.append(t)
            self.states.append(x)
        self.times.append(s)
        self.states.append(step.x)

    def stacked(self) -> Float[Tensor, "n b *event"]:
        """All states along a new first dimension."""
        return torch.stack(self.states)


@dataclass
class Evaluations:
    """Counts calls of the drift, posterior or density, per sample."""

    count: int = 0

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        self.count += step.evaluations


@dataclass
class LogWeight:
    """Collects ``sum_k [log B(x_k | x_{k+1}) - log F(x_{k+1} | x_k)]`` along a path drawn from F,
    in nats.

    Args:
        other: ``(x, s, t) -> Gaussian``: the kernel B at the new state, whose density at the old
            state counts; a `Point` where both directions share it (the pinned end of a bridge). May
            be left out when the method gives the ratio itself.
    """

    other: Kernel | None = None
    value: Tensor = field(default_factory=lambda: torch.zeros(()))

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        self.value = self.value + self._ratio(t, s, x, step)

    def _ratio(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> Tensor:
        if step.log_ratio is not None:
            return step.log_ratio
        kernel = step.kernel
        if kernel is None or self.other is None:
            raise OrnsteinError(
                "log-weights need the density of every step: use Ancestral() or EulerMaruyama()"
                " with eta > 0 and give LogWeight the kernel of the other direction"
            )
        return self.other(step.x, s, t).log_prob(x) - kernel.log_prob(step.x)


@dataclass
class KernelKL:
    """Collects ``sum_k KL(reference_k || kernel_k)`` per sample, in nats: the closed form of a
    bound's terms.

    Args:
        reference: ``(t, s, x before, step) -> Gaussian``, the kernel to compare with.
        kernel: the same; by default the kernel that the step was drawn from.
    """

    reference: Callable[[Tensor, Tensor, Tensor, Step], Gaussian]
    kernel: Callable[[Tensor, Tensor, Tensor, Step], Gaussian | None] = lambda t, s, x, step: (
        step.kernel
    )
    value: Tensor = field(default_factory=lambda: torch.zeros(()))

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        kernel = self.kernel(t, s, x, step)
        if kernel is None:
            raise OrnsteinError(
                "KernelKL needs a method with Gaussian steps, such as Ancestral() with eta > 0"
            )
        self.value = self.value + self.reference(t, s, x, step).kl(kernel)
