"""Numerical solution of an equation at given times, with smaller steps between them.

`ornstein.solve` builds a grid that contains the given times, runs the simulation loop over it, and
returns the states at the given times.
"""

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
from ornstein.core.numerics.checks import require_finite
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.random.noise import Noise, NoiseSource
from ornstein.core.simulation.loop import Watcher, as_times, check_grid, simulate
from ornstein.core.simulation.method import Method, Step
from ornstein.core.solvers.checkpointed import Gradient
from ornstein.errors import OrnsteinError

_ROUNDING = 1e-9  # relative to a step: a gap that is a whole number of steps may be rounded


def default_method(sde: Any) -> Method:
    """Return the method that `solve` uses for an equation by default.

    `SRK` for additive noise, `Milstein` for diagonal and scalar noise, `EulerMaruyama` for general
    noise; `StratonovichHeun` for equations in Stratonovich's sense.
    """
    noise = noise_name(sde)
    if calculus_of(sde) == "stratonovich" and noise != "additive":
        return StratonovichHeun()
    return {"additive": SRK(), "general": EulerMaruyama()}.get(noise, Milstein())


@renamed_arguments(ts="times")
def solve(
    sde: Any,
    x0: Float[Tensor, "b *event"],
    times: Sequence[float] | Float[Tensor, " n"],
    method: Method | None = None,
    seed: int | NoiseSource = 0,
    dt: float | None = None,
    watch: Iterable[Watcher] = (),
    gradient: Gradient | None = None,
) -> Float[Tensor, "n b *event"]:
    """Solve an equation from its start and return the states at the given times.

    One solution for each row of ``x0``. Differentiable by back-propagation.

    Args:
        sde: an `SDE`, or anything with ``drift(x, t)`` and ``diffusion(x, t)``.
        x0: the states at ``times[0]``.
        times: at least 2 times, strictly monotone.
        method: by default that of `default_method`.
        seed: an integer or a `Noise`, where sample i is the same for every batch; or a
            `BrownianPath` of the noise's shape, so that runs with other steps follow the same
            motion.
        dt: the longest step; by default the times are the steps.
        watch: as in `simulate`, called after each step.
        gradient: `Checkpointed`, to back-propagate with the memory of the root of the steps, or
            `Reversible`, with that of one; by default all steps are stored.

    Returns:
        ``(n, b, *event)``, the states at the times; the first is ``x0``.

    Raises:
        OrnsteinError: for times that are not monotone, a dt that is not positive, or a method that
            does not fit the equation; the error says which fit.

    Example:
        >>> decay = orn.SDE(lambda x, t: -x)
        >>> xs = orn.solve(decay, torch.ones(5, 1), [0.0, 0.5, 1.0], orn.Heun(), dt=0.01)
        >>> bool((xs[-1] - torch.exp(torch.tensor(-1.0))).abs().max() < 1e-4)
        True
    """
    times = as_times(times).to(dtype=torch.float64)
    check_grid(times)
    if times.ndim > 1:
        raise OrnsteinError(
            f"times of shape {tuple(times.shape)}: solve takes (n,), one grid for all samples; see"
            " simulate"
        )
    if gradient is not None and not isinstance(gradient, Gradient):
        raise OrnsteinError(
            f"gradient={gradient!r}: pass orn.solvers.Checkpointed(), orn.solvers.Reversible(), or"
            " None to store all steps"
        )
    parts = _steps(times, dt)
    saved = _Saved(set(times.tolist()), [x0])
    noise: NoiseSource = seed if isinstance(seed, NoiseSource) else Noise.of(seed)
    grid = torch.cat([*(part[:-1] for part in parts), times[-1:]])
    method = default_method(sde) if method is None else method
    if gradient is not None:
        noise = gradient.source(noise, sde, x0, grid)
        method, grid = gradient.plan(method, parts)
    simulate(sde, x0, grid, method, noise, [saved, *watch])
    return torch.stack(saved.states)


def _steps(times: Tensor, dt: float | None) -> list[Tensor]:
    """Return a time grid from each saved time to the next, with steps of at most ``dt``."""
    if dt is None:
        counts = [1] * (len(times) - 1)
    else:
        require_finite(dt=dt)
        if not dt > 0:
            raise OrnsteinError(
                f"solve(dt={dt}): a positive length of a step, or None for the times themselves"
            )
        counts = [max(1, math.ceil(gap / dt - _ROUNDING)) for gap in times.diff().abs().tolist()]
    return [
        torch.cat([torch.linspace(a, b, n + 1, dtype=torch.float64)[:-1], b[None]])
        for a, b, n in zip(times[:-1], times[1:], counts, strict=True)
    ]


@dataclass
class _Saved:
    """A watcher that stores the states at some of the times."""

    times: set[float]
    states: list[Tensor] = field(default_factory=list)

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        if float(s) in self.times:
            self.states.append(step.x)
