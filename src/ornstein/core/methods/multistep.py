"""Exponential multistep methods: the linear part is solved, the rest extrapolated from the last
evaluations.

The state moves by eq. 2 of `ornstein.core.methods.exponential_weights`,

    x_s = A x_t + sum_j b_j (D_j - kappa_j x_j) + std z,                                         (1)

where D_j are the posterior means of the last ``order`` evaluations. A, b, kappa and std depend on
the grid alone: they are computed once per run, as floats. Which quantity is extrapolated is one
number, ``data_std``, and in which variable is a clock:

==================================================  ==========  ===========
========================================== method
data_std    clock        further ==================================================  ==========
===========  ========================================== DDIM, DPM-Solver-1
0           any          order 1 DPM-Solver++(kM) ("dpmpp_2m", "dpmpp_3m")           0
`Log`        ``weights=middle`` ("midpoint") or `exact` ("heun") SDE-DPM-Solver++, "dpmpp_2m_sde",
"dpmpp_3m_sde"    0           `Log`        the same on ``Reverse(posterior, eta=1)`` SA-Solver
0           `Log`        ``Reverse(posterior, eta)`` with ``corrector`` DPM-Solver multistep,
exponential Adams (SEEDS)     inf         `Log`        SEEDS: eta = 1 DEIS (rho-AB, t-AB), azula's
zEAB                   inf         `Log`/`Time` orders 1 to 4 LMS (k-diffusion)
inf         `Ratio`      orders 1 to 4 iPNDM, PLMS                                         inf
`Index`      ``weights=even`` UniPC                                               0 or inf    `Log`
``corrector=order``, ``weights=middle`` (bh2), `middle_bh1` Adams-Bashforth on v (azula's vAB)
data's      any ==================================================  ==========  ===========
==========================================

Lu et al. 2022 (DPM-Solver; DPM-Solver++); Zhang and Chen 2023 (DEIS); Zhao et al. 2023 (UniPC); Xue
et al. 2023 (SA-Solver); Gonzalez et al. 2023 (SEEDS); Liu et al. 2022 (PNDM); Zhang et al. 2023
(iPNDM).
"""

__all__ = ["Multistep", "require_ode"]

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.core.methods.exponential_weights import (
    FirstOrderStep,
    GridCoefficients,
    Weights,
    exact,
    interpolate,
    linear_part,
    once_per_grid,
)
from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Method, Step
from ornstein.core.timesteps.clock import Clock, Log
from ornstein.errors import OrnsteinError

Number = float | Tensor  # a float where all samples share their times, else (b, 1, ..., 1)


class StepCoefficients(NamedTuple):
    """The numbers of one step (1): weights newest first, then those of the correction on arrival,
    newest first."""

    kappa: Number
    keep: Number
    weights: tuple[Number, ...]
    std: Number
    lower: tuple[Number, ...]
    correction: tuple[Number, ...] = ()


class MultistepState(NamedTuple):
    """What `Multistep` remembers: its rows, which is next, the last ``D - kappa x`` (newest first);
    the state they led from and the noise of that step, where it is to be corrected.
    """

    rows: tuple[StepCoefficients, ...]
    done: int = 0
    residuals: tuple[Tensor, ...] = ()
    before: Tensor | None = None
    noise: Tensor | None = None

    def embedded(self) -> Tensor | None:
        """The last step minus the same step at one order less, ``(b, *event)``; None where there
        was no lower order."""
        row = self.rows[self.done - 1]
        if not row.lower:
            return None
        return combine(
            self.residuals, [w - v for w, v in zip(row.weights, (*row.lower, 0.0), strict=False)]
        )


@dataclass(frozen=True)
class Multistep(Method):
    """Exponential Adams methods (1): one evaluation per step, for the ODE and, with noise, for the
    SDE of any eta.

    The order rises from 1 over the first steps, and falls where a clock is infinite: a step from no
    signal or to no noise in the clock `Log` is the exact DDIM step. On an SDE the declared order is
    that of the deterministic part.

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
    """

    order: int = 2
    data_std: float = 0.0
    clock: Clock = field(default_factory=Log)
    weights: Weights = exact
    corrector: int = 0
    last: int | None = None

    def __post_init__(self) -> None:
        if (
            not 1 <= self.order <= 6
            or not 0 <= self.corrector <= 6
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

    def noisy(self, sde: Any) -> bool:
        """If eta > 0."""
        return requires_reverse(self, sde).eta > 0

    def start(self, sde: Any, times: Tensor) -> MultistepState:
        """The rows of a grid ``(n + 1,)`` or ``(n + 1, b)``."""
        reverse = requires_reverse(self, sde)
        reverse.check_step(times[:-1], times[1:], reverse.eta)
        return MultistepState(rows(self, reverse.process, reverse.eta, times))

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (1)."""
        return advance(
            memory or self.start(sde, torch.stack([t, s])),
            max(self.order, self.corrector),
            sde,
            x,
            t,
            s,
            stream,
        )


def advance(
    past: MultistepState,
    keep: int,
    sde: Reverse,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    stream: NoiseStream,
) -> Step:
    """The step (1) of the row that comes next; ``keep`` residuals are remembered."""
    row = past.rows[past.done]
    residuals = (residual_of(sde.posterior(x, t).mean, x, row.kappa), *past.residuals)
    if past.before is not None and past.rows[past.done - 1].correction:
        done = past.rows[past.done - 1]
        x = combine(residuals, done.correction, done.keep, past.before)
        x = x if past.noise is None else x + past.noise
    mean = combine(residuals, row.weights, row.keep, x)
    memory = MultistepState(
        past.rows, past.done + 1, residuals[:keep], x if row.correction else None
    )
    if not sde.eta:
        return Step(mean, memory=memory)
    z = stream.between(t, s)
    if isinstance(row.std, Tensor):
        kernel = Gaussian(mean, per_sample(row.std, x))
        drawn = kernel.draw(z)
    else:
        kernel, drawn = (
            Gaussian(mean, torch.tensor(row.std, dtype=x.dtype)),
            torch.add(mean, z, alpha=row.std),
        )
    return Step(
        drawn,
        lambda: kernel,
        memory=memory._replace(noise=drawn - mean if row.correction else None),
    )


def residual_of(mean: Tensor, x: Tensor, kappa: Number) -> Tensor:
    """``D - kappa x``."""
    if isinstance(kappa, float):
        return torch.add(mean, x, alpha=-kappa) if kappa else mean
    return mean - per_sample(kappa, x) * x


def combine(
    residuals: Sequence[Tensor], weights: Any, keep: Number = 0.0, x: Tensor | None = None
) -> Tensor:
    """``keep x + sum_j weights_j residuals_j``; a fresh tensor."""
    like = residuals[0]
    pairs = list(zip(weights, residuals, strict=False))
    if not isinstance(weights[0], float):
        total = torch.zeros_like(like) if x is None else per_sample(torch.as_tensor(keep), x) * x
        for w, q in pairs:
            total = total + per_sample(w, like) * q
        return total
    if x is not None:
        pairs = [(keep, x), *pairs]
    total = pairs[0][1] * pairs[0][0]
    for w, q in pairs[1:]:
        total.add_(q, alpha=w)
    return total


@once_per_grid
def rows(
    method: Multistep, process: LinearSDE, eta: float, times: Tensor
) -> tuple[StepCoefficients, ...]:
    """Everything in (1) that the grid determines, in float64."""
    n = len(times) - 1
    grid = GridCoefficients(process, times, method.data_std, method.clock)
    t, s = torch.arange(n), torch.arange(1, n + 1)
    linear = linear_part(grid, t, s, eta)
    limit = (
        torch.full((n,), n) if method.last is None else method.last + torch.arange(n - 1, -1, -1)
    )
    usable = grid.c.isfinite() & grid.kappa.isfinite()
    ladder = _ladder(method, grid, range(method.order), eta, usable, limit)
    weights = [linear.gain * part for part in ladder]
    correction = torch.zeros(0)
    if method.corrector:
        correction = (
            linear.gain * _ladder(method, grid, range(-1, method.corrector), eta, usable, limit)[-1]
        )
    return tuple(_row(k, linear, weights, correction) for k in range(n))


def _ladder(
    method: Multistep,
    grid: GridCoefficients,
    offsets: range,
    eta: float,
    usable: Tensor,
    limit: Tensor,
) -> list[Tensor]:
    """Weights ``a_j w_j / w_t`` for 1, 2, ... of the nodes ``t - offset``: each order where it
    exists, else the one before.

    Each entry is ``(len(offsets), n, *batch)``. A correction has the end of the step as its first
    node.
    """
    n = len(grid.c) - 1
    k, past = torch.arange(n), grid.c
    shape = (n, *[1] * (past.ndim - 1))
    corrects = offsets[0] < 0
    best = torch.zeros(len(offsets), *past[:-1].shape, dtype=torch.float64)
    best[1 if corrects else 0] = 1.0
    found, ok = [best], usable[:-1] & usable[1:]
    for p in range(2, len(offsets) + 1):
        index = [(k - offset).clamp(min=0) for offset in offsets[:p]]
        enough = (k - offsets[p - 1] >= 0) & ((limit >= p) | corrects & (limit >= p - 1))
        ok = ok & usable[index[-1]] & enough.reshape(shape)
        weights = interpolate(
            grid, past[:-1], past[1:], [past[i] for i in index], eta, method.weights
        )
        scaled = torch.stack(
            [a * grid.weight[i] / grid.weight[:-1] for a, i in zip(weights, index, strict=True)]
        )
        scaled = torch.cat(
            [scaled, torch.zeros(len(offsets) - p, *scaled.shape[1:], dtype=scaled.dtype)]
        )
        best = torch.where(ok, scaled, best)
        found.append(best)
    return found


def _row(
    k: int, linear: FirstOrderStep, weights: list[Tensor], correction: Tensor
) -> StepCoefficients:
    def numbers(values: Tensor) -> tuple[Number, ...]:
        last = max((j for j in range(len(values)) if bool((values[j, k] != 0).any())), default=0)
        return tuple(as_number(values[j, k]) for j in range(last + 1))

    top = numbers(weights[-1])
    lower = numbers(weights[len(top) - 2]) if len(top) > 1 else ()
    fix = numbers(correction) if len(correction) else ()
    return StepCoefficients(
        as_number(linear.kappa[k]),
        as_number(linear.keep[k]),
        top,
        as_number(linear.std[k]),
        lower,
        fix,
    )


def as_number(value: Tensor) -> Number:
    """A float where all samples share it."""
    return float(value) if value.ndim == 0 else value


def requires_reverse(method: Any, sde: Any) -> Reverse:
    """``sde``, or an error unless it is the generating process of a posterior."""
    if not isinstance(sde, Reverse):
        raise OrnsteinError(
            f"{method} solves orn.Reverse(posterior), got {type(sde).__name__}: use EulerMaruyama()"
            " or Heun()"
        )
    return sde


def require_ode(method: Any, sde: Any) -> None:
    """Raise unless ``sde`` is deterministic."""
    if not getattr(sde, "deterministic", False):
        raise OrnsteinError(
            f"{method} solves an ODE: pass orn.Reverse(posterior, eta=0), or use Ancestral() for"
            " eta > 0"
        )
