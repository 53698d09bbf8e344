"""A network on top of the exact denoiser of a Gaussian mixture: what is left to learn is how the data differ from the mixture.

In the polar form (see `ornstein.model.denoiser`) with data of unit scale, ``y = cos x_0 + sin eps``, component k = N(m_k, V_k diag(v_k)
V_k^T) of x_0 makes y Gaussian with variances ``cos^2 v_k + sin^2`` along V_k, and with ``r_k = V_k^T (y - cos m_k)``

    E[x_0 | y, k] - cos y = sin^2 m_k + V_k [cos sin^2 (v_k - 1) / (cos^2 v_k + sin^2) r_k].                  (1)

Divided by sin it is what the parametrisation `edm` asks of a network, free of cancellation at both ends of time, and 0 for N(0, I); the
output is its mean over ``P(k | y)``, plus a network's.
"""

__all__ = ["Anchored"]

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ornstein.nets.mlp import MLP


class Anchored(nn.Module):
    """(1) over sin, averaged, plus an `MLP`. For `Denoiser(..., param=edm, data_std=1.0)` and vectors.

    Args:
        event: d.
        components: of the mixture, k.
        width, depth: of the MLP.
        mixture: weights ``(k,)``, means ``(k, d)``, variances ``(k, d)``, and axes ``(k, d, d)`` with the axes as columns;
            None leaves them for a checkpoint to fill.
    """

    conditions = ()
    weights: Tensor
    means: Tensor
    variances: Tensor
    axes: Tensor

    def __init__(
        self, event: int, components: int, width: int = 64, depth: int = 3,
        mixture: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = {"event": event, "components": components, "width": width, "depth": depth}
        k, d = components, event
        parts = mixture or (torch.ones(k), torch.zeros(k, d), torch.ones(k, d), torch.eye(d).expand(k, d, d).clone())
        for name, part in zip(("weights", "means", "variances", "axes"), parts, strict=True):
            self.register_buffer(name, part)
        self.mlp = MLP(event, width, depth)

    def forward(
        self, x: Float[Tensor, "b d"], c: Float[Tensor, " #b"], cond: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "b d"]:
        """The network's output at y, with ``c = -lambda / 8``."""
        log_snr = (-8 * c)[:, None]
        cos, sin = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()  # (b, 1)
        total = cos.square()[:, None] * self.variances + sin.square()[:, None]  # (b, k, d)
        k, d = self.means.shape
        along = (x @ self.axes.transpose(0, 1).reshape(d, k * d)).reshape(-1, k, d)
        r = along - cos[:, None] * torch.einsum("kd,kde->ke", self.means, self.axes)
        p = (self.weights.log() - (r.square() / total + total.log()).sum(2) / 2).softmax(1)
        pull = (p[:, :, None] * r * (cos[:, None] * (self.variances - 1) / total)).reshape(-1, k * d)
        anchor = sin * (p @ self.means + pull @ self.axes.mT.reshape(k * d, d))  # (1)
        return anchor + self.mlp(x, c, cond)
