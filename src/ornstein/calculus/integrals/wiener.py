"""Laws of Ito integrals: mean and variance (Ito's isometry), and Wiener integrals.

For adapted f an Ito integral has mean 0 and

    E (int f dB)^2 = E int f^2 dt                                                                (1)

(Ito's isometry). On a grid it holds exactly, with sums in place of integrals, since ``f_k`` is
independent of the increment that it multiplies. If f is a function of time alone, the integral is
a Wiener integral, a sum of independent Gaussians: ``N(0, int f^2 dt)``.
"""

__all__ = ["Isometry", "ito_isometry", "wiener_integral"]

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.calculus.integrals.integrand import Integrand, as_grid, as_value, grid_steps, reader
from ornstein.core.numerics.estimate import Estimate
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.numerics.quadrature import gauss_legendre
from ornstein.core.random.motion import Motion
from ornstein.errors import OrnsteinError

_NODES = 16  # nodes of the quadrature on each piece: exact for polynomials of degree 31
_MAX_HALVINGS = 15  # up to 16384 pieces, where an integrable singularity has settled


class Isometry(NamedTuple):
    """Both sides of Ito's isometry ``E (int f dB)^2 = E int f^2 dt``, and their difference.

    Each is a mean over samples and entries with its standard error. The difference is taken sample
    by sample before the mean, so its error is small; an adapted integrand has a difference of 0
    within 4 standard errors.

    Attributes:
        variance: estimate of ``E (int f dB)^2``.
        energy: estimate of ``E int f^2 dt``.
        gap: estimate of the difference.
    """

    variance: Estimate
    energy: Estimate
    gap: Estimate


def _mean(values: Tensor) -> Estimate:
    """Return the mean over samples; entries of a sample are averaged first."""
    per_sample = values.flatten(1).mean(1) if values.ndim > 1 else values
    stderr = float(per_sample.std() / math.sqrt(len(per_sample)))
    return Estimate(float(per_sample.mean()), stderr)


def ito_isometry(f: Integrand, path: Motion, grid: Tensor | Sequence[float]) -> Isometry:
    """Estimate both sides of Ito's isometry on a path of many samples, and their difference.

    On the grid they are the means of ``(sum f_k dB_k)^2`` and of ``sum f_k^2 (t_{k+1} - t_k)``.

    Args:
        f: the integrand; see `ito`.
        path: a Brownian path of two samples or more.
        grid: ``(n + 1,)``, increasing.

    Raises:
        OrnsteinError: if the path has one sample, or as `theta_integral` does.
    """
    if path.shape[0] < 2:
        raise OrnsteinError(
            f"a mean over samples needs several, got a path of shape {tuple(path.shape)}"
        )
    times = as_grid(grid)
    read = reader(f, path, times)
    integral = torch.zeros(())
    energy = torch.zeros(())
    for step in grid_steps(path, times):
        value = as_value(read(step), step.dx)
        integral = integral + value * step.dx
        energy = energy + value.square() * (step.s - step.t)
    square = integral.square()
    return Isometry(_mean(square), _mean(energy), _mean(square - energy))  # (1)


def wiener_integral(
    f: Callable[[Tensor], Tensor], s: float, t: float, tol: float = 1e-10
) -> Gaussian:
    """Return the law ``N(0, int_s^t f(u)^2 du)`` of the Wiener integral ``int_s^t f(u) dB_u``.

    The variance is by Gauss-Legendre quadrature on pieces that are halved until it changes by less
    than ``tol`` of its value.

    Args:
        f: elementwise ``(n,) -> (n,)``, or ``(n,) -> (n, d)`` for d integrals.
        s, t: ends of the interval, finite, ``s < t``.
        tol: relative error of the variance.

    Returns:
        The Gaussian, of shape ``(1,)`` or ``(1, d)``.

    Raises:
        OrnsteinError: if the interval is empty or the quadrature does not settle, as where ``int
            f^2`` is infinite.
    """
    if not -math.inf < s < t < math.inf:
        raise OrnsteinError(f"an integral over [{s}, {t}]: the ends must be finite and increasing")
    nodes, weights = gauss_legendre(_NODES)
    before = torch.full((), torch.nan, dtype=torch.float64)
    for pieces in (2**k for k in range(_MAX_HALVINGS)):
        ends = torch.linspace(s, t, pieces + 1, dtype=torch.float64)
        half = (t - s) / pieces / 2
        values = torch.as_tensor(f((ends[:-1, None] + half * (nodes + 1)).flatten())).square()
        variance = (values.movedim(0, -1) @ weights.repeat(pieces)) * half
        if bool(((variance - before).abs() <= tol * variance).all()):
            return Gaussian(torch.zeros_like(variance)[None], variance.sqrt()[None])
        before = variance
    raise OrnsteinError(
        f"int f^2 over [{s}, {t}] does not settle to {tol:g} ({before.tolist()} on {pieces}"
        " pieces): is it finite? For a singular f move the end, or raise tol"
    )
