"""Estimate log Z by importance sampling with a diffusion model, and decide whether to trust it.

A frozen diffusion model of the density generates paths whose importance weights w have E[w] = Z
exactly, whatever the model (`ornstein.core.paths.measure`). Independent paths are the default.
Where their weights are uneven, sequential Monte Carlo with the model (`smc_along_model`) resamples
particles on the way, by the density as it is seen from the posterior mean; several independent
filters give the error. Whether the weights are trusted is decided on other paths than those that
are reported, and on noising paths from particles of the target: these see the large weights that
paths of the model rarely have.
"""

__all__ = [
    "GOOD_FRACTION",
    "MAX_PATH_STEPS",
    "NO_ESTIMATE",
    "DiffusionEstimate",
    "PulledBackDensity",
    "backward_log_weights",
    "estimate_log_z",
    "importance_sample",
    "path_times",
    "smc_along_model",
    "weighted_paths",
]

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity, value_and_gradient
from ornstein.core.numerics.importance import pareto_k
from ornstein.core.paths.denoising import denoising_paths
from ornstein.core.paths.particles import lookahead, particle_filter
from ornstein.core.random.noise import Noise
from ornstein.core.random.weighted_sample import WeightedSample
from ornstein.density.log_z import LogZ, log_z, log_z_of_runs
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.models.codecs.affine import Codec

MAX_PATH_STEPS = 64
"""Steps of a path, at most."""
NO_ESTIMATE = LogZ(-math.inf, math.inf, (-math.inf, math.inf), elbo=-math.inf, ess=0.0)
"""The estimate of log Z from paths that all end outside the support."""
GOOD_FRACTION = 0.5
"""Effective paths per path from which on a model needs neither training nor resampling."""
_TRUSTED_FRACTION = 0.25  # effective paths per path from which on the estimate takes part in log Z
_TRUSTED_K_HAT = 0.7  # Pareto shape up to which a standard error from the weights is trusted
_TRIAL_PATHS = 4096  # largest number of paths by which a frozen model is judged
_ROUGH_PATHS = 256  # paths for a rough log Z, which sets the level outside the support
_OUTSIDE_NATS = 5.0  # outside the support, a posterior mean gets the density Z e^-5
_ROUGH_PATHS_KEY = -1  # keys of independent noise
_JUDGING_PATHS = 0
_BACKWARD_PATHS = 1
_REPORTED_PATHS = 2
_JUDGING_SMC = 3


@dataclass(frozen=True)
class PulledBackDensity:
    """An unnormalised density in the coordinates z of a model, ``x = T(z)``, with the same Z.

    Args:
        target: the log-density of x, ``(n, d) -> (n,)``, in nats.
        codec: the map T.
    """

    target: LogDensity
    codec: Codec

    def __call__(self, z: Tensor) -> Tensor:
        """The log-density of z, ``log rho(T(z)) + log |det dT/dz|``, ``(n,)``.

        It is computed in float64, whatever z is, so that Z stays the same where log rho is large.
        """
        x, log_det = self.codec.decode_with_log_det(z.double())
        return self.target(x) + log_det

    def pull(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coordinates z of points x, and the gradients of the log-density of z there.

        Args:
            x: points ``(n, d)`` in the coordinates of the target.

        Returns:
            z and gradient, ``(n, d)`` each, float32.
        """
        z = self.codec.encode(x)
        return z.float(), value_and_gradient(self, z)[1].float()


def path_times(model: DiffusionModel, steps: int | None = None) -> Tensor:
    """Return the time grid of a model's sampling paths, ``(steps + 1,)``, from T down to 0.

    Args:
        model: with the number of steps in ``info["path_steps"]`` once it was chosen.
        steps: None takes that number.
    """
    return model.denoiser.sde.times(steps or model.info.get("path_steps", MAX_PATH_STEPS))


def weighted_paths(
    model: DiffusionModel,
    density: LogDensity,
    n: int,
    noise: Noise,
    steps: int | None = None,
    batch: int = 4096,
) -> WeightedSample:
    """Draw independent paths of a frozen model, and return their ends with exact log-weights.

    Args:
        model: the model; its denoiser is put into evaluation mode.
        density: the log-density in the coordinates of the model.
        n: number of paths.
        noise: source of randomness; path i is the same whatever n is.
        steps: of each path; None takes those that were chosen for the model.
        batch: paths that are computed at a time.

    Returns:
        Points ``(n, d)`` in the coordinates of the model; the weight is 0 outside the support.
    """
    measure = denoising_paths(model.denoiser.eval(), density, path_times(model, steps))
    with torch.no_grad():
        parts = [
            measure.draw(min(batch, n - start), noise.shift(start)) for start in range(0, n, batch)
        ]
    log_w = torch.cat([part.log_w for part in parts])
    return WeightedSample(
        torch.cat([part.x for part in parts]), torch.where(log_w.isnan(), -torch.inf, log_w)
    )


def estimate_log_z(
    model: DiffusionModel,
    density: LogDensity,
    n: int,
    noise: Noise,
    steps: int | None = None,
    batch: int = 4096,
) -> tuple[WeightedSample, LogZ]:
    """Draw independent paths of a frozen model, and estimate log Z from their weights.

    The arguments are those of `weighted_paths`. Where all paths end outside the support, the
    estimate is `NO_ESTIMATE`.
    """
    paths = weighted_paths(model, density, n, noise, steps, batch)
    if not bool(torch.isfinite(paths.log_w).any()):
        return paths, NO_ESTIMATE
    return paths, log_z(paths.log_w)


def smc_along_model(
    model: DiffusionModel, density: LogDensity, n: int, noise: Noise, filters: int = 16
) -> tuple[WeightedSample, LogZ]:
    """Run particle filters with a frozen model, and estimate log Z from their spread.

    The densities between start and target are those of `ornstein.core.paths.particles.lookahead`
    (Phillips et al. 2024).

    Args:
        model: the model.
        density: the log-density in the coordinates of the model.
        n: particles of all filters together, rounded down to a multiple of ``filters``.
        noise: source of randomness.
        filters: independent particle filters, at least two.
    """
    rough = weighted_paths(model, density, _ROUGH_PATHS, noise.fold(_ROUGH_PATHS_KEY)).log_w
    outside = (
        float(rough.logsumexp(0)) - math.log(_ROUGH_PATHS) - _OUTSIDE_NATS
        if bool(rough.isfinite().any())
        else 0.0
    )
    level = lookahead(model.denoiser, density, 1.0, outside)
    times = path_times(model, MAX_PATH_STEPS)
    measure = denoising_paths(model.denoiser.eval(), density, times, level=level)
    size = n // filters
    with torch.no_grad():
        parts = [particle_filter(measure, size, noise.fold(k)) for k in range(filters)]
    log_w = torch.cat([part.log_w for part in parts])
    particles = WeightedSample(torch.cat([part.x for part in parts]), log_w, filters)
    if not bool(torch.isfinite(log_w).any()):
        return particles, NO_ESTIMATE
    log_sums = torch.stack([part.log_w.logsumexp(0) for part in parts])
    return particles, log_z_of_runs(log_sums - math.log(size), log_w)


class DiffusionEstimate(NamedTuple):
    """An estimate of log Z by importance sampling with a frozen model, and how good it is.

    Attributes:
        paths: ends of fresh paths or particles of `smc_along_model`, in the model's coordinates.
        log_z: the estimate from these.
        k_hat: Pareto shape of their weights.
        precision: ``1 / stderr^2`` of log Z as other paths predict it.
        good: whether the weights are to be trusted.
        upper_bound: bound on log Z from particles of the target, nats.
    """

    paths: WeightedSample
    log_z: LogZ
    k_hat: float
    precision: float
    good: bool
    upper_bound: float


def importance_sample(
    model: DiffusionModel,
    density: LogDensity,
    z: Tensor,
    n: int,
    rough_log_z: float,
    noise: Noise,
) -> DiffusionEstimate:
    """Estimate log Z by n fresh paths of a frozen model, and judge the weights by other paths.

    They are trusted if the effective fraction of the other paths is at least a quarter, and so is
    the fraction that particles of the target imply, ``1 / E_target[w / Z]``: these show regions
    that paths of the model do not reach. Where the fraction is below a half, `smc_along_model` is
    used instead if as many particles of it have the smaller predicted error.

    Args:
        model: the model.
        density: the log-density in its coordinates.
        z: particles of the target there, ``(m, d)``, on which the model was not trained.
        n: number of paths.
        rough_log_z: log Z, roughly; an estimate that is not reported.
        noise: source of randomness.
    """
    trial_size = min(n, _TRIAL_PATHS)
    trial, trial_log_z = estimate_log_z(model, density, trial_size, noise.fold(_JUDGING_PATHS))
    backward = backward_log_weights(model, density, z, noise.fold(_BACKWARD_PATHS))
    ess_fraction = trial_log_z.ess / trial_size
    implied_fraction = float((math.log(len(backward)) + rough_log_z - backward.logsumexp(0)).exp())
    good = (
        min(ess_fraction, implied_fraction) >= _TRUSTED_FRACTION
        and pareto_k(trial.log_w) <= _TRUSTED_K_HAT
    )
    precision = n * ess_fraction / max(1 - ess_fraction, 1e-9)
    smc_precision = 0.0
    if good and ess_fraction < GOOD_FRACTION:
        smc = smc_along_model(model, density, trial_size, noise.fold(_JUDGING_SMC))[1]
        smc_precision = n / trial_size / max(smc.stderr, 1e-9) ** 2
    method = smc_along_model if smc_precision > precision else estimate_log_z
    paths, estimate = method(model, density, n, noise.fold(_REPORTED_PATHS))
    return DiffusionEstimate(
        paths,
        estimate,
        pareto_k(paths.log_w) if estimate.ess else math.inf,
        max(precision, smc_precision),
        good,
        float(backward.mean()),
    )


def backward_log_weights(
    model: DiffusionModel, density: LogDensity, z: Tensor, noise: Noise
) -> Tensor:
    """Return the log-weights ``(n,)`` of noising paths that start at particles of the target.

    Their mean is an upper bound on log Z, in expectation where the particles are exact. The mean of
    ``w / Z`` over them is that of ``w^2 / Z^2`` over paths of the model: one over the effective
    fraction.

    Args:
        model: the model.
        density: the log-density in its coordinates.
        z: particles ``(n, d)`` there.
        noise: source of randomness.
    """
    measure = denoising_paths(model.denoiser.eval(), density, path_times(model))
    with torch.no_grad():
        return measure.back(z, noise).double()
