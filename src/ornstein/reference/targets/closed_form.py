"""Normalised test densities with closed forms: a funnel, a banana, heavy tails.

Notation: samples are ``x = h(z)`` for random numbers z of a known density q and an invertible map
h, so the density is

    rho(x) = q(h^-1(x)) |det dh^-1/dx|,                                                          (1)

or a mixture of such. Nothing needs a normaliser: ``log_z`` is 0. Names alone do not fix a target
(the funnel appears in the literature with two variances), so every constant is written in the class
that it belongs to.
"""

__all__ = ["Banana", "Funnel", "StudentTMixture"]

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.errors import OrnsteinError
from ornstein.reference.common import require_batch, source

_LOG_2PI = math.log(2 * math.pi)
_DOUBLE = torch.float64


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise OrnsteinError(message)


@dataclass(frozen=True)
class Funnel:
    """``x_1 ~ N(0, std^2)``, ``x_i | x_1 ~ N(0, e^{x_1})`` for i = 2..d; normalised. Neal 2003,
    section 8.

    Half of the mass lies in a neck that is ever thinner, half in a mouth that is ever wider.

    Args:
        d: dimension, at least 2.
        std: standard deviation of the first coordinate.
    """

    d: int = 10
    std: float = 3.0

    def __post_init__(self) -> None:
        _require(
            self.d >= 2 and self.std > 0,
            f"Funnel(d={self.d}, std={self.std}): needs d >= 2 and std > 0",
        )

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.d

    @property
    def log_z(self) -> float:
        """0: the density is normalised."""
        return 0.0

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """``log rho(x)`` in nats."""
        require_batch(x, self.dim, "Funnel")
        first, others = x[:, 0], x[:, 1:]
        head = -(first / self.std).square() / 2 - math.log(self.std)
        tail = (
            -(others * (-first / 2).exp()[:, None]).square().sum(1) / 2 - (self.d - 1) * first / 2
        )
        return head + tail - self.d * _LOG_2PI / 2

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """``n`` exact samples; sample i depends on the seed and i only."""
        z = source(seed, 0).normal((n, self.d), _DOUBLE)
        first = self.std * z[:, :1]
        return torch.cat([first, (first / 2).exp() * z[:, 1:]], 1).to(dtype)


@dataclass(frozen=True)
class Banana:
    """A Gaussian bent along a parabola: ``x_1 ~ N(0, std^2)``, ``x_2 | x_1 ~ N(-bend (x_1^2 -
    std^2), 1)``; d = 2.

    Normalised, since the twist preserves volume. Haario, Saksman and Tamminen 1999, their constants
    for a moderate bend.

    Args:
        bend: curvature of the parabola.
        std: standard deviation of the first coordinate.
    """

    bend: float = 0.03
    std: float = 10.0

    def __post_init__(self) -> None:
        _require(self.std > 0, f"Banana(std={self.std}): must be positive")

    @property
    def dim(self) -> int:
        """2."""
        return 2

    @property
    def log_z(self) -> float:
        """0: the density is normalised."""
        return 0.0

    def _ridge(self, first: Tensor) -> Tensor:
        return -self.bend * (first.square() - self.std**2)

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """``log rho(x)`` in nats."""
        require_batch(x, 2, "Banana")
        along, across = x[:, 0] / self.std, x[:, 1] - self._ridge(x[:, 0])
        return -(along.square() + across.square()) / 2 - math.log(self.std) - _LOG_2PI

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """``n`` exact samples; sample i depends on the seed and i only."""
        z = source(seed, 0).normal((n, 2), _DOUBLE)
        first = self.std * z[:, 0]
        return torch.stack([first, self._ridge(first) + z[:, 1]], 1).to(dtype)


@dataclass(frozen=True)
class StudentTMixture:
    """Ten equal components, each a product of independent Student t laws with 2 degrees of freedom;
    normalised.

    ``rho = 1/10 sum_k prod_i p(x_i - m_ki)`` with ``p(u) = (2 + u^2)^(-3/2)`` and the locations ``m
    = 20 U - 10``, ``U = numpy default_rng(0).random((10, d))``. The variance is infinite. In the
    manner of Blessing et al. 2024.

    Args:
        d: dimension.
    """

    d: int = 2

    def __post_init__(self) -> None:
        _require(self.d >= 1, f"StudentTMixture(d={self.d}): the dimension must be at least 1")

    @cached_property
    def locations(self) -> Float[Tensor, "k d"]:
        """The centres ``(10, d)``, float64."""
        return torch.from_numpy(20 * np.random.default_rng(0).random((10, self.d)) - 10)

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.d

    @property
    def log_z(self) -> float:
        """0: the density is normalised."""
        return 0.0

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """``log rho(x)`` in nats."""
        require_batch(x, self.dim, "StudentTMixture")
        u = x[:, None] - self.locations.to(x)
        return (-1.5 * (2 + u.square()).log().sum(2)).logsumexp(1) - math.log(len(self.locations))

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """``n`` exact samples: ``z / sqrt(E)`` is t_2 for a normal z and a standard exponential
        E."""
        k = (source(seed, 0).uniform((n,), _DOUBLE) * len(self.locations)).long()
        z = source(seed, 1).normal((n, self.d), _DOUBLE)
        exponential = -torch.log1p(-source(seed, 2).uniform((n, self.d), _DOUBLE))
        return (self.locations[k] + z / exponential.clamp_min(1e-300).sqrt()).to(dtype)
