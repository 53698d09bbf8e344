"""Estimate the density of the law that a diffusion sampler generates, at any point.

The sampler's own density p, in contrast to the target density, is an integral over paths. With the
exact noising kernels q from a point x and the generating kernels of the sampler, importance
sampling gives

    p(x) = E_q[ p(path, x) / q(path | x) ]  ~  mean_k w_k.                                       (1)

`ornstein.density.learned.coverage` compares the result with the target.
"""

__all__ = ["ModelDensity", "model_log_density"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.paths.denoising import denoising_paths
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError

_ROWS = 8192  # rows of one batch of noising paths


class ModelDensity(NamedTuple):
    """A sampler's own log-density at points, with the errors of its estimate.

    Attributes:
        value: ``log p(x)`` in nats, ``(b,)``.
        stderr: its standard error by the delta method, ``(b,)``.
        ess: effective number of paths at each point, ``(b,)``.
    """

    value: Tensor
    stderr: Tensor
    ess: Tensor


def model_log_density(
    posterior: Posterior,
    x: Float[Tensor, "b *event"],
    times: Float[Tensor, " k"],
    paths: int,
    noise: Noise,
    var: float = 1.0,
) -> ModelDensity:
    """Estimate the density of the law that a sampler generates, by noising paths from each point.

    The estimate is ``p(x) ~ mean_k w_k`` with the weights ``w = p(path, x) / q(path | x)`` of paths
    of the noising kernels q.

    Args:
        posterior: the sampler.
        x: points in its own space.
        times: the time grid that the sampler generates on, from T down to 0.
        paths: for each point, at least 2.
        noise: source of randomness.
        var: variance of the data that the start law assumes.

    Raises:
        OrnsteinError: for fewer than two paths.
    """
    if paths < 2:
        raise OrnsteinError(f"model_log_density(paths={paths}): a standard error needs at least 2")
    copies_at_once = max(1, min(paths, _ROWS // max(len(x), 1)))
    parts = []
    with torch.no_grad():
        for k in range(0, paths, copies_at_once):
            copies = min(copies_at_once, paths - k)
            rows = x.repeat(copies, *[1] * (x.ndim - 1))
            measure = denoising_paths(
                posterior, lambda end: end.new_zeros(len(end)), times, var, like=rows
            )
            parts.append(-measure.back(rows, noise.fold(k)).double().reshape(copies, len(x)))
    log_w = torch.cat(parts)
    weights = log_w.softmax(0).nan_to_num(1 / paths)
    ess = weights.square().sum(0).reciprocal()
    relative_variance = (1 / ess - 1 / paths) * paths / (paths - 1)
    return ModelDensity(
        log_w.logsumexp(0) - math.log(paths), relative_variance.clamp(min=0).sqrt(), ess
    )
