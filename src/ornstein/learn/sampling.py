"""Drawing from a posterior: the few names for common samplers, and the function that resolves them once."""

__all__ = ["Sampler", "sample", "sampler"]

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core import spacing as spacings
from ornstein.core.methods import Ancestral, EulerMaruyama, Heun, Multistep, PredictorCorrector
from ornstein.core.noise import Noise
from ornstein.core.sde import Posterior, Reverse
from ornstein.core.solve import Method, Watcher, simulate
from ornstein.core.spacing import Spacing
from ornstein.errors import OrnsteinError, UnknownNameError


@dataclass(frozen=True)
class Sampler:
    """A method, the amount of noise it runs with, and where it puts its steps."""

    method: Method
    eta: float
    spacing: Spacing = spacings.cosine


_NAMES: dict[str, Sampler] = {
    "auto": Sampler(Multistep(2), 0.0),
    "multistep": Sampler(Multistep(2), 0.0),
    "ancestral": Sampler(Ancestral(), 1.0),
    "ddim": Sampler(Ancestral(), 0.0),
    "heun": Sampler(Heun(), 0.0),
    "euler": Sampler(EulerMaruyama(), 0.0),
    "predictor-corrector": Sampler(PredictorCorrector(), 1.0),
}


def sampler(method: str | Method | Sampler) -> Sampler:
    """The sampler of a name (auto, multistep, ancestral, ddim, heun, euler, predictor-corrector) or for a method object."""
    if isinstance(method, Sampler):
        return method
    if isinstance(method, str):
        if method not in _NAMES:
            raise UnknownNameError("method", method, _NAMES)
        return _NAMES[method]
    stochastic = isinstance(method, (EulerMaruyama, PredictorCorrector)) or getattr(method, "eta", 0.0) is None
    return Sampler(method, 1.0 if stochastic else 0.0)


def sample(
    posterior: Posterior,
    n: int,
    steps: int = 20,
    method: str | Method | Sampler = "auto",
    seed: int | Noise = 0,
    x_T: Float[Tensor, "n *event"] | None = None,
    eta: float | None = None,
    shape: Sequence[int] | None = None,
    spacing: Spacing | None = None,
    watch: Sequence[Watcher] = (),
) -> Float[Tensor, "n *event"]:
    """n draws from the data that a posterior denoises. Sample i is the same whatever n is.

    Gradients flow only if ``x_T`` asks for them; to differentiate through parameters call `simulate`.

    Args:
        posterior: a `Denoiser`, an exact posterior, or a guided one.
        n: number of samples.
        steps: number of steps from T to 0.
        method: a name, a method such as ``orn.Heun()``, or a `Sampler`.
        seed: an integer or a `Noise`.
        x_T: the states to start from; by default draws from the start law.
        eta: amount of fresh noise, 0 for the ODE; by default what the method usually has.
        shape: event shape, for a posterior that does not know its own.
        spacing: where to put the steps; by default the sampler's.
        watch: see `simulate`.
    """
    chosen = sampler(method)
    chosen = replace(chosen, spacing=spacing or chosen.spacing, eta=chosen.eta if eta is None else eta)
    noise = seed if isinstance(seed, Noise) else Noise(seed)
    with torch.set_grad_enabled(x_T is not None and x_T.requires_grad):
        if x_T is None:
            x_T = _start(posterior, n, shape, noise)
        elif len(x_T) != n:
            raise OrnsteinError(f"x_T holds {len(x_T)} states for n={n} samples: they must agree")
        times = posterior.sde.times(steps, chosen.spacing)
        return simulate(Reverse(posterior, chosen.eta), x_T, times, chosen.method, noise, watch)


def _start(posterior: Posterior, n: int, shape: Sequence[int] | None, noise: Noise) -> Tensor:
    """Draws from the start law, on the device of the posterior's parameters if it has any."""
    event = shape or getattr(posterior, "event_shape", None)
    if event is None:
        raise OrnsteinError("the posterior does not know its event shape: pass shape=(d,) or Denoiser(..., event_shape=(d,))")
    if n < 1:
        raise OrnsteinError(f"n={n} samples: at least 1")
    module, sde = getattr(posterior, "denoiser", posterior), posterior.sde
    parameter = next(module.parameters(), None) if isinstance(module, torch.nn.Module) else None
    like = torch.zeros(()) if parameter is None else parameter
    start = sde.prior((n, *event), getattr(module, "data_std", 1.0) ** 2)
    return start.std * noise.stream((n, *event), like.dtype, like.device).normal()
