"""Document 001: from samples to noise and back, by ``dX = -X dt + sigma(t) dB`` with a sigma(t) of
one's own.

Densities are solved on cells of width 0.03 and steps of 0.01, both of second order; variances are
by Gauss-Legendre quadrature.
"""

__all__ = ["CHECKS"]

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.app.verify.check import Check, Outcome, check, collected, estimated, exactly
from ornstein.app.verify.problems import GRID, TWO_MODES
from ornstein.calculus.integrals import adjoint_generator
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.core.methods import SRK, EulerMaruyama
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import LinearSDE, Time
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.schedules import Damped
from ornstein.core.processes.sde import SDE
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.solvers.solve import solve
from ornstein.inference.likelihood.probability_flow import log_likelihood
from ornstein.reference.targets.empirical import Empirical
from ornstein.reference.targets.mixtures import Normal

SEED, N = 0, 4000
QUADRATURE = "Gauss-Legendre quadrature with 64 nodes, and rounding"
CONSTANT = Damped(lambda u: torch.full_like(u, 1.3))
LINEAR = Damped(lambda u: 0.5 + u)
EXPONENTIAL = Damped(torch.exp)
TIMES = torch.tensor([0.1, 0.7, 1.5, 3.0], dtype=torch.float64)
DATA = torch.tensor([[-1.5], [-0.2], [0.4], [2.0]], dtype=torch.float64)
X = torch.linspace(-3, 3, 25, dtype=torch.float64)[:, None]


def _kept(sde: LinearSDE, x0: Tensor, t: float) -> Gaussian:
    """The printed kernel."""
    return Gaussian(x0, sde.sigma(t))


def _kernel(sde: LinearSDE, x0: Tensor, t: float) -> Gaussian:
    return sde.marginal(x0, t)


@check(
    "001",
    right=_kernel,
    wrong=_kept,
    mistake="printed: p_t(x | x_0) = N(x | x_0, Sigma(t)), the mean not contracted",
)
def mean_of_the_forward_process(claim: Any) -> Outcome:
    """X(t) given x_0 has the mean m(t) = e^(-t) x_0."""
    start = torch.full((N, 1), 2.0, dtype=torch.float64)
    found = solve(LINEAR, start, [0.0, 1.0], SRK(), seed=SEED, dt=0.01)[-1]
    return estimated(found[:, 0], float(claim(LINEAR, start, 1.0).mean[0]), SEED)


@check(
    "001",
    right=lambda t: 1.69 * -torch.expm1(-2 * t) / 2,
    wrong=lambda t: 1.69 * -torch.expm1(-t),
    mistake="e^(-(t - u)) in place of e^(-2 (t - u))",
)
def variance_for_constant_noise(claim: Any) -> Outcome:
    """Sigma(t) = int_0^t e^(-2 (t - u)) sigma^2(u) du; for a constant sigma it is sigma^2 (1 -
    e^(-2 t)) / 2."""
    return exactly(CONSTANT.sigma(TIMES).square(), claim(TIMES), 1e-12, QUADRATURE)


def _linear(t: Tensor) -> Tensor:
    """``int_0^t e^{-2 (t - u)} (1/2 + u)^2 du``."""
    return (0.5 + t).square() / 2 - (0.5 + t) / 2 + 0.25 - (-2 * t).exp() * (0.125 - 0.25 + 0.25)


@check(
    "001",
    right=_linear,
    wrong=lambda t: (0.5 + t).square() * -torch.expm1(-2 * t) / 2,
    mistake="sigma(t) frozen at its last value",
)
def variance_for_linear_noise(claim: Any) -> Outcome:
    """For sigma(u) = s, s = 1/2 + u, it is [s^2 / 2 - s / 2 + 1/4] at u = t less e^(-2 t) times the
    same at u = 0."""
    return exactly(LINEAR.sigma(TIMES).square(), claim(TIMES), 1e-12, QUADRATURE)


@check(
    "001",
    right=lambda t: (2 * t).sinh() / 2,
    wrong=lambda t: (2 * t).exp() / 4,
    mistake="the lower end of the integral forgotten",
)
def variance_for_exponential_noise(claim: Any) -> Outcome:
    """For sigma(u) = e^u it is (e^(2 t) - e^(-2 t)) / 4."""
    return exactly(EXPONENTIAL.sigma(TIMES).square() / claim(TIMES), 1.0, 1e-12, QUADRATURE)


@check(
    "001",
    right=_linear,
    wrong=lambda t: ((0.5 + t) ** 3 - 0.125) / 3,
    mistake="int sigma^2 du: the noise never decays",
)
def noising_without_discretisation(claim: Any) -> Outcome:
    """X(t) can be drawn at any t in one go: a fine discretisation of the equation has the same
    variance."""
    found = solve(
        LINEAR,
        torch.zeros(N, 1, dtype=torch.float64),
        [0.0, 1.5],
        EulerMaruyama(),
        seed=SEED,
        dt=0.005,
    )[-1]
    return estimated(found[:, 0].square(), float(claim(TIMES[2:3])), SEED)


@check(
    "001",
    right=lambda s, t: LINEAR.alpha(t) / LINEAR.alpha(s),
    wrong=lambda s, t: LINEAR.alpha(t),
    mistake="decay counted from 0",
)
def one_jump_is_two(claim: Any) -> Outcome:
    """Sigma(t) = e^(-2 (t - s)) Sigma(s) + variance of the noise since s: a jump to t is one to s
    and one from s to t."""
    s, t = TIMES[:-1], TIMES[1:]
    since = LINEAR.transition(torch.zeros(3, 1, dtype=torch.float64), s, t).std[:, 0]
    return exactly(
        (claim(s, t) * LINEAR.sigma(s)).square() + since.square(),
        LINEAR.sigma(t).square(),
        1e-11,
        QUADRATURE,
    )


@check("001", right=_kernel, wrong=_kept, mistake="printed: the kernels centred at x_0")
def density_is_the_mixture_of_its_kernels(claim: Any) -> Outcome:
    """p_t(x) = int p_t(x | x_0) dP(x_0): for the empirical law of 4 points the mean of 4 Gaussians
    at e^(-t) x_i."""
    kernels = claim(LINEAR, DATA, 0.6)
    law = Gaussian(kernels.mean.T, kernels.std)
    exact = (-(X - law.mean).square() / (2 * law.std**2)).exp().mean(1) / (
        law.std * math.sqrt(2 * math.pi)
    )
    return exactly(
        Empirical(DATA).posterior(LINEAR).log_prob(X, 0.6).exp(), exact, 1e-12, QUADRATURE
    )


@check(
    "001",
    right=lambda p, x, t: Reverse(p).score(x, t),
    wrong=lambda p, x, t: -x / p.sde.sigma(t) ** 2,
    mistake="the score of N(0, Sigma(t)), that of no data",
)
def score_of_samples(claim: Any) -> Outcome:
    """s(t, x) = grad log p_t(x) is known for the empirical law of samples: (e^(-t) E[X_0 | X_t = x]
    - x) / Sigma(t)."""
    posterior = Empirical(DATA).posterior(LINEAR)
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
    """X(t) ~ e^(-t) X_0 + sqrt(Sigma(t)) eps with X_0 ~ P: its second moment is that of the density
    p_t."""
    target, t = TWO_MODES, 0.6
    eps = Noise(SEED).normal((N, 1), torch.float64)
    found = claim(target.sample(N, SEED, torch.float64), t) + LINEAR.sigma(t) * eps
    density = GRID.evaluate(lambda x: target.posterior(LINEAR).log_prob(x, t).exp())
    return estimated(
        found[:, 0].square(), float(GRID.integrate(density * GRID.centres[:, 0].square())), SEED
    )


@check("001", right=0.5, wrong=1.0, mistake="B = sigma^2 in place of sigma^2 / 2")
def forward_density_moves_by_fokker_planck(claim: Any) -> Outcome:
    """The density of the forward process solves d_t p = d_x (x p) + sigma^2(t) / 2 d_xx p."""
    posterior = TWO_MODES.posterior(LINEAR)
    equation = SDE(LINEAR.drift, lambda x, t: LINEAR.diffusion(x, t) * math.sqrt(2 * claim))
    times = torch.linspace(0, 1, 101, dtype=torch.float64)
    found = FokkerPlanck(equation, GRID).solve(
        GRID.evaluate(lambda x: TWO_MODES.log_prob(x).exp()), times
    )[-1]
    return exactly(
        found,
        GRID.evaluate(lambda x: posterior.log_prob(x, 1.0).exp()),
        1e-3,
        "second order in cells and steps, 400 cells",
    )


@dataclass(frozen=True)
class _Partial:
    """The reverse SDE with the score multiplied by a number."""

    reverse: Reverse
    factor: float

    def drift(self, x: Tensor, t: Time) -> Tensor:
        sde = self.reverse.process
        return sde.f(t) * x - self.factor * sde.g2(t) * self.reverse.score(x, t)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        return self.reverse.diffusion(x, t)


@check(
    "001",
    right=1.0,
    wrong=0.5,
    mistake="half of the score, which is that of the ODE, together with the noise",
)
def time_reversal_of_the_density(claim: Any) -> Outcome:
    """Anderson: dX^ = [X^ + sigma^2(T - t) s(T - t, X^)] dt + sigma(T - t) dB started from P(T) has
    the law P(T - t); its end is P."""
    posterior = TWO_MODES.posterior(LINEAR)
    times = torch.linspace(1.0, 0.0, 101, dtype=torch.float64)
    start = GRID.density(lambda x: posterior.log_prob(x, 1.0).exp())
    found = FokkerPlanck(_Partial(Reverse(posterior), claim), GRID).solve(start, times)[-1]
    return exactly(
        found,
        GRID.evaluate(lambda x: TWO_MODES.log_prob(x).exp()),
        0.01,
        "second order in cells and steps, 400 cells",
    )


@check(
    "001",
    right=1.0,
    wrong=0.5,
    mistake="half of the score, which is that of the ODE, together with the noise",
)
def time_reversal_of_the_samples(claim: Any) -> Outcome:
    """The same by Euler-Maruyama: the second moment of the end is that of the data."""
    target = TWO_MODES
    start = LINEAR.marginal(target.sample(N, SEED, torch.float64), 1.0).draw(
        Noise(SEED).fold(1).normal((N, 1), torch.float64)
    )
    times = torch.linspace(1.0, 0.005, 200, dtype=torch.float64)
    found = simulate(
        _Partial(Reverse(target.posterior(LINEAR)), claim),
        start,
        times,
        EulerMaruyama(),
        Noise(SEED),
    )
    return estimated(found[:, 0].square(), float(target.std.square() + target.mean.square()), SEED)


@check("001", right=1.0, wrong=-1.0, mistake="s taken for -grad log p")
def time_reversal_point_by_point(claim: Any) -> Outcome:
    """The adjoint of the reverse equation applied to p_t is -d_t p_t: time reversal, proved point
    by point."""
    posterior, t = TWO_MODES.posterior(LINEAR), torch.tensor(0.5, dtype=torch.float64)
    reverse = _Partial(Reverse(posterior), claim)
    towards_data = SDE(lambda x, t: -reverse.drift(x, t), reverse.diffusion)
    found = adjoint_generator(lambda x: posterior.log_prob(x, t).exp(), towards_data)(X, t)
    rate = torch.func.jvp(lambda s: posterior.log_prob(X, s).exp(), (t,), (torch.ones_like(t),))[1]
    return exactly(found, -rate, 1e-10, "automatic differentiation, and rounding")


def _shifted_normal() -> Normal:
    return Normal(torch.tensor([1.5]), torch.tensor([0.6]))


@check("001", right=1.0, wrong=0.0, mistake="the start N(0, Sigma(T)) taken for exact")
def price_of_the_start(claim: Any) -> Outcome:
    """Starting from N(0, Sigma(T)) drops e^(-2T) Cov(X_0) and e^(-T) E[X_0]: a divergence KL(P(T)
    || N(0, Sigma(T))), a number."""
    target, T = _shifted_normal(), 1.0
    law = LINEAR.marginal(target.means, T)
    end = Gaussian(law.mean, torch.hypot(law.std, LINEAR.alpha(T) * target.stds))
    start = Gaussian(torch.zeros_like(law.mean), LINEAR.sigma(T))
    p = GRID.evaluate(lambda x: target.posterior(LINEAR).log_prob(x, T).exp())
    ratio = GRID.evaluate(lambda x: target.posterior(LINEAR).log_prob(x, T) - start.log_prob(x))
    return exactly(
        end.kl(start),
        claim * GRID.integrate(p * ratio),
        1e-6,
        "rectangles on 400 cells, of any order",
    )


@check("001", right=2, wrong=1, mistake="e^(-T), the rate of the mean itself")
def start_is_forgotten_exponentially(claim: Any) -> Outcome:
    """P(T) -> N(0, Sigma(T)) exponentially fast: the mean's part of the divergence falls as
    e^(-2T)."""

    def divergence(T: float) -> Tensor:
        law = CONSTANT.marginal(torch.full((1, 1), 1.5, dtype=torch.float64), T)
        return law.kl(Gaussian(torch.zeros_like(law.mean), law.std))

    return exactly(
        (divergence(6.0) / divergence(5.0)).log(),
        -claim,
        1e-3,
        "Sigma(T) still grows by e^(-2T), here 5e-5 of itself",
    )


@check("001", right=1.0, wrong=0.0, mistake="no loss reported")
def prior_gap_is_reported(claim: Any) -> Outcome:
    """The library reports that divergence for the start law with the variance of the data: e^(-2T)
    E[X_0]^2 / (2 Var X(T))."""
    target = _shifted_normal()
    sde = Damped(lambda u: 0.5 + u, T=1.0)
    found = log_likelihood(
        target.posterior(sde), torch.zeros(1, 1, dtype=torch.float64), tol=1e-2, refine=False
    ).prior_gap
    exact = (math.exp(-1.0) * 1.5) ** 2 / (2 * float(sde.prior((1, 1), 0.36).std) ** 2)
    return exactly(found, claim * exact, 1e-5, "data in float32")


CHECKS: tuple[Check, ...] = collected(globals())
"""In the order of the document."""
