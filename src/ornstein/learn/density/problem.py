"""What `orn.sample_density` is handed: a log-density of unconstrained points that knows the way back to the user's parameters.

Notation: z in R^d is unconstrained, ``x = f(z)`` are the user's named parameters, each in its support (`ornstein.core.supports`). A
`Density` is

    log rho(z) = log p(f(z)) + log |det df/dz|,                                                               (1)

so Z is the same as of p over x, and samples of z become samples of x by f. `as_density` makes one of whatever it is handed.
"""

__all__ = ["Density", "as_density"]

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from ornstein.core.noise import Noise
from ornstein.core.supports import Support
from ornstein.errors import OrnsteinError
from ornstein.learn.density.ledger import LogDensity
from ornstein.learn.density.vectorise import trusting, vectorise

Named = dict[str, Tensor]
"""Parameters by name, ``(n, *shape)`` each."""


@dataclass(frozen=True, eq=False)
class Density:
    """An unnormalised log-density on R^d with names for what its coordinates stand for.

    Args:
        log_prob: ``(n, d) -> (n,)``, in nats, differentiable, with the Jacobian (1); -inf outside the support.
        dim: d.
        shapes: shape of every parameter by name; one parameter ``x`` of shape ``(d,)`` if nothing else is said.
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
            raise OrnsteinError(f"Density(start=...) has shape {tuple(self.start.shape)}, need ({self.dim},)")
        if not self.shapes:
            object.__setattr__(self, "shapes", {"x": (self.dim,)})

    def __call__(self, z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """``log rho(z)`` in nats: a `Density` goes wherever a log-density goes."""
        return self.log_prob(z)

    def constrain(self, z: Tensor) -> Named:
        """The user's parameters ``f(z)`` by name, each ``(n, *shape)``, of a batch ``(n, d)``."""
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise OrnsteinError(f"constrain needs a batch (n, {self.dim}), got {tuple(z.shape)}")
        return self.forward(z) if self.forward else {name: z.reshape(len(z), *shape) for name, shape in self.shapes.items()}

    def unconstrain(self, values: Mapping[str, Tensor]) -> Float[Tensor, "n d"]:
        """``z`` with ``f(z)`` equal to the named parameters, ``(n, *shape)`` each: reference draws, or a start.

        Raises:
            OrnsteinError: if a name is missing or too many, a shape is wrong, a value lies outside its support, or no inverse is known.
        """
        if set(values) != set(self.shapes):
            raise OrnsteinError(f"parameters {sorted(values)} were given, need {sorted(self.shapes)}")
        for name, shape in self.shapes.items():
            if values[name].shape[1:] != shape:
                raise OrnsteinError(f"{name} has shape {tuple(values[name].shape)}, need (n, {', '.join(map(str, shape))})")
        if self.backward:
            return self.backward(dict(values))
        if self.forward:
            raise OrnsteinError("the inverse of this density's map is not known: pass unconstrained points")
        return values["x"].reshape(-1, self.dim)

    @classmethod
    def of(cls, log_prob: Callable[..., Any], /, **supports: Support) -> "Density":
        """A density of named parameters, each with its support.

            orn.Density.of(log_prob, mu=orn.supports.real(), tau=orn.supports.positive(), theta=orn.supports.real(8))

        Args:
            log_prob: called with keywords, as in ``log_prob(mu=..., tau=..., theta=...)``. Either it takes one value of each, of the
                declared shapes, and returns a scalar tensor; or a batch, ``(n, *shape)`` each, and returns ``(n,)``. Which, is found by
                trial. It is a density of the parameters as named: the Jacobian is added here.
            supports: by name, from `ornstein.supports`.

        Raises:
            OrnsteinError: if no parameters are named, one is no `Support`, or ``log_prob`` returns neither shape.
        """
        for name, support in supports.items():
            if not isinstance(support, Support):
                raise OrnsteinError(f"Density.of({name}={support!r}): needs a support such as orn.supports.real() or .positive(3)")
        if not supports:
            raise OrnsteinError("Density.of names no parameters: pass theta=orn.supports.real(8), or a plain log_prob with dim=")
        box = _Box(supports)
        sizes = {box.dim, *(size for support in supports.values() for size in support.shape)}
        found = vectorise(lambda values: log_prob(**values), box.constrain(_trial_points(box.dim, sizes))[0], "log_prob")

        def density(z: Tensor) -> Tensor:
            values, log_det = box.constrain(z)
            return found.fn(values) + log_det  # (1)

        return cls(density, box.dim, box.shapes, lambda z: box.constrain(z)[0], box.unconstrain, trials=found.trials)


@dataclass(frozen=True, eq=False)
class _Box:
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
        mapped = {name: support.constrain(part) for (name, support), part in zip(self.supports.items(), parts, strict=True)}
        return {name: x for name, (x, _) in mapped.items()}, torch.stack([log_det for _, log_det in mapped.values()]).sum(0)

    def unconstrain(self, values: Named) -> Tensor:
        return torch.cat([support.unconstrain(values[name]) for name, support in self.supports.items()], 1)


def _trial_points(dim: int, sizes: set[int]) -> Tensor:
    """Standard normal points; their number is none of ``sizes``, lest shapes fit by accident."""
    n = next(n for n in range(3, len(sizes) + 4) if n not in sizes)
    return Noise(0).normal((n, dim))


def as_density(what: Any, dim: int | None = None) -> Density:
    """A `Density` from anything that is one.

    Args:
        what: a `Density`; a target with ``log_prob`` and ``dim``, as in `ornstein.targets`; a `torch.distributions.Distribution`, whose
            support is taken care of; a PyMC model; or a callable ``(n, d) -> (n,)`` or ``(d,) -> ()``, which is found out by trial.
        dim: d, for a callable that does not say.

    Raises:
        OrnsteinError: if it is none of these, a callable without ``dim``, or of another dimension than ``dim``.
    """
    density = _as_density(what, dim)
    if dim is not None and dim != density.dim:
        raise OrnsteinError(f"dim={dim}, but the density has {density.dim} unconstrained coordinates: leave dim away")
    return density


def _as_density(what: Any, dim: int | None) -> Density:
    if isinstance(what, Density):
        return what
    if isinstance(what, Distribution):
        return _of_distribution(what)
    if callable(getattr(what, "log_prob", None)) and isinstance(getattr(what, "dim", None), int):
        return _of_target(what)
    if type(what).__module__.partition(".")[0] == "pymc":
        from ornstein.learn.density.ways.pymc import from_pymc

        return from_pymc(what)
    if not callable(what):
        raise OrnsteinError(
            f"{type(what).__name__} is no density: pass a callable and dim=, a torch distribution, a target of orn.targets, or what "
            "orn.Density.of, orn.from_numpy, orn.from_jax, orn.from_pymc, orn.from_numpyro or orn.from_stan return"
        )
    if dim is None:
        raise OrnsteinError("a callable does not say how many coordinates it takes: pass dim=")
    if dim < 1:
        raise OrnsteinError(f"dim={dim}: at least 1")
    found = vectorise(what, _trial_points(dim, {dim}), getattr(what, "__name__", type(what).__name__))
    return Density(found.fn, dim, trials=found.trials)


def _of_distribution(law: Distribution) -> Density:
    """The log-density (1) of a distribution, on unconstrained coordinates of its support."""
    if law.batch_shape:
        axes = len(law.batch_shape)
        raise OrnsteinError(
            f"{law} is a batch {tuple(law.batch_shape)} of laws: make it one by torch.distributions.Independent(law, {axes})"
        )
    try:
        constraint = law.support
    except NotImplementedError:
        constraint = None
    if constraint is None:
        raise OrnsteinError(f"{type(law).__name__} does not say what its support is: use orn.Density.of")
    box = _Box({"x": Support(constraint, tuple(law.event_shape))})

    def density(z: Tensor) -> Tensor:
        values, log_det = box.constrain(z)
        with trusting():
            return law.log_prob(values["x"]) + log_det  # (1)

    return Density(density, box.dim, box.shapes, lambda z: box.constrain(z)[0], box.unconstrain)


def _of_target(target: Any) -> Density:
    """A target as it is; if it has ``names`` and ``parameters(z)``, as `EightSchools` has, draws come back under these names."""
    if not (hasattr(target, "names") and callable(getattr(target, "parameters", None))):
        return Density(target.log_prob, target.dim)
    columns: dict[str, list[int]] = {}
    for k, name in enumerate(target.names):
        columns.setdefault(re.sub(r"\[\d+\]$", "", name), []).append(k)
    single = {name: name in target.names for name in columns}

    def forward(z: Tensor) -> Named:
        x = target.parameters(z)
        return {name: x[:, ks[0]] if single[name] else x[:, ks] for name, ks in columns.items()}

    return Density(target.log_prob, target.dim, {name: () if single[name] else (len(ks),) for name, ks in columns.items()}, forward)
