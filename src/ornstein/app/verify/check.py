"""A check is one statement of a document, measured against the library.

What is measured is a function of a *claim*, the part of the statement that could be wrong: a
formula, a coefficient, the point where an integrand is read off. The right claim must pass,

    |computed - exact| <= tolerance,                                                             (1)

and a wrong one, where there is one the one that the document prints, must fail under the same
tolerance: a check that nothing can fail says nothing. An estimated number is allowed k standard
errors, with fixed seeds; a solved one the order of its method.
"""

__all__ = ["Check", "Outcome", "check", "collected", "estimated", "exactly", "normal_law"]

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.calculus.integrals.time_change import kolmogorov
from ornstein.errors import OrnsteinError

SIGNIFICANCE = (
    1.95  # sqrt(n) times the Kolmogorov-Smirnov distance that chance exceeds once in a thousand
)


@dataclass(frozen=True)
class Outcome:
    """Two sides of a statement.

    Attributes:
        computed: by the library.
        exact: by the statement; of a statement about many numbers both are the pair that is
            furthest apart.
        tolerance: the difference allowed.
        reason: where the tolerance comes from.
    """

    computed: float
    exact: float
    tolerance: float
    reason: str

    @property
    def error(self) -> float:
        """``|computed - exact|``."""
        return abs(self.computed - self.exact)

    @property
    def passed(self) -> bool:
        """(1); False for NaN."""
        return self.error <= self.tolerance  # (1)


@dataclass(frozen=True)
class Check:
    """One statement.

    Attributes:
        name: for the command line.
        document: number of the document that states it, "000" to "003".
        statement: in words and formulas, correct.
        measure: ``claim -> Outcome``.
        right: the claim that holds.
        wrong: one that does not.
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
        """The outcome of the right claim."""
        return _outcome(self.measure, self.right)

    def broken(self) -> Outcome:
        """The outcome of the wrong one."""
        return _outcome(self.measure, self.wrong)


def _outcome(measure: Callable[[Any], Outcome], claim: Any) -> Outcome:
    """An error that the library raises on purpose, as where a package is missing, is no verdict: it
    does not pass."""
    try:
        return measure(claim)
    except OrnsteinError as error:
        return Outcome(math.nan, math.nan, 0.0, f"could not run: {error}")


def check(
    document: str, right: Any, wrong: Any, mistake: str
) -> Callable[[Callable[[Any], Outcome]], Check]:
    """Makes a `Check` of a function of the claim; its name and its docstring become name and
    statement."""

    def decorate(measure: Callable[[Any], Outcome]) -> Check:
        statement = " ".join(inspect.getdoc(measure).split())  # type: ignore[union-attr]
        return Check(
            measure.__name__.replace("_", "-"), document, statement, measure, right, wrong, mistake
        )

    return decorate


def collected(names: Mapping[str, Any]) -> tuple[Check, ...]:
    """The checks among the names of a module, in the order in which they were written."""
    return tuple(value for value in names.values() if isinstance(value, Check))


def exactly(
    computed: Tensor | float, exact: Tensor | float, tolerance: float, reason: str
) -> Outcome:
    """The pair that is furthest apart of two tensors that broadcast against each other; a NaN
    counts as furthest."""
    pair = torch.broadcast_tensors(
        *(torch.as_tensor(value, dtype=torch.float64).detach() for value in (computed, exact))
    )
    a, b = (side.flatten() for side in pair)
    worst = (a - b).abs().argmax()
    return Outcome(float(a[worst]), float(b[worst]), tolerance, reason)


def estimated(draws: Tensor, exact: float, seed: int, k: float = 4.0) -> Outcome:
    """The mean of independent draws ``(n,)``, which may be off by k of its standard errors."""
    stderr = float(draws.double().std()) / math.sqrt(len(draws))
    return Outcome(
        float(draws.double().mean()),
        float(exact),
        k * stderr,
        f"{k:g} standard errors, n = {len(draws)}, seed {seed}",
    )


def normal_law(z: Tensor, seed: int) -> Outcome:
    """The Kolmogorov-Smirnov distance of independent draws ``(n,)`` from the standard normal
    law."""
    distance, _ = kolmogorov(z)
    reason = (
        f"Kolmogorov-Smirnov distance, exceeded by chance once in 1000, n = {len(z)}, seed {seed}"
    )
    return Outcome(distance, 0.0, SIGNIFICANCE / math.sqrt(len(z)), reason)
