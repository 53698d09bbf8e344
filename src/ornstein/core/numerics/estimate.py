"""An estimated number with its standard error: the result type of every estimate of the library.

Every estimate has a value, a standard error, an interval, and a cost. Where there is more to tell,
a subclass adds it: `ornstein.density.LogZ`, `ornstein.likelihood.LogLikelihood` and others.
"""

__all__ = ["NORMAL_QUANTILE", "Estimate", "normal_interval"]

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

NORMAL_QUANTILE = 1.959964
"""The 0.975 quantile of a standard normal variable: it makes an interval of 95 %."""

Kind = TypeVar("Kind", bound="Estimate")


def normal_interval(value: Any, stderr: Any) -> tuple[Any, Any]:
    """Return the 95 % interval ``value -+ 1.96 stderr`` of an estimate whose error is normal."""
    reach = NORMAL_QUANTILE * stderr
    return value - reach, value + reach


@dataclass(frozen=True, eq=False)
class Estimate:
    """An estimated number, or a tensor of them, with its standard error.

    An estimate unpacks into its first two fields, ``value, stderr = estimate``. Two estimates are
    equal if they have one type and all their fields are equal, tensors by `torch.equal`.

    Args:
        value: the estimate, a float or a tensor; in the units of the quantity.
        stderr: standard error of the value, of the same shape and in the same units.
        interval: ``(low, high)`` that covers the truth with probability 95 %; by default
            ``value -+ 1.96 stderr``.
        cost: what the estimate took: evaluations of the model or of the density, or steps of
            simulated paths, as the function that returns it says. 0 where nothing was evaluated.

    Example:
        >>> distance = orn.metrics.sliced_w2(torch.zeros(8, 2), torch.ones(8, 2))
        >>> value, stderr = distance
        >>> low, high = distance.interval
        >>> low <= value <= high
        True
    """

    value: Any
    stderr: Any
    interval: tuple[Any, Any] = ()  # type: ignore[assignment]  # filled in below
    cost: int = 0

    def __post_init__(self) -> None:
        if not self.interval:
            object.__setattr__(self, "interval", normal_interval(self.value, self._total_error()))

    def __iter__(self) -> Iterator[Any]:
        return iter((self.value, self.stderr))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Estimate) or type(self) is not type(other):
            return NotImplemented
        return all(
            _same(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
        )

    def __hash__(self) -> int:
        return hash((type(self), self.cost))  # equal tensors have no hash in common

    @property
    def evaluations(self) -> int:
        """The number of evaluations that the estimate took, which is its ``cost``."""
        return self.cost

    def shifted(self: Kind, amount: Any) -> Kind:
        """Return the estimate with an exact amount added to the value; the errors stay the same.

        Args:
            amount: a number or a tensor of the shape of the value, in the units of the value.
        """
        low, high = self.interval
        return replace(self, value=self.value + amount, interval=(low + amount, high + amount))

    def _total_error(self) -> Any:
        """The error that the default interval covers; subclasses with other errors add them."""
        return self.stderr


def _same(a: Any, b: Any) -> bool:
    """Return whether two fields are equal: tensors by value, tuples entry by entry."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return a is b or bool(a == b)
