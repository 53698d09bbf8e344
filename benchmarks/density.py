"""Densities with known log Z: ours, its parts alone, and the alternatives, side by side.

    python -m benchmarks.density                                             # everything, hours
    python -m benchmarks.density --targets gmm9 funnel --methods ours smc --seeds 0 1
    python -m benchmarks.density --methods nuts                              # where numpyro is
    installed

Methods: ``ours`` is `orn.sample_density`, ``smc`` its tempered SMC alone (zero control), ``pt``
parallel tempering, ``nuts`` that of NumPyro; ``dis`` and ``pis`` are plain re-statements, in the
library's own loop, of Berner et al. 2022 and Zhang and Chen 2022: the reverse KL of path weights
over a VP process or a pinned bridge, a network with the target's score in it, log Z from fresh
paths.

Rows are kept in ``density.json`` by target, method and seed, and new ones replace old ones.

Errors are in nats; seconds are processor time of one thread, of nuts with its compilation. W2 is
sliced, in units of the target's largest standard deviation, from 4096 samples, beside its floor:
the same of two exact samples. "modes" is the largest relative error of a mode's weight, "mean" and
"sd" the largest errors of a coordinate's mean and standard deviation in units of the exact one,
against 100,000 exact samples: averages over all weighted particles that a method has, or all its
samples.
"""

__all__ = ["Options", "main"]

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro
from torch import Tensor, nn

import ornstein as orn
from benchmarks.rows import Rows
from ornstein.core.random.weighted_sample import WeightedSample
from ornstein.density.expectations import average

DOUBLE = torch.float64
COMPARED = 4096  # samples in a distance
TRUTH = 100_000  # exact samples behind moments and mode weights


@dataclass(frozen=True)
class Options:
    """What to run."""

    targets: tuple[str, ...] = ()
    """Of the table; by default all."""
    methods: tuple[str, ...] = ("ours", "smc", "pt", "nuts", "dis", "pis")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    budget: float = 300.0
    """Seconds, for methods that can be told: ours, dis, pis."""
    pines: Path | None = None
    """``finpines`` of spatstat.data as a CSV of (number, x, y) with a header: the Cox process, left
    out without it."""
    out: Path = Path("benchmarks/results/density")


@dataclass
class Counted:
    """A log-density that counts points, and those at which the gradient was wanted too."""

    fn: Callable[[Tensor], Tensor]
    points: int = 0
    gradients: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.points += len(x)
        self.gradients += len(x) * (x.requires_grad and torch.is_grad_enabled())
        return self.fn(x)


class Outcome(NamedTuple):
    """What a method hands back: log Z with its interval, or None; samples, the effective number of
    them per sample; their source."""

    log_z: float | None
    interval: tuple[float, float] | None
    samples: Tensor
    ess: float
    particles: tuple[WeightedSample, ...] = ()
    evaluations: int | None = None
    gradients: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A target of the table.

    Args:
        name: of its row.
        target: the density.
        scale: the reach that a method may be told, for those that must be.
        shares: samples to the modes that each is in, ``(n, d) -> (n, k)`` zeros and ones, if there
            are any.
        coordinates: those whose moments are compared; by default all.
    """

    name: str
    target: Any
    scale: float = 1.0
    shares: Callable[[Tensor], Tensor] | None = None
    coordinates: slice = field(default_factory=lambda: slice(None))

    @property
    def sampled(self) -> bool:
        """Whether there are exact samples."""
        return isinstance(self.target, orn.targets.SampledTarget)


def nearest(target: orn.targets.GaussianMixture) -> Callable[[Tensor], Tensor]:
    """The component with the nearest mean."""
    means = target.means.double()
    return lambda x: nn.functional.one_hot(
        torch.cdist(x.double(), means).argmin(1), len(means)
    ).double()


def right(x: Tensor) -> Tensor:
    """The right well of each pair."""
    return (x[:, 0::2] > 0).double()


def orthants(x: Tensor) -> Tensor:
    """The positive side of each coordinate."""
    return (x > 0).double()


def rings(x: Tensor) -> Tensor:
    """The nearest ring."""
    r = x.norm(dim=1)
    return torch.stack([r < 2, (r >= 2) & (r < 4), r >= 4], 1).double()


def problems(pines: Path | None = None) -> dict[str, Problem]:
    """The table, in its order."""
    named, t = orn.targets.named, orn.targets
    gmm9, gmm40, gmm40_50 = named("gmm9"), t.gmm40(2), t.gmm40(50)
    found = (
        Problem("gaussian", named("gaussian"), 1.0),
        Problem("gmm9", gmm9, 5.0, nearest(gmm9)),
        Problem("gmm40-2", gmm40, 25.0, nearest(gmm40)),
        Problem("gmm40-50", gmm40_50, 25.0, nearest(gmm40_50)),
        Problem("multi-well", named("multi-well"), 2.0, orthants),
        Problem("many-well", named("many-well"), 1.5, right),
        Problem("funnel", named("funnel"), 3.0, coordinates=slice(0, 1)),
        Problem("rings", named("rings"), 3.0, rings),
        Problem("eight-schools", named("eight-schools"), 2.0),
        Problem("brownian", named("brownian"), 1.0),
        Problem("sonar", named("sonar"), 1.0),
        Problem("german-credit", named("german-credit"), 1.0),
    )
    if pines is not None:
        points = torch.from_numpy(np.loadtxt(pines, delimiter=",", skiprows=1, usecols=(1, 2)))
        found += (Problem("cox", t.CoxProcess(points, 501.8, 0.1), 1.0),)
    return {problem.name: problem for problem in found}


# ------------------------------------------------------------------------------------------------
# methods


def ours(problem: Problem, log_prob: Counted, seed: int, budget: float) -> Outcome:
    """Run `orn.sample_density` as it is, with the budget."""
    r = orn.sample_density(log_prob, problem.target.dim, seed=seed, budget=budget)
    interval = tuple(r.log_z_interval)
    return Outcome(
        r.log_z,
        interval,
        r.samples,
        r.ess / len(r.samples),
        r.particles,
        warnings=tuple(w.code for w in r.warnings),
    )


def smc(problem: Problem, log_prob: Counted, seed: int, budget: float) -> Outcome:
    """Run tempered SMC alone: the strategy of `orn.sample_density` without a diffusion."""
    from ornstein.density.smc.strategy import tempered_sampler

    sample = tempered_sampler(log_prob, problem.target.dim, orn.Noise(seed)).sample
    n = len(sample)
    equal = sample.resample(n, orn.Noise(seed).fold(99))
    z = sample.log_z
    return Outcome(z.value, z.interval, equal, z.ess / n, (sample,))


def pt(problem: Problem, log_prob: Counted, seed: int, budget: float) -> Outcome:
    """Parallel tempering: eight chains of 1000 draws, with the start law and the temperatures of
    adaptive SMC."""
    from benchmarks.peers.replica_exchange import parallel_tempering
    from ornstein.density.smc.mode_search import mode_search
    from ornstein.density.smc.tempered_smc import adaptive_smc

    noise, dim = orn.Noise(seed), problem.target.dim
    law = mode_search(log_prob, dim, noise.fold(0)).start_law
    steps = adaptive_smc(log_prob, law, 1024, noise.fold(1))[1]
    levels = [1.0, *(step.level for step in steps)]
    found = parallel_tempering(log_prob, law, levels, 1000, 8, noise.fold(2))
    x = found.chains.x.reshape(-1, dim)
    shuffled = x[noise.fold(3).uniform((len(x),)).argsort()]
    return Outcome(
        found.log_z.value, found.log_z.interval, shuffled, float(found.chains.ess.min()) / len(x)
    )


def nuts(problem: Problem, log_prob: Counted, seed: int, budget: float) -> Outcome:
    """Eight chains of NumPyro's NUTS from a Gaussian of the target's scale; log Z is not its
    business."""
    from benchmarks.peers.densities import LOG_PROBS
    from benchmarks.peers.densities import nuts as run

    target = problem.target
    function = LOG_PROBS[type(target).__name__](target)
    start = problem.scale * orn.Noise(seed).normal((8, target.dim), DOUBLE)
    check = torch.tensor([float(function(x.numpy())) for x in start[:3]], dtype=DOUBLE)
    torch.testing.assert_close(check, target.log_prob(start[:3]), rtol=1e-8, atol=1e-6)
    found = run(function, start.numpy(), seed)
    x = torch.tensor(found.samples)
    x = x[orn.Noise(seed).fold(1).uniform((len(x),)).argsort()]
    return Outcome(
        None, None, x, found.ess / len(x), evaluations=found.gradients, gradients=found.gradients
    )


class WithScore(nn.Module):
    """``net(x, c) + gate(c) clip(grad log rho)``: the target's score in the network, at the state
    rescaled to the data's deviation."""

    def __init__(self, dim: int, scale: float, log_prob: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net = orn.MLP(dim, width=64, depth=2)
        self.gate = nn.Sequential(nn.Linear(1, 64), nn.SiLU(), nn.Linear(64, 1))
        nn.init.zeros_(self.gate[-1].weight)
        nn.init.zeros_(self.gate[-1].bias)
        self.scale, self.log_prob = scale, log_prob

    def forward(self, x: Tensor, c: Tensor, cond: Any = None) -> Tensor:
        """Zero before training."""
        with torch.enable_grad():
            y = (self.scale * x.detach()).requires_grad_()
            (score,) = torch.autograd.grad(self.log_prob(y).sum(), y)
        return self.net(x, c, cond) + self.gate(c[:, None]) * (
            self.scale * score
        ).nan_to_num().clamp(-100, 100)


def reverse_kl(
    process: orn.LinearSDE, problem: Problem, log_prob: Counted, seed: int, budget: float
) -> Outcome:
    """Minimise the reverse KL of the paths for four fifths of the budget, freeze, and weight 4096
    fresh paths."""
    dim, scale, noise, began = (
        problem.target.dim,
        problem.scale,
        orn.Noise(seed),
        time.process_time(),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = orn.Denoiser(
            WithScore(dim, scale, log_prob), process, orn.parametrisations.edm, scale, (dim,)
        )
    times, optimiser = (
        process.times(64, orn.spacing.uniform),
        torch.optim.Adam(denoiser.parameters(), 2e-3),
    )
    k = 0
    while time.process_time() - began < 0.8 * budget:
        log_w = orn.log_weights(denoiser, log_prob, times, 256, noise.fold(0, k), var=scale**2)
        loss = orn.paths.reverse_kl(log_w[log_w.isfinite()]).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimiser.step()
        k += 1
    denoiser.requires_grad_(False)
    paths = orn.paths.denoising_paths(denoiser, log_prob, times, scale**2).draw(
        COMPARED, noise.fold(1)
    )
    z = orn.log_z(paths.log_w)
    chosen = torch.multinomial(
        paths.log_w.double().softmax(0), COMPARED, True, generator=noise.fold(2).generator()
    )
    return Outcome(
        z.value,
        z.interval,
        paths.x[chosen],
        z.ess / COMPARED,
        (WeightedSample(paths.x, paths.log_w, 16),),
    )


def dis(problem: Problem, log_prob: Counted, seed: int, budget: float) -> Outcome:
    """Time-reversed diffusion sampler: VP."""
    return reverse_kl(orn.VP(), problem, log_prob, seed, budget)


def pis(problem: Problem, log_prob: Counted, seed: int, budget: float) -> Outcome:
    """Path integral sampler: a bridge pinned at the origin, whose end has the target's scale."""
    return reverse_kl(orn.Bridge(problem.scale), problem, log_prob, seed, budget)


METHODS: dict[str, Callable[[Problem, Counted, int, float], Outcome]] = {
    "ours": ours, "smc": smc, "pt": pt, "nuts": nuts, "dis": dis, "pis": pis,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------
# judgement


def judge(problem: Problem, outcome: Outcome, seed: int) -> dict[str, float]:
    """Distances from exact samples: sliced W2 and its floor of samples; mode weights and moments by
    all that a method has."""
    if not problem.sampled:
        return {}
    exact, x = (
        problem.target.sample(TRUTH, seed=10_000 + seed, dtype=DOUBLE),
        outcome.samples.double(),
    )
    unit = float(exact.std(0).max())
    found = {
        "w2": orn.metrics.sliced_w2(x[:COMPARED] / unit, exact[:COMPARED] / unit).value,
        "floor": (
            orn.metrics.sliced_w2(
                exact[COMPARED : 2 * COMPARED] / unit, exact[:COMPARED] / unit
            ).value
        ),
    }
    mean = (
        (lambda f: average(outcome.particles, f).value)
        if outcome.particles
        else lambda f: f(x).mean(0)
    )
    if problem.shares:
        found["modes"] = float(
            (mean(problem.shares) / problem.shares(exact).mean(0) - 1).abs().max()
        )
    own = getattr(problem.target, "parameters", lambda z: z)
    truth = own(exact)[:, problem.coordinates]
    centre, std = truth.mean(0), truth.std(0)
    apart = lambda z: (own(z.double())[:, problem.coordinates] - centre) / std  # noqa: E731
    shift = mean(apart)
    found["mean"] = float(shift.abs().max())
    found["sd"] = float(
        ((mean(lambda z: apart(z).square()) - shift.square()).sqrt() - 1).abs().max()
    )
    return found


def measure(problem: Problem, method: str, seed: int, budget: float) -> dict[str, Any]:
    """One row."""
    log_prob, began, wall = Counted(problem.target.log_prob), time.process_time(), time.monotonic()
    outcome = METHODS[method](problem, log_prob, seed, budget)
    row: dict[str, Any] = {
        "target": problem.name,
        "method": method,
        "seed": seed,
        "seconds": time.process_time() - began,
        "wall": time.monotonic() - wall,
        "ess": outcome.ess,
        "samples": len(outcome.samples),
        "evaluations": outcome.evaluations or log_prob.points,
        "gradients": outcome.gradients or log_prob.gradients,
        "warnings": list(outcome.warnings),
    }
    if outcome.log_z is not None and outcome.interval is not None:
        truth, slack = problem.target.log_z, 2 * getattr(problem.target, "log_z_stderr", 0.0)
        low, high = outcome.interval
        row |= {"log_z": outcome.log_z, "error": outcome.log_z - truth, "interval": [low, high]}
        row["covered"] = bool(low - slack <= truth <= high + slack)
    return row | judge(problem, outcome, seed)


def report(rows: list[dict[str, Any]]) -> str:
    """The table in Markdown: over seeds, root mean squares of errors and means of the rest."""
    names = (
        "error of log Z",
        "worst",
        "covered",
        "ESS / n",
        "W2",
        "floor",
        "modes",
        "mean",
        "sd",
        "evaluations",
        "seconds",
        "warned",
    )
    lines = [
        "| target | method | seeds | " + " | ".join(names) + " |",
        "|---|---|---:|" + "---:|" * len(names),
    ]

    def over(
        some: list[dict[str, Any]], key: str, how: Callable[[list[float]], float], shown: str
    ) -> str:
        values = [row[key] for row in some if row.get(key) is not None]
        return format(how(values), shown) if values else "-"

    def rms(values: list[float]) -> float:
        return math.hypot(*values) / math.sqrt(len(values))

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def most(values: list[float]) -> float:
        return max(abs(v) for v in values)

    for target in dict.fromkeys([*problems(), *(row["target"] for row in rows)]):
        for method in METHODS:
            some = [row for row in rows if (row["target"], row["method"]) == (target, method)]
            if not some:
                continue
            warned = sum(bool(row["warnings"]) for row in some)
            cells = [
                over(some, "error", rms, ".4f"),
                over(some, "error", most, ".4f"),
                over(some, "covered", sum, "d"),
                over(some, "ess", mean, ".2f"),
                over(some, "w2", mean, ".3f"),
                over(some, "floor", mean, ".3f"),
                over(some, "modes", most, ".2f"),
                over(some, "mean", most, ".3f"),
                over(some, "sd", most, ".3f"),
                over(some, "evaluations", mean, ".2e"),
                over(some, "seconds", mean, ".1f"),
                str(warned),
            ]
            lines.append(f"| {target} | {method} | {len(some)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    """Measure what was asked for, merge it with what is there, print and write the table."""
    torch.set_num_threads(1)
    table, rows = (
        problems(options.pines),
        Rows(options.out.with_suffix(".json"), ("target", "method", "seed")),
    )
    for name in options.targets or tuple(table):
        for seed in options.seeds:
            for method in options.methods:
                try:
                    row = measure(table[name], method, seed, options.budget)
                except ImportError as error:
                    print(f"left out: {method} ({error})", file=sys.stderr)
                    continue
                except orn.errors.OrnsteinError as error:
                    print(f"{method} on {name}, seed {seed}: {error}", file=sys.stderr)
                    continue
                rows.add(row)
    text = report(list(rows.read().values()))
    print(text)
    options.out.with_suffix(".md").write_text(text + "\n" + (__doc__ or "").split("\n\n")[-1])


if __name__ == "__main__":
    main(tyro.cli(Options))
