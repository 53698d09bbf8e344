"""Objectives to train on a density: regression with scores, and losses on path weights.

Regression. For ``x_t = alpha x_0 + sigma z`` and the score ``g = grad log rho(x_0)`` there are two
estimates of E[x_0 | x_t] in hand: x_0 itself (denoising), and, as the score at t is ``E[g | x_t] /
alpha`` (target score matching, De Bortoli et al. 2024), ``(x_t + sigma^2 g / alpha) / alpha``.
Their difference

    u = (sigma / alpha) z + (sigma / alpha)^2 g,        E[u | x_t] = 0,                          (1)

is a control variate: ``x_0 + c u`` has the same mean for any c(t), and for N(0, 1) no variance at
``c = cos^2``, with ``cos^2 = alpha^2 / (alpha^2 + sigma^2)``. `control_table` finds the c of least
variance from the particles. With c = 1, on ends that the denoiser draws by a bridge, it
is the regression of adjoint sampling (Havens et al. 2025): `adjoint_matching`.

Paths. The losses of `ornstein.core.paths.losses`, on paths that the denoiser draws, wider ones, or
ones noised from a buffer.
"""

__all__ = [
    "Control",
    "ControlTable",
    "PathObjective",
    "ReplayBuffer",
    "TargetScoreMatching",
    "adjoint_matching",
    "control_table",
]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.numerics.tables import pick
from ornstein.core.paths.denoising import denoising_paths
from ornstein.core.paths.losses import log_variance
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError
from ornstein.models.denoiser import LOG_SNR_KNOTS, Denoiser
from ornstein.training.denoising import DenoisingObjective

_EARLIEST = 1e-12  # first time, in units of T, where the process has a little noise
_TINY = 1e-30  # in place of the variance of a control variate that is 0 everywhere

Control = Callable[[Tensor], Tensor]
"""Log-SNR to ``c / cos^2``: 0 is denoising, 1 exact for N(0, 1)."""


def adjoint_matching(log_snr: Tensor) -> Tensor:
    """Return ``1 + e^{-lambda}``, the control of regression on the score alone.

    Args:
        log_snr: of the levels.

    Returns:
        ``c / cos^2 = 1 + exp(-log_snr)``.
    """
    return 1 + (-log_snr).exp()


@dataclass(frozen=True)
class ControlTable:
    """A table of controls ``c / cos^2``, linear between the knots `LOG_SNR_KNOTS`.

    Args:
        values: ``(k,)``.
    """

    values: Tensor

    def __call__(self, log_snr: Tensor) -> Tensor:
        """Return the control ``c / cos^2`` at each log-SNR by interpolation."""
        step = LOG_SNR_KNOTS[1] - LOG_SNR_KNOTS[0]
        place = ((log_snr - LOG_SNR_KNOTS[0]) / step).clamp(0, len(LOG_SNR_KNOTS) - 1).float()
        left = place.floor().clamp(max=len(LOG_SNR_KNOTS) - 2).long()
        return torch.lerp(self.values[left], self.values[left + 1], place - left)


def _variate(sde: LinearSDE, t: Tensor, z: Tensor, score: Tensor, control: Tensor) -> Tensor:
    """Return the control variate ``c u``, from the control c / cos^2.

    This control is finite at both ends of time.
    """
    cos, sin, _ = sde.polar(t)
    return per_sample(control, z) * (
        per_sample(cos * sin, z) * z + per_sample(sin.square(), z) * score
    )  # (1)


@torch.no_grad()
def control_table(
    sde: LinearSDE, x0: Float[Tensor, "n d"], scores: Float[Tensor, "n d"], noise: Noise
) -> ControlTable:
    """Estimate the control that minimises the variance at each of `LOG_SNR_KNOTS`, in [0, 1].

    It is ``- E[r u] / E[u^2]`` with r the residual of x_0 under the posterior mean of N(0, 1).

    Args:
        sde: the process.
        x0: particles of the density.
        scores: gradients of the log-density there.
        noise: source of randomness.
    """
    values = []
    for k, t in enumerate(sde.time(LOG_SNR_KNOTS).clamp(min=sde.T * _EARLIEST)):
        cos, sin, _ = sde.polar(t)
        z = noise.fold(k).stream_like(x0).normal()
        u = _variate(sde, t, z, scores, torch.ones(()))
        residual = x0 - cos * (cos * x0 + sin * z)
        values.append(-(residual * u).mean() / u.square().mean().clamp(min=_TINY))
    return ControlTable(torch.stack(values).nan_to_num(0.0).clamp(0, 1))


@dataclass(frozen=True)
class TargetScoreMatching:
    """Denoising with a control variate made of target scores, which lowers the variance.

    Batches, times and weights are those of a `DenoisingObjective`.

    Args:
        batches: the particles, equally weighted, in the model's space, near zero mean and unit
            covariance.
        scores: gradients of the log-density there, ``(n, *event)``.
        control: from `control_table`, or `adjoint_matching`.
    """

    batches: DenoisingObjective
    scores: Tensor
    control: Control

    def __call__(self, denoiser: Denoiser, k: int) -> tuple[Tensor, Tensor]:
        """Return the losses of step k and their log-SNR, both ``(batch,)``."""
        index = self.batches.indices(k)
        scores = self.scores

        def aim(x0: Tensor, z: Tensor, t: Tensor) -> Tensor:
            return x0 + _variate(
                denoiser.sde, t, z, scores[index], self.control(denoiser.sde.log_snr(t))
            )

        return self.batches(denoiser, k, aim)


@dataclass(frozen=True)
class ReplayBuffer:
    """A buffer of weighted particles, from which training draws in proportion to weight.

    Args:
        x: ``(n, *event)``.
        log_w: ``(n,)``; zeros for equal weights.
    """

    x: Tensor
    log_w: Tensor

    def draw(self, n: int, noise: Noise) -> Tensor:
        """Draw n particles with replacement, ``(n, *event)``."""
        probabilities = torch.softmax(self.log_w.double(), 0)
        return self.x[pick(probabilities, noise.uniform((n,), torch.float64))]

    @renamed_arguments(most="max_size")
    def joined(self, x: Tensor, log_w: Tensor, max_size: int) -> "ReplayBuffer":
        """Return a buffer with newer particles added; both sets have the mean weight 1.

        Args:
            x: ``(m, *event)``.
            log_w: ``(m,)``.
            max_size: number of particles; the oldest beyond it are dropped.
        """
        sets = [
            w - w.logsumexp(0) + torch.log(torch.tensor(float(len(w)))) for w in (self.log_w, log_w)
        ]
        return ReplayBuffer(torch.cat([self.x, x])[-max_size:], torch.cat(sets)[-max_size:])


@renamed_arguments(share="replay_fraction")
@dataclass(frozen=True)
class PathObjective:
    """A loss on the log-weights of fresh paths, such as `log_variance` or `trajectory_balance`.

    Paths are drawn off policy: gradients do not flow through the states.

    Args:
        target: the unnormalised log-density in the model's space.
        times: the grid of the paths.
        loss: ``log_w -> losses``.
        batch: paths per step.
        replay_fraction: fraction of the batch that is noised from the buffer; for losses that may
            be taken on any paths.
        buffer: the particles from which paths are noised.
        widen: factor on the standard deviation of the kernels that draw; above 1 explores, for the
            same losses.
        seed: of everything random.
    """

    target: LogDensity
    times: Float[Tensor, " k"]
    loss: Callable[[Tensor], Tensor] = log_variance
    batch: int = 512
    replay_fraction: float = 0.0
    buffer: ReplayBuffer | None = None
    widen: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.replay_fraction <= 1 or (self.replay_fraction > 0 and self.buffer is None):
            raise OrnsteinError(
                f"PathObjective(replay_fraction={self.replay_fraction}): from 0 to 1, and above 0"
                " only with a buffer"
            )

    def __call__(self, denoiser: Posterior, k: int) -> tuple[Tensor, None]:
        """Return the losses of step k, ``(batch,)``, with None as they have no log-SNR."""
        noise = Noise(self.seed).fold(k)
        paths = denoising_paths(denoiser, self.target, self.times).off_path(self.widen)
        back = round(self.batch * self.replay_fraction)
        parts = [paths.draw(self.batch - back, noise.fold(0)).log_w] if back < self.batch else []
        if self.buffer is not None and back:
            parts.append(paths.back(self.buffer.draw(back, noise.fold(1)), noise.fold(2)))
        log_w = torch.cat(parts)
        # a path that ends outside the support says nothing about slopes
        return self.loss(log_w[torch.isfinite(log_w)]), None
