"""Triangular laws: the map of `ornstein.models.codecs.triangular` from independent coordinates,
fitted to points.

With ``x = T(z)`` that map, s its log-scales and z of density ``prod_k p_k``, each a mixture of
Gaussians on the line,

    log p(x) = sum_k [log p_k(z_k) - s_k] - sum_j log factor_j.                                  (1)

Hierarchical models are of this kind (a scale parameter comes before what it scales), so are bent
and skewed densities and products of whatever has one dimension; such a law goes on in the tails as
it began. The map maximises the Gaussian likelihood, then the mixtures are fitted to z.
"""

__all__ = ["Product", "Triangular", "fit_triangular", "independent", "with_mixtures", "with_tails"]

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.random.noise import Noise
from ornstein.models.codecs.triangular import TriangularCodec

_POINTS = 2048  # to which the mixtures of z are fitted, at most
_TURNS = 2  # of fitting scales and locations


@dataclass(frozen=True, eq=False)
class Product:
    """Independent coordinates, each a mixture of Gaussians on the line: ``prod_j sum_k w_jk N(x_j;
    m_jk, s_jk^2)``.

    Args:
        weights, means, stds: ``(d, k)``; the weights of a row add up to 1.
        hills: ``(d, k)``, for each component the mean of the hill it belongs to.
    """

    weights: Float[Tensor, "d k"]
    means: Float[Tensor, "d k"]
    stds: Float[Tensor, "d k"]
    hills: Float[Tensor, "d k"]

    def components(self, x: Tensor) -> Tensor:
        """``log w_jk + log N(x_j; m_jk, s_jk^2)``, ``(n, d, k)``."""
        z = (x[:, :, None] - self.means) / self.stds
        return (self.weights / self.stds).log() - z.square() / 2 - math.log(2 * math.pi) / 2

    def draw(self, n: int, noise: Noise) -> Float[Tensor, "n d"]:
        """n draws; in each coordinate stratified."""
        d, k = self.means.shape
        order = noise.fold(0).uniform((n, d), torch.float64).argsort(0)
        u = (order + noise.fold(1).uniform((n, d), torch.float64)) / n
        chosen = torch.searchsorted(self.weights.cumsum(1), u.mT.contiguous()).clamp(max=k - 1)
        z = noise.fold(2).normal((n, d), self.means.dtype)
        return (self.means.gather(1, chosen) + self.stds.gather(1, chosen) * z.mT).mT.contiguous()


def _hills(law: Product) -> Float[Tensor, "d k"]:
    """For each component the mean of the hill it belongs to; hills are apart where the density
    between falls below a third."""
    means, pieces = law.means.mT, torch.linspace(0, 1, 9, dtype=law.means.dtype)[:, None, None]
    between = means[:-1] + pieces * (means[1:] - means[:-1])  # (9, k - 1, d)
    height = law.components(between.flatten(0, 1)).logsumexp(2).reshape(between.shape)
    apart = height.amin(0) < torch.minimum(height[0], height[-1]) - math.log(3)
    hill = torch.cat([torch.zeros_like(means[:1]), apart.to(means.dtype).cumsum(0)]).mT  # (d, k)
    same = (hill[:, :, None] == hill[:, None]).to(means.dtype) * law.weights[:, None]
    return (same * law.means[:, None]).sum(2) / same.sum(2)


def _fit_product(x: Float[Tensor, "n d"], k: int, iterations: int = 40) -> Product:
    """Mixtures of k Gaussians fitted to each coordinate by expectation maximisation, started from
    its quantiles."""
    means = x.quantile((torch.arange(k, dtype=x.dtype) + 0.5) / k, dim=0).mT.contiguous()
    spread = x.std(0).clamp(min=1e-300)[:, None]
    law, before = (
        Product(torch.full_like(means, 1 / k), means, spread.expand_as(means) * (1.5 / k), means),
        -math.inf,
    )
    for _ in range(iterations):
        joint = law.components(x)
        evidence = joint.logsumexp(2, keepdim=True)
        r, now = (joint - evidence).exp(), float(evidence.mean(0).sum())
        if now - before < 1e-3:
            break
        before = now
        count = r.sum(0).clamp(min=1e-3)
        means = torch.einsum("nd,ndk->dk", x, r) / count
        square = torch.einsum("nd,ndk->dk", x.square(), r) / count - means.square()
        law = Product(
            count / count.sum(1, keepdim=True),
            means,
            (square.clamp(min=0) + (0.02 * spread).square()).sqrt(),
            means,
        )
    order = law.means.argsort(1)
    law = Product(
        law.weights.gather(1, order), law.means.gather(1, order), law.stds.gather(1, order), means
    )
    return replace(law, hills=_hills(law))


@dataclass(frozen=True, eq=False)
class Triangular:
    """The law (1).

    Args:
        bend: the map.
        base: the law of z.
    """

    bend: TriangularCodec
    base: Product

    def _base(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z and s."""
        return self.bend.straightened(x.to(self.bend.shift.dtype))

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The log-density in nats."""
        z, s = self._base(x)
        return (self.base.components(z).logsumexp(2) - s).sum(
            1
        ) - self.bend.factor.log().sum()  # (1)

    def draw(self, n: int, noise: Noise) -> Float[Tensor, "n d"]:
        """n draws; the z of each coordinate stratified."""
        return self.bend.decode(self.base.draw(n, noise))

    def residual(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """x less the middle of its hill, to first order in z less that of z."""
        z, s = self._base(x)
        nearest = self.base.components(z).argmax(2)
        apart = (z - self.base.hills.gather(1, nearest.mT).mT) * s.exp()
        d = z.shape[1]
        linear = torch.eye(d, dtype=z.dtype) - self.bend.location[:, 1 : d + 1]
        u = torch.linalg.solve_triangular(linear, apart.mT, upper=False).mT
        return u[:, self.bend.order.argsort()] * self.bend.factor


def fit_triangular(
    x: Float[Tensor, "n d"], order: Tensor, ridge: float = 0.0, iterations: int = 30
) -> Triangular:
    """The law of a Gaussian bent fitted to points: B and D by limited-memory BFGS from the linear
    regression.

    ``ridge`` times their squares, per point, is the price of what bends it: where there are few
    points per coordinate.
    """
    n, d = x.shape
    centre, scale = x.mean(0), x.std(0).clamp(min=1e-300)
    u = ((x - centre) / scale)[:, order]
    one = torch.ones_like(u[:, :1])
    features, below = (
        torch.cat([one, u, u.square()], 1),
        torch.tril(torch.ones(d, d, dtype=x.dtype), -1),
    )
    mask = torch.cat([torch.ones_like(below[:, :1]), below, below], 1)
    prior = torch.cat([torch.zeros(1, dtype=x.dtype), torch.full((2 * d,), 1e-3, dtype=x.dtype)])
    location = torch.zeros_like(mask)
    gram, cross = features.mT @ features / n + torch.diag(prior), features.mT @ u / n
    for j in range(d):
        used = mask[j].nonzero()[:, 0]
        location[j, used] = torch.linalg.solve(gram[used][:, used], cross[used, j])
    rest = (u - features @ location.mT).std(0).clamp(min=1e-8)
    log_scale = torch.zeros(d, d + 1, dtype=x.dtype)
    log_scale[:, 0] = rest.log()
    location, log_scale = _likeliest(u, features, location, log_scale, mask, ridge, iterations)
    low, high = u.amin(0), u.amax(0)
    limits = torch.stack([low - (high - low) / 2, high + (high - low) / 2])
    return Triangular(
        TriangularCodec(centre, scale, order, location, log_scale, limits), _standard(x)
    )


def independent(x: Float[Tensor, "n d"]) -> Triangular:
    """The law of independent normal coordinates with the moments of points: a map that does not
    bend."""
    d, reach = x.shape[1], torch.full_like(x[0], torch.inf)
    none = torch.zeros(d, 2 * d + 1, dtype=x.dtype)
    limits = torch.stack([-reach, reach])
    return Triangular(
        TriangularCodec(
            x.mean(0), x.std(0).clamp(min=1e-300), torch.arange(d), none, none[:, : d + 1], limits
        ),
        _standard(x),
    )


def _standard(x: Tensor) -> Product:
    one = torch.ones(x.shape[1], 1, dtype=x.dtype)
    return Product(one, 0 * one, one, 0 * one)


def with_mixtures(law: Triangular, x: Float[Tensor, "n d"], k: int = 8) -> Triangular:
    """The same map with a mixture of k Gaussians for each z, fitted to points."""
    return replace(law, base=_fit_product(law.bend.encode(x[:_POINTS]), k))


def with_tails(law: Triangular, share: float, std: float = 2.0) -> Triangular:
    """The same with a share of N(0, std^2) in the law of each z: points are missing in the
    tails."""
    base, zero = law.base, torch.zeros_like(law.base.means[:, :1])
    parts = (
        ((1 - share) * base.weights, zero + share),
        (base.means, zero),
        (base.stds, zero + std),
        (base.hills, zero),
    )
    return replace(law, base=Product(*(torch.cat(pair, 1) for pair in parts)))


def _likeliest(
    u: Tensor,
    features: Tensor,
    location: Tensor,
    log_scale: Tensor,
    mask: Tensor,
    ridge: float,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """B and D that maximise the Gaussian likelihood, in turn: D by L-BFGS, B by least squares with
    weights ``exp(-2 s)``."""
    d = u.shape[1]
    for _ in range(_TURNS):
        log_scale = _scales(
            u - features @ location.mT,
            features[:, : d + 1],
            log_scale,
            mask[:, : d + 1],
            ridge,
            iterations // 2,
        )
        weights = (-2 * features[:, : d + 1] @ log_scale.mT).exp()
        location = torch.zeros_like(location)
        for j in range(d):
            used = mask[j].nonzero()[:, 0]
            weighted = features[:, used] * (weights[:, j : j + 1] / weights[:, j].sum())
            gram = weighted.mT @ features[:, used]
            price = 1e-6 + 1e-4 * gram.diagonal() + ridge * (used > d)
            location[j, used] = torch.linalg.solve(gram + torch.diag(price), weighted.mT @ u[:, j])
    return location, _scales(
        u - features @ location.mT,
        features[:, : d + 1],
        log_scale,
        mask[:, : d + 1],
        ridge,
        iterations,
    )


def _scales(
    resid: Tensor, features: Tensor, start: Tensor, mask: Tensor, ridge: float, iterations: int
) -> Tensor:
    """D for given residuals, with a ridge on all but the constants."""
    square = resid.square()
    with torch.enable_grad():
        slopes = start.clone().requires_grad_()
        optimiser = torch.optim.LBFGS(
            [slopes], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimiser.zero_grad()
            s = features @ (slopes * mask).mT
            value = (s + square * (-2 * s).exp() / 2).mean(0).sum() + (1e-3 + ridge) * slopes[
                :, 1:
            ].square().sum()
            value.backward()
            return value

        optimiser.step(loss)
    return slopes.detach() * mask
