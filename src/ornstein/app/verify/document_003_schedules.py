"""Document 003, first part: schedules, noise prediction, and the law of Y_s given Y_0 and Y_t.

The noising process is ``Y_t = alpha_t Y_0 + beta_t N``. Data are a mixture of two Gaussians in one
dimension; `COSINE` is the usual schedule.
"""

__all__: list[str] = []

from typing import Any

import torch
from torch import Tensor

from ornstein.app.verify.check import Outcome, check, estimated, exactly
from ornstein.app.verify.problems import (
    AUTODIFF,
    COSINE,
    HALF,
    POINTS,
    QUADRATURE,
    ROUNDING,
    SAMPLES,
    SEED,
    TWO_MODES,
    time_derivative,
)
from ornstein.core.processes import VP, FromCoefficients
from ornstein.core.processes.linear import LinearSDE, Time
from ornstein.core.random.noise import Noise
from ornstein.nets.layers import Fourier
from ornstein.reference.targets.mixtures import MixturePosterior
from ornstein.training.denoising import snr_weight, unit_weight

LINEAR = VP()


def _score(posterior: MixturePosterior, y: Tensor, t: Time) -> Tensor:
    """Return ``grad log p_t`` at y by automatic differentiation."""
    return torch.func.grad(lambda x: posterior.log_prob(x, t).sum())(y)


@check("003", right=-2.0, wrong=2.0, mistake="sigma^2 = 2 beta beta' + 2 (alpha' / alpha) beta^2")
def coefficients_of_a_schedule(claim: Any) -> Outcome:
    """A schedule alpha, beta is the law of dY = mu Y ds + sigma dB for one mu and one sigma.

    With mu = alpha' / alpha, sigma^2 = 2 beta beta' - 2 (alpha' / alpha) beta^2 the process is Y_t
    = alpha_t Y_0 + beta_t N, for the cosine and the linear schedule.
    """
    computed: list[Tensor] = []
    exact: list[Tensor] = []
    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    for sde in (COSINE, LINEAR):

        def mu(s: Tensor) -> Tensor:
            return time_derivative(sde.alpha, s) / sde.alpha(s)  # noqa: B023

        def sigma(s: Tensor) -> Tensor:
            beta = sde.sigma(s)  # noqa: B023
            growth = 2 * beta * time_derivative(sde.sigma, s)  # noqa: B023
            return (growth + claim * mu(s) * beta**2).abs().sqrt()

        process = FromCoefficients(mu, sigma)
        computed += [process.alpha(t), process.sigma(t)]
        exact += [sde.alpha(t), sde.sigma(t)]
    return exactly(torch.stack(computed), torch.stack(exact), 1e-9, QUADRATURE)


@check(
    "003",
    right=-1.0,
    wrong=1.0,
    mistake="printed: (Y_t - alpha_t Y_0) / beta_t^2, without the minus sign",
)
def score_given_the_data(claim: Any) -> Outcome:
    """The score given the data is grad log p(Y_t | Y_0) = -(Y_t - alpha_t Y_0) / beta_t^2."""
    y0 = torch.full_like(POINTS, 0.8)
    computed = torch.func.grad(lambda y: COSINE.marginal(y0, HALF).log_prob(y).sum())(POINTS)
    return exactly(
        computed,
        claim * (POINTS - COSINE.alpha(HALF) * y0) / COSINE.sigma(HALF) ** 2,
        1e-11,
        AUTODIFF,
    )


def _noise_prediction(sde: LinearSDE, y: Tensor, t: Tensor) -> Tensor:
    """Return ``Phi = E[N | Y_t]``, which minimises the noise-prediction objective."""
    return (y - sde.alpha(t) * TWO_MODES.posterior(sde)(y, t).mean) / sde.sigma(t)


@check(
    "003",
    right=-1.0,
    wrong=1.0,
    mistake="printed: grad log p ~ Phi / beta_t, without the minus sign",
)
def score_from_the_noise_prediction(claim: Any) -> Outcome:
    """grad log p_t = -Phi / beta_t for the minimiser Phi of the noise-prediction objective."""
    computed = claim * _noise_prediction(COSINE, POINTS, HALF) / COSINE.sigma(HALF)
    return exactly(computed, _score(TWO_MODES.posterior(COSINE), POINTS, HALF), 1e-10, AUTODIFF)


@check("003", right=-1.0, wrong=1.0, mistake="the predicted noise added")
def denoising(claim: Any) -> Outcome:
    """The best guess for the data is Y_0 ~ (Y_t - beta_t Phi) / alpha_t.

    On average its squared error is the posterior variance.
    """
    y0 = TWO_MODES.sample(SAMPLES, SEED, torch.float64)
    n = Noise(SEED).fold(1).normal((SAMPLES, 1), torch.float64)
    y = COSINE.marginal(y0, HALF).draw(n)
    guess = (y + claim * COSINE.sigma(HALF) * _noise_prediction(COSINE, y, HALF)) / COSINE.alpha(
        HALF
    )
    variance = TWO_MODES.posterior(COSINE)(y, HALF).std.square()
    return estimated(((guess - y0).square() - variance)[:, 0], 0.0, SEED)


@check("003", right=snr_weight, wrong=unit_weight, mistake="the plain error of Y_0")
def noise_prediction_is_denoising(claim: Any) -> Outcome:
    """The error |N - Phi|^2 of a noise prediction is a denoising objective.

    It is (alpha_t / beta_t)^2 times the squared error of the guess for Y_0.
    """
    y0 = torch.full_like(POINTS, 0.8)
    n = POINTS.flip(0)
    t = HALF / 2
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
    """The product of the sinusoidal features of two times depends on their difference only.

    The product of those of a and b, sum_k cos(w_k (a - b)), is that of a - b and 0.
    """
    a = torch.tensor([0.3, 1.2])
    b = torch.tensor([-0.8, 0.9])
    features = Fourier(64)
    computed = (features(a) * features(b)).sum(1)
    return exactly(
        computed, (features(claim(a, b)) * features(torch.zeros(2))).sum(1), 1e-4, "float32"
    )


def _theta(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the coefficients of ``Y_t`` and of ``Y_0`` and the variance of Theta_{t,s}."""
    a_s, a_t, b_s, b_t = COSINE.alpha(s), COSINE.alpha(t), COSINE.sigma(s), COSINE.sigma(t)
    from_y_t = b_s**2 * a_t / (b_t**2 * a_s)
    return from_y_t, a_s - a_t * from_y_t, b_s**2 - (a_t * b_s**2 / (a_s * b_t)) ** 2


def _unconditional(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the coefficients of Theta_{t,s} with the variance of Y_s given Y_0 alone."""
    return *_theta(s, t)[:2], COSINE.sigma(s) ** 2


EARLIER = torch.tensor([0.1, 0.3, 0.3, 0.6], dtype=torch.float64)
LATER = torch.tensor([0.9, 0.4, 0.8, 0.7], dtype=torch.float64)


@check(
    "003", right=_theta, wrong=_unconditional, mistake="variance beta_s^2, as if Y_t said nothing"
)
def theta_is_bayes(claim: Any) -> Outcome:
    """Y_s = Theta_{t,s}(Y_0, Y_t, N) for any s < t is a draw by Bayes' theorem.

    Its mean and its variance are those of Y_s given Y_0 and Y_t.
    """
    y0 = torch.tensor([0.8, -1.0, 2.0, 0.3]).double()[:, None]
    yt = torch.tensor([-0.4, 1.0, 0.2, 1.5]).double()[:, None]
    law = COSINE.posterior(yt, y0, EARLIER, LATER)
    from_y_t, from_y_0, variance = claim(EARLIER, LATER)
    exact = torch.stack([from_y_t * yt[:, 0] + from_y_0 * y0[:, 0], variance])
    return exactly(torch.stack([law.mean[:, 0], law.std[:, 0] ** 2]), exact, 1e-12, ROUNDING)


@check(
    "003", right=_theta, wrong=_unconditional, mistake="variance beta_s^2, as if Y_t said nothing"
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
