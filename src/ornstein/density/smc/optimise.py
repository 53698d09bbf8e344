"""Uphill from many points at once: limited-memory BFGS, and the Gaussian at the top.

With ``s_k = x_{k+1} - x_k`` and ``y_k = g_k - g_{k+1}`` for the gradient g of log rho, the
direction ``H_k g_k`` comes from the last pairs by

    H_{k+1} = (I - s y^T / (s y)) H_k (I - y s^T / (s y)) + s s^T / (s y),                       (1)

never forming a matrix (Nocedal and Wright, algorithm 7.4); a step is halved until log rho rises
enough. At a top m with curvature ``P = -grad^2 log rho(m)`` the Gaussian ``N(m, P^-1)`` and its
mass

    rho(m) (2 pi)^(d/2) |P|^(-1/2)                                                               (2)

are Laplace's approximation to rho and its integral nearby.
"""

__all__ = ["Maxima", "ascend", "laplace", "summit"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity, value_and_gradient


class Maxima(NamedTuple):
    """Where ascents ended: ``x`` ``(n, d)``, ``value`` ``(n,)``, and ``rise``: what a further step
    promised to gain, in nats."""

    x: Tensor
    value: Tensor
    rise: Tensor


def ascend(
    target: LogDensity,
    x: Float[Tensor, "n d"],
    reach: Tensor,
    iterations: int = 100,
    memory: int = 10,
    gain: float = 1e-7,
) -> Maxima:
    """Run (1) from every row of x until a step promises less than ``gain`` nats.

    Args:
        target: log rho; rows at which it is -inf stay where they are.
        x: starts.
        reach: ``(n,)``, length of the first step.
        iterations: at most.
        memory: pairs kept.
        gain: stop below, in nats.
    """
    n, d = x.shape
    value, gradient = value_and_gradient(target, x)
    pairs = torch.zeros(2, memory, n, d, dtype=x.dtype)
    inverse = torch.zeros(memory, n, dtype=x.dtype)  # 1 / (s y); 0 where there is no pair
    scale = reach / gradient.norm(dim=1).clamp(min=1e-300)
    rise = torch.full((n,), torch.inf, dtype=x.dtype)
    active, stuck = torch.isfinite(value).nonzero()[:, 0], torch.zeros(n, dtype=torch.bool)
    for k in range(iterations):
        active = active[(rise[active] > gain) & ~stuck[active]]
        if not len(active):
            break
        direction = _direction(
            gradient[active], pairs[:, :, active], inverse[:, active], scale[active], k, memory
        )
        slope = (direction * gradient[active]).sum(1)
        fresh = (slope <= 0) | (inverse[:, active].sum(0) == 0)
        direction = torch.where(fresh[:, None], scale[active, None] * gradient[active], direction)
        slope = torch.where(fresh, (direction * gradient[active]).sum(1), slope)
        y, value_y, gradient_y, moved = _search(target, x[active], value[active], direction, slope)
        s, change = y - x[active], gradient[active] - gradient_y
        curvature = (s * change).sum(1)
        good = moved & (curvature > 1e-10 * s.norm(dim=1) * change.norm(dim=1))
        slot = k % memory
        pairs[0, slot, active], pairs[1, slot, active] = s, change
        inverse[slot, active] = torch.where(good, 1 / curvature, 0.0)
        convex = curvature / change.square().sum(1)
        longer = 2 * s.norm(dim=1) / gradient_y.norm(dim=1).clamp(min=1e-300)
        scale[active] = torch.where(good, convex, torch.where(moved, longer, scale[active] / 100))
        inverse[:, active] = torch.where(
            good, inverse[:, active], 0.0
        )  # where it is not concave: forget, and go further
        rise[active] = torch.where(moved, torch.maximum(slope, value_y - value[active]), slope)
        stuck[active] = ~moved & fresh
        x, value = x.index_copy(0, active, y), value.index_copy(0, active, value_y)
        gradient = gradient.index_copy(0, active, gradient_y)
    return Maxima(x, value, rise)


def _direction(
    gradient: Tensor, pairs: Tensor, inverse: Tensor, scale: Tensor, k: int, memory: int
) -> Tensor:
    """The two loops for (1)."""
    q, alphas = gradient, {}
    order = [(k - 1 - j) % memory for j in range(min(k, memory))]  # newest first
    for j in order:
        alphas[j] = inverse[j] * (pairs[0, j] * q).sum(1)
        q = q - alphas[j][:, None] * pairs[1, j]
    q = q * scale[:, None]
    for j in reversed(order):
        beta = inverse[j] * (pairs[1, j] * q).sum(1)
        q = q + (alphas[j] - beta)[:, None] * pairs[0, j]
    return q


def _search(
    target: LogDensity, x: Tensor, value: Tensor, direction: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Quarter the step until the value rises by 1e-4 of what the slope promises; the new points,
    and which rows moved."""
    out_x, out_value, out_gradient = x.clone(), value.clone(), torch.zeros_like(x)
    waiting, step = torch.arange(len(x)), torch.ones_like(value)
    for _ in range(20):
        y = x[waiting] + step[waiting, None] * direction[waiting]
        y = torch.where(y.isfinite(), y, x[waiting])
        value_y, gradient_y = value_and_gradient(target, y)
        slack = 1e-13 * value[waiting].abs()
        good = value_y >= value[waiting] + 1e-4 * step[waiting] * slope[waiting] - slack
        rows = waiting[good]
        out_x[rows], out_value[rows], out_gradient[rows] = y[good], value_y[good], gradient_y[good]
        waiting = waiting[~good]
        if not len(waiting):
            break
        step[waiting] /= 4
    moved = torch.ones(len(x), dtype=torch.bool)
    moved[waiting] = False
    return out_x, out_value, out_gradient, moved


def laplace(
    target: LogDensity, tops: Float[Tensor, "m d"], width: float, batch: int = 2048
) -> tuple[Float[Tensor, "m d d"], Float[Tensor, " m"]]:
    """Factors of the covariances ``P^-1`` and the logarithms of the masses (2).

    P is the central difference of the gradient over a thousandth of each coordinate's own width,
    which a first, one-sided difference finds. No direction is given a standard deviation above
    ``width``; one in which the difference overflows counts as flat.
    """
    m, d = tops.shape
    coarse = torch.full((m, d), 1e-6 * width, dtype=tops.dtype)
    _, here = _many(target, tops, batch)
    ahead = _shifted(target, tops, coarse, batch).diagonal(dim1=1, dim2=2)
    diagonal = (here - ahead) / coarse
    own = torch.where(diagonal > 0, diagonal, 0.0).clamp(min=1 / width**2).rsqrt()
    step = 1e-3 * own
    curvature = (_shifted(target, tops, -step, batch) - _shifted(target, tops, step, batch)) / (
        2 * step[:, :, None]
    )
    curvature = ((curvature + curvature.mT) / 2).nan_to_num(0.0, 0.0, 0.0)
    factors = torch.stack([_inverse_factor(row, width) for row in curvature])
    value, _ = _many(target, tops, batch)
    return factors, value + d / 2 * math.log(2 * math.pi) + factors.diagonal(
        dim1=1, dim2=2
    ).log().sum(1)  # (2)


def summit(
    target: LogDensity, x: Float[Tensor, " d"], width: float, iterations: int = 20
) -> tuple[Tensor, Tensor, Tensor]:
    """Newton's steps ``P^-1 grad log rho`` from one point until one promises less than 1e-6 nats.

    A step is quartered until log rho rises; P is that of `laplace`, with its eigenvalues brought
    above ``width^-2``.

    Returns:
        the top ``(d,)``, and the factor ``(d, d)`` and mass of `laplace` there.
    """
    for _ in range(iterations):
        factors, masses = laplace(target, x[None], width)
        value, gradient = value_and_gradient(target, x[None])
        step = gradient @ factors[0] @ factors[0].mT
        slope = (step * gradient).sum(1)
        if float(slope) < 1e-6:
            break
        y, reached, _, moved = _search(target, x[None], value, step, slope)
        if not bool(moved) or float(reached - value) < 1e-9 * float(value.abs()):
            break
        x = y[0]
    return x, factors[0], masses[0]


def _shifted(target: LogDensity, x: Tensor, step: Tensor, batch: int) -> Tensor:
    """The gradients at ``x + step_j e_j``, ``(m, d, d)``: row j of each is for coordinate j."""
    m, d = x.shape
    return _many(target, (x[:, None] + torch.diag_embed(step)).reshape(m * d, d), batch)[1].reshape(
        m, d, d
    )


def _many(target: LogDensity, x: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    parts = [value_and_gradient(target, part) for part in x.split(batch)]
    return torch.cat([value for value, _ in parts]), torch.cat([gradient for _, gradient in parts])


def _inverse_factor(precision: Tensor, width: float) -> Tensor:
    """Cholesky factor of ``P^-1``, with the eigenvalues of P brought above ``width^-2``."""
    eye = torch.eye(len(precision), dtype=precision.dtype)
    lower, failed = torch.linalg.cholesky_ex(precision - eye / width**2)
    if int(failed) == 0:
        lower = torch.linalg.cholesky(precision)
        inverse = torch.linalg.solve_triangular(lower, eye, upper=False)
        return torch.linalg.cholesky(inverse.mT @ inverse)
    values, vectors = torch.linalg.eigh(precision)
    cov = (vectors / values.clamp(min=width**-2)) @ vectors.mT
    return torch.linalg.cholesky(cov + 1e-13 * cov.diagonal().max() * eye)
