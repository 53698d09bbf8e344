"""Document 002, second part: the chain of DDPM, its reverse conditionals and its evidence bound.

The chain has 10 steps, ``z_t = sqrt(1 - beta_t) z_{t-1} + sqrt(beta_t) eps``, with the products
``alpha_t = prod_{i <= t} (1 - beta_i)``. In the library it is `DiscreteVP`, whose step k is the
time k / 10. Ho, Jain and Abbeel 2020 (denoising diffusion probabilistic models).
"""

__all__: list[str] = []

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.app.verify.check import Outcome, check, estimated, exactly, float64
from ornstein.app.verify.problems import HALF, POINTS, ROUNDING, SAMPLES, SEED, TWO_MODES
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes import DiscreteVP
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import Noise
from ornstein.core.timesteps.spacing import uniform
from ornstein.inference.likelihood.elbo import elbo
from ornstein.reference.targets.mixtures import Normal

BETAS = torch.linspace(0.01, 0.25, 10, dtype=torch.float64)
CHAIN = DiscreteVP(BETAS.tolist())
ALPHAS = (1 - BETAS).cumprod(0)
BEFORE_HALF = torch.tensor(0.495, dtype=torch.float64)  # one of 200 steps before the middle
_NOISE = 2  # key that separates the added noise from the data of the same seed


def _time(k: int) -> Tensor:
    """Return the time of step k of the chain."""
    return torch.tensor(k / len(BETAS), dtype=torch.float64)


@check(
    "002",
    right=lambda v, b: (1 - b) * v + b,
    wrong=lambda v, b: v + b,
    mistake="noise added without shrinking what is there",
)
def closed_form_of_the_chain(claim: Any) -> Outcome:
    """The law of z_t given x is N(sqrt(alpha_t) x, 1 - alpha_t), with alpha_t = prod (1 - beta_i).

    The chain is z_t = sqrt(1 - beta_t) z_{t-1} + sqrt(beta_t) eps.
    """
    mean, variance = 1.0, 0.0
    computed: list[float] = []
    exact: list[float] = []
    for k, beta in enumerate(BETAS.tolist()):
        mean, variance = math.sqrt(1 - beta) * mean, claim(variance, beta)
        law = CHAIN.marginal(torch.ones(1, 1, dtype=torch.float64), _time(k + 1))
        computed += [float(law.mean), float(law.std) ** 2]
        exact += [mean, variance]
    return exactly(float64(computed), float64(exact), 1e-12, ROUNDING)


@check(
    "002",
    right=lambda k: BETAS[k] * (1 - ALPHAS[k - 1]) / (1 - ALPHAS[k]),
    wrong=lambda k: BETAS[k],
    mistake="variance beta_t, that of the forward step",
)
def reverse_conditional(claim: Any) -> Outcome:
    """q(z_{t-1} | z_t, x) is Gaussian and narrower than the forward step.

    Its variance is beta_t (1 - alpha_{t-1}) / (1 - alpha_t).
    """
    computed = torch.stack(
        [CHAIN.posterior(POINTS, 0 * POINTS, _time(k), _time(k + 1)).std ** 2 for k in range(1, 10)]
    )
    return exactly(
        computed.flatten(), torch.stack([claim(k) for k in range(1, 10)]), 1e-12, ROUNDING
    )


@check(
    "002",
    right=lambda law: law,
    wrong=lambda law: Gaussian(law.mean, BETAS[6].sqrt()),
    mistake="variance beta_t, as forwards",
)
def bayes_for_the_chain(claim: Any) -> Outcome:
    """Bayes' theorem: q(z_{t-1} | z_t, x) q(z_t | x) = q(z_t | z_{t-1}) q(z_{t-1} | x).

    It is true point by point.
    """
    s = _time(6)
    t = _time(7)
    x = torch.full_like(POINTS, 0.8)
    z_t = POINTS.flip(0)
    product = claim(CHAIN.posterior(z_t, x, s, t)).log_prob(POINTS) + CHAIN.marginal(x, t).log_prob(
        z_t
    )
    right = CHAIN.transition(POINTS, s, t).log_prob(z_t) + CHAIN.marginal(x, s).log_prob(POINTS)
    return exactly(product, right, 1e-11, ROUNDING)


@check("002", right=-1.0, wrong=1.0, mistake="the noise added in place of removed")
def posterior_mean_from_the_noise(claim: Any) -> Outcome:
    """The mean of q(z_{t-1} | z_t, x) is an expression in z_t and its noise eps.

    With z_t = sqrt(alpha_t) x + sqrt(1 - alpha_t) eps it is (z_t - beta_t eps / sqrt(1 - alpha_t))
    / sqrt(1 - beta_t).
    """
    k = 6
    eps = 0.7
    x = (POINTS - (1 - ALPHAS[k]).sqrt() * eps) / ALPHAS[k].sqrt()
    computed = CHAIN.posterior(POINTS, x, _time(k), _time(k + 1)).mean
    return exactly(
        computed,
        (POINTS + claim * BETAS[k] * eps / (1 - ALPHAS[k]).sqrt()) / (1 - BETAS[k]).sqrt(),
        1e-12,
        ROUNDING,
    )


@dataclass(frozen=True)
class _Expansion:
    """The mean ``z (1 + c beta / 2) + c beta grad log q(z)``, of order c = 0 or 1 in beta."""

    c: float

    def __call__(self, z: Tensor, score: Tensor, beta: float) -> Tensor:
        return z * (1 + self.c * beta / 2) + self.c * beta * score


@check(
    "002",
    right=_Expansion(1.0),
    wrong=_Expansion(0.0),
    mistake="printed: mean z_t, the zeroth order",
)
def small_variance_reverse_step(claim: Any) -> Outcome:
    """For small beta_t the reverse step q(z_{t-1} | z_t) has a mean that the score gives.

    It is z_t (1 + beta_t / 2) + beta_t grad log q(z_t).
    """
    beta = 1e-3
    chain = DiscreteVP([beta] * 200)
    posterior = TWO_MODES.posterior(chain)
    exact = chain.posterior(POINTS, posterior(POINTS, HALF), BEFORE_HALF, HALF).mean
    return exactly(
        claim(POINTS, Reverse(posterior).score(POINTS, HALF), beta),
        exact,
        20 * beta**2,
        "second order in beta_t = 0.001, 20 beta_t^2",
    )


@check("002", right=1.0, wrong=0.5, mistake="beta_t / 2")
def small_variance_reverse_spread(claim: Any) -> Outcome:
    """For small beta_t the variance of q(z_{t-1} | z_t) is beta_t, whatever the data."""
    beta = 1e-3
    chain = DiscreteVP([beta] * 200)
    clean = TWO_MODES.posterior(chain)(POINTS, HALF)
    computed = chain.posterior(POINTS, clean, BEFORE_HALF, HALF).std ** 2 / beta
    return exactly(computed, claim, 20 * beta, "first order in beta_t = 0.001, 20 beta_t")


@check(
    "002",
    right=lambda bound: bound.value,
    wrong=lambda bound: -(bound.diffusion + bound.reconstruction),
    mistake="printed: the sum over steps and the reconstruction, without KL(q(z_T | x) || p(z_T))",
)
def evidence_bound(claim: Any) -> Outcome:
    """log p(x) >= -(KL of the prior + sum of the KLs of the steps + reconstruction).

    The bound is an equality where the reverse kernels are exact.
    """
    data = Normal(torch.tensor([0.0]), torch.tensor([0.8]))  # Gaussian data: they are
    x = data.sample(16_000, SEED)
    bound = elbo(data.posterior(CHAIN), x, steps=len(BETAS), seed=SEED, repeats=2, spacing=uniform)
    return estimated(claim(bound) - data.log_prob(x), 0.0, SEED)


@check(
    "002",
    right=lambda k, s2: BETAS[k] ** 2 / (2 * s2 * (1 - BETAS[k]) * (1 - ALPHAS[k])),
    wrong=lambda k, s2: torch.ones(()),
    mistake="printed: the simplified loss, weight 1",
)
def weights_of_the_loss(claim: Any) -> Outcome:
    """A step costs beta_t^2 / (2 s_t^2 (1 - beta_t) (1 - alpha_t)) |eps - g|^2.

    These are the weights that the simplified loss drops.
    """
    computed: list[Tensor] = []
    exact: list[Tensor] = []
    off = 0.3  # by how much the guessed noise is wrong
    for k in range(1, 10):
        x = (POINTS - (1 - ALPHAS[k]).sqrt() * 0.7) / ALPHAS[k].sqrt()
        guess = (POINTS - (1 - ALPHAS[k]).sqrt() * (0.7 + off)) / ALPHAS[k].sqrt()
        law, model = (CHAIN.posterior(POINTS, x0, _time(k), _time(k + 1)) for x0 in (x, guess))
        computed.append(law.kl(model)[0])
        exact.append(claim(k, law.std.flatten()[0] ** 2) * off**2)
    return exactly(torch.stack(computed), torch.stack(exact), 1e-11, ROUNDING)


@check("002", right=1.0, wrong=0.0, mistake="0: the law of z_T taken for N(0, I)")
def chain_forgets_the_data(claim: Any) -> Outcome:
    """The law of z_t tends to N(0, I), but after T steps the divergence from it is not yet 0.

    It is alpha_T (|x|^2 - 1) / 2 - log(1 - alpha_T) / 2.
    """
    x = torch.full((1, 1), 1.5, dtype=torch.float64)
    computed = CHAIN.marginal(x, 1.0).kl(
        Gaussian(torch.zeros_like(x), torch.ones((), dtype=torch.float64))
    )
    exact = ALPHAS[-1] * (1.5**2 - 1) / 2 - torch.log1p(-ALPHAS[-1]) / 2
    return exactly(computed, claim * exact, 1e-12, ROUNDING)


@check("002", right=1.0, wrong=-1.0, mistake="the noise predicted with the wrong sign")
def decoder_predicts_the_noise(claim: Any) -> Outcome:
    """The best prediction of the noise is the conditional mean g(z_t, t) = E[eps | z_t].

    Its residual eps - g is uncorrelated with every function of z_t; this is tested with g.
    """
    t = _time(5)
    x = TWO_MODES.sample(SAMPLES, SEED, torch.float64)
    eps = Noise(SEED).fold(_NOISE).normal((SAMPLES, 1), torch.float64)
    z = CHAIN.marginal(x, t).draw(eps)
    g = (z - CHAIN.alpha(t) * TWO_MODES.posterior(CHAIN)(z, t).mean) / CHAIN.sigma(t)
    return estimated(((eps - claim * g) * g)[:, 0], 0.0, SEED)
