"""Drawing from a posterior: the few names for common samplers, and the function that resolves them
once."""

__all__ = [
    "Resolution",
    "Sampler",
    "automatic",
    "data_std",
    "grid",
    "sample",
    "sampler",
    "start_states",
    "steps_for",
]

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.methods import Ancestral, EulerMaruyama, Heun, Multistep, PredictorCorrector
from ornstein.core.methods.exponential_weights import middle
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.random.noise import Noise, NoiseSource
from ornstein.core.simulation.loop import Watcher, simulate
from ornstein.core.simulation.method import Method
from ornstein.core.timesteps import spacing as spacings
from ornstein.core.timesteps.clock import Asinh
from ornstein.core.timesteps.spacing import Spacing
from ornstein.errors import OrnsteinError, UnknownNameError

PILOT = 64  # samples, apart from those that are asked for, on which the number of steps is decided


@dataclass(frozen=True)
class Sampler:
    """A method, the amount of noise it runs with, and where it puts its steps."""

    method: Method
    eta: float
    spacing: Spacing = spacings.cosine


def data_std(posterior: Posterior) -> float:
    """The overall standard deviation of the data, as far as the posterior knows it; else 1."""
    return float(getattr(getattr(posterior, "denoiser", posterior), "data_std", 1.0))


def automatic(
    posterior: Posterior,
    width: float = 1.0,
    turn: float = 1.0,
    std: float = 1.0,
    *,
    shape: Sequence[int] | None = None,
) -> Sampler:
    """The fixed rule behind ``method="auto"``: it knows the standard deviation d of the data, their
    dimension n, and nothing else.

    Fourth-order Adams-Bashforth on the velocity of data ``N(0, d^2)``, as polynomials in
    ``asinh(2.4 r / w)``, on a grid that is densest where the noise-to-signal ratio r is ``w = 0.36
    d (n / 2)^(1/6)``; order 2 in the last step, which ends in the data. The level at which a point
    decides for one of several modes rises with n: as n^(1/2) if all coordinates tell them apart,
    not at all if one does.

    Args:
        posterior: whose ``data_std`` is d.
        width: factor on w.
        turn: factor on the ratio ``w / 2.4`` below which the clock is linear.
        std: the standard deviation that the velocity belongs to, in units of d.
        shape: of an event, for a posterior that does not know its own.
    """
    d, event = data_std(posterior), shape or getattr(posterior, "event_shape", None) or (2,)
    w = 0.36 * d * (math.prod(event) / 2) ** (1 / 6)
    return Sampler(
        Multistep(4, std * d, Asinh(turn * w / 2.4), last=2), 0.0, spacings.Balanced(width * w)
    )


_NAMES: dict[str, Sampler] = {
    "multistep": Sampler(Multistep(2, weights=middle), 0.0),
    "dpm++2m": Sampler(Multistep(2, weights=middle), 0.0),
    "sde-dpm++2m": Sampler(Multistep(2, weights=middle), 1.0),
    "unipc": Sampler(Multistep(2, weights=middle, corrector=2), 0.0),
    "deis": Sampler(Multistep(3, math.inf), 0.0),
    "ancestral": Sampler(Ancestral(), 1.0),
    "ddim": Sampler(Ancestral(), 0.0),
    "heun": Sampler(Heun(), 0.0),
    "euler": Sampler(EulerMaruyama(), 0.0),
    "predictor-corrector": Sampler(PredictorCorrector(), 1.0),
}


def sampler(
    method: str | Method | Sampler, posterior: Posterior, shape: Sequence[int] | None = None
) -> Sampler:
    """The sampler of a name ("auto", "dpm++2m", "ancestral", ...: an unknown one lists them) or of
    a method, for a posterior."""
    if isinstance(method, Sampler):
        return method
    if method == "auto":
        return automatic(posterior, shape=shape)
    if isinstance(method, str):
        if method not in _NAMES:
            raise UnknownNameError("method", method, ("auto", *_NAMES))
        return _NAMES[method]
    stochastic = (
        isinstance(method, (EulerMaruyama, PredictorCorrector))
        or getattr(method, "eta", 0.0) is None
    )
    return Sampler(method, 1.0 if stochastic else 0.0)


def sample(
    posterior: Posterior,
    n: int,
    steps: int | Literal["auto"] = 20,
    method: str | Method | Sampler = "auto",
    seed: int | NoiseSource = 0,
    x_T: Float[Tensor, "n *event"] | None = None,
    eta: float | None = None,
    shape: Sequence[int] | None = None,
    spacing: Spacing | None = None,
    watch: Sequence[Watcher] = (),
    tol: float | None = None,
) -> Float[Tensor, "n *event"]:
    """n draws from the data that a posterior denoises. Sample i is the same whatever n is.

    Gradients flow only if ``x_T`` asks for them; to differentiate through parameters call
    `simulate`.

    Args:
        posterior: a `Denoiser`, an exact posterior, or a guided one.
        n: number of samples.
        steps: number of steps from T to 0, or "auto" for as many as `steps_for` finds that ``tol``
            needs.
        method: a name, a method such as ``orn.Heun()``, or a `Sampler`.
        seed: an integer or a `Noise`; or, with ``x_T``, a `BrownianPath`, for SDE samplers on
            different grids to follow one path.
        x_T: the states to start from; by default draws from the start law.
        eta: amount of fresh noise, 0 for the ODE; by default what the method usually has.
        shape: event shape, for a posterior that does not know its own.
        spacing: where to put the steps; by default the sampler's.
        watch: see `simulate`; a `Discretisation` estimates the error of the run.
        tol: with ``steps="auto"``, the root mean square error per coordinate that is allowed, in
            the units of the samples.
    """
    if (steps == "auto") != (tol is not None):
        raise OrnsteinError(
            f"steps={steps!r} with tol={tol}: a tolerance and steps='auto' go together"
        )
    chosen = sampler(method, posterior, shape or (None if x_T is None else x_T.shape[1:]))
    chosen = replace(
        chosen, spacing=spacing or chosen.spacing, eta=chosen.eta if eta is None else eta
    )
    noise = Noise(seed) if isinstance(seed, int) else seed
    with torch.set_grad_enabled(x_T is not None and x_T.requires_grad):
        if x_T is None:
            x_T = start_states(posterior, n, shape, noise)
        elif len(x_T) != n:
            raise OrnsteinError(f"x_T holds {len(x_T)} states for n={n} samples: they must agree")
        if steps == "auto":
            pilot = start_states(posterior, PILOT, x_T.shape[1:], noise.fold(PILOT)).to(x_T)
            steps = steps_for(posterior, float(tol or 0), chosen, pilot).steps
        times = grid(posterior.sde, steps, chosen.spacing)
        return simulate(Reverse(posterior, chosen.eta), x_T, times, chosen.method, noise, watch)


class Resolution(NamedTuple):
    """What `steps_for` found: a number of steps, and the estimated error with it."""

    steps: int
    error: float


def steps_for(
    posterior: Posterior, tol: float, method: str | Method | Sampler, x_T: Tensor, most: int = 1000
) -> Resolution:
    """The number of steps that an ODE sampler needs, from runs with n and half as many steps on a
    pilot batch.

    The root mean square distance of the two runs is the error of the coarser one, and a bound on
    that of the finer wherever halving the steps no more than doubles the error. n grows by factors
    of about 1.5 until that distance is below ``tol``.

    Args:
        posterior: see `sample`.
        tol: root mean square error per coordinate, in the units of the state.
        method: a name, a method or a `Sampler` without noise.
        x_T: states to start from, a hundred or so.
        most: number of steps at which to give up.

    Raises:
        OrnsteinError: for a sampler that draws noise, a tolerance that is not positive, or one that
            ``most`` steps do not meet.
    """
    chosen = sampler(method, posterior)
    if chosen.eta or not tol > 0:
        raise OrnsteinError(
            f"steps='auto' with eta={chosen.eta}, tol={tol}: only an ODE has this error; eta=0 and"
            " a positive tol"
        )
    runs: dict[int, Tensor] = {}

    def run(n: int) -> Tensor:
        if n not in runs:
            runs[n] = simulate(
                Reverse(posterior, 0.0), x_T, grid(posterior.sde, n, chosen.spacing), chosen.method
            )
        return runs[n]

    n = 8
    while n <= most:
        error = float((run(n) - run(n // 2)).square().mean().sqrt())
        if error <= tol:
            return Resolution(n, error)
        n = n * 3 // 2 if n & (n - 1) == 0 else n * 4 // 3
    raise OrnsteinError(
        f"tol={tol}: {most} steps do not meet it; loosen it, or let the state be float64"
    )


@lru_cache(maxsize=64)
def _grid(sde: LinearSDE, steps: int, spacing: Spacing) -> Tensor:
    return sde.times(steps, spacing)


def grid(sde: LinearSDE, steps: int, spacing: Spacing) -> Tensor:
    """``sde.times(steps, spacing)``, remembered for the last processes and spacings that can be."""
    try:
        return _grid(sde, steps, spacing).clone()
    except TypeError:  # unhashable: a process or spacing of one's own
        return sde.times(steps, spacing)


def start_states(
    posterior: Posterior, n: int, shape: Sequence[int] | None, noise: NoiseSource
) -> Tensor:
    """Draws from the start law, on the device of the posterior's parameters, or what else its
    network computes with, if it has any."""
    event = shape or getattr(posterior, "event_shape", None)
    if event is None:
        raise OrnsteinError(
            "the posterior does not know its event shape: pass shape=(d,) or Denoiser(...,"
            " event_shape=(d,))"
        )
    if n < 1:
        raise OrnsteinError(f"n={n} samples: at least 1")
    if not isinstance(noise, Noise):
        raise OrnsteinError(
            f"a {type(noise).__name__} drives the steps and says nothing of the start: pass x_T, or"
            " a seed"
        )
    module, sde = getattr(posterior, "denoiser", posterior), posterior.sde
    numbers = (
        [*module.parameters()][:1] or [*module.buffers()][-1:]
        if isinstance(module, torch.nn.Module)
        else []
    )
    like = numbers[0] if numbers else torch.zeros(())
    start = sde.prior((n, *event), getattr(module, "data_std", 1.0) ** 2)
    return start.std * noise.stream((n, *event), like.dtype, like.device).normal()
