"""The command ``ornstein verify``: run the checks of all documents, and print a table."""

__all__ = ["CHECKS", "Verify", "line", "table"]

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ornstein.app.verify import (
    document_000_brownian,
    document_000_equations,
    document_000_integrals,
    document_001_forward,
    document_001_reverse,
    document_002_chain,
    document_002_walk,
    document_003_proof,
    document_003_reverse,
    document_003_schedules,
)
from ornstein.app.verify.check import Check, Outcome, Row, collected
from ornstein.app.verify.pictures import draw
from ornstein.errors import UnknownNameError
from ornstein.inference.checkpoint import write_config
from ornstein.inference.manifest import Manifest, options

MODULES = (
    document_000_brownian,
    document_000_integrals,
    document_000_equations,
    document_001_forward,
    document_001_reverse,
    document_002_walk,
    document_002_chain,
    document_003_schedules,
    document_003_reverse,
    document_003_proof,
)
CHECKS: tuple[Check, ...] = tuple(check for m in MODULES for check in collected(vars(m)))
"""All checks, document by document."""
DOCUMENTS = {
    "000": "stochastic calculus for diffusion models",
    "001": "sampling by stochastic differential equations",
    "002": "from the random walk to Fokker-Planck and DDPM",
    "003": "perspectives based on stochastic differential equations",
}
HEADER = (
    f"{'verdict':8}{'check':44}{'computed':>13}{'exact':>13}{'error':>10}{'tolerance':>11}  reason"
    " of the tolerance"
)


@dataclass(frozen=True)
class Verify:
    """Run the identities of the four founding documents against the library, all or a selection."""

    only: tuple[str, ...] = ()
    """Names of checks; by default all, see --list."""
    broken: Annotated[tuple[str, ...], tyro.conf.arg(name="break")] = ()
    """Names of checks to run also with a wrong formula, the printed mistakes among them; "all"
    breaks every one."""
    names: Annotated[bool, tyro.conf.arg(name="list")] = False
    """Print names, statements and what --break gets wrong, and run nothing."""
    plot: Path | None = None
    """A folder for pictures: paths, densities, schedules, lines of convergence, verdicts."""
    out: Path | None = None
    """A folder for the table as verify.json, and the manifest."""

    def run(self) -> None:
        """Print the table, and exit with status 0 if every row passes, else with 1."""
        selected = self._chosen()
        if self.names:
            print(
                "\n".join(
                    f"{c.document}  {c.name}\n     {c.statement}\n     --break: {c.mistake}"
                    for c in selected
                )
            )
            return
        manifest = Manifest("verify", options(self))
        began = time.monotonic()
        rows: list[Row] = []
        print(HEADER)
        for row in self._rows(selected):
            if not rows or rows[-1][0].document != row[0].document:
                print(f"\n{row[0].document}  {DOCUMENTS[row[0].document]}")
            rows.append(row)
            print(line(*row), flush=True)
        failed = [check.name for check, _, outcome in rows if not outcome.passed]
        seconds = round(time.monotonic() - began, 1)
        print(
            f"\n{len(rows)} rows, {len(rows) - len(failed)} pass, {len(failed)} fail, in"
            f" {seconds} s"
        )
        self._pictures(rows)
        if self.out is not None:
            write_config(self.out / "verify.json", {"rows": table(rows), "passed": not failed})
            manifest.write(self.out, {"rows": len(rows), "failed": failed, "seconds": seconds})
            print(f"table: {self.out / 'verify.json'}")
        if failed:
            sys.exit(1)

    def _chosen(self) -> list[Check]:
        """Return the selected checks, in the order of the documents.

        Raises:
            UnknownNameError: for a name that is none.
        """
        names = {check.name for check in CHECKS}
        requested = {*self.only, *self.broken} - {"all"}
        for name in sorted(requested - names):
            raise UnknownNameError("check", name, names)
        everything = not requested or "all" in self.only or ("all" in self.broken and not self.only)
        return [check for check in CHECKS if everything or check.name in requested]

    def _rows(self, chosen: Sequence[Check]) -> Iterator[Row]:
        """Measure the checks one by one, with the wrong claims if they were selected."""
        for check in chosen:
            yield check, "right", check.run()
            if check.name in self.broken or "all" in self.broken:
                yield check, "wrong", check.broken()

    def _pictures(self, rows: Sequence[Row]) -> None:
        """Draw the pictures if a folder was given and matplotlib is installed."""
        if self.plot is None:
            return
        try:
            print("\n".join(f"picture: {path}" for path in draw(self.plot, rows)))
        except ImportError:
            print("pictures: none, they need matplotlib: pip install 'ornstein[plots]'")


def line(check: Check, claim: str, outcome: Outcome) -> str:
    """Return one line of the printed table: the numbers, then the statement or the mistake."""
    verdict = "ok" if outcome.passed else "FAILS"
    text = check.statement if claim == "right" else f"BROKEN: {check.mistake}"
    sides = f"{outcome.computed:13.6g}{outcome.exact:13.6g}"
    errors = f"{outcome.error:10.1e}{outcome.tolerance:11.1e}"
    return f"{verdict:8}{check.name:44}{sides}{errors}  {outcome.reason}\n        {text}"


def table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as JSON takes them, with null for numbers that are not finite."""

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return [
        {
            "check": check.name,
            "document": check.document,
            "statement": check.statement,
            "broken": None if claim == "right" else check.mistake,
            "computed": number(outcome.computed),
            "exact": number(outcome.exact),
            "error": number(outcome.error),
            "tolerance": outcome.tolerance,
            "reason": outcome.reason,
            "verdict": "pass" if outcome.passed else "fail",
        }
        for check, claim, outcome in rows
    ]
