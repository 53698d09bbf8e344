"""Noise levels: the distributions from which a denoising loss draws its training times."""

__all__ = ["LogNormal", "LogitNormal", "TimeLaw", "UniformLogSNR", "UniformTime", "stratified"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.processes.linear import LinearSDE
from ornstein.core.random.noise import Noise

TimeLaw = Callable[[LinearSDE, Tensor], Tensor]
"""``(sde, u) -> t``: the quantile function of a law of times, elementwise in the uniform u."""


@dataclass(frozen=True)
class UniformTime:
    """t uniform on (0, T). Like every time law, a quantile function of a uniform u."""

    def __call__(self, sde: LinearSDE, u: Tensor) -> Tensor:
        return sde.T * u


@dataclass(frozen=True)
class UniformLogSNR:
    """lambda uniform between two values; t where the process has it."""

    low: float = -9.0
    high: float = 9.0

    def __call__(self, sde: LinearSDE, u: Tensor) -> Tensor:
        return sde.time(self.low + (self.high - self.low) * u)


@dataclass(frozen=True)
class LogNormal:
    """``log(sigma / alpha) ~ N(mean, std^2)``, the training levels of EDM. Karras et al. 2022,
    table 1."""

    mean: float = -1.2
    std: float = 1.2

    def __call__(self, sde: LinearSDE, u: Tensor) -> Tensor:
        return sde.time(-2 * (self.mean + self.std * torch.special.ndtri(u)))


@dataclass(frozen=True)
class LogitNormal:
    """``logit(t / T) ~ N(mean, std^2)``, made for `RectifiedFlow`. Esser et al. 2024, section 3.1."""

    mean: float = 0.0
    std: float = 1.0

    def __call__(self, sde: LinearSDE, u: Tensor) -> Tensor:
        return sde.T * torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))


def stratified(n: int, noise: Noise) -> Float[Tensor, " n"]:
    """n numbers, one uniform in each of the strata ``[i/n, (i+1)/n)``, in random order: each is
    uniform, their mean is steady.

    Kingma et al. 2021, appendix I.1, with one draw per stratum and a permutation, so that they are
    exchangeable.
    """
    order = torch.argsort(noise.fold(1).uniform((n,)))
    u = (order + noise.uniform((n,), dtype=torch.float64)) / n
    return u.clamp(1e-12, 1 - 1e-12)
