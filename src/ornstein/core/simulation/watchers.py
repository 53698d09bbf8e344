"""Watchers: objects that the simulation loop calls after each step, and that collect a quantity along the path."""

__all__ = ["Evaluations", "KernelKL", "LogWeight", "Trajectory"]

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.simulation.method import Kernel, Step
from ornstein.errors import OrnsteinError


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
