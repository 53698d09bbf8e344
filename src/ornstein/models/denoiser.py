"""The denoiser: a network turned into a posterior by preconditioning, with a standard deviation.

With the polar form of the process (``alpha = cos / k``, ``sigma = sin / k``, see
`LinearSDE.polar`) and data of standard deviation d, a parametrisation is three functions of
``(cos, sin, d)``:

    E[x_0 | x_t] = skip y + out net(in y, c),    y = k x_t.                                      (1)

Karras et al. 2022, eq. 7. The posterior has a standard deviation too: that of Gaussian data,
``sin d / sqrt(cos^2 d^2 + sin^2)``, until `Denoiser.std_table` is filled from held-out data,
``std^2(lambda) = E (x_0 - E[x_0 | x_t])^2`` per event element: the optimal diagonal variance (Bao
et al. 2022, Analytic-DPM, theorem 1). A network may have a standard deviation for each state: one
with a method ``moments(x, c, cond) -> (output, ratio)`` says by which ratio its standard deviation
differs from that of Gaussian data.
"""

__all__ = ["LOG_SNR_KNOTS", "ConditionedDenoiser", "Denoiser", "declared_conditions"]

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.processes.linear import LinearSDE, Time, as_time
from ornstein.errors import OrnsteinError
from ornstein.models.conditions import Condition, Conditions, Label
from ornstein.models.parametrisations import Parametrisation, unit_input, v
from ornstein.models.posterior import PosteriorBase

LOG_SNR_KNOTS = torch.linspace(-12.0, 14.0, 53, dtype=torch.float32)
"""The log-SNRs, in nats, at which ``Denoiser.std_table`` is tabulated."""

_MAX_LOG_SNR = 30.0  # nats: clamps the input c of a network to (-4, 4) also at the ends of time
_LOG_SNR_PER_C = 8.0  # nats: scales c to order 1
_MAX_DATA_STD = 1e15  # squares of numbers of this size are finite in float32


class Denoiser(nn.Module, PosteriorBase):
    """A network as a posterior: ``denoiser(x, t) -> Gaussian`` of ``x_0`` given ``x_t = x``.

    Args:
        net: ``(x, c, cond) -> x``, from `ornstein.nets` or your own; ``c = -lambda / 8``, a quarter
            of the log noise-to-signal ratio, is ``(b,)``, or ``(1,)`` when one level holds for the
            whole batch.
        sde: the process.
        param: what the output of the network means.
        data_std: standard deviation of the data, in units of the samples.
        event_shape: shape of one sample; by default that of the network, where it has one.

    Raises:
        OrnsteinError: for eps or score on a process that ends without signal, where they do not
            determine x_0; for a ``data_std`` that is not positive; for an event shape that is not
            that of the network.

    Example:
        >>> denoiser = orn.Denoiser(orn.MLP(3), orn.VP())
        >>> denoiser.event_shape, denoiser(torch.zeros(4, 3), 0.5).mean.shape
        ((3,), torch.Size([4, 3]))
    """

    std_table: Tensor

    def __init__(
        self,
        net: nn.Module,
        sde: LinearSDE,
        param: Parametrisation = v,
        data_std: float = 1.0,
        event_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        if param.needs_signal and float(sde.alpha(sde.T)) == 0:
            raise OrnsteinError(
                f"param={param.name} with {type(sde).__name__}: at T there is no signal (alpha = 0)"
                f" and {param.name} does not determine x_0 there; use"
                " param=orn.parametrisations.v, orn.parametrisations.x0 or orn.parametrisations.edm"
            )
        if not 1 / _MAX_DATA_STD <= data_std <= _MAX_DATA_STD:
            raise OrnsteinError(
                f"data_std={data_std}: must be positive; scale the data to a standard deviation"
                " near 1"
            )
        self.net, self.sde, self.param = net, sde, param
        self.data_std = float(data_std)
        self.event_shape = _event_shape(net, event_shape)
        self.register_buffer("std_table", torch.zeros(0))

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """The conditions that the network takes, by their names."""
        return declared_conditions(self.net)

    def forward(
        self, x: Float[Tensor, "b *event"], t: Time, cond: Mapping[str, Tensor] | None = None
    ) -> Gaussian:
        """Return ``x_0 | x_t = x`` as a Gaussian, in the dtype of x.

        The network computes in the dtype of its weights.

        Args:
            x: noisy samples, ``(b, *event)``.
            t: a time for all, or one per sample.
            cond: conditions by name, one row per sample.
        """
        level = self._level(as_time(t))
        skip, out, into, gaussian = (per_sample(k, x) for k in level[:4])
        y, dtype = per_sample(into, x) * x, self._weight_dtype(x)
        c = level.c.to(x.device, torch.promote_types(dtype, torch.float32)).reshape(-1)
        moments = getattr(self.net, "moments", None)
        output, ratio = (
            moments(y.to(dtype), c, cond) if moments else (self.net(y.to(dtype), c, cond), None)
        )
        std = self._std(gaussian, level.position, x)
        return Gaussian(
            skip * x + out * output.to(x.dtype), std if ratio is None else std * ratio.to(x.dtype)
        )  # (1)

    def _weight_dtype(self, x: Tensor) -> torch.dtype:
        """Return the dtype of the first parameter, else of the first buffer."""
        for tensors in (self.net.parameters(), self.net.buffers()):
            for tensor in tensors:
                return tensor.dtype
        return x.dtype

    def _level(self, t: Tensor) -> "Level":
        """Return the coefficients at a time, cached for a time that the whole batch shares."""
        if t.ndim or t.requires_grad:
            return _level(self.sde, self.param, self.data_std, t)
        try:
            return _remembered(self.sde, self.param, self.data_std, float(t))
        except TypeError:  # a process that cannot be hashed
            return _level(self.sde, self.param, self.data_std, t)

    def given(self, **cond: Any) -> "ConditionedDenoiser":
        """Bind conditions by name, ``denoiser.given(label=3)``, and return the posterior.

        Args:
            cond: for each name, one value for all samples or one per sample.

        Raises:
            OrnsteinError: for a name that the network does not take, or a value that the condition
                cannot have.
        """
        return ConditionedDenoiser(self, Conditions.of(self.conditions, cond))

    def _std(self, gaussian: Tensor, position: Tensor, x: Tensor) -> Tensor:
        """Return the posterior std of Gaussian data, times the ratio in the calibration table."""
        if self.std_table.numel() == 0:
            return gaussian.to(x.dtype)
        left = position.floor().clamp(max=len(LOG_SNR_KNOTS) - 2).long()
        ratio = torch.lerp(
            self.std_table[left],
            self.std_table[left + 1],
            per_sample(position - left, x).to(x.dtype),
        )
        return gaussian * ratio


def declared_conditions(net: object) -> Mapping[str, Condition]:
    """Return the conditions that a network takes, by name, from its ``conditions``.

    A network that has the number of classes in ``config["labels"]`` alone takes a label.
    """
    declared = getattr(net, "conditions", None)
    if isinstance(declared, Mapping):
        return declared
    labels = getattr(net, "config", {}).get("labels", 0)
    return {"label": Label(labels)} if labels else {}


def _event_shape(net: nn.Module, event_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the event shape that is given, else the network's; both must agree."""
    net_shape = getattr(net, "event_shape", None)
    if event_shape is None or net_shape is None:
        event_shape = net_shape if event_shape is None else event_shape
    elif tuple(net_shape) != tuple(event_shape):
        raise OrnsteinError(
            f"event_shape={event_shape}: the network takes events of shape {tuple(net_shape)}"
        )
    if event_shape is not None and not all(isinstance(n, int) and n > 0 for n in event_shape):
        raise OrnsteinError(f"event_shape={event_shape}: whole numbers, at least 1")
    return None if event_shape is None else tuple(event_shape)


class Level(NamedTuple):
    """The coefficients of the posterior mean at a time, each 0-d or ``(b,)``.

    Attributes:
        skip, out: coefficients of x and of the network's output.
        into: the factor on x that the network sees.
        std: standard deviation of x_0 given x_t for Gaussian data.
        position: the place in `LOG_SNR_KNOTS`, as a real number.
        c: the noise level that the network sees.
    """

    skip: Tensor
    out: Tensor
    into: Tensor
    std: Tensor
    position: Tensor
    c: Tensor


def _level(sde: LinearSDE, param: Parametrisation, d: float, t: Tensor) -> Level:
    """Compute the coefficients of the posterior mean at a time."""
    cos, sin, scale = sde.polar(t)
    skip, out, into = param.coefficients(cos, sin, d)
    log_snr = sde.log_snr(t)
    position = (log_snr - LOG_SNR_KNOTS[0]) / (LOG_SNR_KNOTS[1] - LOG_SNR_KNOTS[0])
    std = sin * d * unit_input(cos, sin, d)
    return Level(
        skip * scale,
        out,
        into * scale,
        std,
        position.clamp(0, len(LOG_SNR_KNOTS) - 1),
        -log_snr.clamp(-_MAX_LOG_SNR, _MAX_LOG_SNR) / _LOG_SNR_PER_C,
    )


@lru_cache(maxsize=4096)
@torch.inference_mode(False)  # a tensor made under inference_mode could never be used in autograd
def _remembered(sde: LinearSDE, param: Parametrisation, d: float, t: float) -> Level:
    """Compute the coefficients of the posterior mean at a time, with a cache."""
    return _level(sde, param, d, as_time(t))


@dataclass(frozen=True)
class ConditionedDenoiser(PosteriorBase):
    """A denoiser with conditions bound, which is itself a posterior.

    Args:
        denoiser: the conditional denoiser.
        cond: checked values, one for all samples or one row per sample.
    """

    denoiser: Denoiser
    cond: Conditions

    @property
    def sde(self) -> LinearSDE:  # type: ignore[override]
        """The process of the denoiser."""
        return self.denoiser.sde

    @property
    def event_shape(self) -> tuple[int, ...] | None:  # type: ignore[override]
        """The event shape of the denoiser."""
        return self.denoiser.event_shape

    @property
    def data_std(self) -> float:  # type: ignore[override]
        """The standard deviation of the denoiser's data."""
        return self.denoiser.data_std

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the denoiser's first parameter."""
        return self.denoiser.dtype

    @property
    def device(self) -> torch.device:
        """The device of the denoiser's first parameter."""
        return self.denoiser.device

    def __call__(self, x: Float[Tensor, "b *event"], t: Time) -> Gaussian:
        """Return ``x_0 | x_t = x, cond`` as a Gaussian.

        Args:
            x: noisy samples, ``(b, *event)``.
            t: a time for all, or one per sample.
        """
        return self.denoiser(x, t, self.cond.rows(len(x), x))
