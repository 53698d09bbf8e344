"""The standard deviation of a posterior, measured: ``std^2(lambda) = E (x_0 - E[x_0 | x_t])^2`` per
event element.

The optimal diagonal variance given the mean (Bao et al. 2022, theorem 1). Measured on data that was
*not* trained on: on training data it would be too small, and kernels that are too narrow have
unbounded importance weights.
"""

__all__ = ["calibrate"]

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.random.noise import Noise
from ornstein.models.denoiser import LOG_SNR_KNOTS, Denoiser


@torch.no_grad()
def calibrate(
    denoiser: Denoiser,
    x0: Float[Tensor, "n *event"],
    noise: Noise,
    cond: Mapping[str, Tensor] | None = None,
    repeats: int = 1,
    smallest: float = 1e-3,
) -> None:
    """Fill ``denoiser.std_table`` from held-out samples: at each level the ratio to the standard
    deviation that there is without it, that of Gaussian data, or the root mean square of what the
    network says.

    An element's variance is shrunk towards the mean over elements with the weight of one sample, so
    that an element that never varied keeps a positive one.

    Args:
        denoiser: changed in place.
        x0: held-out samples in the model's space.
        noise: source of randomness.
        cond: their conditions.
        repeats: noise draws per sample and level.
        smallest: floor on the ratio.
    """
    denoiser.std_table = torch.zeros(0, device=x0.device)
    x0 = x0.repeat(repeats, *[1] * (x0.ndim - 1))
    cond = None if cond is None else {name: value.repeat(repeats) for name, value in cond.items()}
    n, rows = len(x0), []
    for k, t in enumerate(denoiser.sde.time(LOG_SNR_KNOTS).clamp(min=denoiser.sde.T * 1e-12)):
        x_t = denoiser.sde.marginal(x0, t).draw(noise.fold(k).stream_like(x0).normal())
        posterior = denoiser(x_t, t, cond)
        error = (posterior.mean - x0).square().sum(0)
        variance = (error + error.mean() / n) / (n + 1)
        usual = posterior.std.expand_as(x_t).square().mean(0).sqrt()
        rows.append((variance.sqrt() / usual).clamp(min=smallest))
    denoiser.std_table = torch.stack(rows)
