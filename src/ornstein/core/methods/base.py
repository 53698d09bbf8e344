"""What methods for general equations share: they need noise unless the equation is an ODE, and
refuse what they do not solve."""

__all__ = ["SDEMethod"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.processes.solver_orders import require_fit
from ornstein.core.simulation.method import Method


@dataclass(frozen=True)
class SDEMethod(Method):
    """A method with a row in the table of `ornstein.core.processes.solver_orders`, under the name
    of its class."""

    def noisy(self, sde: Any) -> bool:
        """Unless the equation is an ODE."""
        return not getattr(sde, "deterministic", False)

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses equations that the table does not name, by `require_fit`."""
        require_fit(self, sde)
