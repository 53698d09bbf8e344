"""Does a sampler reach all of the mass? A probe that needs no ground truth, only points from
elsewhere.

Weights of a sampler's own paths say nothing of where it never goes: a sampler that fell into one
mode of nine has an effective sample size near 1. But it has a density of its own, which can be
estimated anywhere. Noising paths from a point x with the exact kernels q and the generating kernels
p give

    p(x) = E_q[ p(path, x) / q(path | x) ]  ~  mean_k w_k,      D(x) = log rho(x) - log Z - log p(x),  (1)

and D = 0 wherever the sampler is right. Points come from an explorer that shares nothing with the
sampler (optimiser runs, tempered chains); their law does not matter. Where D exceeds what it is at
the sampler's own samples and a threshold c (a sample that came from there would have the weight
e^D), mass is missing. How much: with a mixture g of Gaussians fitted by short Markov chains around
the points,

    M = E_g[ rho / g  1{D > c} ],      missing = M / (Z + M),                                    (2)

where Z is the sampler's own estimate: its paths, whose density is less than ``e^-c`` of the right
one there, hardly ever land in what M counts. `Coverage.missing` is the statistic and 1 % the
decision. What no explorer point came near stays unseen.
"""

__all__ = ["Coverage", "ModelDensity", "coverage", "model_log_density", "scout"]

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import GeometricPath, LogDensity
from ornstein.core.mcmc.mala import MALA
from ornstein.core.numerics.estimate import Estimate
from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.paths.measure import denoising_paths
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.density.smc.short_chains import around, move, walk
from ornstein.errors import OrnsteinError

_ROWS = 8192  # of one batch of noising paths
_PLACES = 8  # points around which mass is estimated


class ModelDensity(NamedTuple):
    """``log p(x)`` of a sampler with its standard error (delta method) and effective number of
    paths, each ``(b,)``."""

    value: Tensor
    stderr: Tensor
    ess: Tensor


def model_log_density(
    posterior: Posterior,
    x: Float[Tensor, "b *event"],
    times: Float[Tensor, " k"],
    paths: int,
    noise: Noise,
    var: float = 1.0,
) -> ModelDensity:
    """The density (1) of the chain that generates along ``times``, by ``paths`` noising paths from
    each point.

    Args:
        posterior: the sampler.
        x: points in its own space.
        times: the grid that it generates on, from T down to 0.
        paths: for each point, at least 2.
        noise: source of randomness.
        var: variance of the data that the start law assumes.
    """
    if paths < 2:
        raise OrnsteinError(f"model_log_density(paths={paths}): a standard error needs at least 2")
    each = max(1, min(paths, _ROWS // max(len(x), 1)))
    parts = []
    with torch.no_grad():
        for k in range(0, paths, each):
            copies = min(each, paths - k)
            rows = x.repeat(copies, *[1] * (x.ndim - 1))
            measure = denoising_paths(
                posterior, lambda end: end.new_zeros(len(end)), times, var, like=rows
            )
            parts.append(-measure.back(rows, noise.fold(k)).double().reshape(copies, len(x)))
    log_w = torch.cat(parts)
    share = log_w.softmax(0).nan_to_num(1 / paths)
    ess = 1 / share.square().sum(0)
    return ModelDensity(
        log_w.logsumexp(0) - math.log(paths),
        ((1 / ess - 1 / paths) * paths / (paths - 1)).clamp(min=0).sqrt(),
        ess,
    )


@dataclass(frozen=True)
class Coverage:
    """What the probe found.

    Attributes:
        excess: D (1) at the explorer's points, nats, ``(m,)``; -inf outside the support.
        stderr: of the excess.
        threshold: c, nats.
        missing: estimated fraction (2) of the mass that the sampler does not reach, with its
            standard error.
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
        return self.missing.value > 0.01

    def sentence(self, where: Tensor | None = None, names: tuple[str, ...] = ()) -> str:
        """What is missing and where, for people; empty if nothing is.

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
        share, error = 100 * self.missing.value, 100 * self.missing.stderr
        return (
            f"the learned sampler misses about {share:.2g} % (+- {error:.1g}) of the mass, around"
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
    """Probe a sampler at an explorer's points, in the coordinates of the sampler.

    Args:
        posterior: the sampler, frozen.
        log_prob: the unnormalised log-density in those coordinates, differentiable.
        log_z: its normaliser as the sampler estimates it.
        points: from an independent explorer, a hundred or more; see `scout`.
        own: samples of the sampler, 50 or more: what the probe says of them is taken for its own
            error.
        times: the grid that it generates on, from T down to 0.
        noise: source of randomness.
        paths: noising paths for each point; eight times as many where the first make a point
            suspicious.
        threshold: least c, nats.
        var: variance of the data that the start law assumes.
    """
    probe = _Probe(posterior, log_prob, log_z, times, paths, var)
    usual, _ = probe.checked(own, noise.fold(0))
    usual = usual[usual.isfinite()]
    c = threshold + (max(0.0, float(usual.quantile(0.95))) if len(usual) else 0.0)
    excess, stderr = probe.checked(points, noise.fold(1))
    suspects = points[excess - 3 * stderr > c]
    missing, where = Estimate(0.0, 0.0), None
    if len(suspects):
        with torch.no_grad():
            suspects = suspects[log_prob(suspects).argsort(descending=True)]
        missing, where = _missing(probe, suspects, c, noise.fold(2)), suspects[0]
    return Coverage(excess, stderr, c, missing, where)


@dataclass(frozen=True)
class _Probe:
    """Everything about the sampler that D (1) needs."""

    posterior: Posterior
    log_prob: LogDensity
    log_z: float
    times: Tensor
    paths: int
    var: float

    def excess(self, x: Tensor, paths: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """D and its standard error, ``(b,)`` each."""
        with torch.no_grad():
            target = self.log_prob(x).double() - self.log_z
        density = model_log_density(self.posterior, x, self.times, paths, noise, self.var)
        return target - density.value, density.stderr

    def checked(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """The same, with eight times the paths where the first leave open whether D is large."""
        value, stderr = self.excess(x, self.paths, noise.fold(0))
        again = (value > 2) & (value < 50)
        if bool(again.any()):
            value[again], stderr[again] = self.excess(x[again], 8 * self.paths, noise.fold(1))
        return value, stderr


def _missing(probe: _Probe, suspects: Tensor, c: float, noise: Noise, n: int = 768) -> Estimate:
    """The fraction (2), by draws from equally weighted Gaussians around the suspects, which come by
    falling density."""
    d, places = suspects.shape[1], list[Normal]()
    for x in suspects:
        if len(places) == _PLACES:
            break
        if not any(
            float(place.whiten(x[None]).square().sum()) < d + 4 * math.sqrt(2 * d)
            for place in places
        ):
            places.append(around(walk(probe.log_prob, x, noise.fold(0, len(places)))))
    draws = noise.fold(1).normal((n, d), suspects.dtype).tensor_split(len(places))
    x = torch.cat([place.map(z) for place, z in zip(places, draws, strict=True)])
    log_g = torch.stack([place.log_prob(x) for place in places]).logsumexp(0) - math.log(
        len(places)
    )
    excess, _ = probe.excess(x, probe.paths, noise.fold(2))
    with torch.no_grad():
        ratio = (probe.log_prob(x) - log_g).double() - probe.log_z
    share = torch.where(excess > c, ratio.clamp(max=600).exp(), 0.0)
    m, error = float(share.mean()), float(share.std()) / math.sqrt(len(share))  # (2)
    return Estimate(m / (1 + m), error / (1 + m) ** 2)


def scout(
    log_prob: LogDensity, start: Normal, n: int, noise: Noise, levels: int = 12, moves: int = 4
) -> Float[Tensor, "m d"]:  # fmt: skip
    """Points where the density is high, by chains that know nothing of each other: from ``start``
    down the tempered path to the target.

    No chain is weighed or copied, so that narrow modes of little mass are found by as many chains
    as fall towards them.

    Args:
        log_prob: the unnormalised log-density, differentiable.
        start: a law that is wider than the target.
        n: chains; those that end outside the support are left out.
        noise: source of randomness.
        levels: of the path, even in the log of the temperature.
        moves: Metropolis moves at each, one evaluation of the gradient per move.
    """
    path, size = GeometricPath(start.log_prob, log_prob), 0.5
    x = start.map(noise.fold(0).normal((n, len(start.mean)), start.mean.dtype))
    for k in range(levels + levels // 2):
        beta = 10 ** (-4 * (1 - k / levels)) if k < levels else 1.0
        x, rate = move(path, x, 1 - beta, MALA(size, start.factor, moves), noise.fold(1, k))
        size *= math.exp(2 * (rate - 0.57))
    with torch.no_grad():
        return x[torch.isfinite(log_prob(x))]
