r"""The weights of a linear step: an integral of an interpolating polynomial against the kernel of the linear part.

Notation: ``r = sigma / alpha``, ``y = x / alpha``, D the posterior mean. For data ``N(0, d^2)`` the posterior mean is ``k y`` with
``k = d^2 / (d^2 + r^2)``; what is left of it, ``F = D - k y``, is what a method has to follow. Solved for the linear part, with
``u = d^2 + r^2``, the reverse equation (eq. 1 of `ornstein.core.processes.reverse`) of any eta from r_t down to r_s reads

    y_s = (u_s / u_t)^m y_t + 2 m int_{r_s}^{r_t} (u_s / u)^m F / r dr + sqrt(u_s (1 - (u_s / u_t)^{eta^2})) z,  (1)

with ``m = (1 + eta^2) / 2``. One number d makes the quantities of the field: with d = 0, F is the clean point (data prediction); with
d = infinity, ``-F / r`` is the noise; with d the standard deviation of the data, ``-F sqrt(u) / (d r)`` is the velocity. These,
q = w F, vary slowly, and are interpolated in a clock c through their values at nodes ``c_j``. With the Lagrange basis l_j,

    y_s = (u_s / u_t)^m y_t + B sum_j a_j (w_j / w_t) F_j + noise,   a_j = E[l_j(c)],   B = order-1 weight of F_t,  (2)

where c is distributed over the step with density proportional to ``u^{-(1 + eta^2 / 2)} dr`` ("exact": every method without a
remark in `ornstein.core.methods.multistep`), or sits in the middle of the step, or is uniform. Everything is computed in
float64 once per run; numbers on x instead of y carry factors of alpha that keep them finite at both ends.
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
    "once_per_grid",
]

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.core.processes.linear import LinearSDE
from ornstein.core.timesteps.clock import Clock

NODES = 24  # Gauss-Legendre nodes per step


@lru_cache
def legendre() -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on [0, 1], ``(NODES,)`` each."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


def once_per_grid(
    plan: Callable[[Any, LinearSDE, float, Tensor], Any],
) -> Callable[[Any, LinearSDE, float, Tensor], Any]:
    """``plan(method, process, eta, times)``, remembered for the last grids that all samples of a
    batch shared."""

    @lru_cache(maxsize=64)
    def remembered(method: Any, process: LinearSDE, eta: float, times: tuple[float, ...]) -> Any:
        return plan(method, process, eta, torch.tensor(times, dtype=torch.float64))

    @wraps(plan)
    def find(method: Any, process: LinearSDE, eta: float, times: Tensor) -> Any:
        if times.ndim == 1:
            try:
                return remembered(method, process, eta, tuple(times.tolist()))
            except TypeError:  # a process of one's own that cannot be hashed
                pass
        return plan(method, process, eta, times.double())

    find.cache_info = remembered.cache_info  # type: ignore[attr-defined]
    return find


class GridCoefficients:
    """A time grid ``(n + 1, *batch)`` seen through a process and a Gaussian of standard deviation
    d: the numbers of (1)."""

    def __init__(self, sde: LinearSDE, times: Tensor, data_std: float, clock: Clock) -> None:
        self.sde, self.d, self.clock = sde, data_std, clock
        self.times = times.double()
        self.alpha, self.sigma = sde.alpha(self.times), sde.sigma(self.times)
        self.ratio = (-sde.log_snr(self.times) / 2).exp()
        self.c = clock.value(sde, self.times, self.ratio)

    @cached_property
    def scale(self) -> Tensor:
        """``alpha sqrt(u)``, the standard deviation of x for data ``N(0, d^2)``; with d infinite,
        that per d."""
        if math.isinf(self.d):
            return self.alpha
        return torch.hypot(self.d * self.alpha, self.sigma) if self.d else self.sigma

    @cached_property
    def kappa(self) -> Tensor:
        """``k / alpha``: the posterior mean of Gaussian data is kappa times x."""
        if math.isinf(self.d):
            return 1 / self.alpha
        return (
            self.d**2 * self.alpha / self.scale.square() if self.d else torch.zeros_like(self.alpha)
        )

    @cached_property
    def weight(self) -> Tensor:
        """w of ``q = w F``, up to a factor and the sign: 1, 1 / r, or ``1 / sin(atan(r / d))``."""
        if math.isinf(self.d):
            return 1 / self.ratio
        return self.scale / self.sigma if self.d else torch.ones_like(self.alpha)

    def density(self, ratio: Tensor, at: Tensor, eta: float) -> Tensor:
        """``u^{-(1 + eta^2 / 2)}``, relative to its value at the ratio ``at``."""
        if math.isinf(self.d):
            return torch.ones_like(ratio)
        return ((self.d**2 + at.square()) / (self.d**2 + ratio.square())) ** (1 + eta**2 / 2)


@dataclass(frozen=True)
class Weights:
    """A rule ``(grid, c_t, c_s, nodes, eta) -> a_j`` of (2), one number for each node; known by its
    name."""

    rule: Callable[[GridCoefficients, Tensor, Tensor, list[Tensor], float], list[Tensor]]

    def __call__(
        self, grid: GridCoefficients, c_t: Tensor, c_s: Tensor, nodes: list[Tensor], eta: float
    ) -> list[Tensor]:
        return self.rule(grid, c_t, c_s, nodes, eta)

    def __repr__(self) -> str:
        return self.rule.__name__


class FirstOrderStep(NamedTuple):
    """Steps of order 1: ``x_s = keep x_t + gain (D - kappa x_t) + std z``, each ``(n, *batch)``."""

    kappa: Tensor
    keep: Tensor
    gain: Tensor
    std: Tensor


def linear_part(grid: GridCoefficients, t: Tensor, s: Tensor, eta: float) -> FirstOrderStep:
    """(2) with one node, times ``alpha_s``, for the steps between rows t and s of the grid.

    Noise prediction says nothing where there is no signal: such a step is the DDIM step on the
    clean point.
    """
    scale, ratio, m2 = grid.scale, grid.ratio, 1 + eta**2
    relative = ratio[s] / ratio[t]
    if math.isinf(grid.d):
        fresh = eta * grid.alpha[s] * (ratio[t].square() - ratio[s].square()).clamp(min=0).sqrt()
        found = FirstOrderStep(
            grid.kappa[t], grid.alpha[s] / grid.alpha[t], grid.alpha[s] * m2 * (1 - relative), fresh
        )
        blank = grid.alpha[t] == 0
        if not bool(blank.any()):
            return found
        plain = linear_part(GridCoefficients(grid.sde, grid.times, 0.0, grid.clock), t, s, eta)
        return FirstOrderStep(
            *(torch.where(blank, b, a) for a, b in zip(found, plain, strict=True))
        )
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
    """``int (cos / cos_s)^{eta^2}`` over the angle ``atan(r / d)`` from s to t."""
    angle = torch.atan2(grid.sigma, grid.d * grid.alpha)
    length = angle[t] - angle[s]
    if not eta:
        return length
    nodes, weights = legendre()
    inner = angle[s][..., None] + length[..., None] * nodes
    return length * ((inner.cos() / angle[s].cos()[..., None]) ** (eta**2) @ weights)


def interpolate(
    grid: GridCoefficients, c_t: Tensor, c_s: Tensor, nodes: list[Tensor], eta: float, rule: Weights
) -> list[Tensor]:
    """``a_j`` by a rule; not finite where a clock is not."""
    return [torch.ones_like(c_t)] if len(nodes) == 1 else rule(grid, c_t, c_s, nodes, eta)


@Weights
def exact(
    grid: GridCoefficients, c_t: Tensor, c_s: Tensor, nodes: list[Tensor], eta: float
) -> list[Tensor]:
    """The integral itself: (2) by Gauss-Legendre quadrature in the clock."""
    at, weights = legendre()
    c = c_t[..., None] + (c_s - c_t)[..., None] * at
    ratio, slope = grid.clock.inverse(grid.sde, c)
    end = grid.clock.inverse(grid.sde, c_s)[0][..., None]
    density = grid.density(ratio, end, eta) * slope * weights
    density = density / density.sum(-1, keepdim=True)
    return [
        (density * basis).sum(-1) for basis in _lagrange([node[..., None] for node in nodes], c)
    ]


@Weights
def even(
    grid: GridCoefficients, c_t: Tensor, c_s: Tensor, nodes: list[Tensor], eta: float
) -> list[Tensor]:
    """c uniform over the step: Adams-Bashforth weights as if the linear part did not vary. Liu et
    al. 2022 (PNDM)."""
    at, weights = legendre()
    c = c_t[..., None] + (c_s - c_t)[..., None] * at
    return [basis @ weights for basis in _lagrange([node[..., None] for node in nodes], c)]


@Weights
def middle(
    grid: GridCoefficients, c_t: Tensor, c_s: Tensor, nodes: list[Tensor], eta: float
) -> list[Tensor]:
    """Two nodes: the value in the middle of the step. The "midpoint" solver of DPM-Solver++ and bh2
    of UniPC; else `exact`."""
    return (
        _lagrange(nodes, (c_t + c_s) / 2) if len(nodes) == 2 else exact(grid, c_t, c_s, nodes, eta)
    )


@Weights
def middle_bh1(
    grid: GridCoefficients, c_t: Tensor, c_s: Tensor, nodes: list[Tensor], eta: float
) -> list[Tensor]:
    """`middle` with the difference weighted as ``B(h) = h`` instead of the exponential: bh1 of
    UniPC and SA-Solver, for `Log`."""
    if len(nodes) != 2:
        return exact(grid, c_t, c_s, nodes, eta)
    h = c_t - c_s
    factor = (
        h / torch.expm1(h)
        if math.isinf(grid.d)
        else -(1 + eta**2) * h / torch.expm1(-(1 + eta**2) * h)
    )
    newest, other = _lagrange(nodes, (c_t + c_s) / 2)
    at_t, _ = _lagrange(nodes, c_t)
    first = at_t + factor * (newest - at_t)
    return [first, (newest + other) - first]


def _lagrange(nodes: list[Any], c: Tensor) -> list[Tensor]:
    """The Lagrange basis of the nodes at c."""
    found = []
    for j, own in enumerate(nodes):
        basis = torch.ones_like(c)
        for i, other in enumerate(nodes):
            if i != j:
                basis = basis * (c - other) / (own - other)
        found.append(basis)
    return found
