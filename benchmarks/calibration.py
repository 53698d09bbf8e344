"""How often a likelihood lies within what it says of its error: on laws that are known exactly, and
on trained networks.

    python -m benchmarks.calibration                             # mixtures
    python -m benchmarks.calibration --runs runs/demo/digits     # and networks, against themselves
    at a hundredth of the tolerance

Twenty random mixtures in each dimension, the exact posterior in place of a network, 200 points
each. A point is covered if its value is within three reported errors of the truth.
"""

__all__ = ["Options", "main"]

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import tyro
from torch import Tensor

import ornstein as orn

DOUBLE = torch.float64
TIGHTER = 100.0  # than the default tolerance, for the reference of a network


@dataclass(frozen=True)
class Options:
    """What to run."""

    mixtures: int = 20
    points: int = 200
    dims: tuple[int, ...] = (2, 8, 32)
    seed: int = 100
    """Of the first mixture."""
    runs: tuple[Path, ...] = ()
    """Run folders of networks."""
    out: Path = Path("benchmarks/results/calibration")


class Score(NamedTuple):
    """Of many points: how many lie within three errors, how far off they are and said to be, and
    the cost."""

    covered: float
    off: float
    reported: float
    worst: float
    evaluations: float

    @staticmethod
    def of(found: orn.LogLikelihood, truth: Tensor) -> "Score":
        off = (found.value.double() - truth).abs()
        covered = (off <= 3 * found.error).double().mean()
        return Score(
            float(covered),
            float(off.mean()),
            float(found.error.mean()),
            float(off.max()),
            found.evaluations,
        )


def mixture(d: int, seed: int) -> orn.targets.GaussianMixture:
    """Two to six components, means twice a standard normal, standard deviations and weights ``.1 +
    U(0, 1)``."""
    noise = orn.Noise(seed)
    k = 2 + int(5 * noise.fold(0).uniform((1,), DOUBLE))
    means, stds = (
        2 * noise.fold(1).normal((k, d), DOUBLE),
        0.1 + noise.fold(2).uniform((k, d), DOUBLE),
    )
    return orn.targets.GaussianMixture(means, stds, 0.1 + noise.fold(3).uniform((k,), DOUBLE))


def on_mixtures(
    d: int, rule: orn.likelihood.trace.Divergence, refine: bool, options: Options
) -> Score:
    """Means over the mixtures, but the smallest coverage of any mixture and the largest error of
    any point."""
    scores = []
    for seed in range(options.seed, options.seed + options.mixtures):
        target = mixture(d, seed)
        x = target.sample(options.points, seed=seed, dtype=DOUBLE)
        found = orn.log_likelihood(
            target.posterior(orn.VP()), x, divergence=rule, seed=seed, refine=refine
        )
        scores.append(Score.of(found, target.log_prob(x)))
    mean = Score(*(sum(column) / len(scores) for column in zip(*scores, strict=True)))
    return mean._replace(worst=max(score.worst for score in scores))


def on_network(folder: Path, tol: float, refine: bool, points: int) -> Score:
    """Its own samples, and as many between two of them."""
    model = orn.load(folder)
    denoiser = model.denoiser.double()
    x = orn.sample(denoiser, points, steps=20, seed=1).double()
    x = torch.cat([x, (x + x.roll(1, 0)) / 2])
    rule = orn.likelihood.trace.Exact()
    truth = orn.log_likelihood(denoiser, x, 1e-4 / TIGHTER, rule, refine=False)
    return Score.of(orn.log_likelihood(denoiser, x, tol, rule, refine=refine), truth.value)


def line(name: str, rule: str, refine: bool, score: Score) -> str:
    """A row of the table."""
    how = "two runs" if refine else "single run"
    errors = f"{score.off:.1e} | {score.reported:.1e} | {score.worst:.1e}"
    return f"| {name} | {rule} | {how} | {score.covered:.1%} | {errors} | {score.evaluations:.0f} |"


def main(options: Options) -> None:
    """Print and write ``table.md``."""
    torch.set_num_threads(1)
    head = (
        "law | divergence | steps | within 3 errors | mean error | mean reported | largest error |"
        " evaluations"
    )
    lines = [f"| {head} |", "|---|---|---|" + "---:|" * 5]
    rules = {
        "exact": orn.likelihood.trace.Exact(),
        "Hutchinson(16)": orn.likelihood.trace.Hutchinson(16),
    }
    for d in options.dims:
        for name, rule in rules.items():
            for refine in (True, False):
                score = on_mixtures(d, rule, refine, options)
                lines.append(line(f"{options.mixtures} mixtures, d = {d}", name, refine, score))
                print(lines[-1], flush=True)
    for folder in options.runs:
        for tol in (1e-3, 1e-4):
            for refine in (True, False):
                lines.append(
                    line(
                        f"{folder.name}, tol {tol:g}",
                        "exact",
                        refine,
                        on_network(folder, tol, refine, options.points // 8),
                    )
                )
                print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text(
        "\n".join(lines) + "\n\nErrors in nats per point, not per dimension.\n"
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
