"""The proof that the denoising objective bounds a likelihood, as five statements that are computed.

Notation, after Berner, Richter and Ullrich 2022: data ``Y_0`` become noise by ``dY = f Y ds +
g dB``, and a process X on [0, T] generates, ``dX = mu(X, T - t) dt + g(T - t) dB``,
``X_0 ~ p_{X_0}``, with the drift

    mu = g Phi - f y,                                                                            (1)

where ``Phi = g score`` is exact if X is to be the time reversal of Y. The density of X, read
backwards, is ``p(y, s) = p_X(y, T - s)``. With ``D = g^2 / 2``, the equations of Fokker-Planck (2),
Kolmogorov (3) and Hamilton-Jacobi-Bellman (4) are

    d_t p_X = (D p_X)'' - (mu p_X)',   D and mu at T - t,                                        (2)
    d_s p = -D p'' + mu p' + mu' p,                                                              (3)
    d_s V = -D V'' + mu V' - mu' + |g V'|^2 / 2,     V = -log p,                                 (4)

so V is the least cost of the control u in ``dZ = (-mu + g u) ds + g dB``, reached by ``u* = -g
V'``. The verification theorem is

    V(y, 0) = E[int_0^T (mu' + |u|^2 / 2) ds + V(Z_T, T)] - E[int_0^T |u - u*|^2 ds] / 2         (5)

for every control. For u = Phi the controlled process is Y itself, by (1), and the mean over the
data is the bound and its gap,

    E log p_{X_T}(Y_0) = E[int_0^T (-(g Phi - f y)' - |Phi|^2 / 2) ds + log p_{X_0}(Y_T)]
                         + E[int_0^T |Phi - u*|^2 ds] / 2.                                       (6)

The last step, Stokes' theorem, replaces a divergence by the noise N of ``Y_s = alpha Y_0 + sigma
N``:

    E[Phi'(Y_s)] = -E[Phi(Y_s) d log p(Y_s | Y_0)] = E[Phi(Y_s) N] / sigma.                      (7)

All statements are in one dimension, for data from a Gaussian mixture.
"""

__all__ = ["Proof"]

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.app.verify.problems import GRID, TWO_MODES
from ornstein.app.verify.statement import Statement, of_draws, of_numbers
from ornstein.calculus.integrals.girsanov import Accumulate, Girsanov
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.calculus.pde.grid import Grid
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
    """Integrals over simulated paths of Z, from which the statements are computed.

    For each path these are ``int mu' ds``, ``int |u*|^2 ds``, ``log dP / dP^u`` and ``V(Z_T, T)``.
    """

    running: Tensor
    square: Tensor
    log_ratio: Tensor
    terminal: Tensor


def _log_normal(spread: Tensor, variance: Tensor) -> Tensor:
    """Return ``E log N(y; m, variance)`` where ``E (y - m)^2 = spread``."""
    return -(spread / variance + (2 * math.pi * variance).log()) / 2


@dataclass(frozen=True)
class Proof:
    """The five steps of the proof as numerical statements, for one data law and one process.

    Each method returns both sides of its equation. A subclass that overrides `mu` or `divergence`
    shows how a step fails.

    Args:
        target: law of the data, one-dimensional.
        sde: the noising process.
        grid: for the equations; must hold all laws between 0 and T.
        steps: time steps of each solution.
    """

    target: GaussianMixture = field(default_factory=lambda: TWO_MODES)
    sde: LinearSDE = field(default_factory=OU)
    grid: Grid = GRID
    steps: int = 200

    @property
    def times(self) -> Float[Tensor, " k"]:
        """The increasing time grid from 0 to T, ``(steps + 1,)``."""
        return torch.linspace(0, self.sde.T, self.steps + 1, dtype=torch.float64)

    def log_p(self, y: Float[Tensor, "b 1"], s: Time) -> Float[Tensor, " b"]:
        """Return ``log p(y, s)``, the exact log-density of Y_s."""
        return self.target.posterior(self.sde).log_prob(y, s)

    def phi(self, y: Float[Tensor, "b 1"], s: Time) -> Float[Tensor, "b 1"]:
        """Return the control ``Phi = g d log p`` of the exact drift; finite at s = 0.

        Tweedie's formula divides by 0 there.
        """
        means, stds = self.target.means[:, 0].to(y), self.target.stds[:, 0].to(y)
        alpha = self.sde.alpha(s)
        variance = (alpha * stds).square() + self.sde.sigma(s).square()
        scores = (alpha * means - y) / variance
        log_weights = self.target.weights.to(y).log() - variance.log() / 2
        responsibilities = (log_weights - scores.square() * variance / 2).softmax(1)
        return self.sde.g2(s).sqrt() * (responsibilities * scores).sum(1, keepdim=True)

    def mu(self, y: Float[Tensor, "b 1"], s: Time) -> Float[Tensor, "b 1"]:
        """Return the drift ``mu = g Phi - f y`` of the generating process."""
        return self.sde.g2(s).sqrt() * self.phi(y, s) - self.sde.f(s) * y  # (1)

    def divergence(self, y: Float[Tensor, "b 1"], s: Time) -> Float[Tensor, " b"]:
        """Return the derivative ``mu'`` of the drift with respect to the state."""
        return torch.func.grad(lambda z: self.mu(z, s).sum())(y)[:, 0]

    @property
    def backward(self) -> SDE:
        """The uncontrolled process ``dZ = -mu ds + g dB`` as an equation."""
        return SDE(lambda y, s: -self.mu(y, s), lambda y, s: self.sde.g2(s).sqrt())

    def density(self, s: float) -> Float[Tensor, " cells"]:
        """Return the exact density ``p(., s)`` at the centres of the cells."""
        return self.grid.evaluate(lambda y: self.log_p(y, s).exp())

    def fokker_planck(self) -> Statement:
        """Compare the density of X, solved from that of Y_T, with the density of the data.

        This is the Fokker-Planck equation (2), up to t = T.
        """
        # the process X in the times s = T - t, which decrease, has the coefficients of Z
        start = self.density(self.sde.T)
        equation = FokkerPlanck(self.backward, self.grid)
        density = equation.solve(start / self.grid.integrate(start), self.times.flip(0))[-1]
        return of_numbers(density, self.density(0.0))  # (2)

    def kolmogorov(self) -> Statement:
        """Compare the same density, solved backwards as an expectation over paths of Z.

        This is Kolmogorov's equation (3), compared with the density of the data.
        """
        equation = KolmogorovBackward(self.backward, self.grid, self.divergence)
        return of_numbers(
            equation.solve(self.density(self.sde.T), self.times)[0], self.density(0.0)
        )  # (3)

    def hjb(self, within: float = 2.0) -> Statement:
        """Compare V and u* at s = 0 with ``-log p`` and ``g d log p``.

        This is the Hamilton-Jacobi-Bellman equation (4), solved on the grid.

        Args:
            within: only cells with ``|y| <= within`` are compared.
        """
        terminal = self.grid.evaluate(lambda y: -self.log_p(y, self.sde.T))
        control = HJB(self.backward, self.grid, self.divergence).solve(terminal, self.times)
        y = self.grid.centres
        inner = y[:, 0].abs() <= within
        exact = torch.stack((-self.log_p(y, 0.0), self.phi(y, 0.0)[:, 0]))
        return of_numbers(
            torch.stack((control.value[0], control.u[0, :, 0]))[:, inner], exact[:, inner]
        )  # (4)

    def hjb_equation(self, s: float = 0.3, within: float = 4.0) -> Statement:
        """Compare both sides of the Hamilton-Jacobi-Bellman equation for the exact V.

        This is (4) as it stands: ``d_s V`` and the right side, by automatic differentiation.

        Args:
            s: the time.
            within: only centres with ``|y| <= within`` are compared.
        """
        y = self.grid.centres
        time = torch.tensor(s, dtype=torch.float64)
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
        return of_numbers(rate, right)  # (4)

    def verification(
        self, y: float = 0.5, scale: float = 0.5, n: int = 4000, seed: int = 0
    ) -> Statement:
        """Compare the corrected cost of the control ``scale u*`` with V(y, 0).

        This is the verification theorem (5) at one point: the cost less half the mean squared
        distance from u*.

        Args:
            y: the start.
            scale: factor of the optimal control.
            n: number of simulated paths.
            seed: seed of the paths.
        """
        paths = self._controlled(y, scale, n, seed)
        cost = paths.running + scale**2 * paths.square / 2 + paths.terminal
        return of_draws(
            cost - (1 - scale) ** 2 * paths.square / 2,
            -self.log_p(torch.tensor([[y]]).double(), 0.0),
        )  # (5)

    def girsanov(
        self, y: float = 0.5, scale: float = 0.5, n: int = 4000, seed: int = 0
    ) -> Statement:
        """Compare weighted paths under the control ``scale u*`` with the density p(y, 0).

        The weights of Girsanov's theorem make the expectation (3) the same whatever the control.
        The arguments are those of `verification`.
        """
        paths = self._controlled(y, scale, n, seed)
        weight = (paths.log_ratio - paths.running - paths.terminal).exp()
        return of_draws(weight, self.log_p(torch.tensor([[y]]).double(), 0.0).exp())

    def _controlled(self, y: float, scale: float, n: int, seed: int) -> _Paths:
        """Simulate n paths of Z from y under the control ``scale u*``, where ``u* = Phi``."""
        uncontrolled = self.backward
        g = uncontrolled.diffusion_fn
        driven = SDE(lambda z, s: uncontrolled.drift(z, s) + g(z, s) * scale * self.phi(z, s), g)
        running = Accumulate(self.divergence)
        square = Accumulate(lambda z, s: self.phi(z, s).square()[:, 0])
        girsanov = Girsanov(uncontrolled)
        start = torch.full((n, 1), y, dtype=torch.float64)
        run = partial(simulate, driven, start, self.times, EulerMaruyama(), Noise(seed))
        end = run(watch=[running, square, girsanov])
        return _Paths(running.value, square.value, girsanov.value, -self.log_p(end, self.sde.T))

    def bound(self, scale: float = 0.7, mean: float = 0.3, std: float = 0.8) -> Statement:
        """Compare the likelihood less its bound with the gap, for a model with a wrong score.

        This is (6) for a model whose score is ``scale`` times that of N(mean, std^2). The density
        of such a model is Gaussian too, with a variance that solves a linear ODE, so both sides are
        integrals over time, taken by the trapezoidal rule on 10 000 points.

        Args:
            scale: factor of the score.
            mean, std: of the Gaussian whose score the model has.
        """
        s = torch.linspace(0, self.sde.T, 10_001, dtype=torch.float64)
        alpha = self.sde.alpha(s)
        sigma2 = self.sde.sigma(s).square()
        f = self.sde.f(s)
        g2 = self.sde.g2(s)
        assumed = alpha.square() * std**2 + sigma2
        slope = scale / assumed  # Phi = -g slope (y - alpha mean)
        growth = torch.cat((s[:1], torch.cumulative_trapezoid(2 * (g2 * slope + f), s)))
        noise = torch.cat((s[:1], torch.cumulative_trapezoid((-growth).exp() * g2, s)))
        start = (-growth[-1]).exp() * assumed[-1]
        variance = growth.exp() * (start + noise[-1] - noise)  # the variance of p(., s)
        data = (self.target.std.square() + (self.target.mean - mean).square())[0]
        spread = alpha.square() * data + sigma2  # E (Y_s - alpha mean)^2
        inside = torch.trapezoid(g2 * slope + f - g2 * slope.square() * spread / 2, s)
        bound = inside + _log_normal(spread[-1], assumed[-1])
        gap = torch.trapezoid(g2 * (slope - 1 / variance).square() * spread, s) / 2
        likelihood = _log_normal(spread[0], variance[0])
        return of_numbers((likelihood - bound).reshape(1), gap.reshape(1))  # (6)

    def stokes(self, s: float = 0.4) -> Statement:
        """Compare the mean divergence of a field with the mean of its product with the noise.

        This is (7) for ``Phi = tanh(2 y) + y / 3``, by Gauss-Hermite quadrature.

        Args:
            s: the time.
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        z, w = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
        means, stds = self.target.means[:, 0], self.target.stds[:, 0]
        alpha, sigma = self.sde.alpha(s), self.sde.sigma(s)
        y = alpha * (means[:, None, None] + stds[:, None, None] * z[:, None]) + sigma * z
        mass = self.target.weights[:, None, None] * w[:, None] * w
        divergences = mass * (2 / (2 * y).cosh().square() + 1 / 3)
        products = mass * ((2 * y).tanh() + y / 3) * z / sigma
        return of_numbers(products.sum().reshape(1), divergences.sum().reshape(1))  # (7)
