"""Document 001, second part: noise becomes samples by time reversal, and what the start costs.

The reverse of ``dX = -X dt + sigma(t) dB`` needs the score of its density (Anderson 1982). It
starts from a Gaussian in place of the law of X(T); the difference of both is a Kullback-Leibler
divergence that decays exponentially in T.
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
    HALF,
    SAMPLES,
    SECOND_ORDER,
    SEED,
    TWO_MODES,
    PartialReverse,
    reversed_density,
    reversed_rate,
)
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.core.methods import EulerMaruyama
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes import Damped
from ornstein.core.processes.sde import SDE
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.inference.likelihood.probability_flow import log_likelihood
from ornstein.reference.targets.mixtures import Normal

X = torch.linspace(-3, 3, 25, dtype=torch.float64)[:, None]


@check("001", right=0.5, wrong=1.0, mistake="B = sigma^2 in place of sigma^2 / 2")
def forward_density_moves_by_fokker_planck(claim: Any) -> Outcome:
    """The density of the forward process solves d_t p = d_x (x p) + sigma^2(t) / 2 d_xx p."""
    posterior = TWO_MODES.posterior(DAMPED)
    equation = SDE(DAMPED.drift, lambda x, t: DAMPED.diffusion(x, t) * math.sqrt(2 * claim))
    times = torch.linspace(0, 1, 101, dtype=torch.float64)
    computed = FokkerPlanck(equation, GRID).solve(
        GRID.evaluate(lambda x: TWO_MODES.log_prob(x).exp()), times
    )[-1]
    return exactly(
        computed, GRID.evaluate(lambda x: posterior.log_prob(x, 1.0).exp()), 1e-3, SECOND_ORDER
    )


@check(
    "001",
    right=1.0,
    wrong=0.5,
    mistake="half of the score, which is that of the ODE, together with the noise",
)
def time_reversal_of_the_density(claim: Any) -> Outcome:
    """Anderson's reverse equation, started from P(T), has the law P(T - t); at the end it is P.

    It is dX^ = [X^ + sigma^2(T - t) s(T - t, X^)] dt + sigma(T - t) dB.
    """
    posterior = TWO_MODES.posterior(DAMPED)
    return reversed_density(PartialReverse(posterior, claim), posterior)


@check(
    "001",
    right=1.0,
    wrong=0.5,
    mistake="half of the score, which is that of the ODE, together with the noise",
)
def time_reversal_of_the_samples(claim: Any) -> Outcome:
    """The reverse equation solved by Euler-Maruyama ends in samples of the data.

    Their second moment is that of the data.
    """
    target = TWO_MODES
    start = DAMPED.marginal(target.sample(SAMPLES, SEED, torch.float64), 1.0).draw(
        Noise(SEED).fold(1).normal((SAMPLES, 1), torch.float64)
    )
    times = torch.linspace(1.0, 0.005, 200, dtype=torch.float64)
    computed = simulate(
        PartialReverse(target.posterior(DAMPED), claim), start, times, EulerMaruyama(), Noise(SEED)
    )
    return estimated(
        computed[:, 0].square(), float(target.std.square() + target.mean.square()), SEED
    )


@check("001", right=1.0, wrong=-1.0, mistake="s taken for -grad log p")
def time_reversal_point_by_point(claim: Any) -> Outcome:
    """The adjoint generator of the reverse equation applied to p_t is -d_t p_t, point by point.

    This proves the time reversal.
    """
    return reversed_rate(PartialReverse(TWO_MODES.posterior(DAMPED), claim), X, HALF)


def _shifted_normal() -> Normal:
    """Return the data ``N(1.5, 0.6^2)``, whose mean is not 0."""
    return Normal(torch.tensor([1.5]), torch.tensor([0.6]))


@check("001", right=1.0, wrong=0.0, mistake="the start N(0, Sigma(T)) taken for exact")
def price_of_the_start(claim: Any) -> Outcome:
    """Starting from N(0, Sigma(T)) costs the divergence KL(P(T) || N(0, Sigma(T))).

    It is a finite number: the start drops e^(-2T) Cov(X_0) and e^(-T) E[X_0].
    """
    target = _shifted_normal()
    T = 1.0
    law = DAMPED.marginal(target.means, T)
    end = Gaussian(law.mean, torch.hypot(law.std, DAMPED.alpha(T) * target.stds))
    start = Gaussian(torch.zeros_like(law.mean), DAMPED.sigma(T))
    p = GRID.evaluate(lambda x: target.posterior(DAMPED).log_prob(x, T).exp())
    ratio = GRID.evaluate(lambda x: target.posterior(DAMPED).log_prob(x, T) - start.log_prob(x))
    return exactly(
        end.kl(start),
        claim * GRID.integrate(p * ratio),
        1e-6,
        "rectangles on 400 cells, of any order",
    )


@check("001", right=2, wrong=1, mistake="e^(-T), the rate of the mean itself")
def start_is_forgotten_exponentially(claim: Any) -> Outcome:
    """The law P(T) tends to N(0, Sigma(T)) exponentially fast.

    The part of the divergence that comes from the mean falls as e^(-2T).
    """

    def divergence(T: float) -> Tensor:
        law = CONSTANT_NOISE.marginal(torch.full((1, 1), 1.5, dtype=torch.float64), T)
        return law.kl(Gaussian(torch.zeros_like(law.mean), law.std))

    return exactly(
        (divergence(6.0) / divergence(5.0)).log(),
        -claim,
        1e-3,
        "Sigma(T) still grows by e^(-2T), here 5e-5 of itself",
    )


@check("001", right=1.0, wrong=0.0, mistake="no loss reported")
def prior_gap_is_reported(claim: Any) -> Outcome:
    """The library reports the divergence of the start law from P(T) with each likelihood.

    For a start with the variance of the data it is e^(-2T) E[X_0]^2 / (2 Var X(T)).
    """
    target = _shifted_normal()
    sde = Damped(lambda u: 0.5 + u, T=1.0)
    x = torch.zeros(1, 1, dtype=torch.float64)
    computed = log_likelihood(target.posterior(sde), x, tol=1e-2, refine=False).prior_gap
    exact = (math.exp(-1.0) * 1.5) ** 2 / (2 * float(sde.prior((1, 1), 0.36).std) ** 2)
    return exactly(computed, claim * exact, 1e-5, "data in float32")
