"""Strong orders of the reverse SDE: methods that follow one Brownian path, against the path's own
fine solution.

Its noise does not depend on the state, so Euler-Maruyama has strong order 1 (Kloeden and Platen
1992, section 10.2); no method that takes increments alone from the path can have more (Clark and
Cameron 1980). Given also the path's mean over each step, the stochastic Runge-Kutta method has 3/2,
and here, where the drift is linear and its next term is of mean 0, 2.
"""

import pytest
import torch

from ornstein.core import processes as p
from ornstein.core.methods import SRK, Ancestral, EulerMaruyama, Multistep
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random import BrownianPath
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.timesteps.clock import Log
from problems import NormalPosterior, fitted_slope

F64 = torch.float64
FINE, COUNTS, PATHS = 512, (16, 32, 64), 800
# and the range of the slope: methods of order 2 and 3 without noise come down to 1 from above
METHODS = {
    "EulerMaruyama": (EulerMaruyama(), 0.9, 1.1),
    "Ancestral": (Ancestral(), 0.9, 1.1),
    "Multistep(1)": (Multistep(1), 0.9, 1.1),
    "Multistep(2)": (Multistep(2), 0.9, 1.4),
    "Multistep(3, log)": (Multistep(3, 0.0, Log()), 0.9, 1.4),
    "SRK": (SRK(), 1.9, 2.1),
}


@pytest.fixture(scope="module", params=["VP", "EDM"])
def problem(request):
    """A reverse SDE away from its ends, a path on a fine grid, and the solution on it by the method
    of highest order."""
    sde = {"VP": p.VP(), "EDM": p.EDM(3.0)}[request.param]
    reverse, x = Reverse(NormalPosterior(sde, 0.5, 0.3), eta=1.0), Noise(0).normal((PATHS, 1), F64)
    times = sde.T * torch.linspace(0.8, 0.2, FINE + 1, dtype=F64)
    path = BrownianPath(x.shape, 0.0, sde.T, 3, times, F64, order=2)
    return reverse, x, times, path, simulate(reverse, x, times, SRK(), path)


@pytest.mark.parametrize("name", METHODS)
def test_strong_order(problem, name):
    """Slope of the mean distance over 16, 32 and 64 steps of one path, with a standard error below
    0.03."""
    reverse, x, times, path, exact = problem
    method, low, high = METHODS[name]
    ends = [simulate(reverse, x, times[:: FINE // n], method, path) for n in COUNTS]
    found = fitted_slope(torch.stack([(end - exact).abs()[:, 0] for end in ends]), COUNTS)
    assert found.stderr < 0.03, found
    assert low < found.slope < high, found
