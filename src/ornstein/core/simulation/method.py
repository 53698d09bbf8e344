"""What a numerical method is: one step of an equation from time t to time s."""

__all__ = ["Kernel", "Method", "Step", "WrappedMethod"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian, Point
from ornstein.core.processes.linear import Time
from ornstein.core.random.noise import NoiseStream

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

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """From x at time t to time s."""
        ...


@dataclass(frozen=True)
class WrappedMethod(Method):
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
