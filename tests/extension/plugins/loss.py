"""A loss of a user: a robust error in place of the squared one."""

from dataclasses import dataclass

import torch

import ornstein as orn


@dataclass(frozen=True)
class Robust:
    """``sqrt(1 + error^2) - 1`` of x_0, weighted by the signal-to-noise ratio."""

    x0: torch.Tensor
    batch: int = 64

    def __call__(self, denoiser, k):
        noise = orn.Noise(5).fold(k)
        index = noise.uniform((self.batch,)).mul(len(self.x0)).long()
        t = orn.noise_levels.LogNormal()(denoiser.sde, noise.fold(1).uniform((self.batch,)))
        x0 = self.x0[index]
        x_t = denoiser.sde.marginal(x0, t).draw(noise.fold(2).normal(x0.shape))
        error = (denoiser(x_t, t).mean - x0) * (denoiser.sde.log_snr(t) / 2).exp()[:, None]
        return ((1 + error.square()).sqrt() - 1).mean(1), None
