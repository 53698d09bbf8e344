"""From a network to a posterior: preconditioning by three coefficients, and a standard deviation.

With the polar form of the process (``alpha = cos / k``, ``sigma = sin / k``, see `LinearSDE.polar`)
and data of standard deviation ``d``, a parametrisation is three functions of ``(cos, sin, d)``:

    E[x_0 | x_t] = skip y + out net(in y, c),    y = k x_t.                                      (1)

Karras et al. 2022, eq. 7. The posterior has a standard deviation too: that of Gaussian data, ``sin
d / sqrt(cos^2 d^2 + sin^2)``, until `Denoiser.std_table` is filled from held-out data,
``std^2(lambda) = E (x_0 - E[x_0 | x_t])^2`` per event element: the optimal diagonal variance (Bao
et al. 2022, Analytic-DPM, theorem 1). A network may know better, state by state: one with a method
``moments(x, c, cond) -> (output, ratio)`` says by which ratio its standard deviation differs from
that of Gaussian data.
"""

__all__ = ["Denoiser"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.processes.linear import LinearSDE, Time, as_time
from ornstein.errors import OrnsteinError
from ornstein.models.parametrisations import Parametrisation, _in, v

LOG_SNR_KNOTS = torch.linspace(-12.0, 14.0, 53)  # where std_table is tabulated


class Denoiser(nn.Module):
    """A network made a posterior: ``denoiser(x, t) -> Gaussian``, the law of ``x_0`` given ``x_t =
    x``.

    Args:
        net: ``(x, c, cond) -> x``, from `ornstein.nets` or your own; ``c = -lambda / 8``, a quarter
            of the log noise-to-signal ratio, is ``(b,)``, or ``(1,)`` when one level holds for the
            whole batch.
        sde: the process.
        param: what the output means.
        data_std: standard deviation of the data, in its units.
        event_shape: shape of one sample, for `sample` to know.

    Raises:
        OrnsteinError: for eps or score on a process that ends without signal, where they do not
            determine x_0.
    """

    std_table: Tensor

    def __init__(
        self, net: nn.Module, sde: LinearSDE, param: Parametrisation = v, data_std: float = 1.0,
        event_shape: tuple[int, ...] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if param.needs_signal and float(sde.alpha(sde.T)) == 0:
            raise OrnsteinError(
                f"param={param.name} with {type(sde).__name__}: at T there is no signal (alpha = 0)"
                f" and {param.name} does not determine x_0 there; use param=orn.parametrisations.v, orn.parametrisations.x0 or"
                " orn.parametrisations.edm"
            )
        if not data_std > 0:
            raise OrnsteinError(
                f"data_std={data_std}: must be positive; scale the data to a standard deviation"
                " near 1"
            )
        self.net, self.sde, self.param, self.data_std, self.event_shape = (
            net,
            sde,
            param,
            float(data_std),
            event_shape,
        )
        self.register_buffer("std_table", torch.zeros(0))

    def forward(
        self, x: Float[Tensor, "b *event"], t: Time, cond: Mapping[str, Tensor] | None = None
    ) -> Gaussian:  # fmt: skip
        """``x_0 | x_t = x`` (1), for a scalar time or one per sample; in the dtype of x, whatever
        that of the weights."""
        level = self._level(as_time(t))
        skip, out, into, gaussian = (per_sample(k, x) for k in level[:4])
        y, weight = per_sample(into, x) * x, next(self._weights(), x)
        c = level.c.to(x.device, torch.promote_types(weight.dtype, torch.float32)).reshape(-1)
        moments = getattr(self.net, "moments", None)
        output, ratio = (
            moments(y.to(weight.dtype), c, cond)
            if moments
            else (self.net(y.to(weight.dtype), c, cond), None)
        )
        std = self._std(gaussian, level.position, x)
        return Gaussian(
            skip * x + out * output.to(x.dtype), std if ratio is None else std * ratio.to(x.dtype)
        )  # (1)

    def _weights(self) -> Iterator[Tensor]:
        """What the network computes with."""
        yield from self.net.parameters()
        yield from self.net.buffers()

    def _level(self, t: Tensor) -> "Level":
        """The numbers of one level; those of times that a batch shares are remembered."""
        if t.ndim or t.requires_grad:
            return _level(self.sde, self.param, self.data_std, t)
        try:
            return _remembered(self.sde, self.param, self.data_std, float(t))
        except TypeError:  # a process of one's own that cannot be hashed
            return _level(self.sde, self.param, self.data_std, t)

    def given(self, **cond: Tensor | int) -> "Conditioned":
        """The posterior with conditions bound, ``denoiser.given(label=3)``; names are checked
        against the network's.

        Raises:
            OrnsteinError: for a name that the network does not know, or a label that it does not
                have.
        """
        known = getattr(self.net, "conditions", ())
        unknown = set(cond) - set(known)
        if unknown:
            raise OrnsteinError(
                f"condition {sorted(unknown)}: this network knows {list(known) or 'no conditions'}"
            )
        bound = {name: torch.as_tensor(value) for name, value in cond.items()}
        labels = getattr(self.net, "config", {}).get("labels")
        if (
            labels
            and "label" in bound
            and not bool(((bound["label"] >= 0) & (bound["label"] < labels)).all())
        ):
            raise OrnsteinError(
                f"label={cond['label']}: this network's labels are 0 to {labels - 1}"
            )
        return Conditioned(self, bound)

    def _std(self, gaussian: Tensor, position: Tensor, x: Tensor) -> Tensor:
        if self.std_table.numel() == 0:
            return gaussian.to(x.dtype)
        left = position.floor().clamp(max=len(LOG_SNR_KNOTS) - 2).long()
        ratio = torch.lerp(
            self.std_table[left],
            self.std_table[left + 1],
            per_sample(position - left, x).to(x.dtype),
        )
        return gaussian * ratio


class Level(NamedTuple):
    """What (1) needs of a time, each 0-d or ``(b,)``: coefficients on x and on the network's
    output, the factor into the network, the standard deviation for Gaussian data, the place in the
    table of standard deviations, and the network's c."""

    skip: Tensor
    out: Tensor
    into: Tensor
    std: Tensor
    position: Tensor
    c: Tensor


def _level(sde: LinearSDE, param: Parametrisation, d: float, t: Tensor) -> Level:
    cos, sin, scale = sde.polar(t)
    skip, out, into = param.coefficients(cos, sin, d)
    log_snr = sde.log_snr(t)
    position = (log_snr - LOG_SNR_KNOTS[0]) / (LOG_SNR_KNOTS[1] - LOG_SNR_KNOTS[0])
    std = sin * d * _in(cos, sin, d)
    return Level(
        skip * scale,
        out,
        into * scale,
        std,
        position.clamp(0, len(LOG_SNR_KNOTS) - 1),
        -log_snr.clamp(-30, 30) / 8,
    )


@lru_cache(maxsize=4096)
def _remembered(sde: LinearSDE, param: Parametrisation, d: float, t: float) -> Level:
    return _level(sde, param, d, as_time(t))


@dataclass(frozen=True)
class Conditioned:
    """A denoiser with its conditions bound: itself a posterior. Scalar conditions hold for the
    whole batch."""

    denoiser: Denoiser
    cond: Mapping[str, Tensor]

    @property
    def sde(self) -> LinearSDE:
        """The denoiser's process."""
        return self.denoiser.sde

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        """The denoiser's event shape."""
        return self.denoiser.event_shape

    @property
    def data_std(self) -> float:
        """The denoiser's data_std."""
        return self.denoiser.data_std

    def __call__(self, x: Float[Tensor, "b *event"], t: Time) -> Gaussian:
        """``x_0 | x_t = x, cond``."""
        cond = {
            k: value.to(x.device).expand(len(x), *value.shape[1:]) for k, value in self.cond.items()
        }
        return self.denoiser(x, t, cond)
