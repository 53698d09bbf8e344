"""Log-densities written in JAX, compiled for batches: ``orn.from_jax``.

A function of one point becomes ``jit(vmap(value_and_grad(f)))``. JAX compiles for one shape, so
batches are filled up with copies of their last row to the next of the sizes

    1, 2, 3, 4, 6, 8, 12, 16, ..   (2^k and 3 * 2^k):                                            (1)

at most half as much work again, and at most two compilations for each doubling.
"""

__all__ = ["batch_size", "double_precision", "from_jax", "jax_density", "jax_map"]

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.density.density import Density
from ornstein.density.interop.numpy import bridge, require
from ornstein.errors import OrnsteinError


def from_jax(log_prob: Callable[[Any], Any], dim: int) -> Density:
    """Make a density from a JAX log-density of one point.

    It is computed in double precision, and differentiated by JAX.

    Args:
        log_prob: ``(d,) -> ()``, in nats, made of operations of JAX.
        dim: d.

    Raises:
        OrnsteinError: if JAX is missing, or the function does not map ``(dim,)`` to one number.

    Example:
        >>> density = orn.from_jax(lambda x: -(x @ x) / 2, dim=3)  # doctest: +SKIP
        >>> orn.sample_density(density).log_z  # doctest: +SKIP
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
    """Return the torch log-density ``(n, d) -> (n,)`` of a JAX function of one point."""
    jax = require("jax", "jax")
    value = jax_map(log_prob)
    value_and_gradient = jax_map(jax.value_and_grad(log_prob))

    def evaluate(x: np.ndarray, wanted: bool) -> tuple[np.ndarray, np.ndarray | None]:
        return value_and_gradient(x) if wanted else (value(x), None)

    return bridge(evaluate)


def jax_map(fn: Callable[[Any], Any]) -> Callable[[np.ndarray], Any]:
    """Compile a JAX function of one point for batches of points, ``(n, d)`` NumPy arrays.

    The leaves of the result are NumPy arrays with a first axis of length n.
    """
    jax = require("jax", "jax")
    compiled = jax.jit(jax.vmap(fn))

    def batch(x: np.ndarray) -> Any:
        n = len(x)
        filled = np.concatenate([x, np.repeat(x[-1:], batch_size(n) - n, 0)]).astype(np.float64)
        with double_precision():
            return jax.tree_util.tree_map(lambda leaf: np.asarray(leaf)[:n], compiled(filled))

    return batch


def double_precision() -> AbstractContextManager[Any]:
    """Return a context in which JAX computes in double precision, whatever its global setting.

    A change of the global setting instead would mix both precisions in JAX's caches.
    """
    jax = require("jax", "jax")
    context = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    entered: AbstractContextManager[Any] = context(True)
    return entered


def batch_size(n: int) -> int:
    """Return the smallest compiled batch size, ``2^k`` or ``3 * 2^k``, that is not below n."""
    power = 1 << max(n - 1, 0).bit_length()
    return power * 3 // 4 if power >= 4 and n <= power * 3 // 4 else power  # (1)
