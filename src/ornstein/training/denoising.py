"""Denoising losses: learn a posterior from samples by regression of the clean point on a noisy one.

For ``x_t = alpha x_0 + sigma z`` the posterior mean minimises ``E w(lambda_t) |x_0 - E[x_0 |
x_t]|^2`` for every positive weight w and every distribution of t. All weights are stated on the
error of x_0; the same loss on another quantity is another weight:

    |eps error|^2 = e^lambda |x_0 error|^2,                                                      (1)
    |F error|^2 (EDM) = (e^lambda + 1 / d^2) |x_0 error|^2.

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
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.checks import require_finite, require_integers
from ornstein.core.numerics.gaussian import Gaussian, per_sample, sum_event
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError
from ornstein.models.denoiser import Denoiser, declared_conditions
from ornstein.training.noise_levels import LogNormal, TimeLaw, stratified

# keys of the random numbers of a step
_HIDE, _TIMES, _ADDED, _ORDER = 1, 2, 3, -2

Weight = Callable[[LinearSDE, Tensor], Tensor]
"""``(sde, t) -> w``: the weight of the squared error of x_0, elementwise in t."""
Aim = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(x0, z, t) -> (b, *event)``: what the posterior mean is to come near to."""


def unit_weight(sde: LinearSDE, t: Tensor) -> Tensor:
    """Return the weight 1, for the plain squared error of x_0."""
    return torch.ones_like(t)


def snr_weight(sde: LinearSDE, t: Tensor) -> Tensor:
    """Return ``e^lambda``, for the plain squared error of eps, the "simple" loss.

    Ho et al. 2020, eq. 14.
    """
    return sde.log_snr(t).exp()


def likelihood_weight(sde: LinearSDE, t: Tensor) -> Tensor:
    """Return ``-lambda' e^lambda / 2``, for the evidence bound in nats per unit of time.

    It is ``g^2 alpha^2 / (2 sigma^4)``. Song et al. 2021 (maximum likelihood), eq. 7.
    """
    return sde.g2(t) / sde.sigma(t).square() * sde.log_snr(t).exp() / 2


@dataclass(frozen=True)
class min_snr:
    """The weight ``min(e^lambda, gamma)`` of the squared error of x_0.

    Hang et al. 2023, eq. 7.

    Args:
        gamma: the largest weight.
    """

    gamma: float = 5.0

    def __call__(self, sde: LinearSDE, t: Tensor) -> Tensor:
        return sde.log_snr(t).exp().clamp(max=self.gamma)


@dataclass(frozen=True)
class edm_weight:
    """The weight ``e^lambda + 1 / data_std^2`` of the squared error of x_0.

    Under EDM preconditioning it is the plain squared error of the network's output; with
    ``data_std = 1`` that of v.

    Args:
        data_std: standard deviation of the data.
    """

    data_std: float = 1.0

    def __call__(self, sde: LinearSDE, t: Tensor) -> Tensor:
        return sde.log_snr(t).exp() + self.data_std**-2  # (1)


def _clean(x0: Tensor, z: Tensor, t: Tensor) -> Tensor:
    """Return the clean point, the usual target of the regression."""
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
    """Return ``w(t) |x_0 - E[x_0 | x_t]|^2 / numel`` for each sample, at one draw of ``x_t``.

    Args:
        denoiser: the posterior in training.
        x0: clean samples.
        t: one time per sample, in (0, T].
        noise: source of the noise that is added.
        weight: see the module; with `likelihood_weight` times ``T numel``, nats.
        cond: conditions of the network by name, one row per sample.
        aim: what stands for x_0 in the error: anything with the same mean given x_t.
    """
    sde = denoiser.sde
    z = noise.stream_like(x0).normal()
    posterior: Gaussian = denoiser(sde.marginal(x0, t).draw(z), t, cond)
    error = sum_event((posterior.mean - aim(x0, z, t)).square()) / x0[0].numel()
    return per_sample(weight(sde, t), error) * error


@dataclass(frozen=True)
class DenoisingObjective:
    """The denoising objective: for each training step the losses of a batch of samples.

    The batch of step k, its times and its noise are a function of k alone. Batches run through
    permutations of the samples, so that each is seen equally often; times are stratified. Each
    condition is replaced by its null value at random, so that the network is an unconditional
    model too.

    Args:
        x0: samples in the model's space.
        batch: samples per step.
        labels: ``(n,)`` classes, or None; the same as ``conditions={"label": labels}``.
        drop_label: probability of replacing a condition by its null value, of each that ``drop``
            does not name.
        times: law of the training times.
        weight: of the loss; None is `edm_weight` at the denoiser's data_std.
        seed: of everything random.
        conditions: by name, one row per sample; the network declares them.
        drop: probabilities of replacing a condition by its null value, by name.

    Example:
        >>> objective = orn.DenoisingObjective(torch.randn(50, 2), batch=8)
        >>> losses, log_snr = objective(orn.Denoiser(orn.MLP(2), orn.VP()), 0)
        >>> losses.shape
        torch.Size([8])
    """

    x0: Float[Tensor, "n *event"]
    batch: int = 128
    labels: Tensor | None = None
    drop_label: float = 0.1
    times: TimeLaw = field(default_factory=LogNormal)
    weight: Weight | None = None
    seed: int = 0
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    drop: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_integers(1, batch=self.batch)
        if self.labels is not None and "label" in self.conditions:
            raise OrnsteinError(
                "labels= and conditions={'label': ...} are the same: pass one of the two"
            )
        names = {*self.conditions, *([] if self.labels is None else ["label"])}
        if unknown := sorted(set(self.drop) - names):
            raise OrnsteinError(f"drop={dict(self.drop)}: {unknown} are none of {sorted(names)}")
        for name, probability in {"drop_label": self.drop_label, **self.drop}.items():
            require_finite(False, **{name: probability})
            if not 0 <= probability <= 1:
                raise OrnsteinError(f"{name}={probability}: a probability, usually 0.1")

    def __call__(self, denoiser: Denoiser, k: int, aim: Aim = _clean) -> tuple[Tensor, Tensor]:
        """Return the losses of step k and their log-SNR, both ``(batch,)``.

        Args:
            denoiser: the posterior in training.
            k: number of the step, from 0.
            aim: what stands for x_0 in the error, see `denoising_loss`.
        """
        noise = Noise(self.seed).fold(k)
        index = self.indices(k)
        cond = self._conditions(denoiser, index, noise)
        t = self.times(denoiser.sde, stratified(self.batch, noise.fold(_TIMES)))
        weight = self.weight or edm_weight(denoiser.data_std)
        losses = denoising_loss(denoiser, self.x0[index], t, noise.fold(_ADDED), weight, cond, aim)
        return losses, denoiser.sde.log_snr(t)

    def _conditions(
        self, denoiser: Denoiser, index: Tensor, noise: Noise
    ) -> dict[str, Tensor] | None:
        """Return the conditions of a batch, some set to null values; None if there are none."""
        values = dict(self.conditions)
        if self.labels is not None:
            values["label"] = self.labels
        kinds = declared_conditions(denoiser.net) if values else {}
        rows = dict[str, Tensor]()
        for name, value in values.items():
            kind = kinds.get(name)
            if kind is None:
                raise OrnsteinError(
                    f"condition {name!r}: the network declares {list(kinds)}; give it"
                    " an attribute conditions, such as {'label': orn.conditions.Label(3)}"
                )
            source = noise.fold(_HIDE) if name == "label" else noise.fold(_HIDE, name)
            hidden = source.uniform((self.batch,)) < self.drop.get(name, self.drop_label)
            hidden = hidden.reshape(-1, *[1] * (value.ndim - 1)).to(value.device)
            rows[name] = torch.where(hidden, kind.null().to(value.device), value[index])
        return rows or None

    def indices(self, k: int) -> Tensor:
        """Return the samples of step k, batch k of an endless sequence of permutations."""
        n = len(self.x0)
        first, last = k * self.batch // n, ((k + 1) * self.batch - 1) // n
        start = k * self.batch - first * n
        order = torch.cat([_permutation(self.seed, epoch, n) for epoch in range(first, last + 1)])
        return order[start : start + self.batch]


@lru_cache(4)
@torch.inference_mode(False)  # a cached tensor must serve every mode
def _permutation(seed: int, epoch: int, n: int) -> Tensor:
    """Return a random order of the samples for an epoch."""
    return Noise(seed).fold(_ORDER, epoch).uniform((n,), torch.float64).argsort()
