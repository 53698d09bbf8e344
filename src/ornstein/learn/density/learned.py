"""The learned part: a denoiser from particles, polished on the variance of its path weights, then frozen and weighed.

It lives in coordinates z in which the particles are nearly standard normal, ``x = T(z)`` with T affine or bent (`Frame`), and starts
as the exact posterior of what is known already: of N(0, I), or of the Gaussian mixture that tempering has fitted. Where that does
not yet do, a network on top of it is regressed on the particles (`ScoreRegression`), its standard deviation calibrated on some that
were held out, and, where its weights are very uneven, polished by `PathLoss` on paths of its own and paths noised from the particles.
"""

__all__ = ["Frame", "estimate", "eubo", "learn", "settle_steps", "share", "times", "untrained", "weighted"]

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ornstein.core.methods.annealed import value_and_gradient
from ornstein.core.noise import Noise
from ornstein.core.processes import VP
from ornstein.learn.calibrate import calibrate
from ornstein.learn.data import Denoising
from ornstein.learn.density.estimate import LogZ, log_z
from ornstein.learn.density.ledger import LogDensity
from ornstein.learn.density.measure import WeightedSamples, denoising_paths
from ornstein.learn.density.mixture import Blend, Mixture
from ornstein.learn.density.normal import Normal
from ornstein.learn.density.objectives import PathLoss, Replay, ScoreRegression, control_table
from ornstein.learn.density.smc import StartLaw
from ornstein.learn.density.triangular import Triangular, fit_triangular
from ornstein.learn.diffusion_model import DiffusionModel
from ornstein.learn.train import Objective, Progress, Training, train
from ornstein.model.bend import Bend
from ornstein.model.codec import Codec
from ornstein.model.denoiser import Denoiser, edm
from ornstein.nets.anchored import Anchored
from ornstein.nets.mlp import MLP

STEPS = 64
"""Of the paths, at most."""
NOTHING = LogZ(-math.inf, math.inf, (-math.inf, math.inf), -math.inf, 0.0)
"""What paths tell that all end outside the support."""
_FITTED = 8192  # particles to which a map is fitted, at most
_ANCHORS = 2e5  # numbers in the axes of a mixture, at most
_PATHS = 512  # by which models are compared
_GOOD = 0.8  # effective paths per path beyond which nothing is to be gained
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


def untrained(law: StartLaw, x: Tensor, seed: int) -> list[DiffusionModel]:
    """Models that know what the main parts of a start law know, each the exact posterior of a law of z.

    That is N(0, I), for particles x ``(n, d)``, float64, whitened by their moments, or straightened by a map like that of the law's
    triangular part; or the Gaussian components of its mixtures, in the whitened coordinates.
    """
    d, normal = x.shape[1], Normal.fit(x)
    whitened, width = Codec(normal.mean, normal.factor), 64 if d <= 32 else 128
    known: list[tuple[Codec, Mixture | None]] = [(whitened, None)]
    for part in (law.laws if isinstance(law, Blend) else (law,)):
        if isinstance(part, Triangular) and not any(isinstance(codec, Bend) for codec, _ in known):
            known.append((fit_triangular(x[:_FITTED], part.bend.order).bend, None))
        elif isinstance(part, Mixture) and 1 < len(part.weights) <= _ANCHORS / d**2 and (gaussian := part.gaussian()) is not None:
            known.append((whitened, gaussian))
    models = []
    for codec, mixture in known:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net: nn.Module = MLP(d, width, 3) if mixture is None else _anchored(mixture, codec, width)
        models.append(DiffusionModel(Denoiser(net, VP(), edm, 1.0, (d,)), codec, info={"learned_from": "density"}))
    return models


def _anchored(mixture: Mixture, codec: Codec, width: int) -> Anchored:
    """The network on the mixture, seen in the coordinates of an affine codec."""
    factors = torch.linalg.solve_triangular(codec.factor, mixture.factors, upper=False)
    variances, axes = torch.linalg.eigh(factors @ factors.mT)
    parts = (mixture.weights / mixture.weights.sum(), codec.encode(mixture.means), variances.clamp(min=1e-8), axes)
    k, d = mixture.means.shape
    return Anchored(d, k, width, 3, (parts[0].float(), parts[1].float(), parts[2].float(), parts[3].float()))


def learn(
    model: DiffusionModel, whitened: LogDensity, z: Tensor, scores: Tensor, steps: int, seconds: float, noise: Noise,
    report: Callable[[Progress], None],
) -> DiffusionModel:  # fmt: skip
    """The best of the model as it is, trained on particles, and polished; the first where it already fits.

    Args:
        model: from `untrained`.
        whitened: the log-density in its coordinates.
        z, scores: equally weighted particles and the gradients of ``whitened`` there, ``(n, d)``.
        steps: of the optimiser, at most.
        seconds: of wall time, roughly; inf takes all steps.
        noise: source of randomness.
        report: called after every step.
    """
    found, seed = [model], noise.fold(7).generator().initial_seed() % 2**62
    if share(model, whitened, noise.fold(3)) >= _GOOD:
        return model
    held = max(1, len(z) // 10)
    control = control_table(model.denoiser.sde, z[held:], scores[held:], noise.fold(5))
    objective = ScoreRegression(Denoising(z[held:], batch=256, seed=seed), scores[held:], control)
    count = _affordable(objective, model.denoiser, steps, 0.6 * seconds)
    model = train(copy.deepcopy(model), objective, Training(steps=count, rate=2e-3), report=report)
    calibrate(model.denoiser, z[:held], noise.fold(-3), repeats=4)
    model.info["steps"] = count
    found.append(model)
    if share(model, whitened, noise.fold(4)) < _ROUGH:
        buffer = Replay(z, torch.zeros(len(z)))
        polish = PathLoss(whitened, model.denoiser.sde.times(STEPS // 4), batch=256, share=0.5, buffer=buffer, seed=seed)
        count = _affordable(polish, model.denoiser, max(1, steps // 10), 0.3 * seconds)
        found.append(train(copy.deepcopy(model), polish, Training(steps=count, rate=5e-4, ema=0.95, warmup=10), report=report))
    return max(found, key=lambda model: share(model, whitened, noise.fold(6)))


def times(model: DiffusionModel, steps: int | None = None) -> Tensor:
    """The grid of the model's paths."""
    return model.denoiser.sde.times(steps or model.info.get("path_steps", STEPS))


def share(model: DiffusionModel, whitened: LogDensity, noise: Noise, steps: int | None = None) -> float:
    """Effective sample size per path of the model as it is."""
    return estimate(model, whitened, _PATHS, noise, steps)[1].ess / _PATHS


def settle_steps(model: DiffusionModel, whitened: LogDensity, noise: Noise) -> None:
    """Note the fewest steps that keep nine tenths of what `STEPS` give."""
    enough = 0.9 * share(model, whitened, noise, STEPS)
    model.info["path_steps"] = next(k for k in (8, 16, 32, STEPS) if k == STEPS or share(model, whitened, noise, k) >= enough)


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


def eubo(model: DiffusionModel, whitened: LogDensity, z: Tensor, noise: Noise) -> float:
    """The upper bound on log Z from particles, nats: one in expectation where they are exact samples."""
    measure = denoising_paths(model.denoiser.eval(), whitened, times(model))
    with torch.no_grad():
        return float(measure.back(z, noise).double().mean())
