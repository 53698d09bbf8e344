"""Watchers: objects that the simulation loop calls after each step to collect a quantity of a path.

Pass them as ``watch=[...]`` to `ornstein.simulate`, `ornstein.solve` or `ornstein.sample`, and read
their attributes after the run. A watcher belongs to one run.
"""

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
    """A watcher that stores the state at every time of the grid, the start first.

    Attributes:
        times: the times of the grid.
        states: the states there, each ``(b, *event)``.

    Example:
        >>> path = orn.Trajectory()
        >>> times = torch.linspace(0, 1, 11)
        >>> x = orn.simulate(
        ...     orn.OU(), torch.zeros(5, 2), times, orn.EulerMaruyama(), orn.Noise(0), [path]
        ... )
        >>> path.stacked().shape
        torch.Size([11, 5, 2])
    """

    times: list[Tensor] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        if not self.states:
            self.times.append(t)
            self.states.append(x)
        self.times.append(s)
        self.states.append(step.x)

    def stacked(self) -> Float[Tensor, "n b *event"]:
        """Return all states as one tensor ``(n, b, *event)``, the start first."""
        return torch.stack(self.states)


@dataclass
class Evaluations:
    """A watcher that counts the calls of the drift, posterior or density, per sample.

    Attributes:
        count: calls so far.

    Example:
        >>> calls = orn.Evaluations()
        >>> x = orn.simulate(
        ...     orn.OU(), torch.zeros(5, 2), torch.linspace(0, 1, 11), orn.EulerMaruyama(),
        ...     orn.Noise(0), [calls]
        ... )
        >>> calls.count
        10
    """

    count: int = 0

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        self.count += step.evaluations


@dataclass
class LogWeight:
    """A watcher that sums the log-ratio of backward to forward kernels along a path, in nats.

    For a path drawn from the kernels F it is ``sum_k [log B(x_k | x_{k+1}) - log F(x_{k+1} |
    x_k)]``, the part of the log importance weight on path space that belongs to the steps.

    Args:
        other: ``(x, s, t) -> Gaussian``: the kernel B at the new state, whose density at the old
            state counts; a `Point` where both directions have it in common (the pinned end of a
            bridge). May be left out if the method computes the ratio itself.

    Attributes:
        value: ``(b,)``, the sum so far.

    Example:
        >>> sde, weight = orn.VP(), orn.LogWeight(orn.VP().transition)
        >>> model = orn.targets.GaussianMixture(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1))
        >>> reverse, x = orn.Reverse(model.posterior(sde)), torch.zeros(5, 2)
        >>> x = orn.simulate(reverse, x, sde.times(8), orn.Ancestral(), orn.Noise(0), [weight])
        >>> weight.value.shape
        torch.Size([5])
    """

    other: Kernel | None = None
    value: Tensor = field(default_factory=lambda: torch.zeros(()))

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        self.value = self.value + self._ratio(t, s, x, step)

    def _ratio(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> Tensor:
        """Return the log-ratio ``log B - log F`` of backward and forward kernel of one step."""
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
    """A watcher that collects the KL divergences between two kernels in each step, in nats.

    ``sum_k KL(reference_k || kernel_k)`` is the sum of the terms of an evidence lower bound, in
    closed form.

    Args:
        reference: ``(t, s, x before, step) -> Gaussian``, the kernel to compare with.
        kernel: the same; by default the kernel from which the step was drawn.

    Attributes:
        value: ``(b,)``, the sum so far.
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
