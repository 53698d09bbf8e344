"""Exponential multistep methods, which extrapolate past evaluations: DPM-Solver++, DEIS, UniPC.

The linear multistep step (eq. 1 of `ornstein.core.methods.linear_multistep`)

    x_s = A x_t + sum_j b_j (D_j - kappa_j x_j) + std z                                          (1)

has coefficients that depend on the grid alone, through eq. 2 of
`ornstein.core.methods.exponential_weights`: they are computed once per run, as floats. Which
quantity is extrapolated is one number, ``data_std``, and in which variable is a clock. The samplers
of the literature, most of which need one evaluation per step, are members of this family:

    method                                     data_std   clock       further
    DDIM, DPM-Solver-1                         0          any         order 1
    DPM-Solver++(kM) ("dpmpp_2m", "dpmpp_3m")  0          Log         weights=middle ("midpoint"),
                                                                      exact ("heun")
    SDE-DPM-Solver++, "dpmpp_2m_sde"           0          Log         Reverse(posterior, eta=1)
    SA-Solver                                  0          Log         any eta, and a corrector
    DPM-Solver multistep, exponential Adams    inf        Log
    SEEDS                                      inf        Log         Reverse(posterior, eta=1)
    DEIS (rho-AB, t-AB), azula's zEAB          inf        Log, Time   orders 1 to 4
    LMS (k-diffusion)                          inf        Ratio       orders 1 to 4
    iPNDM, PLMS                                inf        Index       weights=even
    UniPC                                      0 or inf   Log         corrector=order, and weights
                                                                      middle (bh2) or middle_bh1
    Adams-Bashforth on v (azula's vAB)         data's     any

Lu et al. 2022 (DPM-Solver; DPM-Solver++); Zhang and Chen 2023 (DEIS); Zhao et al. 2023 (UniPC); Xue
et al. 2023 (SA-Solver); Gonzalez et al. 2023 (SEEDS); Liu et al. 2022 (PNDM); Zhang et al. 2023
(iPNDM).
"""

__all__ = ["Multistep", "step_coefficients"]

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import ReverseMethod, require_reverse
from ornstein.core.methods.exponential_weights import (
    FirstOrderStep,
    GridCoefficients,
    Weights,
    exact,
    interpolate,
    linear_part,
)
from ornstein.core.methods.linear_multistep import (
    MultistepState,
    Number,
    StepCoefficients,
    advance,
    as_number,
)
from ornstein.core.methods.plan_cache import once_per_grid
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step
from ornstein.core.timesteps.clock import Clock, Log
from ornstein.errors import OrnsteinError

_MAX_ORDER = 6  # of the interpolating polynomials; higher ones amplify rounding and oscillate


@dataclass(frozen=True)
class Multistep(ReverseMethod):
    """Exponential Adams methods: one evaluation per step, for the ODE and for the SDE of any eta.

    The order rises from 1 over the first steps, and falls where a clock is infinite: a step from no
    signal or to no noise in the clock `Log` is the exact DDIM step. On an SDE the declared order is
    that of the deterministic part. "dpmpp_2m" in other libraries is ``Multistep(2,
    weights=middle)``; the module `ornstein.core.methods.multistep` lists further members.

    Args:
        order: number of evaluations that are interpolated, 1 to 6.
        data_std: the step is exact for data ``N(0, data_std^2)``: 0 extrapolates the clean point,
            infinity the noise, the data's own standard deviation the velocity.
        clock: the variable of the polynomial.
        weights: how the polynomial is integrated over a step: `exact`, `middle`, `middle_bh1`,
            `even`.
        corrector: order of a correction of each step with the evaluation at its end (Adams-Moulton,
            no further evaluation); 0 for none.
        last: order of the last step, from which the order of the steps before rises by one each;
            None for no such limit.

    Raises:
        OrnsteinError: if an order is out of range, or ``data_std`` negative.

    Example:
        >>> data = orn.targets.GaussianMixture(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1))
        >>> flow = orn.Reverse(data.posterior(orn.VP()), eta=0.0)
        >>> orn.simulate(flow, torch.randn(5, 2), orn.VP().times(10), orn.Multistep(order=3)).shape
        torch.Size([5, 2])
    """

    order: int = 2
    data_std: float = 0.0
    clock: Clock = field(default_factory=Log)
    weights: Weights = exact
    corrector: int = 0
    last: int | None = None

    def __post_init__(self) -> None:
        if (
            not 1 <= self.order <= _MAX_ORDER
            or not 0 <= self.corrector <= _MAX_ORDER
            or (self.last is not None and self.last < 1)
        ):
            raise OrnsteinError(
                f"{self}: order, and last if given, from 1 to 6, corrector from 0 to 6"
            )
        if not self.data_std >= 0:
            raise OrnsteinError(
                f"Multistep(data_std={self.data_std}): from 0 (data prediction) to infinity (noise"
                " prediction)"
            )

    def start(self, sde: Any, times: Tensor) -> MultistepState:
        """Return the coefficients of all steps of a grid ``(n + 1,)`` or ``(n + 1, b)``."""
        reverse = require_reverse(self, sde)
        reverse.check_step(times[:-1], times[1:], reverse.eta)
        return MultistepState(step_coefficients(self, reverse.process, reverse.eta, times))

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one step with the memory of the steps before; without memory, a step of order 1."""
        state = memory or self.start(sde, torch.stack([t, s]))
        return advance(state, max(self.order, self.corrector), sde, x, t, s, stream)


@once_per_grid
def step_coefficients(
    method: Multistep, process: LinearSDE, eta: float, times: Tensor
) -> tuple[StepCoefficients, ...]:
    """Return the coefficients of every step of a grid, computed in float64."""
    n = len(times) - 1
    grid = GridCoefficients(process, times, method.data_std, method.clock)
    t, s = torch.arange(n), torch.arange(1, n + 1)
    linear = linear_part(grid, t, s, eta)
    limit = (
        torch.full((n,), n) if method.last is None else method.last + torch.arange(n - 1, -1, -1)
    )
    usable = grid.c.isfinite() & grid.kappa.isfinite()
    by_order = _weights_by_order(method, grid, range(method.order), eta, usable, limit)
    weights = [linear.gain * part for part in by_order]
    correction = torch.zeros(0)
    if method.corrector:
        nodes = range(-1, method.corrector)  # the first node is the end of the step
        corrected = _weights_by_order(method, grid, nodes, eta, usable, limit)
        correction = linear.gain * corrected[-1]
    return tuple(_coefficients_of_step(k, linear, weights, correction) for k in range(n))


def _weights_by_order(
    method: Multistep,
    grid: GridCoefficients,
    offsets: range,
    eta: float,
    usable: Tensor,
    limit: Tensor,
) -> list[Tensor]:
    """Return the weights ``a_j w_j / w_t`` of the nodes, for each number of nodes 1, 2, ...

    An order that does not exist at a step is replaced by the order before. Each entry of the list
    is ``(len(offsets), n, *batch)``. A correction has the end of the step as its first node.
    """
    n = len(grid.c) - 1
    k = torch.arange(n)
    c = grid.c
    shape = (n, *[1] * (c.ndim - 1))
    corrects = offsets[0] < 0
    best = torch.zeros(len(offsets), *c[:-1].shape, dtype=torch.float64)
    best[1 if corrects else 0] = 1.0
    by_order = [best]
    exists = usable[:-1] & usable[1:]
    for p in range(2, len(offsets) + 1):
        index = [(k - offset).clamp(min=0) for offset in offsets[:p]]
        enough = (k - offsets[p - 1] >= 0) & ((limit >= p) | corrects & (limit >= p - 1))
        exists = exists & usable[index[-1]] & enough.reshape(shape)
        weights = interpolate(grid, c[:-1], c[1:], [c[i] for i in index], eta, method.weights)
        scaled = torch.stack(
            [a * grid.weight[i] / grid.weight[:-1] for a, i in zip(weights, index, strict=True)]
        )
        unused = torch.zeros(len(offsets) - p, *scaled.shape[1:], dtype=scaled.dtype)
        best = torch.where(exists, torch.cat([scaled, unused]), best)
        by_order.append(best)
    return by_order


def _coefficients_of_step(
    k: int, linear: FirstOrderStep, weights: list[Tensor], correction: Tensor
) -> StepCoefficients:
    """Return the coefficients of step k, with weights that are 0 left out."""

    def numbers(values: Tensor) -> tuple[Number, ...]:
        last = max((j for j in range(len(values)) if bool((values[j, k] != 0).any())), default=0)
        return tuple(as_number(values[j, k]) for j in range(last + 1))

    highest = numbers(weights[-1])
    return StepCoefficients(
        as_number(linear.kappa[k]),
        as_number(linear.keep[k]),
        highest,
        as_number(linear.std[k]),
        numbers(weights[len(highest) - 2]) if len(highest) > 1 else (),
        numbers(correction) if len(correction) else (),
    )
