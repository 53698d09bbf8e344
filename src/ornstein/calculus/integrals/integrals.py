"""Stochastic integrals along a path (Ito, Stratonovich) and quadratic variation, as sums on a grid.

On a grid ``t_0 < ... < t_n`` with steps of X from ``X_k`` to ``X_{k+1}``, and a fraction theta,

    int f dX  =  lim sum_k f_k^theta (X_{k+1} - X_k),                                            (1)

where f is evaluated at the fraction theta of the step, in time and in value: ``(1 - theta) t_k +
theta t_{k+1}``, and the same of X or of an integrand given by its values. The limit depends on
theta by ``theta [f, X]``: theta = 0 is Ito's integral, a martingale, as f does not see the
increment that it multiplies; theta = 1/2 is Stratonovich's, which obeys the rules of ordinary
calculus; theta = 1 is Haenggi's. For deterministic f they agree. The brackets are

    [X, Y]  =  lim sum_k (X_{k+1} - X_k) (Y_{k+1} - Y_k),                                        (2)

``[B, B]_t = t``. Ito 1944; Stratonovich 1966 (A new representation for stochastic integrals and
equations).
"""

__all__ = [
    "by_parts",
    "covariation",
    "ito",
    "ito_process",
    "quadratic_variation",
    "stratonovich",
    "theta_integral",
]

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ornstein.calculus.integrals.integrand import Integrand, Integrator, as_grid, grid_steps, reader
from ornstein.core.random.motion import Motion
from ornstein.errors import OrnsteinError


def _partial_sums(
    f: Integrand, x: Integrator, grid: Tensor | Sequence[float], theta: float
) -> Iterator[Tensor]:
    """Yield the sum (1), an approximation of the integral, up to the end of each step."""
    if not 0 <= theta <= 1:
        raise OrnsteinError(
            f"theta={theta}: from 0, the left end of a step (Ito), to 1, its right end; 1/2 is"
            " Stratonovich"
        )
    times = as_grid(grid)
    read = reader(f, x, times, theta)
    total = None
    for step in grid_steps(x, times):
        term = read(step) * step.dx
        total = term if total is None else total + term  # (1)
        yield total


def theta_integral(
    f: Integrand, x: Integrator, grid: Tensor | Sequence[float], theta: float
) -> Tensor:
    """Return the integral of f along x with f at the fraction theta of each step, ``(b, *event)``.

    Products are entry by entry.

    Args:
        f: the integrand.
        x: the integrator: a path, or values on the grid.
        grid: ``(n + 1,)``, increasing.
        theta: in [0, 1]; 0 is Ito's integral, 1/2 Stratonovich's.

    Raises:
        OrnsteinError: if the grid is not increasing, theta outside [0, 1], or f or x do not fit the
            grid.
    """
    *_, last = _partial_sums(f, x, grid, theta)
    return last


def ito(f: Integrand, x: Integrator, grid: Tensor | Sequence[float]) -> Tensor:
    """Return Ito's integral of f along x, ``(b, *event)``, with f at the left end of each step.

    Args:
        f: the integrand: a function of t or of (x, t), another motion, `PathFunctional`, values on
            the grid, or a number.
        x: the integrator: a path, or values on the grid.
        grid: ``(n + 1,)``, increasing.

    Raises:
        OrnsteinError: as `theta_integral` does.

    Example:
        >>> grid = torch.linspace(0, 1, 101, dtype=torch.float64)
        >>> B = orn.BrownianPath((1000,), seed=0, cells=grid, dtype=torch.float64)
        >>> bracket = orn.calculus.quadratic_variation(B, grid)
        >>> torch.allclose(orn.ito(lambda x, t: 2 * x, B, grid), B(1.0) ** 2 - bracket)
        True
    """
    return theta_integral(f, x, grid, 0.0)


def stratonovich(f: Integrand, x: Integrator, grid: Tensor | Sequence[float]) -> Tensor:
    """Return Stratonovich's integral of f along x, with f in the middle of each step.

    The middle is that of the time and of the values, so the rules of ordinary calculus apply.

    Args:
        f: the integrand, of any kind but `PathFunctional`; see `ito`.
        x: the integrator: a path, or values on the grid.
        grid: ``(n + 1,)``, increasing.

    Raises:
        OrnsteinError: as `theta_integral` does.

    Example:
        >>> B = orn.BrownianPath((8,), seed=1, dtype=torch.float64)
        >>> torch.allclose(orn.stratonovich(lambda x, t: 2 * x, B, [0, 0.5, 1]), B(1.0) ** 2)
        True
    """
    return theta_integral(f, x, grid, 0.5)


def ito_process(f: Integrand, x: Integrator, grid: Tensor | Sequence[float]) -> Tensor:
    """Return Ito's integral up to each time of the grid, ``(n + 1, b, *event)``, 0 at the first.

    Args:
        f: the integrand; see `ito`.
        x: the integrator: a path, or values on the grid.
        grid: ``(n + 1,)``, increasing.
    """
    sums = list(_partial_sums(f, x, grid, 0.0))
    return torch.stack([torch.zeros_like(sums[0]), *sums])


def covariation(x: Integrator, y: Integrator, grid: Tensor | Sequence[float]) -> Tensor:
    """Return the covariation ``[X, Y] = sum_k dX_k dY_k`` over the grid, entry by entry.

    Args:
        x, y: paths, or values on the grid.
        grid: ``(n + 1,)``, increasing.
    """
    times = as_grid(grid)
    pairs = zip(grid_steps(x, times), grid_steps(y, times), strict=True)
    first, *others = (a.dx * b.dx for a, b in pairs)
    return sum(others, first)  # (2)


def quadratic_variation(x: Integrator, grid: Tensor | Sequence[float]) -> Tensor:
    """Return the quadratic variation ``[X, X] = sum_k dX_k^2`` over the grid, entry by entry.

    In the limit of small steps a Brownian motion has the length of the interval, an Ito process
    ``int g^2 dt``, and a smooth function 0.

    Args:
        x: a path, or values on the grid.
        grid: ``(n + 1,)``, increasing.
    """
    first, *others = (step.dx.square() for step in grid_steps(x, as_grid(grid)))
    return sum(others, first)  # (2)


def by_parts(f: Callable[[Tensor], Tensor], x: Motion, grid: Tensor | Sequence[float]) -> Tensor:
    """Return ``int f dB`` of a function of time by parts, ``(b, *event)``.

    The formula is ``f(T) B_T - f(t_0) B_{t_0} - int B_s f'(s) ds``, with f' by automatic
    differentiation and the last integral by the mean of the path over each step, ``B_k + dB / 2 +
    H``, with f' in the middle of the step. It is of second order in the step for a path of
    ``order=2``, which knows the Levy area H, and of first order without.

    Args:
        f: a differentiable function of time.
        x: a Brownian path.
        grid: ``(n + 1,)``, increasing.
    """
    times = as_grid(grid)
    middles = (times[:-1] + times[1:]) / 2
    slope = [torch.func.jvp(f, (m,), (torch.ones_like(m),))[1] for m in middles]
    start = end = x(float(times[0]))
    total = torch.zeros_like(start)
    for step in grid_steps(x, times):
        mean = step.x + step.dx / 2 + (x.levy_area(step.t, step.s) if x.order > 1 else 0.0)
        total = total + mean * (slope[step.k] * (step.s - step.t))
        end = step.x + step.dx
    return f(times[-1]) * end - f(times[0]) * start - total
