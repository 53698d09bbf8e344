"""The law that the data have at T, where the flow ends: a Gaussian, with the moments that the model
has there.

Far out in the noise the posterior mean is linear, and tells the mean m and covariance C of the
data:

    D(x) = m + J (x - alpha m),     J = alpha C (alpha^2 C + sigma^2)^-1,                        (1)

so the law at T has mean ``mu = alpha D(mu)`` and covariance ``sigma^2 (1 - alpha J)^-1``, the start
law of the samplers has mean 0 and the standard deviation of `LinearSDE.prior`, and the divergence
between the two is a closed form. What is not Gaussian shows in the score:

    log p_T(x) - log p_T(mu) = int_0^1 score(mu + v (x - mu)) . (x - mu) dv                      (2)

against the same for the Gaussian N: with m the difference of the two, ``p_T(x) = N(x) e^m(x) / E_N[e^m]``.  (3)
"""

__all__ = ["TerminalGaussian", "terminal"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.processes.linear import LinearSDE, as_time
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.random.noise import Noise
from ornstein.inference.likelihood.trace import Exact, Hutchinson, pullbacks
from ornstein.inference.sampling.sample import data_std

FULL_UP_TO = 64  # dimensions with a covariance; above, one variance
BLANK = 1e-6  # alpha d / sigma, below which nothing is left of the data
PROBES = 32  # for that variance
DRAWS = 64  # from the Gaussian, for (3)
LEFT = 0.1  # of a correction that may be left
GAUSS = (0.5 - 3**-0.5 / 2, 0.5 + 3**-0.5 / 2)  # nodes of (2), weight 1/2 each


@dataclass(frozen=True)
class TerminalGaussian:
    """``N(mean, L L^T)`` over a flattened event.

    Attributes:
        mean: ``(d,)``, float64.
        factor: L, ``(d, d)``, lower triangular; or a standard deviation, 0-d.
        prior_gap: KL of this law from the start law of the samplers, in nats.
    """

    mean: Tensor
    factor: Tensor
    prior_gap: float

    @staticmethod
    def prior(sde: LinearSDE, dim: int, var: float = 1.0) -> "TerminalGaussian":
        """The start law of samplers: ``N(0, alpha_T^2 var + sigma_T^2)``."""
        std = float(sde.prior((1, 1), var).std)
        return TerminalGaussian(
            torch.zeros(dim, dtype=torch.float64), torch.tensor(std, dtype=torch.float64), 0.0
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """``(b, *event) -> (b,)``, nats."""
        dim, z = len(self.mean), self._white(x.flatten(1).double())
        log_det = (
            self.factor.diagonal().log().sum() if self.factor.ndim else dim * self.factor.log()
        )
        return -z.square().sum(1) / 2 - log_det - dim / 2 * math.log(2 * math.pi)

    def mismatch(self, posterior: Posterior, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, int]:
        """What (3) adds to the Gaussian's log-density, ``(b,)``; the size of its error; evaluations
        for each x."""
        sde, T = posterior.sde, as_time(posterior.sde.T)
        if self.prior_gap == 0 or float(sde.alpha(T)) * data_std(posterior) <= BLANK * float(
            sde.sigma(T)
        ):
            nothing = torch.zeros(len(x), dtype=torch.float64, device=x.device)
            return nothing, nothing, 0
        noise = Noise(noise.seed, key=noise.key)  # the same draws for every part of a batch
        z = noise.normal((DRAWS, *x.shape[1:]), torch.float64).flatten(1)
        draws = (
            (self.mean + (z @ self.factor.T if self.factor.ndim else z * self.factor))
            .reshape(-1, *x.shape[1:])
            .to(x)
        )
        weights = self._bend(posterior, draws, T).exp()
        added = self._bend(posterior, x, T) - weights.mean().log()  # (3)
        return (
            added,
            LEFT * added.abs() + weights.std() / weights.mean() / math.sqrt(DRAWS),
            len(GAUSS),
        )

    def _bend(self, posterior: Posterior, x: Tensor, T: Tensor) -> Tensor:
        """m of (3)."""
        centre, found = (
            self.mean.reshape(x.shape[1:]).to(x),
            self._white(x.flatten(1).double()).square().sum(1) / 2,
        )
        for v in GAUSS:
            score = Reverse(posterior, 0.0).score(centre + v * (x - centre), T)
            found = found + (score * (x - centre)).flatten(1).double().sum(1) / 2  # (2)
        return found

    def _white(self, x: Tensor) -> Tensor:
        centred, factor = x - self.mean.to(x.device), self.factor.to(x.device)
        return (
            torch.linalg.solve_triangular(factor, centred.T, upper=False).T
            if factor.ndim
            else centred / factor
        )


def terminal(posterior: Posterior, x: Tensor) -> TerminalGaussian:
    """The law (1) for data shaped like x; where the posterior's Jacobian is that of no Gaussian,
    the start law of the samplers."""
    sde, dim, T = posterior.sde, x[0].numel(), as_time(posterior.sde.T)
    alpha, sigma = float(sde.alpha(T)), float(sde.sigma(T))
    prior = TerminalGaussian.prior(sde, dim, data_std(posterior) ** 2)
    if alpha * data_std(posterior) <= BLANK * sigma:
        return prior

    def field(y: Tensor) -> Tensor:
        return alpha * posterior(y, T).mean

    centre = torch.zeros_like(x[:1])
    for _ in range(3):  # contracts by alpha J
        centre = field(centre)
    if dim <= FULL_UP_TO:
        end, rows = pullbacks(field, centre, Exact().directions(centre, Noise(0)))
        jacobian = torch.cat(rows).flatten(1).double()
        values, basis = torch.linalg.eigh((jacobian + jacobian.T) / 2)  # (1)
    else:
        probes = Hutchinson(PROBES)
        end, traces = probes(field, centre, probes.directions(centre, Noise(0)))
        values, basis = (traces.mean() / dim).double().expand(dim), None
    if not bool(values.isfinite().all() and (values < 1).all() and centre.isfinite().all()):
        return prior
    variance, wide, step = (
        sigma**2 / (1 - values),
        prior.factor.square(),
        (end - centre).flatten().double(),
    )
    shift = (
        step / (1 - values) if basis is None else basis @ ((step @ basis) / (1 - values))
    )  # Newton
    mean = centre.flatten().double() + shift  # (1)
    gap = (
        float((variance / wide - 1 - (variance / wide).log()).sum() + mean.square().sum() / wide)
        / 2
    )
    factor = (
        variance[0].sqrt()
        if basis is None
        else torch.linalg.cholesky(basis @ variance.diag() @ basis.T)
    )
    return TerminalGaussian(mean, factor, gap)
