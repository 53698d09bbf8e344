"""Runge-Kutta methods for ODEs in the time variable of the grid.

Heun's method averages the slopes at both ends of an Euler step:

    y = x_t + h v(x_t, t),    x_s = x_t + h [v(x_t, t) + v(y, s)] / 2,    h = s - t.                          (1)
"""

__all__ = ["Heun"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.gaussian import per_sample
from ornstein.core.methods.ancestral import Ancestral
from ornstein.core.methods.exponential import require_ode
from ornstein.core.noise import Stream
from ornstein.core.sde import Reverse
from ornstein.core.solve import Step


@dataclass(frozen=True)
class Heun:
    """Heun's method (1): order 2, two evaluations per step.

    On `EDM`, whose time is the noise level, it is the deterministic EDM sampler ("sample_heun" in k-diffusion). A step that
    ends without noise, where the velocity has no value, is the exact DDIM step. Karras et al. 2022, algorithm 1.
    """

    order: int = 2

    def noisy(self, sde: Any) -> bool:
        """Never."""
        return False

    def step(self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: Stream, memory: Any) -> Step:
        """One step (1)."""
        require_ode(self, sde)
        if isinstance(sde, Reverse):
            sde.check_step(t, s, 0.0)
            if sde.ends_clean(s):
                return Ancestral(eta=0.0).step(sde, x, t, s, stream, memory)
        h = per_sample(s - t, x)
        first = sde.drift(x, t)
        second = sde.drift(x + h * first, s)
        return Step(x + h * (first + second) / 2, evaluations=2)  # (1)
