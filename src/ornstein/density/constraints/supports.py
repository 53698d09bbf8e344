"""Where parameters live, and the maps from all of R^d onto there: ``orn.supports``.

Notation: z is unconstrained, ``x = f(z)`` lies inside the support, and a density rho of x becomes
in z

    log rho(f(z)) + log |det df/dz|,                                                             (1)

which has the same integral. The last term makes up for how f stretches space: without it a sampler
finds another law. The maps are those of ``torch.distributions.biject_to`` and of
`ornstein.density.constraints.bijections`. Wherever rounding would put a point on the edge of its
support or at infinity (in float32 ``exp(-110) = 0`` and ``3 + exp(-20) = 3``) it is moved to the
last number inside, where a log-density is finite; at infinity the last term of (1) is -inf, since
it would grow with z at an x that stays. Only ordered vectors may come back with ties, where an
increment drowns in the entry before.
"""

__all__ = [
    "Support",
    "correlation_cholesky",
    "greater_than",
    "interval",
    "less_than",
    "of",
    "ordered",
    "positive",
    "real",
    "simplex",
]

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from ornstein.density.constraints.bijections import bijection, ordered_vector
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class Support:
    """A set that a parameter of a given shape lives in, with the map (1) from R^dim onto its
    inside.

    Args:
        constraint: of `torch.distributions.constraints`, or `ordered_vector`.
        shape: of one point. A constraint on vectors or matrices holds for the last axes, one by one
            for those before.

    Raises:
        OrnsteinError: if the shape does not fit the constraint, or no smooth map onto it is known.
    """

    constraint: constraints.Constraint
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        needed = self.constraint.event_dim
        if len(self.shape) < needed or any(size < 1 for size in self.shape):
            raise OrnsteinError(
                f"Support({self.constraint}, shape={self.shape}): needs {needed} or more axes, none"
                " of them empty"
            )
        if self.dim < 1:
            raise OrnsteinError(
                f"Support({self.constraint}, shape={self.shape}): leaves nothing free; the last"
                " axis needs 2 or more"
            )
        low, high = _bounds(self.constraint)
        if (
            low is not None
            and high is not None
            and bool((torch.as_tensor(low) >= torch.as_tensor(high)).any())
        ):
            raise OrnsteinError(f"interval({low}, {high}): the lower end must lie below the upper")

    @cached_property
    def transform(self) -> Transform:
        """The map f from unconstrained to constrained, on the last axes."""
        return bijection(self.constraint)

    @cached_property
    def _unconstrained_shape(self) -> tuple[int, ...]:
        try:
            return tuple(self.transform.inverse_shape(torch.Size(self.shape)))
        except ValueError as error:
            raise OrnsteinError(
                f"Support({self.constraint}, shape={self.shape}): {str(error).lower()}"
            ) from error

    @property
    def dim(self) -> int:
        """Numbers that are free: the length of z."""
        return math.prod(self._unconstrained_shape)

    def constrain(
        self, z: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "n *shape"], Float[Tensor, " n"]]:
        """``x = f(z)`` and ``log |det df/dz|`` (1)."""
        free = z.reshape(len(z), *self._unconstrained_shape)
        x = self.transform(free)
        log_det = self.transform.log_abs_det_jacobian(free, x)
        log_det = log_det.flatten(1).sum(1) if log_det.ndim > 1 else log_det
        return self._inside(x), torch.where(
            x.isfinite().reshape(len(z), -1).all(1), log_det, -torch.inf
        )

    def unconstrain(self, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n d"]:
        """``z`` with ``f(z) = x``.

        Raises:
            OrnsteinError: if the shape is another, or a point lies outside or on the edge, where z
                would be infinite.
        """
        if x.shape[1:] != self.shape:
            raise OrnsteinError(
                f"points of shape {tuple(x.shape[1:])} handed to a support of shape {self.shape}"
            )
        z = self.transform.inv(x).reshape(len(x), -1)
        bad = x[~(self.contains(x) & torch.isfinite(z).all(1))]
        if len(bad):
            raise OrnsteinError(
                f"{len(bad)} of {len(x)} points are not inside {self.constraint}: the first is"
                f" {bad[0].tolist()}"
            )
        return z

    def contains(self, x: Float[Tensor, "n *shape"]) -> Bool[Tensor, " n"]:
        """Whether each point satisfies the constraint."""
        return self.constraint.check(x).reshape(len(x), -1).all(1)

    def _inside(self, x: Tensor) -> Tensor:
        """``x`` moved off the edges and infinity, by one rounding unit."""
        tiny, huge = torch.finfo(x.dtype).tiny, torch.finfo(x.dtype).max
        low, high = _bounds(self.constraint)
        infinity = torch.full((), torch.inf).to(x)
        if low is not None:
            edge = torch.as_tensor(low).to(x)
            x = torch.maximum(x, torch.maximum(torch.nextafter(edge, infinity), edge + tiny))
        if high is not None:
            edge = torch.as_tensor(high).to(x)
            x = torch.minimum(x, torch.minimum(torch.nextafter(edge, -infinity), edge - tiny))
        return x.clamp(-huge, huge) if low is not None or high is not None else x


def _bounds(
    constraint: constraints.Constraint,
) -> tuple[float | Tensor | None, float | Tensor | None]:
    """The ends of an interval or half-line; None where there is none."""
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    return getattr(constraint, "lower_bound", None), getattr(constraint, "upper_bound", None)


def of(constraint: constraints.Constraint, *shape: int) -> Support:
    """The support of any constraint of `torch.distributions.constraints`."""
    return Support(constraint, shape)


def real(*shape: int) -> Support:
    """All numbers: ``real()`` for a scalar, ``real(8)`` for a vector of 8."""
    return Support(constraints.real, shape)


def positive(*shape: int) -> Support:
    """``x > 0``, by ``x = exp(z)``."""
    return Support(constraints.positive, shape)


def greater_than(low: float, *shape: int) -> Support:
    """``x > low``, by ``x = low + exp(z)``."""
    return Support(constraints.greater_than(low), shape)


def less_than(high: float, *shape: int) -> Support:
    """``x < high``, by ``x = high - exp(z)``."""
    return Support(constraints.less_than(high), shape)


def interval(low: float, high: float, *shape: int) -> Support:
    """``low < x < high``, by a scaled sigmoid."""
    return Support(constraints.interval(low, high), shape)


def simplex(*shape: int) -> Support:
    """Positive vectors that sum to 1 along the last axis: ``simplex(3)`` has two free numbers."""
    return Support(constraints.simplex, shape)


def ordered(*shape: int) -> Support:
    """Vectors that increase along the last axis."""
    return Support(ordered_vector, shape)


def correlation_cholesky(size: int) -> Support:
    """Cholesky factors L of ``size x size`` correlation matrices ``L L^T``: lower triangular,
    positive diagonal, rows of length 1."""
    return Support(constraints.corr_cholesky, (size, size))
