"""Learned noise levels: train on the evidence bound itself, at levels that estimate it best.

In the log-SNR the diffusion term of the bound does not depend on the process (Kingma et al. 2021,
eq. 18),

    L = 1/2 int e^lambda |x_0 - E[x_0 | x]|^2 dlambda    nats per sample,                        (1)

so a noise schedule is nothing but the law by which lambda is drawn: weighted by ``e^lambda / 2
p(lambda)`` every law p estimates the same L, with a variance that is smallest for p proportional to
the root of the second moment of the integrand. `LearnedNoiseLevels` is such a law with the weight
that belongs to it; `LearnedNoiseLevels.fit` learns it as a monotone network that minimises the
variance of the estimate (Kingma et al. 2021, appendix H), and returns the result as a table.
"""

__all__ = ["LearnedNoiseLevels", "MonotoneLogSNR"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ornstein.core.numerics.gaussian import per_sample, sum_event
from ornstein.core.numerics.tables import cell
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError
from ornstein.training.noise_levels import stratified

_PIECES = 64  # pieces of the table that `fit` returns
_SLOPE = 12.0  # initial slope of the network's sigmoids: 64 of them overlap on [0, 1]
_OVERLAP = 0.1  # distance by which the centres of the sigmoids reach beyond [0, 1]


@dataclass(frozen=True)
class LearnedNoiseLevels:
    """A piecewise uniform law of the log-SNR, with its weight for training on the evidence bound.

    ``DenoisingObjective(x, times=levels, weight=levels.weight)`` trains on the bound, in nats per
    dimension.

    Args:
        levels: at least 2 log-SNRs, increasing: the quantiles 0, 1/K, ..., 1.
    """

    levels: tuple[float, ...] = (-10.0, 10.0)

    def __post_init__(self) -> None:
        if len(self.levels) < 2 or any(
            not a < b for a, b in zip(self.levels, self.levels[1:], strict=False)
        ):
            raise OrnsteinError(
                f"LearnedNoiseLevels(levels={self.levels[:4]}...): at least two log-SNRs,"
                " increasing"
            )

    def __call__(self, sde: LinearSDE, u: Tensor) -> Tensor:
        """Return the times of quantiles u."""
        levels = torch.tensor(self.levels, dtype=torch.float64)
        place = u.double() * (len(levels) - 1)
        k = place.floor().clamp(0, len(levels) - 2).long()
        return sde.time(torch.lerp(levels[k], levels[k + 1], place - k))

    def density(self, log_snr: Tensor) -> Tensor:
        """Return the density p(lambda) of log-SNRs, constant beyond the outermost pieces."""
        levels = torch.tensor(self.levels, dtype=torch.float64)
        k = cell(levels, log_snr.double())
        return 1 / ((levels[k + 1] - levels[k]) * (len(levels) - 1))

    def weight(self, sde: LinearSDE, t: Tensor) -> Tensor:
        """Return ``e^lambda / (2 p(lambda))``, with which the mean loss is the bound per dimension.

        The bound is that between the first and the last level.
        """
        log_snr = sde.log_snr(t)
        return log_snr.exp() / (2 * self.density(log_snr))

    @staticmethod
    def fit(
        posterior: Posterior,
        x: Tensor,
        low: float = -10.0,
        high: float = 10.0,
        steps: int = 200,
        batch: int = 128,
        seed: int | Noise = 0,
        rate: float = 1e-2,
    ) -> "LearnedNoiseLevels":
        """Learn the law of log-SNRs under which the estimate of the evidence bound varies least.

        The model should be trained a little.

        Args:
            posterior: the model; its weights are not changed.
            x: samples.
            low, high: log-SNRs.
            steps, batch, rate: of Adam on the second moment of the estimate.
            seed: an integer or a `Noise`.
        """
        noise = Noise.of(seed)
        net = MonotoneLogSNR(low, high)
        optimiser = torch.optim.Adam(net.parameters(), rate)
        for k in range(steps):
            step_noise = noise.fold(k)
            index = (step_noise.uniform((batch,), torch.float64) * len(x)).long()
            u = stratified(batch, step_noise.fold(1))
            log_snr, slope = net.slope(u)
            with torch.no_grad():
                integrand = _integrand(posterior, x[index], log_snr, step_noise.fold(2))
            # the quantile of the same level, whatever the weights
            quantile = u - (log_snr - log_snr.detach()) / slope.detach()
            moment = (
                integrand.square() * slope.detach() * net.slope(quantile)[1]
            )  # f^2 / (p_drawn p): its mean is the second moment
            optimiser.zero_grad()
            (moment.mean() / moment.detach().mean()).backward()
            optimiser.step()
        with torch.no_grad():
            levels = net(torch.linspace(0, 1, _PIECES + 1, dtype=torch.float64))
        return LearnedNoiseLevels(tuple(levels.tolist()))


class MonotoneLogSNR(nn.Module):
    """An increasing function of a quantile in [0, 1] between two log-SNRs, as a small network.

    It has linear layers of positive weights around a sigmoid. Kingma et al. 2021, appendix H, with
    time running the other way.

    Args:
        low, high: values at 0 and 1.
        width: of the hidden layer.
    """

    def __init__(self, low: float = -10.0, high: float = 10.0, width: int = 64) -> None:
        super().__init__()
        if not low < high:
            raise OrnsteinError(f"MonotoneLogSNR(low={low}, high={high}): low below high")
        self.low, self.high = low, high
        centres = torch.linspace(-_OVERLAP, 1 + _OVERLAP, width, dtype=torch.float64)
        self.straight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.into = nn.Parameter(torch.full((width,), math.log(_SLOPE), dtype=torch.float64))
        self.shift = nn.Parameter(-_SLOPE * centres)
        self.out = nn.Parameter(torch.full((width,), -math.log(width), dtype=torch.float64))

    def forward(self, u: Tensor) -> Tensor:
        """Return the log-SNR of quantiles u."""
        ends = self._rise(torch.tensor([0.0, 1.0], dtype=torch.float64))
        fraction = (self._rise(u.double()) - ends[0]) / (ends[1] - ends[0])
        return self.low + (self.high - self.low) * fraction

    def slope(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-SNR of quantiles u and its derivative, differentiable in the weights."""
        with torch.enable_grad():
            u = u if u.requires_grad else u.detach().requires_grad_()
            log_snr = self(u)
            (slope,) = torch.autograd.grad(log_snr.sum(), u, create_graph=True)
        return log_snr, slope

    def _rise(self, u: Tensor) -> Tensor:
        """Return the increasing function before it is scaled to the range of log-SNRs."""
        hidden = torch.sigmoid(u[..., None] * self.into.exp() + self.shift)
        return self.straight.exp() * u + hidden @ self.out.exp()


def _integrand(posterior: Posterior, x: Tensor, log_snr: Tensor, noise: Noise) -> Tensor:
    """Return ``e^lambda |x_0 - E[x_0 | x]|^2 / 2`` at one draw for each sample, ``(b,)``."""
    t = posterior.sde.time(log_snr)
    x_t = posterior.sde.marginal(x, t).draw(noise.stream_like(x).normal())
    error = sum_event((posterior(x_t, t).mean - x).square()).double()
    return per_sample(log_snr.exp(), error) * error / 2
