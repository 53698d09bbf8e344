"""Test problems with densities in closed form, shared by the checks of `ornstein verify`.

Data are mixtures of Gaussians in one dimension, for which the density and the score at every time
of a noising process are explicit. Densities on a grid use 400 cells from -6 to 6, which hold all of
these laws. Two routes through the library are compared in several documents, so they are written
once: a reverse equation solved as a Fokker-Planck equation, and the Fokker-Planck equation of a
generating process at single points.
"""

__all__ = [
    "AUTODIFF",
    "BROWNIAN",
    "CONSTANT_NOISE",
    "COSINE",
    "DAMPED",
    "GAUSSIAN",
    "GRID",
    "HALF",
    "POINTS",
    "QUADRATURE",
    "ROUNDING",
    "SAMPLES",
    "SECOND_ORDER",
    "SEED",
    "TWO_MODES",
    "PartialReverse",
    "reversed_density",
    "reversed_rate",
    "time_derivative",
]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.app.verify.check import Outcome, exactly
from ornstein.calculus import adjoint_generator
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.calculus.pde.grid import Axis, Grid
from ornstein.core.processes import Cosine, Damped
from ornstein.core.processes.linear import Time
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.sde import SDE, Equation
from ornstein.reference.targets.mixtures import GaussianMixture, MixturePosterior, Normal

SEED = 0
"""Seed of every check, so that each run of `ornstein verify` prints the same numbers."""
SAMPLES = 4000
"""Number of draws of a check that estimates a mean."""
ROUNDING = "rounding in float64"
"""Where the tolerance of a check comes from, if the only error is rounding."""
AUTODIFF = "automatic differentiation, and rounding"
"""Where the tolerance of a check comes from, if derivatives are taken."""
QUADRATURE = "Gauss-Legendre quadrature with 64 nodes, and rounding"
"""Where the tolerance of a check comes from, if an integral is taken."""
SECOND_ORDER = "second order in cells and steps, 400 cells"
"""Where the tolerance of a check comes from, if an equation is solved on a grid."""

TWO_MODES = GaussianMixture(
    torch.tensor([[-1.0], [1.2]]), torch.tensor([[0.4], [0.5]]), torch.tensor([0.4, 0.6])
)
"""Two Gaussians, the usual data."""
GAUSSIAN = Normal(torch.tensor([0.0]), torch.tensor([0.6]))
"""One Gaussian, for which every ancestral step is exact."""
GRID = Grid(Axis(-6, 6, 400))
"""Cells of width 0.03."""
POINTS = torch.linspace(-2, 2, 17, dtype=torch.float64)[:, None]
"""States at which statements that hold point by point are compared, ``(17, 1)``."""
HALF = torch.tensor(0.5, dtype=torch.float64)
"""The middle of the time interval [0, 1]."""
COSINE = Cosine()
"""The cosine schedule."""
CONSTANT_NOISE = Damped(lambda u: torch.full_like(u, 1.3))
"""The process ``dX = -X dt + 1.3 dB``."""
DAMPED = Damped(lambda u: 0.5 + u)
"""The process ``dX = -X dt + (1/2 + t) dB``, whose variance is a polynomial and an exponential."""
BROWNIAN = SDE(lambda x, t: torch.zeros_like(x), lambda x, t: torch.ones_like(x))
"""Brownian motion as an equation, ``dX = dB``."""


def time_derivative(f: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """Return the derivative ``f'(t)`` of a function of time by automatic differentiation."""
    return torch.func.jvp(f, (t,), (torch.ones_like(t),))[1]


@dataclass(frozen=True)
class PartialReverse:
    """The reverse equation with the score times ``factor`` and the noise times ``eta``.

    It runs down in time, as `Reverse` does: ``dX = (f X - c g^2 score) dt + eta g dB``. With c = 1
    and eta = 1 it is the reverse SDE, with c = 1/2 and eta = 0 the probability-flow ODE.

    Args:
        posterior: the exact posterior, which knows the score.
        factor: c.
        eta: factor of the noise.
    """

    posterior: MixturePosterior
    factor: float
    eta: float = 1.0

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """Return the drift ``f(t) x - c g(t)^2 score(x, t)``."""
        sde = self.posterior.sde
        return sde.f(t) * x - self.factor * sde.g2(t) * Reverse(self.posterior).score(x, t)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """Return the diffusion ``eta g(t)``."""
        return self.eta * self.posterior.sde.diffusion(x, t)

    @property
    def generating(self) -> SDE:
        """The same equation in the increasing time ``s = T - t``."""
        return SDE(lambda x, t: -self.drift(x, t), self.diffusion)


def reversed_density(equation: Equation, posterior: MixturePosterior) -> Outcome:
    """Compare the end density of an equation run from time 1 to 0 with the density of the data.

    The equation is solved as a Fokker-Planck equation from the exact density at time 1.
    """
    times = torch.linspace(1.0, 0.0, 101, dtype=torch.float64)
    start = GRID.density(lambda x: posterior.log_prob(x, 1.0).exp())
    computed = FokkerPlanck(equation, GRID).solve(start, times)[-1]
    data = GRID.evaluate(lambda x: TWO_MODES.log_prob(x).exp())
    return exactly(computed, data, 0.01, SECOND_ORDER)


def reversed_rate(equation: PartialReverse, x: Tensor, t: Tensor) -> Outcome:
    """Compare the Fokker-Planck rate of a generating process at p_t with ``-d_t p_t``, at x.

    Both are equal exactly where the process started from p_t has the law p_{t-s} at time s.
    """
    posterior = equation.posterior
    computed = adjoint_generator(lambda y: posterior.log_prob(y, t).exp(), equation.generating)
    rate = time_derivative(lambda s: posterior.log_prob(x, s).exp(), t)
    return exactly(computed(x, t), -rate, 1e-10, AUTODIFF)
