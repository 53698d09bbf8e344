"""A U-Net in one, two or three dimensions: residual blocks, self-attention, skips between equal
resolutions.

Ronneberger et al. 2015; Ho et al. 2020, appendix B; the modulation of every block by scale and
shift is that of Dhariwal and Nichol 2021, section 3.
"""

__all__ = ["UNet"]

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from ornstein.errors import OrnsteinError
from ornstein.nets.layers import Embedding, zero_init

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def _norm(channels: int) -> nn.GroupNorm:
    groups = next((g for g in (8, 4, 2) if channels % g == 0 and channels >= 4 * g), 1)
    return nn.GroupNorm(groups, channels)


class _Residual(nn.Module):
    """Two convolutions around a scale and shift from the embedding."""

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


class _Attention(nn.Module):
    """Self-attention over all positions."""

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
    """A residual block and, where asked for, attention."""

    def __init__(self, residual: _Residual, attention: _Attention | None) -> None:
        super().__init__()
        self.residual, self.attention = residual, attention

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        x = self.residual(x, e)
        return x if self.attention is None else self.attention(x)


class UNet(nn.Module):
    """A U-Net for events ``(channels, *size)``; any size of at least ``2^(levels - 1)``. Its output
    starts at zero.

    Args:
        channels: channels of the data.
        width: channels of the first level.
        multipliers: channels of each level in units of ``width``; every level halves the resolution
            of the one before.
        blocks: residual blocks per level on the way down (one more on the way up).
        attention: levels that get self-attention, 0 the finest.
        heads: attention heads.
        labels: number of classes to condition on; 0 for none.
        dropout: probability of dropping a feature in training.
        dims: 1 for sequences, 2 for images, 3 for volumes.
    """

    def __init__(
        self,
        channels: int,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 2,
        attention: Sequence[int] = (1,),
        heads: int = 4,
        labels: int = 0,
        dropout: float = 0.0,
        dims: int = 2,
    ) -> None:
        super().__init__()
        if dims not in _CONV:
            raise OrnsteinError(f"UNet(dims={dims}): 1, 2 or 3")
        if any(width * m % heads for m in multipliers):
            raise OrnsteinError(
                f"UNet(width={width}, heads={heads}): the width must be a multiple of the heads"
            )
        self.config = {
            "channels": channels,
            "width": width,
            "multipliers": list(multipliers),
            "blocks": blocks,
            "attention": list(attention),
            "heads": heads,
            "labels": labels,
            "dropout": dropout,
            "dims": dims,
        }
        conv, embedding = _CONV[dims], 4 * width
        self.dims, self.channels = dims, channels
        self.embedding = Embedding(embedding, labels)
        self.conditions = self.embedding.conditions

        def level(i: int, channels_in: int) -> _Level:
            out = width * multipliers[i]
            attend = _Attention(out, heads) if i in attention else None
            return _Level(_Residual(dims, channels_in, out, embedding, dropout), attend)

        now = width
        self.enter = conv(channels, width, 3, padding=1)
        skips, self.down, self.shrink = [width], nn.ModuleList(), nn.ModuleList()
        for i, m in enumerate(multipliers):
            if i:
                self.shrink.append(conv(now, now, 3, stride=2, padding=1))
                skips.append(now)
            self.down.append(
                nn.ModuleList(level(i, now if j == 0 else width * m) for j in range(blocks))
            )
            now = width * m
            skips += [now] * blocks
        last = len(multipliers) - 1
        self.middle = nn.ModuleList([level(last, now), level(last, now)])
        self.up = nn.ModuleList()
        for i in reversed(range(len(multipliers))):
            row = nn.ModuleList()
            for _ in range(blocks + 1):
                row.append(level(i, now + skips.pop()))
                now = width * multipliers[i]
            self.up.append(row)
        self.leave = nn.Sequential(
            _norm(now), nn.SiLU(), zero_init(conv(now, channels, 3, padding=1))
        )

    def forward(
        self,
        x: Float[Tensor, "b *event"],
        c: Float[Tensor, " #b"],
        cond: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "b *event"]:
        """The network's output, of the shape of ``x``."""
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
