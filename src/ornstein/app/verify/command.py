"""``ornstein verify``: the checks as a table, with an exit status."""

__all__ = ["CHECKS", "Verify", "line", "table"]

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ornstein.app.verify import document_000 as calculus
from ornstein.app.verify import document_001 as sampling
from ornstein.app.verify import document_002 as walk
from ornstein.app.verify import document_003_perspectives as perspectives
from ornstein.app.verify import document_003_proof as proof
from ornstein.app.verify.check import Check, Outcome
from ornstein.app.verify.pictures import StepCoefficients, draw
from ornstein.errors import UnknownNameError
from ornstein.inference.checkpoint import write_config
from ornstein.inference.manifest import Manifest, options

CHECKS: tuple[Check, ...] = (
    calculus.CHECKS + sampling.CHECKS + walk.CHECKS + perspectives.CHECKS + proof.CHECKS
)
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
    """Run the identities of the four founding documents against the library: all of them, or
    some."""

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
        """Print the table. The exit status is 0 if every row passes, 1 if one does not."""
        chosen = self._chosen()
        if self.names:
            print(
                "\n".join(
                    f"{c.document}  {c.name}\n     {c.statement}\n     --break: {c.mistake}"
                    for c in chosen
                )
            )
            return
        manifest, began = Manifest("verify", options(self)), time.monotonic()
        rows: list[StepCoefficients] = []
        print(HEADER)
        for row in self._rows(chosen):
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
        """What was asked for, in the order of the documents.

        Raises:
            UnknownNameError: for a name that is none.
        """
        known, asked = {check.name for check in CHECKS}, {*self.only, *self.broken} - {"all"}
        for name in sorted(asked - known):
            raise UnknownNameError("check", name, known)
        everything = not asked or "all" in self.only or ("all" in self.broken and not self.only)
        return [check for check in CHECKS if everything or check.name in asked]

    def _rows(self, chosen: Sequence[Check]) -> Iterator[StepCoefficients]:
        for check in chosen:
            yield check, "right", check.run()
            if check.name in self.broken or "all" in self.broken:
                yield check, "wrong", check.broken()

    def _pictures(self, rows: Sequence[StepCoefficients]) -> None:
        if self.plot is None:
            return
        try:
            print("\n".join(f"picture: {path}" for path in draw(self.plot, rows)))
        except ImportError:
            print("pictures: none, they need matplotlib: pip install 'ornstein[plots]'")


def line(check: Check, claim: str, outcome: Outcome) -> str:
    """One row of the table for people: the numbers, and below them the statement or what is wrong
    with it."""
    verdict, said = (
        "ok" if outcome.passed else "FAILS",
        check.statement if claim == "right" else f"BROKEN: {check.mistake}",
    )
    numbers = f"{outcome.computed:13.6g}{outcome.exact:13.6g}{outcome.error:10.1e}{outcome.tolerance:11.1e}"
    return f"{verdict:8}{check.name:44}{numbers}  {outcome.reason}\n        {said}"


def table(rows: Sequence[StepCoefficients]) -> list[dict[str, Any]]:
    """The rows as JSON takes them; numbers that do not exist are null."""

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
