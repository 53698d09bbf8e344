"""What draws cost once a model is learned: ten thousand from `r.sampler` on Neal's funnel, d = 10,
beside NUTS.

    python -m benchmarks.amortised                     # where numpyro and blackjax are installed;
    else ours alone python -m benchmarks.amortised --seeds 0 --fresh

`orn.sample_density` learns a model once. Then, in turn: plain draws, ``r.sampler.sample(n)``;
weighted draws, ``r.draw_weighted(n)``, the ends of paths with the exact weights of these; and
blocks of chains of NUTS. Seconds are processor time of one thread pinned to one core, medians for
ours. NUTS goes on until it is worth as many independent draws as the weighted ones, and at least
`SURE`, or until its limit, and then its time per effective draw counts. Its chains, in float64 and
with the libraries' defaults, run one after another, which is faster than side by side; compilation
is not counted.

"effective" is n for plain draws, ``(sum w)^2 / sum w^2`` for weighted ones, and for NUTS the least
bulk effective sample size of a coordinate, which is x1's. A library "/ ours" is its time for as
many effective draws as ours of that row over our time, warm-up included, and in brackets without.
Statistics have their standard errors beside them, and in brackets their distances from the exact
values in units of these: of plain draws, which are only as good as the model; of weighted ones,
self-normalised; of NUTS, with the effective sample size of each.
"""

__all__ = ["Options", "main"]

import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

import ornstein as orn
from benchmarks.rows import Row, Rows

DOUBLE = torch.float64
SURE = 1000  # effective draws from which on the effective number of chains is to be trusted
STATISTICS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "E x1": (lambda x: x[..., 0], 0.0),
    "E x1^2": (lambda x: x[..., 0] ** 2, 9.0),
    "P(x1 < -3)": (lambda x: x[..., 0] < -3, statistics.NormalDist().cdf(-1)),
    "P(x1 > 4)": (lambda x: x[..., 0] > 4, statistics.NormalDist().cdf(-4 / 3)),
    "E log abs x2": (lambda x: np.log(np.abs(x[..., 1])), -(np.euler_gamma + math.log(2)) / 2),
}
"""Functions of draws ``(..., d)`` with their exact means on the funnel."""


@dataclass(frozen=True)
class Options:
    """What to run."""

    seeds: tuple[int, ...] = (0, 1, 2)
    draws: int = 10_000
    repeats: int = 5
    """Timings of ours."""
    budget: float = 300.0
    """Seconds for learning."""
    chains: int = 4
    block: int = 5000
    """Draws of a chain between two looks at the effective number."""
    limit: float = 200.0
    """Processor seconds of each NUTS, without warm-up."""
    fresh: bool = False
    """Forget earlier rows of these seeds."""
    out: Path = Path("benchmarks/results/amortised")


def scored(x: np.ndarray, log_w: Tensor) -> dict[str, list[float]]:
    """Value and standard error of every statistic, from draws with weights: ``sum W f`` and
    ``sqrt(sum W^2 (f - that)^2)``."""
    w = log_w.double().softmax(0).numpy()
    found = {}
    for name, (f, _) in STATISTICS.items():
        values = f(x).astype(float)
        mean = float(w @ values)
        found[name] = [mean, float(np.sqrt(w**2 @ (values - mean) ** 2))]
    return found


def timed(fn: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and processor seconds."""
    began = time.process_time()
    found = fn()
    return found, time.process_time() - began


def chains_of_nuts(target: orn.targets.Funnel, seed: int, options: Options) -> dict[str, Any]:
    """Chains of each library that is there, warmed up, from a Gaussian of the funnel's width."""
    try:
        from benchmarks.peers.chains import NUTS
        from benchmarks.peers.densities import LOG_PROBS
    except ImportError as error:
        print(f"left out: NUTS ({error})", file=sys.stderr)
        return {}
    function = LOG_PROBS[type(target).__name__](target)
    starts = target.std * orn.Noise(seed).normal((options.chains, target.dim), DOUBLE)
    check = torch.tensor([float(function(x.numpy())) for x in starts], dtype=DOUBLE)
    torch.testing.assert_close(check, target.log_prob(starts), rtol=1e-8, atol=1e-6)
    found = {}
    for name, make in NUTS.items():
        try:
            found[name] = make(function, starts.numpy(), seed, options.block)
        except ImportError as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
    return found


def enough(chains: Any, wanted: float) -> bool:
    """Whether chains are worth so many draws in x1, of which they are worth least."""
    from benchmarks.peers.chains import bulk_ess

    return float(bulk_ess(chains.x[..., :1])[0]) >= wanted


def of_chains(chains: Any) -> Row:
    """What a NUTS did."""
    from benchmarks.peers.chains import bulk_ess, mean_ess

    x, found = chains.x, {}
    for name, (f, _) in STATISTICS.items():
        values = f(x).astype(float)
        worth = mean_ess(values[..., None])[0] if values.std() else math.nan
        found[name] = [float(values.mean()), float(values.std() / worth**0.5)]
    return {
        "draws": x.shape[0] * x.shape[1],
        "ess": float(bulk_ess(x).min()),
        "seconds": chains.sampling,
        "warm-up": chains.warming,
        "compiling": chains.compiling,
        "gradients": chains.gradients,
        "divergences": chains.divergences,
        "statistics": found,
    }


def run(seed: int, options: Options) -> Row:
    """Learn, then draw from everything in turn."""
    target = orn.targets.named("funnel")
    began = time.process_time()
    r = orn.sample_density(target, seed=seed, budget=options.budget)
    learning, n = time.process_time() - began, options.draws
    nuts = chains_of_nuts(target, seed, options)
    r.sampler.sample(64), r.draw_weighted(64, seed=seed)
    plain, weighted, wanted, turn = [], [], 0.0, 0
    running = dict(nuts)
    while running or turn < options.repeats:
        if turn < options.repeats:
            x, spent = timed(lambda: r.sampler.sample(n, seed=1000 + seed))
            plain.append(spent)
            paths, spent = timed(lambda: r.draw_weighted(n, seed=2000 + seed))
            weighted.append(spent)
            wanted = orn.metrics.ess(paths.log_w)
        for name, chains in list(running.items()):
            chains.more()
            if enough(chains, max(wanted, SURE)) or chains.sampling > options.limit:
                del running[name]
        turn += 1
    z = orn.log_z(paths.log_w)
    exact = torch.zeros(n)
    return {
        "seed": seed,
        "learning": learning,
        "evaluations": r.evaluations,
        "warnings": [w.code for w in r.warnings],
        "plain": {
            "draws": n,
            "ess": float(n),
            "seconds": statistics.median(plain),
            "statistics": scored(x.double().numpy(), exact),
        },
        "weighted": {
            "draws": n,
            "ess": wanted,
            "seconds": statistics.median(weighted),
            "k_hat": orn.metrics.pareto_k(paths.log_w),
            "statistics": scored(paths.x.double().numpy(), paths.log_w)
            | {"log Z": [z.value, z.stderr]},
        },
        "nuts": {name: of_chains(chains) for name, chains in nuts.items()},
    }


def samplers(row: Row) -> dict[str, Row]:
    """All that drew, by what the tables call them."""
    return {"plain draws": row["plain"], "weighted draws": row["weighted"], **row["nuts"]}


def until(nuts: Row, effective: float) -> tuple[float, float]:
    """Seconds of NUTS to so many effective draws, with and without its warm-up."""
    sampling = nuts["seconds"] * effective / nuts["ess"]
    return nuts["warm-up"] + sampling, sampling


def costs(rows: list[Row]) -> str:
    """The table of times."""
    peers = list(dict.fromkeys(name for row in rows for name in row["nuts"]))
    names = (
        "draws",
        "effective",
        "seconds",
        "ms per effective draw",
        "warm-up",
        "compiling",
        "k-hat",
        "divergences",
    )
    heads = [*names, *(f"{name} / ours" for name in peers)]
    lines = ["| seed | sampler | " + " | ".join(heads) + " |", "|---:|---|" + "---:|" * len(heads)]
    for row in rows:
        for name, found in samplers(row).items():
            each = 1e3 * found["seconds"] / found["ess"]
            cells = [
                str(found["draws"]),
                f"{found['ess']:.0f}",
                f"{found['seconds']:.2f}",
                f"{each:.3f}",
            ]
            for key, shown in (
                ("warm-up", ".2f"),
                ("compiling", ".1f"),
                ("k_hat", ".2f"),
                ("divergences", "d"),
            ):
                cells.append(format(found[key], shown) if key in found else "")
            for peer in peers:
                nuts = None if name in row["nuts"] else row["nuts"].get(peer)
                factors = (
                    [seconds / found["seconds"] for seconds in until(nuts, found["ess"])]
                    if nuts
                    else []
                )
                cells.append(f"{factors[0]:.1f} ({factors[1]:.1f})" if factors else "")
            lines.append(f"| {row['seed']} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def deviations(rows: list[Row]) -> str:
    """The table of statistics, each as value, standard error and (distance from the truth in
    these)."""
    names = (*STATISTICS, "log Z")
    truth = {name: exact for name, (_, exact) in STATISTICS.items()} | {"log Z": 0.0}
    lines = ["| seed | sampler | " + " | ".join(names) + " |", "|---:|---|" + "---|" * len(names)]
    lines.append("| | exact | " + " | ".join(f"{truth[name]:.4f}" for name in names) + " |")
    squares: dict[str, list[float]] = {}
    for row in rows:
        for name, found in samplers(row).items():
            cells = []
            for key in names:
                if key not in found["statistics"]:
                    cells.append("")
                    continue
                mean, se = found["statistics"][key]
                z = (mean - truth[key]) / se
                z = (
                    z if math.isnan(z) else max(-99.0, min(99.0, z))
                )  # a few draws that carry all weight have no standard error
                cells.append(
                    f"{mean:.4f}, all alike"
                    if math.isnan(z)
                    else f"{mean:.4f} +- {se:.4f} ({z:+.1f})"
                )
                squares.setdefault(name, []).extend([] if math.isnan(z) else [z**2])
            lines.append(f"| {row['seed']} | {name} | " + " | ".join(cells) + " |")
    ends = [
        f"{name} {math.sqrt(statistics.fmean(z)):.2f} (largest {math.sqrt(max(z)):.1f})"
        for name, z in squares.items()
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"Root mean square of the distances, 1 for a sampler without bias: {', '.join(ends)}.",
        ]
    )


def paid(rows: list[Row]) -> str:
    """After how many effective draws learning is paid for."""
    lines = []
    for row in rows:
        ours, said = row["weighted"]["seconds"] / row["weighted"]["ess"], []
        for name, nuts in row["nuts"].items():
            gained = nuts["seconds"] / nuts["ess"] - ours
            count = (
                f"after {(row['learning'] - nuts['warm-up']) / gained:.0f}"
                if gained > 0
                else "after no number of"
            )
            said.append(f"{count} effective draws against {name}")
        warned = f", warned of {', '.join(row['warnings'])}" if row["warnings"] else ""
        ends = f"; that pays {', '.join(said)}" if said else ""
        lines.append(
            f"- seed {row['seed']}: learned in {row['learning']:.0f} s with {row['evaluations']}"
            f" evaluations{warned}{ends}."
        )
    return "\n".join(lines)


def main(options: Options) -> None:
    """Run what is missing, then print and write the tables of all that is there."""
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = Rows(options.out.with_suffix(".json"), ("seed",))
    for (seed,) in rows.todo([(seed,) for seed in options.seeds], fresh=options.fresh):
        rows.add(run(seed, options))
    found = list(rows.read().values())
    text = "\n\n".join(
        [costs(found), deviations(found), paid(found), (__doc__ or "").split("\n\n", 2)[-1]]
    )
    print(text)
    options.out.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
