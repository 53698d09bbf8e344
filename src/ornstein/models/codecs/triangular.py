"""A codec that bends: each coordinate given those before it, with a mean and a scale that depend on
them.

With ``u`` the user's coordinates, standardised and put in an order, and features ``(1, u_<k,
u_<k^2)`` and ``(1, u_<k)`` of those before the k-th,

    u_k = m_k(u_<k) + exp(s_k(u_<k)) z_k,      m_k = B_k . (1, u_<k, u_<k^2),      s_k = D_k . (1, u_<k),  (1)

    log |det dx/dz| = sum_k s_k + sum_j log factor_j.                                            (2)

The map of Knothe and Rosenblatt has this form. A scale parameter that comes before what it scales
is straightened out exactly.
"""

__all__ = ["TriangularCodec"]

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.models.codecs.affine import Codec


class TriangularCodec(Codec):
    """``x = shift + factor P u(z)`` by (1), for vectors.

    Args:
        shift, factor: ``(d,)``, in the order of x.
        order: ``(d,)``, a permutation: ``u_k`` is coordinate ``order[k]`` of x.
        location: B, ``(d, 2 d + 1)``, and
        log_scale: D, ``(d, d + 1)``; what is not before the diagonal is 0.
        limits: ``(2, d)``, between which u is held where it enters s and as a square.
    """

    order: Tensor
    location: Tensor
    log_scale: Tensor
    limits: Tensor

    def __init__(
        self,
        shift: Tensor,
        factor: Tensor,
        order: Tensor,
        location: Tensor,
        log_scale: Tensor,
        limits: Tensor,
    ) -> None:
        super().__init__(shift, factor)
        parts = {"order": order, "location": location, "log_scale": log_scale, "limits": limits}
        for name, value in parts.items():
            self.register_buffer(name, value)

    def config(self) -> dict[str, Any]:
        """What is not a tensor."""
        return {"kind": "bend"}

    def straightened(self, x: Float[Tensor, "b d"]) -> tuple[Tensor, Tensor]:
        """z and s, ``(b, d)`` each."""
        u = ((x - self.shift) / self.factor)[:, self.order]
        one, held = torch.ones_like(u[:, :1]), self._held(u, slice(None))
        m, s = (
            torch.cat([one, u, held.square()], 1) @ self.location.mT,
            torch.cat([one, held], 1) @ self.log_scale.mT,
        )
        return (u - m) * (-s).exp(), s  # (1)

    def decode_with_log_det(self, z: Float[Tensor, "b d"]) -> tuple[Tensor, Tensor]:
        """x, ``(b, d)``, and (2), ``(b,)``."""
        z = z.to(torch.promote_types(z.dtype, self.shift.dtype))
        d, s = z.shape[1], list[Tensor]()
        before = held = square = z[:, :0]
        for k in range(d):
            b, c = self.location[k], self.log_scale[k]
            s.append(c[0] + held @ c[1 : k + 1])
            m = b[0] + before @ b[1 : k + 1] + square @ b[d + 1 : d + 1 + k]
            new = (m + s[-1].exp() * z[:, k])[:, None]  # (1)
            before = torch.cat([before, new], 1)
            held = torch.cat([held, self._held(new, slice(k, k + 1))], 1)
            square = held.square()
        log_det = torch.stack(s, 1).sum(1) + self.factor.log().sum()  # (2)
        return self.shift + self.factor * before[:, self.order.argsort()], log_det

    def _held(self, u: Tensor, columns: slice) -> Tensor:
        low, high = self.limits[:, columns]
        return torch.minimum(torch.maximum(u, low), high)

    def encode(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """z of x."""
        return self.straightened(x)[0]

    def decode(self, z: Float[Tensor, "b d"], quantise: bool = True) -> Float[Tensor, "b d"]:
        """x of z."""
        return self.decode_with_log_det(z)[0]

    def log_det(self, z: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """(2) in nats."""
        return self.decode_with_log_det(z)[1]
