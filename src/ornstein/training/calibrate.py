"""Calibration: measure the standard deviation of a posterior on held-out data.

For each event element and log-SNR lambda it is

    std^2(lambda) = E (x_0 - E[x_0 | x_t])^2,                                                    (1)

the optimal diagonal variance given the mean (Bao et al. 2022, theorem 1). It is measured on data
that was *not* trained on: on training data it would be too small, and kernels that are too narrow
have unbounded importance weights.
"""

__all__ = ["calibrate"]

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.random.noise import Noise
from ornstein.models.denoiser import LOG_SNR_KNOTS, Denoiser

_EARLIEST = 1e-12  # first time, in units of T, where the process has a little noise
_BATCH = 2**18  # numbers in a batch: the activations of a U-Net of 64 channels then take 64 MiB
_MIN_ROWS = 16  # smallest number of rows in a batch


@torch.no_grad()
def calibrate(
    denoiser: Denoiser,
    x0: Float[Tensor, "n *event"],
    noise: Noise,
    cond: Mapping[str, Tensor] | None = None,
    repeats: int = 1,
    smallest: float = 1e-3,
) -> None:
    """Fill ``denoiser.std_table`` from held-out samples, in batches of bounded size.

    An entry is the ratio of (1) to the standard deviation that there is without the table: that of
    Gaussian data, or the root mean square of what the network says. An element's variance is
    shrunk towards the mean over elements with the weight of one sample, so that an element that
    never varied keeps a positive one.

    Args:
        denoiser: changed in place.
        x0: held-out samples in the model's space.
        noise: source of randomness.
        cond: their conditions by name, one row per sample.
        repeats: noise draws per sample and level.
        smallest: floor on the ratio.

    Example:
        >>> denoiser = orn.Denoiser(orn.MLP(2), orn.VP())
        >>> orn.calibrate(denoiser, torch.randn(20, 2), orn.Noise(0))
        >>> denoiser.std_table.shape
        torch.Size([53, 2])
    """
    denoiser.std_table = torch.zeros(0, dtype=torch.float32, device=x0.device)
    x0 = _repeat(x0, repeats)
    cond = {name: _repeat(value, repeats) for name, value in (cond or {}).items()}
    n = len(x0)
    rows = []
    for k, t in enumerate(denoiser.sde.time(LOG_SNR_KNOTS).clamp(min=denoiser.sde.T * _EARLIEST)):
        mean, std = _posterior(denoiser, x0, t, noise.fold(k), cond)
        error = (mean - x0).square().sum(0)
        variance = (error + error.mean() / n) / (n + 1)  # (1)
        usual = std.square().mean(0).sqrt()
        rows.append((variance.sqrt() / usual).clamp(min=smallest))
    denoiser.std_table = torch.stack(rows)


def _repeat(rows: Tensor, times: int) -> Tensor:
    """Return rows of any shape with all of them repeated several times."""
    return rows.repeat(times, *[1] * (rows.ndim - 1))


def _posterior(
    denoiser: Denoiser, x0: Tensor, t: Tensor, noise: Noise, cond: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the posterior mean and std at one draw of ``x_t`` for each sample, both like x0."""
    size = max(_MIN_ROWS, _BATCH // x0[0].numel())
    means, stds = [], []
    for first in range(0, len(x0), size):
        rows = slice(first, first + size)
        x = x0[rows]
        x_t = denoiser.sde.marginal(x, t).draw(noise.shift(first).stream_like(x).normal())
        law = denoiser(x_t, t, {name: value[rows] for name, value in cond.items()} or None)
        means.append(law.mean)
        stds.append(law.std.expand_as(x_t))
    return torch.cat(means), torch.cat(stds)
