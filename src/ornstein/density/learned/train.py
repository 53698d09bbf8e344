"""A denoiser from what is known and from particles, polished on the variance of its path weights,
then frozen.

It lives in coordinates z, ``x = T(z)`` with T affine or bent (`PulledBackDensity`), and starts as the exact
posterior of what is known already: of the mixture or the bent product that was fitted, or of N(0,
I). Where that does not yet do, a network on top of it is regressed on the particles
(`TargetScoreMatching`), its standard deviation calibrated on some that were held out, and, where its
weights are very uneven, polished by `PathObjective` on paths of its own and paths noised from the
particles.
"""

__all__ = ["known", "learn", "settle_steps"]

import copy
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.random.noise import Noise
from ornstein.density.learned.analytic import untrained
from ornstein.density.learned.importance import STEPS, PulledBackDensity, estimate
from ornstein.density.smc.tempered_smc import StartLaw
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.models.denoiser import Denoiser
from ornstein.reference.metrics import pareto_k
from ornstein.training.calibrate import calibrate
from ornstein.training.denoising import DenoisingObjective
from ornstein.training.loop import Objective, TrainingConfig, TrainingProgress, train
from ornstein.training.path_objectives import (
    PathObjective,
    ReplayBuffer,
    TargetScoreMatching,
    control_table,
)

_PATHS = 512  # by which models are compared
_DONE = 0.95  # effective paths per path from which on no better model is looked for
_ROUGH = 0.3  # and below which the model is polished


def known(
    law: StartLaw, target: LogDensity, x: Tensor, noise: Noise
) -> tuple[DiffusionModel, float]:
    """The best untrained model of a start law and particles x, or the first that is as good as can
    be; and its `share`."""
    best = list[tuple[DiffusionModel, float]]()
    for model in untrained(law, x):
        best.append((model, share(model, PulledBackDensity(target, model.codec), noise)))
        if best[-1][1] > _DONE:
            break
    return max(best, key=lambda pair: pair[1])


def learn(
    model: DiffusionModel,
    whitened: LogDensity,
    z: Tensor,
    scores: Tensor,
    steps: int,
    seconds: float,
    noise: Noise,
    report: Callable[[TrainingProgress], None],
) -> DiffusionModel:
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
    objective = TargetScoreMatching(
        DenoisingObjective(z[held:], batch=256, seed=seed), scores[held:], control
    )
    count = _affordable(objective, model.denoiser, steps, 0.6 * seconds)
    model = train(model, objective, TrainingConfig(steps=count, rate=2e-3), report=report)
    calibrate(model.denoiser, z[:held], noise.fold(-3), repeats=4)
    model.info["steps"] = count
    found.append(model)
    if share(model, whitened, noise.fold(4)) < _ROUGH:
        buffer = ReplayBuffer(z, torch.zeros(len(z)))
        polish = PathObjective(
            whitened,
            model.denoiser.sde.times(STEPS // 4),
            batch=256,
            share=0.5,
            buffer=buffer,
            seed=seed,
        )
        count = _affordable(polish, model.denoiser, max(1, steps // 10), 0.3 * seconds)
        found.append(
            train(
                copy.deepcopy(model),
                polish,
                TrainingConfig(steps=count, rate=5e-4, ema=0.95, warmup=10),
                report=report,
            )
        )
    return max(found, key=lambda model: share(model, whitened, noise.fold(6)))


def _equipped(model: DiffusionModel, seed: int) -> DiffusionModel:
    """A copy with a network to be trained."""
    model, d = copy.deepcopy(model), math.prod(model.denoiser.event_shape or ())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.denoiser.net.equip(64 if d <= 32 else 128)  # type: ignore[operator]
    return model


def share(
    model: DiffusionModel, whitened: LogDensity, noise: Noise, steps: int | None = None
) -> float:
    """Effective sample size per path of the model as it is."""
    return estimate(model, whitened, _PATHS, noise, steps)[1].ess / _PATHS


def settle_steps(model: DiffusionModel, whitened: LogDensity, noise: Noise) -> None:
    """Note the fewest steps that keep nine tenths of what `STEPS` give, with weights that are not
    heavier."""

    def judged(steps: int) -> tuple[float, float]:
        paths, found = estimate(model, whitened, 4 * _PATHS, noise, steps)
        return found.ess, float(pareto_k(paths.log_w)) if found.ess else math.inf

    first = judged(1)
    most, k_hat = (
        (4.0 * _PATHS, 0.0) if first[0] > 4 * _DONE * _PATHS and first[1] <= 0.4 else judged(STEPS)
    )
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
