"""A denoiser from what is known and from particles, polished on the variance of its path weights, then frozen and weighed.

It lives in coordinates z, ``x = T(z)`` with T affine or bent (`Frame`), and starts as the exact posterior of what is known already:
of the mixture or the bent product that was fitted, or of N(0, I). Where that does not yet do, a network on top of it is regressed on
the particles (`ScoreRegression`), its standard deviation calibrated on some that were held out, and, where its weights are very
uneven, polished by `PathLoss` on paths of its own and paths noised from the particles.
"""

__all__ = ["GOOD", "Frame", "estimate", "known", "learn", "noised", "settle_steps", "times", "weigh", "weighted"]

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.methods.annealed import value_and_gradient
from ornstein.core.noise import Noise
from ornstein.exact.metrics import pareto_k
from ornstein.learn.calibrate import calibrate
from ornstein.learn.data import Denoising
from ornstein.learn.density.classical.smc import StartLaw
from ornstein.learn.density.estimate import LogZ, log_z
from ornstein.learn.density.learned.known import untrained
from ornstein.learn.density.ledger import LogDensity
from ornstein.learn.density.paths.measure import WeightedSamples, denoising_paths
from ornstein.learn.density.paths.objectives import PathLoss, Replay, ScoreRegression, control_table
from ornstein.learn.diffusion_model import DiffusionModel
from ornstein.learn.train import Objective, Progress, Training, train
from ornstein.model.codec import Codec
from ornstein.model.denoiser import Denoiser

STEPS = 64
"""Of the paths, at most."""
NOTHING = LogZ(-math.inf, math.inf, (-math.inf, math.inf), -math.inf, 0.0)
"""What paths tell that all end outside the support."""
_TRIAL = 4096  # paths by which a frozen model is judged, at most
_PART = 0.25  # effective paths per path from which on it takes part in log Z; below, its standard error is not to be trusted
_PATHS = 512  # by which models are compared
GOOD = 0.5
"""Effective paths per path from which on a model needs no training."""
_DONE = 0.95  # and from which on no better one is looked for
_ROUGH = 0.3  # and below which the model is polished


@dataclass(frozen=True)
class Frame:
    """The density in the coordinates of a model.

    Args:
        target: log rho of x.
        codec: the map ``x = T(z)``.
    """

    target: LogDensity
    codec: Codec

    def __call__(self, z: Tensor) -> Tensor:
        """``log rho(x) + log |det dx/dz|`` in float64, whatever z is: Z stays what it is, also where log rho is large."""
        x, log_det = self.codec.decode_with_log_det(z.double())
        return self.target(x) + log_det

    def pull(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z of x and the gradient of the density there, both ``(n, d)``, float32."""
        z = self.codec.encode(x)
        return z.float(), value_and_gradient(self, z)[1].float()


def known(law: StartLaw, target: LogDensity, x: Tensor, noise: Noise) -> tuple[DiffusionModel, float]:
    """The best untrained model of a start law and particles x, or the first that is as good as can be; and its `share`."""
    best = list[tuple[DiffusionModel, float]]()
    for model in untrained(law, x):
        best.append((model, share(model, Frame(target, model.codec), noise)))
        if best[-1][1] > _DONE:
            break
    return max(best, key=lambda pair: pair[1])


def learn(
    model: DiffusionModel, whitened: LogDensity, z: Tensor, scores: Tensor, steps: int, seconds: float, noise: Noise,
    report: Callable[[Progress], None],
) -> DiffusionModel:  # fmt: skip
    """The best of the model as it is, trained on particles, and polished.

    Args:
        model: what is `known`.
        whitened: the log-density in its coordinates.
        z, scores: equally weighted particles and the gradients of ``whitened`` there, ``(n, d)``.
        steps: of the optimiser, at most.
        seconds: of wall time, roughly; inf takes all steps.
        noise: source of randomness.
        report: called after every step.
    """
    found, seed = [model], noise.fold(7).generator().initial_seed() % 2**62
    held = max(1, len(z) // 10)
    control = control_table(model.denoiser.sde, z[held:], scores[held:], noise.fold(5))
    model = _equipped(model, seed)
    objective = ScoreRegression(Denoising(z[held:], batch=256, seed=seed), scores[held:], control)
    count = _affordable(objective, model.denoiser, steps, 0.6 * seconds)
    model = train(model, objective, Training(steps=count, rate=2e-3), report=report)
    calibrate(model.denoiser, z[:held], noise.fold(-3), repeats=4)
    model.info["steps"] = count
    found.append(model)
    if share(model, whitened, noise.fold(4)) < _ROUGH:
        buffer = Replay(z, torch.zeros(len(z)))
        polish = PathLoss(whitened, model.denoiser.sde.times(STEPS // 4), batch=256, share=0.5, buffer=buffer, seed=seed)
        count = _affordable(polish, model.denoiser, max(1, steps // 10), 0.3 * seconds)
        found.append(train(copy.deepcopy(model), polish, Training(steps=count, rate=5e-4, ema=0.95, warmup=10), report=report))
    return max(found, key=lambda model: share(model, whitened, noise.fold(6)))


def _equipped(model: DiffusionModel, seed: int) -> DiffusionModel:
    """A copy with a network to be trained."""
    model, d = copy.deepcopy(model), math.prod(model.denoiser.event_shape or ())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.denoiser.net.equip(64 if d <= 32 else 128)  # type: ignore[operator]
    return model


def times(model: DiffusionModel, steps: int | None = None) -> Tensor:
    """The grid of the model's paths."""
    return model.denoiser.sde.times(steps or model.info.get("path_steps", STEPS))


def share(model: DiffusionModel, whitened: LogDensity, noise: Noise, steps: int | None = None) -> float:
    """Effective sample size per path of the model as it is."""
    return estimate(model, whitened, _PATHS, noise, steps)[1].ess / _PATHS


def settle_steps(model: DiffusionModel, whitened: LogDensity, noise: Noise) -> None:
    """Note the fewest steps that keep nine tenths of what `STEPS` give, with weights that are not heavier."""

    def judged(steps: int) -> tuple[float, float]:
        paths, found = estimate(model, whitened, 4 * _PATHS, noise, steps)
        return found.ess, float(pareto_k(paths.log_w)) if found.ess else math.inf

    first = judged(1)
    most, k_hat = (4.0 * _PATHS, 0.0) if first[0] > 4 * _DONE * _PATHS and first[1] <= 0.4 else judged(STEPS)
    for steps in (1, 2, 4, 8, 16, 32, STEPS):
        kept, heavy = {1: first, STEPS: (most, k_hat)}.get(steps) or judged(steps)
        if kept >= 0.9 * most and heavy <= max(0.4, k_hat):
            break
    model.info["path_steps"] = steps


def _affordable(objective: Objective, denoiser: Denoiser, steps: int, seconds: float) -> int:
    """How many of the steps fit into the seconds, by the time of two."""
    if seconds == math.inf:
        return steps
    began, trial = time.monotonic(), copy.deepcopy(denoiser).requires_grad_()
    for k in range(2):
        objective(trial, k)[0].mean().backward()
    return max(1, min(steps, int(seconds / max((time.monotonic() - began) / 2, 1e-6))))


def weighted(
    model: DiffusionModel, whitened: LogDensity, n: int, noise: Noise, steps: int | None = None, batch: int = 4096
) -> WeightedSamples:  # fmt: skip
    """Fresh paths of the frozen model, by default of as many steps as were found for it; those that end outside have weight 0."""
    measure, parts = denoising_paths(model.denoiser.eval(), whitened, times(model, steps)), []
    with torch.no_grad():
        for first in range(0, n, batch):
            parts.append(measure.draw(min(batch, n - first), noise.shift(first)))
    log_w = torch.cat([p.log_w for p in parts])
    return WeightedSamples(torch.cat([p.x for p in parts]), torch.where(log_w.isnan(), -torch.inf, log_w), parts[0].evaluations)


def estimate(
    model: DiffusionModel, whitened: LogDensity, n: int, noise: Noise, steps: int | None = None, batch: int = 4096
) -> tuple[WeightedSamples, LogZ]:  # fmt: skip
    """Fresh `weighted` paths of the frozen model, and log Z from them."""
    paths = weighted(model, whitened, n, noise, steps, batch)
    if not bool(torch.isfinite(paths.log_w).any()):
        return paths, NOTHING
    return paths, log_z(paths.log_w)


class Weighed(NamedTuple):
    """What a frozen model says of log Z.

    Attributes:
        paths: fresh ones, in the model's coordinates.
        log_z: from them.
        k_hat: Pareto shape of their weights.
        precision: of log Z, ``1 / stderr^2``, expected from other paths.
        good: whether their weights are to be trusted.
        upper: bound on log Z from particles, nats.
    """

    paths: WeightedSamples
    log_z: LogZ
    k_hat: float
    precision: float
    good: bool
    upper: float


def weigh(model: DiffusionModel, whitened: LogDensity, z: Tensor, n: int, value: float, noise: Noise) -> Weighed:
    """n fresh paths of a frozen model, and what to think of them, asked of others lest the answer depend on their luck.

    They are good if effective paths are a quarter of those others, and so they are by what particles of the target weigh: these tell
    of necks that paths of the model do not reach.

    Args:
        model, whitened: the model and the log-density in its coordinates.
        z: particles there that it was not trained on.
        n: paths.
        value: log Z, roughly; not one that is reported.
        noise: source of randomness.
    """
    trial, found = estimate(model, whitened, min(n, _TRIAL), noise.fold(0))
    back = noised(model, whitened, z, noise.fold(1))
    kept = found.ess / len(trial.x)
    worth = float((math.log(len(back)) + value - back.logsumexp(0)).exp())
    good = min(kept, worth) >= _PART and float(pareto_k(trial.log_w)) <= 0.7
    paths, log_z = estimate(model, whitened, n, noise.fold(2))
    k_hat = float(pareto_k(paths.log_w)) if log_z.ess else math.inf
    return Weighed(paths, log_z, k_hat, n * kept / max(1 - kept, 1e-9), good, float(back.mean()))


def noised(model: DiffusionModel, whitened: LogDensity, z: Tensor, noise: Noise) -> Tensor:
    """Log-weights of paths that end in particles of the target, ``(n,)``.

    Their mean is an upper bound on log Z, one in expectation where the particles are exact; the mean of w / Z is that of w^2 / Z^2
    over paths of the model, and sees the large weights that few of these have.
    """
    measure = denoising_paths(model.denoiser.eval(), whitened, times(model))
    with torch.no_grad():
        return measure.back(z, noise).double()
