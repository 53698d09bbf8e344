"""Turn what a user passes to `ornstein.sample_density` into a `Density`.

Accepted are a `Density`, a target of `ornstein.targets`, a `torch.distributions.Distribution`, a
PyMC model, and a plain function of unconstrained points. The other packages have constructors of
their own: `ornstein.from_numpy`, `from_jax`, `from_numpyro` and `from_stan`. For a distribution
whose support is ``f(R^d)``, the density of the unconstrained z is

    log rho(z) = log p(f(z)) + log |det df/dz|.                                                  (1)
"""

__all__ = ["as_density"]

import re
from typing import Any

from torch import Tensor
from torch.distributions import Distribution

from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.density.constraints.supports import Support
from ornstein.density.density import Density, Named, ParameterMap, trial_points
from ornstein.density.interop.pymc import from_pymc
from ornstein.density.vectorise import vectorise, without_validation
from ornstein.errors import OrnsteinError


@renamed_arguments(what="log_prob")
def as_density(log_prob: Any, dim: int | None = None) -> Density:
    """Make a `Density` of a log-density, a target, a distribution or a probabilistic model.

    Args:
        log_prob: a `Density`; a target with ``log_prob`` and ``dim``, as in `ornstein.targets`; a
            `torch.distributions.Distribution`, which is mapped from unconstrained coordinates to
            its support; a PyMC model; or a callable ``(n, d) -> (n,)`` or ``(d,) -> ()``: which of
            the two is decided by trial.
        dim: d, for a callable that has no attribute ``dim``.

    Raises:
        OrnsteinError: if it is none of these, a callable without ``dim``, or of another dimension
            than ``dim``.

    Example:
        >>> density = orn.as_density(torch.distributions.Gamma(2.0, 1.0))
        >>> density.dim, density(torch.zeros(3, 1)).shape
        (1, torch.Size([3]))
    """
    density = _as_density(log_prob, dim)
    if dim is not None and dim != density.dim:
        raise OrnsteinError(
            f"dim={dim}, but the density has {density.dim} unconstrained coordinates: leave dim"
            " away"
        )
    return density


def _as_density(what: Any, dim: int | None) -> Density:
    """Make a `Density` of an accepted input, without comparing its dimension with ``dim``."""
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
    batched = vectorise(
        what, trial_points(dim, {dim}), getattr(what, "__name__", type(what).__name__)
    )
    return Density(batched.fn, dim, trials=batched.trials)


def _of_distribution(law: Distribution) -> Density:
    """Make a `Density` (1) of a torch distribution, in unconstrained coordinates of its support."""
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
    parameters = ParameterMap({"x": Support(constraint, tuple(law.event_shape))})

    def density(z: Tensor) -> Tensor:
        values, log_det = parameters.constrain(z)
        with without_validation():
            return law.log_prob(values["x"]) + log_det  # (1)

    return Density(
        density,
        parameters.dim,
        parameters.shapes,
        lambda z: parameters.constrain(z)[0],
        parameters.unconstrain,
    )


def _of_target(target: Any) -> Density:
    """Make a `Density` of a reference target, such as the targets in `orn.targets`.

    Draws of a target with ``names`` and ``parameters(z)``, such as `EightSchools`, carry these
    names.
    """
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
