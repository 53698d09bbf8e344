"""Wells and rings: test densities whose modes are apart, with the normaliser and exact samples by
quadrature.

Notation: ``rho`` is the unnormalised density and ``log_z = log int rho(x) dx``. Everything here is
a product of laws on the line, of which `Line` computes normaliser and quantiles, to about 1e-12.
For wells

    Z = prod_i int exp(log rho_i(u)) du,      x_i = F_i^-1(U_i)  with U_i uniform,               (1)

and for rings the same in the radius, with the factor r of polar coordinates.
"""

__all__ = ["ManyWell", "MultiWell", "Rings"]

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.tabulated_density import Line
from ornstein.errors import OrnsteinError
from ornstein.reference.common import require_batch, source

_LOG_2PI = math.log(2 * math.pi)
_DOUBLE = torch.float64


@dataclass(frozen=True)
class ManyWell:
    """Independent pairs (x, y) with ``log rho = -x^4 + 6 x^2 + x / 2 - y^2 / 2``: ``2^pairs`` modes
    of unequal weight.

    Coordinates alternate, ``(x_1, y_1, x_2, y_2, ...)``. Noe et al. 2019; Midgley et al. 2023
    (FAB).

    Args:
        pairs: number of pairs, at least 1; the dimension is twice that. 16 is the standard.
    """

    pairs: int = 16

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise OrnsteinError(f"ManyWell(pairs={self.pairs}): needs at least one pair")

    @cached_property
    def _well(self) -> Line:
        return Line(self._log_well, -6.0, 6.0)

    def _log_well(self, u: Tensor) -> Tensor:
        squared = u.square()
        return squared * (6 - squared) + u / 2

    @property
    def dim(self) -> int:
        """``2 * pairs``."""
        return 2 * self.pairs

    @property
    def log_z(self) -> float:
        """``pairs (log Z_x + log(2 pi) / 2)``, Z_x by quadrature."""
        return self.pairs * (self._well.log_z + _LOG_2PI / 2)

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """``log rho(x)`` in nats."""
        require_batch(x, self.dim, "ManyWell")
        wells, normals = x[:, 0::2], x[:, 1::2]
        return self._log_well(wells).sum(1) - normals.square().sum(1) / 2

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """``n`` exact samples, the wells by (1); sample i depends on the seed and i only."""
        wells = self._well.quantile(source(seed, 0).uniform((n, self.pairs), _DOUBLE))
        normals = source(seed, 1).normal((n, self.pairs), _DOUBLE)
        return torch.stack([wells, normals], 2).flatten(1).to(dtype)


@dataclass(frozen=True)
class MultiWell:
    """``log rho = -sum_{i <= m} (x_i^2 - delta)^2 - 1/2 sum_{i > m} x_i^2``: ``2^m`` modes of equal
    weight.

    Wu et al. 2020; Berner, Richter and Ullrich 2024.

    Args:
        d: dimension.
        m: number of double wells, 0 <= m <= d.
        delta: square of the position of a well; the barrier is ``delta^2`` high.
    """

    d: int = 5
    m: int = 5
    delta: float = 4.0

    def __post_init__(self) -> None:
        good = self.d >= 1 and 0 <= self.m <= self.d
        if not good:
            raise OrnsteinError(f"MultiWell(d={self.d}, m={self.m}): needs d >= 1 and 0 <= m <= d")

    @cached_property
    def _well(self) -> Line:
        end = math.sqrt(
            max(self.delta, 0.0) + 30.0
        )  # (end^2 - delta)^2 >= 900 nats above the bottom
        return Line(self._log_well, -end, end)

    def _log_well(self, u: Tensor) -> Tensor:
        return -(u.square() - self.delta).square()

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.d

    @property
    def log_z(self) -> float:
        """``m log Z_1 + (d - m) log(2 pi) / 2``, Z_1 by quadrature."""
        return self.m * self._well.log_z + (self.d - self.m) * _LOG_2PI / 2

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """``log rho(x)`` in nats."""
        require_batch(x, self.dim, "MultiWell")
        wells, normals = x[:, : self.m], x[:, self.m :]
        return self._log_well(wells).sum(1) - normals.square().sum(1) / 2

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """``n`` exact samples, the wells by (1); sample i depends on the seed and i only."""
        wells = self._well.quantile(source(seed, 0).uniform((n, self.m), _DOUBLE))
        normals = source(seed, 1).normal((n, self.d - self.m), _DOUBLE)
        return torch.cat([wells, normals], 1).to(dtype)


@dataclass(frozen=True)
class Rings:
    """Concentric circles: ``log rho = -stiffness min_c (|x| - c)^2`` over the radii c, d = 2.

    ``Z = 2 pi int_0^inf r rho(r) dr``; the weight of a ring is nearly proportional to its radius.

    Args:
        radii: of the circles.
        stiffness: ``1 / (2 width^2)``.
    """

    radii: tuple[float, ...] = (1.0, 3.0, 5.0)
    stiffness: float = 100.0

    def __post_init__(self) -> None:
        good = bool(self.radii) and min(self.radii) >= 0 and self.stiffness > 0
        if not good:
            raise OrnsteinError(
                f"Rings({self.radii}, {self.stiffness}): needs radii >= 0 and a positive stiffness"
            )

    def _log_radial(self, r: Tensor) -> Tensor:
        circles = torch.tensor(self.radii, dtype=r.dtype, device=r.device)
        return -self.stiffness * (r[..., None] - circles).square().amin(-1)

    @cached_property
    def _radius(self) -> Line:
        end = max(self.radii) + math.sqrt(700 / self.stiffness)
        return Line(self._log_radius, 0.0, end)

    def _log_radius(self, r: Tensor) -> Tensor:
        return r.log() + self._log_radial(r)

    @property
    def dim(self) -> int:
        """2."""
        return 2

    @property
    def log_z(self) -> float:
        """``log 2 pi int r rho(r) dr``, by quadrature."""
        return _LOG_2PI + self._radius.log_z

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """``log rho(x)`` in nats."""
        require_batch(x, 2, "Rings")
        return self._log_radial(torch.linalg.vector_norm(x, dim=1))

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """``n`` exact samples, the radius by (1); sample i depends on the seed and i only."""
        u = source(seed, 0).uniform((n, 2), _DOUBLE)
        r, angle = self._radius.quantile(u[:, 0]), 2 * math.pi * u[:, 1]
        return torch.stack([r * angle.cos(), r * angle.sin()], 1).to(dtype)
