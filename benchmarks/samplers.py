"""Accuracy per evaluation: ours and every peer's samplers on posteriors that are known exactly.

    python -m benchmarks.samplers                                  # ring, grid, digits; all
    columns; table and plot python -m benchmarks.samplers --problems spiral mixture256     # laws
    that no rule was made on python -m benchmarks.samplers --peers none --no-tuned          # ours
    alone, a minute

Errors are root mean squares per coordinate of the distance to the exact probability flow from the
same noise, in float64. All columns run on the first seed; those that are among the best ``keep``
anywhere, and ours, run on all seeds, which are pooled. The peers are installed by ``pip install -e
".[bench]"`` and ``pip install --no-deps azula k-diffusion``; what is not installed is left out.
"""

__all__ = ["Options", "main"]

import importlib
import json
import math
import re
import sys
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import ornstein as orn
from benchmarks import ornstein_
from benchmarks.peers import SIGMA_MAX, Column
from benchmarks.problems import PROBLEMS, Problem, Reference

PEERS = ("edm", "dpm_solver", "diffusers_", "k_diffusion_", "azula_", "flow_matching_")
OURS = "ornstein"


@dataclass(frozen=True)
class Options:
    """What to run."""

    problems: tuple[str, ...] = ("ring8", "grid25", "digits500")
    evaluations: tuple[int, ...] = (5, 8, 10, 15, 20, 30, 50, 100)
    peers: tuple[str, ...] = PEERS
    """Modules of benchmarks.peers, or none."""
    only: str = ""
    """Run only peers whose name this regular expression finds."""
    tuned: bool = True
    """Also tune a sampler for every problem and number of evaluations up to 20."""
    seeds: int = 3
    """Pooled up to 20 evaluations; beyond, where changes of mode make the mean noisy, twice as many
    and two more."""
    keep: int = 6
    """Peers that run on all seeds, for each problem and number of evaluations."""
    leaders: int = 80
    """Columns that go on to more evaluations than ``everyone``: the best at the number before."""
    everyone: int = 30
    """Up to so many evaluations all columns run; fewer where a posterior is expensive."""
    merge: tuple[Path, ...] = ()
    """Folders of earlier runs whose cells are taken over where this run has none."""
    out: Path = Path("benchmarks/results/samplers")


@dataclass
class Cell:
    """One column on one problem with one number of evaluations, pooled over seeds."""

    squares: list[float]
    medians: list[float]
    sliced: float = math.nan

    @property
    def rms(self) -> float:
        """Root of the mean square over seeds, points and coordinates."""
        return math.sqrt(sum(self.squares) / len(self.squares))


Table = dict[tuple[str, int, str], Cell]


def columns(options: Options) -> dict[str, Column]:
    """All columns that are installed."""
    found: dict[str, Column] = dict(ornstein_.COLUMNS)
    for name in options.peers:
        if name == "none":
            continue
        try:
            found |= importlib.import_module(f"benchmarks.peers.{name}").COLUMNS
        except ImportError as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
    return {
        name: column
        for name, column in found.items()
        if name.startswith(OURS) or re.search(options.only, name)
    }


def measure(
    problem: Problem, column: Column, name: str, evaluations: int, seed: int, table: Table
) -> None:
    """Run one column on one seed into the table; a column that fails or is not finite counts as
    infinitely wrong."""
    y = SIGMA_MAX * problem.noise(seed)
    try:
        found = column(problem, y, evaluations)
    except Exception as error:
        print(
            f"{name} at {evaluations} on {problem.name}: {type(error).__name__}: {error}",
            file=sys.stderr,
        )
        return
    if found is None:
        return
    end, level = found
    exact = reference(problem, seed)(level)
    squares = (end.double() - exact).square().mean(1)
    cell = table.setdefault((problem.name, evaluations, name), Cell([], []))
    value = float(squares.mean())
    cell.squares.append(value if math.isfinite(value) else math.inf)
    cell.medians.append(float(squares.median().sqrt()))
    if seed == 0 and (name.startswith(OURS) or "karras" in name):
        cell.sliced = float(
            orn.metrics.sliced_w2(
                end.double().nan_to_num(), problem.sample(len(end), 99), projections=64
            ).value
        )


_references: dict[tuple[str, int], Reference] = {}


def reference(problem: Problem, seed: int) -> Reference:
    """The exact flow of one seed."""
    key = problem.name, seed
    if key not in _references:
        _references[key] = Reference(problem, SIGMA_MAX * problem.noise(seed))
    return _references[key]


def run(options: Options) -> Table:
    """All columns on seed 0, the best on all seeds."""
    table: Table = {}
    found = columns(options)
    for name in options.problems:
        problem, began, last = PROBLEMS[name](), time.monotonic(), 0
        for n in options.evaluations:
            for column in (
                found if n <= options.everyone else _leaders(table, name, last, options.leaders)
            ):
                measure(problem, found[column], column, n, 0, table)
            last = n
            others = sorted(
                (cell.rms, c)
                for (p, m, c), cell in table.items()
                if (p, m) == (name, n) and not c.startswith(OURS)
            )
            print(
                f"{name} {n}: {time.monotonic() - began:.0f} s; best peer"
                f" {others[0] if others else None}",
                flush=True,
            )
    again = _finalists(table, options)
    for name in options.problems:
        problem = PROBLEMS[name]()
        for n in options.evaluations:
            seeds = options.seeds if n <= 20 else 2 * options.seeds + 2
            for column in sorted(again):
                for seed in range(1, seeds):
                    measure(problem, found[column], column, n, seed, table)
            if options.tuned and n <= 20:
                for column in ornstein_.TUNED:
                    for seed in range(seeds):
                        measure(problem, ornstein_.TUNED[column], column, n, seed, table)
    return table


def _leaders(table: Table, name: str, n: int, most: int) -> list[str]:
    """The best columns at the number of evaluations before, and ours."""
    ranked = sorted((cell.rms, c) for (p, m, c), cell in table.items() if (p, m) == (name, n))
    return [c for k, (_, c) in enumerate(ranked) if k < most or c.startswith(OURS)]


def _finalists(table: Table, options: Options) -> set[str]:
    """The columns among the best anywhere, by problem or by geometric mean, and ours."""
    names = {c for _, _, c in table}
    kept = {c for c in names if c.startswith(OURS)}
    for n in options.evaluations:
        means = {c: _mean(table, options.problems, n, c) for c in names - kept}
        kept |= set(sorted(means, key=means.__getitem__)[: options.keep // 2])
        for p in options.problems:
            ranked = sorted(
                (cell.rms, c)
                for (q, m, c), cell in table.items()
                if (q, m) == (p, n) and not c.startswith(OURS)
            )
            kept |= {c for _, c in ranked[: options.keep]}
    return kept


def _mean(table: Table, problems: tuple[str, ...], n: int, column: str) -> float:
    """Geometric mean over the problems; infinite where one is missing."""
    cells = [table.get((p, n, column)) for p in problems]
    if any(cell is None or not 0 < cell.rms < math.inf for cell in cells):
        return math.inf
    return math.exp(sum(math.log(cell.rms) for cell in cells if cell) / len(cells))


def report(table: Table, options: Options) -> str:
    """The tables in Markdown: ours against the best peer, per problem and in geometric mean."""
    lines, full = [], options.evaluations
    names = sorted({c for _, _, c in table})
    ours, peers = (
        [c for c in names if c.startswith(OURS)],
        [c for c in names if not c.startswith(OURS)],
    )
    seeds = defaultdict(int)
    for (_, _, c), cell in table.items():
        seeds[c] = max(seeds[c], len(cell.squares))
    pooled = [c for c in peers if seeds[c] > 1] or peers

    def row(label: str, values: list[float]) -> str:
        return (
            f"| {label} | "
            + " | ".join("-" if not math.isfinite(v) else f"{v:.3g}" for v in values)
            + " |"
        )

    def value(p: str, n: int, c: str) -> float:
        cell = table.get((p, n, c))
        return cell.rms if cell else math.inf

    head = "| evaluations | " + " | ".join(map(str, full)) + " |\n|" + "---|" * (len(full) + 1)
    for p in options.problems:
        lines += [f"\n### {p}: root mean square error per coordinate\n", head]
        if pooled:
            best = {n: min(pooled, key=lambda c, n=n: value(p, n, c)) for n in full}
            lines.append(row("best peer", [value(p, n, best[n]) for n in full]))
        lines += [row(c, [value(p, n, c) for n in full]) for c in ours]
        lines += [
            row(f"{c}: median point", [_median(table, p, n, c) for n in full])
            for c in ours
            if c.endswith("EDM")
        ]
        lines += [
            row(f"{c}: sliced W2", [_sliced(table, p, n, c) for n in full])
            for c in ours
            if c.endswith("EDM")
        ]
        floor = _floor(PROBLEMS[p]())
        lines.append(row("sliced W2 of two exact samples (floor)", [floor] * len(full)))
        if pooled:
            lines += [
                "",
                *(f"- {n} evaluations: {best[n]} ({value(p, n, best[n]):.3g})" for n in full),
            ]
    lines += ["\n### geometric mean over the problems\n", head]
    if pooled:
        record = {
            n: min(pooled, key=lambda c, n=n: _mean(table, options.problems, n, c)) for n in full
        }
        values = [_mean(table, options.problems, n, record[n]) for n in full]
        lines.append(row("best peer configuration", values))
    for c in ours:
        means = [_mean(table, options.problems, n, c) for n in full]
        lines.append(row(c, means))
        if pooled:
            ratios = [a / b for a, b in zip(means, values, strict=True)]
            lines.append(row(f"{c} / best peer configuration", ratios))
    if pooled:
        lines += ["", *(f"- {n} evaluations: {record[n]}" for n in full)]
    return "\n".join(lines) + "\n"


def _median(table: Table, p: str, n: int, c: str) -> float:
    cell = table.get((p, n, c))
    return sum(cell.medians) / len(cell.medians) if cell else math.inf


def _sliced(table: Table, p: str, n: int, c: str) -> float:
    cell = table.get((p, n, c))
    return cell.sliced if cell else math.inf


def _floor(problem: Problem) -> float:
    a, b = problem.sample(problem.points, 98), problem.sample(problem.points, 99)
    return float(orn.metrics.sliced_w2(a, b, projections=64).value)


def plot(table: Table, options: Options, path: Path) -> None:
    """Error against evaluations, log-log: ours and the best peer of each family."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(options.problems), figsize=(5 * len(options.problems), 4.4), squeeze=False
    )
    for axis, p in zip(axes[0], options.problems, strict=True):
        curves: dict[str, dict[int, float]] = defaultdict(dict)
        for (q, n, c), cell in table.items():
            if q == p and math.isfinite(cell.rms):
                label = c if c.startswith(OURS) else c.split()[0]
                curves[label][n] = min(cell.rms, curves[label].get(n, math.inf))
        for label in sorted(curves, key=lambda name: (not name.startswith(OURS), name)):
            points = sorted(curves[label].items())
            mine = label.startswith(OURS)
            style, name = ("o-", label) if mine else (".--", f"best of {label}")
            axis.plot(*zip(*points, strict=True), style, lw=2 if mine else 1, label=name, ms=4)
        axis.set(
            xscale="log",
            yscale="log",
            title=p,
            xlabel="evaluations",
            ylabel="error per coordinate (RMS)",
        )
        axis.grid(True, which="both", alpha=0.25)
    axes[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(options: Options) -> None:
    """Run, and write ``table.md``, ``cells.json`` and ``plot.png``."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    table = run(options)
    for folder in options.merge:
        for p, n, c, *cell in json.loads((folder / "cells.json").read_text()):
            table.setdefault((p, n, c), Cell(*cell))
    options.out.mkdir(parents=True, exist_ok=True)
    text = report(table, options)
    (options.out / "table.md").write_text(text)
    kept = {
        c for (_, _, c), cell in table.items() if len(cell.squares) > 1 or c.startswith(OURS)
    }  # a folder must stay small
    cells = [
        [*key, cell.squares, cell.medians, cell.sliced]
        for key, cell in sorted(table.items())
        if key[2] in kept
    ]
    (options.out / "cells.json").write_text(json.dumps(cells))
    plot(table, options, options.out / "plot.png")
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
