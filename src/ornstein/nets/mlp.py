"""A residual multilayer perceptron for points, tables and small images: ``h <- h + W2 silu(W1
(norm(h) (1 + a) + b))``."""

__all__ = ["MLP"]

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from ornstein.errors import OrnsteinError
from ornstein.nets.layers import Embedding, zero_init


class _Block(nn.Module):
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
        return h + self.body(self.norm(h) * (1 + scale) + shift)


class MLP(nn.Module):
    """A network on flattened events; its output starts at zero.

    Args:
        event: the event shape, or one integer for vectors.
        width: features of the residual stream.
        depth: number of blocks.
        labels: number of classes to condition on; 0 for none.
        dropout: probability of dropping a hidden feature in training.
    """

    def __init__(
        self,
        event: int | tuple[int, ...] | list[int],
        width: int = 128,
        depth: int = 3,
        labels: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.event = (event,) if isinstance(event, int) else tuple(event)
        self.config = {
            "event": list(self.event),
            "width": width,
            "depth": depth,
            "labels": labels,
            "dropout": dropout,
        }
        size = 1
        for n in self.event:
            size *= n
        self.embedding = Embedding(width, labels)
        self.conditions = self.embedding.conditions
        self.enter = nn.Linear(size, width)
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(depth))
        self.leave = nn.Sequential(nn.LayerNorm(width), zero_init(nn.Linear(width, size)))

    def forward(
        self,
        x: Float[Tensor, "b *event"],
        c: Float[Tensor, " #b"],
        cond: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "b *event"]:
        """The network's output, of the shape of ``x``."""
        if tuple(x.shape[1:]) != self.event:
            raise OrnsteinError(
                f"this MLP takes events of shape {self.event}, got {tuple(x.shape[1:])}"
            )
        e = self.embedding(c, cond)
        h = self.enter(x.flatten(1))
        for block in self.blocks:
            h = block(h, e)
        return self.leave(h).reshape(x.shape)
