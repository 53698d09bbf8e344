"""Document 000, third part: Ito's lemma, equations, and the Ornstein-Uhlenbeck process.

The process ``dX = -lambda X dt + sigma dB``, ``X_0 = x``, has the constants `RATE`, `NOISE` and
`START`. Sums over a path are compared with integrals as `unit_paths` says.
"""

__all__: list[str] = []

import math
from typing import Any

import torch

from ornstein.app.verify.check import Outcome, check, exactly, float64
from ornstein.app.verify.problems import BROWNIAN, POINTS, ROUNDING
from ornstein.app.verify.unit_paths import (
    MIDPOINT_SUM,
    PATHS,
    SQUARED_INCREMENTS,
    STEP,
    TAYLOR_SUM,
    TIMES,
    path_values,
    unit_path,
)
from ornstein.calculus import by_parts, covariation, ito, ito_formula, ito_process, wiener_integral
from ornstein.calculus.laws import Brownian, GeometricBrownian, MultivariateOU
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.calculus.pde.grid import Axis, Grid
from ornstein.core.methods.stochastic_runge_kutta import SRK
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.reference import OU
from ornstein.core.solvers.solve import solve

STATES = POINTS[::2, 0]
RATE, NOISE, START = 1.5, 0.7, 2.0  # lambda, sigma and x of the Ornstein-Uhlenbeck process


@check(
    "000",
    right=0.5,
    wrong=1.0,
    mistake="printed: f'' (dX)^2 without the half in the second line of the expansion",
)
def taylor_to_second_order(claim: Any) -> Outcome:
    """df(X) = f'(X) dX + f''(X) (dX)^2 / 2, the Taylor expansion to second order.

    Summed over a path it is f(X_T) - f(X_0), for f = sin.
    """
    path = unit_path(PATHS)
    b = path_values()
    second = covariation(ito_process(-b.sin(), path, TIMES), path, TIMES)
    computed = ito(b.cos(), path, TIMES) + claim * second
    return exactly(
        computed, b[-1].sin(), TAYLOR_SUM, "5 sd of the third order, h sqrt(15 T) / 6, 500 paths"
    )


@check(
    "000",
    right=lambda f: (f.drift, f.diffusion),
    wrong=lambda f: (lambda x, t: 0.5 + 0 * x, lambda x, t: x),
    mistake="printed: d(B^2) = B dB + dt / 2",
)
def square_of_brownian(claim: Any) -> Outcome:
    """d(B^2) = 2 B dB + dt, by Ito's lemma, summed over a path."""
    drift, diffusion = claim(ito_formula(lambda x, t: x.square(), BROWNIAN))
    computed = ito(diffusion, unit_path(PATHS), TIMES) + (
        drift(path_values()[:-1], TIMES[0]) * STEP
    ).sum(0)
    return exactly(
        computed,
        path_values()[-1].square(),
        SQUARED_INCREMENTS,
        "5 sd of the sum, sqrt(2 T h), 500 paths",
    )


@check(
    "000",
    right=0.5,
    wrong=0.0,
    mistake="ordinary calculus: d e^B = e^B dB, without the second derivative",
)
def exponential_martingale(claim: Any) -> Outcome:
    """exp(B_t - t / 2) has no drift: d exp(B_t - t / 2) = exp(B_t - t / 2) dB."""
    formula = ito_formula(lambda x, t: (x - claim * t).exp(), BROWNIAN)
    return exactly(formula.drift(STATES, 0.7), 0.0, 1e-12, ROUNDING)


@check("000", right=0.5 - 0.32, wrong=0.5, mistake="the chain rule of ordinary calculus: drift mu")
def ito_lemma_for_an_equation(claim: Any) -> Outcome:
    """Ito's lemma for an equation: df = (f_t + b f_x + g^2 f_xx / 2) dt + g f_x dB.

    For b = mu X and g = sigma X, d log X = (mu - sigma^2 / 2) dt + sigma dB.
    """
    formula = ito_formula(lambda x, t: x.log(), GeometricBrownian(0.5, 0.8))
    x = STATES.exp()
    computed = torch.stack([formula.drift(x, 0.0), formula.diffusion(x, 0.0)])
    return exactly(computed, torch.tensor([[claim], [0.8]], dtype=torch.float64), 1e-12, ROUNDING)


@check(
    "000",
    right=0.5 - 0.32,
    wrong=0.5,
    mistake="X = x exp(mu t + sigma B), the solution in the sense of Stratonovich",
)
def solution_of_an_equation(claim: Any) -> Outcome:
    """The equation dX = mu X dt + sigma X dB, X_0 = 1, has a solution in closed form.

    Solved on a path it is exp((mu - sigma^2 / 2) t + sigma B_t).
    """
    path = unit_path(PATHS, order=2)
    start = torch.ones(PATHS, dtype=torch.float64)
    computed = solve(GeometricBrownian(0.5, 0.8), start, TIMES, SRK(), seed=path)[-1]
    exact = (claim + 0.8 * path(1.0)).exp()
    return exactly(
        computed, exact, 10 * STEP**1.5, "strong order 3/2 of the method, 10 h^(3/2), 500 paths"
    )


@check(
    "000",
    right=START,
    wrong=0.0,
    mistake="printed: Z_t = int e^(lambda s) sigma dB, without the start x",
)
def solution_of_ornstein_uhlenbeck(claim: Any) -> Outcome:
    """The Ornstein-Uhlenbeck equation is solved by X_t = e^(-lambda t) Z_t, path by path.

    For dX = -lambda X dt + sigma dB, Z_t = x + int_0^t e^(lambda s) sigma dB.
    """
    path = unit_path(PATHS, order=2)
    z = claim + by_parts(lambda s: NOISE * (RATE * s).exp(), path, TIMES)
    computed = solve(
        OU(RATE, NOISE), torch.full((PATHS,), START, dtype=torch.float64), TIMES, SRK(), seed=path
    )[-1]
    return exactly(
        computed,
        math.exp(-RATE) * z,
        2 * RATE * NOISE * MIDPOINT_SUM,
        "5 sd of the sums, 2 lambda sigma h sqrt(T / 12), 500 paths",
    )


@check("000", right=-RATE, wrong=RATE, mistake="e^(-lambda t) X, which has a drift")
def integrating_factor(claim: Any) -> Outcome:
    """For the Ornstein-Uhlenbeck process d(e^(lambda t) X_t) = e^(lambda t) sigma dB.

    The integrating factor leaves no drift.
    """
    formula = ito_formula(lambda x, t: (-claim * t).exp() * x, OU(RATE, NOISE))
    return exactly(formula.drift(STATES, 0.4), 0.0, 1e-12, ROUNDING)


def _without_factor_two(t: float) -> Gaussian:
    """Return the law at time t with the variance ``sigma^2 (1 - e^(-lambda t))``."""
    mean = torch.full((1,), START * math.exp(-RATE * t), dtype=torch.float64)
    return Gaussian(
        mean, (NOISE**2 * -torch.expm1(-RATE * torch.tensor(t, dtype=torch.float64))).sqrt()
    )


@check(
    "000",
    right=lambda t: OU(RATE, NOISE).marginal(torch.full((1,), START, dtype=torch.float64), t),
    wrong=_without_factor_two,
    mistake="variance sigma^2 (1 - e^(-lambda t)), without the 2 lambda",
)
def law_of_ornstein_uhlenbeck(claim: Any) -> Outcome:
    """X_t ~ N(e^(-lambda t) x, sigma^2 (1 - e^(-2 lambda t)) / (2 lambda)) at every t."""
    computed: list[float] = []
    exact: list[float] = []
    for t in (0.1, 0.5, 2.0):
        law = claim(t)
        spread = wiener_integral(lambda s: NOISE * (-RATE * (t - s)).exp(), 0.0, t)  # noqa: B023
        computed += [float(law.mean), float(law.std) ** 2]
        exact += [math.exp(-RATE * t) * START, float(spread.std) ** 2]
    return exactly(
        float64(computed), float64(exact), 1e-9, "quadrature, settled to 1e-10 of the value"
    )


@check("000", right=NOISE**2 / (2 * RATE), wrong=NOISE**2 / RATE, mistake="sigma^2 / lambda")
def stationary_law_of_ornstein_uhlenbeck(claim: Any) -> Outcome:
    """For t -> infinity the law is N(0, sigma^2 / (2 lambda)).

    It is the density that the Fokker-Planck equation of the process leaves as it is.
    """
    grid = Grid(Axis(-3, 3, 400))
    computed = FokkerPlanck(OU(RATE, NOISE), grid).stationary()
    law = Gaussian(torch.zeros(1), torch.tensor(claim, dtype=torch.float64).sqrt())
    exact = grid.evaluate(lambda x: law.log_prob(x).exp())
    return exactly(computed, exact, 1e-3, "second order in the cell of 0.015, largest of 400 cells")


@check(
    "000",
    right=MultivariateOU(torch.tensor([[RATE]]), torch.tensor([NOISE])),
    wrong=Brownian(0.0, NOISE),
    mistake="Brownian motion: without the pull its entropy grows like log t / 2",
)
def entropy_stays_bounded(claim: Any) -> Outcome:
    """The entropy of the Ornstein-Uhlenbeck process is bounded in time.

    It tends to log(2 pi e sigma^2 / (2 lambda)) / 2 and does not diverge.
    """
    bound = math.log(2 * math.pi * math.e * NOISE**2 / (2 * RATE)) / 2
    return exactly(
        claim.entropy(20.0),
        bound,
        1e-7,
        "rate and noise in float32; e^(-2 lambda t) at t = 20 is below it",
    )
