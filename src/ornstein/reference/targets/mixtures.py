"""Gaussian mixtures, with the exact posterior of the clean point at every time.

They are the test data of the library: density, samples, and the denoiser that a perfectly trained
network would be are known. ``rho = sum_k w_k N(m_k, diag v_k)``. In polar coordinates of a linear
SDE, ``y = c x_t = a x_0 + s z`` with ``a^2 + s^2 = 1``, Bayes' rule for one component is conjugate
and the posterior is again a mixture:

    y | k       ~ N(a m_k, u_k),   u_k = a^2 v_k + s^2,                                          (1)
    P(k | y)    = w_k N(y; a m_k, u_k) / sum_j w_j N(y; a m_j, u_j),                             (2)
    x_0 | y, k  ~ N(mu_k, v_k s^2 / u_k),   mu_k = (s^2 m_k + a v_k y) / u_k,                    (3)
    E[x_0 | y]  = sum_k P(k | y) mu_k,
    Var[x_0 | y] = sum_k P(k | y) [v_k s^2 / u_k + (mu_k - E[x_0 | y])^2].                       (4)

Every ``u_k`` lies between ``v_k`` and 1 and nothing large is subtracted, so both ends of time are
finite in float32, also the pinned end of a bridge (a = 0, y = 0). Densities transform by ``p_t(x) =
c^d p(y)``.
"""

__all__ = ["GaussianMixture", "MixturePosterior", "Normal", "gmm9", "gmm40", "stretched"]

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.checks import require_finite, require_integers
from ornstein.core.numerics.gaussian import LOG_2PI, Gaussian
from ornstein.core.numerics.tables import pick
from ornstein.core.processes.linear import LinearSDE, Time
from ornstein.errors import OrnsteinError
from ornstein.reference.common import polar, require_batch, root, source
from ornstein.reference.targets.base import ExactPosterior, Normalised

_COMPONENT, _NORMALS = 0, 1  # keys of the random numbers of exact samples


def _log_normals(resid: Tensor, var: Tensor) -> Tensor:
    """The log-density of each component, summed over the last dimension, ``(b, k)``."""
    logs = -resid.square() / (2 * var) - var.log() / 2
    return logs.sum(-1) - LOG_2PI / 2 * resid.shape[-1]


@dataclass(frozen=True, eq=False)
class GaussianMixture(Normalised):
    """A mixture of Gaussians, ``rho(x) = sum_k w_k prod_i N(x_i; m_ki, s_ki^2)``, normalised.

    Args:
        means: ``(k, d)``.
        stds: ``(k, d)``, standard deviations per component and coordinate, positive.
        weights: ``(k,)``, positive; divided by their sum. All three are stored in float64.

    Raises:
        OrnsteinError: for shapes that do not fit, and for stds, weights or means outside their
            range.

    Example:
        >>> means = torch.tensor([[-1.0], [1.0]])
        >>> mixture = orn.targets.GaussianMixture(means, torch.ones(2, 1), torch.ones(2))
        >>> mixture.sample(5).shape
        torch.Size([5, 1])
    """

    means: Float[Tensor, "k d"]
    stds: Float[Tensor, "k d"]
    weights: Float[Tensor, " k"]

    def __post_init__(self) -> None:
        means, stds, weights = self.means.double(), self.stds.double(), self.weights.double()
        if (
            means.ndim != 2
            or means.shape != stds.shape
            or weights.shape != means.shape[:1]
            or not means.numel()
        ):
            raise OrnsteinError(
                "a mixture needs means (k, d), stds (k, d) and weights (k,), got"
                f" {tuple(means.shape)}, {tuple(stds.shape)} and {tuple(weights.shape)}: for one"
                " width use stds=torch.full_like(means, width)"
            )
        for name, value in (("stds", stds), ("weights", weights)):
            if not bool(((value > 0) & value.isfinite()).all()):
                raise OrnsteinError(
                    f"{name} of a mixture must be positive and finite, the smallest is"
                    f" {value.min():g} and the largest {value.max():g}: drop components that have"
                    " none"
                )
        if not bool(means.isfinite().all()):
            raise OrnsteinError(
                f"means of a mixture must be finite, got {int((~means.isfinite()).sum())} that"
                " are not"
            )
        object.__setattr__(self, "means", means)
        object.__setattr__(self, "stds", stds)
        object.__setattr__(self, "weights", weights / weights.sum())

    @property
    def dim(self) -> int:
        """The dimension d of the space."""
        return self.means.shape[1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one point, ``(d,)``."""
        return (self.dim,)

    @property
    def mean(self) -> Float[Tensor, " d"]:
        """The mean of each coordinate, ``E[x] = sum_k w_k m_k``."""
        return (self.weights[:, None] * self.means).sum(0)

    @property
    def std(self) -> Float[Tensor, " d"]:
        """The standard deviation of each coordinate, ``(d,)``, float64."""
        spread = self.stds.square() + (self.means - self.mean).square()
        return (self.weights[:, None] * spread).sum(0).sqrt()

    @property
    def variance(self) -> Float[Tensor, " d"]:
        """The variance of each coordinate, ``sum_k w_k (s_k^2 + (m_k - E[x])^2)``, ``(d,)``."""
        return self.std.square()

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The log-density at points ``(b, d)``, in nats, in the dtype of x."""
        require_batch(x, self.dim, "this mixture")
        resid = x[:, None] - self.means.to(x)
        log_joint = _log_normals(resid, self.stds.to(x).square()) + self.weights.log().to(x)
        return log_joint.logsumexp(1)

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """Draw n exact samples ``(n, d)``; sample i depends on the seed and on i only."""
        u = source(seed, _COMPONENT).uniform((n,), torch.float64)
        k = pick(self.weights.to(u), u)
        z = source(seed, _NORMALS).normal((n, self.dim), torch.float64)
        return (self.means.to(z)[k] + self.stds.to(z)[k] * z).to(dtype)

    def posterior(self, sde: LinearSDE) -> "MixturePosterior":
        """The exact law of x_0 given x_t, which is what a perfectly trained network would be.

        Args:
            sde: the process that adds the noise.
        """
        return MixturePosterior(self, sde)


@dataclass(frozen=True, eq=False, init=False)
class Normal(GaussianMixture):
    """The Gaussian ``N(mean, diag(std)^2)``, a mixture of one component.

    Every step of every sampler is known for it in closed form.

    Args:
        mean: ``(d,)``.
        std: ``(d,)``, positive.

    Example:
        >>> orn.targets.Normal(torch.zeros(3), torch.ones(3)).sample(5).shape
        torch.Size([5, 3])
    """

    def __init__(self, mean: Float[Tensor, " d"], std: Float[Tensor, " d"]) -> None:
        super().__init__(mean[None], std[None], torch.ones(1, device=mean.device))


@dataclass(frozen=True, eq=False)
class MixturePosterior(ExactPosterior):
    """The exact law of x_0 given x_t for a mixture: its mean and its standard deviation.

    Only the shape of the law is approximated, by a Gaussian.

    Args:
        target: the law of x_0.
        sde: the process that adds the noise.

    Example:
        >>> posterior = orn.targets.gmm9().posterior(orn.VP())
        >>> posterior(torch.zeros(5, 2), 0.5).mean.shape
        torch.Size([5, 2])
    """

    target: GaussianMixture

    def __call__(self, x: Float[Tensor, "b d"], t: Time) -> Gaussian:
        a, s2, y, _ = self._polar(x, t)
        means, v = self._components(x)
        u = a.square() * v + s2  # (1)
        p = self._log_joint(a, y, means, u).softmax(1)[..., None]  # (2)
        mu = (s2 * means + a * v * y) / u  # (3)
        mean = (p * mu).sum(1)
        var = (p * (v * s2 / u + (mu - mean[:, None]).square())).sum(1)  # (4)
        return Gaussian(mean, root(var))

    def log_prob(self, x: Float[Tensor, "b d"], t: Time) -> Float[Tensor, " b"]:
        """The log-density of x_t at states ``(b, d)``, in nats; ``+inf`` at a pinned end."""
        a, s2, y, jacobian = self._polar(x, t)
        means, v = self._components(x)
        log_joint = self._log_joint(a, y, means, a.square() * v + s2)
        return log_joint.logsumexp(1) + self.target.dim * jacobian.to(x)

    def _polar(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The coefficients ``a``, ``s^2`` and ``y``, shaped for ``(b, k, d)``, and ``log c``."""
        require_batch(x, self.target.dim, "this posterior")
        return polar(self.sde, t, x[:, None])

    def _components(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances of the components, ``(k, d)``, in the dtype of x."""
        return self.target.means.to(x), self.target.stds.to(x).square()

    def _log_joint(self, a: Tensor, y: Tensor, means: Tensor, u: Tensor) -> Tensor:
        """The log of weight times density (1) of each component, ``(b, k)``."""
        return _log_normals(y - a * means, u) + self.target.weights.log().to(y)


def gmm9() -> GaussianMixture:
    """Nine Gaussians ``N(m, 0.3 I)``, m in {-5, 0, 5}^2, with equal weights, d = 2.

    Zhang and Chen 2022.

    Example:
        >>> orn.targets.gmm9().means.shape
        torch.Size([9, 2])
    """
    axis = torch.tensor([-5.0, 0.0, 5.0], dtype=torch.float64)
    means = torch.cartesian_prod(axis, axis)
    return GaussianMixture(means, torch.full_like(means, 0.3**0.5), torch.ones(9))


def gmm40(d: int = 2) -> GaussianMixture:
    """Forty Gaussians ``N(m_i, I)`` with equal weights and means in ``[-40, 40]^d``.

    ``m = 80 U - 40``, ``U = numpy default_rng(0).random((40, d))``. In the manner of Midgley et al.
    2023 (FAB); several sets of locations circulate under this name.

    Args:
        d: dimension.

    Example:
        >>> orn.targets.gmm40(5).means.shape
        torch.Size([40, 5])
    """
    require_integers(1, d=d)
    means = torch.from_numpy(80 * np.random.default_rng(0).random((40, d)) - 40)
    return GaussianMixture(means, torch.ones_like(means), torch.ones(40))


def stretched(d: int = 100, condition: float = 1e4) -> Normal:
    """An ill-conditioned Gaussian ``N(0, diag(v))``, with variances v even in the log.

    Args:
        d: dimension.
        condition: ratio of the largest variance ``condition^(1/2)`` to the smallest, at least 1.

    Example:
        >>> orn.targets.stretched(3, condition=16.0).std.square()
        tensor([0.2500, 1.0000, 4.0000], dtype=torch.float64)
    """
    require_integers(1, d=d)
    require_finite(condition=condition)
    if condition < 1:
        raise OrnsteinError(f"stretched(condition={condition}): a ratio of variances, at least 1")
    end = math.log10(condition) / 4
    return Normal(torch.zeros(d), torch.logspace(-end, end, d, dtype=torch.float64))
