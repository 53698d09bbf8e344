"""diffusers' schedulers, driven as their pipelines drive them, with an exact model in place of a
network.

Each driver returns a `Run` in our coordinates: the grid the scheduler walked, its first and its
last state. A scheduler keeps its levels in float32; where the state is float64 they become float64
too, so that only what it computes with them is compared.
"""

__all__ = ["CHAIN", "Run", "angular", "begin", "chain", "edm", "preserving", "scaled", "straight"]

import logging
from typing import Any, NamedTuple

import pytest
import torch
from peers_support import levels, standard
from torch import Tensor

from ornstein.core import processes as p
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Posterior

schedulers = pytest.importorskip("diffusers.schedulers")
logging.getLogger("diffusers").setLevel(logging.ERROR)

STEPS = 1000  # of training
CHAIN = p.DiscreteVP(tuple(torch.linspace(1e-4, 0.02, STEPS).double().tolist()) + (0.02,))
"""The process that diffusers trains with by default, and one step more: a level of T in float32 may
lie beyond T."""


class Run(NamedTuple):
    """What a peer did."""

    times: Tensor
    start: Tensor
    end: Tensor


def begin(name: str, n: int, dtype: torch.dtype, **config: Any) -> Any:
    """A scheduler ready for its first step."""
    scheduler = getattr(schedulers, name)(**config)
    scheduler.set_timesteps(n)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    for key in ("sigmas", "sigmas_interpol", "sigmas_up", "sigmas_down"):
        if hasattr(scheduler, key):
            setattr(scheduler, key, getattr(scheduler, key).to(dtype))
    if hasattr(scheduler, "alphas_cumprod"):
        scheduler.alphas_cumprod = (
            (1 - torch.tensor(CHAIN.betas[:-1], dtype=torch.float64)).cumprod(0).to(dtype)
        )
    return scheduler


def _grid(sde: LinearSDE, ratios: Tensor) -> Tensor:
    """Times of the levels, each once, down to 0 where the last level is."""
    ratios = torch.unique_consecutive(ratios.double())
    times = levels(sde, ratios)
    times[-1] = times[-1] * (ratios[-1] > 0)
    return times


def _said(kind: str, clean: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
    """What the network says about ``y = x_0 + sigma z``: the noise, the clean point or the
    velocity."""
    noise, alpha = (y - clean) / sigma, (1 + sigma**2).rsqrt()
    return {"epsilon": noise, "sample": clean, "v_prediction": alpha * (noise - sigma * clean)}[
        kind
    ]


def scaled(scheduler: Any, posterior: Posterior, dtype: torch.dtype, **options: Any) -> Run:
    """Schedulers whose state is ``y = x / alpha``."""
    sde, times = posterior.sde, _grid(posterior.sde, scheduler.sigmas)
    y = start = standard(dtype) * scheduler.sigmas[0]
    for i, t in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(y, t)
        inner = hasattr(scheduler, "sigmas_interpol") and not scheduler.state_in_first_order
        late = inner and "Ancestral" in type(scheduler).__name__
        sigma = (scheduler.sigmas_interpol if inner else scheduler.sigmas)[i - late]
        time = levels(sde, sigma)
        clean = posterior(sde.alpha(time).to(dtype) * y, time).mean
        y = scheduler.step(
            _said(scheduler.config.prediction_type, clean, y, sigma), t, y, **options
        ).prev_sample.to(dtype)
    return Run(times, start * sde.alpha(times[0]).to(dtype), y * sde.alpha(times[-1]).to(dtype))


def edm(scheduler: Any, posterior: Posterior, dtype: torch.dtype, **options: Any) -> Run:
    """Schedulers of EDM, which precondition the network; the state is that of `EDM`."""
    width = scheduler.config.sigma_data
    x = start = standard(dtype) * scheduler.sigmas[0]
    for sigma, t in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        scheduler.scale_model_input(x, t)
        total = sigma**2 + width**2
        raw = (posterior(x, sigma.double()).mean - width**2 / total * x) * (
            total**0.5 / (sigma * width)
        )
        x = scheduler.step(raw, t, x, **options).prev_sample.to(dtype)
    return Run(_grid(posterior.sde, scheduler.sigmas), start, x)


def preserving(scheduler: Any, posterior: Posterior, dtype: torch.dtype, **options: Any) -> Run:
    """Schedulers whose levels are noise-to-signal ratios and whose state is that of `CHAIN`."""
    sde, times = posterior.sde, _grid(posterior.sde, scheduler.sigmas)
    x = start = standard(dtype) * sde.marginal(standard(dtype), times[0]).std
    for i, t in enumerate(scheduler.timesteps):
        alpha = sde.alpha(times[i]).to(dtype)
        said = _said(
            scheduler.config.prediction_type,
            posterior(x, times[i]).mean,
            x / alpha,
            scheduler.sigmas[i],
        )
        x = scheduler.step(said, t, x, **options).prev_sample.to(dtype)
    return Run(times, start, x)


def chain(scheduler: Any, posterior: Posterior, dtype: torch.dtype, **options: Any) -> Run:
    """Schedulers whose levels are training steps: step k is our time ``(k + 1) / (K + 1)``."""
    sde = posterior.sde
    steps = torch.unique_consecutive(torch.as_tensor(scheduler.timesteps)).long()
    times = torch.cat([(steps + 1).double() / (STEPS + 1), torch.zeros(1, dtype=torch.float64)])
    x = start = standard(dtype)
    for t in scheduler.timesteps:
        time = (t.double() + 1) / (STEPS + 1)
        alpha, sigma = sde.alpha(time).to(dtype), sde.sigma(time).to(dtype)
        said = _said(
            scheduler.config.prediction_type, posterior(x, time).mean, x / alpha, sigma / alpha
        )
        x = scheduler.step(said, t, x, **options).prev_sample.to(dtype)
    return Run(times, start, x)


def straight(scheduler: Any, posterior: Posterior, dtype: torch.dtype, **options: Any) -> Run:
    """Schedulers of flow matching, whose levels are the times of `RectifiedFlow`, and to which the
    model gives ``z - x_0``."""
    x = start = standard(dtype)
    levels_used = scheduler.sigmas[: len(scheduler.timesteps)]
    for i, t in enumerate(scheduler.timesteps):
        sigma = levels_used[i].double()
        x = scheduler.step(
            (x - posterior(x, sigma).mean) / sigma.to(dtype), t, x, **options
        ).prev_sample.to(dtype)
    return Run(torch.unique_consecutive(scheduler.sigmas.double()), start, x)


def angular(scheduler: Any, posterior: Posterior, dtype: torch.dtype, **options: Any) -> Run:
    """IPNDM: the state is ``cos x_0 + sin z``, that of `Cosine`, and it is told ``cos z - sin
    x_0``."""
    scheduler.betas = scheduler.betas.to(dtype)
    scheduler.alphas = (1 - scheduler.betas.square()).sqrt()
    times = _grid(posterior.sde, scheduler.betas / scheduler.alphas)
    x = start = standard(dtype)
    for i, t in enumerate(scheduler.timesteps):
        sine, cosine = scheduler.betas[i], scheduler.alphas[i]
        clean = posterior(x, times[i]).mean
        x = scheduler.step(
            cosine * (x - cosine * clean) / sine - sine * clean, t, x, **options
        ).prev_sample.to(dtype)
    return Run(times, start, x)
