"""Equations: time reversal, Langevin dynamics, and both directions of one loop."""

import math

import pytest
import torch

from ornstein.core import processes as p
from ornstein.core.methods import EulerMaruyama, ForwardTransition
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.sde import SDE, Langevin
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from problems import LAWS, NormalPosterior, mixture

F64 = torch.float64


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_drift_is_andersons_reversal(name, eta):
    """``f x - (1 + eta^2) / 2 g^2 grad log p_t(x)``, with the score by autodiff of the noised
    density."""
    law = LAWS[name]
    posterior = mixture().posterior(law.sde)
    for t in law.inner(4):
        x = Noise(0).normal((5, 2), F64) * torch.hypot(2 * law.alpha(t), law.var(t).sqrt())
        y = x.clone().requires_grad_()
        (score,) = torch.autograd.grad(posterior.log_prob(y, t).sum(), y)
        reverse = Reverse(posterior, eta)
        assert torch.allclose(reverse.score(x, t), score, rtol=1e-8, atol=1e-10)
        drift = law.f(t) * x - (1 + eta**2) / 2 * law.g2(t) * score
        scale = float(drift.abs().max() + law.f(t).abs() * x.abs().max())
        assert (reverse.drift(x, t) - drift).abs().max() < 1e-9 * scale
        assert torch.allclose(reverse.diffusion(x, t), eta * law.g2(t).sqrt(), rtol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_reversal_keeps_the_marginals(eta):
    """Fokker-Planck for Gaussian data, time decreasing: ``-V' = -2 a V + eta^2 g^2`` with the drift
    ``a x``."""
    sde, var, t = p.VP(), 0.6, torch.tensor(0.4, dtype=F64)

    def total(u):
        return sde.alpha(u) ** 2 * var + sde.sigma(u) ** 2

    growth = (total(t + 1e-5) - total(t - 1e-5)) / 2e-5
    slope = Reverse(NormalPosterior(sde, 0.0, var), eta).drift(torch.ones(1, 1, dtype=F64), t)
    assert float(2 * slope * total(t) - eta**2 * sde.g2(t)) == pytest.approx(
        float(growth), rel=1e-6
    )


def test_only_the_end_of_time_is_clean():
    reverse = Reverse(NormalPosterior(p.VP()))
    assert reverse.ends_clean(0.0) and not reverse.ends_clean(1e-4) and not reverse.ends_clean(1.0)


def test_langevin_dynamics_keep_their_density():
    """Euler's steps for ``N(0, v)``: variance ``v / (1 - h / 2v)`` when stationary. 40 000 samples,
    4 standard errors."""
    v, h, n = 0.7, 0.05, 40_000
    stationary = v / (1 - h / (2 * v))
    x = math.sqrt(stationary) * Noise(0).normal((n, 1), F64)
    times = h * torch.arange(21, dtype=F64)
    end = simulate(Langevin(lambda x: -x / v), x, times, EulerMaruyama(), Noise(1))
    assert abs(float(end.mean())) < 4 * math.sqrt(stationary / n)
    assert abs(float(end.var()) / stationary - 1) < 4 * math.sqrt(2 / n)


def test_noising_has_the_law_of_the_marginal():
    """Four steps of the exact kernel from one point: mean and variance within 4 standard errors of
    40 000 samples."""
    sde, n = p.OU(1.5, 2.0), 40_000
    x0 = torch.full((n, 1), 3.0, dtype=F64)
    end = simulate(sde, x0, torch.linspace(0, 1, 5, dtype=F64), ForwardTransition(), Noise(2))
    law = sde.marginal(x0[:1], 1.0)
    assert abs(float(end.mean() - law.mean)) < 4 * float(law.std) / math.sqrt(n)
    assert abs(float(end.var() / law.std**2) - 1) < 4 * math.sqrt(2 / n)


def test_an_ode_runs_there_and_back():
    equation = SDE(lambda x, t: torch.sin(x) + t)
    assert equation.deterministic
    x, times = Noise(0).normal((4, 2), F64), torch.linspace(0, 1, 4001, dtype=F64)
    back = simulate(
        equation, simulate(equation, x, times, EulerMaruyama()), times.flip(0), EulerMaruyama()
    )
    assert (back - x).abs().max() < 2e-3


def test_an_equation_of_two_functions_uses_them():
    equation = SDE(lambda x, t: -2 * x, lambda x, t: 0.5 + 0 * x)
    x, times = torch.ones(3, 1, dtype=F64), torch.tensor([0.0, 0.25], dtype=F64)
    assert not equation.deterministic
    end = simulate(equation, x, times, EulerMaruyama(), Noise(0))
    z = (end - (x - 0.5)) / (0.5 * 0.5)
    assert torch.allclose(end, 0.5 + 0.25 * z) and z.abs().max() < 6
