"""Document 003, second part: ancestral sampling, the reverse equation, and the probability flow.

Data are a mixture of two Gaussians in one dimension, or one Gaussian where a statement is about the
number of steps: for Gaussian data every ancestral step is exact.
"""

__all__: list[str] = []

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.app.verify.check import Outcome, check, estimated, exactly
from ornstein.app.verify.pictures import strong_errors
from ornstein.app.verify.problems import (
    COSINE,
    GAUSSIAN,
    HALF,
    POINTS,
    SAMPLES,
    SEED,
    TWO_MODES,
    PartialReverse,
    reversed_density,
    reversed_rate,
)
from ornstein.core.methods import Ancestral, EulerMaruyama
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes import VP
from ornstein.core.processes.linear import LinearSDE, Time
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.sde import Equation
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.inference.likelihood.probability_flow import log_likelihood
from ornstein.reference.targets.mixtures import MixturePosterior

LINEAR = VP()


@dataclass(frozen=True)
class _CertainGuess:
    """A wrong posterior that takes its mean for the data, with a variance of 0."""

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
    wrong=_CertainGuess,
    mistake="printed: the prediction for Y_0, its variance dropped",
)
def ancestral_sampling(claim: Any) -> Outcome:
    """Ancestral sampling has the law of the process, whatever the number of steps.

    Y_s is drawn from Theta_{t,s} with Y_0 from its law given Y_t; with Gaussian data 4 steps are
    exact.
    """
    start = Noise(SEED).normal((SAMPLES, 1), torch.float64)
    computed = simulate(
        Reverse(claim(GAUSSIAN.posterior(COSINE))), start, COSINE.times(4), Ancestral(), Noise(SEED)
    )
    return estimated(computed[:, 0].square(), 0.36, SEED)


@check("003", right=0.5, wrong=1.0, mistake="order 1, that of Euler's method without noise")
def euler_maruyama(claim: Any) -> Outcome:
    """Euler-Maruyama converges with strong order 1/2 on geometric Brownian motion.

    Its error on a path falls as the square root of the step.
    """
    errors = strong_errors(EulerMaruyama(), (16, 32, 64, 128, 256), n=2000, seed=SEED)
    slope = -float((errors.log2().diff()).mean())
    return exactly(slope, claim, 0.1, f"slope over 5 step sizes, 2000 paths, seed {SEED}")


@check("003", right=1.0, wrong=0.5, mistake="half of the score, which is that of the ODE")
def reverse_sde(claim: Any) -> Outcome:
    """The reverse SDE dX = (sigma^2 grad log p_{Y_{T-s}} - mu X) ds + sigma dB has X_s ~ Y_{T-s}.

    Its Fokker-Planck equation is that of Y backwards.
    """
    return reversed_rate(PartialReverse(TWO_MODES.posterior(COSINE), claim), POINTS, HALF)


@check("003", right=0.5, wrong=1.0, mistake="the whole score, which is that of the SDE")
def probability_flow(claim: Any) -> Outcome:
    """The probability-flow ODE has the same marginals X_s ~ Y_{T-s} as the reverse SDE.

    It is dX = (sigma^2 grad log p_{Y_{T-s}} / 2 - mu X) ds, without noise.
    """
    equation = PartialReverse(TWO_MODES.posterior(COSINE), claim, eta=0.0)
    return reversed_rate(equation, POINTS, HALF)


@dataclass(frozen=True)
class _Clocked:
    """A wrong equation, the coefficients of which are evaluated at another time."""

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
    """The coefficients of the reverse equation are those at T - s.

    Then X_T has the law of the data.
    """
    posterior = TWO_MODES.posterior(VP(0.1, 6.0))
    return reversed_density(_Clocked(Reverse(posterior), claim), posterior)


@check(
    "003",
    right=lambda likelihood: likelihood.value,
    wrong=lambda likelihood: GAUSSIAN.log_prob(likelihood.x_T),
    mistake="the density at the noise that belongs to x, without the integral of the divergence",
)
def likelihood_by_the_flow(claim: Any) -> Outcome:
    """As a continuous normalizing flow the ODE gives log p(x) = log p_T(x_T) + int div ds."""
    computed = log_likelihood(TWO_MODES.posterior(LINEAR), POINTS, tol=1e-4)
    return exactly(
        claim(computed), TWO_MODES.log_prob(POINTS), 5e-3, "steps of an error of 1e-4 each"
    )
