"""Log-densities that are computed outside torch, with their gradients: the bridge for all of them,
and ``orn.from_numpy``.

Torch sees one node of its graph. Its value comes from outside, and its gradient is what came with
the value:

    d/dx_i sum_j g_j log rho(x_j) = g_i grad log rho(x_i).                                       (1)

Where a value or a derivative is not finite, 0 stands for the derivative: a NaN would spread, even
times a weight of 0.
"""

__all__ = ["Evaluate", "as_tensor", "bridge", "from_numpy", "require"]

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.random.noise import Noise
from ornstein.density.density import Density
from ornstein.errors import OrnsteinError

Evaluate = Callable[[np.ndarray, bool], tuple[np.ndarray, np.ndarray | None]]
"""Points ``(n, d)`` and whether a gradient is wanted, to values ``(n,)`` and gradients ``(n, d)``
(None if not wanted)."""


def bridge(evaluate: Evaluate) -> LogDensity:
    """The log-density ``(n, d) -> (n,)`` that an outside function computes, in the dtype of its
    points; differentiable once."""

    def log_prob(z: Tensor) -> Tensor:
        wanted = torch.is_grad_enabled() and z.requires_grad
        value: Tensor = _Foreign.apply(z, evaluate, wanted)
        return value

    return log_prob


class _Foreign(torch.autograd.Function):
    """The node (1)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, evaluate: Evaluate, wanted: bool) -> Tensor:
        value, gradient = evaluate(z.detach().cpu().numpy(), wanted)
        if gradient is not None:
            slope = np.where(np.isfinite(value)[:, None] & np.isfinite(gradient), gradient, 0.0)
            ctx.save_for_backward(torch.as_tensor(slope).to(z))
        return as_tensor(value, z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return g[:, None] * slope, None, None  # (1)


def as_tensor(array: np.ndarray, like: Tensor) -> Tensor:
    """A copy of an array as a tensor; floating numbers in the dtype of ``like``."""
    tensor = torch.as_tensor(np.array(array))
    return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)


def require(module: str, extra: str) -> Any:
    """An optional package, or the error that says how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise OrnsteinError(
            f"{module} is not installed ({error}): pip install 'ornstein[{extra}]'"
        ) from error


def from_numpy(value_and_gradient: Callable[[np.ndarray], tuple[Any, Any]], dim: int) -> Density:
    """A density from a function of NumPy arrays that returns its value and its gradient.

    Args:
        value_and_gradient: of a batch, ``(n, d) -> ((n,), (n, d))``, or of a point, ``(d,) -> ((),
            (d,))``, in float64 and nats. Found out on a few points, at one of which the gradient is
            also held against finite differences. A function of a point is called in a loop.
        dim: d.

    Raises:
        OrnsteinError: if the shapes are others, or the gradient is not that of the value.
    """
    if dim < 1:
        raise OrnsteinError(f"from_numpy(dim={dim}): at least 1")
    x = Noise(0).normal((4 if dim == 3 else 3, dim), torch.float64).numpy()

    def looped(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pairs = [value_and_gradient(point) for point in points]
        return np.array([value for value, _ in pairs], float), np.array(
            [slope for _, slope in pairs], float
        )

    chosen, trials = value_and_gradient, len(x) + 1
    of_batch = _misfit(value_and_gradient, x)
    if of_batch:
        chosen, trials = looped, 2 * trials
    of_point = of_batch and _misfit(looped, x)
    if of_point:
        raise OrnsteinError(
            "from_numpy needs (n, d) -> ((n,), (n, d)) or (d,) -> ((), (d,)) for value and"
            f" gradient. With d = {dim}, n = {len(x)}: as a function of a batch {of_batch}; as one"
            f" of a point {of_point}"
        )
    _check_gradient(chosen, x[:1])

    def evaluate(points: np.ndarray, wanted: bool) -> tuple[np.ndarray, np.ndarray]:
        value, slope = chosen(points.astype(np.float64))
        return np.asarray(value, float), np.asarray(slope, float)

    return Density(bridge(evaluate), dim, trials=trials + 4)


def _misfit(fn: Callable[[np.ndarray], tuple[Any, Any]], x: np.ndarray) -> str | None:
    """What is wrong with ``fn`` as a function of a batch, in words; None if nothing is."""
    try:
        value, slope = (np.asarray(part, float) for part in fn(x))
        alone = np.asarray(fn(x[:1])[0], float)
    except Exception as error:  # whatever the user's function raises is told in the message
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if value.shape != x.shape[:1] or slope.shape != x.shape:
        return f"it returned shapes {value.shape} and {slope.shape}"
    if alone.shape != (1,) or not np.allclose(
        alone, value[:1], rtol=1e-6, atol=1e-6, equal_nan=True
    ):
        return "the value of a row depends on the other rows"
    return None


def _check_gradient(fn: Callable[[np.ndarray], tuple[Any, Any]], x: np.ndarray) -> None:
    """Central differences along one direction must agree with the gradient to a hundredth."""
    direction = np.cos(1.0 + np.arange(x.shape[1]))[None] / np.sqrt(x.shape[1])
    h = 1e-4
    up, value, down = (float(np.asarray(fn(x + k * h * direction)[0])[0]) for k in (1, 0, -1))
    slope = np.asarray(fn(x)[1], float)[0]
    if not np.isfinite([up, value, down, *slope]).all():
        return
    said, seen = float(slope @ direction[0]), (up - down) / (2 * h)
    if (
        abs(said - seen)
        > 0.01 * max(abs(seen), float(np.linalg.norm(slope))) + 1e-6 + 1e-14 * abs(value) / h
    ):
        raise OrnsteinError(
            "from_numpy: the gradient is not that of the value: along one direction near x ="
            f" {x[0][:4].round(3).tolist()} it says {said:.6g}, and central differences of the"
            f" value say {seen:.6g}"
        )
