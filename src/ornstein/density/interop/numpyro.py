"""Models written in NumPyro as densities: ``orn.from_numpyro``.

NumPyro's potential energy is ``U(z) = -log p(f(z), data) - log |det df/dz|``, with f the bijections
onto the supports of its sample sites, so

    log rho(z) = -U(z),                                                                          (1)

normalising constants included.
"""

__all__ = ["from_numpyro"]

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.density.density import Density
from ornstein.density.interop.jax import double_precision, jax_density, jax_map
from ornstein.density.interop.numpy import as_tensor, require
from ornstein.errors import OrnsteinError


def from_numpyro(model: Callable[..., Any], *args: Any, **kwargs: Any) -> Density:
    """Make a density of the posterior of a NumPyro model, given the model's arguments.

    Draws come back under the names of the sample and deterministic sites, in the model's own
    parameters. It is computed in double precision.

    Args:
        model: a function with `numpyro.sample` sites.
        args: positional arguments of the model, data included.
        kwargs: its keyword arguments.

    Raises:
        OrnsteinError: if NumPyro is missing, or a latent site is discrete, or there is none.

    Example:
        >>> density = orn.from_numpyro(model, y, sigma=1.0)  # doctest: +SKIP
        >>> orn.sample_density(density).parameters["mu"]  # doctest: +SKIP
    """
    util, handlers = (
        require("numpyro.infer.util", "numpyro"),
        require("numpyro.handlers", "numpyro"),
    )
    seeded = handlers.seed(model, 0)
    with double_precision():
        sites = handlers.trace(seeded).get_trace(*args, **kwargs)
    latent = {
        name: site
        for name, site in sites.items()
        if site["type"] == "sample" and not site["is_observed"]
    }
    discrete = [name for name, site in latent.items() if site["fn"].support.is_discrete]
    if discrete:
        raise OrnsteinError(
            f"the NumPyro model has discrete latent sites {', '.join(discrete)}: sum over their"
            " values (marginalise)"
        )
    if not latent:
        raise OrnsteinError(
            "the NumPyro model has no latent sample sites: there is nothing to sample"
        )
    with double_precision():
        free = util.unconstrain_fn(
            seeded, args, kwargs, {name: site["value"] for name, site in latent.items()}
        )
    inner = {name: np.shape(value) for name, value in free.items()}
    sizes = [math.prod(shape) for shape in inner.values()]

    def unravel(z: Any) -> dict[str, Any]:
        ends = np.cumsum(sizes)
        return {
            name: z[end - size : end].reshape(inner[name])
            for name, end, size in zip(inner, ends, sizes, strict=True)
        }

    def log_prob(z: Any) -> Any:
        return -util.potential_energy(seeded, args, kwargs, unravel(z))  # (1)

    def parameters(z: Any) -> dict[str, Any]:
        constrained: dict[str, Any] = util.constrain_fn(
            seeded, args, kwargs, unravel(z), return_deterministic=True
        )
        return constrained

    mapped = jax_map(parameters)
    order = [name for name in sites if name in latent or sites[name]["type"] == "deterministic"]

    def forward(z: Tensor) -> dict[str, Tensor]:
        values = mapped(z.detach().cpu().numpy())
        return {name: as_tensor(values[name], z) for name in order}

    start = torch.as_tensor(np.concatenate([np.ravel(value) for value in free.values()]))
    shapes = {name: tuple(value.shape[1:]) for name, value in forward(start[None]).items()}
    return Density(jax_density(log_prob), sum(sizes), shapes, forward, None, start)
