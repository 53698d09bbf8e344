"""Explicit Runge-Kutta methods with fixed steps in the time of the grid, for any ODE.

With a tableau (nodes c, matrix a, weights b) and ``h = s - t``,

    k_i = v(x_t + h sum_{j < i} a_ij k_j, t + c_i h),      x_s = x_t + h sum_i b_i k_i.          (1)

On the probability flow of `RectifiedFlow` these are the solvers of flow matching; of `EDM`, whose
time is the noise level, Heun is the deterministic EDM sampler. A step that ends without noise,
where the velocity has no value, is the exact DDIM step.
"""

__all__ = [
    "Heun",
    "RungeKutta",
    "Tableau",
    "bogacki_shampine",
    "dormand_prince",
    "heun",
    "linear_combination",
    "midpoint",
    "rk4",
    "slopes_of",
]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.methods.ancestral import Ancestral
from ornstein.core.methods.base import ODEMethod, require_ode
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step


@dataclass(frozen=True)
class Tableau:
    """Coefficients of an explicit Runge-Kutta method, shown by its name.

    Args:
        name: of the method.
        order: of convergence.
        nodes: c, fractions of the step.
        matrix: rows of a, of lengths 0, 1, 2, ...
        weights: b.
        low: weights b' of an embedded method of one order less; empty where there is none.
    """

    name: str
    order: int
    nodes: tuple[float, ...]
    matrix: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    low: tuple[float, ...] = ()

    def __repr__(self) -> str:
        return self.name


heun = Tableau("heun", 2, (0, 1), ((), (1,)), (1 / 2, 1 / 2), (1, 0))
"""The explicit trapezoidal rule."""
midpoint = Tableau("midpoint", 2, (0, 1 / 2), ((), (1 / 2,)), (0, 1), (1, 0))
"""The explicit midpoint rule."""
rk4 = Tableau(
    "rk4",
    4,
    (0, 1 / 2, 1 / 2, 1),
    ((), (1 / 2,), (0, 1 / 2), (0, 0, 1)),
    (1 / 6, 1 / 3, 1 / 3, 1 / 6),
)
"""Kutta 1901."""
bogacki_shampine = Tableau(
    "bogacki_shampine", 3, (0, 1 / 2, 3 / 4, 1), ((), (1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    (2 / 9, 1 / 3, 4 / 9, 0), (7 / 24, 1 / 4, 1 / 3, 1 / 8),
)  # fmt: skip
"""Bogacki and Shampine 1989: orders 3 and 2."""
dormand_prince = Tableau(
    "dormand_prince", 5, (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
    (
        (), (1 / 5,), (3 / 40, 9 / 40), (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
    (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40),
)  # fmt: skip
"""Dormand and Prince 1980: orders 5 and 4, "dopri5"."""


@dataclass(frozen=True)
class RungeKutta(ODEMethod):
    """The explicit Runge-Kutta method of a tableau, for ODEs, with fixed steps.

    As many evaluations per step as the tableau has stages. Tableaux are `midpoint`, `heun`, `rk4`,
    `bogacki_shampine` and `dormand_prince` of `ornstein.methods.runge_kutta`.

    Example:
        >>> method = orn.RungeKutta(orn.methods.runge_kutta.rk4)
        >>> decay = orn.SDE(lambda x, t: -x)
        >>> x = orn.simulate(decay, torch.ones(1), torch.linspace(0, 1, 9), method)
        >>> bool((x - torch.tensor(-1.0).exp()).abs() < 1e-4)
        True
    """

    tableau: Tableau

    @property
    def order(self) -> int:
        """The order of convergence of the tableau."""
        return self.tableau.order

    def start(self, sde: Any, times: Tensor) -> None:
        """Raise for SDEs, and for grids that start without noise."""
        require_ode(self, sde)
        if isinstance(sde, Reverse):
            sde.check_step(times[:-1], times[1:], 0.0)

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one step; a step that ends without noise is the exact DDIM step."""
        if isinstance(sde, Reverse) and sde.ends_clean(s):
            return Ancestral(eta=0.0).step(sde, x, t, s, stream, memory)
        slopes = slopes_of(self.tableau, sde, x, t, s - t)
        y = x + per_sample(s - t, x) * linear_combination(self.tableau.weights, slopes)
        return Step(y, evaluations=len(slopes))  # (1)


@dataclass(frozen=True)
class Heun(RungeKutta):
    """Heun's method, the explicit trapezoidal rule: order 2, two evaluations per step.

    On `EDM` it is the deterministic sampler of Karras et al. 2022, algorithm 1, "sample_heun" in
    k-diffusion.

    Example:
        >>> decay = orn.SDE(lambda x, t: -x)
        >>> orn.simulate(decay, torch.ones(3), torch.linspace(0, 1, 9), orn.Heun()).shape
        torch.Size([3])
    """

    tableau: Tableau = heun


def slopes_of(
    tableau: Tableau, sde: Any, x: Tensor, t: Tensor, h: Tensor, first: Tensor | None = None
) -> list[Tensor]:
    """Return the slopes k_i of a step of length h from x at time t, each ``(b, *event)``.

    Args:
        tableau, sde, x, t: the method, the equation, the state and its time.
        h: length of the step, a scalar or ``(b,)``.
        first: the first slope, if it has been evaluated before.
    """
    slopes: list[Tensor] = [sde.drift(x, t) if first is None else first]
    for c, row in zip(tableau.nodes[1:], tableau.matrix[1:], strict=True):
        y = x + per_sample(h, x) * linear_combination(row, slopes)
        slopes.append(sde.drift(y, t + c * h))  # (1)
    return slopes


def linear_combination(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """Return ``sum_i weights_i slopes_i``, without the terms whose weight is 0."""
    terms = [w * k for w, k in zip(weights, slopes, strict=False) if w]
    return sum(terms[1:], terms[0])
