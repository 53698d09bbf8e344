"""Stochastic Runge-Kutta: its law per step, its order without noise, its strong order with it."""

import math

import pytest
import torch

from ornstein.core import processes as p
from ornstein.core.methods import SRK, EulerMaruyama, RungeKutta
from ornstein.core.methods.runge_kutta import rk4
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.sde import SDE
from ornstein.core.random import BrownianPath
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.errors import OrnsteinError
from problems import mixture, slope

F64 = torch.float64
OU = SDE(lambda x, t: -x, lambda x, t: torch.full((), math.sqrt(2), dtype=x.dtype))


class Given:
    """Randomness that is written down: an increment and a normal number."""

    def __init__(self, increment: float, normal: float) -> None:
        self.values = increment, normal

    def increment(self, t, s):
        return torch.full((1, 1), self.values[0], dtype=F64)

    def normal(self):
        return torch.full((1, 1), self.values[1], dtype=F64)

    def between(self, t, s):
        return self.increment(t, s)

    def area(self, t, s):
        return self.normal() * ((s - t).abs() / 12).sqrt()

    def uniform(self):
        return self.normal()


def one_step(h: float, x: float, increment: float, normal: float) -> float:
    t = torch.tensor(0.0, dtype=F64)
    return float(
        SRK().step(OU, torch.full((1, 1), x, dtype=F64), t, t + h, Given(increment, normal), None).x
    )


def test_the_mean_and_variance_of_a_step_are_exact_to_third_order():
    """Ornstein-Uhlenbeck: ``e^-h`` and ``1 - e^-2h``; a weak order of 2 leaves O(h^3)."""
    errors = {"mean": [], "variance": []}
    for h in (0.1, 0.05):
        errors["mean"].append(abs(one_step(h, 1.0, 0.0, 0.0) - math.exp(-h)))
        variance = h * one_step(h, 0.0, 1.0, 0.0) ** 2 + one_step(h, 0.0, 0.0, 1.0) ** 2
        errors["variance"].append(abs(variance + math.expm1(-2 * h)))
    for values in errors.values():
        assert slope(values, [10, 20]) > 2.8


@pytest.mark.parametrize("sde", [p.VP(), p.EDM(3.0)], ids=repr)
def test_without_noise_it_has_order_2(sde):
    flow, x = Reverse(mixture().posterior(sde), eta=0.0), Noise(0).normal((16, 2), F64)

    def run(n, method):
        return simulate(flow, x, sde.T * torch.linspace(0.9, 0.1, n + 1, dtype=F64), method)

    exact = run(160, RungeKutta(rk4))
    errors = [float((run(n, SRK()) - exact).square().mean().sqrt()) for n in (40, 80)]
    assert slope(errors, [40, 80]) == pytest.approx(2, abs=0.25)


def test_on_one_path_it_is_nearer_to_the_solution_than_euler_maruyama():
    """``dX = sin(t) X dt + cos(t) dB``; both follow the path of a thousand fine steps."""
    equation = SDE(
        lambda x, t: torch.sin(torch.as_tensor(t)) * x,
        lambda x, t: torch.cos(torch.as_tensor(t)).to(x.dtype),
    )
    fine = torch.linspace(0, 1, 1025, dtype=F64)
    path, x = (
        BrownianPath((512, 1), t1=1.0, seed=3, cells=fine, dtype=F64),
        torch.ones(512, 1, dtype=F64),
    )
    exact = simulate(equation, x, fine, EulerMaruyama(), path)
    errors = {
        type(method).__name__: float(
            (simulate(equation, x, fine[::64], method, path) - exact).square().mean().sqrt()
        )
        for method in (SRK(), EulerMaruyama())
    }
    assert errors["SRK"] < 0.6 * errors["EulerMaruyama"]


def test_samples_of_the_reverse_sde_have_the_variance_of_the_data():
    """4 standard errors of 20 000 samples, and O(h^2) at 60 steps."""
    sde, n = p.VP(), 20_000
    x = simulate(
        Reverse(mixture().posterior(sde)), Noise(0).normal((n, 2)), sde.times(60), SRK(), Noise(1)
    )
    exact = mixture().std.square().float()
    assert ((x.var(0) - exact).abs() < 4 * exact * math.sqrt(2 / n) + 0.02 * exact).all()


def test_no_grid_starts_without_noise():
    with pytest.raises(OrnsteinError, match="there is no noise"):
        simulate(
            Reverse(mixture().posterior(p.VP()), 0.0),
            torch.ones(2, 2),
            torch.tensor([0.0, 0.5]),
            SRK(),
        )
