"""Checks of `ornstein verify`: one statement of a document each, measured against the library.

What is measured is a function of a *claim*, the part of the statement that could be wrong: a
formula, a coefficient, the point where an integrand is evaluated. The right claim must pass,

    |computed - exact| <= tolerance,                                                             (1)

and a wrong claim must fail under the same tolerance; where the document prints a wrong formula,
that is the wrong claim. A check that nothing can fail says nothing. An estimated number is allowed
k standard errors, with fixed seeds; a solved number the error that the order of its method allows.
"""

__all__ = [
    "Check",
    "Outcome",
    "Row",
    "check",
    "collected",
    "estimated",
    "exactly",
    "float64",
    "normal_law",
    "within_errors",
]

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.calculus.integrals.time_change import kolmogorov
from ornstein.core.numerics.estimate import Estimate
from ornstein.errors import OrnsteinError

# sqrt(n) times the Kolmogorov-Smirnov distance that chance exceeds once in a thousand
SIGNIFICANCE = 1.95


@dataclass(frozen=True)
class Outcome:
    """The two sides of a statement, the difference that is allowed, and the reason for it.

    Attributes:
        computed: the side that the library computed.
        exact: the side that the statement gives. Of a statement about many numbers both sides are
            the pair with the largest difference.
        tolerance: the difference allowed.
        reason: where the tolerance comes from.
    """

    computed: float
    exact: float
    tolerance: float
    reason: str

    @property
    def error(self) -> float:
        """The absolute difference ``|computed - exact|`` of both sides."""
        return abs(self.computed - self.exact)

    @property
    def passed(self) -> bool:
        """Whether ``|computed - exact| <= tolerance``; False for NaN."""
        return self.error <= self.tolerance  # (1)


@dataclass(frozen=True)
class Check:
    """One statement of a document, with a right and a wrong claim to measure.

    Attributes:
        name: the name for the command line.
        document: number of the document that states it, "000" to "003".
        statement: the statement in words and formulas, correct.
        measure: ``claim -> Outcome``.
        right: the claim that is true.
        wrong: a claim that is not.
        mistake: what is wrong with it; "printed: ..." where the document prints it.
    """

    name: str
    document: str
    statement: str
    measure: Callable[[Any], Outcome]
    right: Any
    wrong: Any
    mistake: str

    def run(self) -> Outcome:
        """Return the outcome of the right claim, which should pass."""
        return _outcome(self.measure, self.right)

    def broken(self) -> Outcome:
        """Return the outcome of the wrong claim, which should fail."""
        return _outcome(self.measure, self.wrong)


Row = tuple[Check, str, Outcome]
"""A row of the table: a check, the claim that was measured ("right" or "wrong"), the outcome."""


def _outcome(measure: Callable[[Any], Outcome], claim: Any) -> Outcome:
    """Return the outcome of a right or wrong claim.

    An error that the library raises on purpose, as where a package is missing, is no verdict: such
    an outcome does not pass.
    """
    try:
        return measure(claim)
    except OrnsteinError as error:
        return Outcome(math.nan, math.nan, 0.0, f"could not run: {error}")


def check(
    document: str, right: Any, wrong: Any, mistake: str
) -> Callable[[Callable[[Any], Outcome]], Check]:
    """Return a decorator that makes a `Check` of a function of the claim.

    The name and the docstring of the function become the name and the statement of the check.

    Args:
        document: number of the document, "000" to "003".
        right: the claim that is true.
        wrong: a claim that is not.
        mistake: what is wrong with it; "printed: ..." where the document prints it.
    """

    def decorate(measure: Callable[[Any], Outcome]) -> Check:
        statement = " ".join(inspect.getdoc(measure).split())  # type: ignore[union-attr]
        return Check(
            measure.__name__.replace("_", "-"), document, statement, measure, right, wrong, mistake
        )

    return decorate


def collected(names: Mapping[str, Any]) -> tuple[Check, ...]:
    """Return the checks among the names of a module, in the order in which they were written."""
    return tuple(value for value in names.values() if isinstance(value, Check))


def exactly(
    computed: Tensor | float, exact: Tensor | float, tolerance: float, reason: str
) -> Outcome:
    """Compare two tensors, or numbers, and return the pair with the largest difference.

    Args:
        computed: the side that the library computed.
        exact: the other side; both broadcast against each other. A NaN counts as the largest
            difference.
        tolerance: the difference allowed.
        reason: where the tolerance comes from.
    """
    pair = torch.broadcast_tensors(
        *(torch.as_tensor(value, dtype=torch.float64).detach() for value in (computed, exact))
    )
    a, b = (side.flatten() for side in pair)
    largest = (a - b).abs().argmax()
    return Outcome(float(a[largest]), float(b[largest]), tolerance, reason)


def estimated(draws: Tensor, exact: float, seed: int, k: float = 4.0) -> Outcome:
    """Compare the mean of independent draws with a number, within k standard errors.

    Args:
        draws: ``(n,)``, independent.
        exact: their expectation.
        seed: the seed of the draws, for the reason.
        k: number of standard errors allowed.
    """
    draws = draws.double()
    stderr = float(draws.std()) / math.sqrt(len(draws))
    estimate = Estimate(float(draws.mean()), stderr)
    return within_errors(estimate, exact, f"n = {len(draws)}", seed, k)


def within_errors(
    estimate: Estimate, exact: float, size: str, seed: int, k: float = 4.0
) -> Outcome:
    """Compare an estimate with a number, within k of its standard errors.

    Args:
        estimate: a number with its standard error.
        exact: the true value.
        size: the size of the sample, in words.
        seed: the seed of the sample, for the reason.
        k: number of standard errors allowed.
    """
    tolerance = k * float(estimate.stderr)
    reason = f"{k:g} standard errors, {size}, seed {seed}"
    return Outcome(float(estimate.value), float(exact), tolerance, reason)


def float64(numbers: Sequence[float]) -> Tensor:
    """Return numbers as a tensor ``(n,)`` in float64."""
    return torch.tensor(numbers, dtype=torch.float64)


def normal_law(z: Tensor, seed: int) -> Outcome:
    """Compare independent draws with the standard normal law by the Kolmogorov-Smirnov distance.

    Args:
        z: ``(n,)``, independent.
        seed: the seed of the draws, for the reason.
    """
    distance, _ = kolmogorov(z)
    reason = (
        f"Kolmogorov-Smirnov distance, exceeded by chance once in 1000, n = {len(z)}, seed {seed}"
    )
    return Outcome(distance, 0.0, SIGNIFICANCE / math.sqrt(len(z)), reason)
