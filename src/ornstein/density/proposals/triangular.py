"""Triangular maps fitted to points: proposals for curved, skewed and hierarchical densities.

A triangular map gives each coordinate a location and a scale that depend on the coordinates before
it, so a scale parameter may come before what it scales, as in a funnel. The map itself is
`ornstein.models.codecs.triangular.TriangularCodec`. With ``x = T(z)``, s its log-scales and z of
density ``prod_k p_k``, each ``p_k`` a mixture of Gaussians on the line, the density of x is

    log p(x) = sum_k [log p_k(z_k) - s_k] - sum_j log factor_j.                                  (1)

The map is fitted by maximum likelihood for a standard normal z; then the mixtures are fitted to the
z of the points.
"""

__all__ = ["Product", "Triangular", "fit_triangular", "independent", "with_mixtures", "with_tails"]

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.tables import pick
from ornstein.core.random.noise import Noise
from ornstein.models.codecs.triangular import TriangularCodec

_MIXTURE_POINTS = 2048  # points to which the mixtures of z are fitted
_ALTERNATIONS = 2  # fits of scales and locations in turn
_VALLEY = math.log(3)  # nats by which a density falls between two modes of their own
_VALLEY_POINTS = 9  # points between neighbouring means at which the density is compared
_MIN_RISE = 1e-3  # nats by which an iteration must raise the likelihood
_MIN_STD = 0.02  # smallest standard deviation of a component, in those of the coordinate
_TINY = 1e-300  # smallest standard deviation of a coordinate
_PRIOR = 1e-3  # ridge of all coefficients but the constants

# keys of random numbers of a draw
_ORDER, _COMPONENT, _NORMAL = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Product:
    """Independent coordinates with Gaussian mixtures ``prod_j sum_k w_jk N(x_j; m_jk, s_jk^2)``.

    Args:
        weights: ``(d, k)``; the weights of a row add up to 1.
        means: ``(d, k)``, means of the components.
        stds: ``(d, k)``, standard deviations of the components.
        mode_means: ``(d, k)``, for each component the mean of the mode that it belongs to.
    """

    weights: Float[Tensor, "d k"]
    means: Float[Tensor, "d k"]
    stds: Float[Tensor, "d k"]
    mode_means: Float[Tensor, "d k"]

    def components(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d k"]:
        """Return ``log w_jk + log N(x_j; m_jk, s_jk^2)`` of every component, in nats."""
        z = (x[:, :, None] - self.means) / self.stds
        return (self.weights / self.stds).log() - z.square() / 2 - math.log(2 * math.pi) / 2

    def draw(self, n: int, noise: Noise) -> Float[Tensor, "n d"]:
        """Return n draws that are stratified in each coordinate."""
        d = len(self.means)
        order = noise.fold(_ORDER).uniform((n, d), torch.float64).argsort(0)
        u = (order + noise.fold(_COMPONENT).uniform((n, d), torch.float64)) / n
        index = pick(self.weights, u.mT.contiguous())
        z = noise.fold(_NORMAL).normal((n, d), self.means.dtype)
        return (self.means.gather(1, index) + self.stds.gather(1, index) * z.mT).mT.contiguous()


def _mode_means(law: Product) -> Float[Tensor, "d k"]:
    """Return for each index the mean of all components that share its mode.

    Neighbouring components belong to different modes if the density between their means falls
    below a third of both.
    """
    means = law.means.mT
    positions = torch.linspace(0, 1, _VALLEY_POINTS, dtype=law.means.dtype)[:, None, None]
    between = means[:-1] + positions * (means[1:] - means[:-1])  # (9, k - 1, d)
    height = law.components(between.flatten(0, 1)).logsumexp(2).reshape(between.shape)
    separate = height.amin(0) < torch.minimum(height[0], height[-1]) - _VALLEY
    mode = torch.cat([torch.zeros_like(means[:1]), separate.to(means.dtype).cumsum(0)]).mT  # (d, k)
    same = (mode[:, :, None] == mode[:, None]).to(means.dtype) * law.weights[:, None]
    return (same * law.means[:, None]).sum(2) / same.sum(2)


def _fit_product(x: Float[Tensor, "n d"], k: int, iterations: int = 40) -> Product:
    """Fit k Gaussians to each coordinate by expectation maximisation, started at its quantiles."""
    means = x.quantile((torch.arange(k, dtype=x.dtype) + 0.5) / k, dim=0).mT.contiguous()
    spread = x.std(0).clamp(min=_TINY)[:, None]
    even = torch.full_like(means, 1 / k)
    law = Product(even, means, spread.expand_as(means) * (1.5 / k), means)
    before = -math.inf
    for _ in range(iterations):
        joint = law.components(x)
        evidence = joint.logsumexp(2, keepdim=True)
        r = (joint - evidence).exp()
        log_likelihood = float(evidence.mean(0).sum())
        if log_likelihood - before < _MIN_RISE:
            break
        before = log_likelihood
        count = r.sum(0).clamp(min=1e-3)
        means = torch.einsum("nd,ndk->dk", x, r) / count
        variance = torch.einsum("nd,ndk->dk", x.square(), r) / count - means.square()
        stds = (variance.clamp(min=0) + (_MIN_STD * spread).square()).sqrt()
        law = Product(count / count.sum(1, keepdim=True), means, stds, means)
    order = law.means.argsort(1)
    weights, means, stds = (part.gather(1, order) for part in (law.weights, law.means, law.stds))
    law = Product(weights, means, stds, means)
    return replace(law, mode_means=_mode_means(law))


@dataclass(frozen=True, eq=False)
class Triangular:
    """The distribution of ``x = T(z)`` for a triangular map T and independent coordinates z.

    Args:
        codec: the map T.
        base: the distribution of z.
    """

    codec: TriangularCodec
    base: Product

    def _base(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the base coordinates z of points x, and the log-scales s of the map at x."""
        return self.codec.to_base(x.to(self.codec.shift.dtype))

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the log-density at every point, in nats."""
        z, s = self._base(x)
        log_base = (self.base.components(z).logsumexp(2) - s).sum(1)
        return log_base - self.codec.factor.log().sum()  # (1)

    def draw(self, n: int, noise: Noise) -> Float[Tensor, "n d"]:
        """Return n draws, for which each coordinate of z is stratified."""
        return self.codec.decode(self.base.draw(n, noise))

    def residual(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return x minus the centre of the mode that x belongs to, to first order in z."""
        z, s = self._base(x)
        nearest = self.base.components(z).argmax(2)
        deviation = (z - self.base.mode_means.gather(1, nearest.mT).mT) * s.exp()
        d = z.shape[1]
        linear = torch.eye(d, dtype=z.dtype) - self.codec.location[:, 1 : d + 1]
        u = torch.linalg.solve_triangular(linear, deviation.mT, upper=False).mT
        return u[:, self.codec.order.argsort()] * self.codec.factor


def fit_triangular(
    x: Float[Tensor, "n d"], order: Tensor, ridge: float = 0.0, iterations: int = 30
) -> Triangular:
    """Fit a triangular map of a standard normal to points, by maximum likelihood.

    The location of each coordinate is linear and quadratic in the coordinates before it, its
    log-scale is linear in them. The fit starts from linear regression.

    Args:
        x: ``(n, d)``, the points.
        order: ``(d,)``, the order of the coordinates, for instance ``torch.arange(d)``.
        ridge: penalty per point of the squared nonlinear coefficients; positive where there are few
            points per coordinate.
        iterations: of L-BFGS for the log-scales.
    """
    n, d = x.shape
    centre = x.mean(0)
    scale = x.std(0).clamp(min=_TINY)
    u = ((x - centre) / scale)[:, order]
    features = torch.cat([torch.ones_like(u[:, :1]), u, u.square()], 1)
    below = torch.tril(torch.ones(d, d, dtype=x.dtype), -1)
    mask = torch.cat([torch.ones_like(below[:, :1]), below, below], 1)
    prior = torch.cat([torch.zeros(1, dtype=x.dtype), torch.full((2 * d,), _PRIOR, dtype=x.dtype)])
    location = torch.zeros_like(mask)
    gram = features.mT @ features / n + torch.diag(prior)
    cross = features.mT @ u / n
    for j in range(d):
        used = mask[j].nonzero()[:, 0]
        location[j, used] = torch.linalg.solve(gram[used][:, used], cross[used, j])
    residual_std = (u - features @ location.mT).std(0).clamp(min=1e-8)
    log_scale = torch.zeros(d, d + 1, dtype=x.dtype)
    log_scale[:, 0] = residual_std.log()
    location, log_scale = _maximum_likelihood(
        u, features, location, log_scale, mask, ridge, iterations
    )
    low, high = u.amin(0), u.amax(0)
    limits = torch.stack([low - (high - low) / 2, high + (high - low) / 2])
    codec = TriangularCodec(centre, scale, order, location, log_scale, limits)
    return Triangular(codec, _standard_normal(x))


def independent(x: Float[Tensor, "n d"]) -> Triangular:
    """Return independent normal coordinates with the means and variances of the points."""
    d = x.shape[1]
    infinite = torch.full_like(x[0], torch.inf)
    zero = torch.zeros(d, 2 * d + 1, dtype=x.dtype)
    limits = torch.stack([-infinite, infinite])
    std = x.std(0).clamp(min=_TINY)
    codec = TriangularCodec(x.mean(0), std, torch.arange(d), zero, zero[:, : d + 1], limits)
    return Triangular(codec, _standard_normal(x))


def _standard_normal(x: Tensor) -> Product:
    """Return independent standard normal coordinates, as many as the points have."""
    one = torch.ones(x.shape[1], 1, dtype=x.dtype)
    return Product(one, 0 * one, one, 0 * one)


def with_mixtures(law: Triangular, x: Float[Tensor, "n d"], k: int = 8) -> Triangular:
    """Replace the base of a map by a mixture of k Gaussians for each z, fitted to points."""
    return replace(law, base=_fit_product(law.codec.encode(x[:_MIXTURE_POINTS]), k))


def with_tails(law: Triangular, weight: float, std: float = 2.0) -> Triangular:
    """Widen the tails of a map's base, since fits to a small number of points miss tails.

    Args:
        law: the distribution.
        weight: weight of N(0, std^2) in the distribution of each z.
        std: its standard deviation.
    """
    base = law.base
    zero = torch.zeros_like(law.base.means[:, :1])
    pairs = (
        ((1 - weight) * base.weights, zero + weight),
        (base.means, zero),
        (base.stds, zero + std),
        (base.mode_means, zero),
    )
    return replace(law, base=Product(*(torch.cat(pair, 1) for pair in pairs)))


def _maximum_likelihood(
    u: Tensor,
    features: Tensor,
    location: Tensor,
    log_scale: Tensor,
    mask: Tensor,
    ridge: float,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """Maximise the likelihood of a triangular map over log-scales s and locations in turn.

    The log-scales are found by L-BFGS, the locations by least squares with weights ``exp(-2 s)``.
    """
    d = u.shape[1]
    linear = features[:, : d + 1]

    def scales(iterations: int) -> Tensor:
        residual = u - features @ location.mT
        return _fit_scales(residual, linear, log_scale, mask[:, : d + 1], ridge, iterations)

    for _ in range(_ALTERNATIONS):
        log_scale = scales(iterations // 2)
        weights = (-2 * linear @ log_scale.mT).exp()
        location = torch.zeros_like(location)
        for j in range(d):
            used = mask[j].nonzero()[:, 0]
            weighted = features[:, used] * (weights[:, j : j + 1] / weights[:, j].sum())
            gram = weighted.mT @ features[:, used]
            penalty = 1e-6 + 1e-4 * gram.diagonal() + ridge * (used > d)
            cross = weighted.mT @ u[:, j]
            location[j, used] = torch.linalg.solve(gram + torch.diag(penalty), cross)
    return location, scales(iterations)


def _fit_scales(
    residual: Tensor, features: Tensor, start: Tensor, mask: Tensor, ridge: float, iterations: int
) -> Tensor:
    """Maximise the likelihood over the log-scales s for fixed residuals, with a ridge penalty.

    The constants of the log-scales are not penalised.
    """
    square = residual.square()
    with torch.enable_grad():
        slopes = start.clone().requires_grad_()
        optimiser = torch.optim.LBFGS(
            [slopes], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimiser.zero_grad()
            s = features @ (slopes * mask).mT
            likelihood = (s + square * (-2 * s).exp() / 2).mean(0).sum()
            value = likelihood + (_PRIOR + ridge) * slopes[:, 1:].square().sum()
            value.backward()
            return value

        optimiser.step(loss)
    return slopes.detach() * mask
