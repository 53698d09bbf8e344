"""A multistep method whose grid and weights are a table, such as one that tuning optimised.

Any linear multistep method for the probability flow can be written so. Notation of
`ornstein.core.methods.exponential_weights` with a finite d: in ``z = x / (alpha sqrt(u))`` and the
angle ``phi = atan(r / d)`` the ODE is ``dz = -(w / d) F dphi``, so that a method is a triangle of
weights in radians,

    z_{k+1} = a_k z_k + sum_j b_kj w_{k-j} F_{k-j} / d,                                          (1)

consistent if ``a_k = 1`` and ``sum_j b_kj = phi_k - phi_{k+1}``.

Levels are noise-to-signal ratios: the same table serves every process that starts from the same
ratio.
"""

__all__ = ["TabulatedMultistep", "tabulate"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import ODEMethod
from ornstein.core.methods.exponential_weights import GridCoefficients
from ornstein.core.methods.linear_multistep import MultistepState, StepCoefficients, advance
from ornstein.core.methods.multistep import Multistep, step_coefficients
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step
from ornstein.core.timesteps.clock import Ratio
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class TabulatedMultistep(ODEMethod):
    """A linear multistep method given by its table of weights, on the grid that belongs to them.

    ``z_{k+1} = a_k z_k + sum_j b_kj w_{k-j} F_{k-j} / d`` in the notation of this module: one
    evaluation per step, for the ODE. The method `spacing` gives the grid. A table is made for one
    number of steps, so it has no order of convergence (``order`` is 0).

    Args:
        ratios: ``n + 1`` noise-to-signal ratios, decreasing; infinity at a start without signal, 0
            at the data.
        weights: n rows of b, newest first, in radians.
        data_std: d, the standard deviation of the data.
        keep: n factors a; empty for 1.

    Raises:
        OrnsteinError: if the lengths do not agree, or the method is run on another grid or an SDE.
    """

    ratios: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    data_std: float
    keep: tuple[float, ...] = ()
    order: int = 0

    def __post_init__(self) -> None:
        n = len(self.weights)
        if len(self.ratios) != n + 1 or len(self.keep) not in (0, n):
            raise OrnsteinError(
                f"{len(self.ratios)} ratios, {n} rows of weights, {len(self.keep)} factors: one"
                " ratio more than rows, a factor each"
            )

    def spacing(self, sde: LinearSDE, n: int) -> Tensor:
        """Return the times at which the process has the noise-to-signal ratios of the table.

        Raises:
            OrnsteinError: for another number of steps, or a process that starts from another ratio.
        """
        if n != len(self.weights):
            raise OrnsteinError(
                f"steps={n}: this table was made for {len(self.weights)} steps; tune again with"
                f" steps={n}"
            )
        start = float(sde.ratio(sde.T))
        if not torch.isclose(torch.tensor(start), torch.tensor(self.ratios[0]), rtol=1e-4):
            raise OrnsteinError(
                f"{type(sde).__name__} starts from a noise-to-signal ratio of {start:g}, the table"
                f" from {self.ratios[0]:g}: tune again"
            )
        times = sde.time(-2 * torch.tensor(self.ratios, dtype=torch.float64).log())
        times[0], times[-1] = sde.T, 0.0
        return times

    def start(self, sde: Any, times: Tensor) -> MultistepState:
        """Return the coefficients of every step, on the grid that `spacing` gives."""
        if not isinstance(sde, Reverse) or sde.eta:
            raise OrnsteinError(f"{type(self).__name__} was made for orn.Reverse(posterior, eta=0)")
        if times.shape != (len(self.ratios),):
            raise OrnsteinError(
                f"a grid of shape {tuple(times.shape)} for a table of {len(self.ratios)} levels:"
                " use its own spacing"
            )
        sde.check_step(times[:-1], times[1:], 0.0)
        grid = GridCoefficients(sde.process, times, self.data_std, Ratio())
        if not torch.allclose(
            grid.ratio, torch.tensor(self.ratios, dtype=torch.float64), rtol=1e-4, atol=0.0
        ):
            raise OrnsteinError("these times are not the levels of the table: use its own spacing")
        weight = grid.weight.tolist()
        scale = grid.scale.tolist()
        factors = self.keep or (1.0,) * len(self.weights)
        steps = []
        for k, (row, a) in enumerate(zip(self.weights, factors, strict=True)):
            unit = scale[k + 1] / self.data_std
            b = tuple(unit * row[j] * weight[k - j] for j in range(len(row)))
            keep = a * scale[k + 1] / scale[k]
            steps.append(StepCoefficients(float(grid.kappa[k]), keep, b, 0.0, ()))  # (1)
        return MultistepState(tuple(steps))

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take the next step of the table.

        Raises:
            OrnsteinError: outside of a run on the grid of the table.
        """
        if memory is None:
            raise OrnsteinError(
                "a table has no steps of its own: run it with simulate() on the grid of its spacing"
            )
        return advance(memory, max(len(row) for row in self.weights) - 1, sde, x, t, s, stream)


def tabulate(method: Multistep, reverse: Reverse, times: Tensor) -> TabulatedMultistep:
    """Return a `Multistep` method on one time grid, written down as a table of weights.

    Args:
        method: one without corrector and with a finite positive ``data_std``.
        reverse: the equation it is to solve, with eta = 0.
        times: the grid, ``(n + 1,)``.
    """
    grid = GridCoefficients(reverse.process, times, method.data_std, Ratio())
    weights = [
        tuple(
            float(w) * method.data_std / float(grid.scale[k + 1] * grid.weight[k - j])
            for j, w in enumerate(row.weights)
        )
        for k, row in enumerate(step_coefficients(method, reverse.process, reverse.eta, times))
    ]
    return TabulatedMultistep(tuple(grid.ratio.tolist()), tuple(weights), method.data_std)
