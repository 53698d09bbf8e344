"""Strong orders: methods that follow one Brownian path, against the path's own fine solution.

The reverse SDE has noise that does not depend on the state, so Euler-Maruyama has strong order 1 (Kloeden and Platen 1992, section
10.2); no method that takes increments alone from the path can have more (Clark and Cameron 1980). Given also the path's mean over
each step, the stochastic Runge-Kutta method has 3/2.
"""

import pytest
import torch
from core_problems import NormalPosterior, slope

from ornstein.core import processes as p
from ornstein.core.brownian import BrownianPath
from ornstein.core.clock import Log
from ornstein.core.methods import SRK, Ancestral, EulerMaruyama, Multistep
from ornstein.core.noise import Noise
from ornstein.core.sde import Reverse
from ornstein.core.solve import simulate

F64 = torch.float64
FINE, COUNTS = 512, (8, 16, 32)
METHODS = {
    "EulerMaruyama": (EulerMaruyama(), 1.0),
    "Ancestral": (Ancestral(), 1.0),
    "Multistep(1)": (Multistep(1), 1.0),
    "Multistep(2)": (Multistep(2), 1.0),
    "Multistep(3, log)": (Multistep(3, 0.0, Log()), 1.0),
    "SRK": (SRK(), 1.0),
}


@pytest.fixture(scope="module", params=["VP", "EDM"])
def problem(request):
    """A reverse SDE away from its ends, a path on a fine grid, and the solution on it by the method of highest order."""
    sde = {"VP": p.VP(), "EDM": p.EDM(3.0)}[request.param]
    reverse, x = Reverse(NormalPosterior(sde, 0.5, 0.3), eta=1.0), Noise(0).normal((64, 1), F64)
    times = sde.T * torch.linspace(0.8, 0.2, FINE + 1, dtype=F64)
    path = BrownianPath(x.shape, 0.0, sde.T, 3, times, F64)
    return reverse, x, times, path, simulate(reverse, x, times, SRK(), path)


@pytest.mark.parametrize("name", METHODS)
def test_strong_order(problem, name):
    """Slope of the root mean square distance over 8, 16 and 32 steps of one path, at least the declared order less 0.2."""
    reverse, x, times, path, exact = problem
    method, order = METHODS[name]
    errors = [
        float((simulate(reverse, x, times[:: FINE // n], method, path) - exact).square().mean().sqrt()) for n in COUNTS
    ]
    found = slope(errors, list(COUNTS))
    assert order - 0.2 < found < order + 0.6, (found, errors)


class Means:
    """The randomness of one path on a fine grid: increments, and the areas that its means over the steps amount to."""

    def __init__(self, times, dB):
        self.times, self.h = times, float((times[0] - times[1]).abs())
        self.B = torch.cat([torch.zeros_like(dB[:1]), dB.cumsum(0)])

    def fold(self, *keys):
        return self

    def stream_like(self, x):
        return self

    def increment(self, t, s):
        first, last = (int(torch.argmin((self.times - u).abs())) for u in (t, s))
        part = self.B[first : last + 1] - self.B[first]
        mean = (part[:-1] + part[1:]).mean(0) / 2
        self.H = mean - part[-1] / 2
        return part[-1]

    def between(self, t, s):
        return self.increment(t, s) / (t - s).abs().sqrt()

    def area(self, t, s):
        return self.H

    def normal(self):
        raise NotImplementedError

    uniform = normal


@pytest.mark.parametrize("name", ["VP", "EDM"])
def test_stochastic_runge_kutta_has_strong_order_three_halves_given_the_means(name):
    """Over 8, 16, 32 and 64 steps against 1024, all with the means of a path of 8192; slope at least 1.3."""
    sde = {"VP": p.VP(), "EDM": p.EDM(3.0)}[name]
    reverse, x = Reverse(NormalPosterior(sde, 0.5, 0.3), eta=1.0), Noise(0).normal((256, 1), F64)
    times = sde.T * torch.linspace(0.8, 0.2, 8193, dtype=F64)
    noise = Means(times, float((times[0] - times[1]) ** 0.5) * Noise(1).normal((8192, 256, 1), F64))
    exact = simulate(reverse, x, times[::8], SRK(), noise)
    errors = [float((simulate(reverse, x, times[:: 8192 // n], SRK(), noise) - exact).square().mean().sqrt()) for n in (8, 16, 32, 64)]
    assert slope(errors, [8, 16, 32, 64]) > 1.3, errors
