"""One formula, one place: what is written once in the library, and where.

Each entry has a pattern that a retyped copy matches and the file where the formula lives. `BEHIND`
lists files that still hold a copy; an entry without a copy must be taken out.
"""

import re
from typing import NamedTuple

import pytest

from house import SRC


class Formula(NamedTuple):
    """A formula, its only home below ``src/ornstein``, and what a copy of it looks like."""

    home: str
    pattern: str


FORMULAS = {
    "effective sample size": Formula(
        "core/numerics/importance.py",
        r"2 \* \w[\w.]*\.logsumexp\(\w*\) - \(2 \*"
        r"|1 / (float\()?\w+\.square\(\)\.sum\(|\.sum\(\)\.square\(\) / ",
    ),
    "noise-to-signal ratio": Formula(
        "core/processes/linear.py", r"\(-[\w.]*log_snr\(.*\) / 2\)\.exp\(\)"
    ),
    "bisection": Formula("core/numerics/roots.py", r"middle = \(\(?low \+ high\) / 2"),
    "look-up in a table": Formula("core/numerics/tables.py", r"torch\.(searchsorted|bucketize)\("),
    "Gauss-Legendre nodes": Formula("core/numerics/quadrature.py", r"leggauss\("),
    "shrunk covariance": Formula("core/numerics/covariance.py", r"/ \(\w+(\[\w\])? \+ d\)"),
    "systematic resampling": Formula(
        "core/numerics/importance.py", r"torch\.arange\(\w+, dtype=torch\.float64\) \+ \w+"
    ),
    "a seed or a source": Formula("core/random/noise.py", r"isinstance\([\w.]+, Noise\)"),
}
BEHIND: dict[str, set[str]] = {}


def copies(formula: Formula) -> set[str]:
    """Files other than its home that match the pattern of a formula."""
    library = SRC / "ornstein"
    return {
        str(path.relative_to(library))
        for path in library.rglob("*.py")
        if str(path.relative_to(library)) != formula.home
        and re.search(formula.pattern, path.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_is_written_once(name):
    assert copies(FORMULAS[name]) == BEHIND.get(name, set())


@pytest.mark.parametrize("name", FORMULAS)
def test_its_home_holds_it(name):
    """So that a pattern that matches nothing is noticed."""
    formula = FORMULAS[name]
    assert re.search(formula.pattern, (SRC / "ornstein" / formula.home).read_text(encoding="utf-8"))
