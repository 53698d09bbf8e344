"""A number that was estimated, with its error: the one result type of the library.

Every estimate has a value, a standard error, an interval, and what it cost. Where more is known,
a subclass adds it: `ornstein.density.LogZ`, `ornstein.likelihood.LogLikelihood` and others.
"""

__all__ = ["NORMAL_QUANTILE", "Estimate", "normal_interval"]

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NORMAL_QUANTILE = 1.959964  # of a standard normal variable at 0.975: the interval covers 95 %


def normal_interval(value: Any, stderr: Any) -> tuple[Any, Any]:
    """The 95 % interval ``value -+ 1.96 stderr`` of an estimate whose error is normal."""
    reach = NORMAL_QUANTILE * stderr
    return value - reach, value + reach


@dataclass(frozen=True, eq=False)
class Estimate:
    """An estimated number, or a tensor of them, with its standard error.

    It unpacks into its first two fields, ``value, stderr = estimate``.

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
    """

    value: Any
    stderr: Any
    interval: tuple[Any, Any] = ()  # type: ignore[assignment]  # filled in below
    cost: int = 0

    def __post_init__(self) -> None:
        if not self.interval:
            object.__setattr__(self, "interval", normal_interval(self.value, self.stderr))

    def __iter__(self) -> Iterator[Any]:
        return iter((self.value, self.stderr))
