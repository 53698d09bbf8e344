"""Adaptive steps for SDEs by step doubling: a step is compared with two steps of half its length.

The method is used on a `BrownianPath`, which can be asked for increments over any interval. Let y
be one step from x and z two steps over its halves, on the same motion. A sample accepts z where, as
root mean square over it,

    |z - y| <= atol + rtol max(|x|, |z|),                                                        (1)

and otherwise repeats this with each half, whose first step has been taken already. So no value of
the path that was used for a decision is passed over, which rules out the bias of choosing steps by
looking ahead, provided that the method knows the square of an increment: the sum of ``dB^2`` over
steps that were chosen by dB is not the time that they take, and Euler-Maruyama, which assumes so,
converges to a wrong solution. Gaines and Lyons 1997 (Variable step size control in the numerical
solution of SDEs); Foster and Jelincic 2024 (On the convergence of adaptive approximations for
SDEs).
"""

__all__ = ["AdaptiveSDE"]

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import methods_of_strong_order, noise_name
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.random.noise import NoiseStream
from ornstein.core.random.replay import ReplayableStream
from ornstein.core.simulation.method import Step, WrappedMethod, require_shared_grid
from ornstein.errors import OrnsteinError

_NEEDED_ORDER = 1.0  # strong order from which steps that are chosen by the path add no bias


@renamed_arguments(deepest="max_halvings")
@dataclass(frozen=True)
class AdaptiveSDE(WrappedMethod):
    """A method for SDEs with adaptive steps, by step doubling along a `BrownianPath`.

    The grid may be just ``[0, T]``. The error at the end falls like the root of the tolerance.
    Every sample has steps of its own, and is the same whatever the batch. The reported evaluations
    are the mean over samples. The method starts without memory at each step. Gaines and Lyons 1997.

    Args:
        method: one of strong order 1 or more on the equation: `SRK`, `Milstein`,
            `StratonovichHeun`, or a method of your own that declares it.
        rtol, atol: relative and absolute tolerance of a step, in the units of the state.
        max_halvings: how often an interval of the grid is halved, at most.

    Raises:
        OrnsteinError: for tolerances that are negative or both 0; without a path; for a method of
            lower order on the equation; where the shortest step does not meet the tolerance.
    """

    rtol: float = 1e-3
    atol: float = 1e-3
    max_halvings: int = 24

    def __post_init__(self) -> None:
        if not (self.rtol >= 0 and self.atol >= 0 and self.rtol + self.atol > 0):
            raise OrnsteinError(
                f"AdaptiveSDE(rtol={self.rtol}, atol={self.atol}): not negative, and not both 0"
            )

    def start(self, sde: Any, times: Tensor) -> None:
        """Raise for what the inner method refuses, strong orders below 1, and per-sample times."""
        super().start(sde, times)
        solves = getattr(self.method, "solves", None)
        order = solves.strong_order(sde) if solves else None
        if order is None or order < _NEEDED_ORDER:
            others = ", ".join(methods_of_strong_order(sde, _NEEDED_ORDER))
            raise OrnsteinError(
                f"AdaptiveSDE needs strong order 1, and that of {self.method} with"
                f" {noise_name(sde)} noise is {'unknown' if order is None else f'{order:g}'}: its"
                " steps, chosen by the path, would add up to a biased solution. Those that have it:"
                f" {others or 'none; use fixed steps'}"
            )
        require_shared_grid(self, times, "a path has one time")

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take as many steps as the tolerance needs, each sample its own."""
        draws = ReplayableStream.of(stream, self) if self.noisy(sde) else stream
        whole = self.method.step(sde, x, t, s, draws, None)
        y, calls = self._refine(sde, x, t, s, draws, whole.x, 0)
        return Step(y, evaluations=whole.evaluations + math.ceil(calls / max(len(x), 1)))

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
        """Halve a step until the tolerance is met; return the end and the number of evaluations."""
        middle = t + (s - t) / 2
        left = self.method.step(sde, x, t, middle, draws, None)
        right = self.method.step(sde, left.x, middle, s, draws, None)
        calls = (left.evaluations + right.evaluations) * len(x)
        bad = self._misses(x, whole, right.x).nonzero()[:, 0]
        if len(bad) == 0:
            return right.x, calls
        if depth == self.max_halvings:
            raise OrnsteinError(
                f"{self}: steps of {abs(float(s - t)):.3g} at t={float(t):g} do not meet the"
                " tolerance: loosen it, or raise max_halvings"
            )
        if isinstance(draws, ReplayableStream):
            draws = draws._replace(rows=bad if draws.rows is None else draws.rows[bad])
        half, calls_left = self._refine(sde, x[bad], t, middle, draws, left.x[bad], depth + 1)
        again = self.method.step(sde, half, middle, s, draws, None)
        y, calls_right = self._refine(sde, half, middle, s, draws, again.x, depth + 1)
        calls += calls_left + calls_right + again.evaluations * len(bad)
        return right.x.index_copy(0, bad, y), calls

    def _misses(self, x: Tensor, whole: Tensor, halves: Tensor) -> Tensor:
        """Return for each sample whether the halves and the whole step miss the tolerance (1)."""

        def size(y: Tensor) -> Tensor:
            return y.detach().square().flatten(1).mean(1).sqrt() if y.ndim > 1 else y.detach().abs()

        tolerance = self.atol + self.rtol * torch.maximum(size(x), size(halves))
        return ~(size(halves - whole) <= tolerance)  # (1)
