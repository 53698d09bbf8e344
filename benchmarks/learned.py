"""What the learned part adds to our own tempering: at equal evaluations, at equal time, and for
further draws.

    python -m benchmarks.learned                                   # all targets, hours; those that
    are not yet there python -m benchmarks.learned --targets funnel gmm9 --seeds 0 1
    python -m benchmarks.learned --shard 0 --of 2                  # half of the rows; the other
    half elsewhere

`orn.sample_density` spends E evaluations and S processor seconds of one thread. Tempered SMC alone
then chooses the same strategy, from the same seed, and gets as many particles as bring it to E
evaluations, the choice included, and again as bring it to S seconds, by its time per particle in
the first of these. Rows go to ``learned.json`` as they come; after a change of the library,
``--fresh``.

"tempering" and "diffusion" are the two parts of ours, "fused" is what it reports, "SMC, E" and
"SMC, S" are tempered SMC alone: root mean square error of log Z over seeds, median standard
error, and in how many seeds the 95 % interval holds the truth. "se / E" and "se / S" are medians of
fused standard errors over those of SMC. "evaluations" and "seconds" are medians of ours, in
brackets of SMC at equal seconds and at equal evaluations. "ESS / path" is that of
`DensityResult.draw_weighted`, with the median of their k-hat. Further draws cost microseconds, and
evaluations, per effective draw: weighted paths of the frozen model, against other runs
of SMC along the frozen temperatures, whose effective number does not know that particles have
ancestors in common.

The learned part *adds*: to log Z at equal evaluations (or at equal time), if the median of "se / E"
(of "se / S") is below 0.8, about two deviations from 1 for five pairs of 16 runs each, and its
interval holds the truth in as many seeds as that of SMC, or in one less; draws, if they cost less
than half, with k-hat below 0.7 and the truth in the diffusion's interval, both in all seeds but
one.
"""

__all__ = ["Options", "main"]

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro

import ornstein as orn
from benchmarks.density import Problem, problems
from benchmarks.rows import Row, Rows
from ornstein.density.counted import CountedLogDensity
from ornstein.density.log_z import LogZ, log_z_of_runs
from ornstein.density.smc.strategy import SamplingStrategy, choose_strategy
from ornstein.density.smc.tempered_smc import frozen_smc

RUNS = 16  # independent runs of SMC in a batch
NUMBERS = 2**23  # in the particles of a batch, at most
PATHS = 4096  # in the cost of further draws
GAIN = 0.8  # of a standard error, below which something was added
CHEAPER = 2.0  # from which on draws are
METHODS = ("tempering", "diffusion", "fused", "SMC, E", "SMC, S")


@dataclass(frozen=True)
class Options:
    """What to run."""

    targets: tuple[str, ...] = ()
    """Of `benchmarks.density`; by default all."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    budget: float = 300.0
    """Seconds, for ours."""
    pines: Path | None = None
    """As in `benchmarks.density`."""
    shard: int = 0
    of: int = 1
    """This process takes every ``of``-th row, from number ``shard`` on."""
    fresh: bool = False
    """Forget earlier rows of these targets and seeds."""
    out: Path = Path("benchmarks/results/learned")


class SMCRuns(NamedTuple):
    """The estimate of independent runs of SMC, and their cost."""

    log_z: LogZ
    particles: int
    evaluations: int
    seconds: float


def smc_runs(
    target: CountedLogDensity, strategy: SamplingStrategy, n: int, noise: orn.Noise
) -> SMCRuns:
    """Run SMC with about n particles, in as many batches as fit into memory one after another."""
    began, before = time.process_time(), target.values
    batches = math.ceil(n * target.dim / NUMBERS)
    each = max(2, round(n / batches / RUNS))
    estimates, log_w = [], []
    for k in range(batches):
        sample = frozen_smc(target, strategy.law, strategy.steps, each, RUNS, noise.fold(k))
        estimates.append(sample.run_log_z)
        log_w.append(sample.log_w)
    z = log_z_of_runs(torch.cat(estimates), torch.cat(log_w))
    return SMCRuns(z, batches * RUNS * each, target.values - before, time.process_time() - began)


def scored(problem: Problem, z: LogZ) -> Row:
    """An estimate beside the truth."""
    truth, slack = problem.target.log_z, 2 * getattr(problem.target, "log_z_stderr", 0.0)
    low, high = z.interval
    return {
        "error": z.value - truth,
        "stderr": z.stderr,
        "covered": low - slack <= truth <= high + slack,
        "ess": z.ess,
    }


def per_draw(ess: float, seconds: float, evaluations: int) -> Row:
    """Microseconds and evaluations per effective draw."""
    return (
        {"us": 1e6 * seconds / ess, "calls": evaluations / ess}
        if ess
        else {"us": math.inf, "calls": math.inf}
    )


def weighted_draws(r: orn.DensityResult, seed: int) -> Row:
    """What weighted draws of the frozen model cost and are worth."""
    began = time.process_time()
    log_w = r.draw_weighted(PATHS, seed=seed).log_w
    seconds, alive = time.process_time() - began, bool(log_w.isfinite().any())
    ess, k_hat = (orn.metrics.ess(log_w), orn.metrics.pareto_k(log_w)) if alive else (0.0, math.inf)
    return {"share": ess / PATHS, "k_hat": k_hat, **per_draw(ess, seconds, PATHS)}


def measure(problem: Problem, seed: int, budget: float) -> Row:
    """One row."""
    target, began = problem.target, time.process_time()
    r = orn.sample_density(target, seed=seed, budget=budget)
    seconds = time.process_time() - began
    row = {
        "target": problem.name, "seed": seed, "evaluations": r.evaluations, "seconds": seconds,
        "warnings": [w.code for w in r.warnings], "fused": scored(problem, r.log_z_estimate),
        **{name: scored(problem, r.estimates[name]) for name in ("tempering", "diffusion")},
    }  # fmt: skip
    row["paths"] = weighted_draws(r, 1000 + seed)
    counted = CountedLogDensity(target.log_prob, target.dim)
    noise = orn.Noise(seed)
    began = time.process_time()
    strategy = choose_strategy(counted, target.dim, noise.fold(1))
    planning = time.process_time() - began
    steps = len(strategy.steps)
    row["plan"] = {"evaluations": counted.values, "seconds": planning, "rungs": steps}
    min_n = 2 * RUNS
    n = max(min_n, (r.evaluations - counted.values) // strategy.cost)
    for k, name in enumerate(("SMC, E", "SMC, S")):
        smc = smc_runs(counted, strategy, n, noise.fold(0x536D63, k))
        costs = {
            "evaluations": row["plan"]["evaluations"] + smc.evaluations,
            "seconds": planning + smc.seconds,
        }
        row[name] = scored(problem, smc.log_z) | costs | {"particles": smc.particles}
        row[name] |= per_draw(smc.log_z.ess, smc.seconds, smc.evaluations)
        n = max(min_n, int((seconds - planning) / smc.seconds * smc.particles))
    return row


class Verdict(NamedTuple):
    """Medians over seeds of ratios of standard errors, and what is added."""

    at_evaluations: float
    at_seconds: float
    adds: tuple[str, ...]


def median(rows: list[Row], *path: str) -> float:
    """Of an entry of the rows, or of an entry in it, over seeds."""
    found: list[Any] = rows
    for key in path:
        found = [entry[key] for entry in found]
    return statistics.median(found)


def covered(rows: list[Row], name: str) -> int:
    """In how many seeds the interval holds the truth."""
    return sum(row[name]["covered"] for row in rows)


def verdict(rows: list[Row]) -> Verdict:
    """By the rule in the docstring of the module."""
    ratios, adds = list[float](), list[str]()
    for name, said in (("SMC, E", "log Z at equal evaluations"), ("SMC, S", "log Z at equal time")):
        ratios.append(
            statistics.median(
                row["fused"]["stderr"] / max(row[name]["stderr"], 1e-300) for row in rows
            )
        )
        if ratios[-1] < GAIN and covered(rows, "fused") >= covered(rows, name) - 1:
            adds.append(said)
    cheap = CHEAPER * median(rows, "paths", "us") < median(rows, "SMC, E", "us")
    sound = min(sum(row["paths"]["k_hat"] < 0.7 for row in rows), covered(rows, "diffusion"))
    if cheap and sound >= max(1, len(rows) - 1):
        adds.append("draws")
    return Verdict(ratios[0], ratios[1], tuple(adds))


def on_log_z(rows: list[Row]) -> str:
    """Cells of the first table."""
    found, cells = verdict(rows), []
    for name in METHODS:
        rms = math.sqrt(statistics.fmean(row[name]["error"] ** 2 for row in rows))
        cells.append(f"{rms:.4f}, {median(rows, name, 'stderr'):.4f}, {covered(rows, name)}")
    return " | ".join(
        [str(len(rows)), *cells, f"{found.at_evaluations:.2f}", f"{found.at_seconds:.2f}"]
    )


def on_costs(rows: list[Row]) -> str:
    """Cells of the second table."""
    adds, draws = verdict(rows).adds, ("paths", "SMC, E")
    cells = [
        f"{median(rows, 'evaluations'):.2e} ({median(rows, 'SMC, S', 'evaluations'):.2e})",
        f"{median(rows, 'seconds'):.1f} ({median(rows, 'SMC, E', 'seconds'):.1f})",
        f"{median(rows, 'paths', 'share'):.3f} (k-hat {median(rows, 'paths', 'k_hat'):.2f})",
        *(f"{median(rows, name, 'us'):.0f}" for name in draws),
        *(f"{median(rows, name, 'calls'):.1f}" for name in draws),
        str(sum(bool(row["warnings"]) for row in rows)),
        f"**adds** {', '.join(adds)}" if adds else "adds nothing",
    ]
    return " | ".join(cells)


def report(rows: list[Row]) -> str:
    """The tables in Markdown: log Z, then costs and verdicts."""
    first = [
        "| target | seeds | " + " | ".join(METHODS) + " | se / E | se / S |",
        "|---|---:|" + "---|" * len(METHODS) + "---:|---:|",
    ]
    heads = (
        "evaluations",
        "seconds",
        "ESS / path",
        "us per draw: paths",
        "particle filters",
        "evaluations per draw: paths",
        "particle filters",
    )
    second = [
        "| target | " + " | ".join(heads) + " | warned | the learned part |",
        "|---|" + "---:|" * 8 + "---|",
    ]
    for target in dict.fromkeys([*problems(), *(row["target"] for row in rows)]):
        some = [row for row in rows if row["target"] == target]
        if some:
            first.append(f"| {target} | {on_log_z(some)} |")
            second.append(f"| {target} | {on_costs(some)} |")
    return "\n".join([*first, "", *second]) + "\n"


def main(options: Options) -> None:
    """Run what is missing, then print and write the tables of all that is there."""
    torch.set_num_threads(1)
    table, rows = (
        problems(options.pines),
        Rows(options.out.with_suffix(".json"), ("target", "seed")),
    )
    keys = [(name, seed) for name in options.targets or tuple(table) for seed in options.seeds]
    for name, seed in rows.todo(keys, options.shard, options.of, options.fresh):
        rows.add(measure(table[name], seed, options.budget))
    text = report(list(rows.read().values()))
    print(text)
    options.out.with_suffix(".md").write_text(
        text + "\n" + "\n\n".join((__doc__ or "").split("\n\n")[-2:])
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
