"""Gradient checkpointing: gradients of runs of n steps with the memory of sqrt(n) steps.

Back-propagation stores every state and what each step computed: memory proportional to the number n
of steps. Cut the run into k segments, store only the states between them, and compute a segment
again when the gradient comes to it: memory proportional to

    k + n / k,        smallest at k = sqrt n,                                                    (1)

and one more run forwards. The gradients are those of the scheme itself, not of the continuous
equation, so that they are exact for every method. What was computed must come out the same the
second time: the noise is that of a `BrownianPath`, which is drawn again rather than stored.
Griewank 1992; Chen et al. 2016 (Training deep nets with sublinear memory cost).

A scheme that can be run backwards need not store anything: see `ornstein.core.solvers.reversible`.
"""

__all__ = ["Checkpointed", "CheckpointedSegment", "Gradient"]

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ornstein.core.numerics.checks import require_integers
from ornstein.core.processes.noise_type import driving
from ornstein.core.random import BrownianPath
from ornstein.core.random.motion import Motion
from ornstein.core.random.noise import Noise, NoiseSource, NoiseStream
from ornstein.core.random.replay import ReplayableStream
from ornstein.core.simulation.method import Method, Step, WrappedMethod


@runtime_checkable
class Gradient(Protocol):
    """How the gradient of `solve` is computed: by `Checkpointed` or by `Reversible`."""

    def plan(self, method: Method, parts: Sequence[Tensor]) -> tuple["CheckpointedSegment", Tensor]:
        """Return a method that takes a whole segment as one step, and the grid of segment ends.

        Args:
            method: the method of the steps.
            parts: the grid from each saved time to the next, both included.
        """
        ...

    def source(self, noise: NoiseSource, sde: Any, x: Tensor, grid: Tensor) -> Motion:
        """Return noise that can be drawn twice: a Brownian path with the steps as cells.

        A path is returned as it is.

        Raises:
            OrnsteinError: for another source.
        """
        if isinstance(noise, Motion):
            return noise
        like = driving(sde).like(x, lambda: sde.diffusion(x, grid[0]))
        return BrownianPath(
            like.shape,
            float(grid.min()),
            float(grid.max()),
            Noise.of(noise),
            cells=grid,
            dtype=like.dtype,
            order=2,
        )


@dataclass(frozen=True)
class CheckpointedSegment(WrappedMethod):
    """A segment of many steps as one step, which stores one state for the gradient.

    Args:
        method: the method of the steps.
        inner: the steps from t to s, both included, by ``(t, s)``.
    """

    inner: dict[tuple[float, float], Tensor] = field(repr=False)

    def start(self, sde: Any, times: Tensor) -> Any:
        """Return the memory of the method before the first step, for the grid of all steps."""
        return super().start(
            sde, torch.cat([*(part[:-1] for part in self.inner.values()), times[-1:]])
        )


@dataclass(frozen=True)
class Checkpointed(Gradient):
    """Compute gradients of `solve` over n steps with the memory of sqrt(n) states.

    They are equal to those of plain back-propagation on the same path.

        path = orn.BrownianPath(x0.shape, seed=0, cells=torch.linspace(0, 1, 1001), order=2)
        xs = orn.solve(sde, x0, [0.0, 1.0], seed=path, dt=1e-3, gradient=orn.solvers.Checkpointed())

    With an integer or a `Noise` as seed the path is made by `solve`, with the steps as cells: other
    numbers than without a gradient. Watchers see segments as steps. Methods that draw other numbers
    than those of the path are refused.

    Args:
        segments: between two saved times; by default the root of the number of steps.

    Raises:
        OrnsteinError: if ``segments`` is not a positive integer.
    """

    segments: int | None = None

    def __post_init__(self) -> None:
        if self.segments is not None:
            require_integers(1, segments=self.segments)

    def cut(self, steps: int) -> list[int]:
        """Return which of the steps ``0, ..., steps`` end a segment."""
        k = min(steps, self.segments or math.isqrt(steps - 1) + 1)  # (1)
        return [round(i * steps / k) for i in range(k + 1)]

    def plan(self, method: Method, parts: Sequence[Tensor]) -> tuple[CheckpointedSegment, Tensor]:
        """Return a method that takes a segment as one step, and the grid of segment ends.

        Args:
            method: the method of the steps.
            parts: the grid from each saved time to the next, both included.
        """
        ends = [part[self.cut(len(part) - 1)] for part in parts]
        pieces = [(a, b, part) for part, e in zip(parts, ends, strict=True) for a, b in pairwise(e)]
        inner = {(float(a), float(b)): part[(part - a) * (part - b) <= 0] for a, b, part in pieces}
        return _Segmented(method, inner), torch.cat([*(e[:-1] for e in ends), ends[-1][-1:]])


class _Segmented(CheckpointedSegment):
    """A method whose step is a segment, with states computed again for the gradient."""

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take all steps of one segment."""
        draws = ReplayableStream.of(stream, "a checkpointed run") if self.noisy(sde) else stream

        def run(y: Tensor, memory: Any) -> Step:
            calls = 0
            for a, b in pairwise(self.inner[float(t), float(s)].unbind()):
                step = self.method.step(sde, y, a, b, draws, memory)
                y, memory, calls = step.x, step.memory, calls + step.evaluations
            return Step(y, memory=memory, evaluations=calls)

        return checkpoint(run, x, memory, use_reentrant=False, preserve_rng_state=False)
