"""Document 003, third part: the likelihood bound with its proof, and sampling by optimal control.

The five steps of the proof are the statements of `likelihood_bound.Proof`. The statements on
control are Girsanov's theorem, the Hopf-Cole transformation of the Hamilton-Jacobi-Bellman
equation, and the importance weights of paths that end in samples of an unnormalised density.
"""

__all__: list[str] = []

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.app.verify.check import Outcome, check, estimated, exactly
from ornstein.app.verify.likelihood_bound import Proof
from ornstein.app.verify.problems import (
    AUTODIFF,
    BROWNIAN,
    COSINE,
    GAUSSIAN,
    GRID,
    SAMPLES,
    SECOND_ORDER,
    SEED,
    TWO_MODES,
)
from ornstein.app.verify.statement import Statement
from ornstein.calculus.integrals.girsanov import Accumulate, Girsanov
from ornstein.calculus.pde.hjb import HJB
from ornstein.core.methods import EulerMaruyama
from ornstein.core.paths.denoising import log_weights
from ornstein.core.processes import VP
from ornstein.core.processes.linear import Time
from ornstein.core.processes.reference import OU
from ornstein.core.processes.sde import SDE
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.inference.likelihood.continuous_elbo import continuous_elbo
from ornstein.reference.targets.mixtures import Normal
from ornstein.training.denoising import likelihood_weight, snr_weight

TIMES = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)


@dataclass(frozen=True)
class _WithoutScore(Proof):
    """A wrong version of the proof, for a drift mu that lacks the score."""

    def mu(self, y: Tensor, s: Time) -> Tensor:
        return -self.sde.f(s) * y


@dataclass(frozen=True)
class _WithoutDivergence(Proof):
    """A wrong version of the proof, without the terms of the divergence of mu."""

    def divergence(self, y: Tensor, s: Time) -> Tensor:
        return torch.zeros_like(y[:, 0])


def _solved(statement: Statement, tolerance: float, reason: str) -> Outcome:
    """Return the outcome of a statement whose sides were solved or integrated."""
    return exactly(statement.computed, statement.exact, tolerance, reason)


def _sampled(statement: Statement) -> Outcome:
    """Return the outcome of a statement one side of which was simulated."""
    return _solved(
        statement, 4 * float(statement.stderr), f"4 standard errors, n = {SAMPLES}, seed {SEED}"
    )


@check("003", right=Proof(), wrong=_WithoutScore(), mistake="a drift mu without the score")
def proof_1_fokker_planck(claim: Any) -> Outcome:
    """First step, Fokker-Planck: started from p_{Y_T}, the density of X ends in that of the data.

    d_t p_X = div(div(D p_X) - mu p_X), with D and mu at T - t.
    """
    return _solved(claim.fokker_planck(), 0.01, SECOND_ORDER)


@check("003", right=Proof(), wrong=_WithoutDivergence(), mistake="div(mu) p left out")
def proof_2_kolmogorov(claim: Any) -> Outcome:
    """Second step, Kolmogorov: the density read backwards in time solves a backward equation.

    d_t p = -tr(D p'') + mu . p' + div(mu) p.
    """
    return _solved(claim.kolmogorov(), 0.01, SECOND_ORDER)


@check("003", right=Proof(), wrong=_WithoutDivergence(), mistake="div mu left out")
def proof_3_hjb(claim: Any) -> Outcome:
    """Third step, Hamilton-Jacobi-Bellman: V = -log p solves the equation that is printed.

    d_t V = -tr(D V'') + mu . V' - div mu + |sigma V'|^2 / 2: both sides at 267 points.
    """
    return _solved(claim.hjb_equation(), 1e-9, AUTODIFF)


@check(
    "003", right=Proof(), wrong=_WithoutDivergence(), mistake="div mu left out of the running cost"
)
def proof_3_hjb_solved(claim: Any) -> Outcome:
    """Solved from V(., T) = -log p_{X_0}, that equation gives V and the optimal control at time 0.

    V is -log of the density of the data, and the control is sigma grad log p.
    """
    return _solved(claim.hjb(), 0.05, "second order in cells and steps, |y| <= 2, values up to 6")


@check("003", right=Proof(), wrong=_WithoutScore(), mistake="a drift mu without the score")
def proof_4_verification_theorem(claim: Any) -> Outcome:
    """Fourth step, verification: V(y, 0) is the cost of a control u less E int |u - u*|^2 ds / 2.

    It is so for every u; this is tested with half of u*.
    """
    return _sampled(claim.verification(n=SAMPLES, seed=SEED))


@check("003", right=1.0, wrong=0.0, mistake="the bound taken for the likelihood")
def proof_4_bound_and_gap(claim: Any) -> Outcome:
    """E log p_{X_T}(Y_0) is the bound plus the gap E int |Phi - u*|^2 ds / 2.

    It is tested with a wrong score, that of N(0.3, 0.64) times 0.7.
    """
    statement = Proof().bound()
    return exactly(
        statement.computed, claim * statement.exact, 1e-5, "trapezoidal rule on 10 001 points"
    )


@check("003", right=1.0, wrong=-1.0, mistake="the sign of the score given the data")
def proof_5_stokes(claim: Any) -> Outcome:
    """Fifth step, Stokes: E div Phi(Y_s) = E[Phi(Y_s) N] / beta_s.

    The divergence becomes a product with the noise, and the bound the training objective.
    """
    statement = Proof().stokes()
    return exactly(
        statement.computed,
        claim * statement.exact,
        1e-9,
        "Gauss-Hermite quadrature with 80 x 80 nodes",
    )


@check(
    "003", right=likelihood_weight, wrong=snr_weight, mistake="the simplified loss, weight e^lambda"
)
def weighting_of_the_objective(claim: Any) -> Outcome:
    """Noise prediction with the weight sigma^2(t) / (2 beta_t^2) is the rate of the bound.

    That rate is the KL of short steps over their length.
    """
    h = 1e-6
    y = torch.zeros(1, 1, dtype=torch.float64)
    off = 0.3
    computed = [
        COSINE.posterior(y, y, t - h, t).kl(COSINE.posterior(y, y + off, t - h, t)) / h
        for t in TIMES
    ]
    return exactly(
        torch.stack(computed)[:, 0] / (claim(COSINE, TIMES) * off**2),
        1.0,
        1e-4,
        "steps of 1e-6, first order",
    )


@check(
    "003",
    right=lambda bound: bound.value,
    wrong=lambda bound: -(bound.prior + bound.diffusion),
    mistake="the constant dropped",
)
def bound_on_the_likelihood(claim: Any) -> Outcome:
    """The bound in continuous time is reached where the score is exact.

    On average it is then log p(Y_0).
    """
    x = TWO_MODES.sample(2000, SEED)
    bound = continuous_elbo(TWO_MODES.posterior(VP()), x, draws=8, seed=SEED, repeats=2)
    return estimated(claim(bound) - TWO_MODES.log_prob(x), 0.0, SEED)


@check("003", right=1.0, wrong=0.0, mistake="int u dB without int |u|^2 dt / 2")
def girsanov(claim: Any) -> Outcome:
    """Girsanov: paths drawn under a control u and weighted are paths without the control.

    The weights are exp(-int u dB - int |u|^2 dt / 2); then P(X_T > 0) = 1/2.
    """
    driven = SDE(lambda x, t: 0.8 + 0 * x, lambda x, t: torch.ones_like(x))
    weight, square = Girsanov(BROWNIAN), Accumulate(lambda x, t: 0.64 + 0 * x[:, 0])
    times = torch.linspace(0, 1, 21, dtype=torch.float64)
    start = torch.zeros(SAMPLES, 1, dtype=torch.float64)
    end = simulate(driven, start, times, EulerMaruyama(), Noise(SEED), watch=[weight, square])
    log_weight = weight.value + (1 - claim) * square.value / 2
    return estimated(log_weight.exp() * (end[:, 0] > 0), 0.5, SEED)


@check(
    "003",
    right=lambda x: x.square() / 4 + math.log(2) / 2,
    wrong=lambda x: (x.square() + 1) / 2,
    mistake="no control",
)
def hopf_cole(claim: Any) -> Outcome:
    """The Hopf-Cole transformation V = -log phi turns the HJB equation into a linear equation.

    For dX = u dt + dB with the cost int |u|^2 / 2 + X_1^2 / 2, V = x^2 / 4 + log(2) / 2.
    """
    computed = (
        HJB(BROWNIAN, GRID)
        .solve(GRID.evaluate(lambda x: x[:, 0].square() / 2), torch.tensor([0.0, 0.5, 1.0]))
        .value[0]
    )
    inner = GRID.centres[:, 0].abs() <= 2
    return exactly(
        computed[inner],
        claim(GRID.centres[inner, 0]),
        2e-3,
        "second order in the cell of 0.03, |x| <= 2",
    )


@check("003", right=1.0, wrong=0.0, mistake="the cost without a control")
def optimal_control(claim: Any) -> Outcome:
    """The control u* = -sigma grad V reaches the least cost.

    Simulated from x = 1 it costs V(1, 0) = 1/4 + log(2) / 2.
    """
    times = torch.linspace(0, 1, 101, dtype=torch.float64)
    control = HJB(BROWNIAN, GRID).solve(GRID.evaluate(lambda x: x[:, 0].square() / 2), times)
    driven = SDE(lambda x, t: claim * control(x, t), lambda x, t: torch.ones_like(x))
    running_cost = Accumulate(lambda x, t: (claim * control(x, t)).square()[:, 0] / 2)
    start = torch.ones(SAMPLES, 1, dtype=torch.float64)
    end = simulate(driven, start, times, EulerMaruyama(), Noise(SEED), watch=[running_cost])
    return estimated(running_cost.value + end[:, 0].square() / 2, 0.25 + math.log(2) / 2, SEED)


def _unnormalised(x: Tensor) -> Tensor:
    """Return the logarithm of a density with the normaliser 3.7."""
    return TWO_MODES.log_prob(x) + math.log(3.7)


@check(
    "003",
    right=(torch.exp, 3.7),
    wrong=(lambda w: w, math.log(3.7)),
    mistake="E log w = log Z: that mean is only the bound",
)
def unnormalised_density_by_control(claim: Any) -> Outcome:
    """Weighted paths of any control estimate the normaliser without bias, E[w] = Z.

    The log-weight is log rho - log pi + sum (log B - log F); Z = 3.7, in 4 steps without training.
    """
    transform, exact = claim
    control = Normal(torch.tensor([0.0]), torch.tensor([1.5])).posterior(OU(T=2.0))
    computed = log_weights(
        control, _unnormalised, OU(T=2.0).times(4), SAMPLES, Noise(SEED), var=2.25
    )
    return estimated(transform(computed), exact, SEED)


@check("003", right=0.6, wrong=0.9, mistake="a control that is not the optimal one")
def optimal_control_of_a_density(claim: Any) -> Outcome:
    """At the optimal control log w = log Z on every path, without variance.

    This is so for a Gaussian rho in any number of steps.
    """
    control = Normal(torch.tensor([0.0]), torch.tensor([claim])).posterior(OU(T=2.0))
    computed = log_weights(
        control,
        lambda x: GAUSSIAN.log_prob(x) + math.log(3.7),
        OU(T=2.0).times(4),
        500,
        Noise(SEED),
        var=0.36,
    )
    return exactly(computed, math.log(3.7), 1e-3, "float32, 500 paths of 4 steps")
