"""The learned part: a denoiser from particles, polished on the variance of its path weights, then frozen and weighed.

In whitened coordinates ``x = mean + F z`` an untrained denoiser is the exact posterior of N(0, I), so that a Gaussian needs no
training. Otherwise it is regressed on the particles (`ScoreRegression`), its standard deviation calibrated on some that were held out,
and, where its weights are very uneven, polished by `PathLoss` on paths of its own and paths noised from the particles.
"""

__all__ = ["Frame", "estimate", "learn", "untrained"]

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.noise import Noise
from ornstein.core.processes import VP
from ornstein.learn.calibrate import calibrate
from ornstein.learn.data import Denoising
from ornstein.learn.density.estimate import LogZ, log_z
from ornstein.learn.density.ledger import LogDensity
from ornstein.learn.density.measure import WeightedSamples, denoising_paths
from ornstein.learn.density.normal import Normal
from ornstein.learn.density.objectives import PathLoss, Replay, ScoreRegression, control_table
from ornstein.learn.diffusion_model import DiffusionModel
from ornstein.learn.train import Objective, Progress, Training, train
from ornstein.model.codec import Codec
from ornstein.model.denoiser import Denoiser, edm
from ornstein.nets.mlp import MLP

STEPS = 64
"""Of the reported paths."""
NOTHING = LogZ(-math.inf, math.inf, (-math.inf, math.inf), -math.inf, 0.0)
"""What paths tell that all end outside the support."""
_GOOD = 0.9  # effective paths per path beyond which nothing is to be gained
_ROUGH = 0.3  # and below which the model is polished


@dataclass(frozen=True)
class Frame:
    """The density in whitened coordinates.

    Args:
        target: log rho of x.
        normal: the affine map.
    """

    target: LogDensity
    normal: Normal

    def __call__(self, z: Tensor) -> Tensor:
        """``log rho(x) + log |det F|``: Z stays what it is."""
        return self.target(self.normal.map(z)) + self.normal.log_det

    def whiten(self, x: Tensor) -> Tensor:
        """z of x."""
        return torch.linalg.solve_triangular(self.normal.factor, (x - self.normal.mean).mT, upper=False).mT

    def pull(self, score: Tensor) -> Tensor:
        """The gradient in z from that in x."""
        return score @ self.normal.factor


def untrained(dim: int, frame: Normal, seed: int) -> DiffusionModel:
    """The model whose denoiser is the exact posterior of a standard normal in the whitened space."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = MLP(dim, width=64 if dim <= 32 else 128, depth=3)
    denoiser = Denoiser(net, VP(), edm, 1.0, (dim,))
    return DiffusionModel(denoiser, Codec(frame.mean, frame.factor), info={"learned_from": "density"})


def learn(
    model: DiffusionModel, whitened: LogDensity, z: Tensor, scores: Tensor, steps: int, seconds: float, seed: int,
    report: Callable[[Progress], None],
) -> DiffusionModel:  # fmt: skip
    """Train the model on particles, unless it already fits, for at most ``steps`` steps or about as many seconds.

    Args:
        model: from `untrained`.
        whitened: the log-density in its coordinates.
        z, scores: equally weighted particles and the gradients of ``whitened`` there, ``(n, d)``.
        steps: of the optimiser.
        seconds: of wall time, roughly.
        seed: of everything random.
        report: called after every step.
    """
    noise = Noise(seed)
    if _share(model, whitened, noise.fold(3)) >= _GOOD:
        return model
    held = max(1, len(z) // 10)
    control = control_table(model.denoiser.sde, z[held:], scores[held:], noise.fold(5))
    objective = ScoreRegression(Denoising(z[held:], batch=256, seed=seed), scores[held:], control)
    count = _affordable(objective, model.denoiser, steps, 0.6 * seconds)
    model = train(model, objective, Training(steps=count, rate=2e-3), report=report)
    calibrate(model.denoiser, z[:held], noise.fold(-3), repeats=4)
    model.info["steps"] = count
    if _share(model, whitened, noise.fold(4)) < _ROUGH:
        buffer = Replay(z, torch.zeros(len(z)))
        polish = PathLoss(whitened, model.denoiser.sde.times(STEPS // 4), batch=256, share=0.5, buffer=buffer, seed=seed)
        count = _affordable(polish, model.denoiser, max(1, steps // 10), 0.3 * seconds)
        model = train(model, polish, Training(steps=count, rate=5e-4, ema=0.95, warmup=10), report=report)
    return model


def _share(model: DiffusionModel, whitened: LogDensity, noise: Noise) -> float:
    """Effective sample size per path of the model as it is."""
    return estimate(model, whitened, 256, noise)[1].ess / 256


def _affordable(objective: Objective, denoiser: Denoiser, steps: int, seconds: float) -> int:
    """How many of the steps fit into the seconds, by the time of two."""
    began, trial = time.monotonic(), copy.deepcopy(denoiser).requires_grad_()
    for k in range(2):
        objective(trial, k)[0].mean().backward()
    return max(1, min(steps, int(seconds / max((time.monotonic() - began) / 2, 1e-6))))


def estimate(
    model: DiffusionModel, whitened: LogDensity, n: int, noise: Noise, batch: int = 4096
) -> tuple[WeightedSamples, LogZ]:  # fmt: skip
    """Fresh weighted paths of the frozen model, and log Z from them."""
    measure, parts = denoising_paths(model.denoiser.eval(), whitened, model.denoiser.sde.times(STEPS)), []
    with torch.no_grad():
        for first in range(0, n, batch):
            parts.append(measure.draw(min(batch, n - first), noise.shift(first)))
    paths = WeightedSamples(torch.cat([p.x for p in parts]), torch.cat([p.log_w for p in parts]), parts[0].evaluations)
    if not bool(torch.isfinite(paths.log_w).any()):
        return paths, NOTHING
    return paths, log_z(paths.log_w)
