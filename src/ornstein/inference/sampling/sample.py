"""Draw samples from a diffusion model, and choose the number of steps for a tolerance.

A sample starts from the law of pure noise at T and is integrated down to the data at t = 0 by a
numerical method on the reverse process of the posterior. `sample` does so for every posterior of
the library; `steps_for` finds the number of steps that an ODE sampler needs.
"""

__all__ = ["STEP_TEST_SAMPLES", "StepCount", "grid", "sample", "start_states", "steps_for"]

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.checks import require_finite, require_integers
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.random.noise import Noise, NoiseSource
from ornstein.core.simulation.loop import Watcher, simulate
from ornstein.core.simulation.method import Method
from ornstein.core.timesteps.spacing import Spacing, as_spacing
from ornstein.errors import OrnsteinError
from ornstein.inference.sampling.samplers import Sampler, sampler
from ornstein.models.posterior import attributes

STEP_TEST_SAMPLES = 64
"""Number of samples on which the number of steps is decided, other than those that are asked for;
also the key of their noise."""
_INITIAL_STEPS = 8  # number of steps that `steps_for` tries first


def sample(
    posterior: Posterior,
    n: int,
    steps: int | Literal["auto"] = 20,
    method: str | Method | Sampler = "auto",
    seed: int | NoiseSource = 0,
    x_T: Float[Tensor, "n *event"] | None = None,
    eta: float | None = None,
    shape: Sequence[int] | None = None,
    spacing: Spacing | str | None = None,
    watch: Sequence[Watcher] = (),
    tol: float | None = None,
) -> Float[Tensor, "n *event"]:
    """Draw n samples from the data distribution of a posterior; sample i does not depend on n.

    Gradients flow only if ``x_T`` asks for them; to differentiate through parameters call
    `simulate`.

    Args:
        posterior: a `Denoiser`, an exact posterior, or a guided one.
        n: number of samples.
        steps: number of steps from T to 0, or "auto" for as many as ``tol`` needs.
        method: a name, a method such as ``orn.Heun()``, or a `Sampler`.
        seed: an integer or a `Noise`; or, with ``x_T``, a `BrownianPath`, for SDE samplers on
            different grids to follow one path.
        x_T: the states ``(n, *event)`` to start from; by default draws from the start law.
        eta: amount of fresh noise, 0 for the ODE; by default what the method usually has.
        shape: event shape, for a posterior that does not know its own.
        spacing: where to put the steps, a member of `ornstein.spacing` or its name; by default the
            sampler's.
        watch: see `simulate`; a `Discretisation` estimates the error of the run.
        tol: with ``steps="auto"``, the root mean square error per coordinate that is allowed, in
            the units of the samples.

    Returns:
        The samples ``(n, *event)``.

    Raises:
        OrnsteinError: for arguments of the wrong kind or range, a tolerance without
            ``steps="auto"`` or the reverse, or a posterior of unknown event shape.

    Example:
        >>> posterior = orn.targets.gmm9().posterior(orn.VP())
        >>> orn.sample(posterior, 5, steps=10).shape
        torch.Size([5, 2])
    """
    if (steps == "auto") != (tol is not None):
        raise OrnsteinError(
            f"steps={steps!r} with tol={tol}: a tolerance and steps='auto' go together"
        )
    require_integers(1, n=n)
    if steps != "auto":
        require_integers(1, steps=steps)
    if eta is not None:
        require_finite(eta=eta)
    base_sampler = sampler(method, posterior, shape or (None if x_T is None else x_T.shape[1:]))
    base_sampler = replace(
        base_sampler,
        spacing=base_sampler.spacing if spacing is None else as_spacing(spacing),
        eta=base_sampler.eta if eta is None else eta,
    )
    noise = seed if isinstance(seed, NoiseSource) else Noise.of(seed)
    with torch.set_grad_enabled(x_T is not None and x_T.requires_grad):
        if x_T is None:
            x_T = start_states(posterior, n, shape, noise)
        elif len(x_T) != n:
            raise OrnsteinError(f"x_T holds {len(x_T)} states for n={n} samples: they must agree")
        if steps == "auto":
            x_test = start_states(
                posterior, STEP_TEST_SAMPLES, x_T.shape[1:], noise.fold(STEP_TEST_SAMPLES)
            )
            steps = steps_for(posterior, float(tol or 0), base_sampler, x_test.to(x_T)).steps
        times = grid(posterior.sde, steps, base_sampler.spacing)
        return simulate(
            Reverse(posterior, base_sampler.eta), x_T, times, base_sampler.method, noise, watch
        )


class StepCount(NamedTuple):
    """The number of steps that a sampler needs, with the estimated error for that number."""

    steps: int
    error: float


def steps_for(
    posterior: Posterior,
    tol: float,
    method: str | Method | Sampler,
    x_T: Tensor,
    max_steps: int = 1000,
) -> StepCount:
    """Return the number of steps that an ODE sampler needs for a tolerance, by step doubling.

    On a batch of test states the sampler runs with n and with half as many steps. The root mean
    square distance of the two runs is the error of the coarser one, and a bound on that of the
    finer wherever halving the steps no more than doubles the error. n grows by factors of about 1.5
    until that distance is below ``tol``.

    Args:
        posterior: see `sample`.
        tol: root mean square error per coordinate, in the units of the state.
        method: a name, a method or a `Sampler` without noise.
        x_T: states to start from, a hundred or so.
        max_steps: number of steps at which to give up.

    Raises:
        OrnsteinError: for a sampler that draws noise, a tolerance that is not positive, or one that
            ``max_steps`` steps do not meet.
    """
    base_sampler = sampler(method, posterior)
    if base_sampler.eta or not tol > 0:
        raise OrnsteinError(
            f"steps='auto' with eta={base_sampler.eta}, tol={tol}: only an ODE has this error;"
            " eta=0 and a positive tol"
        )
    runs: dict[int, Tensor] = {}

    def run(n: int) -> Tensor:
        if n not in runs:
            times = grid(posterior.sde, n, base_sampler.spacing)
            runs[n] = simulate(Reverse(posterior, 0.0), x_T, times, base_sampler.method)
        return runs[n]

    n = _INITIAL_STEPS
    while n <= max_steps:
        error = float((run(n) - run(n // 2)).square().mean().sqrt())
        if error <= tol:
            return StepCount(n, error)
        n = n * 3 // 2 if n & (n - 1) == 0 else n * 4 // 3  # 8, 12, 16, 24, 32, ...
    raise OrnsteinError(
        f"tol={tol}: {max_steps} steps do not meet it; loosen it, or let the state be float64"
    )


@lru_cache(maxsize=64)
def _grid(sde: LinearSDE, steps: int, spacing: Spacing) -> Tensor:
    """Return the time grid, made outside inference mode so that autograd accepts it."""
    with torch.inference_mode(False):
        return sde.times(steps, spacing)


def grid(sde: LinearSDE, steps: int, spacing: Spacing) -> Tensor:
    """Return the time grid ``sde.times(steps, spacing)``, cached if the process can be hashed."""
    try:
        return _grid(sde, steps, spacing).clone()
    except TypeError:  # unhashable: a process or spacing of one's own
        return sde.times(steps, spacing)


def start_states(
    posterior: Posterior, n: int, shape: Sequence[int] | None, noise: NoiseSource
) -> Tensor:
    """Draw n states from the start law at T, on the device of the posterior's parameters.

    Args:
        posterior: the model; without parameters, its last buffer gives dtype and device.
        n: number of states.
        shape: event shape, for a posterior that does not know its own.
        noise: the source; a `Noise`.

    Raises:
        OrnsteinError: for an unknown event shape, no states, or a source that drives steps only.
    """
    require_integers(1, n=n)
    model = attributes(posterior)
    event = shape or model.event_shape
    if event is None:
        raise OrnsteinError(
            "the posterior does not know its event shape: pass shape=(d,) or Denoiser(...,"
            " event_shape=(d,))"
        )
    if not hasattr(noise, "stream"):  # a Brownian path
        raise OrnsteinError(
            f"a {type(noise).__name__} drives the steps and says nothing of the start: pass x_T, or"
            " a seed"
        )
    start = posterior.sde.prior((n, *event), model.data_std**2)
    return start.std * noise.stream((n, *event), model.dtype, model.device).normal()
