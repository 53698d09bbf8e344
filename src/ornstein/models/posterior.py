"""The base class of posteriors, with what samplers ask of one: shape, scale, dtype and device.

Whatever denoises is a *posterior* ``(x, t) -> Gaussian`` of ``x_0 | x_t = x`` for one linear SDE
(the protocol `ornstein.processes.Posterior`). Samplers also ask for the shape and the standard
deviation of the data and for where to compute; a posterior that derives from `PosteriorBase` has
these attributes. `attributes` reads them from any posterior, with the same defaults.
"""

__all__ = ["Attributes", "PosteriorBase", "attributes"]

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Posterior


class PosteriorBase:
    """The base class of posteriors; a subclass adds ``__call__`` and ``sde``.

    Attributes:
        sde: the process whose noise is removed.
        event_shape: shape of one sample, or None where it is not determined.
        data_std: standard deviation of the data, in the units of the samples.
    """

    sde: LinearSDE
    event_shape: tuple[int, ...] | None = None
    data_std: float = 1.0

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type in which samples start, taken from the first parameter."""
        return _computing(self).dtype

    @property
    def device(self) -> torch.device:
        """The device on which samples start, taken from the first parameter."""
        return _computing(self).device


class Attributes(NamedTuple):
    """What samplers ask of a posterior besides mean and standard deviation."""

    event_shape: tuple[int, ...] | None
    data_std: float
    dtype: torch.dtype
    device: torch.device


def attributes(posterior: Posterior) -> Attributes:
    """Return the attributes of any posterior, with defaults for those that are missing."""
    like = _computing(posterior)
    return Attributes(
        getattr(posterior, "event_shape", PosteriorBase.event_shape),
        float(getattr(posterior, "data_std", PosteriorBase.data_std)),
        getattr(posterior, "dtype", like.dtype),
        getattr(posterior, "device", like.device),
    )


def _computing(posterior: Any) -> Tensor:
    """Return a tensor of the dtype and device in which a posterior computes.

    This is the first parameter of a module, else its last buffer, else a number of the default
    type.
    """
    if isinstance(posterior, nn.Module):
        for tensor in [*posterior.parameters()][:1] or [*posterior.buffers()][-1:]:
            return tensor
    return torch.zeros(())
