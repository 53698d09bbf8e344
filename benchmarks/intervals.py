"""How often the interval of log Z holds the truth: 200 random mixtures.

    python -m benchmarks.intervals                    # 200 targets, those that are not yet there
    python -m benchmarks.intervals --shard 0 --of 2   # half of them; the other half elsewhere

Every target is a mixture of 1 to 8 Gaussians in d = 2..10 with random weights, means, and full
covariances, times a constant that the sampler does not know. Rows go to ``intervals.json`` as they
come, so that a run can be broken off and taken up again; after a change of the library start with
``--fresh``.
"""

__all__ = ["Options", "main"]

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

import ornstein as orn
from benchmarks.rows import Row, Rows

DOUBLE = torch.float64


@dataclass(frozen=True)
class Options:
    """What to run."""

    first: int = 0
    """Seed of the first target."""
    count: int = 200
    shard: int = 0
    of: int = 1
    """This process takes every ``of``-th target, from number ``shard`` on."""
    budget: float = 60.0
    """Seconds for each, if `orn.sample_density` takes a budget."""
    fresh: bool = False
    """Forget earlier rows of these targets."""
    out: Path = Path("benchmarks/results/intervals")


@dataclass(frozen=True)
class Random:
    """A mixture: weights softmax(N(0, 1)), means N(0, u^2 I) with u in U(1, 6), axes at random with
    deviations in U(0.3, 2)."""

    seed: int

    @property
    def noise(self) -> orn.Noise:
        """Of everything about it."""
        return orn.Noise(self.seed).fold(0x696E74)

    @property
    def sizes(self) -> tuple[int, int]:
        """d and the number of components."""
        u = self.noise.fold(0).uniform((2,), DOUBLE)
        return 2 + int(9 * u[0]), 1 + int(8 * u[1])

    @property
    def log_z(self) -> float:
        """Of the unnormalised density: in U(-100, 100)."""
        return 200 * float(self.noise.fold(1).uniform((1,), DOUBLE)) - 100

    def law(self) -> MixtureSameFamily:
        """The normalised law."""
        (d, k), noise = self.sizes, self.noise
        spread = 1 + 5 * float(noise.fold(2).uniform((1,), DOUBLE))
        axes = torch.linalg.qr(noise.fold(3).normal((k, d, d), DOUBLE)).Q
        factors = axes * (0.3 + 1.7 * noise.fold(4).uniform((k, 1, d), DOUBLE))
        parts = MultivariateNormal(
            spread * noise.fold(5).normal((k, d), DOUBLE), factors @ factors.mT
        )
        return MixtureSameFamily(Categorical(logits=noise.fold(6).normal((k,), DOUBLE)), parts)


def run(seed: int, budget: float) -> Row:
    """One target."""
    target = Random(seed)
    law, truth = target.law(), target.log_z

    def log_prob(x: Tensor) -> Tensor:
        return (law.log_prob(x.double()) + truth).to(x.dtype)

    began = time.process_time()
    r = orn.sample_density(log_prob, target.sizes[0], seed=seed, budget=budget)
    low, high = r.log_z_interval
    return {
        "seed": seed,
        "d": target.sizes[0],
        "modes": target.sizes[1],
        "error": r.log_z - truth,
        "stderr": r.log_z_stderr,
        "low": low - truth,
        "high": high - truth,
        "covered": low <= truth <= high,
        "ess": r.ess / len(r.samples),
        "k_hat": r.k_hat,
        "warnings": [w.code for w in r.warnings],
        "evaluations": r.evaluations,
        "seconds": time.process_time() - began,
    }


def line(name: str, rows: list[Row]) -> str:
    """A row of the table: coverage with a 95 % interval (Wilson 1927), and how large errors are in
    units of what is reported."""
    n, hits = len(rows), sum(row["covered"] for row in rows)
    if not n:
        return f"| {name} | 0 | - | - | - | - | - | - | - |"
    centre, half = (
        (hits + 1.92) / (n + 3.84),
        1.96 * math.sqrt(hits * (n - hits) / n + 0.96) / (n + 3.84),
    )
    ratio = sorted(abs(row["error"]) / max(row["stderr"], 1e-12) for row in rows)
    errors, seconds = (
        sorted(abs(row["error"]) for row in rows),
        sum(row["seconds"] for row in rows) / n,
    )
    share = f"{hits / n:.1%} | {centre - half:.1%} .. {centre + half:.1%}"
    off = f"{ratio[n // 2]:.2f} | {ratio[-1]:.1f} | {errors[n // 2]:.4f} | {errors[-1]:.4f}"
    return f"| {name} | {n} | {share} | {off} | {seconds:.1f} |"


def report(rows: list[Row]) -> str:
    """The table in Markdown."""
    head = (
        "targets | number | covered | 95 % interval | median error / stderr | largest | median"
        " error | largest | seconds"
    )
    lines = [f"| {head} |", "|---|---:|---:|---|" + "---:|" * 5, line("**all**", rows)]
    groups = {
        "without a warning": [row for row in rows if not row["warnings"]],
        "with a warning": [row for row in rows if row["warnings"]],
        "d = 2..4": [row for row in rows if row["d"] <= 4],
        "d = 5..10": [row for row in rows if row["d"] > 4],
        "1 to 3 modes": [row for row in rows if row["modes"] <= 3],
        "4 to 8 modes": [row for row in rows if row["modes"] > 3],
    }
    lines += [line(name, some) for name, some in groups.items()]
    return (
        "\n".join(
            [
                *lines,
                "",
                (
                    "Errors of log Z in nats; a median of error / stderr of 0.67 is what a normal"
                    " law has."
                ),
            ]
        )
        + "\n"
    )


def main(options: Options) -> None:
    """Run what is missing, then print and write the table of all that is there."""
    torch.set_num_threads(1)
    rows = Rows(options.out.with_suffix(".json"), ("seed",))
    seeds = [(seed,) for seed in range(options.first, options.first + options.count)]
    for (seed,) in rows.todo(seeds, options.shard, options.of, options.fresh):
        rows.add(run(seed, options.budget))
    text = report(list(rows.read().values()))
    print(text)
    options.out.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
