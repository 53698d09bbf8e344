"""The Gaussian that ends the probability flow of a likelihood at T, with moments of the data.

The log-likelihood by the flow needs the density of the data with noise at T. Where much noise has
been added the posterior mean is linear, and reveals the mean m and the covariance C of the data:

    D(x) = m + J (x - alpha m),     J = alpha C (alpha^2 C + sigma^2)^-1,                        (1)

so the law at T has mean ``mu = alpha D(mu)`` and covariance ``sigma^2 (1 - alpha J)^-1``. The start
law of the samplers has mean 0 and the standard deviation of `LinearSDE.prior`; the divergence
between the two is a closed form. Whatever is not Gaussian appears in the score:

    log p_T(x) - log p_T(mu) = int_0^1 score(mu + v (x - mu)) . (x - mu) dv                      (2)

minus the same for the Gaussian N. With m(x) the difference of the two,

    p_T(x) = N(x) e^m(x) / E_N[e^m].                                                             (3)
"""

__all__ = ["TerminalGaussian", "terminal"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import LOG_2PI
from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.processes.linear import LinearSDE, as_time
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.random.noise import Noise
from ornstein.inference.likelihood.trace import Exact, Hutchinson, pullbacks
from ornstein.inference.sampling.samplers import data_std

# Dimensions up to which a full covariance is taken; above them one variance for all.
_FULL_COVARIANCE_UP_TO = 64
# Signal-to-noise ratio alpha d / sigma at T below which nothing of the data is left.
_NEGLIGIBLE_SIGNAL = 1e-6
_VARIANCE_PROBES = 32  # random directions from which a single variance is estimated
_CORRECTION_DRAWS = 64  # draws of the Gaussian for the mean in (3)
# Fraction of the correction (3) that is reported as its error, for the quadrature of (2).
_CORRECTION_ERROR_FRACTION = 0.1
# Nodes of (2), Gauss-Legendre with weight 1/2 each.
_NODES = (0.5 - 3**-0.5 / 2, 0.5 + 3**-0.5 / 2)
_FIXED_POINT_STEPS = 3  # iterations of mu = alpha D(mu), a contraction by alpha J


@dataclass(frozen=True)
class TerminalGaussian:
    """The Gaussian ``N(mean, L L^T)`` over a flattened event, the law of the data at T.

    Args:
        mean: ``(d,)``, float64.
        factor: L, ``(d, d)``, lower triangular; or a standard deviation, 0-d.
        prior_gap: KL of this law from the start law of the samplers, in nats.
    """

    mean: Tensor
    factor: Tensor
    prior_gap: float

    @staticmethod
    def prior(sde: LinearSDE, dim: int, var: float = 1.0) -> "TerminalGaussian":
        """Return the start law of samplers, ``N(0, alpha_T^2 var + sigma_T^2)`` in every dimension.

        Args:
            sde: the process.
            dim: number of dimensions of one sample.
            var: variance of the data.
        """
        std = float(sde.prior((1, 1), var).std)
        return TerminalGaussian(
            torch.zeros(dim, dtype=torch.float64), torch.tensor(std, dtype=torch.float64), 0.0
        )

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return the log-density of states ``(b, *event)`` in nats, ``(b,)``, float64."""
        dim = len(self.mean)
        log_det = (
            self.factor.diagonal().log().sum() if self.factor.ndim else dim * self.factor.log()
        )
        return -self._squared_distance(x) / 2 - log_det - dim / 2 * LOG_2PI

    def mismatch(self, posterior: Posterior, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, int]:
        """Estimate by how much the law at T differs from this Gaussian, in nats, with an error.

        This is the correction ``m(x) - log E_N[e^m]`` of the Gaussian's log-density.

        Args:
            posterior: the model, whose score at T tells how the law differs from the Gaussian.
            x: states at T, ``(b, *event)``.
            noise: for draws of the Gaussian; every part of a batch uses the same draws.

        Returns:
            The correction ``(b,)`` in nats, the size of its error ``(b,)``, and the evaluations of
            the posterior for each x.
        """
        T = as_time(posterior.sde.T)
        if self.prior_gap == 0 or _signal_is_negligible(posterior):
            nothing = torch.zeros(len(x), dtype=torch.float64, device=x.device)
            return nothing, nothing, 0
        common = Noise(noise.seed, key=noise.key)  # the same draws for every part of a batch
        z = common.normal((_CORRECTION_DRAWS, *x.shape[1:]), torch.float64).flatten(1)
        spread = z @ self.factor.T if self.factor.ndim else z * self.factor
        draws = (self.mean + spread).reshape(-1, *x.shape[1:]).to(x)
        weights = self._log_ratio(posterior, draws, T).exp()
        correction = self._log_ratio(posterior, x, T) - weights.mean().log()  # (3)
        relative_stderr = weights.std() / weights.mean() / math.sqrt(_CORRECTION_DRAWS)
        error = _CORRECTION_ERROR_FRACTION * correction.abs() + relative_stderr
        return correction, error, len(_NODES)

    def _log_ratio(self, posterior: Posterior, x: Tensor, T: Tensor) -> Tensor:
        """Return the difference m(x) of the two integrals (2), ``(b,)``."""
        centre = self.mean.reshape(x.shape[1:]).to(x)
        log_ratio = self._squared_distance(x) / 2
        for v in _NODES:
            score = Reverse(posterior, 0.0).score(centre + v * (x - centre), T)
            log_ratio = log_ratio + (score * (x - centre)).flatten(1).double().sum(1) / 2  # (2)
        return log_ratio

    def _squared_distance(self, x: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance ``|L^-1 (x - mean)|^2``, ``(b,)``, float64."""
        flat = x.flatten(1).double()
        mean, factor = self.mean.to(x.device), self.factor.to(x.device)
        z = Normal(mean, factor).whiten(flat) if factor.ndim else (flat - mean) / factor
        return z.square().sum(1)


def _signal_is_negligible(posterior: Posterior) -> bool:
    """Return whether no signal of the data is left at T, so that the start law is exact."""
    sde = posterior.sde
    signal = float(sde.alpha(sde.T)) * data_std(posterior)
    return signal <= _NEGLIGIBLE_SIGNAL * float(sde.sigma(sde.T))


def terminal(posterior: Posterior, x: Float[Tensor, "b *event"]) -> TerminalGaussian:
    """Return the Gaussian at T of data shaped like x, from the posterior mean and its Jacobian.

    Where the Jacobian is that of no Gaussian, the start law of the samplers is returned.

    Args:
        posterior: the model.
        x: a batch ``(b, *event)``, for shape and dtype.
    """
    sde = posterior.sde
    dim = x[0].numel()
    T = as_time(sde.T)
    alpha, sigma = float(sde.alpha(T)), float(sde.sigma(T))
    prior = TerminalGaussian.prior(sde, dim, data_std(posterior) ** 2)
    if _signal_is_negligible(posterior):
        return prior

    def field(y: Tensor) -> Tensor:
        return alpha * posterior(y, T).mean

    centre = torch.zeros_like(x[:1])
    for _ in range(_FIXED_POINT_STEPS):
        centre = field(centre)
    if dim <= _FULL_COVARIANCE_UP_TO:
        end, rows = pullbacks(field, centre, Exact().directions(centre, Noise(0)))
        jacobian = torch.cat(rows).flatten(1).double()
        values, basis = torch.linalg.eigh((jacobian + jacobian.T) / 2)  # (1)
    else:
        probes = Hutchinson(_VARIANCE_PROBES)
        end, traces = probes(field, centre, probes.directions(centre, Noise(0)))
        values, basis = (traces.mean() / dim).double().expand(dim), None
    if not bool(values.isfinite().all() and (values < 1).all() and centre.isfinite().all()):
        return prior
    variance = sigma**2 / (1 - values)
    residual = (end - centre).flatten().double()
    newton_step = (
        residual / (1 - values) if basis is None else basis @ ((residual @ basis) / (1 - values))
    )
    mean = centre.flatten().double() + newton_step  # (1)
    factor = (
        variance[0].sqrt()
        if basis is None
        else torch.linalg.cholesky(basis @ variance.diag() @ basis.T)
    )
    return TerminalGaussian(mean, factor, _kl(mean, variance, prior.factor.square()))


def _kl(mean: Tensor, variances: Tensor, prior_variance: Tensor) -> float:
    """Return the KL divergence of a Gaussian from ``N(0, prior_variance I)``.

    The Gaussian is given by the mean and the eigenvalues of its covariance.
    """
    ratio = variances / prior_variance
    return float((ratio - 1 - ratio.log()).sum() + mean.square().sum() / prior_variance) / 2
