"""Choose a diffusion model of a density: analytic where that is good enough, else trained.

The model lives in coordinates z, ``x = T(z)`` with T affine or triangular
(`PulledBackDensity`), and starts as the exact denoiser of the fitted proposal
(`ornstein.density.learned.analytic`). Where that model's weights are uneven, a network is added to
it and regressed on particles with their scores (`TargetScoreMatching`), its standard deviation is
calibrated on other particles, and, where the weights are very uneven still, the network is
trained on the variance of its path weights (`PathObjective`), on its own paths and on noising paths
from particles. Models are compared by the effective fraction of paths that the choice has not
seen. The model is then frozen.
"""

__all__ = ["analytic_model", "choose_path_steps", "ess_fraction", "learn_diffusion"]

import copy
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.numerics.importance import pareto_k
from ornstein.core.paths.losses import log_variance
from ornstein.core.random.noise import Noise
from ornstein.density.learned.analytic import analytic_models
from ornstein.density.learned.importance import MAX_PATH_STEPS, PulledBackDensity, estimate_log_z
from ornstein.density.smc.particles import StartLaw
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.models.denoiser import Denoiser
from ornstein.training.calibrate import calibrate
from ornstein.training.denoising import DenoisingObjective
from ornstein.training.loop import Objective, TrainingConfig, TrainingProgress, train
from ornstein.training.path_objectives import (
    PathObjective,
    ReplayBuffer,
    TargetScoreMatching,
    control_table,
)

_COMPARED_PATHS = 512  # paths by which models are compared
_EXCELLENT_FRACTION = 0.95  # effective fraction from which on no better model is looked for
_ROUGH_FRACTION = 0.3  # effective fraction below which a loss on path weights is minimised, too
_BATCH = 256  # particles or paths in one optimiser step
_HELD_OUT = 10  # one particle in so many calibrates the standard deviation
_NARROW_DIM = 32  # largest dimension with a network of width 64; beyond, the width is 128
_PATH_STEPS = (1, 2, 4, 8, 16, 32, MAX_PATH_STEPS)  # numbers of steps that are tried
_KEPT_FRACTION = 0.9  # part of the effective size at `MAX_PATH_STEPS` that fewer steps must reach
_LIGHT_TAIL = 0.4  # Pareto shape up to which weights count as not heavy-tailed
_CALIBRATION = -3  # keys of independent noise
_MODEL_COMPARISON = 4
_CONTROL = 5
_FINAL_COMPARISON = 6
_NETWORK_SEED = 7


def analytic_model(
    law: StartLaw, target: LogDensity, x: Tensor, noise: Noise
) -> tuple[DiffusionModel, float]:
    """Choose the best of the models that are exact for parts of a fitted proposal.

    Args:
        law: the proposal.
        target: the log-density.
        x: particles of the target, ``(n, d)``, float64.
        noise: source of randomness.

    Returns:
        The model, and its `ess_fraction`. The first model with a fraction above 0.95 is taken.
    """
    candidates = list[tuple[DiffusionModel, float]]()
    for model in analytic_models(law, x):
        fraction = ess_fraction(model, PulledBackDensity(target, model.codec), noise)
        candidates.append((model, fraction))
        if fraction > _EXCELLENT_FRACTION:
            break
    return max(candidates, key=lambda candidate: candidate[1])


def learn_diffusion(
    model: DiffusionModel,
    density: LogDensity,
    z: Tensor,
    scores: Tensor,
    steps: int,
    seconds: float,
    noise: Noise,
    callback: Callable[[TrainingProgress], None],
) -> DiffusionModel:
    """Train a network on top of an analytic model, and return the best of all stages.

    Args:
        model: an analytic model, which is left as it is.
        density: the log-density in its coordinates.
        z: equally weighted particles there, ``(n, d)``.
        scores: gradients of ``density`` at z, ``(n, d)``.
        steps: optimiser steps, at most.
        seconds: wall time, roughly; inf takes all steps.
        noise: source of randomness.
        callback: called after every step.
    """
    candidates = [model]
    seed = noise.fold(_NETWORK_SEED).generator().initial_seed() % 2**62
    n_held_out = max(1, len(z) // _HELD_OUT)
    held_out, z_train, train_scores = z[:n_held_out], z[n_held_out:], scores[n_held_out:]
    control = control_table(model.denoiser.sde, z_train, train_scores, noise.fold(_CONTROL))
    model = _with_network(model, seed)
    regression = TargetScoreMatching(
        DenoisingObjective(z_train, batch=_BATCH, seed=seed), train_scores, control
    )
    count = _affordable_steps(regression, model.denoiser, steps, 0.6 * seconds)
    model = train(model, regression, TrainingConfig(steps=count, rate=2e-3), None, callback)
    calibrate(model.denoiser, held_out, noise.fold(_CALIBRATION), repeats=4)
    model.info["steps"] = count
    candidates.append(model)
    if ess_fraction(model, density, noise.fold(_MODEL_COMPARISON)) < _ROUGH_FRACTION:
        buffer = ReplayBuffer(z, torch.zeros(len(z)))
        times = model.denoiser.sde.times(MAX_PATH_STEPS // 4)
        on_paths = PathObjective(density, times, log_variance, _BATCH, 0.5, buffer, seed=seed)
        count = _affordable_steps(on_paths, model.denoiser, max(1, steps // 10), 0.3 * seconds)
        config = TrainingConfig(steps=count, rate=5e-4, ema=0.95, warmup=10)
        candidates.append(train(copy.deepcopy(model), on_paths, config, None, callback))
    return max(
        candidates, key=lambda model: ess_fraction(model, density, noise.fold(_FINAL_COMPARISON))
    )


def _with_network(model: DiffusionModel, seed: int) -> DiffusionModel:
    """Return a copy of an analytic model with a network to train, whose output starts at zero."""
    model = copy.deepcopy(model)
    dim = math.prod(model.denoiser.event_shape or ())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.denoiser.net.add_network(64 if dim <= _NARROW_DIM else 128)  # type: ignore[operator]
    return model


def ess_fraction(
    model: DiffusionModel, density: LogDensity, noise: Noise, steps: int | None = None
) -> float:
    """Return the effective sample size per path of a model, between 0 and 1, from 512 paths.

    Args:
        model: the model.
        density: the log-density in its coordinates.
        noise: source of randomness.
        steps: of each path; None takes those that were chosen for the model.
    """
    return estimate_log_z(model, density, _COMPARED_PATHS, noise, steps)[1].ess / _COMPARED_PATHS


def choose_path_steps(model: DiffusionModel, density: LogDensity, noise: Noise) -> None:
    """Choose the smallest number of path steps that loses almost no effective sample size.

    It reaches nine tenths of the effective size that 64 steps give, and its weights have no heavier
    tail. The number is noted in ``model.info["path_steps"]``.

    Args:
        model: a frozen model.
        density: the log-density in its coordinates.
        noise: source of randomness.
    """
    n = 4 * _COMPARED_PATHS

    def judge(steps: int) -> tuple[float, float]:
        paths, estimate = estimate_log_z(model, density, n, noise, steps)
        return estimate.ess, pareto_k(paths.log_w) if estimate.ess else math.inf

    judged = {1: judge(1)}
    best_ess, best_k = judged[1]
    if best_ess > _EXCELLENT_FRACTION * n and best_k <= _LIGHT_TAIL:
        best_ess = float(n)
        best_k = 0.0
    else:
        best_ess, best_k = judged[MAX_PATH_STEPS] = judge(MAX_PATH_STEPS)
    for steps in _PATH_STEPS:
        ess, k_hat = judged.get(steps) or judge(steps)
        if ess >= _KEPT_FRACTION * best_ess and k_hat <= max(_LIGHT_TAIL, best_k):
            break
    model.info["path_steps"] = steps


def _affordable_steps(objective: Objective, denoiser: Denoiser, steps: int, seconds: float) -> int:
    """Return how many training steps fit into a time limit, by timing two of them."""
    if seconds == math.inf:
        return steps
    start = time.monotonic()
    trial = copy.deepcopy(denoiser).requires_grad_()
    for k in range(2):
        objective(trial, k)[0].mean().backward()
    return max(1, min(steps, int(seconds / max((time.monotonic() - start) / 2, 1e-6))))
