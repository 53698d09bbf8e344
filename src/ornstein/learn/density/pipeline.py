"""From an unnormalised log-density to samples, log Z and a model that draws more.

The pipeline: *explore* and *temper* (`ornstein.learn.density.classical`) to weighted particles and a first log Z, from islands that
climb down a frozen ladder; *whiten* by the particles' moments; *learn* a denoiser from them, unless the Gaussian one already does;
freeze it, and weigh fresh paths of it for a second log Z; *fuse* the two; and *probe* from elsewhere for mass that the model does not
reach. Both estimates have E[w] = Z exactly, whatever the steps before them did, and each has its own fresh randomness.
"""

__all__ = ["Budget", "sample_density"]

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.noise import Noise
from ornstein.errors import OrnsteinError
from ornstein.exact.metrics import pareto_k
from ornstein.learn.density.classical import plan
from ornstein.learn.density.coverage import Coverage, coverage, scout
from ornstein.learn.density.estimate import LogZ, fuse
from ornstein.learn.density.findings import findings
from ornstein.learn.density.learned import STEPS, Frame, estimate, learn, untrained
from ornstein.learn.density.ledger import Ledger
from ornstein.learn.density.normal import Normal
from ornstein.learn.density.problem import as_density
from ornstein.learn.density.result import DensityResult, Warning, found_warnings
from ornstein.learn.density.smc import Cloud, resample, run
from ornstein.learn.train import Progress

_ISLANDS = 16
_PART = 0.1  # effective paths per path from which on the model takes part in log Z; below, its standard error is not to be trusted


@dataclass(frozen=True)
class Budget:
    """What a run may spend, roughly: it plans with it, and does not stop in the middle.

    Args:
        seconds: of wall time.
        evaluations: of the log-density.
    """

    seconds: float = math.inf
    evaluations: float = math.inf

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.evaluations > 0):
            raise OrnsteinError(f"Budget(seconds={self.seconds}, evaluations={self.evaluations}): both positive; leave one away")


def sample_density(
    what: Any,
    dim: int | None = None,
    seed: int = 0,
    n: int = 8192,
    particles: int = 4096,
    steps: int = 1000,
    start_mean: float | Tensor = 0.0,
    start_std: float | None = None,
    budget: Budget | float = Budget(120.0),
    report: Callable[[Progress], None] = lambda progress: None,
) -> DensityResult:
    """Samples and log Z of an unnormalised density.

    Args:
        what: a log-density ``(b, d) -> (b,)`` or ``(d,) -> ()`` on tensors, differentiable, in nats, -inf outside the support; a
            `Density`, a target, a distribution, a model: see `as_density`.
        dim: d, for a callable.
        seed: of everything random.
        n: particles of the islands, and paths of the model, behind the reported numbers; the standard error falls as ``1 / sqrt(n)``.
        particles: of the exploration.
        steps: optimiser steps for the denoiser, at most.
        start_mean: where the density roughly lies.
        start_std: how far it reaches; None finds the scale.
        budget: what to spend, at most and roughly; a number is seconds.
        report: called during training.

    Raises:
        OrnsteinError: if ``log_prob`` returns the wrong shape, or is -inf everywhere the exploration looks.
    """
    for name, value, least in (("dim", dim or 1, 1), ("n", n, 2 * _ISLANDS), ("particles", particles, 20), ("steps", steps, 1)):
        if value < least:
            raise OrnsteinError(f"sample_density({name}={value}): at least {least}")
    if start_std is not None and not start_std > 0:
        raise OrnsteinError(f"sample_density(start_std={start_std}): must be positive; None finds the scale")
    clock, noise, density = time.monotonic(), Noise(seed), as_density(what, dim)
    limit = budget if isinstance(budget, Budget) else Budget(budget)
    ledger = Ledger(density.log_prob, density.dim, values=density.trials)

    def left() -> float:
        """Fraction of the budget."""
        return max(0.0, 1 - max((time.monotonic() - clock) / limit.seconds, ledger.values / limit.evaluations))

    found = plan(ledger, density.dim, noise.fold(1), particles, mean=start_mean, std=start_std)
    affordable = 0.5 * left() / max(1e-3, 1 - left()) * ledger.values / found.cost
    count = max(2 * _ISLANDS, int(min(n, affordable)))
    cloud = run(ledger, found.law, found.rungs, count // _ISLANDS, _ISLANDS, noise.fold(2))
    warnings = [Warning(*finding) for finding in findings(ledger, cloud.equal(min(count, 512), noise.fold(8)), noise.fold(9))]
    frame, z, scores = _whitened(ledger, cloud, max(particles, n), noise.fold(3))
    seconds = left() * min(limit.seconds, 1e6) * 0.6
    model = learn(untrained(density.dim, frame.normal, seed), frame, z, scores, steps, seconds, seed, report)
    paths, diffusion = estimate(model, frame, n, noise.fold(5))
    k_hat = float(pareto_k(paths.log_w)) if diffusion.ess else math.inf
    estimates = {"tempering": cloud.log_z, "diffusion": diffusion}
    good = k_hat <= 0.7 and diffusion.ess >= _PART * n
    total = fuse([cloud.log_z, diffusion]) if good else cloud.log_z
    ess = cloud.log_z.ess + (diffusion.ess if good else 0.0)
    samples = _pooled(cloud, frame.normal.map(paths.x), paths.log_w, good, n, noise.fold(6))
    probed = _probe(model, frame, diffusion, z, noise.fold(7)) if model.info.get("steps") else None
    return DensityResult(
        samples, density.constrain(samples), total.value, total.stderr, total.interval, diffusion.elbo, ess, k_hat,
        ledger.values, ledger.gradients, time.monotonic() - clock,
        found_warnings(estimates, total, ess, k_hat, n, ledger, probed, warnings), model, estimates, probed, density,
    )  # fmt: skip


def _whitened(ledger: Ledger, cloud: Cloud, n: int, noise: Noise) -> tuple[Frame, Tensor, Tensor]:
    """The frame of the particles, n of them in it, equally weighted, and the gradients there."""
    chosen = resample(cloud.log_w, n, noise)
    x, score = cloud.x[chosen].float(), cloud.local.target_gradient[chosen].float()
    frame = Frame(ledger, Normal.fit(x))
    return frame, frame.whiten(x), frame.pull(score)


def _pooled(cloud: Cloud, x: Tensor, log_w: Tensor, good: bool, n: int, noise: Noise) -> Tensor:
    """n equally weighted samples from particles and, where they are good, paths, each set with the share of its effective size."""
    sets = [(cloud.x.to(x.dtype), cloud.log_w.double())] + ([(x, log_w.double())] if good else [])
    weights = [w - w.logsumexp(0) for _, w in sets]
    shares = [w - (2 * w).logsumexp(0) for w in weights]  # normalised weights times the effective size
    return torch.cat([y for y, _ in sets])[resample(torch.cat(shares), n, noise)]


def _probe(model: Any, frame: Frame, found: LogZ, z: Tensor, noise: Noise) -> Coverage:
    """Points of chains that know nothing of the particles, from three times their reach."""
    dim = z.shape[1]
    wide = Normal(torch.zeros(dim), 3 * torch.eye(dim))
    points = scout(frame, wide, 128, noise.fold(0))
    own = estimate(model, frame, 64, noise.fold(1))[0].x
    return coverage(model.denoiser, frame, found.value, points, own, model.denoiser.sde.times(STEPS // 2), noise.fold(2))
