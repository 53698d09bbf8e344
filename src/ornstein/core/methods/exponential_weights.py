r"""Weights of exponential integrators, which solve the linear part of the reverse equation exactly.

What remains is an integral of an interpolating polynomial against the kernel of the linear part.
DPM-Solver, DEIS, UniPC, SEEDS and their relatives are such methods; they differ in three choices,
the quantity that is interpolated, the variable in which it is, and the rule for the integral.

Notation: ``r = sigma / alpha``, ``y = x / alpha``, D the posterior mean. For data ``N(0, d^2)`` the
posterior mean is ``k y`` with ``k = d^2 / (d^2 + r^2)``; the difference ``F = D - k y`` is what a
method has to follow. With ``u = d^2 + r^2`` and ``m = (1 + eta^2) / 2``, the reverse equation (eq.
1 of `ornstein.core.processes.reverse`) of any eta, from r_t down to r_s, reads

    y_s = (u_s / u_t)^m y_t + 2 m int_{r_s}^{r_t} (u_s / u)^m F / r dr
          + sqrt(u_s (1 - (u_s / u_t)^{eta^2})) z.                                               (1)

The number d makes the quantities of the field: with d = 0, F is the clean point (data prediction);
with d = infinity, ``-F / r`` is the noise; with d the standard deviation of the data, ``-F sqrt(u)
/ (d r)`` is the velocity. These, q = w F, vary slowly, and are interpolated in a clock c through
their values at nodes ``c_j``. With the Lagrange basis l_j and B the order-1 weight of F_t,

    y_s = (u_s / u_t)^m y_t + B sum_j a_j (w_j / w_t) F_j + noise,   a_j = E[l_j(c)],            (2)

where c is distributed over the step with density proportional to ``u^{-(1 + eta^2 / 2)} dr`` (the
rule `exact`), or sits in the middle of the step (`middle`), or is uniform (`even`). Everything is
computed in float64 once per run; numbers on x instead of y carry factors of alpha that keep them
finite at both ends.
"""

__all__ = [
    "FirstOrderStep",
    "GridCoefficients",
    "Weights",
    "even",
    "exact",
    "interpolate",
    "linear_part",
    "middle",
    "middle_bh1",
]

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.core.numerics.quadrature import gauss_legendre
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.timesteps.clock import Clock

_NODES = 24  # Gauss-Legendre nodes per step: the integrands are smooth, their error is rounding


class GridCoefficients:
    """The coefficients of a process on a grid of times, for data ``N(0, d^2)``.

    Args:
        sde: the process.
        times: the grid, ``(n + 1, *batch)``.
        data_std: d, from 0 to infinity.
        clock: the variable c of the interpolation.

    All attributes have the shape of the grid and are float64: ``alpha``, ``sigma``, their ratio
    ``sigma / alpha``, and c.
    """

    def __init__(self, sde: LinearSDE, times: Tensor, data_std: float, clock: Clock) -> None:
        self.sde = sde
        self.d = data_std
        self.clock = clock
        self.times = times.double()
        self.alpha, self.sigma = sde.alpha(self.times), sde.sigma(self.times)
        self.ratio = sde.ratio(self.times)
        self.c = clock.value(sde, self.times, self.ratio)

    @cached_property
    def scale(self) -> Tensor:
        """The standard deviation ``alpha sqrt(u)`` of Gaussian x; per d if d is infinite."""
        if math.isinf(self.d):
            return self.alpha
        return torch.hypot(self.d * self.alpha, self.sigma) if self.d else self.sigma

    @cached_property
    def kappa(self) -> Tensor:
        """The factor ``kappa = k / alpha`` from x to the posterior mean of Gaussian data."""
        if math.isinf(self.d):
            return 1 / self.alpha
        if not self.d:
            return torch.zeros_like(self.alpha)
        return self.d**2 * self.alpha / self.scale.square()

    @cached_property
    def weight(self) -> Tensor:
        """The weight w of ``q = w F``, up to a constant: 1, 1 / r, or ``1 / sin(atan(r / d))``."""
        if math.isinf(self.d):
            return 1 / self.ratio
        return self.scale / self.sigma if self.d else torch.ones_like(self.alpha)

    def density(self, ratio: Tensor, at: Tensor, eta: float) -> Tensor:
        """Return ``u^{-(1 + eta^2 / 2)}`` at a ratio, relative to its value at the ratio ``at``."""
        if math.isinf(self.d):
            return torch.ones_like(ratio)
        return ((self.d**2 + at.square()) / (self.d**2 + ratio.square())) ** (1 + eta**2 / 2)


@dataclass(frozen=True)
class Weights:
    """A rule for the weights of an interpolated step, whose ``repr`` is the name of the rule.

    Args:
        rule: ``(grid, c_t, c_s, nodes, eta)`` to a list of the ``a_j = E[l_j(c)]``, one tensor for
            each node; c_t and c_s are the clock at the start and the end of the step.
    """

    rule: Callable[[GridCoefficients, Tensor, Tensor, list[Tensor], float], list[Tensor]]

    def __call__(
        self, grid: GridCoefficients, c_t: Tensor, c_s: Tensor, nodes: list[Tensor], eta: float
    ) -> list[Tensor]:
        return self.rule(grid, c_t, c_s, nodes, eta)

    def __repr__(self) -> str:
        return self.rule.__name__


class FirstOrderStep(NamedTuple):
    """The coefficients of first-order steps ``x_s = keep x_t + gain (D - kappa x_t) + std z``.

    Attributes:
        kappa: factor of x_t in the residual.
        keep: factor of x_t, the linear part.
        gain: factor of the residual.
        std: standard deviation of the noise, 0 for eta = 0.
    """

    kappa: Tensor
    keep: Tensor
    gain: Tensor
    std: Tensor


def linear_part(grid: GridCoefficients, t: Tensor, s: Tensor, eta: float) -> FirstOrderStep:
    """Return the first-order steps between rows t and s of a grid, in x rather than y.

    Noise prediction says nothing where there is no signal: such a step is the DDIM step on the
    clean point.
    """
    scale = grid.scale
    ratio = grid.ratio
    m2 = 1 + eta**2
    relative = ratio[s] / ratio[t]
    if math.isinf(grid.d):
        fresh = eta * grid.alpha[s] * (ratio[t].square() - ratio[s].square()).clamp(min=0).sqrt()
        step = FirstOrderStep(
            grid.kappa[t], grid.alpha[s] / grid.alpha[t], grid.alpha[s] * m2 * (1 - relative), fresh
        )
        blank = grid.alpha[t] == 0
        if not bool(blank.any()):
            return step
        ddim = linear_part(GridCoefficients(grid.sde, grid.times, 0.0, grid.clock), t, s, eta)
        return FirstOrderStep(*(torch.where(blank, b, a) for a, b in zip(step, ddim, strict=True)))
    keep = (scale[s] / scale[t]) ** m2 * (grid.alpha[t] / grid.alpha[s]) ** (eta**2)
    if grid.d == 0:
        gain = -grid.alpha[s] * torch.expm1(m2 * relative.log())
    else:
        gain = grid.weight[t] * scale[s] / grid.d * m2 * _angle_integral(grid, t, s, eta)
    fresh = (
        -torch.expm1(2 * eta**2 * (scale[s] * grid.alpha[t] / (scale[t] * grid.alpha[s])).log())
        if eta
        else 0 * keep
    )
    return FirstOrderStep(grid.kappa[t], keep, gain, scale[s] * fresh.sqrt())


def _angle_integral(grid: GridCoefficients, t: Tensor, s: Tensor, eta: float) -> Tensor:
    """Return ``int (cos / cos_s)^{eta^2}`` over the angle ``atan(r / d)`` from s to t."""
    angle = torch.atan2(grid.sigma, grid.d * grid.alpha)
    length = angle[t] - angle[s]
    if not eta:
        return length
    nodes, weights = gauss_legendre(_NODES, 0.0, 1.0)
    inner = angle[s][..., None] + length[..., None] * nodes
    return length * ((inner.cos() / angle[s].cos()[..., None]) ** (eta**2) @ weights)


def interpolate(
    grid: GridCoefficients, c_t: Tensor, c_s: Tensor, nodes: list[Tensor], eta: float, rule: Weights
) -> list[Tensor]:
    """Return the weights a_j of the nodes by a rule, not finite where the clock is not."""
    return [torch.ones_like(c_t)] if len(nodes) == 1 else rule(grid, c_t, c_s, nodes, eta)


@Weights
def exact(
    grid: GridCoefficients, c_t: Tensor, c_s: Tensor, nodes: list[Tensor], eta: float
) -> list[Tensor]:
    """Integrate the interpolating polynomial exactly, by Gauss-Legendre quadrature in the clock.

    The weights are ``a_j = E[l_j(c)]`` with c of density ``u^{-(1 + eta^2 / 2)} dr`` over the step.
    """
    c, weights = _quadrature(c_t, c_s)
    ratio, slope = grid.clock.inverse(grid.sde, c)
    end = grid.clock.inverse(grid.sde, c_s)[0][..., None]
    density = grid.density(ratio, end, eta) * slope * weights
    density = density / density.sum(-1, keepdim=True)
    bases = _lagrange([node[..., None] for node in nodes], c)
    return [(density * basis).sum(-1) for basis in bases]


@Weights
def even(
    grid: GridCoefficients, c_t: Tensor, c_s: Tensor, nodes: list[Tensor], eta: float
) -> list[Tensor]:
    """Integrate as if the clock ran evenly over the step: the weights of Adams and Bashforth.

    The linear part is treated as if it did not vary over the step. Liu et al. 2022 (PNDM).
    """
    c, weights = _quadrature(c_t, c_s)
    return [basis @ weights for basis in _lagrange([node[..., None] for node in nodes], c)]


@Weights
def middle(
    grid: GridCoefficients, c_t: Tensor, c_s: Tensor, nodes: list[Tensor], eta: float
) -> list[Tensor]:
    """Evaluate the line through two nodes in the middle of the step; else `exact`.

    The "midpoint" solver of DPM-Solver++ and bh2 of UniPC.
    """
    if len(nodes) != 2:
        return exact(grid, c_t, c_s, nodes, eta)
    return _lagrange(nodes, (c_t + c_s) / 2)


@Weights
def middle_bh1(
    grid: GridCoefficients, c_t: Tensor, c_s: Tensor, nodes: list[Tensor], eta: float
) -> list[Tensor]:
    """Evaluate as `middle`, with differences weighted by ``B(h) = h`` instead of the exponential.

    This is bh1 of UniPC and SA-Solver, for the clock `Log`.
    """
    if len(nodes) != 2:
        return exact(grid, c_t, c_s, nodes, eta)
    h = c_t - c_s
    factor = (
        h / torch.expm1(h)
        if math.isinf(grid.d)
        else -(1 + eta**2) * h / torch.expm1(-(1 + eta**2) * h)
    )
    newest, other = _lagrange(nodes, (c_t + c_s) / 2)
    newest_t, _ = _lagrange(nodes, c_t)
    weight = newest_t + factor * (newest - newest_t)
    return [weight, (newest + other) - weight]


def _quadrature(c_t: Tensor, c_s: Tensor) -> tuple[Tensor, Tensor]:
    """Return Gauss-Legendre nodes from c_t to c_s, in a last dimension, and weights of sum 1."""
    nodes, weights = gauss_legendre(_NODES, 0.0, 1.0)
    return c_t[..., None] + (c_s - c_t)[..., None] * nodes, weights


def _lagrange(nodes: list[Any], c: Tensor) -> list[Tensor]:
    """Return the Lagrange basis polynomials of the nodes, evaluated at c."""
    polynomials = []
    for j, own in enumerate(nodes):
        basis = torch.ones_like(c)
        for i, other in enumerate(nodes):
            if i != j:
                basis = basis * (c - other) / (own - other)
        polynomials.append(basis)
    return polynomials
