"""Networks ``net(x, c, cond) -> x``, which know nothing of stochastic processes."""

__all__ = [
    "MLP",
    "UNet",
]

from ornstein.nets.mlp import MLP
from ornstein.nets.unet import UNet
