"""Azula's deterministic samplers on its schedules, and on Karras' levels written as a schedule."""

__all__ = ["COLUMNS"]

from functools import partial
from typing import Any

import torch
from azula import noise, sample
from azula.denoise import Denoiser, DiracPosterior
from torch import Tensor

from benchmarks.peers import SIGMA_MAX, Column, Counted, column


class _Karras(noise.LearnedNoiseLevels):
    """``alpha = 1`` and sigma uniform in the power 1/7, as Azula's users would write it."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        low, high = 0.002 ** (1 / 7), SIGMA_MAX ** (1 / 7)
        return torch.ones_like(t), (low + t * (high - low)) ** 7


class _Exact(Denoiser):
    def __init__(self, denoiser: Counted, schedule: noise.LearnedNoiseLevels) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, schedule

    def forward(self, x_t: Tensor, t: Tensor, **kwargs: Any) -> DiracPosterior:
        alpha, sigma = self.schedule(t)
        return DiracPosterior(self.denoiser(x_t / alpha, float(sigma / alpha)))


_SCHEDULES: dict[str, noise.LearnedNoiseLevels] = {
    "ve": noise.VESchedule(0.002, SIGMA_MAX),
    "vp": noise.VPSchedule(),
    "cosine": noise.CosineSchedule(),
    "rectified": noise.RectifiedSchedule(),
    "decay": noise.DecaySchedule(),
    "karras": _Karras(),
}


def _solve(
    denoiser: Counted, n: int, method: Any, schedule: noise.LearnedNoiseLevels
) -> tuple[Tensor, float]:
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
    (alpha, alpha_end), (sigma, sigma_end) = (v.tolist() for v in schedule(ends))
    sampler = method(_Exact(denoiser, schedule), steps=n, silent=True, dtype=torch.float64)
    return sampler(alpha * denoiser.start(sigma / alpha)) / alpha_end, sigma_end / alpha_end


def _columns() -> dict[str, Column]:
    methods: dict[str, tuple[Any, int]] = {
        "euler": (sample.EulerSampler, 1),
        "heun": (sample.HeunSampler, 2),
    }
    for name in ("zAB", "vAB", "zEAB", "xEAB", "REAB"):
        for order in (2, 3, 4):
            methods[f"{name} {order}"] = (
                partial(getattr(sample, f"{name}Sampler"), order=order),
                1,
            )
    return {
        f"azula {name} {where}": column(partial(_solve, method=method, schedule=schedule), calls)
        for name, (method, calls) in methods.items()
        for where, schedule in _SCHEDULES.items()
    }


COLUMNS: dict[str, Column] = _columns()
