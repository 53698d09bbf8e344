"""Document 002, first part: from the random walk over the heat equation to Fokker-Planck.

Walkers go left with probability p and right with probability q. The laws of `WALK` are exact, so
these statements are compared to rounding, except where a limit or a simulation is meant.
"""

__all__: list[str] = []

import math
from typing import Any

import torch
from torch import Tensor

from ornstein.app.verify.check import Outcome, check, estimated, exactly, within_errors
from ornstein.app.verify.problems import POINTS, ROUNDING, SAMPLES, SEED
from ornstein.calculus.laws import Brownian
from ornstein.calculus.laws.displacement import (
    estimate_diffusion_constant,
    mean_squared_displacement,
)
from ornstein.calculus.laws.heat import Ring, kernel
from ornstein.calculus.laws.random_walk import RandomWalk
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.calculus.pde.grid import Axis, Grid
from ornstein.core.processes.reference import OU
from ornstein.core.processes.sde import SDE
from ornstein.core.solvers.exact import sample_exact
from ornstein.reference.targets.mixtures import Normal

WALK = RandomWalk(0.2, 0.5, delta=0.5, tau=0.25)  # p left, q right
MIRRORED = RandomWalk(0.5, 0.2, delta=0.5, tau=0.25)
K = 20


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
    """The recurrence is C_i(t + 1) = q C_{i-1}(t) + p C_{i+1}(t) + (1 - p - q) C_i(t)."""
    return exactly(claim.step(WALK.law(K)), WALK.law(K + 1), 1e-14, ROUNDING)


@check("002", right=1.0, wrong=2.0, mistake="the second difference without its half")
def drift_and_spread(claim: Any) -> Outcome:
    """The change of the concentration in one step is a drift part plus a diffusion part.

    C(t + 1) - C(t) = (p - q) / 2 (C_{i+1} - C_{i-1}) + (p + q) / 2 (C_{i+1} - 2 C_i + C_{i-1}).
    """
    drift, spread = WALK.parts(WALK.law(K))
    return exactly(
        drift + claim * spread,
        WALK.law(K + 1) - torch.nn.functional.pad(WALK.law(K), (1, 1)),
        1e-14,
        ROUNDING,
    )


@check("002", right=WALK, wrong=MIRRORED, mistake="p and q exchanged")
def counts_of_many_walkers(claim: Any) -> Outcome:
    """Of N walkers the expected number n_i = N C_i is at site i.

    chi^2 of 1e8 walkers after 20 steps is its number of degrees of freedom.
    """
    start = torch.zeros(1, 1, dtype=torch.long) + 10**8
    counts = WALK.evolve(start, K, SEED)[0].double()
    expected = 1e8 * claim.law(K)
    populated = expected > 10  # expected counts for which chi^2 is nearly exact
    freedom = int(populated.sum()) - 1
    chi2 = ((counts - expected).square() / expected)[populated].sum()
    return exactly(
        chi2,
        freedom,
        4 * math.sqrt(2 * freedom),
        f"4 sd of chi^2 with {freedom} degrees of freedom, seed {SEED}",
    )


@check("002", right=1.0, wrong=0.0, mistake="counts taken for independent")
def counts_are_multinomial(claim: Any) -> Outcome:
    """The counts of two sites have the covariance -N C_i C_j."""
    n = 1000
    k = 2
    counts = WALK.counts(n, k, SEED, replicas=2000).double()
    cov = WALK.count_covariance(n, k)
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


@check(
    "002",
    right=lambda d, D, tau: d**2 * D / tau,
    wrong=lambda d, D, tau: d**2 * D / (2 * tau),
    mistake="printed: D = delta^2 D~ / (2 tau) for p = q = D~",
)
def diffusion_constant(claim: Any) -> Outcome:
    """Without drift the variance grows as 2 D t with D = delta^2 (p + q) / (2 tau).

    For p = q = D~ this is D = delta^2 D~ / tau.
    """
    walk = RandomWalk(0.3, 0.3, delta=0.5, tau=0.25)
    t = 2.0
    law = walk.law_at(t, 80)
    return exactly(law @ walk.sites(80).square() / (2 * t), claim(0.5, 0.3, 0.25), 1e-11, ROUNDING)


@check(
    "002",
    right=lambda walk: walk.diffusion,
    wrong=lambda walk: walk.diffusion / 2,
    mistake="printed: half of it",
)
def limit_in_space(claim: Any) -> Outcome:
    """For small delta and tau the law of the walk becomes the heat kernel.

    Its constants are D = delta^2 (p + q) / (2 tau) and the drift delta (q - p) / tau.
    """
    walk = RandomWalk.towards(0.5, 0.4, delta=0.05)
    t = 1.0
    k = round(t / walk.tau)
    x = walk.sites(k)
    density = kernel(x, k * walk.tau, claim(walk), walk.velocity)
    return exactly(walk.law(k) / walk.delta, density, 1e-3, "second order in delta = 0.05")


@check("002", right=1.0, wrong=0.5, mistake="exp(-x^2 / (2 D t)) / sqrt(2 pi D t), of variance D t")
def heat_kernel(claim: Any) -> Outcome:
    """C(x, t) = exp(-x^2 / (4 D t)) / sqrt(4 pi D t) solves d_t C = D d_xx C."""
    D = 0.7
    t = 0.8
    h = 1e-4
    slope = torch.func.grad(lambda x: kernel(x, t, claim * D).sum())
    curvature = torch.func.grad(lambda x: slope(x).sum())(POINTS[:, 0])
    rate = (kernel(POINTS[:, 0], t + h, claim * D) - kernel(POINTS[:, 0], t - h, claim * D)) / (
        2 * h
    )
    return exactly(rate, D * curvature, 1e-7, "central difference in time, second order in 1e-4")


@check("002", right=2, wrong=1, mistake="F' = -D k F, one derivative instead of two")
def fourier_modes_decay(claim: Any) -> Outcome:
    """The Fourier transform turns the equation into F' = -D k^2 F: each mode decays on its own."""
    ring = Ring(0.3, 0.0, 2 * math.pi)
    k = 3
    t = 0.5
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
    """The inverse of F = int e^(-ikx) f dx is f = 1 / (2 pi) int e^(ikx) F dk.

    The inverse transform of exp(-D k^2 t) is the heat kernel.
    """
    D = 0.7
    t = 0.8
    k = torch.linspace(-30, 30, 3001, dtype=torch.float64)
    computed = torch.trapezoid((k * POINTS).cos() * (-D * k.square() * t).exp(), k, dim=1) / claim
    return exactly(
        computed, kernel(POINTS[:, 0], t, D), 1e-12, "trapezoidal rule on 3001 points, of any order"
    )


def _trajectories(process: Brownian, n: int) -> Tensor:
    """Return n exact paths from 0, observed 21 times at distances of 0.1, ``(n, times, 1)``."""
    times = torch.linspace(0, 2, 21, dtype=torch.float64)
    start = torch.zeros(n, 1, dtype=torch.float64)
    return sample_exact(process, start, times, SEED).movedim(0, 1)


@check("002", right=2.0, wrong=1.0, mistake="D t, as if Einstein's formula had no 2")
def mean_squared_displacement_is_linear(claim: Any) -> Outcome:
    """The mean squared displacement grows linearly, E (X_t - X_0)^2 = 2 D t."""
    D = 0.7
    paths = _trajectories(Brownian(0.0, math.sqrt(2 * D)), SAMPLES)
    curve = mean_squared_displacement(paths, 0.1, [20])
    return within_errors(curve, claim * D * 2.0, f"{SAMPLES} paths", SEED)


@check("002", right=0.7, wrong=0.35, mistake="printed: half of D")
def diffusion_constant_from_data(claim: Any) -> Outcome:
    """The diffusion constant can be estimated from trajectories, with its error.

    It is the variance of the increments over 2 dt.
    """
    result = estimate_diffusion_constant(_trajectories(Brownian(0.4, math.sqrt(1.4)), 400), 0.1)
    return within_errors(result.diffusion, claim, f"{result.increments} increments", SEED)


@check(
    "002",
    right=lambda sigma: sigma**2 / 2,
    wrong=lambda sigma: sigma**2,
    mistake="printed: B = sigma^2",
)
def fokker_planck_of_ornstein_uhlenbeck(claim: Any) -> Outcome:
    """Fokker-Planck for the Ornstein-Uhlenbeck process has A = -gamma x and B = sigma^2 / 2.

    d_t f = -d_x (A f) + d_xx (B f) has the law of dx = -gamma x dt + sigma dW.
    """
    gamma = 1.5
    sigma = 0.7
    start = Normal(torch.tensor([1.5]), torch.tensor([0.3]))
    grid = Grid(Axis(-4, 4, 200))
    equation = SDE(
        lambda x, t: -gamma * x, lambda x, t: torch.full_like(x, math.sqrt(2 * claim(sigma)))
    )
    computed = FokkerPlanck(equation, grid).solve(
        grid.density(lambda x: start.log_prob(x).exp()), torch.tensor([0.0, 0.5, 1.0])
    )[-1]
    exact = grid.evaluate(lambda x: start.posterior(OU(gamma, sigma)).log_prob(x, 1.0).exp())
    return exactly(computed, exact, 0.02, "second order in the cell of 0.04, largest of 200 cells")
