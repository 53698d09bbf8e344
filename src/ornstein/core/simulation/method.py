"""Interface of a numerical method: one step of an equation from time t to time s.

The simulation loop (`ornstein.simulate`) asks a `Method` for a `Step` at each interval of the grid.
The methods themselves are in `ornstein.methods`.
"""

__all__ = ["Kernel", "Method", "Step", "WrappedMethod", "require_shared_grid"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian, Point
from ornstein.core.processes.linear import Time
from ornstein.core.random.noise import NoiseStream
from ornstein.errors import OrnsteinError

Kernel = Callable[[Tensor, Time, Time], Gaussian | Point]
"""``(x, t, s)``, a state with its time and the next time, to the law of the state there."""


class Step(NamedTuple):
    """The result of one step of a method: the new state, its law, and the costs.

    Attributes:
        x: the new state.
        law: makes the Gaussian from which the state was drawn; None if the step is deterministic or
            not Gaussian.
        memory: whatever the method needs at the next step.
        evaluations: calls of the drift, posterior or density.
        log_ratio: ``(b,)``, log B - log F of the step, from methods that compute it without a
            kernel (reversible moves).
    """

    x: Tensor
    law: Callable[[], Gaussian | Point] | None = None
    memory: Any = None
    evaluations: int = 1
    log_ratio: Tensor | None = None

    @property
    def kernel(self) -> Any:
        """The law from which the state was drawn, computed on demand; None without one."""
        return None if self.law is None else self.law()


@runtime_checkable
class Method(Protocol):
    """The interface of a numerical method, which takes one step ``t -> s`` of an equation.

    A method is frozen: what it must remember travels in `Step.memory`. ``order`` is the order of
    convergence without noise, to which the tests hold the method; ``noisy`` says whether it draws;
    ``start`` computes, once per run, what depends on the grid alone. A class that names this one as
    its base inherits a ``start`` that has nothing to compute.
    """

    @property
    def order(self) -> int:
        """The global order of convergence on smooth ordinary differential equations."""
        ...

    def noisy(self, sde: Any) -> bool:
        """Return whether a run of the method on this equation draws random numbers."""
        ...

    def start(self, sde: Any, times: Tensor) -> Any:
        """Return the memory before the first step of a run.

        Raises:
            OrnsteinError: if the grid has a step that the method cannot take.
        """
        return None

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one step, from the state x at time t to time s."""
        ...


@dataclass(frozen=True)
class WrappedMethod(Method):
    """Base class of methods whose steps are made of the steps of another method.

    Args:
        method: the other method, from which order, noise and refusals are inherited.
    """

    method: Method

    @property
    def order(self) -> int:
        """The global order of convergence of the wrapped method."""
        return self.method.order

    def noisy(self, sde: Any) -> bool:
        """Return whether the wrapped method draws random numbers."""
        return self.method.noisy(sde)

    def start(self, sde: Any, times: Tensor) -> Any:
        """Return the memory of the wrapped method before the first step."""
        return self.method.start(sde, times)


def require_shared_grid(method: Any, times: Tensor, reason: str) -> None:
    """Raise unless all samples have the same times."""
    if times.ndim > 1:
        raise OrnsteinError(
            f"{type(method).__name__} needs one grid (n,) that all samples share: {reason}"
        )
