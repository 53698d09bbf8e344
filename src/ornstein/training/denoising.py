"""Learning a posterior from samples: denoising losses, their weights, and where in time to train.

For ``x_t = alpha x_0 + sigma z`` the posterior mean minimises ``E w(lambda_t) |x_0 - E[x_0 |
x_t]|^2`` for every positive weight w and every distribution of t. All weights are stated on the
error of x_0; the same loss on another quantity is another weight:

    |eps error|^2 = e^lambda |x_0 error|^2,     |F error|^2 (EDM) = (e^lambda + 1 / d^2) |x_0 error|^2.  (1)

With ``w = -lambda' e^lambda / 2`` and t uniform on [0, T] the expectation is the diffusion term of
the evidence bound (Kingma et al. 2021, eq. 13; Song et al. 2021, theorem 1). Losses are per sample;
the caller reduces.
"""

__all__ = [
    "Aim",
    "DenoisingObjective",
    "Weight",
    "denoising_loss",
    "edm_weight",
    "likelihood_weight",
    "min_snr",
    "snr_weight",
    "unit_weight",
]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian, per_sample, sum_event
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.random.noise import Noise
from ornstein.models.denoiser import Denoiser
from ornstein.training.noise_levels import LogNormal, TimeLaw, stratified

Weight = Callable[[LinearSDE, Tensor], Tensor]
"""``(sde, t) -> w``: the weight of the squared error of x_0, elementwise in t."""
Aim = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(x0, z, t) -> (b, *event)``: what the posterior mean is to come near to."""


def unit_weight(sde: LinearSDE, t: Tensor) -> Tensor:
    """1: the plain error of x_0."""
    return torch.ones_like(t)


def snr_weight(sde: LinearSDE, t: Tensor) -> Tensor:
    """``e^lambda``: the plain error of eps, the "simple" loss. Ho et al. 2020, eq. 14."""
    return sde.log_snr(t).exp()


def likelihood_weight(sde: LinearSDE, t: Tensor) -> Tensor:
    """``g^2 alpha^2 / (2 sigma^4) = -lambda' e^lambda / 2``: nats per unit of time. Song et al.
    2021 (MLE), eq. 7."""
    return sde.g2(t) / sde.sigma(t).square() * sde.log_snr(t).exp() / 2


@dataclass(frozen=True)
class min_snr:
    """``min(e^lambda, gamma)``. Hang et al. 2023, eq. 7."""

    gamma: float = 5.0

    def __call__(self, sde: LinearSDE, t: Tensor) -> Tensor:
        return sde.log_snr(t).exp().clamp(max=self.gamma)


@dataclass(frozen=True)
class edm_weight:
    """``e^lambda + 1 / data_std^2`` (1): unit error of the network's output under EDM
    preconditioning; of v at ``data_std = 1``."""

    data_std: float = 1.0

    def __call__(self, sde: LinearSDE, t: Tensor) -> Tensor:
        return sde.log_snr(t).exp() + self.data_std**-2  # (1)


def _clean(x0: Tensor, z: Tensor, t: Tensor) -> Tensor:
    return x0


def denoising_loss(
    denoiser: Denoiser,
    x0: Float[Tensor, "b *event"],
    t: Float[Tensor, " b"],
    noise: Noise,
    weight: Weight = snr_weight,
    cond: Mapping[str, Tensor] | None = None,
    aim: Aim = _clean,
) -> Float[Tensor, " b"]:
    """``w(t) |x_0 - E[x_0 | x_t]|^2 / numel`` per sample, at one draw of ``x_t``.

    Args:
        denoiser: the posterior in training.
        x0: clean samples.
        t: one time per sample, in (0, T].
        noise: source of the noise that is added.
        weight: see the module; with `likelihood_weight` times ``T numel``, nats.
        cond: conditions of the network, one entry per sample.
        aim: what stands for x_0 in the error: anything with the same mean given x_t.
    """
    sde, z = denoiser.sde, noise.stream_like(x0).normal()
    posterior: Gaussian = denoiser(sde.marginal(x0, t).draw(z), t, cond)
    error = sum_event((posterior.mean - aim(x0, z, t)).square()) / x0[0].numel()
    return per_sample(weight(sde, t), error) * error


@dataclass(frozen=True)
class DenoisingObjective:
    """The objective of learning from samples: a batch of step k, its times and its noise are a
    function of k alone.

    Batches run through permutations of the samples, so that each is seen equally often; times are
    stratified.

    Args:
        x0: samples in the model's space.
        batch: samples per step.
        labels: ``(n,)`` classes, or None.
        drop_label: probability of hiding a label, so that the network is unconditional too (for
            guidance).
        times: law of the training times.
        weight: of the loss; None is `edm_weight` at the denoiser's data_std.
        seed: of everything random.
    """

    x0: Float[Tensor, "n *event"]
    batch: int = 128
    labels: Tensor | None = None
    drop_label: float = 0.1
    times: TimeLaw = LogNormal()
    weight: Weight | None = None
    seed: int = 0

    def __call__(self, denoiser: Denoiser, k: int, aim: Aim = _clean) -> tuple[Tensor, Tensor]:
        """The losses of step k and their log-SNR."""
        noise, index, cond = Noise(self.seed).fold(k), self.indices(k), None
        if self.labels is not None:
            hidden = noise.fold(1).uniform((self.batch,)) < self.drop_label
            none = denoiser.net.config["labels"]  # type: ignore[index]
            cond = {"label": torch.where(hidden, none, self.labels[index])}
        t = self.times(denoiser.sde, stratified(self.batch, noise.fold(2)))
        weight = self.weight or edm_weight(denoiser.data_std)
        return denoising_loss(
            denoiser, self.x0[index], t, noise.fold(3), weight, cond, aim
        ), denoiser.sde.log_snr(t)

    def indices(self, k: int) -> Tensor:
        """Which samples step k sees: batch k of an endless sequence of permutations."""
        n = len(self.x0)
        first, last = k * self.batch // n, ((k + 1) * self.batch - 1) // n
        start = k * self.batch - first * n
        order = torch.cat([_permutation(self.seed, epoch, n) for epoch in range(first, last + 1)])
        return order[start : start + self.batch]


@lru_cache(4)
def _permutation(seed: int, epoch: int, n: int) -> Tensor:
    return Noise(seed).fold(-2, epoch).uniform((n,), torch.float64).argsort()
