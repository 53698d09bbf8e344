"""Document 000: Brownian motion, the two integrals, Ito's lemma, equations, and the
Ornstein-Uhlenbeck process.

Paths live on [0, 1] with steps h = 1/256. Sums along a path tend to integrals as h -> 0; where one
is compared with the other, the tolerance is 5 standard deviations of what the sum leaves out, path
by path, and the largest difference over all paths counts:

    sum dB^2 - T:                          sd sqrt(2 T h)                                        (1)
    sum f(middle) dB - int f dB:           sd max|f'| h sqrt(T / 12)                             (2)
    sum f' dB + f'' dB^2 / 2 - (f(B_T) - f(0)):     sd max|f'''| h sqrt(15 T) / 6                (3)
"""

__all__ = ["CHECKS"]

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ornstein.app.verify.check import (
    Check,
    Outcome,
    check,
    collected,
    estimated,
    exactly,
    normal_law,
)
from ornstein.calculus.integrals import (
    TimeChange,
    by_parts,
    check_adapted,
    covariation,
    ito,
    ito_formula,
    ito_isometry,
    ito_process,
    quadratic_variation,
    stratonovich,
    theta_integral,
    time_change,
    to_stratonovich,
    wiener_integral,
)
from ornstein.calculus.integrals.process import StochasticProcess
from ornstein.calculus.laws import Brownian, GeometricBrownian, MultivariateOU
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.calculus.pde.grid import Axis, Grid
from ornstein.core.methods.stochastic_runge_kutta import SRK
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.reference import OU
from ornstein.core.processes.sde import SDE
from ornstein.core.random import BrownianPath
from ornstein.core.solvers.solve import solve

SEED, N, STEPS = 0, 4000, 256
H = 1 / STEPS
GRID = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
ROUNDING = "rounding in float64"
VARIATION, SMOOTH, TAYLOR = (
    5 * math.sqrt(2 * H),
    5 * H / math.sqrt(12),
    5 * H * math.sqrt(15) / 6,
)  # (1), (2), (3)
X = torch.linspace(-2, 2, 9, dtype=torch.float64)
RATE, NOISE, START = 1.5, 0.7, 2.0  # lambda, sigma and x of the Ornstein-Uhlenbeck process
BM = SDE(lambda x, t: torch.zeros_like(x), lambda x, t: torch.ones_like(x))


def _path(n: int = N, order: int = 1, seed: int = SEED) -> BrownianPath:
    return BrownianPath((n,), seed=seed, cells=GRID, dtype=torch.float64, order=order)


def _values(n: int = N) -> Tensor:
    """``B`` on the grid, ``(steps + 1, n)``."""
    return ito_process(1.0, _path(n), GRID)


@check("000", right=7, wrong=8, mistake="another omega is another path")
def path_valued(claim: int) -> Outcome:
    """A process is omega -> (t -> x): at one omega it is one path, in whatever order it is
    queried."""
    motion = StochasticProcess(lambda omega: BrownianPath((4,), seed=omega, dtype=torch.float64))
    path, again = motion(7), motion(claim)
    late, early = path(0.9), path(0.3)
    return exactly(
        torch.stack([again(0.3), again(0.9)]), torch.stack([early, late]), 1e-12, ROUNDING
    )


@check(
    "000",
    right=lambda h: math.sqrt(h),
    wrong=lambda h: h,
    mistake="t - s taken for the standard deviation",
)
def brownian_increments(claim: Any) -> Outcome:
    """B_t - B_s ~ N(0, t - s)."""
    path = BrownianPath((N,), seed=SEED, dtype=torch.float64)
    return normal_law(path(0.3, 0.8) / claim(0.5), SEED)


@check(
    "000",
    right=lambda path: path(0.3, 0.8),
    wrong=lambda path: path(0.8),
    mistake="the value B_t in place of the increment",
)
def increments_forget_the_past(claim: Any) -> Outcome:
    """B_t - B_s is independent of B_s: E[(B_t - B_s) B_s] = 0."""
    path = BrownianPath((N,), seed=SEED, dtype=torch.float64)
    return estimated(claim(path) * path(0.3), 0.0, SEED)


@check("000", right=min, wrong=lambda s, t: s * t, mistake="s t, the covariance of t B_1")
def brownian_covariance(claim: Any) -> Outcome:
    """Cov(B_s, B_t) = min(s, t)."""
    path = BrownianPath((N,), seed=SEED, dtype=torch.float64)
    return estimated(path(0.5) * path(0.6), claim(0.5, 0.6), SEED)


@check("000", right=1.0, wrong=0.0, mistake="(dB)^2 = 0, as for a smooth path")
def quadratic_variation_of_brownian(claim: Any) -> Outcome:
    """(dB)^2 = dt: the sum of (B_{k+1} - B_k)^2 tends to T."""
    return exactly(
        quadratic_variation(_path(500), GRID),
        claim,
        VARIATION,
        "5 sd of the sum, sqrt(2 T h), 500 paths",
    )


@check("000", right=3.0, wrong=1.0, mistake="(t - s)^2, the square of the second moment")
def brownian_paths_are_continuous(claim: Any) -> Outcome:
    """E (B_t - B_s)^4 = 3 (t - s)^2, a power above 1, so that paths are continuous (Kolmogorov)."""
    path = BrownianPath((4 * N,), seed=SEED, dtype=torch.float64)
    return estimated(path(0.3, 0.8) ** 4, claim * 0.25, SEED)


@check(
    "000",
    right=lambda path: GRID[:, None].expand(-1, 500),
    wrong=lambda path: ito_process(1.0, path, GRID),
    mistake="(dB)^2, which is dt",
)
def time_and_brownian_do_not_covary(claim: Any) -> Outcome:
    """dt dB = 0: the sum of (t_{k+1} - t_k) (B_{k+1} - B_k) tends to 0."""
    return exactly(
        covariation(claim(_path(500)), _path(500), GRID),
        0.0,
        5 * H,
        "5 sd of the sum, h sqrt(T), 500 paths",
    )


@check(
    "000",
    right=0.0,
    wrong=1.0,
    mistake="the integrand at the right end: it peeks, and its mean is T",
)
def ito_integral_has_mean_zero(claim: Any) -> Outcome:
    """E int B dB = 0, the integrand being read off at the left end of each step."""
    return estimated(theta_integral(lambda x, t: x, _path(), GRID, claim), 0.0, SEED)


@check(
    "000",
    right=lambda B: lambda t: B(t) ** 2,
    wrong=lambda B: lambda t: B(1.0) - B(t),
    mistake="an integrand that knows B_1",
)
def adapted_integrand(claim: Any) -> Outcome:
    """An adapted integrand does not look ahead: another future leaves its past values as they
    are."""
    found = check_adapted(claim, _path(8), _path(8, seed=1), GRID[::64])
    return exactly(
        found.change, 0.0, 1e-5, "largest change under resampled futures, 8 paths, 5 times"
    )


@check(
    "000",
    right=0.5 * (1 - H),
    wrong=1 / 3,
    mistake="E (int B dt)^2, squared outside the wrong integral",
)
def ito_isometry_of_brownian(claim: Any) -> Outcome:
    """E (int B dB)^2 = E int B^2 dt = T^2 / 2, on the grid T (T - h) / 2."""
    n = 4 * N
    found = ito_isometry(lambda x, t: x, _path(n), GRID)
    return Outcome(
        found.variance, claim, 4 * found.variance_stderr, f"4 standard errors, n = {n}, seed {SEED}"
    )


@check(
    "000",
    right=lambda b: (b.square() - 1) / 2,
    wrong=lambda b: b.square() / 2,
    mistake="ordinary calculus: B^2 / 2",
)
def ito_integral_of_brownian(claim: Any) -> Outcome:
    """int B dB = (B_T^2 - T) / 2 in the sense of Ito."""
    found = ito(lambda x, t: x, _path(500), GRID)
    return exactly(
        found, claim(_values(500)[-1]), VARIATION / 2, "5 sd of the sum, sqrt(2 T h) / 2, 500 paths"
    )


@check(
    "000",
    right=lambda b: b.square() / 2,
    wrong=lambda b: (b.square() - 1) / 2,
    mistake="Ito's value",
)
def stratonovich_integral_of_brownian(claim: Any) -> Outcome:
    """int B o dB = B_T^2 / 2 in the sense of Stratonovich, which keeps the rules of ordinary
    calculus."""
    return exactly(
        stratonovich(lambda x, t: x, _path(500), GRID), claim(_values(500)[-1]), 1e-11, ROUNDING
    )


@check("000", right=-0.5, wrong=0.5, mistake="the correction added in place of subtracted")
def drift_in_the_sense_of_stratonovich(claim: Any) -> Outcome:
    """dX = mu X dt + sigma X dB (Ito) is dX = (mu - sigma^2 / 2) X dt + sigma X o dB
    (Stratonovich)."""
    found = to_stratonovich(GeometricBrownian(0.5, 0.8)).drift(X, 0.0)
    return exactly(found, (0.5 + claim * 0.64) * X, 1e-12, ROUNDING)


@check(
    "000",
    right=(math.exp(2) - 1) / 2,
    wrong=(math.e - 1) ** 2,
    mistake="(int f ds)^2 in place of int f^2 ds",
)
def variance_of_a_deterministic_integrand(claim: Any) -> Outcome:
    """int_0^t f dB ~ N(0, int_0^t f^2 ds) for f = e^s, t = 1."""
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
    found = ito(claim, _path(), GRID)
    return normal_law((found - found.mean()) / found.std(), SEED)


def _slope_missing(f: Callable[[Tensor], Tensor], path: BrownianPath, grid: Tensor) -> Tensor:
    """``f(T) B_T - int B f ds``."""
    b = ito_process(1.0, path, grid)
    return f(grid[-1]) * b[-1] - torch.trapezoid(f(grid)[:, None] * b, grid, dim=0)


@check(
    "000",
    right=by_parts,
    wrong=_slope_missing,
    mistake="printed: int f dB = f(T) B_T - int B f ds, without the derivative",
)
def integration_by_parts(claim: Any) -> Outcome:
    """int_0^T f dB = f(T) B_T - int_0^T B_s f'(s) ds, path by path, for f = cos 3s."""
    path = _path(500, order=2)

    def f(t: Tensor) -> Tensor:
        return (3 * t).cos()

    return exactly(
        claim(f, path, GRID),
        stratonovich(f, path, GRID),
        3 * SMOOTH,
        "5 sd of the middle sum, 3 h sqrt(T / 12), 500 paths",
    )


def _distance_at(integral: TimeChange) -> Tensor:
    return integral.integral[-1] / integral.integral[-1].std()


@check(
    "000",
    right=lambda c: (c.motion.diff(dim=0) / c.times.diff()[:, None].sqrt()).flatten(),
    wrong=_distance_at,
    mistake="the integral at a fixed time, on the old clock",
)
def time_change_of_an_integral(claim: Any) -> Outcome:
    """With tau(t) = inf{u: int_0^u X^2 ds > t}, the integral int_0^tau(t) X dB is a Brownian
    motion, for X = 1 + B^2."""
    found = time_change(
        lambda x, t: 1 + x.square(), _path(), GRID, torch.linspace(0, 1, 5, dtype=torch.float64)
    )
    return normal_law(claim(found), SEED)


@check(
    "000",
    right=0.5,
    wrong=1.0,
    mistake="printed: f'' (dX)^2 without the half in the second line of the expansion",
)
def taylor_to_second_order(claim: Any) -> Outcome:
    """df(X) = f'(X) dX + f''(X) (dX)^2 / 2: summed along a path it is f(X_T) - f(X_0), for f =
    sin."""
    path, b = _path(500), _values(500)
    second = covariation(ito_process(-b.sin(), path, GRID), path, GRID)
    found = ito(b.cos(), path, GRID) + claim * second
    return exactly(
        found, b[-1].sin(), TAYLOR, "5 sd of the third order, h sqrt(15 T) / 6, 500 paths"
    )


@check(
    "000",
    right=lambda f: (f.drift, f.diffusion),
    wrong=lambda f: (lambda x, t: 0.5 + 0 * x, lambda x, t: x),
    mistake="printed: d(B^2) = B dB + dt / 2",
)
def square_of_brownian(claim: Any) -> Outcome:
    """d(B^2) = 2 B dB + dt, by Ito's lemma, summed along a path."""
    drift, diffusion = claim(ito_formula(lambda x, t: x.square(), BM))
    found = ito(diffusion, _path(500), GRID) + (drift(_values(500)[:-1], GRID[0]) * H).sum(0)
    return exactly(
        found, _values(500)[-1].square(), VARIATION, "5 sd of the sum, sqrt(2 T h), 500 paths"
    )


@check(
    "000",
    right=0.5,
    wrong=0.0,
    mistake="ordinary calculus: d e^B = e^B dB, without the second derivative",
)
def exponential_martingale(claim: Any) -> Outcome:
    """exp(B_t - t / 2) has no drift: d exp(B_t - t / 2) = exp(B_t - t / 2) dB."""
    found = ito_formula(lambda x, t: (x - claim * t).exp(), BM)
    return exactly(found.drift(X, 0.7), 0.0, 1e-12, ROUNDING)


@check("000", right=0.5 - 0.32, wrong=0.5, mistake="the chain rule of ordinary calculus: drift mu")
def ito_lemma_for_an_equation(claim: Any) -> Outcome:
    """df = (f_t + b f_x + g^2 f_xx / 2) dt + g f_x dB: for b = mu X and g = sigma X, d log X = (mu
    - sigma^2 / 2) dt + sigma dB."""
    found = ito_formula(lambda x, t: x.log(), GeometricBrownian(0.5, 0.8))
    x = X.exp()
    computed = torch.stack([found.drift(x, 0.0), found.diffusion(x, 0.0)])
    return exactly(computed, torch.tensor([[claim], [0.8]], dtype=torch.float64), 1e-12, ROUNDING)


@check(
    "000",
    right=0.5 - 0.32,
    wrong=0.5,
    mistake="X = x exp(mu t + sigma B), the solution in the sense of Stratonovich",
)
def solution_of_an_equation(claim: Any) -> Outcome:
    """dX = mu X dt + sigma X dB, X_0 = 1, solved on a path is exp((mu - sigma^2 / 2) t + sigma
    B_t)."""
    path, start = _path(500, order=2), torch.ones(500, dtype=torch.float64)
    found = solve(GeometricBrownian(0.5, 0.8), start, GRID, SRK(), seed=path)[-1]
    exact = (claim + 0.8 * path(1.0)).exp()
    return exactly(
        found, exact, 10 * H**1.5, "strong order 3/2 of the method, 10 h^(3/2), 500 paths"
    )


@check(
    "000",
    right=START,
    wrong=0.0,
    mistake="printed: Z_t = int e^(lambda s) sigma dB, without the start x",
)
def solution_of_ornstein_uhlenbeck(claim: Any) -> Outcome:
    """dX = -lambda X dt + sigma dB is solved by X_t = e^(-lambda t) Z_t, Z_t = x + int_0^t
    e^(lambda s) sigma dB, path by path."""
    path = _path(500, order=2)
    z = claim + by_parts(lambda s: NOISE * (RATE * s).exp(), path, GRID)
    found = solve(
        OU(RATE, NOISE), torch.full((500,), START, dtype=torch.float64), GRID, SRK(), seed=path
    )[-1]
    return exactly(
        found,
        math.exp(-RATE) * z,
        2 * RATE * NOISE * SMOOTH,
        "5 sd of the sums, 2 lambda sigma h sqrt(T / 12), 500 paths",
    )


@check("000", right=-RATE, wrong=RATE, mistake="e^(-lambda t) X, which has a drift")
def integrating_factor(claim: Any) -> Outcome:
    """d(e^(lambda t) X_t) = e^(lambda t) sigma dB for the Ornstein-Uhlenbeck process: no drift is
    left."""
    found = ito_formula(lambda x, t: (-claim * t).exp() * x, OU(RATE, NOISE))
    return exactly(found.drift(X, 0.4), 0.0, 1e-12, ROUNDING)


def _unscaled(t: float) -> Gaussian:
    mean = torch.full((1,), START * math.exp(-RATE * t), dtype=torch.float64)
    return Gaussian(
        mean, (NOISE**2 * -torch.expm1(-RATE * torch.tensor(t, dtype=torch.float64))).sqrt()
    )


@check(
    "000",
    right=lambda t: OU(RATE, NOISE).marginal(torch.full((1,), START, dtype=torch.float64), t),
    wrong=_unscaled,
    mistake="variance sigma^2 (1 - e^(-lambda t)), without the 2 lambda",
)
def law_of_ornstein_uhlenbeck(claim: Any) -> Outcome:
    """X_t ~ N(e^(-lambda t) x, sigma^2 (1 - e^(-2 lambda t)) / (2 lambda)) at every t."""
    found, exact = [], []
    for t in (0.1, 0.5, 2.0):
        law, spread = claim(t), wiener_integral(lambda s: NOISE * (-RATE * (t - s)).exp(), 0.0, t)  # noqa: B023
        found += [float(law.mean), float(law.std) ** 2]
        exact += [math.exp(-RATE * t) * START, float(spread.std) ** 2]
    computed, closed = (torch.tensor(numbers, dtype=torch.float64) for numbers in (found, exact))
    return exactly(computed, closed, 1e-9, "quadrature, settled to 1e-10 of the value")


@check("000", right=NOISE**2 / (2 * RATE), wrong=NOISE**2 / RATE, mistake="sigma^2 / lambda")
def stationary_law_of_ornstein_uhlenbeck(claim: Any) -> Outcome:
    """For t -> infinity the law is N(0, sigma^2 / (2 lambda)): the density that its Fokker-Planck
    equation leaves as it is."""
    grid = Grid(Axis(-3, 3, 400))
    found = FokkerPlanck(OU(RATE, NOISE), grid).stationary()
    law = Gaussian(torch.zeros(1), torch.tensor(claim, dtype=torch.float64).sqrt())
    exact = grid.evaluate(lambda x: law.log_prob(x).exp())
    return exactly(found, exact, 1e-3, "second order in the cell of 0.015, largest of 400 cells")


@check("000", right=lambda t: MultivariateOU(torch.tensor([[RATE]]), torch.tensor([NOISE])).entropy(t),
       wrong=lambda t: Brownian(0.0, NOISE).entropy(t),
       mistake="Brownian motion: without the pull its entropy grows like log t / 2")  # fmt: skip
def entropy_stays_bounded(claim: Any) -> Outcome:
    """The entropy of the Ornstein-Uhlenbeck process tends to log(2 pi e sigma^2 / (2 lambda)) / 2
    and does not diverge."""
    bound = math.log(2 * math.pi * math.e * NOISE**2 / (2 * RATE)) / 2
    return exactly(
        claim(20.0), bound, 1e-7, "rate and noise in float32; e^(-2 lambda t) at t = 20 is below it"
    )


CHECKS: tuple[Check, ...] = collected(globals())
"""In the order of the document."""
