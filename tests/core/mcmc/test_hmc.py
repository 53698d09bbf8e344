"""Hamiltonian moves leave the density invariant, whatever their step sizes; chains report what they
are worth."""

import math
from dataclasses import replace

import pytest
import torch
from benchmarks.peers.replica_exchange import hmc

import ornstein as orn
from ornstein.core.mcmc.geometric_path import FixedLevel, GeometricPath
from ornstein.core.mcmc.hmc import HMC
from ornstein.core.simulation.loop import simulate
from ornstein.density.counted import CountedLogDensity
from ornstein.errors import OrnsteinError

DOUBLE = torch.float64
ONCE = torch.tensor([1.0, 0.0], dtype=DOUBLE)


class Last:
    def __call__(self, t, s, x, step):
        self.step = step


def still(log_prob):
    return FixedLevel(GeometricPath(log_prob, log_prob), 0.0)


def after(log_prob, x, kernel, steps=10, seed=0):
    return simulate(still(log_prob), x, torch.arange(steps, -1.0, -1.0), kernel, orn.Noise(seed))


@pytest.mark.parametrize("local", [0.0, 0.5, 1.0])
def test_exact_samples_of_a_funnel_stay_exact(local):
    """From 8000 exact draws, 10 moves with steps far too long for the neck: mean and variance of
    x_1 and of ``x_2 exp(-x_1 / 2)`` within 4 standard errors."""
    target = orn.targets.Funnel(3, std=1.5)
    x = after(
        target.log_prob,
        target.sample(8000, dtype=DOUBLE),
        HMC(0.9, torch.full((3,), 1.5, dtype=DOUBLE), 3, local=local),
    )
    for z in (x[:, 0] / 1.5, x[:, 1] * (-x[:, 0] / 2).exp()):
        assert abs(float(z.mean())) < 4 / math.sqrt(8000)
        assert float(z.var()) == pytest.approx(1, abs=4 * math.sqrt(2 / 8000))


@pytest.mark.parametrize("factor", ["dense", "diagonal"])
def test_moves_forget_where_they_were(factor):
    """A correlated Gaussian from a point: after 10 moves covariance within 4 standard errors of
    4000 draws."""
    lower = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=DOUBLE)
    cov = lower @ lower.mT
    exact = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=DOUBLE), cov)
    kernel = HMC(0.6, lower if factor == "dense" else torch.ones(2, dtype=DOUBLE), 5)
    x = after(exact.log_prob, torch.full((4000, 2), 2.0, dtype=DOUBLE), kernel, 20)
    bound = 4 * torch.sqrt((cov.square() + 1) / 4000)
    assert bool((x.mean(0).abs() < 4 / math.sqrt(4000)).all())
    assert bool(((torch.cov(x.mT) - cov).abs() < bound).all())


def test_a_path_at_a_level_for_each_particle():
    """Levels 0 and 1 of a path from N(0, 1) to N(0, 4) side by side: variances 4 and 1 within 4
    standard errors."""
    path = GeometricPath(lambda x: -x.square().sum(1) / 2, lambda x: -x.square().sum(1) / 8)
    level = torch.tensor([0.0, 1.0], dtype=DOUBLE).repeat_interleave(4000)
    kernel, times = HMC(1.0, torch.ones(1, dtype=DOUBLE)), torch.arange(20, -1.0, -1.0)
    x = simulate(
        FixedLevel(path, level), torch.zeros(8000, 1, dtype=DOUBLE), times, kernel, orn.Noise(0)
    )
    for part, exact in zip(x[:, 0].split(4000), (4, 1), strict=True):
        assert float(part.var()) == pytest.approx(exact, rel=4 * math.sqrt(2 / 4000))


def test_log_weights_of_an_annealed_path_have_mean_z():
    """Z = e^0.7, 6 levels of a path that is far too short: mean weight within 4 standard errors."""
    cov = torch.diag(torch.tensor([0.3, 0.5], dtype=DOUBLE))
    exact = torch.distributions.MultivariateNormal(torch.tensor([1.0, -1.0], dtype=DOUBLE), cov)
    start = torch.distributions.MultivariateNormal(
        torch.zeros(2, dtype=DOUBLE), 2 * torch.eye(2, dtype=DOUBLE)
    )
    path, weight = GeometricPath(start.log_prob, lambda x: exact.log_prob(x) + 0.7), orn.LogWeight()
    x = math.sqrt(2) * orn.Noise(0).normal((4000, 2), DOUBLE)
    kernel = HMC(0.5, torch.ones(2, dtype=DOUBLE), 3)
    y = simulate(path, x, torch.linspace(1, 0, 6, dtype=DOUBLE), kernel, orn.Noise(1), [weight])
    w = (path.target(y) - path.start(x) + weight.value).exp()
    assert abs(float(w.mean()) - math.exp(0.7)) < 4 * float(w.std()) / math.sqrt(4000)


def test_another_temperature_costs_nothing_and_the_ledger_is_exact():
    ledger, last = CountedLogDensity(lambda x: -x.square().sum(1) / 2, 2), Last()
    path = GeometricPath(lambda x: -x.square().sum(1) / 8, ledger)
    x = orn.Noise(0).normal((10, 2), DOUBLE)
    kernel = HMC(0.5, torch.ones(2, dtype=DOUBLE), leaps=3, moves=2)
    x = simulate(path, x, torch.tensor([1.0, 0.5, 0.0], dtype=DOUBLE), kernel, orn.Noise(0), [last])
    assert ledger.values == ledger.gradients == 10 * (1 + 2 * 2 * 3)
    known = last.step.memory.local
    simulate(FixedLevel(path, 0.3), x, ONCE, replace(kernel, initial=known), orn.Noise(1))
    assert ledger.values == 10 * (1 + 3 * 2 * 3)


def test_particles_never_enter_a_region_of_zero_or_nan():
    def half(x):
        return torch.where(
            x[:, 0] > 0, -x.square().sum(1) / 2, torch.where(x[:, 1] > 0, -torch.inf, torch.nan)
        )

    x = orn.Noise(0).normal((4000, 2), DOUBLE)
    x[:, 0] = x[:, 0].abs()
    y = after(half, x, HMC(0.8, torch.ones(2, dtype=DOUBLE)))
    assert float(y[:, 0].min()) > 0
    assert float(y[:, 0].square().mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / 4000))


def test_kernels_that_make_no_sense_are_refused():
    for wrong in ({"size": 0.0}, {"jitter": 0.0}, {"leaps": 0}, {"local": 2.0}):
        with pytest.raises(OrnsteinError, match="size"):
            HMC(**{"size": 1.0, "factor": torch.ones(1), **wrong})


def test_chains_find_scale_and_correlation_and_say_what_they_are_worth():
    """d = 5, standard deviations 0.01 .. 100: R-hat below 1.02, means within 4 of the standard
    errors that ESS promises."""
    stds = torch.logspace(-2, 2, 5, dtype=DOUBLE)
    starts = stds * (3 * orn.Noise(0).normal((16, 5), DOUBLE))
    chains = hmc(lambda x: -(x / stds).square().sum(1) / 2, starts, 200, orn.Noise(1), warmup=200)
    assert float(chains.r_hat.max()) < 1.02
    assert 0.6 < chains.acceptance < 0.95
    assert float(chains.ess.min()) > 800
    assert bool((chains.x.mean((0, 1)).abs() < 4 * stds / chains.ess.sqrt()).all())
    assert bool((chains.x.flatten(0, 1).std(0) / stds - 1).abs().max() < 4 / math.sqrt(800))


def test_ess_of_chains_whose_correlation_is_known():
    """An AR(1) chain with coefficient 0.8 is worth ``n (1 - 0.8) / (1 + 0.8)`` draws, within 15
    %."""
    from benchmarks.peers.replica_exchange import _chains

    z, x = orn.Noise(0).normal((40, 4000), DOUBLE).mT, torch.zeros(4000, 40, dtype=DOUBLE)
    for k in range(1, 4000):
        x[k] = 0.8 * x[k - 1] + 0.6 * z[k]
    result = _chains(x[:, :, None], 1.0, 1.0)
    assert float(result.ess[0]) == pytest.approx(160000 / 9, rel=0.15)
    assert float(result.r_hat[0]) == pytest.approx(1, abs=0.01)


def test_chains_that_are_apart_have_a_large_r_hat():
    apart = orn.targets.GaussianMixture(
        torch.tensor([[-9.0], [9.0]]), torch.ones(2, 1), torch.ones(2)
    )
    starts = torch.tensor([[-9.0], [9.0]], dtype=DOUBLE).repeat(4, 1) + 0.1 * orn.Noise(0).normal(
        (8, 1), DOUBLE
    )
    assert float(hmc(apart.log_prob, starts, 100, orn.Noise(0), warmup=100).r_hat[0]) > 2


def test_chains_must_start_inside():
    with pytest.raises(OrnsteinError, match="1 of 2 starts"):
        hmc(
            lambda x: torch.where(x[:, 0] > 0, -x[:, 0], -torch.inf),
            torch.tensor([[1.0], [-1.0]], dtype=DOUBLE),
            10,
            orn.Noise(0),
        )
