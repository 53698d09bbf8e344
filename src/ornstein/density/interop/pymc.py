"""Models written in PyMC as densities: ``orn.from_pymc``.

PyMC transforms its free variables to unconstrained *value variables* and adds the Jacobians,
``log rho(z) = model.logp()``. That graph is written for one point; this module vectorises it over a
batch and compiles it once, together with its gradient,

    z (n, d)  ->  log rho (n,),   d/dz sum_i log rho(z_i)  (n, d):                               (1)

about a hundred times faster for a thousand points than one call for each.
"""

__all__ = ["from_pymc"]

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.density.density import Density
from ornstein.density.interop.numpy import as_tensor, bridge, require
from ornstein.errors import OrnsteinError


def from_pymc(model: Any) -> Density:
    """Make a density of the posterior of a PyMC model.

    Draws come back under the names of the model's variables and deterministics, with its named
    axes. It is computed in double precision, in the mode that ``pytensor.config`` sets
    (``pytensor.config.change_flags(mode=...)`` around this call chooses otherwise); compiling takes
    seconds, and a minute where PyTensor's cache of C code is empty.

    Args:
        model: a `pymc.Model`.

    Raises:
        OrnsteinError: if PyMC is missing, a free variable is discrete, or there is none.

    Example:
        >>> density = orn.from_pymc(model)  # doctest: +SKIP
        >>> orn.sample_density(density).to_inference_data()  # doctest: +SKIP
    """
    pm = require("pymc", "pymc")
    if not isinstance(model, pm.Model):
        raise OrnsteinError(
            f"from_pymc needs a pymc.Model, got {type(model).__name__}: build it in `with"
            " pm.Model() as model:`"
        )
    if model.discrete_value_vars or not model.value_vars:
        names = ", ".join(variable.name for variable in model.discrete_value_vars)
        what = (
            f"has discrete variables {names}: sum over their values (pymc_extras.marginalize)"
            if names
            else "has no free variables"
        )
        raise OrnsteinError(f"the PyMC model {what}")
    pytensor = require("pytensor", "pymc")
    mode = require("pytensor.compile.mode", "pymc").Mode("py", "fast_compile")
    point = model.initial_point()
    names = pm.util.get_default_varnames(model.unobserved_value_vars, include_transformed=False)
    z, (log_prob,) = _of_batch(model, point, [model.logp()])
    compiled = pytensor.function([z], [log_prob, pytensor.grad(log_prob.sum(), z)])  # (1)
    z, outputs = _of_batch(model, point, names)
    constrained = pytensor.function([z], outputs, mode=mode, on_unused_input="ignore")
    start = np.concatenate(
        [np.ravel(point[variable.name]) for variable in model.value_vars]
    ).astype(np.float64)
    shapes = {
        variable.name: np.shape(value)[batched.ndim - variable.ndim :]
        for variable, batched, value in zip(
            names, outputs, constrained(start[None].astype(z.dtype)), strict=True
        )
    }

    def evaluate(x: np.ndarray, wanted: bool) -> tuple[np.ndarray, np.ndarray]:
        value, slope = compiled(x.astype(z.dtype))
        return value, slope

    def forward(x: Tensor) -> dict[str, Tensor]:
        values = constrained(x.detach().cpu().numpy().astype(z.dtype))
        return {
            name: as_tensor(np.broadcast_to(value, (len(x), *shape)), x)
            for (name, shape), value in zip(shapes.items(), values, strict=True)
        }

    axes = {
        name: tuple(model.named_vars_to_dims[name])
        for name in shapes
        if name in model.named_vars_to_dims
    }
    labels = {name: tuple(values) for name, values in model.coords.items() if values is not None}
    return Density(
        bridge(evaluate), len(start), shapes, forward, None, torch.as_tensor(start), axes, labels
    )


def _of_batch(model: Any, point: dict[str, Any], outputs: list[Any]) -> tuple[Any, list[Any]]:
    """Return a symbolic batch ``(n, d)`` of all value variables, and the outputs for it."""
    joined, flat = require("pymc.pytensorf", "pymc").join_nonshared_inputs(
        point, outputs, model.value_vars
    )
    z = require("pytensor.tensor", "pymc").matrix("z", dtype=flat.dtype)
    return z, list(require("pytensor.graph.replace", "pymc").vectorize_graph(joined, {flat: z}))
