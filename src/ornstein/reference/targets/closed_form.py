"""Normalised test densities in closed form: a funnel, a banana, a mixture of heavy-tailed laws.

Each is a standard difficulty for samplers: scales that vary by orders of magnitude, curvature, and
moments that do not exist. Samples are ``x = h(z)`` for random numbers z of a known density q and an
invertible map h, so the density is

    rho(x) = q(h^-1(x)) |det dh^-1/dx|,                                                          (1)

or a mixture of such. Names alone do not fix a target (the funnel appears in the literature with two
variances), so every constant is written in the class that it belongs to.
"""

__all__ = ["Banana", "Funnel", "StudentTMixture"]

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.checks import require_finite, require_integers
from ornstein.core.numerics.gaussian import LOG_2PI
from ornstein.reference.common import require_batch, source
from ornstein.reference.targets.base import Normalised

_DOUBLE = torch.float64
_NORMALS = 0  # key of the normal numbers of the funnel and the banana
_COMPONENT, _NUMERATORS, _DENOMINATORS = 0, 1, 2  # keys of the numbers of the Student mixture
_COMPONENTS = 10  # number of components of the Student mixture
_SMALLEST_EXPONENTIAL = 1e-300  # smallest exponential number, as a draw of 0 would divide by 0


@dataclass(frozen=True)
class Funnel(Normalised):
    """Neal's funnel: ``x_1 ~ N(0, std^2)``, ``x_i | x_1 ~ N(0, e^{x_1})`` for i = 2..d.

    Half of the mass lies where the other coordinates become ever narrower, half where they become
    ever wider. Neal 2003, section 8.

    Args:
        d: dimension, at least 2.
        std: standard deviation of the first coordinate.

    Example:
        >>> funnel = orn.targets.Funnel(3)
        >>> funnel.log_prob(funnel.sample(5)).shape
        torch.Size([5])
    """

    d: int = 10
    std: float = 3.0

    def __post_init__(self) -> None:
        require_integers(2, d=self.d)
        require_finite(positive=True, std=self.std)

    @property
    def dim(self) -> int:
        """The dimension d of the space."""
        return self.d

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The log-density at points ``(b, d)``, in nats."""
        require_batch(x, self.dim, "Funnel")
        first, others = x[:, 0], x[:, 1:]
        head = -(first / self.std).square() / 2 - math.log(self.std)
        tail = (
            -(others * (-first / 2).exp()[:, None]).square().sum(1) / 2 - (self.d - 1) * first / 2
        )
        return head + tail - self.d * LOG_2PI / 2

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """Draw n exact samples ``(n, d)``; sample i depends on the seed and on i only."""
        z = source(seed, _NORMALS).normal((n, self.d), _DOUBLE)
        first = self.std * z[:, :1]
        return torch.cat([first, (first / 2).exp() * z[:, 1:]], 1).to(dtype)


@dataclass(frozen=True)
class Banana(Normalised):
    """A Gaussian curved to a parabola: ``x_1 ~ N(0, std^2)``, ``x_2 | x_1 ~ N(m(x_1), 1)``; d = 2.

    The conditional mean is ``m(x_1) = -bend (x_1^2 - std^2)``. The map from a Gaussian preserves
    volume. Haario, Saksman and Tamminen 1999, their constants for a moderate curvature.

    Args:
        bend: curvature of the parabola.
        std: standard deviation of the first coordinate.

    Example:
        >>> banana = orn.targets.Banana()
        >>> banana.log_prob(banana.sample(5)).shape
        torch.Size([5])
    """

    bend: float = 0.03
    std: float = 10.0

    def __post_init__(self) -> None:
        require_finite(positive=True, std=self.std)
        require_finite(bend=self.bend)

    @property
    def dim(self) -> int:
        """The dimension of the space, which is 2."""
        return 2

    def _ridge(self, first: Tensor) -> Tensor:
        """The conditional mean of the second coordinate given the first, a parabola."""
        return -self.bend * (first.square() - self.std**2)

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The log-density at points ``(b, 2)``, in nats."""
        require_batch(x, 2, "Banana")
        first, second = x[:, 0] / self.std, x[:, 1] - self._ridge(x[:, 0])
        return -(first.square() + second.square()) / 2 - math.log(self.std) - LOG_2PI

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """Draw n exact samples ``(n, 2)``; sample i depends on the seed and on i only."""
        z = source(seed, _NORMALS).normal((n, 2), _DOUBLE)
        first = self.std * z[:, 0]
        return torch.stack([first, self._ridge(first) + z[:, 1]], 1).to(dtype)


@dataclass(frozen=True)
class StudentTMixture(Normalised):
    """A mixture of ten equal components, products of Student t laws with 2 degrees of freedom.

    ``rho = 1/10 sum_k prod_i p(x_i - m_ki)`` with ``p(u) = (2 + u^2)^(-3/2)`` and the locations ``m
    = 20 U - 10``, ``U = numpy default_rng(0).random((10, d))``. The variance is infinite. In the
    manner of Blessing et al. 2024.

    Args:
        d: dimension.

    Example:
        >>> mixture = orn.targets.StudentTMixture(3)
        >>> mixture.log_prob(mixture.sample(5)).shape
        torch.Size([5])
    """

    d: int = 2

    def __post_init__(self) -> None:
        require_integers(1, d=self.d)

    @cached_property
    def locations(self) -> Float[Tensor, "k d"]:
        """The centres of the components, ``(10, d)``, float64."""
        return torch.from_numpy(20 * np.random.default_rng(0).random((_COMPONENTS, self.d)) - 10)

    @property
    def dim(self) -> int:
        """The dimension d of the space."""
        return self.d

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The log-density at points ``(b, d)``, in nats."""
        require_batch(x, self.dim, "StudentTMixture")
        u = x[:, None] - self.locations.to(x)
        return (-1.5 * (2 + u.square()).log().sum(2)).logsumexp(1) - math.log(_COMPONENTS)

    def sample(
        self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n d"]:
        """Draw n exact samples ``(n, d)``; sample i depends on the seed and on i only.

        Each coordinate is ``z / sqrt(E)``, which is t_2 for a normal z and an exponential E.
        """
        k = (source(seed, _COMPONENT).uniform((n,), _DOUBLE) * _COMPONENTS).long()
        z = source(seed, _NUMERATORS).normal((n, self.d), _DOUBLE)
        exponential = -torch.log1p(-source(seed, _DENOMINATORS).uniform((n, self.d), _DOUBLE))
        scale = exponential.clamp_min(_SMALLEST_EXPONENTIAL).sqrt()
        return (self.locations[k] + z / scale).to(dtype)
