"""Climb to the modes of a density from many points at once, and fit a Gaussian at each mode.

The start distribution of tempered sequential Monte Carlo has to cover every mode. `mode_search`
finds modes with the limited-memory BFGS method below, and describes each of them by Laplace's
approximation.

With ``s_k = x_{k+1} - x_k`` and ``y_k = g_k - g_{k+1}`` for the gradient g of log rho, the inverse
Hessian ``H_k`` of ``-log rho`` follows from the last few pairs,

    H_{k+1} = (I - s y^T / (s y)) H_k (I - y s^T / (s y)) + s s^T / (s y),                       (1)

and only its products with vectors are formed (Nocedal and Wright, algorithm 7.4). A step is
shortened until log rho rises enough. At a mode m with the precision ``P = -grad^2 log rho(m)`` the
Gaussian ``N(m, P^-1)`` and its mass

    rho(m) (2 pi)^(d/2) |P|^(-1/2)                                                               (2)

are Laplace's approximation to rho and to its integral nearby.
"""

__all__ = ["Maxima", "laplace", "lbfgs_ascent", "newton_ascent"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity, value_and_gradient
from ornstein.core.numerics.covariance import covariance_factor

_SHORTENINGS = 20  # quarterings of one step: 4^-20 of the length is below the rounding of x
_SUFFICIENT_RISE = 1e-4  # least fraction of the rise that the slope promises (Armijo's condition)
_MIN_CURVATURE = 1e-10  # cosine of s and y below which a pair would spoil the inverse Hessian
_ROUNDING = 1e-13  # relative error of log rho that the line search tolerates
_TINY = 1e-300  # smallest norm of a gradient by which something is divided
_PROBE_STEP = 1e-6  # step of the first difference of the gradient, in units of the width
_CENTRAL_STEP = 1e-3  # step of central differences of the gradient, in standard deviations
_RIDGE = 1e-13  # added to a covariance, relative to the largest variance, to make it regular


class Maxima(NamedTuple):
    """The points at which ascents ended, which need not be modes.

    Attributes:
        x: ``(n, d)``, the points.
        value: ``(n,)``, log rho there, in nats.
        expected_gain: ``(n,)``, the rise in nats that a further step promised; near 0 at a mode.
    """

    x: Tensor
    value: Tensor
    expected_gain: Tensor


def lbfgs_ascent(
    target: LogDensity,
    x: Float[Tensor, "n d"],
    first_step: Tensor,
    iterations: int = 100,
    memory: int = 10,
    min_gain: float = 1e-7,
) -> Maxima:
    """Maximise a log-density by limited-memory BFGS from every row of x at once.

    Args:
        target: log rho, ``(n, d) -> (n,)``; rows at which it is -inf stay where they are.
        x: ``(n, d)``, starts.
        first_step: ``(n,)``, length of the first step.
        iterations: largest number of steps.
        memory: number of pairs (s, y) that describe the inverse Hessian.
        min_gain: an ascent stops when a step promises less than this, in nats.
    """
    n, d = x.shape
    value, gradient = value_and_gradient(target, x)
    pairs = torch.zeros(2, memory, n, d, dtype=x.dtype)
    inverse = torch.zeros(memory, n, dtype=x.dtype)  # 1 / (s y); 0 where there is no pair
    scale = first_step / gradient.norm(dim=1).clamp(min=_TINY)
    gain = torch.full((n,), torch.inf, dtype=x.dtype)
    active = torch.isfinite(value).nonzero()[:, 0]
    stuck = torch.zeros(n, dtype=torch.bool)
    for k in range(iterations):
        active = active[(gain[active] > min_gain) & ~stuck[active]]
        if not len(active):
            break
        direction = _direction(
            gradient[active], pairs[:, :, active], inverse[:, active], scale[active], k, memory
        )
        slope = (direction * gradient[active]).sum(1)
        steepest = (slope <= 0) | (inverse[:, active].sum(0) == 0)
        direction = torch.where(
            steepest[:, None], scale[active, None] * gradient[active], direction
        )
        slope = torch.where(steepest, (direction * gradient[active]).sum(1), slope)
        y, value_y, gradient_y, moved = _line_search(
            target, x[active], value[active], direction, slope
        )
        s = y - x[active]
        change = gradient[active] - gradient_y
        curvature = (s * change).sum(1)
        concave = moved & (curvature > _MIN_CURVATURE * s.norm(dim=1) * change.norm(dim=1))
        slot = k % memory
        pairs[0, slot, active] = s
        pairs[1, slot, active] = change
        inverse[slot, active] = torch.where(concave, 1 / curvature, 0.0)
        fitted = curvature / change.square().sum(1)
        longer = 2 * s.norm(dim=1) / gradient_y.norm(dim=1).clamp(min=_TINY)
        scale[active] = torch.where(
            concave, fitted, torch.where(moved, longer, scale[active] / 100)
        )
        # where the density is not log-concave, forget the pairs and take a longer step
        inverse[:, active] = torch.where(concave, inverse[:, active], 0.0)
        gain[active] = torch.where(moved, torch.maximum(slope, value_y - value[active]), slope)
        stuck[active] = ~moved & steepest
        x = x.index_copy(0, active, y)
        value = value.index_copy(0, active, value_y)
        gradient = gradient.index_copy(0, active, gradient_y)
    return Maxima(x, value, gain)


def _direction(
    gradient: Tensor, pairs: Tensor, inverse: Tensor, scale: Tensor, k: int, memory: int
) -> Tensor:
    """Return ``H_k g_k`` by the two loops of the L-BFGS recursion, equation (1)."""
    q = gradient
    alphas = {}
    order = [(k - 1 - j) % memory for j in range(min(k, memory))]  # newest first
    for j in order:
        alphas[j] = inverse[j] * (pairs[0, j] * q).sum(1)
        q = q - alphas[j][:, None] * pairs[1, j]
    q = q * scale[:, None]
    for j in reversed(order):
        beta = inverse[j] * (pairs[1, j] * q).sum(1)
        q = q + (alphas[j] - beta)[:, None] * pairs[0, j]
    return q  # (1)


def _line_search(
    target: LogDensity, x: Tensor, value: Tensor, direction: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Quarter the step of each row until log rho rises enough.

    Returns new points, values, gradients, and which rows moved.
    """
    new_x, new_value, new_gradient = x.clone(), value.clone(), torch.zeros_like(x)
    waiting = torch.arange(len(x))
    step = torch.ones_like(value)
    for _ in range(_SHORTENINGS):
        y = x[waiting] + step[waiting, None] * direction[waiting]
        y = torch.where(y.isfinite(), y, x[waiting])
        value_y, gradient_y = value_and_gradient(target, y)
        slack = _ROUNDING * value[waiting].abs()
        promised = _SUFFICIENT_RISE * step[waiting] * slope[waiting]
        accepted = value_y >= value[waiting] + promised - slack
        rows = waiting[accepted]
        new_x[rows] = y[accepted]
        new_value[rows] = value_y[accepted]
        new_gradient[rows] = gradient_y[accepted]
        waiting = waiting[~accepted]
        if not len(waiting):
            break
        step[waiting] /= 4
    moved = torch.ones(len(x), dtype=torch.bool)
    moved[waiting] = False
    return new_x, new_value, new_gradient, moved


def laplace(
    target: LogDensity, modes: Float[Tensor, "m d"], width: float, batch: int = 2048
) -> tuple[Float[Tensor, "m d d"], Float[Tensor, " m"]]:
    """Return Laplace's covariance factors and log-masses ``log rho(m) + log |2 pi P^-1| / 2``.

    The precision P is the central difference of the gradient over a thousandth of each
    coordinate's own standard deviation, which a first, one-sided difference estimates. A direction
    in which the difference overflows counts as flat.

    Args:
        target: log rho, ``(n, d) -> (n,)``, differentiable.
        modes: ``(m, d)``, the points m of the expansion.
        width: largest standard deviation that any direction is given, in the units of x.
        batch: largest number of points in one call of ``target``.

    Returns:
        Lower triangular factors L with ``L L^T = P^-1``, and the logarithms of the masses, nats.
    """
    m, d = modes.shape
    probe = torch.full((m, d), _PROBE_STEP * width, dtype=modes.dtype)
    _, gradient = _in_batches(target, modes, batch)
    ahead = _shifted(target, modes, probe, batch).diagonal(dim1=1, dim2=2)
    diagonal = (gradient - ahead) / probe
    std = torch.where(diagonal > 0, diagonal, 0.0).clamp(min=1 / width**2).rsqrt()
    step = _CENTRAL_STEP * std
    difference = _shifted(target, modes, -step, batch) - _shifted(target, modes, step, batch)
    curvature = difference / (2 * step[:, :, None])
    curvature = ((curvature + curvature.mT) / 2).nan_to_num(0.0, 0.0, 0.0)
    factors = torch.stack([_covariance_factor(precision, width) for precision in curvature])
    value, _ = _in_batches(target, modes, batch)
    log_det = factors.diagonal(dim1=1, dim2=2).log().sum(1)
    return factors, value + d / 2 * math.log(2 * math.pi) + log_det  # (2)


def newton_ascent(
    target: LogDensity, x: Float[Tensor, " d"], width: float, iterations: int = 20
) -> tuple[Tensor, Tensor, Tensor]:
    """Climb from one point to a mode by Newton's steps ``P^-1 grad log rho``.

    A step is quartered until log rho rises. The ascent ends when a step promises less than 1e-6
    nats.

    Args:
        target: log rho, ``(n, d) -> (n,)``, differentiable.
        x: ``(d,)``, the start.
        width: largest standard deviation of any direction, see `laplace`.
        iterations: largest number of steps.

    Returns:
        The mode ``(d,)``, and the factor ``(d, d)`` and log-mass of `laplace` there.
    """
    for _ in range(iterations):
        factors, masses = laplace(target, x[None], width)
        value, gradient = value_and_gradient(target, x[None])
        step = gradient @ factors[0] @ factors[0].mT
        slope = (step * gradient).sum(1)
        if float(slope) < 1e-6:
            break
        y, value_y, _, moved = _line_search(target, x[None], value, step, slope)
        if not bool(moved) or float(value_y - value) < 1e-9 * float(value.abs()):
            break
        x = y[0]
    return x, factors[0], masses[0]


def _shifted(target: LogDensity, x: Tensor, step: Tensor, batch: int) -> Tensor:
    """Return the gradients at ``x + step_j e_j``, ``(m, d, d)``; row j belongs to coordinate j."""
    m, d = x.shape
    points = (x[:, None] + torch.diag_embed(step)).reshape(m * d, d)
    return _in_batches(target, points, batch)[1].reshape(m, d, d)


def _in_batches(target: LogDensity, x: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Evaluate log rho and its gradient on at most ``batch`` points at a time."""
    parts = [value_and_gradient(target, part) for part in x.split(batch)]
    return torch.cat([value for value, _ in parts]), torch.cat([gradient for _, gradient in parts])


def _covariance_factor(precision: Tensor, width: float) -> Tensor:
    """Return a Cholesky factor of ``P^-1``, with no standard deviation above ``width``.

    A precision that no decomposition survives (entries of very unequal size, at a start from which
    an ascent went astray) is replaced by its diagonal: one bad point must not end a run.
    """
    eye = torch.eye(len(precision), dtype=precision.dtype)
    if _cholesky(precision - eye / width**2) is not None:
        lower = _cholesky(precision)
        if lower is not None:
            inverse = torch.linalg.solve_triangular(lower, eye, upper=False)
            factor = _cholesky(inverse.mT @ inverse)
            if factor is not None:
                return factor
    try:
        values, vectors = torch.linalg.eigh(precision)
    except torch.linalg.LinAlgError:
        return torch.diag(precision.diagonal().clamp(min=width**-2).rsqrt())
    cov = (vectors / values.clamp(min=width**-2)) @ vectors.mT
    return covariance_factor(cov + _RIDGE * cov.diagonal().max() * eye)


def _cholesky(matrix: Tensor) -> Tensor | None:
    """Return the Cholesky factor of a matrix, or None if it is not positive definite and finite."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return factor if int(failed) == 0 and bool(factor.isfinite().all()) else None
