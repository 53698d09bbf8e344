"""Types of noise of an equation ``dX = a dt + g dB``: the shape of B, and how g acts on dB.

| noise | B | g | the product |
|---|---|---|---|
| `Diagonal` | like x | like x, entry i a function of ``x_i`` and t alone | entry by entry |
| `Additive` | like x | like x, a function of t alone | entry by entry |
| `Scalar` | one number for each sample | like x | all entries move with it |
| `General` | m numbers for each sample | like x, with a last dimension m | ``sum_j g_j dB_j`` |

The order of a method depends on the type of noise: a method that approximates no iterated integrals
of B keeps its order only where they do not occur. Kloeden and Platen 1992, section 10.3.
"""

__all__ = [
    "ADDITIVE",
    "DIAGONAL",
    "NOISE_TYPES",
    "Additive",
    "Diagonal",
    "General",
    "NoiseType",
    "Scalar",
    "driving",
]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.errors import OrnsteinError


@runtime_checkable
class NoiseType(Protocol):
    """How an equation is driven: the shape of its Brownian motion, and the product g dB."""

    def like(self, x: Tensor, diffusion: Callable[[], Tensor]) -> Tensor:
        """Return a tensor of the shape of the Brownian motion B for a state x.

        Args:
            x: the state, ``(b, *event)``.
            diffusion: returns g; called only if the shape depends on it.
        """
        ...

    def apply(self, g: Tensor, increment: Tensor) -> Tensor:
        """Return the product ``g dB``, of the shape of the state."""
        ...


@dataclass(frozen=True)
class Diagonal:
    """Diagonal noise: each entry of the state has a Brownian motion of its own."""

    def like(self, x: Tensor, diffusion: Callable[[], Tensor]) -> Tensor:
        """Return the state itself, whose shape B has."""
        return x

    def apply(self, g: Tensor, increment: Tensor) -> Tensor:
        """Return the product ``g dB``, entry by entry."""
        return g * increment


@dataclass(frozen=True)
class Additive(Diagonal):
    """Additive noise: diagonal, with a g that does not depend on the state.

    Ito's and Stratonovich's equations agree.
    """


@dataclass(frozen=True)
class Scalar:
    """Scalar noise: one Brownian motion moves all entries of a sample."""

    def like(self, x: Tensor, diffusion: Callable[[], Tensor]) -> Tensor:
        """Return a tensor of one number for each sample, ``(b, 1, ..., 1)``."""
        return x.flatten(1)[:, 0].reshape(len(x), *(1 for _ in x.shape[1:])) if x.ndim > 1 else x

    def apply(self, g: Tensor, increment: Tensor) -> Tensor:
        """Return the product ``g dB``, broadcast over the event."""
        return g * increment


@dataclass(frozen=True)
class General:
    """General noise: m Brownian motions through a matrix g of shape ``(b, *event, m)``."""

    def like(self, x: Tensor, diffusion: Callable[[], Tensor]) -> Tensor:
        """Return a tensor of m numbers for each sample, ``(b, m)``.

        Raises:
            OrnsteinError: unless g has one dimension more than x.
        """
        g = diffusion()
        if g.ndim != x.ndim + 1 or g.shape[1:-1] != x.shape[1:]:
            event = ", ".join(map(str, x.shape))
            raise OrnsteinError(
                f"general noise needs a diffusion ({event}, m), got {tuple(g.shape)}: or"
                " noise='diagonal'?"
            )
        return torch.zeros(len(x), g.shape[-1], dtype=x.dtype, device=x.device)

    def apply(self, g: Tensor, increment: Tensor) -> Tensor:
        """Return the product ``sum_j g_j dB_j`` over the last dimension of g."""
        return (g * increment.reshape(len(increment), *(1 for _ in g.shape[1:-1]), -1)).sum(-1)


DIAGONAL, ADDITIVE = Diagonal(), Additive()
NOISE_TYPES: dict[str, NoiseType] = {
    "diagonal": DIAGONAL,
    "additive": ADDITIVE,
    "scalar": Scalar(),
    "general": General(),
}
"""The types of noise by the names that `SDE` takes."""


def driving(sde: Any) -> NoiseType:
    """Return the noise type of an equation; diagonal where the equation does not say."""
    return getattr(sde, "driving", DIAGONAL)
