"""Noising processes of the user: from variances, a log-SNR, or the coefficients of an SDE.

What has no closed form is integrated with Gauss-Legendre nodes on [0, t]. With values ``f_j`` at
the nodes ``t u_j`` and the matrix A of the integrals of their interpolating polynomial,

    int_0^t f = t sum_j w_j f_j,     int_0^{t u_i} f = t sum_j A_ij f_j,                         (1)

exact for polynomials, and exact to rounding for functions that are smooth on the scale of the
nodes.
"""

__all__ = ["Damped", "DiscreteVP", "FromCoefficients", "FromLogSNR"]

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor
from torch.nn.functional import logsigmoid

from ornstein.core.numerics.checks import require_integers
from ornstein.core.numerics.quadrature import gauss_legendre
from ornstein.core.processes.constants import check_constants, check_noise
from ornstein.core.processes.linear import LinearSDE, Time, as_time
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class DiscreteVP(LinearSDE):
    """The DDPM chain ``z_k = sqrt(1 - beta_k) z_{k-1} + sqrt(beta_k) eps`` in continuous time.

    Step k is at ``t = k / len(betas)``; between steps ``log alpha`` is linear. The law is exact at
    the steps. Ho et al. 2020, eq. 2.

    Args:
        betas: variances in (0, 1), the first step first.

    Raises:
        OrnsteinError: if there are none, or one is not in (0, 1).

    Example:
        >>> chain = orn.DiscreteVP(torch.linspace(1e-4, 0.02, 1000).tolist())
        >>> chain
        DiscreteVP(betas=<1000 values from 0.0001 to 0.02>)
        >>> chain.times(20, orn.spacing.trailing).shape
        torch.Size([21])
    """

    betas: Sequence[float]

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "betas", tuple(float(b) for b in self.betas))
        except (TypeError, ValueError) as error:
            raise OrnsteinError(
                f"DiscreteVP(betas={self.betas!r}): pass a sequence of variances in (0, 1), such"
                " as torch.linspace(1e-4, 0.02, 1000)"
            ) from error
        if not self.betas or not all(0 < b < 1 for b in self.betas):
            raise OrnsteinError(
                f"DiscreteVP(betas={self.betas[:3]}...): betas must be in (0, 1) and not empty"
            )
        check_noise(self, **{"the standard deviation at T": float(self.sigma(1.0))})

    def __repr__(self) -> str:
        """Return a line that names the length and the ends of the list of variances."""
        count, first, last = len(self.betas), self.betas[0], self.betas[-1]
        return f"DiscreteVP(betas=<{count} values from {first:g} to {last:g}>)"

    @property
    def T(self) -> float:  # type: ignore[override]
        """The end of time, 1, at which step ``len(betas)`` is."""
        return 1.0

    @cached_property
    def _knots(self) -> Tensor:
        """The values of ``log alpha`` at the steps 0, 1, ..., K."""
        with torch.inference_mode(False):  # the cache outlives the mode of the first call
            logs = torch.log1p(-torch.tensor(self.betas, dtype=torch.float64)) / 2
            return torch.cat([logs.new_zeros(1), logs.cumsum(0)])

    def _piece(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``log alpha`` at the left knot of t, its slope, and the position in the step."""
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
    """The variance-preserving process with a given log-SNR: ``alpha^2 = sigmoid(lambda)``.

    Kingma et al. 2021, section 3.2.

    Args:
        fn: the log-SNR, a function of time: elementwise, differentiable, strictly decreasing on
            [0, T].
        T: end of time.
    """

    fn: Callable[[Tensor], Tensor]
    T: float = 1.0

    def __post_init__(self) -> None:
        _require_functions(self, "fn")
        check_constants(self, "T")

    def __repr__(self) -> str:
        """Return a line with the name of the function instead of its address."""
        return f"FromLogSNR(fn={_name(self.fn)}, T={self.T})"

    def log_alpha(self, t: Tensor) -> Tensor:
        return logsigmoid(self.fn(t)) / 2

    def log_sigma(self, t: Tensor) -> Tensor:
        return logsigmoid(-self.fn(t)) / 2

    def log_snr(self, t: Time) -> Tensor:
        return self.fn(as_time(t))


class _ByQuadrature(LinearSDE):
    """A process given by f and g: ``log alpha = int f``, ``sigma^2 = int exp(2 int_u^t f) g^2``."""

    nodes: int

    @abstractmethod
    def f(self, t: Time) -> Tensor:
        """Return the drift coefficient f at time t."""

    @abstractmethod
    def g2(self, t: Time) -> Tensor:
        """Return the squared diffusion coefficient ``g^2`` at time t."""

    def log_alpha(self, t: Tensor) -> Tensor:
        return self._integrals(t)[0]

    def log_sigma(self, t: Tensor) -> Tensor:
        return self._integrals(t)[1].log() / 2

    def _integrals(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``log alpha`` and ``sigma^2`` at t, by Gauss-Legendre quadrature."""
        nodes, weights, cumulative = (torch.from_numpy(v).to(t) for v in _rule(self.nodes))
        u = t[..., None] * nodes
        f = self.f(u) * t[..., None]
        log_alpha = f @ weights  # (1)
        since = log_alpha[..., None] - f @ cumulative.mT  # (1): int_u^t f
        return log_alpha, ((2 * since).exp() * self.g2(u)) @ weights * t


@lru_cache
def _rule(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return nodes and weights of Gauss-Legendre on [0, 1], and the matrix A of (1)."""
    nodes, weights = (part.numpy() for part in gauss_legendre(n, 0.0, 1.0))
    points = gauss_legendre(n)[0].numpy()  # on [-1, 1]
    to_series = np.linalg.inv(legendre.legvander(points, n - 1))  # from values at the nodes
    antiderivative = legendre.legint(to_series, lbnd=-1, axis=0)
    return nodes, weights, legendre.legvander(points, n) @ antiderivative / 2


@dataclass(frozen=True)
class FromCoefficients(_ByQuadrature):
    """The process ``dX = f(t) X dt + g(t) dB`` for any two functions of time, by quadrature.

    ``log alpha = int_0^t f`` and ``sigma^2 = int_0^t exp(2 int_u^t f) g^2(u) du`` are integrated
    with Gauss-Legendre nodes on [0, t].

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

    def __post_init__(self) -> None:
        _require_functions(self, "drift_fn", "diffusion_fn")
        check_constants(self, "T")
        require_integers(1, nodes=self.nodes)

    def __repr__(self) -> str:
        """Return a line with the names of the functions instead of their addresses."""
        return (
            f"FromCoefficients(drift_fn={_name(self.drift_fn)},"
            f" diffusion_fn={_name(self.diffusion_fn)}, T={self.T}, nodes={self.nodes})"
        )

    def f(self, t: Time) -> Tensor:
        return self.drift_fn(as_time(t))

    def g2(self, t: Time) -> Tensor:
        return self.diffusion_fn(as_time(t)).square()


@dataclass(frozen=True)
class Damped(_ByQuadrature):
    """The process ``dX = -X dt + sigma(t) dB`` for a noise schedule of the user.

    ``alpha = exp(-t)``; the variance is integrated by Gauss-Legendre quadrature.

    Args:
        sigma_fn: the diffusion coefficient, elementwise and positive.
        T: end of time; the fraction ``exp(-T)`` of the data is left there.
        nodes: quadrature nodes; more for functions that vary fast.
    """

    sigma_fn: Callable[[Tensor], Tensor]
    T: float = 3.0
    nodes: int = 64

    def __post_init__(self) -> None:
        _require_functions(self, "sigma_fn")
        check_constants(self, "T")
        require_integers(1, nodes=self.nodes)

    def __repr__(self) -> str:
        """Return a line with the name of the function instead of its address."""
        return f"Damped(sigma_fn={_name(self.sigma_fn)}, T={self.T}, nodes={self.nodes})"

    def f(self, t: Time) -> Tensor:
        return -torch.ones_like(as_time(t))

    def g2(self, t: Time) -> Tensor:
        return self.sigma_fn(as_time(t)).square()


def _require_functions(process: Any, *names: str) -> None:
    """Raise `OrnsteinError` unless these fields of a process are functions."""
    for name in names:
        value = getattr(process, name)
        if not callable(value):
            raise OrnsteinError(
                f"{type(process).__name__}({name}={value!r}): {name} must be a function of time,"
                " such as lambda t: 1 + t"
            )


def _name(fn: Callable[..., Any]) -> str:
    """Return the name of a function, or of the class of a callable object."""
    return getattr(fn, "__qualname__", type(fn).__name__).rsplit(".", 1)[-1]
