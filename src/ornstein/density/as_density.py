"""Turn what a user passes to `orn.sample_density` into a `Density`.

Accepted are a `Density`, a target of `orn.targets`, a `torch.distributions.Distribution`, a PyMC
model, and a plain function of unconstrained points. The other packages have constructors of their
own: `orn.from_numpy`, `orn.from_jax`, `orn.from_numpyro`, `orn.from_stan`. Of a distribution with
the support ``f(R^d)`` the density of the unconstrained z is

    log rho(z) = log p(f(z)) + log |det df/dz|.                                                  (1)
"""

__all__ = ["as_density"]

import re
from typing import Any

from torch import Tensor
from torch.distributions import Distribution

from ornstein.density.constraints.supports import Support
from ornstein.density.density import Density, Named, ParameterMap, trial_points
from ornstein.density.interop.pymc import from_pymc
from ornstein.density.vectorise import trusting, vectorise
from ornstein.errors import OrnsteinError


def as_density(what: Any, dim: int | None = None) -> Density:
    """A `Density` from anything that is one.

    Args:
        what: a `Density`; a target with ``log_prob`` and ``dim``, as in `ornstein.targets`; a
            `torch.distributions.Distribution`, whose support is taken care of; a PyMC model; or a
            callable ``(n, d) -> (n,)`` or ``(d,) -> ()``, which is found out by trial.
        dim: d, for a callable that does not say.

    Raises:
        OrnsteinError: if it is none of these, a callable without ``dim``, or of another dimension
            than ``dim``.
    """
    density = _as_density(what, dim)
    if dim is not None and dim != density.dim:
        raise OrnsteinError(
            f"dim={dim}, but the density has {density.dim} unconstrained coordinates: leave dim"
            " away"
        )
    return density


def _as_density(what: Any, dim: int | None) -> Density:
    if isinstance(what, Density):
        return what
    if isinstance(what, Distribution):
        return _of_distribution(what)
    if callable(getattr(what, "log_prob", None)) and isinstance(getattr(what, "dim", None), int):
        return _of_target(what)
    if type(what).__module__.partition(".")[0] == "pymc":
        return from_pymc(what)
    if not callable(what):
        raise OrnsteinError(
            f"{type(what).__name__} is no density: pass a callable and dim=, a torch distribution,"
            " a target of orn.targets, or what orn.Density.of, orn.from_numpy, orn.from_jax,"
            " orn.from_pymc, orn.from_numpyro or orn.from_stan return"
        )
    if dim is None:
        raise OrnsteinError("a callable does not say how many coordinates it takes: pass dim=")
    if dim < 1:
        raise OrnsteinError(f"dim={dim}: at least 1")
    found = vectorise(
        what, trial_points(dim, {dim}), getattr(what, "__name__", type(what).__name__)
    )
    return Density(found.fn, dim, trials=found.trials)


def _of_distribution(law: Distribution) -> Density:
    """The log-density (1) of a distribution, on unconstrained coordinates of its support."""
    if law.batch_shape:
        axes = len(law.batch_shape)
        raise OrnsteinError(
            f"{law} is a batch {tuple(law.batch_shape)} of laws: make it one by"
            f" torch.distributions.Independent(law, {axes})"
        )
    try:
        constraint = law.support
    except NotImplementedError:
        constraint = None
    if constraint is None:
        raise OrnsteinError(
            f"{type(law).__name__} does not say what its support is: use orn.Density.of"
        )
    box = ParameterMap({"x": Support(constraint, tuple(law.event_shape))})

    def density(z: Tensor) -> Tensor:
        values, log_det = box.constrain(z)
        with trusting():
            return law.log_prob(values["x"]) + log_det  # (1)

    return Density(density, box.dim, box.shapes, lambda z: box.constrain(z)[0], box.unconstrain)


def _of_target(target: Any) -> Density:
    """A target as it is; if it has ``names`` and ``parameters(z)``, as `EightSchools` has, draws
    come back under these names."""
    if not (hasattr(target, "names") and callable(getattr(target, "parameters", None))):
        return Density(target.log_prob, target.dim)
    columns: dict[str, list[int]] = {}
    for k, name in enumerate(target.names):
        columns.setdefault(re.sub(r"\[\d+\]$", "", name), []).append(k)
    single = {name: name in target.names for name in columns}

    def forward(z: Tensor) -> Named:
        x = target.parameters(z)
        return {name: x[:, ks[0]] if single[name] else x[:, ks] for name, ks in columns.items()}

    return Density(
        target.log_prob,
        target.dim,
        {name: () if single[name] else (len(ks),) for name, ks in columns.items()},
        forward,
    )
