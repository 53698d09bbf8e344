"""Gaussians with a diagonal covariance, the laws of all steps of a diffusion.

Samplers draw from them, losses and log-weights evaluate their densities.

Notation: a batch ``x`` has shape ``(b, *event)``. ``N(mean, std^2)`` is a product over all event
dimensions, so

    log N(x; m, s) = sum_i [ -((x_i - m_i) / s_i)^2 / 2 - log s_i - log(2 pi) / 2 ].             (1)

Numbers that depend on time alone come as a 0-d tensor or as ``(b,)``, one per sample; `per_sample`
gives them the trailing dimensions to meet ``x``.
"""

__all__ = ["LOG_2PI", "Gaussian", "Point", "per_sample", "sum_event"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)
"""``log(2 pi)``: half of it in nats is the constant of a standard normal log-density."""


def per_sample(value: Tensor, x: Tensor) -> Tensor:
    """Reshape a value for all samples, or one per sample ``(b,)``, to multiply a batch.

    A 0-d tensor stays as it is (it neither promotes the dtype of ``x`` nor minds its device); a
    ``(b,)`` tensor becomes ``(b, 1, ..., 1)`` in the dtype of ``x``.
    """
    if value.ndim == 0:
        return value
    return value.reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)


def sum_event(x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
    """Return the sum over all dimensions but the first, the batch."""
    return x.flatten(1).sum(1) if x.ndim > 1 else x


@dataclass(frozen=True)
class Gaussian:
    """The law ``N(mean, diag(std)^2)`` over the event dimensions of a batch.

    Args:
        mean: ``(b, *event)``.
        std: standard deviation, in the units of the mean; any shape that broadcasts against the
            mean.

    Example:
        >>> law = orn.Gaussian(torch.zeros(5, 2), torch.tensor(2.0))
        >>> law.draw(orn.Noise(0).normal((5, 2))).shape, law.log_prob(torch.ones(5, 2)).shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    mean: Float[Tensor, "b *event"]
    std: Tensor

    def draw(self, z: Float[Tensor, "b *event"]) -> Float[Tensor, "b *event"]:
        """Return the draw ``mean + std * z`` for standard normal ``z``."""
        return torch.addcmul(self.mean, self.std, z)

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return the log-density at x, in nats.

        ``sum_i [ -((x_i - mean_i) / std_i)^2 / 2 - log std_i - log(2 pi) / 2 ]``.
        """
        z = (x - self.mean) / self.std
        return sum_event(-z.square() / 2 - self.std.log()) - LOG_2PI / 2 * math.prod(
            z.shape[1:]
        )  # (1)

    def kl(self, other: "Gaussian") -> Float[Tensor, " b"]:
        """Return the Kullback-Leibler divergence ``KL(self || other)`` in nats.

        ``sum_i [ log(s'/s) + (s^2 + (m - m')^2) / (2 s'^2) - 1/2 ]``.
        """
        ratio = (self.std / other.std).square()
        shift = ((self.mean - other.mean) / other.std).square()
        return sum_event((ratio - 1 - ratio.log() + shift) / 2)


@dataclass(frozen=True)
class Point:
    """The point mass, whose density against itself is 1: the law at the pinned end of a bridge.

    Args:
        mean: the point, broadcastable to ``(b, *event)``.
    """

    mean: Tensor

    def draw(self, z: Float[Tensor, "b *event"]) -> Float[Tensor, "b *event"]:
        """Return the point itself, whatever the standard normal numbers z are."""
        return self.mean.expand_as(z)

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return 0, the log-density of the point itself against the point mass."""
        return x.new_zeros(len(x))
