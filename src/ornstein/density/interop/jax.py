"""Log-densities written in JAX: one compiled function of a batch, ``orn.from_jax``.

A function of a point becomes ``jit(vmap(value_and_grad(f)))``. What is compiled is for one shape,
so batches are filled up to the next of

    1, 2, 3, 4, 6, 8, 12, 16, ..   (2^k and 3 * 2^k),                                            (1)

by copies of their last row: at most half as much work again, and at most two compilations for each
doubling.
"""

__all__ = ["double_precision", "from_jax", "jax_density", "jax_map"]

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.density.density import Density
from ornstein.density.interop.numpy import bridge, require
from ornstein.errors import OrnsteinError


def from_jax(log_prob: Callable[[Any], Any], dim: int) -> Density:
    """A density from a JAX function of one point, ``(d,) -> ()``, in nats. It is computed in double
    precision.

    Raises:
        OrnsteinError: if JAX is missing, or the function does not map ``(dim,)`` to one number.
    """
    jax = require("jax", "jax")
    if dim < 1:
        raise OrnsteinError(f"from_jax(dim={dim}): at least 1")
    try:
        with double_precision():
            out = jax.eval_shape(log_prob, jax.ShapeDtypeStruct((dim,), np.float64))
    except Exception as error:
        raise OrnsteinError(
            f"from_jax: log_prob of one point ({dim},) fails: {' '.join(str(error).split())[:300]}"
        ) from error
    if getattr(out, "shape", None) != ():
        got = getattr(out, "shape", type(out).__name__)
        raise OrnsteinError(
            f"from_jax: log_prob of one point ({dim},) returned {got}, need a scalar: it is mapped"
            " over a batch here"
        )
    return Density(jax_density(log_prob), dim)


def jax_density(log_prob: Callable[[Any], Any]) -> LogDensity:
    """The torch log-density ``(n, d) -> (n,)`` of a JAX function of one point."""
    jax = require("jax", "jax")
    value, both = jax_map(log_prob), jax_map(jax.value_and_grad(log_prob))

    def evaluate(x: np.ndarray, wanted: bool) -> tuple[np.ndarray, np.ndarray | None]:
        return both(x) if wanted else (value(x), None)

    return bridge(evaluate)


def jax_map(fn: Callable[[Any], Any]) -> Callable[[np.ndarray], Any]:
    """A JAX function of a point, mapped over a batch of NumPy arrays and compiled; the result's
    leaves are NumPy arrays."""
    jax = require("jax", "jax")
    compiled = jax.jit(jax.vmap(fn))

    def batch(x: np.ndarray) -> Any:
        n = len(x)
        filled = np.concatenate([x, np.repeat(x[-1:], _padded(n) - n, 0)]).astype(np.float64)
        with double_precision():
            return jax.tree_util.tree_map(lambda leaf: np.asarray(leaf)[:n], compiled(filled))

    return batch


def double_precision() -> AbstractContextManager[Any]:
    """JAX in double precision, whatever its global setting. Single and double in turn would mix in
    JAX's caches of traced functions."""
    jax = require("jax", "jax")
    context = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    entered: AbstractContextManager[Any] = context(True)
    return entered


def _padded(n: int) -> int:
    """The least number of the sequence (1) that is not below n."""
    power = 1 << max(n - 1, 0).bit_length()
    return power * 3 // 4 if power >= 4 and n <= power * 3 // 4 else power  # (1)
