"""Mixtures of Gaussians and Student t laws: what tempering starts from, since they can be drawn,
evaluated and fitted.

Component k is ``x = m_k + L_k z sqrt(df_k / chi^2(df_k))`` with a lower triangular ``L_k``; for df
= inf it is Gaussian. With ``delta_k = |L_k^-1 (x - m_k)|^2`` and ``nu = df_k``, its density is

    Gamma((nu + d) / 2) / Gamma(nu / 2) (nu pi)^(-d/2) |L_k|^-1 (1 + delta_k / nu)^(-(nu + d) / 2).  (1)

Gaussian components are fitted by expectation maximisation (Dempster, Laird and Rubin 1977): with
the responsibilities ``r_ik = P(k | x_i)`` of the present mixture, the next one has

    w_k = mean_i r_ik,   m_k = sum_i r_ik x_i / sum_i r_ik,   S_k = sum_i r_ik (x_i - m_k)(x_i - m_k)^T / sum_i r_ik.  (2)
"""

__all__ = ["DefensiveMixture", "Mixture", "fit_mixture"]

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.random.noise import Noise

_MANY = 200  # dimensions


@dataclass(frozen=True, eq=False)
class Mixture:
    """``sum_k w_k t_{df_k}(m_k, L_k L_k^T)``, normalised.

    Args:
        weights: ``(k,)``, positive; divided by their sum.
        means: ``(k, d)``.
        factors: ``(k, d, d)``, lower triangular with a positive diagonal.
        df: ``(k,)``, degrees of freedom; inf for a Gaussian. None: all Gaussian.
    """

    weights: Float[Tensor, " k"]
    means: Float[Tensor, "k d"]
    factors: Float[Tensor, "k d d"]
    df: Float[Tensor, " k"] | None = None

    @property
    def dim(self) -> int:
        """d."""
        return self.means.shape[1]

    @cached_property
    def _inverses(self) -> Tensor:
        eye = torch.eye(self.dim, dtype=self.factors.dtype).expand_as(self.factors)
        return torch.linalg.solve_triangular(self.factors, eye, upper=False)

    @cached_property
    def _log_weights(self) -> Tensor:
        return (self.weights / self.weights.sum()).log()

    @cached_property
    def _freedom(self) -> Tensor:
        return torch.full_like(self.weights, torch.inf) if self.df is None else self.df

    @cached_property
    def _constants(self) -> Tensor:
        """The logarithm of (1) at the mean, ``(k,)``."""
        d, nu = self.dim, self._freedom
        finite = torch.where(nu.isfinite(), nu, 1.0)
        student = (
            torch.lgamma((finite + d) / 2)
            - torch.lgamma(finite / 2)
            - d / 2 * (finite * math.pi).log()
        )
        flat = torch.where(nu.isfinite(), student, -d / 2 * math.log(2 * math.pi))
        return flat - self.factors.diagonal(dim1=1, dim2=2).log().sum(1)

    def components(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """``log w_k + log p_k(x)``."""
        x = x.to(self.means.dtype)
        delta, nu = self._distances(x), self._freedom[:, None]
        finite = torch.where(nu.isfinite(), nu, 1.0)
        shape = torch.where(
            nu.isfinite(), -(finite + self.dim) / 2 * torch.log1p(delta / finite), -delta / 2
        )
        return (shape + (self._constants + self._log_weights)[:, None]).mT  # (1)

    def _distances(self, x: Tensor) -> Tensor:
        """``delta``, ``(k, n)``; in many dimensions one component at a time, those that are
        diagonal without a matrix product."""
        if self.dim <= _MANY:
            return ((x - self.means[:, None]) @ self._inverses.mT).square().sum(2)
        apart = (
            ((x - mean), inverse) for mean, inverse in zip(self.means, self._inverses, strict=True)
        )
        flat = self._diagonal
        return torch.stack(
            [
                ((r * inverse.diagonal()) if flat[j] else r @ inverse.mT).square().sum(1)
                for j, (r, inverse) in enumerate(apart)
            ]
        )

    @cached_property
    def _diagonal(self) -> list[bool]:
        return [not bool(factor.tril(-1).any()) for factor in self.factors]

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The log-density in nats."""
        return self.components(x).logsumexp(1)

    def draw(self, n: int, noise: Noise) -> Float[Tensor, "n d"]:
        """n draws. Every one has this law; together they are stratified: component k is drawn ``n
        w_k`` times, up or down rounded."""
        k = _strata(self._log_weights.exp(), n, noise.fold(0))
        z = noise.fold(1).normal((n, self.dim), self.means.dtype)
        nu = self._freedom[k]
        heavy = torch.where(nu.isfinite(), nu, 1.0)
        gamma = _gamma(heavy / 2, noise.fold(2))
        stretch = torch.where(nu.isfinite(), (heavy / (2 * gamma)).sqrt(), 1.0)
        x = torch.empty_like(z)
        for j in k.unique():
            mine = k == j
            x[mine] = self.means[j] + (z[mine] @ self.factors[j].mT) * stretch[mine, None]
        return x[noise.fold(3).uniform((n,), torch.float64).argsort()]

    def reweighted(self, weights: Tensor) -> "Mixture":
        """The same components with other weights; those of weight 0 are dropped."""
        keep = weights > 0
        return Mixture(weights[keep], self.means[keep], self.factors[keep], self._freedom[keep])

    def gaussian(self) -> "Mixture | None":
        """The Gaussian components alone; None if there are none."""
        kept = torch.where(self._freedom.isinf(), self.weights, 0.0)
        return self.reweighted(kept) if bool((kept > 0).any()) else None

    def residual(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """x less the mean of its likeliest component."""
        return x - self.means[self.components(x).argmax(1)]


@dataclass(frozen=True, eq=False)
class DefensiveMixture:
    """``sum_i share_i law_i``: a law with a share of wider ones, so that its weights stay bounded
    where it is thin.

    Args:
        laws: each with ``log_prob``, ``draw`` and ``residual``; the first is the main one.
        shares: positive, adding up to 1.
    """

    laws: tuple[Any, ...]
    shares: tuple[float, ...]

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The log-density in nats."""
        parts = [
            math.log(share) + law.log_prob(x)
            for law, share in zip(self.laws, self.shares, strict=True)
        ]
        return torch.stack(parts).logsumexp(0)

    def draw(self, n: int, noise: Noise) -> Float[Tensor, "n d"]:
        """n draws; each law gets its share of them, up or down rounded."""
        shares = torch.tensor(self.shares, dtype=torch.float64)
        k = _strata(shares, n, noise.fold(0))
        parts = [
            law.draw(int((k == j).sum()), noise.fold(1, j))
            for j, law in enumerate(self.laws)
            if bool((k == j).any())
        ]
        return torch.cat(parts)[noise.fold(2).uniform((n,), torch.float64).argsort()]

    def residual(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """That of the first law."""
        return self.laws[0].residual(x)


def _strata(weights: Tensor, n: int, noise: Noise) -> Tensor:
    """n indices in ascending order, k of them ``n w_k`` times, up or down rounded; each alone has
    the law w."""
    u = (torch.arange(n, dtype=torch.float64) + noise.uniform((1,), torch.float64)) / n
    return torch.searchsorted(weights.double().cumsum(0), u).clamp(max=len(weights) - 1)


def _gamma(shape: Tensor, noise: Noise) -> Tensor:
    """Gamma(shape, 1) numbers for small half-integer shapes ``m / 2``: sums of m squared normals
    over 2."""
    m = (2 * shape).round().long()
    normals = noise.normal((len(shape), int(m.max())), shape.dtype).square()
    counted = torch.arange(normals.shape[1]) < m[:, None]
    return (normals * counted).sum(1) / 2


def fit_mixture(
    x: Float[Tensor, "n d"], k: int, noise: Noise, iterations: int = 30, means: Tensor | None = None
) -> Mixture:  # fmt: skip
    """A Gaussian mixture of at most k components fitted by (2), started from ``means`` or from
    points far apart.

    Correlations are shrunk by the factor ``N_k / (N_k + d)`` where a component has few points N_k,
    and components of fewer than ``2 + d / 2`` points are dropped.
    """
    means = _far_apart(x, k, noise) if means is None else means.to(x.dtype)
    nearest = torch.cdist(x, means).argmin(1)
    r = torch.nn.functional.one_hot(nearest, len(means)).to(x.dtype)
    law, before = _maximise(x, r), -math.inf
    for _ in range(iterations if k > 1 else 0):
        joint = law.components(x)
        evidence = joint.logsumexp(1)
        law, now = _maximise(x, (joint - evidence[:, None]).exp()), float(evidence.mean())
        if now - before < 1e-3:
            break
        before = now
    return law


def _maximise(x: Tensor, r: Tensor) -> Mixture:
    """The right-hand sides of (2)."""
    d = x.shape[1]
    r = (
        r[:, r.sum(0) >= 2 + d / 2]
        if bool((r.sum(0) >= 2 + d / 2).any())
        else torch.ones_like(r[:, :1])
    )
    count = r.sum(0)
    means = r.mT @ x / count[:, None]
    eye = torch.eye(d, dtype=x.dtype)
    spread = x.var(0).mean().clamp(min=1e-300)
    factors = []
    for k in range(len(count)):
        apart = (x - means[k]) * r[:, k : k + 1].sqrt()
        cov = apart.mT @ apart / count[k]
        cov = cov * (eye + (1 - eye) * count[k] / (count[k] + d)) * (1 + 1 / count[k])
        factors.append(torch.linalg.cholesky(cov + (1e-6 * cov.diagonal() + 1e-14 * spread) * eye))
    return Mixture(count / count.sum(), means, torch.stack(factors))


def _far_apart(x: Tensor, k: int, noise: Noise) -> Tensor:
    """k of the points by k-means++ (Arthur and Vassilvitskii 2007), in units of each coordinate's
    spread."""
    z = x / x.std(0).clamp(min=1e-300)
    u = noise.uniform((k,), torch.float64)
    chosen = [int(u[0] * len(x))]
    distance = (z - z[chosen[0]]).square().sum(1)
    for i in range(1, k):
        cumulated = distance.cumsum(0)
        chosen.append(
            min(int(torch.searchsorted(cumulated, float(u[i]) * float(cumulated[-1]))), len(x) - 1)
        )
        distance = torch.minimum(distance, (z - z[chosen[-1]]).square().sum(1))
    return x[chosen]
