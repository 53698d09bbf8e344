"""Triangular laws: each coordinate given those before it, with a mean and a scale that depend on them.

In standardised coordinates u, with features ``(1, u_<k, u_<k^2)`` and ``(1, u_<k)`` of the coordinates before the k-th,

    u_k = m_k(u_<k) + exp(s_k(u_<k)) z_k,      m_k = B_k . (1, u_<k, u_<k^2),      s_k = D_k . (1, u_<k),     (1)

    log p(u) = sum_k [log p_k(z_k) - s_k(u_<k)],                                                              (2)

where z_k is a mixture of Gaussians on the line. Hierarchical models are of this kind (a scale parameter comes before what it
scales), so are bent and skewed densities and products of whatever has one dimension; such a law goes on in the tails as it began.
B and D maximise the Gaussian likelihood, then the mixtures are fitted to z. The maps are those of Knothe and Rosenblatt.
"""

__all__ = ["Product", "Triangular", "fit_triangular"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.noise import Noise


@dataclass(frozen=True, eq=False)
class Product:
    """Independent coordinates, each a mixture of Gaussians on the line: ``prod_j sum_k w_jk N(x_j; m_jk, s_jk^2)``.

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
    """For each component the mean of the hill it belongs to; hills are apart where the density between falls below a third."""
    means, pieces = law.means.mT, torch.linspace(0, 1, 9, dtype=law.means.dtype)[:, None, None]
    between = means[:-1] + pieces * (means[1:] - means[:-1])  # (9, k - 1, d)
    height = law.components(between.flatten(0, 1)).logsumexp(2).reshape(between.shape)
    apart = height.amin(0) < torch.minimum(height[0], height[-1]) - math.log(3)
    hill = torch.cat([torch.zeros_like(means[:1]), apart.to(means.dtype).cumsum(0)]).mT  # (d, k)
    same = (hill[:, :, None] == hill[:, None]).to(means.dtype) * law.weights[:, None]
    return (same * law.means[:, None]).sum(2) / same.sum(2)


def _fit_product(x: Float[Tensor, "n d"], k: int, iterations: int = 40) -> Product:
    """Mixtures of k Gaussians fitted to each coordinate by expectation maximisation, started from its quantiles.

    Each then gets one more, twice as wide as the whole, with a weight of 0.1, or ``1 / d`` if less: points are missing in tails.
    """
    means = x.quantile((torch.arange(k, dtype=x.dtype) + 0.5) / k, dim=0).mT.contiguous()
    spread = x.std(0).clamp(min=1e-300)[:, None]
    law = Product(torch.full_like(means, 1 / k), means, spread.expand_as(means) * (1.5 / k), means)
    for _ in range(iterations):
        r = torch.softmax(law.components(x), 2)
        count = r.sum(0).clamp(min=1e-3)
        means = torch.einsum("nd,ndk->dk", x, r) / count
        square = torch.einsum("nd,ndk->dk", x.square(), r) / count - means.square()
        law = Product(count / count.sum(1, keepdim=True), means, (square.clamp(min=0) + (0.02 * spread).square()).sqrt(), means)
    order = law.means.argsort(1)
    law = Product(law.weights.gather(1, order), law.means.gather(1, order), law.stds.gather(1, order), means)
    share, middle = min(0.1, 1 / x.shape[1]), x.mean(0)[:, None]
    return Product(
        torch.cat([(1 - share) * law.weights, torch.full_like(middle, share)], 1), torch.cat([law.means, middle], 1),
        torch.cat([law.stds, 2 * spread], 1), torch.cat([_hills(law), middle], 1),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Triangular:
    """The law (2) of ``x = centre + scale u``, with the coordinates of u in the order ``order``.

    Args:
        order: ``(d,)``, a permutation: ``u_k`` is coordinate ``order[k]`` of x.
        centre, scale: ``(d,)``, in the order of x.
        location: B, ``(d, 2 d + 1)``, and
        log_scale: D, ``(d, d + 1)``; what is not before the diagonal is 0.
        limits: ``(2, d)``, between which u is held where it enters s and as a square.
        base: the law of z.
    """

    order: Tensor
    centre: Tensor
    scale: Tensor
    location: Tensor
    log_scale: Tensor
    limits: Tensor
    base: Product

    def _conditional(self, u: Tensor, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """``m`` and ``s`` of (1) for some coordinates."""
        one, held = torch.ones_like(u[:, :1]), torch.minimum(torch.maximum(u, self.limits[0]), self.limits[1])
        m = torch.cat([one, u, held.square()], 1) @ self.location[rows].mT
        return m, torch.cat([one, held], 1) @ self.log_scale[rows].mT

    def _base(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z and s."""
        u = ((x.to(self.centre.dtype) - self.centre) / self.scale)[:, self.order]
        m, s = self._conditional(u)
        return (u - m) * (-s).exp(), s

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The log-density in nats."""
        z, s = self._base(x)
        return (self.base.components(z).logsumexp(2) - s).sum(1) - self.scale.log().sum()  # (2)

    def draw(self, n: int, noise: Noise) -> Float[Tensor, "n d"]:
        """n draws; the z of each coordinate stratified."""
        z = self.base.draw(n, noise)
        u = torch.zeros_like(z)
        for k in range(z.shape[1]):
            m, s = self._conditional(u, slice(k, k + 1))
            u[:, k] = m[:, 0] + s[:, 0].exp() * z[:, k]  # (1)
        x = torch.empty_like(u)
        x[:, self.order] = u
        return self.centre + self.scale * x

    def residual(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """x less the middle of its hill, to first order in z less that of z."""
        z, s = self._base(x)
        nearest = self.base.components(z).argmax(2)
        apart = (z - self.base.hills.gather(1, nearest.mT).mT) * s.exp()
        d = z.shape[1]
        linear = torch.eye(d, dtype=z.dtype) - self.location[:, 1 : d + 1]
        u = torch.linalg.solve_triangular(linear, apart.mT, upper=False).mT
        out = torch.empty_like(u)
        out[:, self.order] = u
        return out * self.scale


def fit_triangular(x: Float[Tensor, "n d"], order: Tensor, k: int = 8, iterations: int = 60) -> Triangular:
    """The law fitted to points: B and D by limited-memory BFGS from the linear regression, then k Gaussians for each z."""
    n, d = x.shape
    centre, scale = x.mean(0), x.std(0).clamp(min=1e-300)
    u = ((x - centre) / scale)[:, order]
    one = torch.ones_like(u[:, :1])
    features, below = torch.cat([one, u, u.square()], 1), torch.tril(torch.ones(d, d, dtype=x.dtype), -1)
    mask = torch.cat([torch.ones_like(below[:, :1]), below, below], 1)
    ridge = torch.cat([torch.zeros(1, dtype=x.dtype), torch.full((2 * d,), 1e-3, dtype=x.dtype)])
    location = torch.zeros_like(mask)
    gram, cross = features.mT @ features / n + torch.diag(ridge), features.mT @ u / n
    for j in range(d):
        used = mask[j].nonzero()[:, 0]
        location[j, used] = torch.linalg.solve(gram[used][:, used], cross[used, j])
    rest = (u - features @ location.mT).std(0).clamp(min=1e-8)
    log_scale = torch.zeros(d, d + 1, dtype=x.dtype)
    log_scale[:, 0] = rest.log()
    location, log_scale = _likeliest(u, features, location, log_scale, mask, iterations)
    z = (u - features @ location.mT) * (-features[:, : d + 1] @ log_scale.mT).exp()
    low, high = u.amin(0), u.amax(0)
    limits = torch.stack([low - (high - low) / 2, high + (high - low) / 2])
    return Triangular(order, centre, scale, location, log_scale, limits, _fit_product(z, k))


def _likeliest(
    u: Tensor, features: Tensor, location: Tensor, log_scale: Tensor, mask: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """B and D that maximise the Gaussian likelihood of (1), in turn: D by L-BFGS, B by least squares with weights ``exp(-2 s)``."""
    d = u.shape[1]
    for _ in range(4):
        log_scale = _scales(u - features @ location.mT, features[:, : d + 1], log_scale, mask[:, : d + 1], iterations // 2)
        weights = (-2 * features[:, : d + 1] @ log_scale.mT).exp()
        location = torch.zeros_like(location)
        for j in range(d):
            used = mask[j].nonzero()[:, 0]
            weighted = features[:, used] * (weights[:, j : j + 1] / weights[:, j].sum())
            gram = weighted.mT @ features[:, used]
            ridge = torch.diag(1e-6 + 1e-4 * gram.diagonal())
            location[j, used] = torch.linalg.solve(gram + ridge, weighted.mT @ u[:, j])
    return location, _scales(u - features @ location.mT, features[:, : d + 1], log_scale, mask[:, : d + 1], iterations)


def _scales(resid: Tensor, features: Tensor, start: Tensor, mask: Tensor, iterations: int) -> Tensor:
    """D for given residuals, with a small ridge on all but the constants."""
    square = resid.square()
    with torch.enable_grad():
        slopes = start.clone().requires_grad_()
        optimiser = torch.optim.LBFGS([slopes], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            s = features @ (slopes * mask).mT
            value = (s + square * (-2 * s).exp() / 2).mean(0).sum() + 1e-3 * slopes[:, 1:].square().sum()
            value.backward()
            return value

        optimiser.step(loss)
    return slopes.detach() * mask
