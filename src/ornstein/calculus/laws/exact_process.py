"""The base class of processes with a known transition, and the interface of the law of a state.

A process is an `Equation` (`drift`, `diffusion`), which methods can discretise, and a *transition*
``x_s -> law of x_t`` for s < t, with which they are compared. A law maps standard normal numbers to
a state, ``law.draw(z)``, a fixed count of them for each entry, so that what one path draws does not
depend on the others. `sample_exact` draws paths with the loop of the library.
"""

__all__ = ["ExactProcess", "Law", "elapsed"]

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from ornstein.core.processes.linear import Time, as_time
from ornstein.errors import OrnsteinError


def elapsed(s: Time, t: Time) -> Tensor:
    """Return the elapsed time ``t - s`` in float64, ``()`` or ``(b,)``.

    Raises:
        OrnsteinError: if any is negative.
    """
    h = as_time(t).double() - as_time(s).double()
    if bool((h < 0).any()):
        raise OrnsteinError(f"a transition from s={s} to t={t}: needs s <= t: times go up")
    return h


@runtime_checkable
class Law(Protocol):
    """The distribution of a state, one distribution for each entry of a batch ``(b, *event)``."""

    @property
    def draw(self) -> Callable[..., Tensor]:
        """The function ``draw(z)``, which returns the state of standard normal numbers z.

        The numbers have the shape of the state; some laws take more than one number per entry.
        """
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of each sample in nats, ``(b,)``."""
        ...


class ExactProcess(ABC):
    """A Markov process with a known transition, the base of frozen dataclasses."""

    @property
    def numbers(self) -> int:
        """The number of standard normal numbers that a draw takes for each entry."""
        return 1

    @abstractmethod
    def drift(self, x: Tensor, t: Time) -> Tensor:
        """Return the change per unit of time, ``(b, *event)``."""

    @abstractmethod
    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """Return the factor on the Brownian increment, broadcastable to ``(b, *event)``."""

    @abstractmethod
    def transition(self, x_s: Tensor, s: Time, t: Time) -> Law:
        """Return the law of x_t given x_s, for s <= t; times are scalars or ``(b,)``."""
