"""Exponential integrators of the probability-flow ODE: the linear part is solved, the posterior mean extrapolated.

In the half-log-SNR ``l = lambda / 2`` the ODE is ``d(x / sigma) / dl = e^l x_0(l)``, hence with ``h = l_s - l_t > 0``

    x_s = sigma_s / sigma_t x_t - alpha_s expm1(-h) D,                                                        (1)

where D stands for the posterior mean over the step: frozen (order 1, the DDIM step), or extrapolated linearly through the
last two evaluations (order 2).
"""

__all__ = ["Multistep"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.gaussian import per_sample
from ornstein.core.noise import Stream
from ornstein.core.sde import Reverse
from ornstein.core.solve import Step
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class Multistep:
    """Adams-Bashforth in the log-SNR on the posterior mean: DPM-Solver++(2M) at order 2, DDIM at order 1.

    One evaluation per step. Steps from no signal or to no noise are infinitely long in the log-SNR and fall back to order 1.
    "DPMSolverMultistep" in diffusers, "dpmpp_2m" in k-diffusion. Lu et al. 2022 (DPM-Solver++), algorithm 2.
    """

    order: int = 2

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise OrnsteinError(f"Multistep(order={self.order}): orders 1 and 2 exist")

    def noisy(self, sde: Any) -> bool:
        """Never."""
        return False

    def step(self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: Stream, memory: Any) -> Step:
        """One step (1); memory is the last step length and posterior mean."""
        require_ode(self, sde)
        sde.check_step(t, s, 0.0)
        process, x0 = sde.process, sde.posterior(x, t).mean
        h = (process.log_snr(s) - process.log_snr(t)) / 2
        mean = x0
        if self.order == 2 and memory is not None:
            h_last, x0_last = memory
            weight = h / (2 * h_last)
            weight = per_sample(torch.where(torch.isfinite(h) & torch.isfinite(h_last), weight, 0.0), x)
            mean = x0 + weight * (x0 - x0_last)
        linear = (process.log_sigma(s) - process.log_sigma(t)).exp()
        gain = -process.alpha(s) * torch.expm1(-h)
        return Step(per_sample(linear, x) * x + per_sample(gain, x) * mean, memory=(h, x0))  # (1)


def require_ode(method: Any, sde: Any) -> None:
    """Raise unless ``sde`` is deterministic."""
    if not getattr(sde, "deterministic", False):
        raise OrnsteinError(f"{method} solves an ODE: pass orn.Reverse(posterior, eta=0), or use Ancestral() for eta > 0")
