"""The U-Net, a convolutional network for sequences, pictures and volumes.

Residual blocks at falling, then at rising resolution, with skips between equal resolutions and
self-attention at coarse ones. Ronneberger et al. 2015; Ho et al. 2020, appendix B; the modulation
of every block by scale and shift is that of Dhariwal and Nichol 2021, section 3.
"""

__all__ = ["SelfAttention", "UNet"]

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from ornstein.errors import OrnsteinError
from ornstein.nets.conditions import Condition, declare, declared_config
from ornstein.nets.layers import Embedding, require_range, zero_init

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_MAX_LEVELS = 16  # largest number of levels, each halving the resolution: 2^15 pixels across
_MAX_BLOCKS = 100  # largest number of blocks of a level, more than any network in use


def _norm(channels: int) -> nn.GroupNorm:
    """Return group normalisation with at most 8 groups of at least 4 channels."""
    groups = next((g for g in (8, 4, 2) if channels % g == 0 and channels >= 4 * g), 1)
    return nn.GroupNorm(groups, channels)


class _Residual(nn.Module):
    """A residual block of two convolutions, with scale and shift from the embedding."""

    def __init__(
        self, dims: int, channels_in: int, channels: int, embedding: int, dropout: float
    ) -> None:
        super().__init__()
        conv = _CONV[dims]
        self.dims = dims
        self.enter = nn.Sequential(
            _norm(channels_in), nn.SiLU(), conv(channels_in, channels, 3, padding=1)
        )
        self.modulate = nn.Linear(embedding, 2 * channels)
        self.norm = _norm(channels)
        self.leave = nn.Sequential(
            nn.SiLU(), nn.Dropout(dropout), zero_init(conv(channels, channels, 3, padding=1))
        )
        self.skip = conv(channels_in, channels, 1) if channels_in != channels else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.modulate(e)[(..., *[None] * self.dims)].chunk(2, 1)
        h = self.norm(self.enter(x)) * (1 + scale) + shift
        return self.skip(x) + self.leave(h)


class SelfAttention(nn.Module):
    """The self-attention of a feature map over all its positions.

    Args:
        channels: of the feature map.
        heads: number of heads, which divides the channels.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = _norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.leave = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x).flatten(2).mT
        q, k, v = (
            y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in self.qkv(h).chunk(3, 2)
        )
        h = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.leave(h).mT.reshape(x.shape)


class _Level(nn.Module):
    """One level of the U-Net: a residual block and, where asked for, attention."""

    def __init__(self, residual: _Residual, attention: SelfAttention | None) -> None:
        super().__init__()
        self.residual, self.attention = residual, attention

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        x = self.residual(x, e)
        return x if self.attention is None else self.attention(x)


class UNet(nn.Module):
    """A U-Net for events ``(channels, *size)``, with an output that starts at zero.

    Any size of at least ``2^(levels - 1)`` in each dimension will do.

    Args:
        channels: channels of the data.
        width: channels of the first level.
        multipliers: channels of each level in units of ``width``; every level halves the resolution
            of the one before.
        blocks: residual blocks per level on the way down (one more on the way up).
        attention: levels that get self-attention, 0 the finest.
        heads: attention heads.
        labels: number of classes of the condition "label"; 0 for none.
        dropout: probability of dropping a feature in training.
        dims: 1 for sequences, 2 for pictures, 3 for volumes.
        conditions: further declared conditions by name, such as ``orn.conditions.Vector(2)``.

    Raises:
        OrnsteinError: for arguments out of range.

    Example:
        >>> net = orn.UNet(channels=1, width=8, blocks=1)
        >>> net(torch.zeros(2, 1, 9, 7), torch.zeros(2)).shape
        torch.Size([2, 1, 9, 7])
    """

    event_shape = None  # any size: the channels alone are fixed

    def __init__(
        self,
        channels: int,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 2,
        attention: Sequence[int] = (1,),
        heads: int = 4,
        labels: int | Mapping[str, Condition] = 0,
        dropout: float = 0.0,
        dims: int = 2,
        conditions: Mapping[str, Condition] | None = None,
    ) -> None:
        super().__init__()
        if dims not in _CONV:
            raise OrnsteinError(f"UNet(dims={dims}): 1, 2 or 3")
        require_range("UNet", 0, 1, dropout=dropout)
        require_range("UNet", 1, _MAX_LEVELS, levels=len(multipliers))
        require_range("UNet", 1, _MAX_BLOCKS, blocks=blocks)
        require_range("UNet", 1, math.inf, heads=heads, width=width, channels=channels)
        if any(width * m % heads for m in multipliers):
            raise OrnsteinError(
                f"UNet(width={width}, heads={heads}): the width must be a multiple of the heads"
            )
        self.conditions = declare(labels, conditions)
        self.config = {
            "channels": channels,
            "width": width,
            "multipliers": list(multipliers),
            "blocks": blocks,
            "attention": list(attention),
            "heads": heads,
            "dropout": dropout,
            "dims": dims,
            **declared_config(self.conditions),
        }
        self.dims, self.channels = dims, channels
        self.embedding = Embedding(4 * width, self.conditions)
        self.enter = _CONV[dims](channels, width, 3, padding=1)
        skips = self._add_down()
        last = len(multipliers) - 1
        channels_now = width * multipliers[-1]
        self.middle = nn.ModuleList(
            [self._level(last, channels_now), self._level(last, channels_now)]
        )
        channels_now = self._add_up(skips, channels_now)
        self.leave = nn.Sequential(
            _norm(channels_now),
            nn.SiLU(),
            zero_init(_CONV[dims](channels_now, channels, 3, padding=1)),
        )

    def _level(self, i: int, channels_in: int) -> _Level:
        """Return the residual block of level i, with attention where asked for."""
        width, dropout = self.config["width"], self.config["dropout"]
        out = width * self.config["multipliers"][i]
        attends = i in self.config["attention"]
        attention = SelfAttention(out, self.config["heads"]) if attends else None
        return _Level(_Residual(self.dims, channels_in, out, 4 * width, dropout), attention)

    def _add_down(self) -> list[int]:
        """Add the half of the network that halves resolutions; return the channels of its skips."""
        width, blocks = self.config["width"], self.config["blocks"]
        channels_now = width
        skips = [width]
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for i, m in enumerate(self.config["multipliers"]):
            if i:
                self.shrink.append(
                    _CONV[self.dims](channels_now, channels_now, 3, stride=2, padding=1)
                )
                skips.append(channels_now)
            entries = [channels_now] + [width * m] * (blocks - 1)
            self.down.append(nn.ModuleList(self._level(i, channels) for channels in entries))
            channels_now = width * m
            skips += [channels_now] * blocks
        return skips

    def _add_up(self, skips: list[int], now: int) -> int:
        """Add the half of the network that doubles resolutions; return its output channels."""
        multipliers = self.config["multipliers"]
        self.up = nn.ModuleList()
        for i in reversed(range(len(multipliers))):
            row = nn.ModuleList()
            for _ in range(self.config["blocks"] + 1):
                row.append(self._level(i, now + skips.pop()))
                now = self.config["width"] * multipliers[i]
            self.up.append(row)
        return now

    def forward(
        self,
        x: Float[Tensor, "b *event"],
        c: Float[Tensor, " #b"],
        cond: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "b *event"]:
        """Return the output of the network, of the shape of ``x``.

        Args:
            x: noisy samples, ``(b, channels, *size)``.
            c: their noise levels, ``(b,)``, or ``(1,)`` for one that all samples have.
            cond: conditions by name, one row per sample; a missing one is null.

        Raises:
            OrnsteinError: for events of another shape, or a condition that is not declared.
        """
        if x.ndim != self.dims + 2 or x.shape[1] != self.channels:
            raise OrnsteinError(
                f"this UNet takes {self.channels} channels and {self.dims} dimensions, got an event"
                f" of shape {tuple(x.shape[1:])}"
            )
        e = self.embedding(c, cond)
        h = self.enter(x)
        skips = [h]
        for i, row in enumerate(self.down):
            if i:
                h = self.shrink[i - 1](h)
                skips.append(h)
            for level in cast(nn.ModuleList, row):
                h = level(h, e)
                skips.append(h)
        for level in self.middle:
            h = level(h, e)
        for row in self.up:
            for level in cast(nn.ModuleList, row):
                skip = skips.pop()
                if h.shape[2:] != skip.shape[2:]:
                    h = interpolate(h, size=skip.shape[2:], mode="nearest")
                h = level(torch.cat([h, skip], 1), e)
        return self.leave(h)
