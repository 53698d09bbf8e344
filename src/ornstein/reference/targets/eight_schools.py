"""Eight schools, the effect of coaching on test scores: a hierarchical posterior, solved exactly.

The smallest posterior with the geometry of a funnel, on which samplers of hierarchical models are
tested. ``y_j ~ N(theta_j, s_j^2)`` for j = 1..8, ``theta_j ~ N(mu, tau^2)``, ``mu ~ N(0, 5^2)``,
and tau is half-Cauchy(0, 5). Given tau everything is Gaussian: theta and mu integrate out, which
leaves one integral, over tau. With ``V_j = s_j^2 + tau^2``, ``1 / V = 1 / 25 + sum_j 1 / V_j``
and ``m = V sum_j y_j / V_j``,

    p(y, tau) = p(tau) sqrt(V) / 5  prod_j N(y_j; 0, V_j)  exp( m^2 / (2 V) ),                   (1)
    mu | tau, y         ~ N(m, V),                                                               (2)
    eta_j | mu, tau, y  ~ N( tau (y_j - mu) / V_j,  s_j^2 / V_j ),   theta_j = mu + tau eta_j.   (3)

Rubin 1981; Gelman et al., Bayesian Data Analysis, section 5.5; the priors are those of posteriordb.
"""

__all__ = ["EightSchools"]

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from ornstein.core.numerics.gaussian import LOG_2PI
from ornstein.core.numerics.tabulated_density import Line
from ornstein.reference.common import require_batch, source

_LOG_TAU, _NORMALS = 0, 1  # keys of the random numbers of exact samples
# Ends of the table of log tau: the density falls like tau to the left and like tau^-9 to the right
# of its bulk.
_LOWEST_LOG_TAU, _HIGHEST_LOG_TAU = -40.0, 15.0


@dataclass(frozen=True)
class EightSchools:
    """The posterior of eight schools in ``z = (mu, log tau, eta_1..8)``, non-centred, d = 10.

    The effects are ``theta_j = mu + tau eta_j``. ``log rho(z)`` is the log of prior times
    likelihood, both normalised, with the Jacobian of ``log tau``; so Z is the marginal likelihood
    of the data. Rubin 1981.

    Example:
        >>> schools = orn.targets.EightSchools()
        >>> schools.log_prob(schools.sample(5)).shape
        torch.Size([5])
    """

    y: ClassVar[tuple[float, ...]] = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
    s: ClassVar[tuple[float, ...]] = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)
    names: ClassVar[tuple[str, ...]] = ("mu", "tau", *(f"theta[{j}]" for j in range(1, 9)))
    dim: ClassVar[int] = 10

    def log_prob(self, z: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The unnormalised log-density at points ``(b, d)``, in nats."""
        require_batch(z, self.dim, "EightSchools")
        mu, log_tau, eta = z[:, 0], z[:, 1], z[:, 2:]
        y, s = self._data(z)
        prior = -(mu / 5).square() / 2 - math.log(5) - eta.square().sum(1) / 2 - 9 * LOG_2PI / 2
        resid = (y - self.parameters(z)[:, 2:]) / s
        likelihood = -resid.square().sum(1) / 2 - s.log().sum() - 8 * LOG_2PI / 2
        return prior + _log_prior(log_tau) + likelihood

    def parameters(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The parameters ``(mu, tau, theta_1..8)`` of points z, in points of the test."""
        require_batch(z, self.dim, "EightSchools")
        mu, tau = z[:, :1], z[:, 1:2].exp()
        return torch.cat([mu, tau, mu + tau * z[:, 2:]], 1)

    @cached_property
    def log_z(self) -> float:
        """The log marginal likelihood of the data, by quadrature over ``log tau``."""
        return self._line.log_z

    @property
    def exact_mean(self) -> Float[Tensor, " 10"]:
        """The posterior means of the parameters, in the order of `names`, by quadrature."""
        return self._moments[0].clone()

    @property
    def exact_std(self) -> Float[Tensor, " 10"]:
        """The posterior standard deviations of the parameters, in the order of `names`."""
        return self._moments[1].clone()

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """Draw n exact samples z ``(n, 10)``; sample i depends on the seed and on i only.

        log tau by its inverse distribution function, then mu by (2), then eta by (3).
        """
        log_tau = self._line.quantile(source(seed, _LOG_TAU).uniform((n,), torch.float64))
        normals = source(seed, _NORMALS).normal((n, 9), torch.float64)
        tau = log_tau.exp()[:, None]
        y, s = self._data(tau)
        m, v = self._mu_given_tau(log_tau)
        mu = (m + v.sqrt() * normals[:, 0])[:, None]  # (2)
        total = s.square() + tau.square()
        eta = tau * (y - mu) / total + s / total.sqrt() * normals[:, 1:]  # (3)
        return torch.cat([mu, log_tau[:, None], eta], 1).to(dtype)

    def _data(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The observations and their standard errors, ``(8,)`` each, in the dtype of a tensor."""
        return torch.tensor(self.y).to(like), torch.tensor(self.s).to(like)

    def _mu_given_tau(self, log_tau: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior mean and variance (2) of mu given log tau, elementwise."""
        y, s = self._data(log_tau)
        total = s.square() + (2 * log_tau).exp()[..., None]
        v = 1 / (1 / 25 + (1 / total).sum(-1))
        return v * (y / total).sum(-1), v

    def _log_marginal(self, log_tau: Tensor) -> Tensor:
        """The log of the marginal (1), as a density in ``log tau``."""
        y, s = self._data(log_tau)
        total = s.square() + (2 * log_tau).exp()[..., None]
        m, v = self._mu_given_tau(log_tau)
        normals = (-y.square() / total - total.log() - LOG_2PI).sum(-1) / 2
        return (
            _log_prior(log_tau) + v.log() / 2 - math.log(5) + normals + m.square() / (2 * v)
        )  # (1)

    @cached_property
    def _line(self) -> Line:
        """The tabulated posterior of log tau."""
        return Line(self._log_marginal, _LOWEST_LOG_TAU, _HIGHEST_LOG_TAU)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """The posterior means and standard deviations, averaged over tau from (2) and (3)."""
        log_tau = self._line.nodes
        tau = log_tau.exp()
        y, s = self._data(tau)
        m, v = self._mu_given_tau(log_tau)
        pull = tau.square()[:, None] / (s.square() + tau.square()[:, None])
        theta = pull * y + (1 - pull) * m[:, None]
        spread = pull * s.square() + (1 - pull).square() * v[:, None]
        means = torch.cat([m[:, None], tau[:, None], theta], 1)
        variances = torch.cat([v[:, None], torch.zeros_like(v)[:, None], spread], 1)
        mean = self._line.mean(means)
        return mean, self._line.mean(variances + (means - mean).square()).sqrt()


def _log_prior(log_tau: Tensor) -> Tensor:
    """The log-density of log tau when tau is half-Cauchy(0, 5).

    ``log[ 2 / (5 pi) / (1 + (tau / 5)^2) ] + log tau``.
    """
    return math.log(2 / (5 * math.pi)) - softplus(2 * (log_tau - math.log(5))) + log_tau
