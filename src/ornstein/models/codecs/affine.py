"""The affine codec: an invertible affine map between the user's numbers and those of the model.

The model sees ``z = A^-1 (x - m)``, of mean 0 and scale 1, channels first. ``A`` is a number per
element, or a ``(d, d)`` matrix for vectors. Densities change by the volume of the map,

    log p(x) = log p(z) - log |det A|.                                                           (1)

A codec also holds the layout of the user's events and the levels of quantised data.
"""

__all__ = ["Codec", "Levels"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ornstein.core.numerics.checks import require_finite, require_integers, require_positive
from ornstein.errors import OrnsteinError

Layout = Literal["same", "add_channel", "channels_last"]


@dataclass(frozen=True)
class Levels:
    """The lattice ``low, low + step, ...`` of quantised data, in the user's units.

    Args:
        low: the smallest value.
        step: the distance of neighbouring values.
        count: how many values there are.
    """

    low: float
    step: float
    count: int

    def __post_init__(self) -> None:
        require_finite(low=self.low)
        require_positive(self, "step")
        require_integers(1, count=self.count)

    def nearest(self, x: Tensor) -> Tensor:
        """Return the nearest level of each element."""
        index = ((x - self.low) / self.step).round().clamp(0, self.count - 1)
        return self.low + self.step * index


class Codec(nn.Module):
    """An invertible affine map between the user's space and the model's.

    A subclass with another map overrides `encode`, `decode`, `decode_with_log_det` and `log_det`;
    `ornstein.register` lets run folders name it.

    Args:
        shift: m, broadcastable to the model's events ``(*event)``.
        factor: A: positive numbers that broadcast to an event, or a ``(d, d)`` matrix for events
            ``(d,)``.
        levels: of quantised data, to which `decode` rounds.
        layout: how the user's events lie: like the model's, without a channel dimension, or
            channels last.
    """

    shift: Tensor
    factor: Tensor

    def __init__(
        self, shift: Tensor, factor: Tensor, levels: Levels | None = None, layout: Layout = "same"
    ) -> None:  # fmt: skip
        super().__init__()
        self.register_buffer("shift", shift)
        self.register_buffer("factor", factor)
        if layout not in get_args(Layout):
            raise OrnsteinError(f"Codec(layout={layout!r}): one of {', '.join(get_args(Layout))}")
        self.levels, self.layout = levels, layout

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Codec":
        """Make the codec from a `config` and the tensors by name, as a run folder has them."""
        levels = config.get("levels")
        made = None if levels is None else Levels(*levels)
        arguments: dict[str, Any] = {**config, **tensors, "levels": made}
        return cls(**arguments)

    @property
    def _mixes(self) -> bool:
        """Return whether A is a matrix, which mixes coordinates."""
        return self.factor.ndim == 2 and self.shift.ndim == 1

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments that are not tensors, for a run folder."""
        levels = (
            None if self.levels is None else [self.levels.low, self.levels.step, self.levels.count]
        )
        return {"levels": levels, "layout": self.layout}

    def encode(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b *event"]:
        """Map samples in the user's layout to the model's space, ``A^-1 (x - m)``.

        The result has the channels first.
        """
        if self.layout == "add_channel":
            x = x.unsqueeze(1)
        elif self.layout == "channels_last":
            x = x.movedim(-1, 1)
        centred = x - self.shift
        return (
            torch.linalg.solve(self.factor.to(centred.dtype), centred.mT).mT
            if self._mixes
            else centred / self.factor
        )

    def decode(self, z: Float[Tensor, "b *event"], quantise: bool = True) -> Float[Tensor, "b ..."]:
        """Map points of the model's space to the user's layout, ``m + A z``.

        The result has the wider dtype of z and m.

        Args:
            z: samples in the model's space.
            quantise: whether to round to the levels of the data, where they have levels.
        """
        z = z.to(torch.promote_types(z.dtype, self.shift.dtype))
        x = (z @ self.factor.mT.to(z.dtype) if self._mixes else z * self.factor) + self.shift
        if self.levels is not None and quantise:
            x = self.levels.nearest(x)
        if self.layout == "add_channel":
            return x.squeeze(1)
        return x.movedim(1, -1) if self.layout == "channels_last" else x

    def decode_with_log_det(self, z: Float[Tensor, "b *event"]) -> tuple[Tensor, Tensor]:
        """Return the decoded samples and ``log |det A|``, ``(b,)`` in nats."""
        return self.decode(z), self.log_det(z)

    def log_det(self, z: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return ``log |det A|`` in nats, the same for every event."""
        factor = self.factor.double()
        log_det = (
            torch.linalg.slogdet(factor)[1]
            if self._mixes
            else factor.log().expand(z.shape[1:]).sum()
        )
        return log_det.to(torch.promote_types(z.dtype, self.shift.dtype)).expand(len(z))
