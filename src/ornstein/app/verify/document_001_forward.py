"""Document 001, first part: samples become noise by ``dX = -X dt + sigma(t) dB``, for any sigma(t).

The law of X(t) given the start is Gaussian with the mean ``e^(-t) x_0`` and the variance

    Sigma(t) = int_0^t e^(-2 (t - u)) sigma^2(u) du,                                             (1)

which the library integrates by Gauss-Legendre quadrature with 64 nodes. Densities are solved on
cells of width 0.03 with time steps of 0.01, both of second order.
"""

__all__: list[str] = []

import math
from typing import Any

import torch
from torch import Tensor

from ornstein.app.verify.check import Outcome, check, estimated, exactly
from ornstein.app.verify.problems import (
    CONSTANT_NOISE,
    DAMPED,
    GRID,
    QUADRATURE,
    SAMPLES,
    SEED,
    TWO_MODES,
)
from ornstein.core.methods import SRK, EulerMaruyama
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes import Damped
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import Noise
from ornstein.core.solvers.solve import solve
from ornstein.reference.targets.empirical import Empirical

EXPONENTIAL = Damped(torch.exp)
TIMES = torch.tensor([0.1, 0.7, 1.5, 3.0], dtype=torch.float64)
DATA = torch.tensor([[-1.5], [-0.2], [0.4], [2.0]], dtype=torch.float64)
X = torch.linspace(-3, 3, 25, dtype=torch.float64)[:, None]


def _uncontracted(sde: LinearSDE, x0: Tensor, t: float) -> Gaussian:
    """Return the printed kernel ``N(x_0, Sigma(t))``, whose mean is not contracted."""
    return Gaussian(x0, sde.sigma(t))


def _kernel(sde: LinearSDE, x0: Tensor, t: float) -> Gaussian:
    """Return the law of X(t) given ``X(0) = x0``."""
    return sde.marginal(x0, t)


@check(
    "001",
    right=_kernel,
    wrong=_uncontracted,
    mistake="printed: p_t(x | x_0) = N(x | x_0, Sigma(t)), the mean not contracted",
)
def mean_of_the_forward_process(claim: Any) -> Outcome:
    """The process X(t) started from x_0 has the mean m(t) = e^(-t) x_0."""
    start = torch.full((SAMPLES, 1), 2.0, dtype=torch.float64)
    computed = solve(DAMPED, start, [0.0, 1.0], SRK(), seed=SEED, dt=0.01)[-1]
    return estimated(computed[:, 0], float(claim(DAMPED, start, 1.0).mean[0]), SEED)


@check(
    "001",
    right=lambda t: 1.69 * -torch.expm1(-2 * t) / 2,
    wrong=lambda t: 1.69 * -torch.expm1(-t),
    mistake="e^(-(t - u)) in place of e^(-2 (t - u))",
)
def variance_for_constant_noise(claim: Any) -> Outcome:
    """The variance of the forward process is Sigma(t) = int_0^t e^(-2 (t - u)) sigma^2(u) du.

    For a constant sigma it is sigma^2 (1 - e^(-2 t)) / 2.
    """
    return exactly(CONSTANT_NOISE.sigma(TIMES).square(), claim(TIMES), 1e-12, QUADRATURE)


def _ramp_variance(t: Tensor) -> Tensor:
    """Return ``int_0^t e^{-2 (t - u)} (1/2 + u)^2 du`` in closed form."""
    return (0.5 + t).square() / 2 - (0.5 + t) / 2 + 0.25 - (-2 * t).exp() * (0.125 - 0.25 + 0.25)


@check(
    "001",
    right=_ramp_variance,
    wrong=lambda t: (0.5 + t).square() * -torch.expm1(-2 * t) / 2,
    mistake="sigma(t) frozen at its last value",
)
def variance_for_linear_noise(claim: Any) -> Outcome:
    """For sigma(u) = 1/2 + u the variance Sigma(t) is known in closed form.

    With s = 1/2 + u it is [s^2 / 2 - s / 2 + 1/4] at u = t less e^(-2 t) times the same at u = 0.
    """
    return exactly(DAMPED.sigma(TIMES).square(), claim(TIMES), 1e-12, QUADRATURE)


@check(
    "001",
    right=lambda t: (2 * t).sinh() / 2,
    wrong=lambda t: (2 * t).exp() / 4,
    mistake="the lower end of the integral forgotten",
)
def variance_for_exponential_noise(claim: Any) -> Outcome:
    """For sigma(u) = e^u the variance Sigma(t) is (e^(2 t) - e^(-2 t)) / 4."""
    return exactly(EXPONENTIAL.sigma(TIMES).square() / claim(TIMES), 1.0, 1e-12, QUADRATURE)


@check(
    "001",
    right=_ramp_variance,
    wrong=lambda t: ((0.5 + t) ** 3 - 0.125) / 3,
    mistake="int sigma^2 du: the noise never decays",
)
def noising_without_discretisation(claim: Any) -> Outcome:
    """X(t) can be drawn at any t in one step, without a discretisation.

    A fine discretisation of the equation has the same variance.
    """
    computed = solve(
        DAMPED,
        torch.zeros(SAMPLES, 1, dtype=torch.float64),
        [0.0, 1.5],
        EulerMaruyama(),
        seed=SEED,
        dt=0.005,
    )[-1]
    return estimated(computed[:, 0].square(), float(claim(TIMES[2:3])), SEED)


@check(
    "001",
    right=lambda s, t: DAMPED.alpha(t) / DAMPED.alpha(s),
    wrong=lambda s, t: DAMPED.alpha(t),
    mistake="decay counted from 0",
)
def one_jump_is_two(claim: Any) -> Outcome:
    """A jump of the forward process to t is a jump to s followed by one from s to t.

    Sigma(t) = e^(-2 (t - s)) Sigma(s) + variance of the noise since s.
    """
    s, t = TIMES[:-1], TIMES[1:]
    since = DAMPED.transition(torch.zeros(3, 1, dtype=torch.float64), s, t).std[:, 0]
    return exactly(
        (claim(s, t) * DAMPED.sigma(s)).square() + since.square(),
        DAMPED.sigma(t).square(),
        1e-11,
        QUADRATURE,
    )


@check("001", right=_kernel, wrong=_uncontracted, mistake="printed: the kernels centred at x_0")
def density_is_the_mixture_of_its_kernels(claim: Any) -> Outcome:
    """The density is a mixture of kernels, p_t(x) = int p_t(x | x_0) dP(x_0).

    For the empirical law of 4 points it is the mean of 4 Gaussians centred at e^(-t) x_i.
    """
    kernels = claim(DAMPED, DATA, 0.6)
    law = Gaussian(kernels.mean.T, kernels.std)
    exact = (-(X - law.mean).square() / (2 * law.std**2)).exp().mean(1) / (
        law.std * math.sqrt(2 * math.pi)
    )
    return exactly(
        Empirical(DATA).posterior(DAMPED).log_prob(X, 0.6).exp(), exact, 1e-12, QUADRATURE
    )


@check(
    "001",
    right=lambda p, x, t: Reverse(p).score(x, t),
    wrong=lambda p, x, t: -x / p.sde.sigma(t) ** 2,
    mistake="the score of N(0, Sigma(t)), that of no data",
)
def score_of_samples(claim: Any) -> Outcome:
    """The score s(t, x) = grad log p_t(x) of the empirical law of samples is known in closed form.

    It is (e^(-t) E[X_0 | X_t = x] - x) / Sigma(t).
    """
    posterior = Empirical(DATA).posterior(DAMPED)
    exact = torch.func.grad(lambda x: posterior.log_prob(x, 0.6).sum())(X)
    return exactly(
        claim(posterior, X, 0.6), exact, 1e-10, "automatic differentiation of log p_t, and rounding"
    )


@check(
    "001",
    right=lambda x0, t: math.exp(-t) * x0,
    wrong=lambda x0, t: x0,
    mistake="X_0 + sqrt(Sigma) eps, by the printed kernel",
)
def samples_of_the_noised_law(claim: Any) -> Outcome:
    """X(t) has the law of e^(-t) X_0 + sqrt(Sigma(t)) eps with X_0 ~ P.

    The second moment of such samples is that of the density p_t.
    """
    target = TWO_MODES
    t = 0.6
    eps = Noise(SEED).normal((SAMPLES, 1), torch.float64)
    computed = claim(target.sample(SAMPLES, SEED, torch.float64), t) + DAMPED.sigma(t) * eps
    density = GRID.evaluate(lambda x: target.posterior(DAMPED).log_prob(x, t).exp())
    return estimated(
        computed[:, 0].square(), float(GRID.integrate(density * GRID.centres[:, 0].square())), SEED
    )
