"""From an unnormalised log-density to samples, log Z and a model that draws more.

The pipeline: *explore* with tempered SMC from a Gaussian whose scale is found by importance sampling; *whiten* by the particles'
moments; *learn* a denoiser from the particles (simulation-free regression), unless the Gaussian denoiser already does; *polish* it
with the log-variance of its path weights where these are uneven; then freeze it and *estimate* log Z and the samples by importance
sampling on fresh paths. The last step alone is reported: E[w] = Z exactly, whatever the steps before it did.
"""

__all__ = ["DensityResult", "Warning", "sample_density"]

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.noise import Noise
from ornstein.core.processes import VP
from ornstein.errors import OrnsteinError
from ornstein.exact.metrics import pareto_k
from ornstein.learn.calibrate import calibrate
from ornstein.learn.data import Denoising
from ornstein.learn.density.estimate import LogZ, log_z
from ornstein.learn.density.ledger import Ledger, LogDensity
from ornstein.learn.density.losses import log_variance
from ornstein.learn.density.normal import Normal
from ornstein.learn.density.paths import WeightedSamples, log_weights, weighted_samples
from ornstein.learn.density.smc import resample, tempered_smc
from ornstein.learn.diffusion_model import DiffusionModel
from ornstein.learn.train import Progress, Training, train
from ornstein.model.codec import Codec
from ornstein.model.denoiser import Denoiser, edm
from ornstein.nets.mlp import MLP

_STEPS = 64  # of the reported paths


class Warning(NamedTuple):
    """A reason not to trust a result: a code for programs and a message for people."""

    code: str
    message: str


@dataclass(frozen=True)
class DensityResult:
    """What `sample_density` returns.

    Attributes:
        samples: ``(n, d)``, equally weighted (resampled from the weighted paths).
        log_z, log_z_stderr, log_z_interval: estimate in nats, standard error, 95 % interval.
        elbo: lower bound on log Z in expectation, nats.
        ess: effective sample size of the paths behind ``samples``.
        k_hat: Pareto shape of the weights; above 0.7 the interval is not to be trusted.
        evaluations: points at which the log-density was evaluated, with or without gradient.
        seconds: wall time.
        warnings: reasons not to trust the numbers; empty if there are none.
        sampler: a model that draws more samples without touching the density (approximate: without the weights).
    """

    samples: Tensor
    log_z: float
    log_z_stderr: float
    log_z_interval: tuple[float, float]
    elbo: float
    ess: float
    k_hat: float
    evaluations: int
    seconds: float
    warnings: list[Warning]
    sampler: DiffusionModel


def sample_density(
    log_prob: LogDensity,
    dim: int,
    seed: int = 0,
    n: int = 8192,
    particles: int = 4096,
    steps: int = 1000,
    start_mean: float | Tensor = 0.0,
    start_std: float | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> DensityResult:
    """Samples and log Z of an unnormalised density.

    Args:
        log_prob: ``(b, d) -> (b,)``, differentiable, in nats; -inf outside the support.
        dim: d.
        seed: of everything random.
        n: paths behind the reported numbers; the standard error falls as ``1 / sqrt(n)``.
        particles: of the exploration.
        steps: optimiser steps for the denoiser.
        start_mean: where the density roughly lies.
        start_std: how far it reaches; None finds the scale between 0.01 and 100.
        report: called during training.

    Raises:
        OrnsteinError: if ``log_prob`` returns the wrong shape, or is -inf everywhere the exploration looks.
    """
    for name, value, least in (("dim", dim, 1), ("n", n, 2), ("particles", particles, 20), ("steps", steps, 1)):
        if value < least:
            raise OrnsteinError(f"sample_density({name}={value}): at least {least}")
    if start_std is not None and not start_std > 0:
        raise OrnsteinError(f"sample_density(start_std={start_std}): must be positive; None finds the scale")
    clock, noise = time.monotonic(), Noise(seed)
    ledger = Ledger(log_prob, dim)
    start = _start(ledger, dim, start_mean, start_std, noise.fold(1))
    cloud = tempered_smc(ledger, start, particles, noise.fold(2))
    frame = Normal.fit(cloud.x)

    def whitened(z: Tensor) -> Tensor:
        return ledger(frame.map(z)) + frame.log_det

    z = torch.linalg.solve_triangular(frame.factor, (cloud.x - frame.mean).mT, upper=False).mT
    model = _model(dim, frame, seed)
    if _pilot(model, whitened, noise.fold(3)) < 0.9:
        model = _learn(model, z, steps, seed, report)
    if _pilot(model, whitened, noise.fold(4)) < 0.3:
        model = _polish(model, whitened, max(1, steps // 10), seed, report)
    paths, estimate = _estimate(model, whitened, n, noise.fold(5))
    chosen = resample(paths.log_w, n, noise.fold(6))
    k_hat = float(pareto_k(paths.log_w))
    return DensityResult(
        frame.map(paths.x[chosen]), estimate.value, estimate.stderr, estimate.interval, estimate.elbo, estimate.ess, k_hat,
        ledger.points, time.monotonic() - clock, _warnings(estimate, k_hat, n, ledger, cloud.log_z), model,
    )  # fmt: skip


def _start(ledger: Ledger, dim: int, mean: float | Tensor, std: float | None, noise: Noise) -> Normal:
    """The Gaussian to start from: of the given scale, or of that whose importance weights find the most mass."""
    centre = torch.zeros(dim) + torch.as_tensor(mean, dtype=torch.float32)
    scales = [std] if std is not None else [10 ** (k / 2) for k in range(-4, 5)]
    best, found = Normal(centre, torch.eye(dim)), -math.inf
    for k, scale in enumerate(scales):
        start = Normal(centre, torch.eye(dim) * scale)
        x = start.map(noise.fold(k).normal((512, dim)))
        with torch.no_grad():
            mass = float(torch.logsumexp((ledger(x) - start.log_prob(x)).double(), 0))
        if mass > found or std is not None:
            best, found = start, mass
    if found == -math.inf:
        raise OrnsteinError("the log-density is -inf wherever the exploration looked: pass start_mean and start_std near its mass")
    return best


def _model(dim: int, frame: Normal, seed: int) -> DiffusionModel:
    """The untrained model: its denoiser is the exact posterior of a standard normal in the whitened space."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = MLP(dim, width=64 if dim <= 32 else 128, depth=3)
    denoiser = Denoiser(net, VP(), edm, 1.0, (dim,))
    return DiffusionModel(denoiser, Codec(frame.mean, frame.factor), info={"learned_from": "density"})


def _pilot(model: DiffusionModel, whitened: LogDensity, noise: Noise) -> float:
    """Effective sample size per path of the model as it is."""
    return _estimate(model, whitened, 256, noise)[1].ess / 256


def _learn(model: DiffusionModel, z: Tensor, steps: int, seed: int, report: Callable[[Progress], None]) -> DiffusionModel:
    """Regress the denoiser on nine tenths of the particles and calibrate its std on the rest."""
    held = max(1, len(z) // 10)
    objective = Denoising(z[held:], batch=256, seed=seed)
    model = train(model, objective, Training(steps=steps, rate=2e-3), report=report)
    calibrate(model.denoiser, z[:held], Noise(seed).fold(-3), repeats=4)
    return model


@dataclass(frozen=True)
class _PathVariance:
    """The objective of polishing: the variance of the path weights, at 512 fresh paths per step."""

    whitened: LogDensity
    seed: int

    def __call__(self, denoiser: Denoiser, k: int) -> tuple[Tensor, None]:
        times = denoiser.sde.times(_STEPS // 4)
        log_w = log_weights(denoiser, self.whitened, times, 512, Noise(self.seed).fold(-4, k), through_path=False)
        return log_variance(log_w[torch.isfinite(log_w)]), None  # a path that ends outside the support says nothing about slopes


def _polish(
    model: DiffusionModel, whitened: LogDensity, steps: int, seed: int, report: Callable[[Progress], None]
) -> DiffusionModel:  # fmt: skip
    """A few steps on the variance of the path weights."""
    return train(model, _PathVariance(whitened, seed), Training(steps=steps, rate=5e-4, ema=0.95, warmup=10), report=report)


def _estimate(
    model: DiffusionModel, whitened: LogDensity, n: int, noise: Noise, batch: int = 4096
) -> tuple[WeightedSamples, LogZ]:  # fmt: skip
    """Fresh weighted paths of the frozen model, and log Z from them."""
    times, parts = model.denoiser.sde.times(_STEPS), []
    with torch.no_grad():
        for first in range(0, n, batch):
            size = min(batch, n - first)
            parts.append(weighted_samples(model.denoiser.eval(), whitened, times, size, noise.shift(first)))
    paths = WeightedSamples(torch.cat([p.x for p in parts]), torch.cat([p.log_w for p in parts]), parts[0].evaluations)
    return paths, log_z(paths.log_w)


def _warnings(estimate: LogZ, k_hat: float, n: int, ledger: Ledger, explored: float) -> list[Warning]:
    """What the diagnostics say, in words."""
    gap = abs(explored - estimate.value)
    checks = {
        "heavy-weights": (
            k_hat > 0.7,
            f"Pareto k = {k_hat:.2f} > 0.7: a few paths carry the estimate, the interval is too short; raise steps or n, or "
            "reparametrise heavy tails",
        ),
        "low-ess": (
            estimate.ess < 0.05 * n,
            f"effective sample size {estimate.ess:.0f} of {n}: the sampler misses much of the density; raise particles and steps",
        ),
        "disagreement": (
            gap > max(0.5, 5 * estimate.stderr),
            f"exploration found log Z = {explored:.2f}, the learned sampler {estimate.value:.2f}: one of them misses a mode; set "
            "start_std to the reach of the density",
        ),
        "bad-values": (
            ledger.bad > 0,
            f"log_prob was NaN or +inf at {ledger.bad} of {ledger.points} points, taken as zero density: check it there",
        ),
    }
    return [Warning(code, message) for code, (found, message) in checks.items() if found]
