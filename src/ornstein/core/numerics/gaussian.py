"""Gaussians with a diagonal covariance: the common currency of samplers, losses and log-weights.

Notation: a batch ``x`` has shape ``(b, *event)``. ``N(mean, std^2)`` is a product over all event
dimensions, so

    log N(x; m, s) = sum_i [ -((x_i - m_i) / s_i)^2 / 2 - log s_i - log(2 pi) / 2 ].             (1)

Numbers that depend on time alone come as a 0-d tensor or as ``(b,)``, one per sample; `per_sample`
gives them the trailing dimensions to meet ``x``.
"""

__all__ = ["Gaussian", "Point", "per_sample", "sum_event"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def per_sample(value: Tensor, x: Tensor) -> Tensor:
    """Shape a function of time to multiply a batch.

    A 0-d tensor stays as it is (it neither promotes the dtype of ``x`` nor minds its device); a
    ``(b,)`` tensor becomes ``(b, 1, ..., 1)`` in the dtype of ``x``.
    """
    if value.ndim == 0:
        return value
    return value.reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)


def sum_event(x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
    """Sum over everything but the batch dimension."""
    return x.flatten(1).sum(1) if x.ndim > 1 else x


@dataclass(frozen=True)
class Gaussian:
    """``N(mean, diag(std)^2)`` over the event dimensions.

    Args:
        mean: ``(b, *event)``.
        std: standard deviation, in the units of the mean; any shape that broadcasts against it.
    """

    mean: Float[Tensor, "b *event"]
    std: Tensor

    def draw(self, z: Float[Tensor, "b *event"]) -> Float[Tensor, "b *event"]:
        """``mean + std * z`` for standard normal ``z``: differentiable in all three."""
        return torch.addcmul(self.mean, self.std, z)

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """The log-density (1) in nats."""
        z = (x - self.mean) / self.std
        return sum_event(-z.square() / 2 - self.std.log()) - math.log(2 * math.pi) / 2 * math.prod(
            z.shape[1:]
        )  # (1)

    def kl(self, other: "Gaussian") -> Float[Tensor, " b"]:
        """``KL(self || other) = sum_i [ log(s'/s) + (s^2 + (m - m')^2) / (2 s'^2) - 1/2 ]`` in
        nats."""
        ratio = (self.std / other.std).square()
        shift = ((self.mean - other.mean) / other.std).square()
        return sum_event((ratio - 1 - ratio.log() + shift) / 2)


@dataclass(frozen=True)
class Point:
    """The law of what is certain, with its density against itself, which is 1: the pinned end of a
    bridge.

    Args:
        mean: the point, broadcastable to ``(b, *event)``.
    """

    mean: Tensor

    def draw(self, z: Float[Tensor, "b *event"]) -> Float[Tensor, "b *event"]:
        """The point, whatever z."""
        return self.mean.expand_as(z)

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """0: of the point itself; others are not asked for."""
        return x.new_zeros(len(x))
