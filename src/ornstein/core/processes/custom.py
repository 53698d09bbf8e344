"""Processes of one's own making: from a list of variances, from a log-SNR, from the coefficients of
the SDE.

What has no closed form is integrated with Gauss-Legendre nodes on [0, t]; with values ``f_j`` at
the nodes ``t u_j`` and the matrix A of the integrals of their interpolating polynomial,

    int_0^t f = t sum_j w_j f_j,     int_0^{t u_i} f = t sum_j A_ij f_j,                         (1)

exact for polynomials, and to rounding for functions that are smooth on the scale of the nodes.
"""

__all__ = ["Damped", "DiscreteVP", "FromCoefficients", "FromLogSNR"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ornstein.core.processes.linear import LinearSDE, Time, as_time
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class DiscreteVP(LinearSDE):
    """The DDPM chain ``z_k = sqrt(1 - beta_k) z_{k-1} + sqrt(beta_k) eps`` as a process in
    continuous time.

    Step k is at ``t = k / len(betas)``; between steps ``log alpha`` is linear. Exact at the steps.
    Ho et al. 2020, eq. 2.

    Args:
        betas: variances in (0, 1), first step first.
    """

    betas: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(float(b) for b in self.betas))
        if not self.betas or not all(0 < b < 1 for b in self.betas):
            raise OrnsteinError(
                f"DiscreteVP(betas={self.betas[:3]}...): betas must be in (0, 1) and not empty"
            )

    @property
    def T(self) -> float:  # type: ignore[override]
        """Step ``len(betas)`` is at 1."""
        return 1.0

    @cached_property
    def _knots(self) -> Tensor:
        """``log alpha`` at the steps 0, 1, ..., K."""
        logs = torch.log1p(-torch.tensor(self.betas, dtype=torch.float64)) / 2
        return torch.cat([logs.new_zeros(1), logs.cumsum(0)])

    def _piece(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value at the left knot, slope per step, and position within the step."""
        knots = self._knots.to(t)
        u = t * len(self.betas)
        k = u.detach().floor().clamp(0, len(self.betas) - 1).long()
        return knots[k], knots[k + 1] - knots[k], u - k

    def log_alpha(self, t: Tensor) -> Tensor:
        left, slope, u = self._piece(t)
        return left + slope * u

    def log_sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(2 * self.log_alpha(t))).log() / 2

    def f(self, t: Time) -> Tensor:
        return self._piece(as_time(t))[1] * len(self.betas)

    def g2(self, t: Time) -> Tensor:
        return -2 * self.f(t)


@dataclass(frozen=True)
class FromLogSNR(LinearSDE):
    """The variance-preserving process with a given log-SNR: ``alpha^2 = sigmoid(lambda)``. Kingma
    et al. 2021, section 3.2.

    Args:
        fn: elementwise, differentiable, strictly decreasing on [0, T].
    """

    fn: Callable[[Tensor], Tensor]
    T: float = 1.0

    def log_alpha(self, t: Tensor) -> Tensor:
        return logsigmoid(self.fn(t)) / 2

    def log_sigma(self, t: Tensor) -> Tensor:
        return logsigmoid(-self.fn(t)) / 2

    def log_snr(self, t: Time) -> Tensor:
        return self.fn(as_time(t))


@lru_cache
def _legendre(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gauss-Legendre on [0, 1]: nodes ``(n,)``, weights ``(n,)``, and the matrix ``(n, n)`` of
    integrals from 0 to each node."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    coefficients = np.linalg.inv(
        np.polynomial.legendre.legvander(nodes, n - 1)
    )  # values at the nodes -> Legendre series
    antiderivative = np.polynomial.legendre.legint(coefficients, lbnd=-1, axis=0)
    integrals = np.polynomial.legendre.legvander(nodes, n) @ antiderivative
    return torch.tensor((nodes + 1) / 2), torch.tensor(weights / 2), torch.tensor(integrals / 2)


@dataclass(frozen=True)
class FromCoefficients(LinearSDE):
    """``dX = f(t) X dt + g(t) dB`` for any two functions, by Gauss-Legendre quadrature on [0, t]:

    ``log alpha = int_0^t f``,  ``sigma^2 = int_0^t exp(2 int_u^t f) g^2(u) du``.

    Args:
        drift_fn, diffusion_fn: f and g, elementwise; smooth on [0, T] for the quadrature to be
            exact to rounding.
        T: end of time.
        nodes: quadrature nodes; more for functions that vary fast.
    """

    drift_fn: Callable[[Tensor], Tensor]
    diffusion_fn: Callable[[Tensor], Tensor]
    T: float = 1.0
    nodes: int = 64

    def log_alpha(self, t: Tensor) -> Tensor:
        return self._integrals(t)[0]

    def log_sigma(self, t: Tensor) -> Tensor:
        return self._integrals(t)[1].log() / 2

    def _integrals(self, t: Tensor) -> tuple[Tensor, Tensor]:
        nodes, weights, cumulative = (v.to(t) for v in _legendre(self.nodes))
        u = t[..., None] * nodes
        f = self.drift_fn(u) * t[..., None]
        log_alpha = f @ weights  # (1)
        since = log_alpha[..., None] - f @ cumulative.mT  # (1): int_u^t f
        return log_alpha, ((2 * since).exp() * self.diffusion_fn(u).square()) @ weights * t

    def f(self, t: Time) -> Tensor:
        return self.drift_fn(as_time(t))

    def g2(self, t: Time) -> Tensor:
        return self.diffusion_fn(as_time(t)).square()


@dataclass(frozen=True, init=False)
class Damped(FromCoefficients):
    """``dX = -X dt + sigma(t) dB`` for a noise schedule of your own: ``alpha = e^-t``, variance by
    quadrature.

    Args:
        sigma_fn: the diffusion coefficient, elementwise and positive.
        T: end of time; ``e^-T`` of the data is left there.
    """

    def __init__(
        self, sigma_fn: Callable[[Tensor], Tensor], T: float = 3.0, nodes: int = 64
    ) -> None:
        super().__init__(lambda u: -torch.ones_like(u), sigma_fn, T, nodes)
