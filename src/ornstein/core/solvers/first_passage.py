"""First passage times: when simulated paths first meet a level, as a watcher of the loop.

Let l(x, t) be positive on one side of a boundary, g its diffusion, and l_0 and l_1 its values at
the ends of a step of length h. Between them l is approximated by a Brownian bridge. If l_1 <= 0 it
has crossed; if not, it has crossed and come back with probability

    exp(-2 l_0 l_1 / (g^2 h)).                                                                   (1)

By reflection, a bridge that ends in l_1 > 0, given that it meets 0, first meets 0 at the time at
which one that ends in -l_1 does. In the time r = u / (h - u) a bridge from l_0 to -|l_1| is, but
for a factor, Brownian motion with drift -|l_1| and variance ``g^2 h`` per time, so

    u = h r / (1 + r),      r inverse Gaussian with mean l_0 / |l_1| and shape l_0^2 / (g^2 h).  (2)

Where l is a Brownian motion with drift this is exact for every step; otherwise the error is of
order h, instead of the order ``sqrt h`` of looking at the ends of steps only. Gobet 2000 (Weak
approximation of killed diffusion using Euler schemes); Mannella 1999; Michael, Schucany and Haas
1976.
"""

__all__ = ["FirstPassage"]

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ornstein.core.processes.linear import Time
from ornstein.core.random.noise import Noise, NormalStream
from ornstein.core.simulation.method import Step
from ornstein.errors import OrnsteinError

_PASSAGE = 0x70617373  # key of the numbers of crossings, independent of those of the path
Level = Callable[[Tensor, Time], Tensor]


@dataclass
class FirstPassage:
    """A watcher that records when ``level`` first is 0 or negative, for each sample.

        hit = FirstPassage(lambda x, t: 1 - x[:, 0], diffusion=lambda x, t: torch.ones(len(x)))
        orn.solve(sde, x0, [0.0, 10.0], dt=0.01, watch=[hit])
        hit.times, hit.crossed

    Args:
        level: ``(x, t) -> (b,)``, continuous, positive until the event.
        diffusion: ``(x, t) -> (b,)``, the standard deviation of level per root of time, ``|grad
            level . g|``; crossings within a step are then drawn by (1) and (2). Without it, only
            crossings at the ends of steps count, with the time by linear interpolation, which is
            late by order ``sqrt h``.
        seed: of the draws; an integer or a `Noise`, where sample i is the same for every batch.
        times: ``(b,)`` in float64, infinite for samples that have not crossed (``-inf`` where time
            runs down): the result.

    Raises:
        OrnsteinError: if level or diffusion is no function, or, while watching, not of shape
            ``(b,)``.
    """

    level: Level
    diffusion: Level | None = None
    seed: int | Noise = 0
    times: Float[Tensor, " b"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    _before: Tensor | None = field(default=None, repr=False)
    _stream: NormalStream | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, value in (("level", self.level), ("diffusion", self.diffusion)):
            if not callable(value) and not (name == "diffusion" and value is None):
                raise OrnsteinError(
                    f"FirstPassage({name}={value!r}): pass a function (x, t) -> (b,), such as"
                    " lambda x, t: 1 - x[:, 0]"
                )
        Noise.of(self.seed)  # raises for what is no seed

    @property
    def crossed(self) -> Bool[Tensor, " b"]:
        """Whether each sample has crossed the level so far, ``(b,)``."""
        return self.times.isfinite()

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        if self._before is None:
            self._before = self._value(self.level, x, t)
            never = torch.full_like(
                self._before, math.copysign(math.inf, float((s - t).flatten()[0]))
            )
            self.times = torch.where(self._before > 0, never, t.to(never))
        l0, l1 = self._before, self._value(self.level, step.x, s)
        self._before = l1
        h = (s - t).to(l0)
        if self.diffusion is None:
            crossed, fraction = l1 <= 0, l0 / (l0 - l1)
        else:
            crossed, fraction = self._bridge(
                l0, l1, self._value(self.diffusion, x, t).square() * h.abs()
            )
        self.times = torch.where(
            crossed & ~self.crossed, t.to(l0) + h * fraction.clamp(0, 1), self.times
        )

    def _value(self, of: Level, x: Tensor, t: Tensor) -> Tensor:
        """Return the value of a function of the state, checked to be one number per sample."""
        value = of(x.detach(), t).detach().double()
        if value.shape != x.shape[:1]:
            raise OrnsteinError(
                f"FirstPassage: a function gave shape {tuple(value.shape)} for a state of shape"
                f" {tuple(x.shape)}: one number per sample"
            )
        return value

    def _bridge(self, l0: Tensor, l1: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether a step crosses the level, and after which fraction of the step.

        The same numbers are drawn whatever happened.
        """
        if self._stream is None:
            self._stream = Noise.of(self.seed).fold(_PASSAGE).stream_like(l0)
        unseen, which, z = self._stream.uniform(), self._stream.uniform(), self._stream.normal()
        crossed = (l1 <= 0) | (unseen < torch.exp(-2 * l0 * l1 / variance))  # (1)
        r = _inverse_gaussian(l0.abs() / l1.abs(), l0.square() / variance, which, z)
        return crossed, torch.where(l1 == 0, 1.0, r / (1 + r))  # (2)


def _inverse_gaussian(mean: Tensor, shape: Tensor, u: Tensor, z: Tensor) -> Tensor:
    """Draw inverse Gaussian numbers from one uniform and one normal number each.

    The smaller root of a quadratic in z^2, or the larger one. Michael, Schucany and Haas 1976.
    """
    y = mean * z.square() / (2 * shape)
    low = mean / (1 + y + (y * (2 + y)).sqrt())
    return torch.where(u * (mean + low) <= mean, low, mean.square() / low)
