"""Supports of parameters and the smooth maps from R^d onto them: ``orn.supports``.

A sampler works on all of R^d, but a standard deviation is positive and probabilities add up to 1. A
`Support` declares such a set, for `orn.Density.of`. Notation: z is unconstrained, ``x = f(z)`` lies
inside the support, and a density rho of x becomes in z

    log rho(f(z)) + log |det df/dz|,                                                             (1)

which has the same integral. The last term accounts for how f stretches space: without it a sampler
has another target. The maps are those of ``torch.distributions.biject_to`` and of
`ornstein.density.constraints.bijections`. Wherever rounding would put a point on the edge of its
support or at infinity (in float32 ``exp(-110) = 0`` and ``3 + exp(-20) = 3``) it is moved to the
last number inside, where a log-density is finite; at infinity the last term of (1) is -inf, since
it would grow with z while x stays. Only ordered vectors may come back with ties, where an increment
is below the rounding of the entry before.
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
    """The set of values of a parameter of a given shape, with a smooth map from R^dim onto it.

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
        """Return the shape of the unconstrained coordinates of one point."""
        try:
            return tuple(self.transform.inverse_shape(torch.Size(self.shape)))
        except ValueError as error:
            raise OrnsteinError(
                f"Support({self.constraint}, shape={self.shape}): {str(error).lower()}"
            ) from error

    @property
    def dim(self) -> int:
        """The number of unconstrained coordinates z of one point."""
        return math.prod(self._unconstrained_shape)

    def constrain(
        self, z: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "n *shape"], Float[Tensor, " n"]]:
        """Map unconstrained points to ``x = f(z)``, and return ``log |det df/dz|`` too.

        Args:
            z: ``(n, d)``, unconstrained points.

        Returns:
            x, ``(n, *shape)``, and the log-determinants, ``(n,)`` in nats.
        """
        free = z.reshape(len(z), *self._unconstrained_shape)
        x = self.transform(free)
        log_det = self.transform.log_abs_det_jacobian(free, x)
        log_det = log_det.flatten(1).sum(1) if log_det.ndim > 1 else log_det
        return self._inside(x), torch.where(
            x.isfinite().reshape(len(z), -1).all(1), log_det, -torch.inf
        )

    def unconstrain(self, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n d"]:
        """Return the unconstrained points ``z`` with ``f(z) = x``, the inverse of `constrain`.

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
        """Return for each point whether it satisfies the constraint, ``(n,)``."""
        return self.constraint.check(x).reshape(len(x), -1).all(1)

    def _inside(self, x: Tensor) -> Tensor:
        """Move values that are infinite or at an end of the interval inside by a rounding unit."""
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
    """Return the ends of an interval or half-line; None where there is none."""
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    return getattr(constraint, "lower_bound", None), getattr(constraint, "upper_bound", None)


def of(constraint: constraints.Constraint, *shape: int) -> Support:
    """Return the support of any constraint of `torch.distributions.constraints`.

    Args:
        constraint: a constraint that is not discrete.
        shape: shape of one value of the parameter.

    Example:
        >>> orn.supports.of(torch.distributions.constraints.nonnegative, 2).dim
        2
    """
    return Support(constraint, shape)


def real(*shape: int) -> Support:
    """Return the support of real parameters, with no constraint.

    Example:
        >>> orn.supports.real(2, 3).dim
        6
    """
    return Support(constraints.real, shape)


def positive(*shape: int) -> Support:
    """Return the support of positive parameters, ``x = exp(z)``.

    Example:
        >>> x, log_det = orn.supports.positive(2).constrain(torch.zeros(1, 2))
        >>> x
        tensor([[1., 1.]])
    """
    return Support(constraints.positive, shape)


def greater_than(low: float, *shape: int) -> Support:
    """Return the support of parameters above a number, ``x = low + exp(z)``.

    Example:
        >>> orn.supports.greater_than(2.0).contains(torch.tensor([1.0, 3.0]))
        tensor([False,  True])
    """
    return Support(constraints.greater_than(low), shape)


def less_than(high: float, *shape: int) -> Support:
    """Return the support of parameters below a number, ``x = high - exp(z)``.

    Example:
        >>> orn.supports.less_than(2.0).contains(torch.tensor([1.0, 3.0]))
        tensor([ True, False])
    """
    return Support(constraints.less_than(high), shape)


def interval(low: float, high: float, *shape: int) -> Support:
    """Return the support of parameters between two numbers, by a scaled sigmoid of z.

    Raises:
        OrnsteinError: if the lower end is not below the upper one.

    Example:
        >>> x, _ = orn.supports.interval(-1.0, 1.0).constrain(torch.zeros(1, 1))
        >>> x
        tensor([0.])
    """
    return Support(constraints.interval(low, high), shape)


def simplex(*shape: int) -> Support:
    """Return the support of positive vectors that add up to 1 on the last axis.

    Example:
        >>> orn.supports.simplex(3).dim
        2
    """
    return Support(constraints.simplex, shape)


def ordered(*shape: int) -> Support:
    """Return the support of vectors that increase strictly on the last axis.

    Example:
        >>> orn.supports.ordered(3).contains(torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
        tensor([ True, False])
    """
    return Support(ordered_vector, shape)


def correlation_cholesky(size: int) -> Support:
    """Return the support of Cholesky factors L of ``size x size`` correlation matrices ``L L^T``.

    L is lower triangular with a positive diagonal and rows of length 1.

    Example:
        >>> orn.supports.correlation_cholesky(3).dim
        3
    """
    return Support(constraints.corr_cholesky, (size, size))
