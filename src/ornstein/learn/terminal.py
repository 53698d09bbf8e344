"""The law that the data have at T, where the flow ends: a Gaussian, with the moments that the model has there.

Far out in the noise the posterior mean is linear, and tells the mean m and covariance C of the data:

    D(x) = m + J (x - alpha m),     J = alpha C (alpha^2 C + sigma^2)^-1,                                     (1)

so the law at T has mean ``mu = alpha D(mu)`` and covariance ``sigma^2 (1 - alpha J)^-1``, the start law of the samplers has mean 0
and the standard deviation of `LinearSDE.prior`, and the divergence between the two is a closed form. What is not Gaussian shows in
the score:

    log p_T(x) - log p_T(mu) = int_0^1 score(mu + v (x - mu)) . (x - mu) dv                                   (2)

against the same for the Gaussian.
"""

__all__ = ["Terminal", "terminal"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.divergence import Exact, Hutchinson, pullbacks
from ornstein.core.linear import LinearSDE
from ornstein.core.noise import Noise
from ornstein.core.sde import Posterior, Reverse
from ornstein.learn.sampling import data_std

FULL_UP_TO = 64  # dimensions with a covariance; above, one variance
BLANK = 1e-6  # alpha d / sigma, below which nothing is left of the data
PROBES = 32  # for that variance
GAUSS = (0.5 - 3**-0.5 / 2, 0.5 + 3**-0.5 / 2)  # nodes of (2), weight 1/2 each


@dataclass(frozen=True)
class Terminal:
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
    def prior(sde: LinearSDE, dim: int, var: float = 1.0) -> "Terminal":
        """The start law of samplers: ``N(0, alpha_T^2 var + sigma_T^2)``."""
        std = float(sde.prior((1, 1), var).std)
        return Terminal(torch.zeros(dim, dtype=torch.float64), torch.tensor(std, dtype=torch.float64), 0.0)

    def log_prob(self, x: Tensor) -> Tensor:
        """``(b, *event) -> (b,)``, nats."""
        dim, z = len(self.mean), self._white(x.flatten(1).double())
        log_det = self.factor.diagonal().log().sum() if self.factor.ndim else dim * self.factor.log()
        return -z.square().sum(1) / 2 - log_det - dim / 2 * math.log(2 * math.pi)

    def mismatch(self, posterior: Posterior, x: Tensor) -> tuple[Tensor, int]:
        """How far (2) is from the Gaussian's, ``(b,)``, and the evaluations that took: two, or none where no data is left."""
        sde, T = posterior.sde, torch.tensor(posterior.sde.T, dtype=torch.float64)
        if float(sde.alpha(T)) * data_std(posterior) <= BLANK * float(sde.sigma(T)):
            return x.new_zeros(len(x), dtype=torch.float64), 0
        found, centre = torch.zeros(len(x), dtype=torch.float64), self.mean.reshape(x.shape[1:]).to(x)
        for v in GAUSS:
            score = Reverse(posterior, 0.0).score(centre + v * (x - centre), T)
            found = found + (score * (x - centre)).flatten(1).double().sum(1) / 2  # (2)
        return (found + self._white(x.flatten(1).double()).square().sum(1) / 2).abs(), len(GAUSS)

    def _white(self, x: Tensor) -> Tensor:
        centred = x - self.mean
        return torch.linalg.solve_triangular(self.factor, centred.T, upper=False).T if self.factor.ndim else centred / self.factor


def terminal(posterior: Posterior, x: Tensor) -> Terminal:
    """The law (1) for data shaped like x; where the posterior's Jacobian is that of no Gaussian, the start law of the samplers."""
    sde, dim, T = posterior.sde, x[0].numel(), torch.tensor(posterior.sde.T, dtype=torch.float64)
    alpha, sigma = float(sde.alpha(T)), float(sde.sigma(T))
    prior = Terminal.prior(sde, dim, data_std(posterior) ** 2)
    if alpha * data_std(posterior) <= BLANK * sigma:
        return prior

    def field(y: Tensor) -> Tensor:
        return alpha * posterior(y, T).mean

    centre = torch.zeros_like(x[:1])
    for _ in range(3):  # contracts by alpha J
        centre = field(centre)
    if dim <= FULL_UP_TO:
        _, rows = pullbacks(field, centre, Exact().directions(centre, Noise(0)))
        jacobian = torch.cat(rows).flatten(1).double()
        values, basis = torch.linalg.eigh((jacobian + jacobian.T) / 2)  # (1)
    else:
        probes = Hutchinson(PROBES)
        _, traces = probes(field, centre, probes.directions(centre, Noise(0)))
        values, basis = (traces.mean() / dim).double().expand(dim), None
    if not bool(values.isfinite().all() and (values < 1).all() and centre.isfinite().all()):
        return prior
    variance, mean, wide = sigma**2 / (1 - values), centre.flatten().double(), prior.factor.square()  # (1)
    gap = float((variance / wide - 1 - (variance / wide).log()).sum() + mean.square().sum() / wide) / 2
    factor = variance[0].sqrt() if basis is None else torch.linalg.cholesky(basis @ variance.diag() @ basis.T)
    return Terminal(mean, factor, gap)
