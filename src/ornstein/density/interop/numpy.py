"""Log-densities that are computed outside torch, with their gradients: ``orn.from_numpy``.

`bridge` carries every outside density (NumPy, JAX, PyMC, Stan) into torch. Torch sees one node of
its graph; the value comes from outside, and the gradient is the one that came with the value:

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

_DIFFERENCE = 1e-4  # step of central differences, in the units of x
_CHECK_SCALES = (0.1, 1.0, 3.0)  # factors on the trial points at which a gradient is checked


def bridge(evaluate: Evaluate) -> LogDensity:
    """Return the torch log-density ``(n, d) -> (n,)`` that an outside function computes.

    It is differentiable once. Values come back in the dtype of the points.

    Args:
        evaluate: returns values and, if wanted, gradients at points.
    """

    def log_prob(z: Tensor) -> Tensor:
        wanted = torch.is_grad_enabled() and z.requires_grad
        value: Tensor = _OutsideFunction.apply(z, evaluate, wanted)
        return value

    return log_prob


class _OutsideFunction(torch.autograd.Function):
    """The torch function of values computed elsewhere, whose backward pass is equation (1)."""

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
    """Copy an array to a tensor; floating numbers get the dtype of ``like``."""
    tensor = torch.as_tensor(np.array(array))
    return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)


def require(module: str, extra: str) -> Any:
    """Import an optional package, or raise an error that says how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise OrnsteinError(
            f"{module} is not installed ({error}): pip install 'ornstein[{extra}]'"
        ) from error


def from_numpy(value_and_gradient: Callable[[np.ndarray], tuple[Any, Any]], dim: int) -> Density:
    """Make a density from a function of NumPy arrays that returns its value and its gradient.

    A few trial points tell whether the function takes a batch or one point, and at several of them
    the gradient is compared with finite differences of the value. A function of one point is called
    in a loop.

    Args:
        value_and_gradient: of a batch, ``(n, d) -> ((n,), (n, d))``, or of a point,
            ``(d,) -> ((), (d,))``, in float64 and nats.
        dim: d.

    Raises:
        OrnsteinError: if the shapes are others, or the gradient is not that of the value.

    Example:
        >>> density = orn.from_numpy(lambda x: (-(x**2).sum(-1) / 2, -x), dim=3)
        >>> density(torch.ones(2, 3)).tolist()
        [-1.5, -1.5]
    """
    if dim < 1:
        raise OrnsteinError(f"from_numpy(dim={dim}): at least 1")
    x = Noise(0).normal((4 if dim == 3 else 3, dim), torch.float64).numpy()

    def looped(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pairs = [value_and_gradient(point) for point in points]
        values = np.array([value for value, _ in pairs], float)
        return values, np.array([gradient for _, gradient in pairs], float)

    batched = value_and_gradient
    trials = len(x) + 1
    trouble_of_batch = _misfit(value_and_gradient, x)
    if trouble_of_batch:
        batched = looped
        trials = 2 * trials
    trouble_of_point = trouble_of_batch and _misfit(looped, x)
    if trouble_of_point:
        raise OrnsteinError(
            "from_numpy needs (n, d) -> ((n,), (n, d)) or (d,) -> ((), (d,)) for value and"
            f" gradient. With d = {dim}, n = {len(x)}: as a function of a batch"
            f" {trouble_of_batch}; as one of a point {trouble_of_point}"
        )
    points = _check_points(x)
    _check_gradient(batched, points)

    def evaluate(points: np.ndarray, wanted: bool) -> tuple[np.ndarray, np.ndarray]:
        value, gradient = batched(points.astype(np.float64))
        return np.asarray(value, float), np.asarray(gradient, float)

    return Density(bridge(evaluate), dim, trials=trials + 3 * len(points))


def _misfit(fn: Callable[[np.ndarray], tuple[Any, Any]], x: np.ndarray) -> str | None:
    """Return in words why ``fn`` is no function of a batch of points; None if it is one."""
    try:
        value, gradient = (np.asarray(part, float) for part in fn(x))
        alone = np.asarray(fn(x[:1])[0], float)
    except Exception as error:  # whatever the user's function raises goes into the message
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if value.shape != x.shape[:1] or gradient.shape != x.shape:
        return f"it returned shapes {value.shape} and {gradient.shape}"
    if alone.shape != (1,) or not np.allclose(
        alone, value[:1], rtol=1e-6, atol=1e-6, equal_nan=True
    ):
        return "the value of a row depends on the other rows"
    return None


def _check_points(x: np.ndarray) -> np.ndarray:
    """Return the points at which a gradient is checked: near the origin, as drawn, and far out."""
    return np.concatenate([scale * x for scale in _CHECK_SCALES])


def _check_gradient(fn: Callable[[np.ndarray], tuple[Any, Any]], points: np.ndarray) -> None:
    """Raise unless central differences agree with the gradient to a hundredth at every point.

    Each point has a direction of its own, so that no two components of the gradient can hide each
    other's error everywhere. Points with a value or a gradient that is not finite are left out.
    """
    d = points.shape[1]
    phases = 1.0 + np.arange(points.size).reshape(points.shape)
    directions = np.cos(phases) / np.sqrt(d)
    value, gradient = (np.asarray(part, float) for part in fn(points))
    up = np.asarray(fn(points + _DIFFERENCE * directions)[0], float)
    down = np.asarray(fn(points - _DIFFERENCE * directions)[0], float)
    with np.errstate(all="ignore"):
        claimed = (gradient * directions).sum(1)
        measured = (up - down) / (2 * _DIFFERENCE)
        largest = np.maximum(abs(measured), np.linalg.norm(gradient, axis=1))
        tolerance = 0.01 * largest + 1e-6 + 1e-14 * abs(value) / _DIFFERENCE
        curved = abs(up - 2 * value + down) / _DIFFERENCE  # a kink, or a step below the scale of x
        wrong = abs(claimed - measured) > tolerance + curved
    usable = np.isfinite(value) & np.isfinite(up) & np.isfinite(down)
    usable &= np.isfinite(gradient).all(1)
    for i in np.flatnonzero(wrong & usable)[:1]:
        raise OrnsteinError(
            "from_numpy: the gradient is not that of the value: in one direction near x ="
            f" {points[i, :4].round(3).tolist()} it says {claimed[i]:.6g}, and central differences"
            f" of the value say {measured[i]:.6g}"
        )
