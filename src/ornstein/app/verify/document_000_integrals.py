"""Document 000, second part: the two stochastic integrals, their laws, and time change.

Every statement is measured on Brownian paths on [0, 1] with steps of 1/256; `unit_paths` says how
far a sum over a path may be from the integral that it tends to.
"""

__all__: list[str] = []

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ornstein.app.verify.check import Outcome, check, estimated, exactly, normal_law, within_errors
from ornstein.app.verify.problems import POINTS, ROUNDING, SAMPLES, SEED
from ornstein.app.verify.unit_paths import (
    MIDPOINT_SUM,
    PATHS,
    SQUARED_INCREMENTS,
    STEP,
    TIMES,
    path_values,
    unit_path,
)
from ornstein.calculus import (
    by_parts,
    check_adapted,
    ito,
    ito_isometry,
    ito_process,
    stratonovich,
    theta_integral,
    time_change,
    to_stratonovich,
    wiener_integral,
)
from ornstein.calculus.integrals.time_change import TimeChange
from ornstein.calculus.laws import GeometricBrownian
from ornstein.core.random import BrownianPath

STATES = POINTS[::2, 0]


@check(
    "000",
    right=0.0,
    wrong=1.0,
    mistake="the integrand at the right end: it peeks, and its mean is T",
)
def ito_integral_has_mean_zero(claim: Any) -> Outcome:
    """E int B dB = 0, the integrand being read off at the left end of each step."""
    return estimated(theta_integral(lambda x, t: x, unit_path(), TIMES, claim), 0.0, SEED)


@check(
    "000",
    right=lambda B: lambda t: B(t) ** 2,
    wrong=lambda B: lambda t: B(1.0) - B(t),
    mistake="an integrand that knows B_1",
)
def adapted_integrand(claim: Any) -> Outcome:
    """An adapted integrand does not look ahead.

    Another future leaves its past values as they are.
    """
    verdict = check_adapted(claim, unit_path(8), unit_path(8, seed=1), TIMES[::64])
    return exactly(
        verdict.change, 0.0, 1e-5, "largest change under resampled futures, 8 paths, 5 times"
    )


@check(
    "000",
    right=0.5 * (1 - STEP),
    wrong=1 / 3,
    mistake="E (int B dt)^2, squared outside the wrong integral",
)
def ito_isometry_of_brownian(claim: Any) -> Outcome:
    """E (int B dB)^2 = E int B^2 dt = T^2 / 2, on the grid T (T - h) / 2."""
    n = 4 * SAMPLES
    return within_errors(
        ito_isometry(lambda x, t: x, unit_path(n), TIMES).variance, claim, f"n = {n}", SEED
    )


@check(
    "000",
    right=lambda b: (b.square() - 1) / 2,
    wrong=lambda b: b.square() / 2,
    mistake="ordinary calculus: B^2 / 2",
)
def ito_integral_of_brownian(claim: Any) -> Outcome:
    """int B dB = (B_T^2 - T) / 2 in the sense of Ito."""
    computed = ito(lambda x, t: x, unit_path(PATHS), TIMES)
    return exactly(
        computed,
        claim(path_values()[-1]),
        SQUARED_INCREMENTS / 2,
        "5 sd of the sum, sqrt(2 T h) / 2, 500 paths",
    )


@check(
    "000",
    right=lambda b: b.square() / 2,
    wrong=lambda b: (b.square() - 1) / 2,
    mistake="Ito's value",
)
def stratonovich_integral_of_brownian(claim: Any) -> Outcome:
    """int B o dB = B_T^2 / 2 in the sense of Stratonovich.

    This integral keeps the rules of ordinary calculus.
    """
    return exactly(
        stratonovich(lambda x, t: x, unit_path(PATHS), TIMES),
        claim(path_values()[-1]),
        1e-11,
        ROUNDING,
    )


@check("000", right=-0.5, wrong=0.5, mistake="the correction added in place of subtracted")
def drift_in_the_sense_of_stratonovich(claim: Any) -> Outcome:
    """An equation of Ito has another drift in the sense of Stratonovich.

    dX = mu X dt + sigma X dB (Ito) is dX = (mu - sigma^2 / 2) X dt + sigma X o dB (Stratonovich).
    """
    computed = to_stratonovich(GeometricBrownian(0.5, 0.8)).drift(STATES, 0.0)
    return exactly(computed, (0.5 + claim * 0.64) * STATES, 1e-12, ROUNDING)


@check(
    "000",
    right=(math.exp(2) - 1) / 2,
    wrong=(math.e - 1) ** 2,
    mistake="(int f ds)^2 in place of int f^2 ds",
)
def variance_of_a_deterministic_integrand(claim: Any) -> Outcome:
    """For an integrand without chance int_0^t f dB ~ N(0, int_0^t f^2 ds); here f = e^s, t = 1."""
    return exactly(
        wiener_integral(torch.exp, 0.0, 1.0).std.square(),
        claim,
        1e-9,
        "quadrature, settled to 1e-10 of the value",
    )


@check(
    "000",
    right=lambda t: t.exp(),
    wrong=lambda x, t: x,
    mistake="an integrand with chance: the law is that of (B^2 - T) / 2",
)
def law_of_a_deterministic_integrand(claim: Any) -> Outcome:
    """int f dB of a function of time is Gaussian."""
    computed = ito(claim, unit_path(), TIMES)
    return normal_law((computed - computed.mean()) / computed.std(), SEED)


def _without_derivative(f: Callable[[Tensor], Tensor], path: BrownianPath, grid: Tensor) -> Tensor:
    """Return the printed expression ``f(T) B_T - int B f ds``, which lacks the derivative of f."""
    b = ito_process(1.0, path, grid)
    return f(grid[-1]) * b[-1] - torch.trapezoid(f(grid)[:, None] * b, grid, dim=0)


@check(
    "000",
    right=by_parts,
    wrong=_without_derivative,
    mistake="printed: int f dB = f(T) B_T - int B f ds, without the derivative",
)
def integration_by_parts(claim: Any) -> Outcome:
    """int_0^T f dB = f(T) B_T - int_0^T B_s f'(s) ds, path by path, for f = cos 3s."""
    path = unit_path(PATHS, order=2)

    def f(t: Tensor) -> Tensor:
        return (3 * t).cos()

    return exactly(
        claim(f, path, TIMES),
        stratonovich(f, path, TIMES),
        3 * MIDPOINT_SUM,
        "5 sd of the middle sum, 3 h sqrt(T / 12), 500 paths",
    )


def _at_a_fixed_time(integral: TimeChange) -> Tensor:
    """Return the integral at the end of the old clock, scaled to variance 1."""
    return integral.integral[-1] / integral.integral[-1].std()


@check(
    "000",
    right=lambda c: (c.motion.diff(dim=0) / c.times.diff()[:, None].sqrt()).flatten(),
    wrong=_at_a_fixed_time,
    mistake="the integral at a fixed time, on the old clock",
)
def time_change_of_an_integral(claim: Any) -> Outcome:
    """On the clock of its own variance an integral is a Brownian motion.

    With tau(t) = inf{u: int_0^u X^2 ds > t}, the integral int_0^tau(t) X dB is a Brownian motion,
    for X = 1 + B^2.
    """
    result = time_change(
        lambda x, t: 1 + x.square(),
        unit_path(),
        TIMES,
        torch.linspace(0, 1, 5, dtype=torch.float64),
    )
    return normal_law(claim(result), SEED)
