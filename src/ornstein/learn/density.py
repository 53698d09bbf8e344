"""Learning from an unnormalised density: importance weights on path space, losses on them, and log Z with its interval.

F generates from ``x_T ~ pi`` down to ``x_0`` with the posterior's kernels, B noises with the exact transitions of the process. For a
target rho with normaliser Z

    log w = log rho(x_0) - log pi(x_T) + sum_k [log B(x_{k+1} | x_k) - log F(x_k | x_{k+1})],                  (1)

and E[w] = Z exactly, for every posterior and every number of steps, because all kernels are normalised. At the exact posterior
and in the limit of many steps log w is constant. Berner et al. 2022 (DIS); Vargas et al. 2023 (DDS); Zhang and Chen 2022 (PIS):
the three differ by the process only. A pinned process starts in a point that B reaches with certainty: the first ratio is 1.
"""

__all__ = [
    "LogZ", "WeightedSamples", "log_variance", "log_weights", "log_z", "reverse_kl", "trajectory_balance",
    "weighted_samples",
]  # fmt: skip

import math
from collections.abc import Callable
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

LogDensity = Callable[[Tensor], Tensor]


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


def reverse_kl(log_w: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """``-log w``: its mean is KL(generated paths || noised target paths) - log Z. Needs weights with ``through_path=True``."""
    return -log_w


def _several(log_w: Tensor) -> int:
    """The number of weights, if there are enough for a variance."""
    if len(log_w) < 2:
        raise OrnsteinError(f"{len(log_w)} log-weights: a variance needs at least two paths")
    return len(log_w)


def log_variance(log_w: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """``n / (n - 1) (log w - mean)^2``: its mean is the variance of log w, 0 exactly at the optimum. Richter et al. 2020, eq. 36.

    Needs ``through_path=False``: the law of the paths is not to be differentiated.
    """
    n = _several(log_w)
    return (log_w - log_w.mean()).square() * (n / (n - 1))


def trajectory_balance(log_w: Float[Tensor, " n"], log_z: Tensor) -> Float[Tensor, " n"]:
    """``(log w - log_z)^2`` with a learned scalar ``log_z``. Malkin et al. 2022, eq. 14. Needs ``through_path=False``."""
    return (log_w - log_z).square()


class LogZ(NamedTuple):
    """An estimate of log Z in nats.

    Attributes:
        value: log of the mean weight.
        stderr: standard error of ``value`` (delta method).
        interval: 95 % interval.
        elbo: mean of log w, a lower bound in expectation.
        ess: effective sample size, in samples.
    """

    value: float
    stderr: float
    interval: tuple[float, float]
    elbo: float
    ess: float


def log_z(log_w: Float[Tensor, " n"]) -> LogZ:
    """log Z from independent weights: ``log mean w`` with the standard error ``sd(w) / (mean(w) sqrt(n))``.

    The interval is symmetric for w, so not for log w: ``log(mean w -+ 1.96 se)``.

    Raises:
        OrnsteinError: if there are fewer than two weights, one is NaN or +inf, or all are zero.
    """
    n, log_w = _several(log_w), log_w.detach().double()
    if bool(torch.isnan(log_w).any() | (log_w == torch.inf).any()) or not bool(torch.isfinite(log_w).any()):
        raise OrnsteinError("log-weights are NaN, +inf or all -inf: check the log-density at the generated points")
    top = log_w.max()
    w = (log_w - top).exp()
    mean, se = float(w.mean()), float(w.std()) / math.sqrt(n)
    value = float(top) + math.log(mean)
    relative = se / mean
    low = math.log1p(-1.96 * relative) if 1.96 * relative < 1 else -math.inf
    interval = (value + low, value + math.log1p(1.96 * relative))
    return LogZ(value, relative, interval, float(log_w.mean()), float(w.sum().square() / w.square().sum()))
