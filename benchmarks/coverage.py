"""Does the coverage probe see what a sampler misses, and keep silent where nothing is missing?

    python -m benchmarks.coverage                            # 50 collapsed and 50 good samplers, on
    mixtures 0-49 python -m benchmarks.coverage --first 1000 --count 20    # others, to choose
    constants on

Each sampler belongs to a random mixture of its own in d = 2..10, of 3 to 8 modes that are apart,
each of at least 5 %, scaled to a standard deviation of 1. Collapsed ones generate from an exact
posterior of less than the mixture, or from a network trained on less; good ones from the exact
posterior of a mixture whose weights or widths are off by 10 %, or from a small network trained for
a short time on samples of all of it. The probe is handed log rho, the sampler, its own log Z from
2048 weighted paths, and points of an explorer that knows log rho alone. It knows nothing of
the modes.
"""

__all__ = ["Options", "main"]

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

import ornstein as orn
from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.processes.reverse import Posterior
from ornstein.density.learned.coverage import coverage, explore_independently
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.models.codecs.affine import Codec
from ornstein.training.calibrate import calibrate

DOUBLE = torch.float64
STEPS, PATHS, POINTS = 64, 2048, 128


@dataclass(frozen=True)
class Options:
    """What to run."""

    first: int = 0
    """Seed of the first mixture."""
    count: int = 50
    """Mixtures; one collapsed and one good sampler each."""
    kinds: tuple[str, ...] = ()
    """Only these kinds of samplers."""
    out: Path = Path("benchmarks/results/coverage")


def mixture(seed: int) -> orn.targets.GaussianMixture:
    """Modes at N(0, 4^2 I), the nearest of 200 sets at least 6 widths apart; standard deviations
    U(0.4, 1.2); weights 5 % and more."""
    noise = orn.Noise(seed).fold(7)
    u = noise.fold(0).uniform((4,), DOUBLE)
    d, k = 2 + int(9 * u[0]), 3 + int(6 * u[1])
    stds = 0.4 + 0.8 * noise.fold(1).uniform((k, d), DOUBLE)
    for attempt in range(200):
        means = 4 * noise.fold(2, attempt).normal((k, d), DOUBLE)
        if float(torch.pdist(means).min()) > 6 * float(stds.max()) or attempt == 199:
            break
        if attempt % 20 == 19:  # too many modes for the plane
            k -= k > 3
            stds = stds[:k]
    weights = 0.05 + (1 - 0.05 * k) * torch.softmax(noise.fold(3).normal((k,), DOUBLE), 0)
    raw = orn.targets.GaussianMixture(means, stds, weights)
    scale = raw.std.square().mean().sqrt()
    return orn.targets.GaussianMixture((means - raw.mean) / scale, stds / scale, weights)


def part(
    target: orn.targets.GaussianMixture, keep: torch.Tensor, width: float = 1.0
) -> orn.targets.GaussianMixture:
    """Some of the modes, with their widths times a factor."""
    return orn.targets.GaussianMixture(
        target.means[keep], width * target.stds[keep], target.weights[keep]
    )


def without(
    target: orn.targets.GaussianMixture, most: float, noise: orn.Noise
) -> orn.targets.GaussianMixture:
    """The mixture without some modes that hold between 5 % and ``most`` of the mass."""
    order = noise.uniform((len(target.weights),), DOUBLE).argsort()
    order = order[target.weights[order] <= most]  # at least one: the lightest of three or more
    dropped = order[target.weights[order].cumsum(0) <= most]
    dropped = dropped[: 1 + int(len(dropped) * float(noise.fold(1).uniform((1,))))]
    keep = torch.ones(len(target.weights), dtype=torch.bool)
    keep[dropped] = False
    return part(target, keep)


def network(law: orn.targets.GaussianMixture, seed: int, steps: int = 600) -> Posterior:
    """A small network trained on 4096 samples."""
    from ornstein.training.denoising import DenoisingObjective
    from ornstein.training.loop import TrainingConfig, train

    z = law.sample(4096, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = orn.MLP(law.dim, width=64, depth=3)
    model = DiffusionModel(
        orn.Denoiser(net, orn.VP(), orn.parametrisations.edm, 1.0, (law.dim,)),
        Codec(torch.zeros(law.dim), torch.eye(law.dim)),
    )
    model = train(
        model,
        DenoisingObjective(z[400:], batch=256, seed=seed),
        TrainingConfig(steps=steps, rate=2e-3),
    )
    calibrate(model.denoiser, z[:400], orn.Noise(seed).fold(-3), repeats=4)
    return model.denoiser.eval()


COLLAPSED = ("modes dropped", "one narrow mode", "all narrow", "modes dropped, network")
GOOD = ("weights off", "widths off", "weights and widths off", "network")


def sampler(kind: str, target: orn.targets.GaussianMixture, seed: int) -> Posterior:
    """The sampler of that kind for a mixture."""
    noise = orn.Noise(seed).fold(11)
    k, every = len(target.weights), torch.ones(len(target.weights), dtype=torch.bool)
    if kind == "modes dropped":
        return without(target, 0.5, noise).posterior(orn.VP())
    if kind == "one narrow mode":
        return part(target, torch.arange(k) == target.weights.argmax(), 0.7).posterior(orn.VP())
    if kind == "all narrow":
        return part(target, every, 0.3 + 0.2 * float(noise.uniform((1,)))).posterior(orn.VP())
    if kind == "modes dropped, network":
        return network(without(target, 0.5, noise), seed)
    if kind == "network":
        return network(target, seed)
    weights, stds = target.weights, target.stds
    if "weights" in kind:
        weights = weights * (0.1 * noise.fold(2).normal((k,), DOUBLE)).exp()
    if "widths" in kind:
        stds = stds * (0.9 + 0.2 * noise.fold(3).uniform((k, 1), DOUBLE))
    return orn.targets.GaussianMixture(target.means, stds, weights).posterior(orn.VP())


def run(kind: str, seed: int) -> dict[str, Any]:
    """Make a sampler and probe it."""
    target = mixture(seed)
    posterior = sampler(kind, target, seed)
    noise, times = orn.Noise(seed).fold(13), orn.VP().times(STEPS)
    began, calls = time.process_time(), 0

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += len(x)
        return target.log_prob(x)

    with torch.no_grad():
        own = orn.paths.denoising_paths(posterior, target.log_prob, times).draw(
            PATHS, noise.fold(0)
        )
    z = orn.log_z(own.log_w)
    began = time.process_time()
    wide = Normal(torch.zeros(target.dim), 3 * torch.eye(target.dim))
    points = explore_independently(log_prob, wide, POINTS, noise.fold(1))
    found = coverage(posterior, log_prob, z.value, points, own.x[:128], times, noise.fold(2))
    return {
        "kind": kind,
        "seed": seed,
        "d": target.dim,
        "modes": len(target.weights),
        "log_z": z.value,
        "stderr": z.stderr,
        "ess": z.ess / PATHS,
        "k_hat": orn.metrics.pareto_k(own.log_w),
        "threshold": found.threshold,
        "largest": float(found.excess.max()),
        "missing": found.missing.value,
        "missing_stderr": found.missing.stderr,
        "warned": found.warned,
        "evaluations": calls,
        "seconds": time.process_time() - began,
        "said": found.sentence(),
    }


def report(rows: list[dict[str, Any]], options: Options) -> str:
    """The table in Markdown."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["kind"]].append(row)
    lines = [
        "| sampler | runs | warned | ESS / n | k-hat > 0.7 | estimated missing mass | seconds |"
        " evaluations |"
    ]
    lines.append("|---|---:|---:|---:|---:|---|---:|---:|")

    def line(name: str, some: list[dict[str, Any]]) -> str:
        n = len(some)
        mean = {key: sum(row[key] for row in some) / n for key in ("ess", "seconds", "evaluations")}
        missing = sorted(row["missing"] for row in some)
        heavy, warned = sum(row["k_hat"] > 0.7 for row in some), sum(row["warned"] for row in some)
        span = f"{missing[0]:.1%} .. {missing[n // 2]:.1%} .. {missing[-1]:.1%}"
        return (
            f"| {name} | {n} | {warned} | {mean['ess']:.2f} | {heavy} | {span} |"
            f" {mean['seconds']:.1f} | {mean['evaluations']:.0f} |"
        )

    for title, kinds in (("**collapsed**", COLLAPSED), ("**good**", GOOD)):
        all_of = [row for kind in kinds for row in groups[kind]]
        if all_of:
            lines += [
                line(title, all_of),
                *(line(kind, groups[kind]) for kind in kinds if groups[kind]),
            ]
    end = options.first + options.count - 1
    last = (
        f"Mixtures {options.first} to {end}; of the missing mass the least, median and largest"
        " estimate."
    )
    return "\n".join([*lines, "", last]) + "\n"


def main(options: Options) -> None:
    """Print and write ``coverage.md`` and ``coverage.json``."""
    torch.set_num_threads(1)
    rows = []
    for seed in range(options.first, options.first + options.count):
        for kinds in (COLLAPSED, GOOD):
            kind = kinds[seed % len(kinds)]
            if not options.kinds or kind in options.kinds:
                row = run(kind, seed)
                rows.append(row)
                shown = {
                    k: round(v, 3) if isinstance(v, float) else v
                    for k, v in row.items()
                    if k != "said"
                }
                print(*(f"{k}={v}" for k, v in shown.items()), flush=True)
    text = report(rows, options)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".md").write_text(text)
    options.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
