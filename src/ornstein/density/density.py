"""Represent a posterior as a log-density on R^d, with the map back to the user's parameters.

Samplers need unconstrained coordinates, while parameters of a model are positive, on a simplex, and
have names. Notation: z in R^d is unconstrained, ``x = f(z)`` are the named parameters, each in its
support (`ornstein.density.constraints.supports`). A `Density` is

    log rho(z) = log p(f(z)) + log |det df/dz|,                                                  (1)

so Z is the same as of p over x, and samples of z become samples of x by f.
`ornstein.density.as_density` makes one of what a user passes to `ornstein.sample_density`.
"""

__all__ = ["Density", "ParameterMap", "trial_points"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.random.noise import Noise
from ornstein.density.constraints.supports import Support
from ornstein.density.vectorise import vectorise
from ornstein.errors import OrnsteinError

Named = dict[str, Tensor]
"""Parameters by name, ``(n, *shape)`` each."""


@dataclass(frozen=True, eq=False)
class Density:
    """An unnormalised log-density on R^d with names for what its coordinates stand for.

    Args:
        log_prob: ``(n, d) -> (n,)``, in nats, differentiable, with the log-determinant
            ``log |det df/dz|``; -inf outside the support.
        dim: d.
        shapes: shape of every parameter by name; by default one parameter ``x`` of shape ``(d,)``.
        forward: ``(n, d) -> {name: (n, *shape)}``, the map f.
        backward: its inverse, where there is one.
        start: ``(d,)``, a point at which a sampler may begin; None if none is known.
        axes: names of the axes of parameters, for those that have names, as in ArviZ.
        labels: names of the positions on named axes.
        trials: points at which the user's function was already evaluated, to learn its shapes.

    Raises:
        OrnsteinError: for a dimension below 1, or a start of another shape.

    Example:
        >>> density = orn.Density(lambda z: -z.square().sum(1) / 2, dim=3)
        >>> density(torch.zeros(2, 3))
        tensor([-0., -0.])
    """

    log_prob: LogDensity
    dim: int
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    forward: Callable[[Tensor], Named] | None = None
    backward: Callable[[Named], Tensor] | None = None
    start: Float[Tensor, " d"] | None = None
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    trials: int = 0

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise OrnsteinError(f"Density(dim={self.dim}): at least 1")
        if self.start is not None and self.start.shape != (self.dim,):
            raise OrnsteinError(
                f"Density(start=...) has shape {tuple(self.start.shape)}, need ({self.dim},)"
            )
        if not self.shapes:
            object.__setattr__(self, "shapes", {"x": (self.dim,)})

    def __call__(self, z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The log-density ``log rho(z)`` in nats, so that a `Density` is a function, too.

        Args:
            z: a batch ``(n, d)`` of unconstrained points.
        """
        return self.log_prob(z)

    def constrain(self, z: Tensor) -> Named:
        """Map unconstrained points to the user's parameters ``f(z)`` by name.

        Args:
            z: a batch ``(n, d)``.

        Returns:
            A tensor ``(n, *shape)`` for each name.

        Raises:
            OrnsteinError: if z is not a batch of d columns.
        """
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise OrnsteinError(f"constrain needs a batch (n, {self.dim}), got {tuple(z.shape)}")
        return (
            self.forward(z)
            if self.forward
            else {name: z.reshape(len(z), *shape) for name, shape in self.shapes.items()}
        )

    def unconstrain(self, values: Mapping[str, Tensor]) -> Float[Tensor, "n d"]:
        """Map named parameters to unconstrained points z, the inverse of `constrain`.

        Args:
            values: a tensor ``(n, *shape)`` for each name.

        Raises:
            OrnsteinError: if a name is missing or too many, a shape is wrong, a value lies outside
                its support, or no inverse is known.
        """
        if set(values) != set(self.shapes):
            raise OrnsteinError(
                f"parameters {sorted(values)} were given, need {sorted(self.shapes)}"
            )
        for name, shape in self.shapes.items():
            if values[name].shape[1:] != shape:
                raise OrnsteinError(
                    f"{name} has shape {tuple(values[name].shape)}, need (n,"
                    f" {', '.join(map(str, shape))})"
                )
        if self.backward:
            return self.backward(dict(values))
        if self.forward:
            raise OrnsteinError(
                "the inverse of this density's map is not known: pass unconstrained points"
            )
        return values["x"].reshape(-1, self.dim)

    @classmethod
    def of(cls, log_prob: Callable[..., Any], /, **supports: Support) -> "Density":
        """Make a density of named parameters, each with its own support.

        Args:
            log_prob: called with keywords, as in ``log_prob(mu=..., tau=..., theta=...)``. Either
                it takes one value of each, of the declared shapes, and returns a scalar tensor; or
                a batch, ``(n, *shape)`` each, and returns ``(n,)``; which of the two is decided by
                trial. It is a density of the parameters as named: the log-determinant of the map is
                added by the library.
            supports: by name, from `ornstein.supports`.

        Raises:
            OrnsteinError: if no parameters are named, one is no `Support`, or ``log_prob`` returns
                neither shape.

        Example:
            >>> density = orn.Density.of(
            ...     lambda mu, tau: -mu**2 / 2 - tau,
            ...     mu=orn.supports.real(),
            ...     tau=orn.supports.positive(),
            ... )
            >>> density.dim
            2
        """
        for name, support in supports.items():
            if not isinstance(support, Support):
                raise OrnsteinError(
                    f"Density.of({name}={support!r}): needs a support such as orn.supports.real()"
                    " or .positive(3)"
                )
        if not supports:
            raise OrnsteinError(
                "Density.of names no parameters: pass theta=orn.supports.real(8), or a plain"
                " log_prob with dim="
            )
        parameters = ParameterMap(supports)
        sizes = {parameters.dim, *(size for support in supports.values() for size in support.shape)}
        batched = vectorise(
            lambda values: log_prob(**values),
            parameters.constrain(trial_points(parameters.dim, sizes))[0],
            "log_prob",
        )

        def density(z: Tensor) -> Tensor:
            values, log_det = parameters.constrain(z)
            return batched.fn(values) + log_det  # (1)

        return cls(
            density,
            parameters.dim,
            parameters.shapes,
            lambda z: parameters.constrain(z)[0],
            parameters.unconstrain,
            trials=batched.trials,
        )


@dataclass(frozen=True, eq=False)
class ParameterMap:
    """The map f from unconstrained points to all parameters, one support after another.

    Args:
        supports: support of every parameter by name.
    """

    supports: Mapping[str, Support]

    @property
    def dim(self) -> int:
        """The number of unconstrained coordinates of all parameters."""
        return sum(support.dim for support in self.supports.values())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter by its name."""
        return {name: support.shape for name, support in self.supports.items()}

    def constrain(self, z: Tensor) -> tuple[Named, Tensor]:
        """Map points ``(n, d)`` to parameters, with the log-determinant of the map, ``(n,)``."""
        parts = z.split([support.dim for support in self.supports.values()], 1)
        mapped = {
            name: support.constrain(part)
            for (name, support), part in zip(self.supports.items(), parts, strict=True)
        }
        log_dets = torch.stack([log_det for _, log_det in mapped.values()])
        return {name: x for name, (x, _) in mapped.items()}, log_dets.sum(0)

    def unconstrain(self, values: Named) -> Tensor:
        """Map parameters by name to unconstrained points ``(n, d)``."""
        return torch.cat(
            [support.unconstrain(values[name]) for name, support in self.supports.items()], 1
        )


def trial_points(dim: int, sizes: set[int]) -> Tensor:
    """Draw standard normal points ``(n, dim)`` to try a user's function on.

    Args:
        dim: of the points.
        sizes: numbers that n must differ from, so that shapes do not fit by accident.
    """
    n = next(n for n in range(3, len(sizes) + 4) if n not in sizes)
    return Noise(0).normal((n, dim))
