"""Document 002: from the random walk over the heat equation and Fokker-Planck to the chain of DDPM
and its bound."""

__all__ = ["CHECKS"]

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.app.verify.check import Check, Outcome, check, collected, estimated, exactly
from ornstein.app.verify.problems import TWO_MODES
from ornstein.calculus.laws import Brownian
from ornstein.calculus.laws.displacement import (
    estimate_diffusion_constant,
    mean_squared_displacement,
)
from ornstein.calculus.laws.heat import Ring, kernel
from ornstein.calculus.laws.random_walk import RandomWalk
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.calculus.pde.grid import Axis, Grid
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.reference import OU
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.schedules import DiscreteVP
from ornstein.core.processes.sde import SDE
from ornstein.core.random.noise import Noise
from ornstein.core.solvers.exact import sample_exact
from ornstein.core.timesteps.spacing import uniform
from ornstein.inference.likelihood.elbo import elbo
from ornstein.reference.targets.mixtures import Normal

SEED = 0
ROUNDING = "rounding in float64"
WALK = RandomWalk(0.2, 0.5, delta=0.5, tau=0.25)  # p left, q right
MIRRORED = RandomWalk(0.5, 0.2, delta=0.5, tau=0.25)
K = 20
BETAS = torch.linspace(0.01, 0.25, 10, dtype=torch.float64)
CHAIN = DiscreteVP(BETAS.tolist())
ALPHAS = (1 - BETAS).cumprod(0)
Z = torch.linspace(-2, 2, 17, dtype=torch.float64)[:, None]


def _time(k: int) -> Tensor:
    """Time of step k of the chain."""
    return torch.tensor(k / len(BETAS), dtype=torch.float64)


@check(
    "002",
    right=WALK,
    wrong=MIRRORED,
    mistake="p and q exchanged: q is the probability of a jump to the right",
)
def mean_displacement(claim: Any) -> Outcome:
    """A step has the mean displacement delta (q - p)."""
    return exactly(
        WALK.law(K) @ WALK.sites(K), K * claim.delta * (claim.q - claim.p), 1e-12, ROUNDING
    )


@check("002", right=0.7 - 0.3**2, wrong=0.7, mistake="delta^2 (p + q), the rate of continuous time")
def variance_of_a_step(claim: Any) -> Outcome:
    """In discrete time a step has the variance delta^2 (p + q - (q - p)^2)."""
    law, x = WALK.law(K), WALK.sites(K)
    return exactly(law @ x.square() - (law @ x) ** 2, K * 0.25 * claim, 1e-11, ROUNDING)


@check("002", right=WALK, wrong=MIRRORED, mistake="p and q exchanged")
def markov_recurrence(claim: Any) -> Outcome:
    """C_i(t + 1) = q C_{i-1}(t) + p C_{i+1}(t) + (1 - p - q) C_i(t)."""
    return exactly(claim.step(WALK.law(K)), WALK.law(K + 1), 1e-14, ROUNDING)


@check("002", right=1.0, wrong=2.0, mistake="the second difference without its half")
def drift_and_spread(claim: Any) -> Outcome:
    """C(t + 1) - C(t) = (p - q) / 2 (C_{i+1} - C_{i-1}) + (p + q) / 2 (C_{i+1} - 2 C_i + C_{i-1}):
    drift and diffusion."""
    drift, spread = WALK.parts(WALK.law(K))
    return exactly(
        drift + claim * spread,
        WALK.law(K + 1) - torch.nn.functional.pad(WALK.law(K), (1, 1)),
        1e-14,
        ROUNDING,
    )


@check("002", right=WALK, wrong=MIRRORED, mistake="p and q exchanged")
def counts_of_many_walkers(claim: Any) -> Outcome:
    """Of N walkers n_i = N C_i are at site i: chi^2 of 1e8 walkers after 20 steps is its number of
    degrees of freedom."""
    start = torch.zeros(1, 1, dtype=torch.long) + 10**8
    counts, expected = WALK.evolve(start, K, SEED)[0].double(), 1e8 * claim.law(K)
    kept = expected > 10
    freedom = int(kept.sum()) - 1
    chi2 = ((counts - expected).square() / expected)[kept].sum()
    return exactly(
        chi2,
        freedom,
        4 * math.sqrt(2 * freedom),
        f"4 sd of chi^2 with {freedom} degrees of freedom, seed {SEED}",
    )


@check("002", right=1.0, wrong=0.0, mistake="counts taken for independent")
def counts_are_multinomial(claim: Any) -> Outcome:
    """The counts of two sites have the covariance -N C_i C_j."""
    n, k = 1000, 2
    counts, cov = WALK.counts(n, k, SEED, replicas=2000).double(), WALK.count_covariance(n, k)
    centred = counts - n * WALK.law(k)
    return estimated(centred[:, 2] * centred[:, 3], claim * float(cov[2, 3]), SEED)


@check("002", right=0.25, wrong=1.0, mistake="tau forgotten")
def master_equation(claim: Any) -> Outcome:
    """tau d/dt C_i = (p - q) / 2 (C_{i+1} - C_{i-1}) + (p + q) / 2 (C_{i+1} - 2 C_i + C_{i-1})."""
    t, h, reach = 2.0, 1e-4, 80
    rate = (WALK.law_at(t + h, reach) - WALK.law_at(t - h, reach)) / (2 * h)
    drift, spread = WALK.parts(WALK.law_at(t, reach))
    return exactly(
        claim * rate,
        (drift + spread)[1:-1],
        1e-7,
        "central difference in time, second order in 1e-4",
    )


@check("002", right=lambda d, D, tau: d**2 * D / tau, wrong=lambda d, D, tau: d**2 * D / (2 * tau),
       mistake="printed: D = delta^2 D~ / (2 tau) for p = q = D~")  # fmt: skip
def diffusion_constant(claim: Any) -> Outcome:
    """Without drift, p = q = D~, the variance grows as 2 D t with D = delta^2 (p + q) / (2 tau) =
    delta^2 D~ / tau."""
    walk, t = RandomWalk(0.3, 0.3, delta=0.5, tau=0.25), 2.0
    law = walk.law_at(t, 80)
    return exactly(law @ walk.sites(80).square() / (2 * t), claim(0.5, 0.3, 0.25), 1e-11, ROUNDING)


@check(
    "002",
    right=lambda walk: walk.diffusion,
    wrong=lambda walk: walk.diffusion / 2,
    mistake="printed: half of it",
)
def limit_in_space(claim: Any) -> Outcome:
    """For small delta and tau the law becomes the heat kernel with D = delta^2 (p + q) / (2 tau)
    and drift delta (q - p) / tau."""
    walk, t = RandomWalk.towards(0.5, 0.4, delta=0.05), 1.0
    k = round(t / walk.tau)
    x = walk.sites(k)
    density = kernel(x, k * walk.tau, claim(walk), walk.velocity)
    return exactly(walk.law(k) / walk.delta, density, 1e-3, "second order in delta = 0.05")


@check("002", right=1.0, wrong=0.5, mistake="exp(-x^2 / (2 D t)) / sqrt(2 pi D t), of variance D t")
def heat_kernel(claim: Any) -> Outcome:
    """C(x, t) = exp(-x^2 / (4 D t)) / sqrt(4 pi D t) solves d_t C = D d_xx C."""
    D, t, h = 0.7, 0.8, 1e-4
    slope = torch.func.grad(lambda x: kernel(x, t, claim * D).sum())
    curvature = torch.func.grad(lambda x: slope(x).sum())(Z[:, 0])
    rate = (kernel(Z[:, 0], t + h, claim * D) - kernel(Z[:, 0], t - h, claim * D)) / (2 * h)
    return exactly(rate, D * curvature, 1e-7, "central difference in time, second order in 1e-4")


@check("002", right=2, wrong=1, mistake="F' = -D k F, one derivative instead of two")
def fourier_modes_decay(claim: Any) -> Outcome:
    """The Fourier transform turns the equation into F' = -D k^2 F: each mode decays on its own."""
    ring, k, t = Ring(0.3, 0.0, 2 * math.pi), 3, 0.5
    x = 2 * math.pi * torch.arange(64, dtype=torch.float64) / 64
    return exactly(
        ring.evolve((k * x).cos(), t),
        math.exp(-0.3 * k**claim * t) * (k * x).cos(),
        1e-12,
        ROUNDING,
    )


@check(
    "002", right=2 * math.pi, wrong=1.0, mistake="printed: f = int e^(ikx) F dk, without 1 / (2 pi)"
)
def fourier_inverse(claim: Any) -> Outcome:
    """With F = int e^(-ikx) f dx the inverse is f = 1 / (2 pi) int e^(ikx) F dk: of exp(-D k^2 t)
    it is the heat kernel."""
    D, t = 0.7, 0.8
    k = torch.linspace(-30, 30, 3001, dtype=torch.float64)
    found = torch.trapezoid((k * Z).cos() * (-D * k.square() * t).exp(), k, dim=1) / claim
    return exactly(
        found, kernel(Z[:, 0], t, D), 1e-12, "trapezoidal rule on 3001 points, of any order"
    )


@check("002", right=2.0, wrong=1.0, mistake="D t, as if Einstein's formula had no 2")
def mean_squared_displacement_is_linear(claim: Any) -> Outcome:
    """The mean squared displacement grows linearly, E (X_t - X_0)^2 = 2 D t."""
    D, times = 0.7, torch.linspace(0, 2, 21, dtype=torch.float64)
    paths = sample_exact(
        Brownian(0.0, math.sqrt(2 * D)), torch.zeros(4000, 1, dtype=torch.float64), times, SEED
    )
    found = mean_squared_displacement(paths.movedim(0, 1), 0.1, [20])
    return Outcome(
        float(found.value),
        claim * D * 2.0,
        4 * float(found.stderr),
        f"4 standard errors, 4000 paths, seed {SEED}",
    )


@check("002", right=0.7, wrong=0.35, mistake="printed: half of D")
def diffusion_constant_from_data(claim: Any) -> Outcome:
    """D can be read off trajectories: variance of the increments over 2 dt, with its error."""
    times = torch.linspace(0, 2, 21, dtype=torch.float64)
    paths = sample_exact(
        Brownian(0.4, math.sqrt(1.4)), torch.zeros(400, 1, dtype=torch.float64), times, SEED
    )
    found = estimate_diffusion_constant(paths.movedim(0, 1), 0.1)
    return Outcome(
        found.diffusion,
        claim,
        4 * found.diffusion_stderr,
        f"4 standard errors, {found.increments} increments, seed {SEED}",
    )


@check(
    "002",
    right=lambda sigma: sigma**2 / 2,
    wrong=lambda sigma: sigma**2,
    mistake="printed: B = sigma^2",
)
def fokker_planck_of_ornstein_uhlenbeck(claim: Any) -> Outcome:
    """d_t f = -d_x (A f) + d_xx (B f) with A = -gamma x, B = sigma^2 / 2 has the law of dx = -gamma
    x dt + sigma dW."""
    gamma, sigma, start = 1.5, 0.7, Normal(torch.tensor([1.5]), torch.tensor([0.3]))
    grid = Grid(Axis(-4, 4, 200))
    equation = SDE(
        lambda x, t: -gamma * x, lambda x, t: torch.full_like(x, math.sqrt(2 * claim(sigma)))
    )
    found = FokkerPlanck(equation, grid).solve(
        grid.density(lambda x: start.log_prob(x).exp()), torch.tensor([0.0, 0.5, 1.0])
    )[-1]
    exact = grid.evaluate(lambda x: start.posterior(OU(gamma, sigma)).log_prob(x, 1.0).exp())
    return exactly(found, exact, 0.02, "second order in the cell of 0.04, largest of 200 cells")


@check(
    "002",
    right=lambda v, b: (1 - b) * v + b,
    wrong=lambda v, b: v + b,
    mistake="noise added without shrinking what is there",
)
def closed_form_of_the_chain(claim: Any) -> Outcome:
    """z_t = sqrt(1 - beta_t) z_{t-1} + sqrt(beta_t) eps has z_t | x ~ N(sqrt(alpha_t) x, 1 -
    alpha_t), alpha_t = prod (1 - beta_i)."""
    mean, variance, found, exact = 1.0, 0.0, [], []
    for k, beta in enumerate(BETAS.tolist()):
        mean, variance = math.sqrt(1 - beta) * mean, claim(variance, beta)
        law = CHAIN.marginal(torch.ones(1, 1, dtype=torch.float64), _time(k + 1))
        found += [float(law.mean), float(law.std) ** 2]
        exact += [mean, variance]
    return exactly(
        torch.tensor(found, dtype=torch.float64),
        torch.tensor(exact, dtype=torch.float64),
        1e-12,
        ROUNDING,
    )


@check(
    "002",
    right=lambda k: BETAS[k] * (1 - ALPHAS[k - 1]) / (1 - ALPHAS[k]),
    wrong=lambda k: BETAS[k],
    mistake="variance beta_t, that of the forward step",
)
def reverse_conditional(claim: Any) -> Outcome:
    """q(z_{t-1} | z_t, x) is Gaussian with the variance beta_t (1 - alpha_{t-1}) / (1 -
    alpha_t)."""
    found = torch.stack(
        [CHAIN.posterior(Z, 0 * Z, _time(k), _time(k + 1)).std ** 2 for k in range(1, 10)]
    )
    return exactly(found.flatten(), torch.stack([claim(k) for k in range(1, 10)]), 1e-12, ROUNDING)


@check(
    "002",
    right=lambda law: law,
    wrong=lambda law: Gaussian(law.mean, BETAS[6].sqrt()),
    mistake="variance beta_t, as forwards",
)
def bayes_for_the_chain(claim: Any) -> Outcome:
    """q(z_{t-1} | z_t, x) q(z_t | x) = q(z_t | z_{t-1}) q(z_{t-1} | x), point by point."""
    s, t, x, z_t = _time(6), _time(7), torch.full_like(Z, 0.8), Z.flip(0)
    left = claim(CHAIN.posterior(z_t, x, s, t)).log_prob(Z) + CHAIN.marginal(x, t).log_prob(z_t)
    right = CHAIN.transition(Z, s, t).log_prob(z_t) + CHAIN.marginal(x, s).log_prob(Z)
    return exactly(left, right, 1e-11, ROUNDING)


@check("002", right=-1.0, wrong=1.0, mistake="the noise added in place of removed")
def posterior_mean_from_the_noise(claim: Any) -> Outcome:
    """With z_t = sqrt(alpha_t) x + sqrt(1 - alpha_t) eps its mean is (z_t - beta_t eps / sqrt(1 -
    alpha_t)) / sqrt(1 - beta_t)."""
    k, eps = 6, 0.7
    x = (Z - (1 - ALPHAS[k]).sqrt() * eps) / ALPHAS[k].sqrt()
    found = CHAIN.posterior(Z, x, _time(k), _time(k + 1)).mean
    return exactly(
        found,
        (Z + claim * BETAS[k] * eps / (1 - ALPHAS[k]).sqrt()) / (1 - BETAS[k]).sqrt(),
        1e-12,
        ROUNDING,
    )


@dataclass(frozen=True)
class _Expansion:
    """``z (1 + c beta / 2) + c beta grad log q(z)``: c = 0 is the zeroth order, c = 1 the first."""

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
    """For small beta_t the mean of q(z_{t-1} | z_t) is z_t (1 + beta_t / 2) + beta_t grad log
    q(z_t)."""
    beta = 1e-3
    chain = DiscreteVP([beta] * 200)
    posterior, s, t = (
        TWO_MODES.posterior(chain),
        torch.tensor(0.495, dtype=torch.float64),
        torch.tensor(0.5, dtype=torch.float64),
    )
    exact = chain.posterior(Z, posterior(Z, t), s, t).mean
    return exactly(
        claim(Z, Reverse(posterior).score(Z, t), beta),
        exact,
        20 * beta**2,
        "second order in beta_t = 0.001, 20 beta_t^2",
    )


@check("002", right=1.0, wrong=0.5, mistake="beta_t / 2")
def small_variance_reverse_spread(claim: Any) -> Outcome:
    """For small beta_t the variance of q(z_{t-1} | z_t) is beta_t, whatever the data."""
    beta, s, t = (
        1e-3,
        torch.tensor(0.495, dtype=torch.float64),
        torch.tensor(0.5, dtype=torch.float64),
    )
    chain = DiscreteVP([beta] * 200)
    found = chain.posterior(Z, TWO_MODES.posterior(chain)(Z, t), s, t).std ** 2 / beta
    return exactly(found, claim, 20 * beta, "first order in beta_t = 0.001, 20 beta_t")


@check(
    "002",
    right=lambda bound: bound.value,
    wrong=lambda bound: -(bound.diffusion + bound.reconstruction),
    mistake="printed: the sum over steps and the reconstruction, without KL(q(z_T | x) || p(z_T))",
)
def evidence_bound(claim: Any) -> Outcome:
    """log p(x) >= -(KL of the prior + sum of the steps' KL + reconstruction), with equality where
    the reverse kernels are exact."""
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
    """A step costs beta_t^2 / (2 s_t^2 (1 - beta_t) (1 - alpha_t)) |eps - g|^2: the weights that
    the simplified loss drops."""
    found, exact, off = [], [], 0.3
    for k in range(1, 10):
        x = (Z - (1 - ALPHAS[k]).sqrt() * 0.7) / ALPHAS[k].sqrt()
        guess = (Z - (1 - ALPHAS[k]).sqrt() * (0.7 + off)) / ALPHAS[k].sqrt()
        law, model = (CHAIN.posterior(Z, x0, _time(k), _time(k + 1)) for x0 in (x, guess))
        found.append(law.kl(model)[0])
        exact.append(claim(k, law.std.flatten()[0] ** 2) * off**2)
    return exactly(torch.stack(found), torch.stack(exact), 1e-11, ROUNDING)


@check("002", right=1.0, wrong=0.0, mistake="0: the law of z_T taken for N(0, I)")
def chain_forgets_the_data(claim: Any) -> Outcome:
    """z_t tends to N(0, I): after T steps the divergence from it is alpha_T (|x|^2 - 1) / 2 - log(1
    - alpha_T) / 2, not yet 0."""
    x = torch.full((1, 1), 1.5, dtype=torch.float64)
    found = CHAIN.marginal(x, 1.0).kl(
        Gaussian(torch.zeros_like(x), torch.ones((), dtype=torch.float64))
    )
    exact = ALPHAS[-1] * (1.5**2 - 1) / 2 - torch.log1p(-ALPHAS[-1]) / 2
    return exactly(found, claim * exact, 1e-12, ROUNDING)


@check("002", right=1.0, wrong=-1.0, mistake="the noise predicted with the wrong sign")
def decoder_predicts_the_noise(claim: Any) -> Outcome:
    """The best g(z_t, t) is E[eps | z_t]: its residual eps - g is uncorrelated with every function
    of z_t, here with g."""
    n, t = 4000, _time(5)
    x, eps = (
        TWO_MODES.sample(n, SEED, torch.float64),
        Noise(SEED).fold(2).normal((n, 1), torch.float64),
    )
    z = CHAIN.marginal(x, t).draw(eps)
    g = (z - CHAIN.alpha(t) * TWO_MODES.posterior(CHAIN)(z, t).mean) / CHAIN.sigma(t)
    return estimated(((eps - claim * g) * g)[:, 0], 0.0, SEED)


CHECKS: tuple[Check, ...] = collected(globals())
"""In the order of the document."""
