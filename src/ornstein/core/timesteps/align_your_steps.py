"""Align Your Steps: the time grid that minimises a bound on the discretisation error.

On this grid the paths of a sampler that evaluates its denoiser once per step stay closest to those
of the reverse SDE. The grid depends on the data only through the posterior variance at each noise
level. Over a step from ``t_i`` the posterior mean stays ``D_i = E[x_0 | x_{t_i}]``. By Girsanov's
theorem the path laws of the exact reverse SDE and of this one differ by

    KL = 1/2 sum_i int_{s_i}^{s_{i+1}} E |D_s - D_i|^2 ds,    s = SNR = e^lambda,                (1)

an upper bound for the KL of the samples (Sabour et al. 2024, Align Your Steps, theorem 3.2; there
``s = 1 / t^2``). For the exact mean, D is a martingale as s grows, and with ``m(s) = E |x_0 -
D_s|^2`` per coordinate ``E |D_s - D_i|^2 = m(s_i) - m(s)``. So

    KL = 1/2 [sum_i m(s_i) (s_{i+1} - s_i) - int m ds],                                          (2)

the excess of a left Riemann sum over the integral of a falling function. For many steps the best
grid is uniform in ``int sqrt(-m'(s)) ds``; for ``x_0 ~ N(0, c^2)``, where ``m = c^2 / (1 + c^2
s)``, it is uniform in ``log(1 + c^2 s)`` for any number. (Uniform in the angle ``atan(sigma / (c
alpha))`` is best for DDIM on such data, ibid., theorem 3.1: ``Shifted(cosine, c)``.)
"""

__all__ = ["Aligned"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.numerics.tables import interpolate
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.random.noise import Noise
from ornstein.core.timesteps.grid import grid_in_levels, ratio_ends

_FINE = 4001  # levels at which m is tabulated for the first guess
# where a level may move, in units of its gap
_WINDOW = torch.linspace(-1, 1, 33, dtype=torch.float64)
_ROUNDS = [1.0] * 8 + [0.5**k for k in range(1, 17)]  # scales of the windows, one per round
_MIN_GAP = 50  # two levels are at least 1 / 50 of the mean gap apart


@dataclass(frozen=True)
class Aligned:
    """The grid of noise levels that minimises the bound of Align Your Steps, then a step to 0.

    The bound is the excess of a Riemann sum of the posterior variance over its integral in the SNR.
    Sabour et al. 2024, theorem 3.2, minimised by dynamic programming.

    Args:
        std: from the log-SNR, float64, to the standard deviation ``sqrt(m)`` of ``x_0 | x_t`` per
            coordinate, elementwise.
        sigma_min: the last ratio before 0; the sum over a step to 0 itself is infinite.
        sigma_max: the first ratio; by default what the process ends with.
    """

    std: Callable[[Tensor], Tensor]
    sigma_min: float = 0.002
    sigma_max: float | None = None

    @classmethod
    def measured(
        cls, posterior: Any, x0: Tensor, noise: Noise, knots: int = 65, sigma_min: float = 0.002
    ) -> "Aligned":
        """Return the grid for the standard deviations of a posterior, measured on data.

        The posterior is an exact one, or a `Denoiser` after `ornstein.calibrate`.

        Args:
            posterior: ``(x, t) -> Gaussian``, with its ``sde``.
            x0: samples of the data, ``(n, *event)``.
            noise: source of randomness; the same numbers at every level.
            knots: levels at which the posterior is called; in between ``log std`` is linear in the
                log-SNR.
            sigma_min: the last ratio before 0.
        """
        high, low = ratio_ends(posterior.sde, sigma_min, None)
        levels = -2 * torch.linspace(math.log(high), math.log(low), knots, dtype=torch.float64)
        z = noise.stream_like(x0).normal()
        log_std = []
        for t in posterior.sde.time(levels):
            kernel = posterior.sde.marginal(x0, t)
            std = posterior(kernel.mean + kernel.std * z, t).std
            log_std.append(std.detach().double().square().mean().log() / 2)
        return cls(_Interpolated(levels, torch.stack(log_std)), sigma_min)

    def __call__(self, sde: LinearSDE, n: int) -> Tensor:
        first, last = (-2 * math.log(r) for r in ratio_ends(sde, self.sigma_min, self.sigma_max))
        return grid_in_levels(sde, n, last, lambda u: self._levels(first, last, len(u)))

    def _levels(self, first: float, last: float, points: int) -> Tensor:
        """Return the log-SNRs of the grid that minimises the bound.

        By dynamic programming over windows around each level, which move with it and then shrink.
        """
        levels = self._limit(first, last, points)
        min_gap = (last - first) / (_MIN_GAP * points)
        for scale in _ROUNDS if points > 2 else []:
            gap = torch.maximum(levels.diff()[1:], levels.diff()[:-1])
            near = levels[:, None].repeat(1, len(_WINDOW))
            near[1:-1] += scale * gap[:, None] * _WINDOW
            left, right = (
                near[:-1, :, None].clamp(first, last),
                near[1:, None, :].clamp(first, last),
            )
            cost = self._mmse(left) * (right.exp() - left.exp())  # (2)
            best = _shortest(torch.where(right - left < min_gap, torch.inf, cost))
            levels = near.gather(1, best[:, None])[:, 0]
        return levels

    def _limit(self, first: float, last: float, points: int) -> Tensor:
        """Return the optimal grid in the limit of many steps, uniform in ``int sqrt(-m') ds``."""
        fine = torch.linspace(first, last, _FINE, dtype=torch.float64)
        falls = -torch.cummin(self._mmse(fine), 0).values.diff()
        rates = (falls * fine.exp().diff()).sqrt()
        rates = rates + 1e-6 * rates.mean() + 1e-300  # the integral rises everywhere
        integral = torch.cumsum(torch.cat([rates.new_zeros(1), rates]), 0)
        positions = integral[-1] * torch.linspace(0, 1, points, dtype=torch.float64)
        return interpolate(integral, fine, positions)

    def _mmse(self, log_snr: Tensor) -> Tensor:
        """Return the mean posterior variance m (minimal mean square error) at log-SNRs."""
        return self.std(log_snr).double().square()


@dataclass(frozen=True)
class _Interpolated:
    """A standard deviation interpolated in a table of its logarithm, constant beyond the ends."""

    log_snr: Tensor
    log_std: Tensor

    def __call__(self, log_snr: Tensor) -> Tensor:
        return interpolate(self.log_snr, self.log_std, log_snr).exp()


def _shortest(cost: Tensor) -> Tensor:
    """Return the path of least total ``cost[i, from, to]``, as one index per level."""
    total, choices = cost[0, 0], []
    for step in cost[1:]:
        total, choice = (total[:, None] + step).min(0)
        choices.append(choice)
    path = [total.argmin()]
    for choice in reversed(choices):
        path.append(choice[path[-1]])
    return torch.stack([torch.zeros_like(path[0]), *reversed(path)])
