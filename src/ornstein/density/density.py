"""What `orn.sample_density` is handed: a log-density of unconstrained points that knows the way
back to the user's parameters.

Notation: z in R^d is unconstrained, ``x = f(z)`` are the user's named parameters, each in its
support (`ornstein.density.constraints.supports`). A `Density` is

    log rho(z) = log p(f(z)) + log |det df/dz|,                                                  (1)

so Z is the same as of p over x, and samples of z become samples of x by f.
`ornstein.density.as_density` makes one of what a user passes to `orn.sample_density`.
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
        log_prob: ``(n, d) -> (n,)``, in nats, differentiable, with the Jacobian (1); -inf outside
            the support.
        dim: d.
        shapes: shape of every parameter by name; one parameter ``x`` of shape ``(d,)`` if nothing
            else is said.
        forward: ``(n, d) -> {name: (n, *shape)}``, the map f.
        backward: its inverse, where there is one.
        start: ``(d,)``, where the model itself would begin; None where it does not say.
        axes: names of the axes of parameters, for those that have names, as in ArviZ.
        labels: names of the positions along named axes.
        trials: points at which the user's function was already evaluated, to find out its shapes.
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
        """``log rho(z)`` in nats: a `Density` goes wherever a log-density goes."""
        return self.log_prob(z)

    def constrain(self, z: Tensor) -> Named:
        """The user's parameters ``f(z)`` by name, each ``(n, *shape)``, of a batch ``(n, d)``."""
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise OrnsteinError(f"constrain needs a batch (n, {self.dim}), got {tuple(z.shape)}")
        return (
            self.forward(z)
            if self.forward
            else {name: z.reshape(len(z), *shape) for name, shape in self.shapes.items()}
        )

    def unconstrain(self, values: Mapping[str, Tensor]) -> Float[Tensor, "n d"]:
        """``z`` with ``f(z)`` equal to the named parameters, ``(n, *shape)`` each: reference draws,
        or a start.

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
        """A density of named parameters, each with its support.

            orn.Density.of(log_prob, mu=orn.supports.real(), tau=orn.supports.positive(),
            theta=orn.supports.real(8))

        Args:
            log_prob: called with keywords, as in ``log_prob(mu=..., tau=..., theta=...)``. Either
                it takes one value of each, of the declared shapes, and returns a scalar tensor; or
                a batch, ``(n, *shape)`` each, and returns ``(n,)``. Which, is found by trial. It is
                a density of the parameters as named: the Jacobian is added here.
            supports: by name, from `ornstein.supports`.

        Raises:
            OrnsteinError: if no parameters are named, one is no `Support`, or ``log_prob`` returns
                neither shape.
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
        box = ParameterMap(supports)
        sizes = {box.dim, *(size for support in supports.values() for size in support.shape)}
        found = vectorise(
            lambda values: log_prob(**values),
            box.constrain(trial_points(box.dim, sizes))[0],
            "log_prob",
        )

        def density(z: Tensor) -> Tensor:
            values, log_det = box.constrain(z)
            return found.fn(values) + log_det  # (1)

        return cls(
            density,
            box.dim,
            box.shapes,
            lambda z: box.constrain(z)[0],
            box.unconstrain,
            trials=found.trials,
        )


@dataclass(frozen=True, eq=False)
class ParameterMap:
    """Supports side by side: the map f of all parameters."""

    supports: Mapping[str, Support]

    @property
    def dim(self) -> int:
        return sum(support.dim for support in self.supports.values())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: support.shape for name, support in self.supports.items()}

    def constrain(self, z: Tensor) -> tuple[Named, Tensor]:
        parts = z.split([support.dim for support in self.supports.values()], 1)
        mapped = {
            name: support.constrain(part)
            for (name, support), part in zip(self.supports.items(), parts, strict=True)
        }
        return {name: x for name, (x, _) in mapped.items()}, torch.stack(
            [log_det for _, log_det in mapped.values()]
        ).sum(0)

    def unconstrain(self, values: Named) -> Tensor:
        return torch.cat(
            [support.unconstrain(values[name]) for name, support in self.supports.items()], 1
        )


def trial_points(dim: int, sizes: set[int]) -> Tensor:
    """Standard normal points; their number is none of ``sizes``, lest shapes fit by accident."""
    n = next(n for n in range(3, len(sizes) + 4) if n not in sizes)
    return Noise(0).normal((n, dim))
