"""The triangular codec: a map whose coordinates are shifted and scaled by earlier coordinates.

With ``u`` the user's coordinates, standardised and put in an order, and features ``(1, u_<k,
u_<k^2)`` and ``(1, u_<k)`` of those before the k-th,

    u_k = m_k(u_<k) + exp(s_k(u_<k)) z_k,                                                        (1)
    m_k = B_k . (1, u_<k, u_<k^2),      s_k = D_k . (1, u_<k),

    log |det dx/dz| = sum_k s_k + sum_j log factor_j.                                            (2)

The map of Knothe and Rosenblatt has this form. It makes a funnel Gaussian: a scale parameter that
comes before the coordinates that it scales is removed exactly.
"""

__all__ = ["TriangularCodec"]

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.models.codecs.affine import Codec


class TriangularCodec(Codec):
    """A triangular map ``x = shift + factor P u(z)`` of vectors, quadratic in earlier coordinates.

    Args:
        shift, factor: ``(d,)``, in the order of x.
        order: ``(d,)``, a permutation: ``u_k`` is coordinate ``order[k]`` of x.
        location: B, ``(d, 2 d + 1)``; zero for coordinates that are not earlier.
        log_scale: D, ``(d, d + 1)``; zero for coordinates that are not earlier.
        limits: ``(2, d)``, to which u is clamped where it enters s and as a square.
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
        """Return the arguments that are not tensors, of which there are none."""
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Codec:
        """Make the codec from the tensors by name, as a run folder has them."""
        return cls(**tensors)

    def to_base(self, x: Float[Tensor, "b d"]) -> tuple[Tensor, Tensor]:
        """Map x to the base coordinates z, and return the log-scales s too, ``(b, d)`` each."""
        u = ((x - self.shift) / self.factor)[:, self.order]
        one = torch.ones_like(u[:, :1])
        clamped = self._clamped(u, slice(None))
        m, s = (
            torch.cat([one, u, clamped.square()], 1) @ self.location.mT,
            torch.cat([one, clamped], 1) @ self.log_scale.mT,
        )
        return (u - m) * (-s).exp(), s  # (1)

    def decode_with_log_det(self, z: Float[Tensor, "b d"]) -> tuple[Tensor, Tensor]:
        """Map z to x, ``(b, d)``, and return the log-determinant too, ``(b,)`` in nats."""
        z = z.to(torch.promote_types(z.dtype, self.shift.dtype))
        d = z.shape[1]
        s = list[Tensor]()
        earlier = clamped = square = z[:, :0]
        for k in range(d):
            b, c = self.location[k], self.log_scale[k]
            s.append(c[0] + clamped @ c[1 : k + 1])
            m = b[0] + earlier @ b[1 : k + 1] + square @ b[d + 1 : d + 1 + k]
            new = (m + s[-1].exp() * z[:, k])[:, None]  # (1)
            earlier = torch.cat([earlier, new], 1)
            clamped = torch.cat([clamped, self._clamped(new, slice(k, k + 1))], 1)
            square = clamped.square()
        log_det = torch.stack(s, 1).sum(1) + self.factor.log().sum()  # (2)
        return self.shift + self.factor * earlier[:, self.order.argsort()], log_det

    def _clamped(self, u: Tensor, columns: slice) -> Tensor:
        """Return coordinates u clamped to the limits of their columns."""
        low, high = self.limits[:, columns]
        return torch.minimum(torch.maximum(u, low), high)

    def encode(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Map x to the base coordinates z, both ``(b, d)``."""
        return self.to_base(x)[0]

    def decode(self, z: Float[Tensor, "b d"], quantise: bool = True) -> Float[Tensor, "b d"]:
        """Map the base coordinates z to x, both ``(b, d)``."""
        return self.decode_with_log_det(z)[0]

    def log_det(self, z: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Return the log-determinant of the map at z, ``(b,)`` in nats."""
        return self.decode_with_log_det(z)[1]
