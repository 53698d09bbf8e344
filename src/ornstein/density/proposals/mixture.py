"""Mixtures of Gaussian and Student t distributions: start distributions and proposals.

Tempering and importance sampling need distributions that can be drawn, evaluated and fitted.
Component k of the mixtures below is ``x = m_k + L_k z sqrt(nu / chi^2(nu))`` with a lower
triangular ``L_k`` and ``nu = df_k`` degrees of freedom; for df = inf it is Gaussian. With
``delta_k = |L_k^-1 (x - m_k)|^2`` the density of a component is

    Gamma((nu + d) / 2) / Gamma(nu / 2) (nu pi)^(-d/2) |L_k|^-1
        (1 + delta_k / nu)^(-(nu + d) / 2).                                                      (1)

Gaussian components are fitted by expectation maximisation (Dempster, Laird and Rubin 1977). With
the responsibilities ``r_ik = P(k | x_i)`` of the present mixture, the next one has

    w_k = mean_i r_ik,   m_k = sum_i r_ik x_i / sum_i r_ik,
    S_k = sum_i r_ik (x_i - m_k)(x_i - m_k)^T / sum_i r_ik.                                      (2)
"""

__all__ = ["DefensiveMixture", "Mixture", "fit_mixture"]

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.covariance import covariance_factor, shrunk_covariance
from ornstein.core.numerics.importance import systematic_indices
from ornstein.core.numerics.tables import pick
from ornstein.core.random.noise import Noise

_BATCHED_DIM = 200  # dimensions up to which all components share one matrix product
_RIDGE = 1e-6  # added to each variance, relative to the variance
_ABSOLUTE_RIDGE = 1e-14  # added to each variance, relative to the mean variance of the points
_MIN_RISE = 1e-3  # nats per point by which an iteration must raise the likelihood
_TINY = 1e-300  # smallest variance or standard deviation by which something is divided

# keys of random numbers of a draw
_COMPONENT, _NORMAL, _GAMMA, _ORDER = 0, 1, 2, 3


@dataclass(frozen=True, eq=False)
class Mixture:
    """The normalised mixture ``sum_k w_k t_{df_k}(m_k, L_k L_k^T)`` of Student t distributions.

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
        """The number of dimensions d of the points."""
        return self.means.shape[1]

    @cached_property
    def _inverses(self) -> Tensor:
        """The inverses of the factors ``L_k``, ``(k, d, d)``."""
        eye = torch.eye(self.dim, dtype=self.factors.dtype).expand_as(self.factors)
        return torch.linalg.solve_triangular(self.factors, eye, upper=False)

    @cached_property
    def _log_weights(self) -> Tensor:
        """The logarithms of the normalised weights, ``(k,)``."""
        return (self.weights / self.weights.sum()).log()

    @cached_property
    def _freedom(self) -> Tensor:
        """The degrees of freedom of every component, infinite for a Gaussian, ``(k,)``."""
        return torch.full_like(self.weights, torch.inf) if self.df is None else self.df

    @cached_property
    def _constants(self) -> Tensor:
        """The logarithm of each component's density (1) at its mean, ``(k,)``."""
        d = self.dim
        nu = self._freedom
        finite = torch.where(nu.isfinite(), nu, 1.0)
        student = (
            torch.lgamma((finite + d) / 2)
            - torch.lgamma(finite / 2)
            - d / 2 * (finite * math.pi).log()
        )
        at_mean = torch.where(nu.isfinite(), student, -d / 2 * math.log(2 * math.pi))
        return at_mean - self.factors.diagonal(dim1=1, dim2=2).log().sum(1)

    def components(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Return ``log w_k + log p_k(x)`` of every component, in nats."""
        x = x.to(self.means.dtype)
        delta = self._distances(x)
        nu = self._freedom[:, None]
        finite = torch.where(nu.isfinite(), nu, 1.0)
        heavy = -(finite + self.dim) / 2 * torch.log1p(delta / finite)
        shape = torch.where(nu.isfinite(), heavy, -delta / 2)
        return (shape + (self._constants + self._log_weights)[:, None]).mT  # (1)

    def _distances(self, x: Tensor) -> Tensor:
        """Return the squared Mahalanobis distances ``delta``, ``(k, n)``.

        In many dimensions one component is taken at a time, and diagonal ones without a matrix
        product.
        """
        if self.dim <= _BATCHED_DIM:
            return ((x - self.means[:, None]) @ self._inverses.mT).square().sum(2)
        distances = []
        for mean, inverse, diagonal in zip(self.means, self._inverses, self._diagonal, strict=True):
            centred = x - mean
            z = centred * inverse.diagonal() if diagonal else centred @ inverse.mT
            distances.append(z.square().sum(1))
        return torch.stack(distances)

    @cached_property
    def _diagonal(self) -> list[bool]:
        """For every component whether its factor is diagonal, which makes whitening cheap."""
        return [not bool(factor.tril(-1).any()) for factor in self.factors]

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the log-density at every point, in nats."""
        return self.components(x).logsumexp(1)

    def draw(self, n: int, noise: Noise) -> Float[Tensor, "n d"]:
        """Return n draws that are stratified over the components.

        Each draw alone has the distribution; together, component k is drawn ``n w_k`` times,
        rounded up or down.
        """
        k = _strata(self._log_weights.exp(), n, noise.fold(_COMPONENT))
        z = noise.fold(_NORMAL).normal((n, self.dim), self.means.dtype)
        nu = self._freedom[k]
        finite = torch.where(nu.isfinite(), nu, 1.0)
        gamma = _gamma(finite / 2, noise.fold(_GAMMA))
        stretch = torch.where(nu.isfinite(), (finite / (2 * gamma)).sqrt(), 1.0)
        x = torch.empty_like(z)
        for j in k.unique():
            mine = k == j
            x[mine] = self.means[j] + (z[mine] @ self.factors[j].mT) * stretch[mine, None]
        return x[noise.fold(_ORDER).uniform((n,), torch.float64).argsort()]

    def reweighted(self, weights: Float[Tensor, " k"]) -> "Mixture":
        """Return the mixture with other weights, without the components of weight 0."""
        used = weights > 0
        return Mixture(weights[used], self.means[used], self.factors[used], self._freedom[used])

    def gaussian(self) -> "Mixture | None":
        """Return the mixture of the Gaussian components alone, or None if there are none."""
        weights = torch.where(self._freedom.isinf(), self.weights, 0.0)
        return self.reweighted(weights) if bool((weights > 0).any()) else None

    def residual(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return x minus the mean of the most probable component."""
        return x - self.means[self.components(x).argmax(1)]


@dataclass(frozen=True, eq=False)
class DefensiveMixture:
    """The mixture ``sum_i w_i q_i`` of any distributions, some of them wide.

    The wide ones bound the importance weights where the main one is too thin (Hesterberg 1995).

    Args:
        laws: distributions with ``log_prob``, ``draw`` and ``residual``; the first is the main one.
        weights: positive, adding up to 1.
    """

    laws: tuple[Any, ...]
    weights: tuple[float, ...]

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the log-density at every point, in nats."""
        parts = [
            math.log(weight) + law.log_prob(x)
            for law, weight in zip(self.laws, self.weights, strict=True)
        ]
        return torch.stack(parts).logsumexp(0)

    def draw(self, n: int, noise: Noise) -> Float[Tensor, "n d"]:
        """Return n draws; distribution i is drawn ``n w_i`` times, rounded up or down."""
        weights = torch.tensor(self.weights, dtype=torch.float64)
        k = _strata(weights, n, noise.fold(0))
        parts = [
            law.draw(int((k == j).sum()), noise.fold(1, j))
            for j, law in enumerate(self.laws)
            if bool((k == j).any())
        ]
        return torch.cat(parts)[noise.fold(2).uniform((n,), torch.float64).argsort()]

    def residual(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return x minus the centre of the nearest component of the first distribution."""
        return self.laws[0].residual(x)


def _strata(weights: Tensor, n: int, noise: Noise) -> Tensor:
    """Draw n component indices, in ascending order, by systematic sampling from the weights.

    Index k comes ``n w_k`` times, rounded up or down.
    """
    return systematic_indices(weights.double(), n, noise.uniform((1,), torch.float64))


def _gamma(shape: Tensor, noise: Noise) -> Tensor:
    """Draw Gamma(shape, 1) numbers for small half-integer shapes, as sums of squared normals."""
    m = (2 * shape).round().long()
    normals = noise.normal((len(shape), int(m.max())), shape.dtype).square()
    used = torch.arange(normals.shape[1]) < m[:, None]
    return (normals * used).sum(1) / 2


def fit_mixture(
    x: Float[Tensor, "n d"],
    k: int,
    noise: Noise,
    iterations: int = 30,
    means: Float[Tensor, "k d"] | None = None,
) -> Mixture:
    """Fit a Gaussian mixture of at most k components by expectation maximisation.

    Correlations are shrunk where a component has few points (`shrunk_covariance`), and
    components of fewer than ``2 + d / 2`` points are dropped.

    Args:
        x: ``(n, d)``, the points.
        k: largest number of components.
        noise: source of randomness, for the first means.
        iterations: largest number of iterations.
        means: ``(k, d)``, the first means; None: points far from each other.
    """
    means = _distant_points(x, k, noise) if means is None else means.to(x.dtype)
    nearest = torch.cdist(x, means).argmin(1)
    r = torch.nn.functional.one_hot(nearest, len(means)).to(x.dtype)
    law = _maximise(x, r)
    before = -math.inf
    for _ in range(iterations if k > 1 else 0):
        joint = law.components(x)
        evidence = joint.logsumexp(1)
        law = _maximise(x, (joint - evidence[:, None]).exp())
        log_likelihood = float(evidence.mean())
        if log_likelihood - before < _MIN_RISE:
            break
        before = log_likelihood
    return law


def _maximise(x: Tensor, r: Tensor) -> Mixture:
    """Return the mixture (2) of an M step, from the responsibilities r of the components."""
    d = x.shape[1]
    populated = r.sum(0) >= 2 + d / 2
    r = r[:, populated] if bool(populated.any()) else torch.ones_like(r[:, :1])
    count = r.sum(0)
    means = r.mT @ x / count[:, None]
    eye = torch.eye(d, dtype=x.dtype)
    spread = x.var(0).mean().clamp(min=_TINY)
    factors = []
    for k in range(len(count)):
        centred = (x - means[k]) * r[:, k : k + 1].sqrt()
        cov = centred.mT @ centred / count[k]
        cov = shrunk_covariance(cov, count[k]) * (1 + 1 / count[k])
        ridge = _RIDGE * cov.diagonal() + _ABSOLUTE_RIDGE * spread
        factors.append(covariance_factor(cov + ridge * eye))
    return Mixture(count / count.sum(), means, torch.stack(factors))  # (2)


def _distant_points(x: Tensor, k: int, noise: Noise) -> Tensor:
    """Choose k of the points that are far apart, by k-means++ (Arthur and Vassilvitskii 2007)."""
    z = x / x.std(0).clamp(min=_TINY)
    u = noise.uniform((k,), torch.float64)
    chosen = [int(u[0] * len(x))]
    distance = (z - z[chosen[0]]).square().sum(1)
    for i in range(1, k):
        total = distance.cumsum(0)[-1]
        chosen.append(int(pick(distance, u[i].to(total) * total)))
        distance = torch.minimum(distance, (z - z[chosen[-1]]).square().sum(1))
    return x[chosen]
