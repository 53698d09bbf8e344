"""Log-likelihoods by the probability flow: ours and the peers', on one posterior that is known
exactly.

    python -m benchmarks.likelihood

The data are a mixture of narrow Gaussians, so that the truth is known; all methods call the same
posterior mean, in float64, and all its calls are counted, as are the backward passes through it.
Milliseconds are processor time of one thread for all points together; the settings are timed in
turn, and the smallest of several rounds is shown: it is what the machine can do when nothing
interferes. The peers are installed by ``pip install -e ".[bench]"`` and ``pip install --no-deps
k-diffusion``; what is not installed is left out.
"""

__all__ = ["Options", "main"]

import importlib
import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro
from torch import Tensor

import ornstein as orn
from benchmarks.peers import likelihoods as peers
from benchmarks.peers.likelihoods import Denoiser
from ornstein.training.recipes import RECIPES

OURS = "ornstein"


@dataclass(frozen=True)
class Options:
    """What to run."""

    points: int = 100
    seed: int = 1
    """Of the points."""
    rounds: int = 3
    """Every setting is timed so many times, and seven times as often where its largest error is
    within a factor 8 of ``at``."""
    at: float = 1.4e-3
    """Largest error, in nats, at which the methods are compared."""
    wide: bool = True
    """Also the estimators of the divergence in 32 dimensions."""
    out: Path = Path("benchmarks/results/likelihood")


class Found(NamedTuple):
    """Log-densities, and the error that the method itself reports of each, if it does."""

    value: Tensor
    error: Tensor | None


Run = Callable[[Denoiser, Tensor], Found]
Key = tuple[str, str]
"""Method and setting."""


@dataclass
class Cell:
    """One setting of one method."""

    evaluations: int
    passes: int
    worst: float
    mean: float
    reported: float | None
    covered: float | None
    seconds: float = math.inf


@dataclass(frozen=True, eq=False)
class Known:
    """The posterior of ours, from the denoiser that all share."""

    denoise: Denoiser
    sde: orn.LinearSDE
    data_std: float

    def __call__(self, x: Tensor, t: Any) -> orn.Gaussian:
        return orn.Gaussian(
            self.denoise(x, float(self.sde.alpha(t)), float(self.sde.sigma(t))), torch.ones(())
        )


MEASURES: dict[str, Callable[[Cell], float]] = {
    "evaluations": lambda c: c.evaluations,
    "backward passes": lambda c: c.passes,
    "milliseconds": lambda c: c.seconds * 1e3,
}


def narrow() -> orn.targets.GaussianMixture:
    """Six modes in the plane, 1 to 2 apart and 0.05 to 0.1 wide, with mean zero."""
    means = torch.tensor(
        [[1.2, 0.3], [0.1, 1.3], [-1.1, 0.8], [-1.3, -0.6], [-0.1, -0.2], [0.9, -1.1]],
        dtype=torch.float64,
    )
    weights = torch.tensor([0.15, 0.2, 0.1, 0.2, 0.25, 0.1], dtype=torch.float64)
    widths = torch.tensor([0.05, 0.1, 0.07, 0.06, 0.08, 0.09], dtype=torch.float64)
    return orn.targets.GaussianMixture(
        means - weights @ means, widths[:, None].expand(6, 2), weights
    )


def wide() -> orn.targets.GaussianMixture:
    """Four modes in 32 dimensions, with mean zero."""
    means = 2 * torch.randn(4, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    widths = torch.tensor([0.3, 0.5, 0.7, 1.0], dtype=torch.float64)
    return orn.targets.GaussianMixture(
        means - means.mean(0), widths[:, None].expand(4, 32), torch.ones(4)
    )


def ours(sde: orn.LinearSDE, **options: Any) -> Run:
    """`orn.log_likelihood`."""

    def run(denoise: Denoiser, x: Tensor) -> Found:
        std = float(denoise.target.std.square().mean().sqrt())
        found = orn.log_likelihood(Known(denoise, sde, std), x, **options)
        return Found(found.value, found.error)

    return run


def theirs(name: str, **options: Any) -> Run:
    """A function of `benchmarks.peers.likelihoods`."""
    function = getattr(peers, name)
    return lambda denoise, x: Found(function(denoise, x, **options), None)


def exact_rows() -> dict[Key, Run]:
    """Two dimensions: tolerances and steps from coarse to fine."""
    rows: dict[Key, Run] = {}
    processes = {"RectifiedFlow": orn.RectifiedFlow(), "VP": orn.VP(), "EDM": orn.EDM()}
    for name, sde in processes.items():
        for tol in (3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6):
            rows[f"{OURS}, {name}, single run", f"tol {tol:g}"] = ours(sde, tol=tol, refine=False)
    for tol in (3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6):
        rows[f"{OURS}, Straight, refine", f"tol {tol:g}"] = ours(
            processes["RectifiedFlow"], tol=tol
        )
    for name in processes:
        for tol in (1e-3, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 1e-7):
            rows[f"torchdiffeq by hand, {name}, dopri5", f"tol {tol:g}"] = theirs(
                "by_hand", process=name, tol=tol
            )
    for tol in (1e-3, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 1e-7):
        rows["flow_matching, exact, dopri5", f"tol {tol:g}"] = theirs("flow_matching", tol=tol)
    for method in ("midpoint", "rk4"):
        for steps in (10, 20, 40, 80, 160):
            rows[f"flow_matching, exact, {method}", f"step 1/{steps}"] = theirs(
                "flow_matching", step=1 / steps, method=method
            )
    for tol in (1e-3, 1e-5):
        rows["flow_matching, one probe, dopri5", f"tol {tol:g}"] = theirs(
            "flow_matching", tol=tol, exact=False
        )
    rows["flow_matching, one probe, midpoint", "step 1/40"] = theirs(
        "flow_matching", step=1 / 40, method="midpoint", exact=False
    )
    for tol in (1e-3, 1e-4, 1e-5):
        rows["k-diffusion, one probe, dopri5", f"tol {tol:g}"] = theirs("k_diffusion", tol=tol)
    return rows


def probe_rows() -> dict[Key, Run]:
    """Thirty-two dimensions: what is left of the divergence when it is estimated."""
    sde, rows = orn.RectifiedFlow(), {}
    d = orn.likelihood.trace
    rules = {
        "Hutchinson(16)": d.Hutchinson(16),
        "Hutchinson(8)": d.Hutchinson(8),
        "HutchPlusPlus(4, 4)": d.HutchPlusPlus(),
    }
    for name, rule in {**rules, "exact": d.Exact()}.items():
        rows[f"{OURS}, {name}, single run", "tol 0.0001"] = ours(
            sde, tol=1e-4, divergence=rule, refine=False
        )
    rows[f"{OURS}, Hutchinson(16), refine", "tol 0.0001"] = ours(
        sde, tol=1e-4, divergence=rules["Hutchinson(16)"]
    )
    rows["flow_matching, one probe, dopri5", "tol 1e-05"] = theirs(
        "flow_matching", tol=1e-5, exact=False
    )
    rows["k-diffusion, one probe, dopri5", "tol 1e-05"] = theirs("k_diffusion", tol=1e-5)
    return rows


def measure(
    rows: dict[Key, Run], target: orn.targets.GaussianMixture, options: Options
) -> dict[Key, Cell]:
    """Errors and counts of all rows, then their times in turn."""
    x = target.sample(options.points, seed=options.seed, dtype=torch.float64)
    truth, cells, missing = target.log_prob(x), {}, set()
    for key, run in rows.items():
        denoise = Denoiser(target, watched=True)
        try:
            value, error = run(denoise, x)
        except ImportError as problem:
            missing.add(f"left out: {key[0].split(',')[0]} ({problem})")
            continue
        gap = (value - truth).abs()
        told = (
            (None, None)
            if error is None
            else (float(error.mean()), float((gap <= 3 * error).double().mean()))
        )
        cells[key] = Cell(denoise.calls, denoise.passes, float(gap.max()), float(gap.mean()), *told)
    print(*sorted(missing), sep="\n", end="\n" if missing else "", file=sys.stderr)
    plain = Denoiser(target)
    for k in range(7 * options.rounds):
        for key, cell in cells.items():
            if k >= options.rounds and not options.at / 8 < cell.worst < options.at * 8:
                continue
            began = time.process_time()
            rows[key](plain, x)
            cell.seconds = min(cell.seconds, time.process_time() - began)
    return cells


def cost(cells: dict[Key, Cell], method: str, at: float, what: Callable[[Cell], float]) -> float:
    """What a method costs at a largest error, interpolated log-log between its settings; infinite
    where it does not get there."""
    ranked = sorted((what(cell), cell.worst) for (name, _), cell in cells.items() if name == method)
    before: tuple[float, float] | None = None
    for price, worst in ranked:
        if worst <= at:
            if before is None or before[1] <= worst:
                return price
            part = math.log(before[1] / at) / math.log(before[1] / worst)
            return before[0] * (price / before[0]) ** part
        if before is None or worst < before[1]:
            before = price, worst
    return math.inf


def table(cells: dict[Key, Cell]) -> str:
    """Every setting of every method."""
    head = (
        "method | setting | evaluations | backward passes | ms | max error | mean error | mean"
        " reported error | within 3 reported"
    )
    lines = [f"| {head} |", "|---|---|" + "---:|" * 7]
    for (method, setting), c in cells.items():
        told = f"{c.reported:.1e} | {c.covered:.0%}" if c.reported is not None else "none | -"
        ms = f"{c.seconds * 1e3:.1f}"
        lines.append(
            f"| {method} | {setting} | {c.evaluations} | {c.passes} | {ms} | {c.worst:.1e} |"
            f" {c.mean:.1e} | {told} |"
        )
    return "\n".join(lines)


def answer(cells: dict[Key, Cell], at: float) -> str:
    """Costs at equal error, and ours over the best of the peers'."""
    methods = list(dict.fromkeys(name for name, _ in cells))
    found = {name: [cost(cells, name, at, what) for what in MEASURES.values()] for name in methods}
    lines = [
        f"| at max error {at:g} | " + " | ".join(MEASURES) + " |",
        "|---|" + "---:|" * len(MEASURES),
    ]
    for name, values in sorted(found.items(), key=lambda item: item[1]):
        lines.append(
            f"| {name} | "
            + " | ".join(f"{v:.1f}" if math.isfinite(v) else "not reached" for v in values)
            + " |"
        )
    others = [name for name in methods if not name.startswith(OURS)]
    if not others:
        return "\n".join(lines)
    best = [min(others, key=lambda name, k=k: found[name][k]) for k in range(len(MEASURES))]
    lines += [
        "",
        "The best of the peers in "
        + "; in ".join(f"{what}: {b}" for what, b in zip(MEASURES, best, strict=True))
        + ".",
        "",
    ]
    for name in (name for name in methods if name.startswith(OURS)):
        parts = [
            f"{found[name][k] / found[b][k]:.2f} of its {what}"
            for k, (what, b) in enumerate(zip(MEASURES, best, strict=True))
        ]
        lines.append(f"- {name}, against the best of the peers: {', '.join(parts)}.")
    hand = [name for name in others if "by hand" in name]
    if hand:
        lines.append(
            "- The loop by hand does best, in milliseconds, as"
            f" {min(hand, key=lambda name: found[name][-1])}."
        )
    return "\n".join(lines)


def passes(options: Options) -> str:
    """What a divergence costs in forward passes: the U-Net of the digits' recipe, 64 dimensions, 64
    pictures at a time."""
    net = RECIPES["digits"].net((1, 8, 8), 0)
    denoiser = (
        orn.Denoiser(net, orn.Cosine(), orn.parametrisations.edm, 0.75, (1, 8, 8))
        .requires_grad_(False)
        .eval()
    )
    x, t = orn.Noise(0).normal((64, 1, 8, 8)), torch.tensor(0.3)
    rules = {"exact": orn.likelihood.trace.Exact()} | {
        f"Hutchinson({k})": orn.likelihood.trace.Hutchinson(k) for k in (2, 4, 8, 16)
    }
    allowed = {"exact": 1.5 * 64} | {f"Hutchinson({k})": 1.3 * (1 + 2 * k) for k in (2, 4, 8, 16)}

    def mean(z: Tensor) -> Tensor:
        return denoiser(z.reshape(x.shape), t).mean.flatten(1)

    def forward() -> None:
        with torch.no_grad():
            mean(x.flatten(1))

    def divergence(rule: orn.likelihood.trace.Divergence) -> Callable[[], None]:
        directions = rule.directions(x, orn.Noise(1)).flatten(2)
        return lambda: (rule(mean, x.flatten(1), directions), None)[1]

    runs = {"forward": forward} | {name: divergence(rule) for name, rule in rules.items()}
    best = dict.fromkeys(runs, math.inf)
    for _ in range(4 * options.rounds):
        for name, run in runs.items():
            began = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - began)
    lines = ["| divergence | forward passes of time | allowed |", "|---|---:|---:|"]
    return "\n".join(
        lines
        + [
            f"| {name} | {best[name] / best['forward']:.1f} | {allowed[name]:.1f} |"
            for name in rules
        ]
    )


def plot(cells: dict[Key, Cell], options: Options, path: Path) -> None:
    """Largest error against evaluations and against time, log-log."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    plt, ticker = (
        importlib.import_module("matplotlib.pyplot"),
        importlib.import_module("matplotlib.ticker"),
    )
    figure, axes = plt.subplots(1, 2, figsize=(12, 5), sharey=True)
    colours = plt.get_cmap("tab20").colors
    for k, name in enumerate(dict.fromkeys(method for method, _ in cells)):
        mine = [cell for (method, _), cell in cells.items() if method == name]
        style = {
            "color": colours[k % 20],
            "lw": 2.2 if name.startswith(OURS) else 1,
            "ms": 4,
            "label": name,
        }
        kind = "o-" if name.startswith(OURS) else "s:" if "one probe" in name else "^--"
        axes[0].plot([c.evaluations for c in mine], [c.worst for c in mine], kind, **style)
        axes[1].plot([c.seconds * 1e3 for c in mine], [c.worst for c in mine], kind, **style)
    for axis, label in zip(
        axes,
        ("evaluations of the posterior", f"milliseconds for {options.points} points"),
        strict=True,
    ):
        axis.axhline(options.at, color="0.4", lw=0.8)
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(ticker.ScalarFormatter())
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.grid(True, which="both", alpha=0.25)
    axes[0].set_ylabel("largest error of log p, nats")
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(options: Options) -> None:
    """Run, and write ``table.md`` and ``plot.png``."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cells = measure(exact_rows(), narrow(), options)
    text = (
        f"### Six narrow modes in two dimensions, {options.points}"
        f" points\n\n{answer(cells, options.at)}\n\n{table(cells)}\n"
    )
    if options.wide:
        text += (
            f"\n### Four modes in 32 dimensions, {options.points}"
            f" points\n\n{table(measure(probe_rows(), wide(), options))}\n"
        )
    text += f"\n### The divergence of a network\n\n{passes(options)}\n"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text(text)
    plot(cells, options, options.out / "plot.png")
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
