"""Document 003: schedules, denoising and ancestral sampling; the reverse equation and the
probability flow.

Data are a mixture of two Gaussians in one dimension unless a statement needs Gaussian data, for
which every step is exact.
"""

__all__ = ["CHECKS"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.app.verify.check import Check, Outcome, check, collected, estimated, exactly
from ornstein.app.verify.pictures import strong_errors
from ornstein.app.verify.problems import GAUSSIAN, GRID, TWO_MODES
from ornstein.calculus.integrals import adjoint_generator
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.core.methods import Ancestral, EulerMaruyama
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import LinearSDE, Time
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.schedules import VP, Cosine, FromCoefficients
from ornstein.core.processes.sde import Equation
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.inference.likelihood.probability_flow import log_likelihood
from ornstein.nets.layers import Fourier
from ornstein.reference.targets.mixtures import MixturePosterior
from ornstein.training.denoising import snr_weight, unit_weight

SEED, N = 0, 4000
ROUNDING = "rounding in float64"
AUTODIFF = "automatic differentiation, and rounding"
COSINE, LINEAR = Cosine(), VP()
Y = torch.linspace(-2, 2, 17, dtype=torch.float64)[:, None]
HALF = torch.tensor(0.5, dtype=torch.float64)


def _derivative(f: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    return torch.func.jvp(f, (t,), (torch.ones_like(t),))[1]


def _score(posterior: MixturePosterior, y: Tensor, t: Time) -> Tensor:
    """``grad log p_t`` by automatic differentiation."""
    return torch.func.grad(lambda x: posterior.log_prob(x, t).sum())(y)


@check("003", right=-2.0, wrong=2.0, mistake="sigma^2 = 2 beta beta' + 2 (alpha' / alpha) beta^2")
def coefficients_of_a_schedule(claim: Any) -> Outcome:
    """dY = mu Y ds + sigma dB with mu = alpha' / alpha, sigma^2 = 2 beta beta' - 2 (alpha' / alpha)
    beta^2 gives Y_t = alpha_t Y_0 + beta_t N, for the cosine and the linear schedule."""
    found, exact, t = [], [], torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    for sde in (COSINE, LINEAR):

        def mu(s: Tensor) -> Tensor:
            return _derivative(sde.alpha, s) / sde.alpha(s)  # noqa: B023

        def sigma(s: Tensor) -> Tensor:
            beta = sde.sigma(s)  # noqa: B023
            return (2 * beta * _derivative(sde.sigma, s) + claim * mu(s) * beta**2).abs().sqrt()  # noqa: B023

        process = FromCoefficients(mu, sigma)
        found += [process.alpha(t), process.sigma(t)]
        exact += [sde.alpha(t), sde.sigma(t)]
    return exactly(
        torch.stack(found),
        torch.stack(exact),
        1e-9,
        "Gauss-Legendre quadrature with 64 nodes, and rounding",
    )


@check(
    "003",
    right=-1.0,
    wrong=1.0,
    mistake="printed: (Y_t - alpha_t Y_0) / beta_t^2, without the minus sign",
)
def score_given_the_data(claim: Any) -> Outcome:
    """grad log p(Y_t | Y_0) = -(Y_t - alpha_t Y_0) / beta_t^2."""
    y0 = torch.full_like(Y, 0.8)
    found = torch.func.grad(lambda y: COSINE.marginal(y0, HALF).log_prob(y).sum())(Y)
    return exactly(
        found, claim * (Y - COSINE.alpha(HALF) * y0) / COSINE.sigma(HALF) ** 2, 1e-11, AUTODIFF
    )


def _noise_prediction(sde: LinearSDE, y: Tensor, t: Tensor) -> Tensor:
    """``Phi = E[N | Y_t]``, what the objective is minimised by."""
    return (y - sde.alpha(t) * TWO_MODES.posterior(sde)(y, t).mean) / sde.sigma(t)


@check(
    "003",
    right=-1.0,
    wrong=1.0,
    mistake="printed: grad log p ~ Phi / beta_t, without the minus sign",
)
def score_from_the_noise_prediction(claim: Any) -> Outcome:
    """grad log p_t = -Phi / beta_t for the minimiser Phi of the noise-prediction objective."""
    found = claim * _noise_prediction(COSINE, Y, HALF) / COSINE.sigma(HALF)
    return exactly(found, _score(TWO_MODES.posterior(COSINE), Y, HALF), 1e-10, AUTODIFF)


@check("003", right=-1.0, wrong=1.0, mistake="the predicted noise added")
def denoising(claim: Any) -> Outcome:
    """Y_0 ~ (Y_t - beta_t Phi) / alpha_t is the best guess: it is off by the posterior variance, on
    average, and by no more."""
    y0, n = (
        TWO_MODES.sample(N, SEED, torch.float64),
        Noise(SEED).fold(1).normal((N, 1), torch.float64),
    )
    y = COSINE.marginal(y0, HALF).draw(n)
    guess = (y + claim * COSINE.sigma(HALF) * _noise_prediction(COSINE, y, HALF)) / COSINE.alpha(
        HALF
    )
    variance = TWO_MODES.posterior(COSINE)(y, HALF).std.square()
    return estimated(((guess - y0).square() - variance)[:, 0], 0.0, SEED)


@check("003", right=snr_weight, wrong=unit_weight, mistake="the plain error of Y_0")
def noise_prediction_is_denoising(claim: Any) -> Outcome:
    """|N - Phi|^2 is a denoising objective: (alpha_t / beta_t)^2 times the squared error of the
    guess for Y_0."""
    y0, n, t = torch.full_like(Y, 0.8), Y.flip(0), HALF / 2
    y = COSINE.marginal(y0, t).draw(n)
    error = (TWO_MODES.posterior(COSINE)(y, t).mean - y0).square()
    return exactly(
        (n - _noise_prediction(COSINE, y, t)).square(), claim(COSINE, t) * error, 1e-11, ROUNDING
    )


@check(
    "003",
    right=lambda a, b: a - b,
    wrong=lambda a, b: a,
    mistake="features taken for independent of the other time",
)
def sinusoidal_embedding(claim: Any) -> Outcome:
    """Sinusoidal features know differences of time: the product of those of a and b, sum_k cos(w_k
    (a - b)), is that of a - b and 0."""
    a, b, features = torch.tensor([0.3, 1.2]), torch.tensor([-0.8, 0.9]), Fourier(64)
    found = (features(a) * features(b)).sum(1)
    return exactly(
        found, (features(claim(a, b)) * features(torch.zeros(2))).sum(1), 1e-4, "float32"
    )


def _theta(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients of ``Y_t`` and ``Y_0`` and the variance of Theta_{t,s}."""
    a_s, a_t, b_s, b_t = COSINE.alpha(s), COSINE.alpha(t), COSINE.sigma(s), COSINE.sigma(t)
    pull = b_s**2 * a_t / (b_t**2 * a_s)
    return pull, a_s - a_t * pull, b_s**2 - (a_t * b_s**2 / (a_s * b_t)) ** 2


def _unconditional(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return *_theta(s, t)[:2], COSINE.sigma(s) ** 2


S = torch.tensor([0.1, 0.3, 0.3, 0.6], dtype=torch.float64)
T = torch.tensor([0.9, 0.4, 0.8, 0.7], dtype=torch.float64)


@check(
    "003", right=_theta, wrong=_unconditional, mistake="variance beta_s^2, as if Y_t told nothing"
)
def theta_is_bayes(claim: Any) -> Outcome:
    """Y_s = Theta_{t,s}(Y_0, Y_t, N) for any s < t: its mean and variance are those of Bayes'
    theorem."""
    y0, yt = (
        torch.tensor([0.8, -1.0, 2.0, 0.3]).double()[:, None],
        torch.tensor([-0.4, 1.0, 0.2, 1.5]).double()[:, None],
    )
    law, (pull, keep, variance) = COSINE.posterior(yt, y0, S, T), claim(S, T)
    exact = torch.stack([pull * yt[:, 0] + keep * y0[:, 0], variance])
    return exactly(torch.stack([law.mean[:, 0], law.std[:, 0] ** 2]), exact, 1e-12, ROUNDING)


@check(
    "003", right=_theta, wrong=_unconditional, mistake="variance beta_s^2, as if Y_t told nothing"
)
def theta_composes(claim: Any) -> Outcome:
    """Theta_{t,s} followed by Theta_{s,r} is Theta_{t,r}: ancestral sampling may take any steps."""
    r, s, t = (torch.tensor(x, dtype=torch.float64) for x in (0.2, 0.5, 0.9))
    (p1, _, v1), (p2, _, v2) = claim(s, t), claim(r, s)
    law = COSINE.posterior(
        torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64), r, t
    )
    return exactly(
        torch.stack([p2 * p1, p2**2 * v1 + v2]),
        torch.stack([law.mean[0, 0], law.std.flatten()[0] ** 2]),
        1e-12,
        ROUNDING,
    )


@dataclass(frozen=True)
class _Point:
    """A posterior whose guess is taken for certain."""

    posterior: MixturePosterior

    @property
    def sde(self) -> LinearSDE:
        return self.posterior.sde

    def __call__(self, x: Tensor, t: Time) -> Gaussian:
        guess = self.posterior(x, t).mean
        return Gaussian(guess, torch.zeros((), dtype=x.dtype))


@check(
    "003",
    right=lambda posterior: posterior,
    wrong=_Point,
    mistake="printed: the prediction for Y_0, its variance dropped",
)
def ancestral_sampling(claim: Any) -> Outcome:
    """Y_s drawn from Theta_{t,s} with Y_0 from its law given Y_t has the law of the process: with
    Gaussian data 4 steps are exact."""
    start = Noise(SEED).normal((N, 1), torch.float64)
    found = simulate(
        Reverse(claim(GAUSSIAN.posterior(COSINE))), start, COSINE.times(4), Ancestral(), Noise(SEED)
    )
    return estimated(found[:, 0].square(), 0.36, SEED)


@check("003", right=0.5, wrong=1.0, mistake="order 1, that of Euler's method without noise")
def euler_maruyama(claim: Any) -> Outcome:
    """Euler-Maruyama converges: on geometric Brownian motion its error on a path falls as the
    square root of the step."""
    errors = strong_errors(EulerMaruyama(), (16, 32, 64, 128, 256), n=2000, seed=SEED)
    slope = -float((errors.log2().diff()).mean())
    return exactly(slope, claim, 0.1, f"slope over 5 step sizes, 2000 paths, seed {SEED}")


def _rate(posterior: MixturePosterior, t: Tensor) -> Tensor:
    """``d_t p_t`` at Y."""
    return _derivative(lambda s: posterior.log_prob(Y, s).exp(), t)


@dataclass(frozen=True)
class _Generating:
    """``dX = (c g^2 score - f X) ds + eta g dB`` in the time s = T - t, its coefficients read at
    t."""

    posterior: MixturePosterior
    c: float
    eta: float

    def drift(self, x: Tensor, t: Time) -> Tensor:
        sde = self.posterior.sde
        return self.c * sde.g2(t) * Reverse(self.posterior).score(x, t) - sde.f(t) * x

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        return self.eta * self.posterior.sde.diffusion(x, t)


@check("003", right=1.0, wrong=0.5, mistake="half of the score, which is that of the ODE")
def reverse_sde(claim: Any) -> Outcome:
    """dX = (sigma^2 grad log p_{Y_{T-s}} - mu X) ds + sigma dB has X_s ~ Y_{T-s}: its Fokker-Planck
    equation is that of Y backwards."""
    posterior = TWO_MODES.posterior(COSINE)
    found = adjoint_generator(
        lambda x: posterior.log_prob(x, HALF).exp(), _Generating(posterior, claim, 1.0)
    )(Y, HALF)
    return exactly(found, -_rate(posterior, HALF), 1e-10, AUTODIFF)


@check("003", right=0.5, wrong=1.0, mistake="the whole score, which is that of the SDE")
def probability_flow(claim: Any) -> Outcome:
    """dX = (sigma^2 grad log p_{Y_{T-s}} / 2 - mu X) ds, without noise, has the same marginals X_s
    ~ Y_{T-s}."""
    posterior = TWO_MODES.posterior(COSINE)
    found = adjoint_generator(
        lambda x: posterior.log_prob(x, HALF).exp(), _Generating(posterior, claim, 0.0)
    )(Y, HALF)
    return exactly(found, -_rate(posterior, HALF), 1e-10, AUTODIFF)


@dataclass(frozen=True)
class _Clocked:
    """An equation whose coefficients are read at another time."""

    sde: Equation
    clock: Callable[[Time], Time]

    def drift(self, x: Tensor, t: Time) -> Tensor:
        return self.sde.drift(x, self.clock(t))

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        return self.sde.diffusion(x, self.clock(t))


@check(
    "003",
    right=lambda t: t,
    wrong=lambda t: 1 - t,
    mistake="printed: sigma(s) and mu at s, the coefficients not reversed",
)
def coefficients_are_read_backwards(claim: Any) -> Outcome:
    """The coefficients of the reverse equation are those at T - s: then X_T has the law of the
    data."""
    sde = VP(0.1, 6.0)
    posterior, times = TWO_MODES.posterior(sde), torch.linspace(1.0, 0.0, 101, dtype=torch.float64)
    start = GRID.density(lambda x: posterior.log_prob(x, 1.0).exp())
    found = FokkerPlanck(_Clocked(Reverse(posterior), claim), GRID).solve(start, times)[-1]
    return exactly(
        found,
        GRID.evaluate(lambda x: TWO_MODES.log_prob(x).exp()),
        0.01,
        "second order in cells and steps, 400 cells",
    )


@check(
    "003",
    right=lambda found: found.value,
    wrong=lambda found: GAUSSIAN.log_prob(found.x_T),
    mistake="the density at the noise that belongs to x, without the integral of the divergence",
)
def likelihood_by_the_flow(claim: Any) -> Outcome:
    """As a continuous normalizing flow the ODE gives log p(x) = log p_T(x_T) + int div ds."""
    found = log_likelihood(TWO_MODES.posterior(LINEAR), Y, tol=1e-4)
    return exactly(claim(found), TWO_MODES.log_prob(Y), 5e-3, "steps of an error of 1e-4 each")


CHECKS: tuple[Check, ...] = collected(globals())
"""In the order of the document."""
