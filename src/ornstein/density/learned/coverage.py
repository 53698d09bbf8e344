"""Test whether a sampler reaches all of the mass of a density, without knowing the truth.

Importance weights of a sampler's own paths say nothing about regions that it never visits: a
sampler that generates one mode of nine has an effective sample size near that of a perfect one. But
the sampler has a density p of its own, which can be estimated anywhere
(`ornstein.density.learned.model_density`). The excess of the target over it is

    D(x) = log rho(x) - log Z - log p(x),                                                        (1)

and D = 0 wherever the sampler is right. Points come from chains that share nothing with the
sampler (`explore_independently`); their law does not matter. Where D exceeds what it is at the
sampler's own samples and a threshold c (such a sample would have the weight e^D), mass is missing.
With a mixture g of Gaussians fitted by short Markov chains around the points, the missing fraction
is

    M / (1 + M),      M = E_g[ rho / (Z g)  1{D > c} ],                                          (2)

where Z is the sampler's own estimate: its paths hardly ever land in what M counts. `sample_density`
warns if the fraction (`Coverage.missing`) is above 1 %. Mass that no point came near stays unseen.
"""

__all__ = ["Coverage", "coverage", "explore_independently", "search_missing_mass"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import GeometricPath, LogDensity
from ornstein.core.mcmc.mala import MALA
from ornstein.core.numerics.estimate import Estimate
from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.density.learned.importance import estimate_log_z, path_times
from ornstein.density.learned.model_density import model_log_density
from ornstein.density.smc.short_chains import chain_moves, run_short_chains, wider_normal
from ornstein.inference.diffusion_model import DiffusionModel

_EXPLORERS = 128  # independent chains that search for missed mass
_EXPLORER_REACH = 3.0  # width of the start of these chains, in standard deviations of the particles
_SMALLEST_SPREAD = 1e-6  # smallest spread of the particles, in the coordinates of the model
_OWN_SAMPLES = 64  # samples of the model, by which the search is calibrated
_PLACES = 8  # largest number of points around which missing mass is estimated
_MISSING_DRAWS = 768  # draws of g by which the missing mass is estimated
_MISSING_FRACTION = 0.01  # missing fraction of the mass from which on a warning is due
_LARGEST_LOG_RATIO = 600.0  # nats: its exponential is finite in float64
_ACCEPTANCE = 0.57  # acceptance probability at which Langevin moves go farthest
_COLDEST = -4  # log10 of the inverse temperature at which the explorer starts


@dataclass(frozen=True)
class Coverage:
    """The result of a probe for mass that a sampler does not reach.

    Attributes:
        excess: ``D = log rho - log Z - log p`` at the explorer's points, nats, ``(m,)``; -inf
            outside the support.
        stderr: standard error of the excess.
        threshold: value of D above which a point counts as missed, nats.
        missing: estimated fraction of the mass that the sampler does not reach.
        where: the point of highest density among those that are not reached, ``(d,)``, or None.
    """

    excess: Tensor
    stderr: Tensor
    threshold: float
    missing: Estimate
    where: Tensor | None

    @property
    def warned(self) -> bool:
        """Whether more than 1 % of the mass is missing."""
        return self.missing.value > _MISSING_FRACTION

    def sentence(self, where: Tensor | None = None, names: tuple[str, ...] = ()) -> str:
        """Say in words how much mass is missing and where; return "" if none is.

        Args:
            where: the point in the coordinates of the reader, if not those of the sampler.
            names: of those coordinates.
        """
        where = self.where if where is None else where
        if not self.warned or where is None:
            return ""
        labels = names or tuple(f"x[{i + 1}]" for i in range(len(where)))
        shown = ", ".join(
            f"{name} = {value:.3g}" for name, value in zip(labels[:6], where.tolist(), strict=False)
        )
        more = ", ..." if len(where) > 6 else ""
        percent, error = 100 * self.missing.value, 100 * self.missing.stderr
        return (
            f"the learned sampler misses about {percent:.2g} % (+- {error:.1g}) of the mass, around"
            f" {shown}{more}: its samples leave that out; start wider (start_std) or nearer to it"
            " (start_mean), with more particles"
        )


def coverage(
    posterior: Posterior,
    log_prob: LogDensity,
    log_z: float,
    points: Float[Tensor, "m d"],
    own: Float[Tensor, "n d"],
    times: Float[Tensor, " k"],
    noise: Noise,
    paths: int = 8,
    threshold: float = 5.0,
    var: float = 1.0,
) -> Coverage:
    """Estimate the fraction of the mass that a sampler misses, from points of an explorer.

    All points are in the coordinates of the sampler.

    Args:
        posterior: the sampler, frozen.
        log_prob: the unnormalised log-density in those coordinates, differentiable.
        log_z: its normaliser as the sampler estimates it.
        points: from an independent explorer, a hundred or more; see `explore_independently`.
        own: samples of the sampler, 50 or more: their excess shows the error of the method.
        times: the time grid that the sampler generates on, from T down to 0.
        noise: source of randomness.
        paths: noising paths for each point; eight times as many where these leave a point open.
        threshold: smallest excess of a missed point, nats.
        var: variance of the data that the start law assumes.
    """
    probe = _Probe(posterior, log_prob, log_z, times, paths, var)
    own_excess, _ = probe.refined_excess(own, noise.fold(0))
    own_excess = own_excess[own_excess.isfinite()]
    c = threshold + (max(0.0, float(own_excess.quantile(0.95))) if len(own_excess) else 0.0)
    excess, stderr = probe.refined_excess(points, noise.fold(1))
    suspects = points[excess - 3 * stderr > c]
    if not len(suspects):
        return Coverage(excess, stderr, c, Estimate(0.0, 0.0), None)
    with torch.no_grad():
        suspects = suspects[log_prob(suspects).argsort(descending=True)]
    missing = _missing_fraction(probe, suspects, c, noise.fold(2))
    return Coverage(excess, stderr, c, missing, suspects[0])


def search_missing_mass(
    model: DiffusionModel, log_prob: LogDensity, log_z: float, z: Float[Tensor, "m d"], noise: Noise
) -> Coverage:
    """Estimate the fraction of the mass that a frozen diffusion model misses, by `coverage`.

    The explorer's chains start from a Gaussian three times as wide as the particles.

    Args:
        model: the model.
        log_prob: the log-density in its coordinates, differentiable.
        log_z: its normaliser as the model estimates it.
        z: equally weighted particles of the target there, which only set the scale.
        noise: source of randomness.
    """
    spread = z.std(0, correction=0).clamp(min=_SMALLEST_SPREAD)
    wide = Normal(z.mean(0), _EXPLORER_REACH * torch.diag(spread))
    points = explore_independently(log_prob, wide, _EXPLORERS, noise.fold(0))
    model_points = estimate_log_z(model, log_prob, _OWN_SAMPLES, noise.fold(1))[0].x
    times = path_times(model)
    return coverage(model.denoiser, log_prob, log_z, points, model_points, times, noise.fold(2))


@dataclass(frozen=True)
class _Probe:
    """A sampler and its target, from which the excess D of equation (1) is estimated."""

    posterior: Posterior
    log_prob: LogDensity
    log_z: float
    times: Tensor
    paths: int
    var: float

    def excess(self, x: Tensor, paths: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return the excess D (1) of the target over the sampler with its error, ``(b,)`` each."""
        with torch.no_grad():
            target = self.log_prob(x).double() - self.log_z
        density = model_log_density(self.posterior, x, self.times, paths, noise, self.var)
        return target - density.value, density.stderr  # (1)

    def refined_excess(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return the excess D (1) with its error, from more paths where D may be large."""
        value, stderr = self.excess(x, self.paths, noise.fold(0))
        unclear = (value > 2) & (value < 50)
        if bool(unclear.any()):
            value[unclear], stderr[unclear] = self.excess(x[unclear], 8 * self.paths, noise.fold(1))
        return value, stderr


def _missing_fraction(probe: _Probe, suspects: Tensor, c: float, noise: Noise) -> Estimate:
    """Estimate the missing fraction (2) of the mass from Gaussians around suspect points.

    Suspect points come by falling density.
    """
    d = suspects.shape[1]
    radius_squared = d + 4 * math.sqrt(2 * d)  # four standard deviations of a chi-squared law
    places = list[Normal]()
    for x in suspects:
        if len(places) == _PLACES:
            break
        if not any(
            float(place.whiten(x[None]).square().sum()) < radius_squared for place in places
        ):
            chains = run_short_chains(probe.log_prob, x, noise.fold(0, len(places)))
            places.append(wider_normal(chains))
    normals = noise.fold(1).normal((_MISSING_DRAWS, d), suspects.dtype).tensor_split(len(places))
    x = torch.cat([place.map(z) for place, z in zip(places, normals, strict=True)])
    log_densities = torch.stack([place.log_prob(x) for place in places])
    log_g = log_densities.logsumexp(0) - math.log(len(places))
    excess, _ = probe.excess(x, probe.paths, noise.fold(2))
    with torch.no_grad():
        log_ratio = (probe.log_prob(x) - log_g).double() - probe.log_z
    ratio = torch.where(excess > c, log_ratio.clamp(max=_LARGEST_LOG_RATIO).exp(), 0.0)
    m = float(ratio.mean())
    stderr = float(ratio.std()) / math.sqrt(len(ratio))
    return Estimate(m / (1 + m), stderr / (1 + m) ** 2)  # (2)


def explore_independently(
    log_prob: LogDensity, start: Normal, n: int, noise: Noise, levels: int = 12, moves: int = 4
) -> Float[Tensor, "m d"]:  # fmt: skip
    """Find points of high density by annealed Langevin chains that do not interact.

    Each chain goes from ``start`` down the tempered path to the target. No chain is weighted or
    copied, so that a narrow mode of little mass is reached by as many chains as fall towards it.

    Args:
        log_prob: the unnormalised log-density, differentiable.
        start: a law that is wider than the target.
        n: chains; those that end outside the support are left out.
        noise: source of randomness.
        levels: inverse temperatures of the path, evenly spaced in their logarithm.
        moves: Metropolis moves at each, one evaluation of the gradient per move.
    """
    path = GeometricPath(start.log_prob, log_prob)
    size = 0.5
    x = start.map(noise.fold(0).normal((n, len(start.mean)), start.mean.dtype))
    for k in range(levels + levels // 2):
        beta = 10 ** (_COLDEST * (1 - k / levels)) if k < levels else 1.0
        kernel = MALA(size, start.factor, moves)
        x, acceptance = chain_moves(path, 1 - beta, x, kernel, noise.fold(1, k))
        size *= math.exp(2 * (float(acceptance) - _ACCEPTANCE))
    with torch.no_grad():
        return x[torch.isfinite(log_prob(x))]
