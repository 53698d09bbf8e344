"""Wells and rings: test densities with separated modes, solved by quadrature.

They test whether a sampler finds every mode with the right weight. ``rho`` is the unnormalised
density and ``log_z = log int rho(x) dx``. Each is a product of laws on the line, of which `Line`
computes normaliser and quantiles, to about 1e-12. For wells

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

from ornstein.core.numerics.checks import require_finite, require_integers
from ornstein.core.numerics.gaussian import LOG_2PI
from ornstein.core.numerics.tabulated_density import Line
from ornstein.errors import OrnsteinError
from ornstein.reference.common import require_batch, source

_DOUBLE = torch.float64
_UNIFORMS, _NORMALS = 0, 1  # keys of the random numbers of exact samples
_MANY_WELL_END = 6.0  # where the density of `ManyWell` is below 1e-400 of its maximum
_BARRIER_MARGIN = 30.0  # the square of the end of `MultiWell` above the well: 900 nats down
_RING_TAIL = 700.0  # nats below the maximum at which the law of the radius is cut


@dataclass(frozen=True)
class ManyWell:
    """Independent double wells ``log rho(x, y) = -x^4 + 6 x^2 + x / 2 - y^2 / 2``, multiplied.

    There are ``2^pairs`` modes of unequal weight. Coordinates alternate, ``(x_1, y_1, x_2, y_2,
    ...)``. Noe et al. 2019; Midgley et al. 2023
    (FAB).

    Args:
        pairs: number of pairs, at least 1; the dimension is twice that. 16 is the standard.

    Example:
        >>> wells = orn.targets.ManyWell(2)
        >>> wells.log_prob(wells.sample(5)).shape
        torch.Size([5])
    """

    pairs: int = 16

    def __post_init__(self) -> None:
        require_integers(1, pairs=self.pairs)

    @cached_property
    def _well(self) -> Line:
        """The tabulated distribution of one well coordinate."""
        return Line(self._log_well, -_MANY_WELL_END, _MANY_WELL_END)

    def _log_well(self, u: Tensor) -> Tensor:
        """The unnormalised log-density of one well coordinate."""
        squared = u.square()
        return squared * (6 - squared) + u / 2

    @property
    def dim(self) -> int:
        """The dimension of the space, ``2 pairs``."""
        return 2 * self.pairs

    @property
    def log_z(self) -> float:
        """The log of the normaliser, ``pairs (log Z_x + log(2 pi) / 2)``, Z_x by quadrature."""
        return self.pairs * (self._well.log_z + LOG_2PI / 2)

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The unnormalised log-density at points ``(b, d)``, in nats."""
        require_batch(x, self.dim, "ManyWell")
        wells, normals = x[:, 0::2], x[:, 1::2]
        return self._log_well(wells).sum(1) - normals.square().sum(1) / 2

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """Draw n exact samples ``(n, d)``; sample i depends on the seed and on i only."""
        wells = self._well.quantile(source(seed, _UNIFORMS).uniform((n, self.pairs), _DOUBLE))
        normals = source(seed, _NORMALS).normal((n, self.pairs), _DOUBLE)
        return torch.stack([wells, normals], 2).flatten(1).to(dtype)


@dataclass(frozen=True)
class MultiWell:
    """Double wells ``log rho = -sum_{i <= m} (x_i^2 - delta)^2 - 1/2 sum_{i > m} x_i^2``.

    There are ``2^m`` modes of equal weight. Wu et al. 2020; Berner, Richter and Ullrich 2024.

    Args:
        d: dimension.
        m: number of double wells, 0 <= m <= d.
        delta: square of the position of a well; the barrier is ``delta^2`` high.

    Example:
        >>> wells = orn.targets.MultiWell(3, 2)
        >>> wells.log_prob(wells.sample(5)).shape
        torch.Size([5])
    """

    d: int = 5
    m: int = 5
    delta: float = 4.0

    def __post_init__(self) -> None:
        require_integers(1, d=self.d)
        require_finite(delta=self.delta)
        if not 0 <= self.m <= self.d:
            raise OrnsteinError(f"MultiWell(d={self.d}, m={self.m}): needs d >= 1 and 0 <= m <= d")

    @cached_property
    def _well(self) -> Line:
        """The tabulated distribution of one well coordinate."""
        end = math.sqrt(max(self.delta, 0.0) + _BARRIER_MARGIN)  # (end^2 - delta)^2 >= 900 nats
        return Line(self._log_well, -end, end)

    def _log_well(self, u: Tensor) -> Tensor:
        """The unnormalised log-density of one well coordinate."""
        return -(u.square() - self.delta).square()

    @property
    def dim(self) -> int:
        """The dimension d of the space."""
        return self.d

    @property
    def log_z(self) -> float:
        """The log of the normaliser, ``m log Z_1 + (d - m) log(2 pi) / 2``, Z_1 by quadrature."""
        return self.m * self._well.log_z + (self.d - self.m) * LOG_2PI / 2

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The unnormalised log-density at points ``(b, d)``, in nats."""
        require_batch(x, self.dim, "MultiWell")
        wells, normals = x[:, : self.m], x[:, self.m :]
        return self._log_well(wells).sum(1) - normals.square().sum(1) / 2

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """Draw n exact samples ``(n, d)``; sample i depends on the seed and on i only."""
        wells = self._well.quantile(source(seed, _UNIFORMS).uniform((n, self.m), _DOUBLE))
        normals = source(seed, _NORMALS).normal((n, self.d - self.m), _DOUBLE)
        return torch.cat([wells, normals], 1).to(dtype)


@dataclass(frozen=True)
class Rings:
    """Concentric rings: ``log rho = -stiffness min_c (|x| - c)^2`` over the radii c, d = 2.

    ``Z = 2 pi int_0^inf r rho(r) dr``; the weight of a ring is nearly proportional to its radius.

    Args:
        radii: of the circles.
        stiffness: ``1 / (2 width^2)``.

    Example:
        >>> rings = orn.targets.Rings()
        >>> rings.log_prob(rings.sample(5)).shape
        torch.Size([5])
    """

    radii: tuple[float, ...] = (1.0, 3.0, 5.0)
    stiffness: float = 100.0

    def __post_init__(self) -> None:
        require_finite(positive=True, stiffness=self.stiffness)
        if not self.radii or not min(self.radii) >= 0:
            raise OrnsteinError(
                f"Rings({self.radii}, {self.stiffness}): needs radii >= 0 and a positive stiffness"
            )

    def _log_radial(self, r: Tensor) -> Tensor:
        """The unnormalised log-density at a distance r from the origin."""
        circles = torch.tensor(self.radii, dtype=r.dtype, device=r.device)
        return -self.stiffness * (r[..., None] - circles).square().amin(-1)

    @cached_property
    def _radius(self) -> Line:
        """The tabulated distribution of the distance from the origin."""
        end = max(self.radii) + math.sqrt(_RING_TAIL / self.stiffness)
        return Line(self._log_radius, 0.0, end)

    def _log_radius(self, r: Tensor) -> Tensor:
        """The log-density of the radius, including the factor r of polar coordinates."""
        return r.log() + self._log_radial(r)

    @property
    def dim(self) -> int:
        """The dimension of the space, which is 2."""
        return 2

    @property
    def log_z(self) -> float:
        """The log of the normaliser, ``log 2 pi int r rho(r) dr``, by quadrature."""
        return LOG_2PI + self._radius.log_z

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The unnormalised log-density at points ``(b, d)``, in nats."""
        require_batch(x, 2, "Rings")
        return self._log_radial(torch.linalg.vector_norm(x, dim=1))

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """Draw n exact samples ``(n, 2)``; sample i depends on the seed and on i only."""
        u = source(seed, _UNIFORMS).uniform((n, 2), _DOUBLE)
        r, angle = self._radius.quantile(u[:, 0]), 2 * math.pi * u[:, 1]
        return torch.stack([r * angle.cos(), r * angle.sin()], 1).to(dtype)
