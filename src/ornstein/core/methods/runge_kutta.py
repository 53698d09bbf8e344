"""Explicit Runge-Kutta methods in the time of the grid, for any ODE: fixed steps, or steps that
control their own error.

With a tableau (nodes c, matrix a, weights b) and ``h = s - t``,

    k_i = v(x_t + h sum_{j < i} a_ij k_j, t + c_i h),      x_s = x_t + h sum_i b_i k_i.          (1)

On the probability flow of `RectifiedFlow` these are the solvers of flow matching; of `EDM`, whose time
is the noise level, Heun is the deterministic EDM sampler. A step that ends without noise, where the
velocity has no value, is the exact DDIM step.
"""

__all__ = [
    "Adaptive",
    "Heun",
    "RungeKutta",
    "Tableau",
    "bogacki_shampine",
    "dormand_prince",
    "heun",
    "midpoint",
    "rk4",
]

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.ancestral import Ancestral
from ornstein.core.methods.multistep import require_ode
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Method, Step
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class Tableau:
    """Coefficients of (1); ``low`` are the weights of an embedded method of one order less, where
    there is one."""

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


def _check(method: Any, sde: Any, times: Tensor) -> None:
    require_ode(method, sde)
    if isinstance(sde, Reverse):
        sde.check_step(times[:-1], times[1:], 0.0)


def _slopes(
    tableau: Tableau, sde: Any, x: Tensor, t: Tensor, h: Tensor, first: Tensor | None = None
) -> list[Tensor]:
    """The k_i of (1)."""
    slopes: list[Tensor] = [sde.drift(x, t) if first is None else first]
    for c, row in zip(tableau.nodes[1:], tableau.matrix[1:], strict=True):
        slopes.append(sde.drift(x + per_sample(h, x) * _mix(row, slopes), t + c * h))  # (1)
    return slopes


def _mix(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    return sum(w * k for w, k in zip(weights, slopes, strict=False) if w)  # type: ignore[return-value]


@dataclass(frozen=True)
class RungeKutta(Method):
    """The method (1) of a tableau with as many evaluations per step as it has stages: `midpoint`,
    `heun`, `rk4`, ..."""

    tableau: Tableau

    @property
    def order(self) -> int:
        """The tableau's."""
        return self.tableau.order

    def noisy(self, sde: Any) -> bool:
        """Never."""
        return False

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses SDEs, and grids that start without noise."""
        _check(self, sde, times)

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (1)."""
        if isinstance(sde, Reverse) and sde.ends_clean(s):
            return Ancestral(eta=0.0).step(sde, x, t, s, stream, memory)
        slopes = _slopes(self.tableau, sde, x, t, s - t)
        return Step(
            x + per_sample(s - t, x) * _mix(self.tableau.weights, slopes), evaluations=len(slopes)
        )  # (1)


@dataclass(frozen=True)
class Heun(RungeKutta):
    """Heun's method: order 2, two evaluations per step. On `EDM`, "sample_heun" in k-diffusion.
    Karras et al. 2022, algorithm 1."""

    tableau: Tableau = heun


@dataclass(frozen=True)
class Adaptive(RungeKutta):
    """An embedded pair that chooses its own steps between the times of the grid, which may be just
    ``[T, 0]``.

    The error of a step, ``e = |h sum_i (b_i - b'_i) k_i| / (atol + rtol max(|x_t|, |x_s|))`` as
    root mean square over each sample and the largest over the batch, is held below 1 by a PI
    controller (Hairer, Norsett and Wanner 1993, section II.4): the next step is longer by ``0.9
    e_n^(-0.7/q) e_{n-1}^(0.4/q)``, q the order, between 0.2 and 5 times. The whole batch takes the
    same steps: sample i therefore depends on its batch, by less than the tolerance.

    Args:
        tableau: a pair, `dormand_prince` or `bogacki_shampine`.
        rtol, atol: relative and absolute tolerance of a step, in the units of the state.
        first: length of the first step as a fraction of the first interval.
        most: steps allowed between two times of the grid.

    Raises:
        OrnsteinError: for a tableau without an embedded method, or if ``most`` steps do not
            suffice.
    """

    tableau: Tableau = dormand_prince
    rtol: float = 1e-5
    atol: float = 1e-6
    first: float = 1e-3
    most: int = 10_000

    def __post_init__(self) -> None:
        if not self.tableau.low:
            raise OrnsteinError(
                f"Adaptive({self.tableau.name}): no embedded method; use dormand_prince or"
                " bogacki_shampine"
            )
        if not (self.rtol >= 0 and self.atol >= 0 and self.rtol + self.atol > 0):
            raise OrnsteinError(
                f"Adaptive(rtol={self.rtol}, atol={self.atol}): not negative, and not both 0"
            )

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses SDEs, per-sample times, and grids that start without noise."""
        _check(self, sde, times)
        if times.ndim > 1:
            raise OrnsteinError(
                "Adaptive() chooses one step for the batch: pass a grid (n,) that all samples share"
            )

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """As many steps as the tolerance needs; memory is the last step length and error."""
        last = _before_clean(sde, t, s)
        length, before = memory or (float(self.first * (last - t)), 1.0)
        evaluations, first, failed = 0, None, False
        for _ in range(self.most):
            h = length if abs(length) < abs(float(last - t)) else float(last - t)
            slopes = _slopes(self.tableau, sde, x, t, torch.tensor(h, dtype=torch.float64), first)
            evaluations += len(slopes) - (first is not None)
            y = x + h * _mix(self.tableau.weights, slopes)
            error = self._error(h, slopes, x, y)
            if error <= 1:
                done = h == float(last - t)
                t, x, first = (last if done else t + h), y, self._reusable(slopes)
                grow = self._growth(error, before)
                length = h * (min(grow, 1.0) if failed else grow)
                before, failed = max(error, 1e-4), False
                if done:
                    return self._finish(sde, x, t, s, stream, (length, before), evaluations)
            else:
                length, first, failed = (
                    h * max(0.2, 0.9 * error ** (-1 / self.order)),
                    slopes[0],
                    True,
                )
        raise OrnsteinError(
            f"{self} took {self.most} steps and reached t={float(t):g} of {float(s):g}: loosen rtol"
            " or raise most"
        )

    def _error(self, h: float, slopes: list[Tensor], x: Tensor, y: Tensor) -> float:
        gap = tuple(b - low for b, low in zip(self.tableau.weights, self.tableau.low, strict=True))
        size = self.atol + self.rtol * torch.maximum(x.detach().abs(), y.detach().abs())
        error = float(
            (h * _mix(gap, slopes).detach() / size).square().flatten(1).mean(1).sqrt().max()
        )
        return error if math.isfinite(error) else 1e9

    def _growth(self, error: float, before: float) -> float:
        return min(
            5.0,
            max(0.2, 0.9 * max(error, 1e-10) ** (-0.7 / self.order) * before ** (0.4 / self.order)),
        )

    def _reusable(self, slopes: list[Tensor]) -> Tensor | None:
        """The last stage, where it is the first of the next step."""
        same = self.tableau.matrix[-1] == self.tableau.weights[:-1] and self.tableau.nodes[-1] == 1
        return slopes[-1] if same else None

    def _finish(
        self,
        sde: Any,
        x: Tensor,
        t: Tensor,
        s: Tensor,
        stream: NoiseStream,
        memory: Any,
        evaluations: int,
    ) -> Step:
        if t is s:
            return Step(x, memory=memory, evaluations=evaluations)
        last = Ancestral(eta=0.0).step(sde, x, t, s, stream, None)
        return Step(last.x, memory=memory, evaluations=evaluations + 1)


def _before_clean(sde: Any, t: Tensor, s: Tensor) -> Tensor:
    """Where to stop short of a time without noise: at a noise-to-signal ratio of 1e-4 or a
    hundredth of the present one."""
    if not (isinstance(sde, Reverse) and sde.ends_clean(s)):
        return s
    log_snr = torch.maximum(
        sde.process.log_snr(t) + 2 * math.log(100.0),
        torch.tensor(-2 * math.log(1e-4), dtype=torch.float64),
    )
    return sde.process.time(log_snr)
