"""The law of an integral: its mean, its variance, and for an integrand without chance all of it.

For adapted f an Ito integral has mean 0 and

    E (int f dB)^2 = E int f^2 dt                                                                (1)

(Ito's isometry). On a grid it holds exactly, with sums in place of integrals, since ``f_k`` is
independent of the increment that it multiplies. If f is a function of time alone the integral is a
sum of independent Gaussians: ``N(0, int f^2 dt)``.
"""

__all__ = ["Isometry", "ito_isometry", "wiener_integral"]

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.calculus.integrals.integrals import Integrand, as_grid, as_value, reader, steps
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.random.motion import Motion
from ornstein.errors import OrnsteinError


class Isometry(NamedTuple):
    """Both sides of (1), each a mean over samples and entries with its standard error, and their
    difference.

    The difference is taken sample by sample before it is averaged; it is 0 within a few
    ``gap_stderr`` unless the integrand peeks.
    """

    variance: float
    variance_stderr: float
    energy: float
    energy_stderr: float
    gap: float
    gap_stderr: float


def _mean(values: Tensor) -> tuple[float, float]:
    """Mean and standard error over samples; entries of a sample are averaged first."""
    per_sample = values.flatten(1).mean(1) if values.ndim > 1 else values
    return float(per_sample.mean()), float(per_sample.std() / math.sqrt(len(per_sample)))


def ito_isometry(f: Integrand, path: Motion, grid: Tensor | Sequence[float]) -> Isometry:
    """Both sides of (1) on a path of many samples: ``(sum f_k dB_k)^2`` and ``sum f_k^2 (t_{k+1} -
    t_k)``, and their gap.

    Raises:
        OrnsteinError: if the path has one sample, or as `theta_integral` does.
    """
    if path.shape[0] < 2:
        raise OrnsteinError(
            f"a mean over samples needs several, got a path of shape {tuple(path.shape)}"
        )
    times = as_grid(grid)
    read = reader(f, path, times)
    integral, energy = torch.zeros(()), torch.zeros(())
    for step in steps(path, times):
        value = as_value(read(step), step.dx)
        integral = integral + value * step.dx
        energy = energy + value.square() * (step.s - step.t)
    return Isometry(
        *_mean(integral.square()), *_mean(energy), *_mean(integral.square() - energy)
    )  # (1)


def wiener_integral(
    f: Callable[[Tensor], Tensor], s: float, t: float, tol: float = 1e-10
) -> Gaussian:
    """The law of ``int_s^t f(u) dB_u`` for a function of time: ``N(0, int_s^t f^2 du)``, of shape
    (1, ...).

    By Gauss-Legendre quadrature, on pieces that are halved until the variance changes by less than
    ``tol`` of itself.

    Args:
        f: elementwise ``(n,) -> (n,)``, or ``(n,) -> (n, d)`` for d integrals.

    Raises:
        OrnsteinError: if the interval is empty or the quadrature does not settle, as where ``int
            f^2`` is infinite.
    """
    if not -math.inf < s < t < math.inf:
        raise OrnsteinError(f"an integral over [{s}, {t}]: the ends must be finite and increasing")
    nodes, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(16))
    before = torch.full((), torch.nan, dtype=torch.float64)
    for pieces in (2**k for k in range(15)):
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
