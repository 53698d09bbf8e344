"""Parts shared by the networks.

Every network is a module ``net(x, c, cond) -> x``. ``x`` is ``(b, *event)``; ``c``, of order 1,
says how noisy a sample is: ``(b,)``, or ``(1,)`` when it holds for the whole batch (the embedding
is then computed once); ``cond`` maps the names in ``net.conditions`` to tensors with one entry per
sample. A network keeps the arguments it was made with in ``net.config``, from which a checkpoint
rebuilds it.
"""

__all__ = ["Embedding", "Fourier", "Labels", "zero_init"]

import math
from collections.abc import Mapping
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ornstein.errors import OrnsteinError

_Module = TypeVar("_Module", bound=nn.Module)


def zero_init(layer: _Module) -> _Module:
    """Start a layer at zero, so that its block starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Fourier(nn.Module):
    """``c -> [cos(w_k c), sin(w_k c)]`` with ``w_k`` log-spaced in [1/4, 16]: sinusoidal features
    of the noise level.

    Vaswani et al. 2017, section 3.5, with frequencies for an argument of order 1.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, c: Float[Tensor, " k"]) -> Float[Tensor, "k features"]:
        frequencies = torch.logspace(
            -2, 4, self.features // 2, base=2.0, device=c.device
        )  # float32 in a bfloat16 network too
        phase = c[:, None].float() * frequencies
        return torch.cat([phase.cos(), phase.sin()], 1) * math.sqrt(2)


class Labels(nn.Module):
    """A learned vector per class; class ``labels`` stands for "none" (classifier-free guidance, Ho
    and Salimans 2022)."""

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        self.labels = labels
        self.table = nn.Embedding(labels + 1, width)

    def forward(
        self, label: Int[Tensor, " b"] | None, b: int, device: torch.device
    ) -> Float[Tensor, "b width"]:
        if label is None:
            label = torch.full((b,), self.labels, device=device)
        return self.table(label)


class Embedding(nn.Module):
    """Noise level and class label to one vector that modulates every block.

    Args:
        width: features out.
        labels: number of classes; 0 for an unconditional network.
    """

    def __init__(self, width: int, labels: int = 0) -> None:
        super().__init__()
        self.conditions = ("label",) if labels else ()
        self.fourier = Fourier(width)
        self.labels = Labels(labels, width) if labels else None
        self.mix = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(
        self, c: Float[Tensor, " k"], cond: Mapping[str, Tensor] | None
    ) -> Float[Tensor, "b width"]:
        unknown = set(cond or ()) - set(self.conditions)
        if unknown:
            raise OrnsteinError(
                f"condition {sorted(unknown)}: this network knows"
                f" {list(self.conditions) or 'no conditions'}"
            )
        features = self.fourier(c).to(self.mix[0].weight.dtype)
        if self.labels is not None:
            features = features + self.labels((cond or {}).get("label"), len(c), c.device)
        return self.mix(features)
