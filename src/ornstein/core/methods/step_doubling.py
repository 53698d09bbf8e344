"""Adaptive steps on a Brownian path: a step is compared with two of half its length, and halved
where they differ.

Let y be one step from x and z two steps over its halves, on the same motion. A sample accepts z
where, as root mean square over it,

    |z - y| <= atol + rtol max(|x|, |z|),                                                        (1)

and else does the same with each half, whose first step it has taken already. So no known value of
the motion is ever passed over, which rules out the bias of choosing steps by looking ahead,
provided that the method knows the square of an increment: the sum of ``dB^2`` over steps that were
chosen by dB is not the time that they take, and Euler-Maruyama, which takes it for that, converges
to something else. Gaines and Lyons 1997 (Variable step size control in the numerical solution of
SDEs); Foster and Jelincic 2024 (On the convergence of adaptive approximations for SDEs).
"""

__all__ = ["AdaptiveSDE"]

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.processes.solver_orders import FITS, kind
from ornstein.core.random.noise import NoiseStream
from ornstein.core.random.replay import ReplayableStream
from ornstein.core.simulation.method import Step, WrappedMethod
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class AdaptiveSDE(WrappedMethod):
    """A method with steps as short as (1) asks, between the times of the grid, which may be just
    ``[0, T]``. Needs a `BrownianPath`.

    The error at the end falls like the root of the tolerance. Every sample has steps of its own,
    and is the same whatever the batch. Reports the evaluations of a mean sample. A method that
    remembers starts anew at each step.

    Args:
        method: of strong order 1 or more on the equation: `SRK`, `Milstein`, `StratonovichHeun`,
            ...
        rtol, atol: relative and absolute tolerance of a step, in the units of the state.
        deepest: halvings of an interval of the grid, at most.

    Raises:
        OrnsteinError: for tolerances that are negative or both 0; without a path; with a method of
            lower order, on this equation; where the deepest step does not meet the tolerance.
    """

    rtol: float = 1e-3
    atol: float = 1e-3
    deepest: int = 24

    def __post_init__(self) -> None:
        if not (self.rtol >= 0 and self.atol >= 0 and self.rtol + self.atol > 0):
            raise OrnsteinError(
                f"AdaptiveSDE(rtol={self.rtol}, atol={self.atol}): not negative, and not both 0"
            )

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses what the method refuses, methods of strong order below 1, and per-sample
        times."""
        super().start(sde, times)
        fit = FITS.get(type(self.method).__name__)
        if fit is None or fit.strong[kind(sde)] < 1:
            order = "unknown" if fit is None else f"{fit.strong[kind(sde)]:g}"
            good = ", ".join(
                name for name, other in FITS.items() if other.strong.get(kind(sde), 0) >= 1
            )
            raise OrnsteinError(
                f"AdaptiveSDE needs strong order 1, and that of {self.method} with {kind(sde)}"
                f" noise is {order}: its steps, chosen by the path, would add up to a biased"
                f" solution. Those that have it: {good or 'none; use fixed steps'}"
            )
        if times.ndim > 1:
            raise OrnsteinError(
                "AdaptiveSDE needs one grid (n,) for all samples: a path has one time"
            )

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """As many steps as the tolerance needs."""
        draws = ReplayableStream.of(stream, self) if self.noisy(sde) else stream
        first = self.method.step(sde, x, t, s, draws, None)
        y, calls = self._refine(sde, x, t, s, draws, first.x, 0)
        return Step(y, evaluations=first.evaluations + math.ceil(calls / max(len(x), 1)))

    def _refine(
        self,
        sde: Any,
        x: Tensor,
        t: Tensor,
        s: Tensor,
        draws: NoiseStream,
        whole: Tensor,
        depth: int,
    ) -> tuple[Tensor, int]:
        """From x at t to s, where ``whole`` is one step; and evaluations, of all samples
        together."""
        middle = t + (s - t) / 2
        left = self.method.step(sde, x, t, middle, draws, None)
        right = self.method.step(sde, left.x, middle, s, draws, None)
        calls = (left.evaluations + right.evaluations) * len(x)
        bad = self._off(x, whole, right.x).nonzero()[:, 0]
        if len(bad) == 0:
            return right.x, calls
        if depth == self.deepest:
            raise OrnsteinError(
                f"{self}: steps of {abs(float(s - t)):.3g} at t={float(t):g} do not meet the"
                " tolerance: loosen it, or raise deepest"
            )
        some = (
            draws._replace(rows=bad if draws.rows is None else draws.rows[bad])
            if isinstance(draws, ReplayableStream)
            else draws
        )
        half, more = self._refine(sde, x[bad], t, middle, some, left.x[bad], depth + 1)
        again = self.method.step(sde, half, middle, s, some, None)
        y, rest = self._refine(sde, half, middle, s, some, again.x, depth + 1)
        return right.x.index_copy(0, bad, y), calls + more + rest + again.evaluations * len(bad)

    def _off(self, x: Tensor, whole: Tensor, halves: Tensor) -> Tensor:
        """Which samples do not meet (1)."""

        def size(y: Tensor) -> Tensor:
            return y.detach().square().flatten(1).mean(1).sqrt() if y.ndim > 1 else y.detach().abs()

        return ~(
            size(halves - whole) <= self.atol + self.rtol * torch.maximum(size(x), size(halves))
        )  # (1)
