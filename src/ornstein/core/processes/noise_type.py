"""What drives an equation ``dX = a dt + g dB``: the shape of its Brownian motion B, and how g acts
on an increment of it.

| noise | B | g | the product |
|---|---|---|---|
| `Diagonal` | like x | like x, entry i a function of ``x_i`` and t alone | entry by entry |
| `Additive` | like x | like x, a function of t alone | entry by entry |
| `Scalar` | one number for each sample | like x | all entries move with it |
| `General` | m numbers for each sample | like x, with a last dimension m | ``sum_j g_j dB_j`` |

Which methods are of which order depends on it: iterated integrals of B that a method does not know
must not occur.
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
    """A row of the table."""

    def like(self, x: Tensor, diffusion: Callable[[], Tensor]) -> Tensor:
        """A tensor of the shape of B for a state x; the diffusion is called only if it must."""
        ...

    def apply(self, g: Tensor, increment: Tensor) -> Tensor:
        """``g dB``, like x."""
        ...


@dataclass(frozen=True)
class Diagonal:
    """Each entry has a Brownian motion of its own."""

    def like(self, x: Tensor, diffusion: Callable[[], Tensor]) -> Tensor:
        """x."""
        return x

    def apply(self, g: Tensor, increment: Tensor) -> Tensor:
        """Entry by entry."""
        return g * increment


@dataclass(frozen=True)
class Additive(Diagonal):
    """`Diagonal`, and the same for every state: Ito and Stratonovich agree."""


@dataclass(frozen=True)
class Scalar:
    """One Brownian motion for all entries of a sample."""

    def like(self, x: Tensor, diffusion: Callable[[], Tensor]) -> Tensor:
        """``(b, 1, ..., 1)``."""
        return x.flatten(1)[:, 0].reshape(len(x), *(1 for _ in x.shape[1:])) if x.ndim > 1 else x

    def apply(self, g: Tensor, increment: Tensor) -> Tensor:
        """Broadcast over the event."""
        return g * increment


@dataclass(frozen=True)
class General:
    """m Brownian motions through a matrix: g is ``(b, *event, m)``."""

    def like(self, x: Tensor, diffusion: Callable[[], Tensor]) -> Tensor:
        """``(b, m)``.

        Raises:
            OrnsteinError: unless g has one dimension more than x.
        """
        g = diffusion()
        if g.ndim != x.ndim + 1 or g.shape[1:-1] != x.shape[1:]:
            want = ", ".join(map(str, x.shape))
            raise OrnsteinError(
                f"general noise needs a diffusion ({want}, m), got {tuple(g.shape)}: or"
                " noise='diagonal'?"
            )
        return torch.zeros(len(x), g.shape[-1], dtype=x.dtype, device=x.device)

    def apply(self, g: Tensor, increment: Tensor) -> Tensor:
        """``sum_j g_j dB_j``."""
        return (g * increment.reshape(len(increment), *(1 for _ in g.shape[1:-1]), -1)).sum(-1)


DIAGONAL, ADDITIVE = Diagonal(), Additive()
NOISE_TYPES: dict[str, NoiseType] = {
    "diagonal": DIAGONAL,
    "additive": ADDITIVE,
    "scalar": Scalar(),
    "general": General(),
}
"""By name."""


def driving(sde: Any) -> NoiseType:
    """What drives an equation; diagonal noise where it does not say."""
    return getattr(sde, "driving", DIAGONAL)
