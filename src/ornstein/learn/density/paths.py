"""Importance weights on path space: what a diffusion that generates tells about an unnormalised density.

F generates from ``x_T ~ pi`` down to ``x_0`` with the posterior's kernels, B noises with the exact transitions of the process. For a
target rho with normaliser Z

    log w = log rho(x_0) - log pi(x_T) + sum_k [log B(x_{k+1} | x_k) - log F(x_k | x_{k+1})],                  (1)

and E[w] = Z exactly, for every posterior and every number of steps, because all kernels are normalised. At the exact posterior
and in the limit of many steps log w is constant. Berner et al. 2022 (DIS); Vargas et al. 2023 (DDS); Zhang and Chen 2022 (PIS):
the three differ by the process only. A pinned process starts in a point that B reaches with certainty: the first ratio is 1.
"""

__all__ = ["WeightedSamples", "log_weights", "weighted_samples"]

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.gaussian import Gaussian
from ornstein.core.linear import Time
from ornstein.core.methods import Ancestral
from ornstein.core.noise import Draws, Noise
from ornstein.core.sde import Posterior, Reverse
from ornstein.core.solve import Evaluations, LogWeight, Method, Step, simulate
from ornstein.errors import OrnsteinError
from ornstein.learn.density.ledger import LogDensity


class WeightedSamples(NamedTuple):
    """Ends of generated paths with their log-weights.

    Attributes:
        x: ``(n, *event)``, the states at time 0.
        log_w: ``(n,)``, the log-weights (1) in nats.
        evaluations: calls of the posterior per path; the density is called once per path.
    """

    x: Tensor
    log_w: Tensor
    evaluations: int


@dataclass(frozen=True)
class _OffPath(Method):
    """A method whose states carry no gradient: only the densities of its kernels do."""

    method: Method
    order: int = 1

    def noisy(self, sde: Any) -> bool:
        return self.method.noisy(sde)

    def step(self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: Draws, memory: Any) -> Step:
        step = self.method.step(sde, x, t, s, stream, memory)
        return step._replace(x=step.x.detach())


def weighted_samples(
    posterior: Posterior,
    log_prob: LogDensity,
    times: Float[Tensor, " k"],
    n: int,
    noise: Noise,
    var: float = 1.0,
    through_path: bool = True,
) -> WeightedSamples:
    """n generated paths and their log-weights (1).

    Args:
        posterior: a `Denoiser` or any posterior with an ``event_shape``.
        log_prob: the unnormalised log-density, ``(n, *event) -> (n,)``.
        times: grid from T down to 0.
        n: number of paths.
        noise: source of randomness.
        var: variance of the data that the start law assumes.
        through_path: whether gradients flow through the states (reparametrisation, for `reverse_kl`); without, only through
            the kernels' densities, as `log_variance` and `trajectory_balance` need.
    """
    event = getattr(posterior, "event_shape", None)
    if event is None:
        raise OrnsteinError("the posterior does not know its event shape: make it with Denoiser(..., event_shape=(d,))")
    sde = posterior.sde
    start = sde.prior((n, *event), var)
    x_T = start.draw(noise.normal((n, *event)))

    def backward(x_new: Tensor, s: Time, x_old: Tensor, t: Time) -> Gaussian | None:
        return None if sde.pinned and float(t) == sde.T else sde.transition(x_new, s, t)

    weight, cost = LogWeight(backward), Evaluations()
    method = Ancestral() if through_path else _OffPath(Ancestral())
    x_0 = simulate(Reverse(posterior), x_T, times, method, noise, [weight, cost])
    log_start = torch.zeros(()) if sde.pinned else start.log_prob(x_T)
    return WeightedSamples(x_0, log_prob(x_0) - log_start + weight.value, cost.count)  # (1)


def log_weights(
    posterior: Posterior, log_prob: LogDensity, times: Float[Tensor, " k"], n: int, noise: Noise,
    var: float = 1.0, through_path: bool = True,
) -> Float[Tensor, " n"]:  # fmt: skip
    """The log-weights (1) of n generated paths, ``(n,)``; arguments as in `weighted_samples`."""
    return weighted_samples(posterior, log_prob, times, n, noise, var, through_path).log_w
