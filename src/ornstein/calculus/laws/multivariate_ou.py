"""The multivariate Ornstein-Uhlenbeck process, linear equations with constant matrices.

For ``dX = A (m - X) dt + S dB`` the law of X_{t+h} given X_t = x is Gaussian with

    mean = m + Phi (x - m),   Phi(h) = e^{-A h},
    covariance = Q(h) = int_0^h e^{-A u} S S' e^{-A' u} du.                                      (1)

Both are entries of one block exponential (Van Loan 1978), which however overflows for long h and
loses digits for short h, where the entries of Q are of different powers of h. So Q is summed as a
power series, exact to the last digit in each entry, for a short time,

    Q(h) = sum_{k >= 0} h^{k+1} / (k + 1)! L^k(S S'),
    L(P) = -(A P + P A'),      |A| h <= 1/2,                                                     (2)

and doubled, ``Q(2h) = Q + Phi Q Phi'``, a sum of non-negative matrices, with ``Phi = I + E``,
``E(2h) = 2 E + E^2``. No eigenvectors are needed, so a critically damped oscillator is a case like
any other. If all eigenvalues of A have positive real parts, Q tends to the stationary covariance,
``A Q + Q A' = S S'``. Gardiner 2009, section 4.5.
"""

__all__ = ["JointGaussian", "MultivariateOU", "underdamped_ou"]

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.calculus.laws.exact_process import ExactProcess, elapsed
from ornstein.core.numerics.gaussian import sum_event
from ornstein.core.processes.linear import Time
from ornstein.core.processes.noise_type import ADDITIVE, General, NoiseType
from ornstein.errors import OrnsteinError

_TERMS = 22  # terms of the series (2): the last is below 1e-19 of the first
_RELAXATION_TIMES = 45  # times of the slowest mode, after which exp(-45) of a start is left


def _apply(matrix: Tensor, x: Tensor) -> Tensor:
    """Apply a ``(d, d)`` or ``(b, d, d)`` matrix to the first event dimension of ``(b, d, *rest)``.

    Always as products of matrices: with single columns the last bit would depend on the size of the
    batch.
    """
    columns = x.flatten(2) if x.ndim > 2 else x[..., None]
    alone = columns.shape[2] == 1
    product = matrix.to(x.dtype) @ (columns.expand(-1, -1, 2) if alone else columns)
    return (product[..., :1] if alone else product).reshape(x.shape)


@dataclass(frozen=True, eq=False)
class JointGaussian:
    """The law ``N(mean, cov)`` over the first event dimension of a state.

    Further event dimensions are independent copies.

    Args:
        mean: ``(b, d, *rest)``.
        cov: ``(d, d)`` or ``(b, d, d)``, positive semidefinite, float64.
    """

    mean: Float[Tensor, "b d *rest"]
    cov: Float[Tensor, "*b d d"]

    def _scaled(self) -> tuple[Tensor, Tensor]:
        """Return standard deviations and the correlation matrix, which is well scaled."""
        std = self.cov.diagonal(dim1=-2, dim2=-1).sqrt()
        inverse = torch.where(std > 0, 1 / std, 0.0)
        return std, self.cov * inverse[..., None] * inverse[..., None, :]

    def draw(self, z: Float[Tensor, "b d *rest"]) -> Float[Tensor, "b d *rest"]:
        """Return the state ``mean + F z`` with ``F F' = cov``, singular or not.

        Args:
            z: standard normal numbers, of the shape of the mean.

        Raises:
            OrnsteinError: for z of another shape than the mean.
        """
        if z.shape != self.mean.shape:
            raise OrnsteinError(
                f"numbers of shape {tuple(z.shape)} for a state of shape {tuple(self.mean.shape)}:"
                " one for each entry; see sample_exact"
            )
        std, correlation = self._scaled()
        values, vectors = torch.linalg.eigh(correlation)
        factor = std[..., None] * vectors * values.clamp(min=0).sqrt()[..., None, :]
        return self.mean + _apply(factor @ vectors.mT, z)

    def log_prob(self, x: Float[Tensor, "b d *rest"]) -> Float[Tensor, " b"]:
        """Return the log-density of each sample in nats, float64.

        Raises:
            OrnsteinError: if the covariance is singular: there is no density.
        """
        factor, log_det = self._cholesky()
        off = (x - self.mean).double()
        off = off.flatten(2) if x.ndim > 2 else off[..., None]
        z = torch.linalg.solve_triangular(factor, off, upper=False)
        log_norm = off.shape[2] * (log_det + off.shape[1] * math.log(2 * math.pi)) / 2
        return -sum_event(z.square()) / 2 - log_norm

    def entropy(self) -> Tensor:
        """Return the entropy ``log det(2 pi e cov) / 2`` of one copy in nats, ``(*b)``."""
        return (self._cholesky()[1] + self.cov.shape[-1] * math.log(2 * math.pi * math.e)) / 2

    def _cholesky(self) -> tuple[Tensor, Tensor]:
        """Return the lower factor of the covariance and the log of its determinant."""
        std, correlation = self._scaled()
        factor, info = torch.linalg.cholesky_ex(correlation)
        if bool((info > 0).any() | (std == 0).any()):
            raise OrnsteinError(
                "a singular covariance has no density: the time is 0, or the noise does not reach"
                " all coordinates"
            )
        diagonal = factor.diagonal(dim1=-2, dim2=-1)
        return std[..., None] * factor, 2 * (diagonal.log() + std.log()).sum(-1)


@dataclass(frozen=True, eq=False)
class MultivariateOU(ExactProcess):
    """The process ``dX = A (m - X) dt + S dB`` on states ``(b, d, *rest)``.

    Matrices act on the first event dimension.

    Args:
        rate: A, ``(d, d)``, per unit of time; any real matrix, also a defective or an unstable one.
        noise: S, ``(d, m)``, or ``(d,)`` for independent noise in each coordinate.
        mean: m, ``(d,)``; 0 if left out.

    Raises:
        OrnsteinError: if the shapes do not fit.
    """

    rate: Float[Tensor, "d d"]
    noise: Float[Tensor, "d *m"]
    mean: Float[Tensor, " d"] | None = None
    _square: Float[Tensor, "d d"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        d = len(self.rate)
        mean = torch.zeros(d, dtype=torch.float64) if self.mean is None else self.mean.double()
        noise_fits = len(self.noise) == d and self.noise.ndim <= 2
        if self.rate.shape != (d, d) or not noise_fits or mean.shape != (d,):
            shapes = tuple(self.rate.shape), tuple(self.noise.shape), tuple(mean.shape)
            raise OrnsteinError(
                f"rate, noise and mean of shapes {shapes}: need (d, d), (d, m) or (d,), and (d,)"
            )
        noise = self.noise.double()
        noise = noise.diag() if noise.ndim == 1 else noise
        for name, value in (
            ("rate", self.rate.double()),
            ("noise", noise),
            ("mean", mean),
            ("_square", noise @ noise.T),
        ):
            object.__setattr__(self, name, value)

    @property
    def driving(self) -> NoiseType:
        """The noise type: additive where S is diagonal, else general with m motions a copy."""
        square = self.noise.shape == self.rate.shape
        diagonal = square and bool((self.noise == self.noise.diagonal().diag()).all())
        return ADDITIVE if diagonal else General()

    def _centre(self, x: Tensor) -> Tensor:
        """Return the mean, shaped to broadcast against a batch of states."""
        assert self.mean is not None
        if x.ndim < 2 or x.shape[1] != len(self.rate):
            raise OrnsteinError(
                f"a state of shape {tuple(x.shape)}: needs (b, {len(self.rate)}, ...)"
            )
        return self.mean.to(x.dtype).reshape(-1, *[1] * (x.ndim - 2))

    def drift(self, x: Float[Tensor, "b d *rest"], t: Time) -> Float[Tensor, "b d *rest"]:
        """Return the drift ``A (m - x)`` of the process."""
        return _apply(self.rate, self._centre(x) - x)

    def diffusion(self, x: Float[Tensor, "b d *rest"], t: Time) -> Tensor:
        """Return the diagonal of S, shaped to multiply a batch, or S itself if it is not diagonal.

        In the second case the shape is ``(1, d, *rest, m r)`` with r copies.
        """
        copies = math.prod(x.shape[2:])
        if self.driving == ADDITIVE:
            return self.noise.diagonal().to(x).reshape(-1, *[1] * (x.ndim - 2))
        eye = torch.eye(copies, dtype=x.dtype, device=x.device)
        return torch.kron(self.noise.to(x), eye).reshape(1, len(self.rate), *x.shape[2:], -1)

    def propagate(self, h: Time) -> tuple[Float[Tensor, "*b d d"], Float[Tensor, "*b d d"]]:
        """Return ``Phi(h) = e^{-A h}`` and the covariance ``Q(h)`` of the noise, both float64.

        Args:
            h: time h >= 0, a scalar or one per sample, ``(b,)``.
        """
        h = elapsed(0.0, h)
        size = max(float(self.rate.abs().sum(i).max()) for i in (0, 1)) * float(h.max())
        doublings = max(0, math.ceil(math.log2(2 * size))) if size > 0 else 0
        h = (h / 2**doublings)[..., None, None]
        eye = torch.eye(len(self.rate), dtype=torch.float64)
        power = eye
        series = self._square * h
        shift, cov = torch.zeros_like(series), torch.zeros_like(series)
        for k in range(1, _TERMS):
            power = self.rate @ power * (-h / k)
            shift, cov = shift + power, cov + series  # (2)
            series = (self.rate @ series + series @ self.rate.T) * (-h / (k + 1))
        for _ in range(doublings):
            phi = eye + shift
            cov = cov + phi @ cov @ phi.mT
            shift = 2 * shift + shift @ shift
        return eye + shift, (cov + cov.mT) / 2

    def transition(self, x_s: Float[Tensor, "b d *rest"], s: Time, t: Time) -> JointGaussian:
        """Return the Gaussian law ``N(m + Phi(h) (x_s - m), Q(h))`` of x_t given x_s, h = t - s."""
        centre = self._centre(x_s)
        phi, cov = self.propagate(elapsed(s, t))
        return JointGaussian(centre + _apply(phi, x_s - centre), cov)  # (1)

    def covariance(
        self, t: Time, start: Float[Tensor, "d d"] | None = None
    ) -> Float[Tensor, "*b d d"]:
        """Return the covariance ``Phi C Phi' + Q`` at time t.

        Args:
            t: time, a scalar or ``(b,)``.
            start: the covariance C at time 0; a point if left out.
        """
        phi, cov = self.propagate(t)
        return cov if start is None else phi @ start.double() @ phi.mT + cov

    def entropy(self, t: Time, start: Float[Tensor, "d d"] | None = None) -> Tensor:
        """Return the entropy in nats at time t of a Gaussian start, or of a point (then t > 0).

        It is bounded in t for a stable process: it tends to that of the `stationary` law, from
        below for a point.

        Args:
            t: time, a scalar or ``(b,)``.
            start: covariance at time 0; a point if left out.
        """
        cov = self.covariance(t, start)
        return JointGaussian(torch.zeros(1, len(self.rate)), cov).entropy()

    def stationary(self) -> JointGaussian:
        """Return the stationary law, with ``A C + C A' = S S'``, as a batch of one.

        Raises:
            OrnsteinError: unless all eigenvalues of the rate have a positive real part.
        """
        assert self.mean is not None
        slowest = float(torch.linalg.eigvals(self.rate).real.min())
        if not slowest > 0:
            raise OrnsteinError(
                f"an eigenvalue of the rate has real part {slowest:.3g}: without return there is no"
                " stationary law"
            )
        return JointGaussian(self.mean[None], self.propagate(_RELAXATION_TIMES / slowest)[1])


def underdamped_ou(
    stiffness: float = 1.0, friction: float = 1.0, temperature: float = 1.0, mass: float = 1.0
) -> MultivariateOU:
    """Return the process of a particle on a spring in a heat bath, with position and velocity.

    It is Langevin's equation ``dx = v dt``, ``m dv = -(k x + gamma v) dt + sqrt(2 gamma T) dB`` on
    states ``(b, 2, *rest)``. Stationary: ``x ~ N(0, T / k)`` and, independent of it, ``v ~ N(0, T /
    m)``. Critically damped if ``gamma^2 = 4 k m``. Chandrasekhar 1943, section II.3.

    Args:
        stiffness: k; 0 is a free particle, without a stationary law.
        friction: gamma, at least 0; without friction the energy is constant.
        temperature: T in units of energy.
        mass: m, positive.
    """
    if not (stiffness >= 0 and friction >= 0 and temperature >= 0 and mass > 0):
        values = f"{stiffness}, {friction}, {temperature}, {mass}"
        raise OrnsteinError(f"underdamped_ou({values}): needs a positive mass and nothing negative")
    rate = torch.tensor([[0.0, -1.0], [stiffness / mass, friction / mass]], dtype=torch.float64)
    noise = torch.tensor([0.0, math.sqrt(2 * friction * temperature) / mass], dtype=torch.float64)
    return MultivariateOU(rate, noise)
