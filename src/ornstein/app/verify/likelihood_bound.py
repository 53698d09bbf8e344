"""The proof that the denoising objective bounds a likelihood, as five statements that run.

Notation, after Berner, Richter and Ullrich 2022: data ``Y_0`` are noised, ``dY = f Y ds + g dB``,
and a process X on [0, T] generates, ``dX = mu(X, T - t) dt + g(T - t) dB``, ``X_0 ~ p_{X_0}``, with
the drift

    mu = g Phi - f y,                                                                            (1)

where ``Phi = g score`` is exact for X to be the time reversal of Y. The density of X, read
backwards, is ``p(y, s) = p_X(y, T - s)``. With ``D = g^2 / 2``

    d_t p_X = (D p_X)'' - (mu p_X)',   D and mu at T - t,                                      Fokker-Planck  (2)
    d_s p = -D p'' + mu p' + mu' p,                                                               Kolmogorov  (3)
    d_s V = -D V'' + mu V' - mu' + |g V'|^2 / 2,     V = -log p,                                         HJB  (4)

so V is the least cost of the control u in ``dZ = (-mu + g u) ds + g dB``, reached by ``u* = -g
V'``,

    V(y, 0) = E[int_0^T (mu' + |u|^2 / 2) ds + V(Z_T, T)] - E[int_0^T |u - u*|^2 ds] / 2,           verification  (5)

for every control. For u = Phi the controlled process is Y itself, by (1), and the mean over the
data is the bound and its gap,

    E log p_{X_T}(Y_0) = E[int_0^T (-(g Phi - f y)' - |Phi|^2 / 2) ds + log p_{X_0}(Y_T)] + E[int_0^T |Phi - u*|^2 ds] / 2.  (6)

The last step, Stokes' theorem, replaces a divergence by the noise N of ``Y_s = alpha Y_0 + sigma
N``:

    E[Phi'(Y_s)] = -E[Phi(Y_s) d log p(Y_s | Y_0)] = E[Phi(Y_s) N] / sigma.                      (7)

All in one dimension, with data from a Gaussian mixture, for which every density is known.
"""

__all__ = ["Proof", "Statement"]

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.calculus.integrals.girsanov import Accumulate, Girsanov
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.calculus.pde.grid import Axis, Grid
from ornstein.calculus.pde.hjb import HJB
from ornstein.calculus.pde.kolmogorov_backward import KolmogorovBackward
from ornstein.core.methods.euler import EulerMaruyama
from ornstein.core.processes.linear import LinearSDE, Time
from ornstein.core.processes.reference import OU
from ornstein.core.processes.sde import SDE
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.reference.targets.mixtures import GaussianMixture

Field = Callable[[Tensor, Time], Tensor]


class _Paths(NamedTuple):
    """Of each path of Z: ``int mu' ds``, ``int |u*|^2 ds``, ``log dP / dP^u`` and ``V(Z_T, T)``."""

    running: Tensor
    square: Tensor
    log_ratio: Tensor
    terminal: Tensor


class Statement(NamedTuple):
    """Two sides of an equation.

    Attributes:
        computed: by a solver or a simulation.
        exact: in closed form, or by quadrature.
        stderr: of ``computed - exact`` where it was simulated, else 0.
    """

    computed: Tensor
    exact: Tensor
    stderr: Tensor

    @property
    def error(self) -> float:
        """The largest difference."""
        return float((self.computed - self.exact).abs().max())


def _two_modes() -> GaussianMixture:
    return GaussianMixture(
        torch.tensor([[-1.0], [1.2]]), torch.tensor([[0.4], [0.5]]), torch.tensor([0.4, 0.6])
    )


def _exactly(computed: Tensor, exact: Tensor) -> Statement:
    return Statement(computed, exact, torch.zeros_like(computed))


def _estimated(draws: Tensor, exact: Tensor) -> Statement:
    return Statement(
        draws.mean().reshape(1), exact, (draws.std() / math.sqrt(len(draws))).reshape(1)
    )


def _log_normal(spread: Tensor, variance: Tensor) -> Tensor:
    """``E log N(y; m, variance)`` where ``E (y - m)^2 = spread``."""
    return -(spread / variance + (2 * math.pi * variance).log()) / 2


@dataclass(frozen=True)
class Proof:
    """The statements (2) to (7), for one law of the data and one process. Overriding `mu` is how to
    see them fail.

    Args:
        target: law of the data, one-dimensional.
        sde: the noising process.
        grid: for the equations; must hold all laws between 0 and T.
        steps: time steps of each solution.
    """

    target: GaussianMixture = field(default_factory=_two_modes)
    sde: LinearSDE = field(default_factory=OU)
    grid: Grid = field(default_factory=lambda: Grid(Axis(-6, 6, 400)))
    steps: int = 200

    @property
    def times(self) -> Float[Tensor, " k"]:
        """From 0 to T, increasing."""
        return torch.linspace(0, self.sde.T, self.steps + 1, dtype=torch.float64)

    def log_p(self, y: Float[Tensor, "b 1"], s: Time) -> Float[Tensor, " b"]:
        """``log p(y, s)``, exact: that of Y_s."""
        return self.target.posterior(self.sde).log_prob(y, s)

    def phi(self, y: Float[Tensor, "b 1"], s: Time) -> Float[Tensor, "b 1"]:
        """``Phi = g d log p``, the control of (1); finite at s = 0, where Tweedie's formula is
        not."""
        means, stds = self.target.means[:, 0].to(y), self.target.stds[:, 0].to(y)
        alpha, variance = (
            self.sde.alpha(s),
            (self.sde.alpha(s) * stds).square() + self.sde.sigma(s).square(),
        )
        pull = (alpha * means - y) / variance
        share = (
            self.target.weights.to(y).log() - variance.log() / 2 - pull.square() * variance / 2
        ).softmax(1)
        return self.sde.g2(s).sqrt() * (share * pull).sum(1, keepdim=True)

    def mu(self, y: Float[Tensor, "b 1"], s: Time) -> Float[Tensor, "b 1"]:
        """The drift (1) of the generating process."""
        return self.sde.g2(s).sqrt() * self.phi(y, s) - self.sde.f(s) * y  # (1)

    def divergence(self, y: Float[Tensor, "b 1"], s: Time) -> Float[Tensor, " b"]:
        """``mu'``."""
        return torch.func.grad(lambda z: self.mu(z, s).sum())(y)[:, 0]

    @property
    def backward(self) -> SDE:
        """``dZ = -mu ds + g dB``, the process without control."""
        return SDE(lambda y, s: -self.mu(y, s), lambda y, s: self.sde.g2(s).sqrt())

    def density(self, s: float) -> Float[Tensor, " cells"]:
        """``p(., s)`` at the centres, exact."""
        return self.grid.evaluate(lambda y: self.log_p(y, s).exp())

    def fokker_planck(self) -> Statement:
        """(2): the density of X, started from that of Y_T and solved up to t = T, is that of the
        data."""
        generating = SDE(
            lambda x, s: -self.mu(x, s), lambda x, s: self.sde.g2(s).sqrt()
        )  # for times s = T - t, which decrease
        start = self.density(self.sde.T)
        found = FokkerPlanck(generating, self.grid).solve(
            start / self.grid.integrate(start), self.times.flip(0)
        )[-1]
        return _exactly(found, self.density(0.0))  # (2)

    def kolmogorov(self) -> Statement:
        """(3): the same density, solved backwards as an expectation over paths of Z."""
        equation = KolmogorovBackward(self.backward, self.grid, self.divergence)
        return _exactly(
            equation.solve(self.density(self.sde.T), self.times)[0], self.density(0.0)
        )  # (3)

    def hjb(self, within: float = 2.0) -> Statement:
        """(4): V and u* at s = 0, in the cells with |y| <= ``within``, against ``-log p`` and ``g d
        log p``."""
        terminal = self.grid.evaluate(lambda y: -self.log_p(y, self.sde.T))
        found = HJB(self.backward, self.grid, self.divergence).solve(terminal, self.times)
        y = self.grid.centres
        inner = y[:, 0].abs() <= within
        exact = torch.stack((-self.log_p(y, 0.0), self.phi(y, 0.0)[:, 0]))
        return _exactly(
            torch.stack((found.value[0], found.u[0, :, 0]))[:, inner], exact[:, inner]
        )  # (4)

    def hjb_equation(self, s: float = 0.3, within: float = 4.0) -> Statement:
        """(4) as it stands, at the centres with |y| <= ``within``: ``d_s V`` and its right side, by
        differentiating the exact V."""
        y, time = self.grid.centres, torch.tensor(s, dtype=torch.float64)
        y = y[y[:, 0].abs() <= within]

        def value(y: Tensor, s: Tensor) -> Tensor:
            return -self.log_p(y, s)

        def slope(y: Tensor) -> Tensor:
            return torch.func.grad(lambda z: value(z, time).sum())(y)

        rate = torch.func.jvp(lambda t: value(y, t), (time,), (torch.ones_like(time),))[1]
        first, second = slope(y)[:, 0], torch.func.grad(lambda z: slope(z).sum())(y)[:, 0]
        g2 = self.sde.g2(time)
        control = g2 * first.square() / 2
        right = (
            -g2 / 2 * second + self.mu(y, time)[:, 0] * first - self.divergence(y, time) + control
        )
        return _exactly(rate, right)  # (4)

    def verification(
        self, y: float = 0.5, scale: float = 0.5, n: int = 4000, seed: int = 0
    ) -> Statement:
        """(5) at one point for the control ``scale u*``: the cost less half the squared distance to
        u*, and V(y, 0)."""
        paths = self._controlled(y, scale, n, seed)
        cost = paths.running + scale**2 * paths.square / 2 + paths.terminal
        return _estimated(
            cost - (1 - scale) ** 2 * paths.square / 2,
            -self.log_p(torch.tensor([[y]]).double(), 0.0),
        )  # (5)

    def girsanov(
        self, y: float = 0.5, scale: float = 0.5, n: int = 4000, seed: int = 0
    ) -> Statement:
        """(3) under the control ``scale u*``, with the weights of Girsanov: p(y, 0), whatever the
        control."""
        paths = self._controlled(y, scale, n, seed)
        weight = (paths.log_ratio - paths.running - paths.terminal).exp()
        return _estimated(weight, self.log_p(torch.tensor([[y]]).double(), 0.0).exp())

    def _controlled(self, y: float, scale: float, n: int, seed: int) -> "_Paths":
        """n paths of Z from y under the control ``scale u*``; ``u* = Phi``."""
        g, uncontrolled = self.backward.diffusion_fn, self.backward
        driven = SDE(lambda z, s: uncontrolled.drift(z, s) + g(z, s) * scale * self.phi(z, s), g)
        running, square = (
            Accumulate(self.divergence),
            Accumulate(lambda z, s: self.phi(z, s).square()[:, 0]),
        )
        girsanov, start = Girsanov(uncontrolled), torch.full((n, 1), y, dtype=torch.float64)
        end = simulate(
            driven,
            start,
            self.times,
            EulerMaruyama(),
            Noise(seed),
            watch=[running, square, girsanov],
        )
        return _Paths(running.value, square.value, girsanov.value, -self.log_p(end, self.sde.T))

    def bound(self, scale: float = 0.7, mean: float = 0.3, std: float = 0.8) -> Statement:
        """(6) for a model whose score is ``scale`` times that of N(mean, std^2): the likelihood
        less the bound, and the gap.

        The model's density is Gaussian too, with a variance that solves a linear ODE, so both sides
        are integrals over time, taken by the trapezoidal rule on 10 000 points.
        """
        s = torch.linspace(0, self.sde.T, 10_001, dtype=torch.float64)
        alpha, sigma2, f, g2 = (
            self.sde.alpha(s),
            self.sde.sigma(s).square(),
            self.sde.f(s),
            self.sde.g2(s),
        )
        assumed = alpha.square() * std**2 + sigma2
        slope = scale / assumed  # Phi = -g slope (y - alpha mean)
        growth = torch.cat((s[:1], torch.cumulative_trapezoid(2 * (g2 * slope + f), s)))
        spent = torch.cat((s[:1], torch.cumulative_trapezoid((-growth).exp() * g2, s)))
        own = growth.exp() * (
            (-growth[-1]).exp() * assumed[-1] + spent[-1] - spent
        )  # the variance of p(., s)
        data = (self.target.std.square() + (self.target.mean - mean).square())[0]
        spread = alpha.square() * data + sigma2  # E (Y_s - alpha mean)^2
        inside = torch.trapezoid(g2 * slope + f - g2 * slope.square() * spread / 2, s)
        bound = inside + _log_normal(spread[-1], assumed[-1])
        gap = torch.trapezoid(g2 * (slope - 1 / own).square() * spread, s) / 2
        return _exactly((_log_normal(spread[0], own[0]) - bound).reshape(1), gap.reshape(1))  # (6)

    def stokes(self, s: float = 0.4) -> Statement:
        """(7) for ``Phi = tanh(2 y) + y / 3``: the mean divergence, and the mean product with the
        noise."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        z, w = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
        means, stds = self.target.means[:, 0], self.target.stds[:, 0]
        alpha, sigma = self.sde.alpha(s), self.sde.sigma(s)
        y = alpha * (means[:, None, None] + stds[:, None, None] * z[:, None]) + sigma * z
        mass = self.target.weights[:, None, None] * w[:, None] * w
        left = mass * (2 / (2 * y).cosh().square() + 1 / 3)
        right = mass * ((2 * y).tanh() + y / 3) * z / sigma
        return _exactly(right.sum().reshape(1), left.sum().reshape(1))  # (7)
