"""Layers that the networks share: features of the noise level, and its joint embedding with the
conditions.

Every network is a module ``net(x, c, cond) -> x``. ``x`` is ``(b, *event)``; ``c``, of order 1,
says how noisy a sample is: ``(b,)``, or ``(1,)`` when one level holds for the whole batch (the
embedding is then computed once); ``cond`` maps names of ``net.conditions`` to tensors with one row
per sample. A network keeps the arguments of its constructor in ``net.config``, from which a run
folder rebuilds it.
"""

__all__ = ["Embedding", "Fourier", "require_range", "zero_init"]

import math
from collections.abc import Mapping
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ornstein.errors import OrnsteinError
from ornstein.nets.conditions import Condition

_Module = TypeVar("_Module", bound=nn.Module)


def zero_init(layer: _Module) -> _Module:
    """Set the parameters of a layer to zero, so that its residual block starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def require_range(network: str, low: float, high: float, **values: float) -> None:
    """Raise `OrnsteinError` unless each named argument of a network is in ``[low, high]``."""
    for name, value in values.items():
        if not low <= value <= high:
            raise OrnsteinError(f"{network}({name}={value}): from {low:g} to {high:g}")


class Fourier(nn.Module):
    """A layer of sinusoidal features of the noise level, ``[cos(w_k c), sin(w_k c)]``.

    The frequencies w_k are log-spaced in [1/4, 16], for an argument of order 1. Vaswani et al.
    2017, section 3.5.

    Args:
        features: number of features, even.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, c: Float[Tensor, " k"]) -> Float[Tensor, "k features"]:
        frequencies = torch.logspace(
            -2, 4, self.features // 2, base=2.0, device=c.device, dtype=torch.float32
        )  # float32 in a bfloat16 network too
        phase = c[:, None].float() * frequencies
        return torch.cat([phase.cos(), phase.sin()], 1) * math.sqrt(2)


class Embedding(nn.Module):
    """A layer that maps noise level and conditions to one vector that modulates every block.

    Args:
        width: number of features of the vector.
        conditions: the declared conditions, by name.
    """

    def __init__(self, width: int, conditions: Mapping[str, Condition]) -> None:
        super().__init__()
        self.conditions = dict(conditions)
        self.fourier = Fourier(width)
        self.inputs = nn.ModuleList(kind.embedding(width) for kind in conditions.values())
        self.mix = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(
        self, c: Float[Tensor, " k"], cond: Mapping[str, Tensor] | None
    ) -> Float[Tensor, "b width"]:
        given = cond or {}
        if unknown := sorted(set(given) - set(self.conditions)):
            takes = list(self.conditions) or "no conditions"
            raise OrnsteinError(f"condition {unknown}: this network takes {takes}")
        features = self.fourier(c).to(self.mix[0].weight.dtype)
        for (name, kind), layer in zip(self.conditions.items(), self.inputs, strict=True):
            value = given.get(name)
            if value is None:
                value = kind.null().to(c.device).expand(len(c), *kind.shape)
            features = features + layer(value)
        return self.mix(features)
