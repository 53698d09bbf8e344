"""What the paths of a model say of log Z, and whether to believe them.

Independent paths carry exact weights, whatever the model. Where these are uneven, particles can be
resampled on the way (`along`), by the density as it is seen from the posterior mean: independent
islands of them, whose spread is the error. What speaks against either is asked of other paths than
those that are reported, and of particles of the target, noised backwards.
"""

__all__ = [
    "GOOD",
    "NOTHING",
    "STEPS",
    "PulledBackDensity",
    "Weighed",
    "along",
    "estimate",
    "noised",
    "times",
    "weigh",
    "weighted",
]

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity, value_and_gradient
from ornstein.core.paths.measure import WeightedSamples, denoising_paths
from ornstein.core.paths.particles import lookahead, particle_filter
from ornstein.core.random.noise import Noise
from ornstein.density.log_z import LogZ, log_z, log_z_islands
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.models.codecs.affine import Codec
from ornstein.reference.metrics import pareto_k

STEPS = 64
"""Of the paths, at most."""
NOTHING = LogZ(-math.inf, math.inf, (-math.inf, math.inf), -math.inf, 0.0)
"""What paths tell that all end outside the support."""
GOOD = 0.5
"""Effective paths per path from which on a model needs neither training nor resampling."""
_PART = 0.25  # from which on it takes part in log Z; below, its standard error is not to be trusted
_TRIAL = 4096  # paths by which a frozen model is judged, at most
_HINT = 256  # paths that tell roughly where log Z is
_BELOW = (
    5.0  # nats below it: what counts as the density where the posterior mean is outside the support
)


@dataclass(frozen=True)
class PulledBackDensity:
    """The density in the coordinates of a model.

    Args:
        target: log rho of x.
        codec: the map ``x = T(z)``.
    """

    target: LogDensity
    codec: Codec

    def __call__(self, z: Tensor) -> Tensor:
        """``log rho(x) + log |det dx/dz|`` in float64, whatever z is: Z stays what it is, also
        where log rho is large."""
        x, log_det = self.codec.decode_with_log_det(z.double())
        return self.target(x) + log_det

    def pull(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z of x and the gradient of the density there, both ``(n, d)``, float32."""
        z = self.codec.encode(x)
        return z.float(), value_and_gradient(self, z)[1].float()


def times(model: DiffusionModel, steps: int | None = None) -> Tensor:
    """The grid of the model's paths."""
    return model.denoiser.sde.times(steps or model.info.get("path_steps", STEPS))


def weighted(
    model: DiffusionModel,
    whitened: LogDensity,
    n: int,
    noise: Noise,
    steps: int | None = None,
    batch: int = 4096,
) -> WeightedSamples:
    """Fresh paths of the frozen model, by default of as many steps as were found for it; those that
    end outside have weight 0."""
    measure, parts = denoising_paths(model.denoiser.eval(), whitened, times(model, steps)), []
    with torch.no_grad():
        for first in range(0, n, batch):
            parts.append(measure.draw(min(batch, n - first), noise.shift(first)))
    log_w = torch.cat([p.log_w for p in parts])
    return WeightedSamples(
        torch.cat([p.x for p in parts]),
        torch.where(log_w.isnan(), -torch.inf, log_w),
        parts[0].evaluations,
    )


def estimate(
    model: DiffusionModel,
    whitened: LogDensity,
    n: int,
    noise: Noise,
    steps: int | None = None,
    batch: int = 4096,
) -> tuple[WeightedSamples, LogZ]:
    """Fresh `weighted` paths of the frozen model, and log Z from them."""
    paths = weighted(model, whitened, n, noise, steps, batch)
    if not bool(torch.isfinite(paths.log_w).any()):
        return paths, NOTHING
    return paths, log_z(paths.log_w)


def along(
    model: DiffusionModel, whitened: LogDensity, n: int, noise: Noise, islands: int = 16
) -> tuple[WeightedSamples, LogZ]:
    """Particles along the frozen model, resampled on the way by the levels of `lookahead`, ``n //
    islands`` in each island; and log Z from the spread of these."""
    trial = weighted(model, whitened, _HINT, noise.fold(-1)).log_w
    least = (
        float(trial.logsumexp(0)) - math.log(_HINT) - _BELOW
        if bool(trial.isfinite().any())
        else 0.0
    )
    level = lookahead(model.denoiser, whitened, least=least)
    measure = denoising_paths(model.denoiser.eval(), whitened, times(model, STEPS), level=level)
    with torch.no_grad():
        parts = [particle_filter(measure, n // islands, noise.fold(k)) for k in range(islands)]
    log_w, each = (
        torch.cat([part.log_w for part in parts]),
        torch.stack([part.log_w.logsumexp(0) for part in parts]),
    )
    paths = WeightedSamples(
        torch.cat([part.x for part in parts]), log_w, max(part.evaluations for part in parts)
    )
    alive = bool(torch.isfinite(log_w).any())
    return paths, log_z_islands(each - math.log(n // islands), log_w) if alive else NOTHING


class Weighed(NamedTuple):
    """What a frozen model says of log Z.

    Attributes:
        paths: fresh ones, or particles `along` it, in the model's coordinates.
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


def weigh(
    model: DiffusionModel, whitened: LogDensity, z: Tensor, n: int, value: float, noise: Noise
) -> Weighed:
    """n fresh paths of a frozen model, and what to think of them, asked of others lest the answer
    depend on their luck.

    They are good if effective paths are a quarter of those others, and so they are by what
    particles of the target weigh: these tell of necks that paths of the model do not reach. Where
    they are less than a half, particles `along` the model are taken instead if as many of them had
    the smaller error.

    Args:
        model, whitened: the model and the log-density in its coordinates.
        z: particles there that it was not trained on.
        n: paths.
        value: log Z, roughly; not one that is reported.
        noise: source of randomness.
    """
    few = min(n, _TRIAL)
    trial, found = estimate(model, whitened, few, noise.fold(0))
    back = noised(model, whitened, z, noise.fold(1))
    kept = found.ess / few
    worth = float((math.log(len(back)) + value - back.logsumexp(0)).exp())
    good = min(kept, worth) >= _PART and float(pareto_k(trial.log_w)) <= 0.7
    precision, expected = n * kept / max(1 - kept, 1e-9), 0.0
    if good and kept < GOOD:
        expected = n / few / max(along(model, whitened, few, noise.fold(3))[1].stderr, 1e-9) ** 2
    way = along if expected > precision else estimate
    paths, log_z = way(model, whitened, n, noise.fold(2))
    k_hat = float(pareto_k(paths.log_w)) if log_z.ess else math.inf
    return Weighed(paths, log_z, k_hat, max(precision, expected), good, float(back.mean()))


def noised(model: DiffusionModel, whitened: LogDensity, z: Tensor, noise: Noise) -> Tensor:
    """Log-weights of paths that end in particles of the target, ``(n,)``.

    Their mean is an upper bound on log Z, one in expectation where the particles are exact; the
    mean of w / Z is that of w^2 / Z^2 over paths of the model, and sees the large weights that few
    of these have.
    """
    measure = denoising_paths(model.denoiser.eval(), whitened, times(model))
    with torch.no_grad():
        return measure.back(z, noise).double()
