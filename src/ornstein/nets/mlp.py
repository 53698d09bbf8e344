"""A residual multilayer perceptron (MLP), the network for points, tables and small pictures.

The event is flattened and mapped to a residual stream h, which blocks change by

    h <- h + W2 silu(W1 (norm(h) (1 + a) + b)),                                                  (1)

with scale a and shift b from the embedding of noise level and conditions.
"""

__all__ = ["MLP"]

import math
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from ornstein.errors import OrnsteinError
from ornstein.nets.conditions import Condition, declare, declared_config
from ornstein.nets.layers import Embedding, require_range, zero_init

_MAX_DEPTH = 1000  # blocks: more than any network in use, few enough to build in a second


class _Block(nn.Module):
    """The residual block (1) of the MLP, modulated by the embedding."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = zero_init(nn.Linear(width, 2 * width))
        self.body = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.SiLU(),
            nn.Dropout(dropout),
            zero_init(nn.Linear(2 * width, width)),
        )

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.modulate(e).chunk(2, 1)
        return h + self.body(self.norm(h) * (1 + scale) + shift)  # (1)


class MLP(nn.Module):
    """A residual multilayer perceptron on flattened events, with an output that starts at zero.

    Args:
        event: the event shape, or one integer for vectors.
        width: features of the residual stream.
        depth: number of blocks.
        labels: number of classes of the condition "label"; 0 for none.
        dropout: probability of dropping a hidden feature in training.
        conditions: further declared conditions by name, such as ``orn.conditions.Vector(2)``.

    Example:
        >>> net = orn.MLP(3, width=16, depth=1)
        >>> net(torch.ones(5, 3), torch.zeros(5)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        event: int | tuple[int, ...] | list[int],
        width: int = 128,
        depth: int = 3,
        labels: int | Mapping[str, Condition] = 0,
        dropout: float = 0.0,
        conditions: Mapping[str, Condition] | None = None,
    ) -> None:
        super().__init__()
        require_range("MLP", 0, _MAX_DEPTH, depth=depth)
        require_range("MLP", 0, 1, dropout=dropout)
        self.event_shape = (event,) if isinstance(event, int) else tuple(event)
        self.conditions = declare(labels, conditions)
        self.config = {
            "event": list(self.event_shape),
            "width": width,
            "depth": depth,
            "dropout": dropout,
            **declared_config(self.conditions),
        }
        size = math.prod(self.event_shape)
        self.embedding = Embedding(width, self.conditions)
        self.enter = nn.Linear(size, width)
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(depth))
        self.leave = nn.Sequential(nn.LayerNorm(width), zero_init(nn.Linear(width, size)))

    def forward(
        self,
        x: Float[Tensor, "b *event"],
        c: Float[Tensor, " #b"],
        cond: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "b *event"]:
        """Return the output of the network, of the shape of ``x``.

        Args:
            x: noisy samples, ``(b, *event)``.
            c: their noise levels, ``(b,)``, or ``(1,)`` for one that all samples have.
            cond: conditions by name, one row per sample; a missing one is null.

        Raises:
            OrnsteinError: for events of another shape, or a condition that is not declared.
        """
        if tuple(x.shape[1:]) != self.event_shape:
            raise OrnsteinError(
                f"this MLP takes events of shape {self.event_shape}, got {tuple(x.shape[1:])}"
            )
        e = self.embedding(c, cond)
        h = self.enter(x.flatten(1))
        for block in self.blocks:
            h = block(h, e)
        return self.leave(h).reshape(x.shape)
