"""`solve`: an equation from its start, with the states at the times that are asked for. Between
them the loop takes smaller steps."""

__all__ = ["default_method", "solve"]

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.methods.base import calculus_of, noise_name
from ornstein.core.methods.euler import EulerMaruyama
from ornstein.core.methods.milstein import Milstein
from ornstein.core.methods.stochastic_runge_kutta import SRK
from ornstein.core.methods.stratonovich import StratonovichHeun
from ornstein.core.random.noise import Noise, NoiseSource
from ornstein.core.simulation.loop import Watcher, check_grid, simulate
from ornstein.core.simulation.method import Method, Step
from ornstein.core.solvers.checkpointed import Gradient
from ornstein.errors import OrnsteinError


def default_method(sde: Any) -> Method:
    """`SRK` for additive noise, `Milstein` for diagonal and scalar, `EulerMaruyama` for general; in
    Stratonovich's sense its Heun."""
    noise = noise_name(sde)
    if calculus_of(sde) == "stratonovich" and noise != "additive":
        return StratonovichHeun()
    return {"additive": SRK(), "general": EulerMaruyama()}.get(noise, Milstein())


def solve(
    sde: Any,
    x0: Float[Tensor, "b *event"],
    ts: Sequence[float] | Float[Tensor, " n"],
    method: Method | None = None,
    seed: int | NoiseSource = 0,
    dt: float | None = None,
    watch: Iterable[Watcher] = (),
    gradient: Gradient | None = None,
) -> Float[Tensor, "n b *event"]:
    """The states of an equation at times, one solution for each row of ``x0``. Differentiable by
    back-propagation.

    Args:
        sde: an `SDE`, or anything with ``drift(x, t)`` and ``diffusion(x, t)``.
        x0: the states at ``ts[0]``.
        ts: at least 2 times, strictly monotone.
        method: by default that of `default_method`.
        seed: an integer or a `Noise`, where sample i is the same for every batch; or a
            `BrownianPath` of the noise's shape, so that runs with other steps follow the same
            motion.
        dt: the longest step; by default the times are the steps.
        watch: as in `simulate`, called after each step.
        gradient: `Checkpointed`, to back-propagate with the memory of the root of the steps, or
            `Reversible`, with that of one; by default all of them are kept.

    Raises:
        OrnsteinError: for times that are not monotone, a dt that is not positive, or a method that
            does not fit the equation; the error says which fit.
    """
    times = torch.as_tensor(ts, dtype=torch.float64)
    check_grid(times)
    if times.ndim > 1:
        raise OrnsteinError(
            f"times of shape {tuple(times.shape)}: solve takes (n,), one grid for all samples; see"
            " simulate"
        )
    if dt is not None and not 0 < dt < math.inf:
        raise OrnsteinError(
            f"solve(dt={dt}): a positive length of a step, or None for the times themselves"
        )
    pieces = (
        [1] * (len(times) - 1)
        if dt is None
        else [max(1, math.ceil(gap / dt - 1e-9)) for gap in times.diff().abs().tolist()]
    )
    parts = [
        torch.linspace(a, b, n + 1, dtype=torch.float64)[:-1]
        for a, b, n in zip(times[:-1], times[1:], pieces, strict=True)
    ]
    saved = _Saved(set(times.tolist()), [x0])
    noise: NoiseSource = Noise(seed) if isinstance(seed, int) else seed
    grid, method = torch.cat([*parts, times[-1:]]), method or default_method(sde)
    if gradient is not None:
        noise = gradient.source(noise, sde, x0, grid)
        method, grid = gradient.plan(
            method,
            [torch.cat([part, end[None]]) for part, end in zip(parts, times[1:], strict=True)],
        )
    simulate(sde, x0, grid, method, noise, [saved, *watch])
    return torch.stack(saved.states)


@dataclass
class _Saved:
    """Keeps the states at some times."""

    times: set[float]
    states: list[Tensor] = field(default_factory=list)

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        if float(s) in self.times:
            self.states.append(step.x)
