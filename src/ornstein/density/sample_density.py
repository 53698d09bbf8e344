"""From an unnormalised log-density to samples, log Z and a model that draws more.

The pipeline: *explore*, *temper* and *fit* (`ornstein.density.smc.strategy`) to weighted particles
and a first log Z, from islands that follow a frozen plan; take the model that *knows* what the plan
does, or *learn* a denoiser from the particles on top (`ornstein.density.learned`); freeze it, and
*weigh* fresh paths of it, or particles that are resampled along it, for a second log Z; *fuse* the
two; and *probe* from elsewhere for mass that the model does not reach. Both estimates have E[w] = Z
exactly, whatever the steps before them did, and each has its own fresh randomness.
"""

__all__ = ["Budget", "sample_density"]

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.paths.particles import resample
from ornstein.core.random.noise import Noise
from ornstein.density.as_density import as_density
from ornstein.density.counted import CountedLogDensity
from ornstein.density.diagnostics import findings
from ornstein.density.expectations import Particles
from ornstein.density.learned.coverage import Coverage, coverage, scout
from ornstein.density.learned.importance import GOOD, PulledBackDensity, estimate, times, weigh
from ornstein.density.learned.train import known, learn, settle_steps
from ornstein.density.log_z import LogZ, fuse
from ornstein.density.result import DensityResult, Progress, Warning, found_warnings
from ornstein.density.smc.strategy import EVALUATIONS, ISLANDS, SamplingStrategy, plan
from ornstein.density.smc.tempered_smc import Cloud
from ornstein.errors import OrnsteinError
from ornstein.inference.diffusion_model import DiffusionModel

_LEARNED_FROM = 16384  # particles, at most


@dataclass(frozen=True)
class Budget:
    """What a run may spend, roughly.

    The plan (exploration, pilots, fits) is made in any case; what is left of the budget then says
    how many particles and steps of training follow, at least 32 and 1. A limit on seconds that
    binds makes results depend on the machine; without one they depend on the seed alone.

    Args:
        seconds: of wall time.
        evaluations: of the log-density, before the probe.
    """

    seconds: float = math.inf
    evaluations: float = math.inf

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.evaluations > 0):
            raise OrnsteinError(
                f"Budget(seconds={self.seconds}, evaluations={self.evaluations}): both positive;"
                " leave one away"
            )


def sample_density(
    what: Any,
    dim: int | None = None,
    seed: int = 0,
    n: int = 8192,
    stderr: float = 0.004,
    particles: int | None = None,
    steps: int = 300,
    start_mean: float | Tensor = 0.0,
    start_std: float | None = None,
    budget: Budget | float = Budget(),
    report: Callable[[Progress], None] = lambda stage: None,
) -> DensityResult:
    """Samples and log Z of an unnormalised density.

    Args:
        what: a log-density ``(b, d) -> (b,)`` or ``(d,) -> ()`` on tensors, differentiable, in
            nats, -inf outside the support; a `Density`, a target, a distribution, a model: see
            `as_density`.
        dim: d, for a callable.
        seed: of everything random.
        n: samples to return; as many particles, or what the budget allows, and paths of the model
            are behind the reported numbers.
        stderr: standard error of log Z to aim at, nats; more particles are taken for it, up to 2
            million evaluations or the budget.
        particles: of the exploration; None: 4096 or more, by the dimension.
        steps: optimiser steps for the denoiser, at most.
        start_mean: where the density roughly lies.
        start_std: how far it reaches; None finds the scale.
        budget: what to spend, roughly; a number is seconds.
        report: called after every stage, and during training.

    Raises:
        OrnsteinError: if ``log_prob`` returns the wrong shape, is -inf everywhere the exploration
            looks, or has infinite mass.
    """
    _check(
        n=(n, 2 * ISLANDS),
        particles=(20 if particles is None else particles, 20),
        steps=(steps, 1),
        dim=(dim or 1, 1),
    )
    for name, value in (("start_std", start_std), ("stderr", stderr)):
        if value is not None and not value > 0:
            raise OrnsteinError(
                f"sample_density({name}={value}): must be positive; leave it away to have it found"
            )
    clock, noise, density = time.monotonic(), Noise(seed), as_density(what, dim)
    limit = budget if isinstance(budget, Budget) else Budget(budget)
    ledger = CountedLogDensity(density.log_prob, density.dim, values=density.trials)

    def left() -> float:
        """Seconds."""
        return max(0.0, limit.seconds - (time.monotonic() - clock))

    found = plan(ledger, density.dim, noise.fold(1), particles, mean=start_mean, std=start_std)
    report(Progress("planned", found.cloud.log_z, ledger.values))
    warnings = [
        Warning(*finding)
        for finding in findings(ledger, found.cloud.equal(512, noise.fold(8)), noise.fold(9))
    ]
    for warning in warnings:
        if warning.code == "improper":
            raise OrnsteinError(
                f"the density has infinite mass, as far as it was followed: {warning.message}"
            )
    pace = (time.monotonic() - clock) / max(ledger.values, 1)
    affordable = min(
        EVALUATIONS, 0.5 * (limit.evaluations - ledger.values), 0.5 * left() / max(pace, 1e-9)
    )
    count = found.particles(
        stderr, max(2 * ISLANDS, int(min(n, affordable / found.cost))), affordable
    )
    cloud = found.run(ledger, count, noise.fold(2))
    report(Progress("tempered", cloud.log_z, ledger.values))
    model, frame, z = _learned(found, cloud, ledger, steps, 0.6 * left(), noise.fold(3), report)
    paths = weigh(model, frame, z, n, found.cloud.log_z.value, noise.fold(4))
    report(Progress("weighed", paths.log_z, ledger.values))
    estimates = {"tempering": cloud.log_z, "diffusion": paths.log_z}
    total = (
        fuse(list(estimates.values()), [count / max(found.variance, 1e-9), paths.precision])
        if paths.good
        else cloud.log_z
    )
    ess = cloud.log_z.ess + (paths.log_z.ess if paths.good else 0.0)
    sets = [Particles(cloud.x, cloud.log_w, len(cloud.islands))]
    sets += (
        [Particles(frame.codec.decode(paths.paths.x), paths.paths.log_w, ISLANDS)]
        if paths.good
        else []
    )
    chosen = resample(torch.cat([part.shares for part in sets]), n, noise.fold(6))
    samples = torch.cat([part.x for part in sets])[chosen]
    probed = _probe(model, frame, paths.log_z if paths.log_z.ess else total, z, noise.fold(7))
    warnings += found_warnings(estimates, total, ess, paths, n, ledger, probed, model.codec)
    return DensityResult(
        samples,
        density.constrain(samples),
        total.value,
        total.stderr,
        total.interval,
        paths.log_z.elbo,
        paths.upper,
        ess,
        paths.k_hat,
        cloud.cess,
        cloud.acceptance,
        ledger.values,
        ledger.gradients,
        time.monotonic() - clock,
        warnings,
        model,
        estimates,
        paths.good,
        probed,
        density,
        tuple(sets),
    )


def _check(**numbers: tuple[int, int]) -> None:
    for name, (value, least) in numbers.items():
        if value < least:
            raise OrnsteinError(f"sample_density({name}={value}): at least {least}")


def _learned(
    found: SamplingStrategy,
    cloud: Cloud,
    ledger: CountedLogDensity,
    steps: int,
    seconds: float,
    noise: Noise,
    report: Callable[[Progress], None],
) -> tuple[DiffusionModel, PulledBackDensity, Tensor]:
    """The model, the density in its coordinates, and equally weighted particles there that it was
    not trained on."""
    count = min(max(int(cloud.log_z.ess), 64), _LEARNED_FROM)
    last = (
        len(cloud.x) - len(cloud.x) // 8
    )  # islands lie one after another: the last ones are held out
    x = _equal(cloud, slice(last), count, noise.fold(0))
    apart = _equal(cloud, slice(last, None), min(1024, count // 8), noise.fold(5))
    model, share = known(found.law, ledger, x, noise.fold(1))
    frame = PulledBackDensity(ledger, model.codec)
    z, scores = frame.pull(x)
    if share < GOOD:
        told = lambda step: report(Progress("learning", cloud.log_z, ledger.values, step))  # noqa: E731
        model = learn(model, frame, z, scores, steps, seconds, noise.fold(3), told)
    settle_steps(model, frame, noise.fold(2))
    return model, frame, model.codec.encode(apart).float()


def _equal(cloud: Cloud, part: slice, n: int, noise: Noise) -> Tensor:
    """n equally weighted particles of a part of the cloud, or of all of it where none there is
    alive."""
    log_w = cloud.log_w[part]
    x, log_w = (cloud.x[part], log_w) if bool(log_w.isfinite().any()) else (cloud.x, cloud.log_w)
    return x[resample(log_w, n, noise)].double()


def _probe(
    model: DiffusionModel, frame: PulledBackDensity, found: LogZ, z: Tensor, noise: Noise
) -> Coverage:
    """Points of chains that know nothing of the particles, from three times their reach."""
    wide = Normal(z.mean(0), 3 * torch.diag(z.std(0, correction=0).clamp(min=1e-6)))
    points = scout(frame, wide, 128, noise.fold(0))
    own = estimate(model, frame, 64, noise.fold(1))[0].x
    return coverage(model.denoiser, frame, found.value, points, own, times(model), noise.fold(2))
