"""Noise levels: the distributions from which a denoising loss draws its training times.

A distribution of times is given by its quantile function ``(sde, u) -> t``, so that uniform numbers
u that are stratified give stratified times.
"""

__all__ = ["LogNormal", "LogitNormal", "TimeLaw", "UniformLogSNR", "UniformTime", "stratified"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.processes.linear import LinearSDE
from ornstein.core.random.noise import Noise

_MARGIN = 1e-12  # from 0 and 1, where quantile functions are infinite

TimeLaw = Callable[[LinearSDE, Tensor], Tensor]
"""``(sde, u) -> t``: the quantile function of a law of times, elementwise in the uniform u."""


@dataclass(frozen=True)
class UniformTime:
    """Times that are uniform on (0, T)."""

    def __call__(self, sde: LinearSDE, u: Tensor) -> Tensor:
        return sde.T * u


@dataclass(frozen=True)
class UniformLogSNR:
    """Log-SNRs lambda that are uniform between two values.

    Args:
        low, high: of lambda, in nats.
    """

    low: float = -9.0
    high: float = 9.0

    def __call__(self, sde: LinearSDE, u: Tensor) -> Tensor:
        return sde.time(self.low + (self.high - self.low) * u)


@dataclass(frozen=True)
class LogNormal:
    """Noise-to-signal ratios with ``log(sigma / alpha) ~ N(mean, std^2)``, as EDM draws them.

    Karras et al. 2022, table 1.

    Args:
        mean, std: of the logarithm.
    """

    mean: float = -1.2
    std: float = 1.2

    def __call__(self, sde: LinearSDE, u: Tensor) -> Tensor:
        return sde.time(-2 * (self.mean + self.std * torch.special.ndtri(u)))


@dataclass(frozen=True)
class LogitNormal:
    """Times with ``logit(t / T) ~ N(mean, std^2)``, made for `RectifiedFlow`.

    Esser et al. 2024, section 3.1.

    Args:
        mean, std: of the logit.
    """

    mean: float = 0.0
    std: float = 1.0

    def __call__(self, sde: LinearSDE, u: Tensor) -> Tensor:
        return sde.T * torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))


def stratified(n: int, noise: Noise) -> Float[Tensor, " n"]:
    """Draw n uniform numbers, one in each of the strata ``[i/n, (i+1)/n)``, in random order.

    Each is uniform on [0, 1), and their mean varies little. Kingma et al. 2021, appendix I.1, with
    one draw per stratum and a permutation, so that they are exchangeable.
    """
    order = torch.argsort(noise.fold(1).uniform((n,)))
    u = (order + noise.uniform((n,), dtype=torch.float64)) / n
    return u.clamp(_MARGIN, 1 - _MARGIN)
