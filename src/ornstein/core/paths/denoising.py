"""Path measures of a denoiser: generate by its posterior, go back by the process that adds noise.

They turn any posterior, learned or not, into an importance sampler of a target density: DIS over
`VP`, DDS over `OU`, PIS over a bridge. At the exact posterior all weights are equal up to the error
of the steps. Berner et al. 2022; Vargas et al. 2023.
"""

__all__ = ["denoising_paths", "log_weights"]

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.numerics.gaussian import Gaussian, Point
from ornstein.core.paths.measure import GaussianStart, PathMeasure
from ornstein.core.processes.linear import Time
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError


def denoising_paths(
    posterior: Posterior,
    target: LogDensity,
    times: Float[Tensor, " k"],
    var: float = 1.0,
    level: Callable[[Tensor, Time], Tensor] | None = None,
    like: Tensor | None = None,
) -> PathMeasure:
    """Return the path measure that generates by a posterior and goes back by exact noising.

    At the exact posterior log w is constant up to the error of the steps.

    Args:
        posterior: a `Denoiser`, or any posterior with an ``event_shape``.
        target: the unnormalised log-density.
        times: grid from T down to 0.
        var: variance of the data that the start law assumes.
        level: see `PathMeasure`.
        like: states ``(n, *event)`` whose event, dtype and device to take, where the posterior does
            not know its event.

    Raises:
        OrnsteinError: if the posterior does not know its event shape.
    """
    event = getattr(posterior, "event_shape", None) if like is None else like.shape[1:]
    if event is None:
        raise OrnsteinError(
            "the posterior does not know its event shape: make it with Denoiser(...,"
            " event_shape=(d,))"
        )
    sde = posterior.sde
    reverse = Reverse(posterior)
    prior = sde.prior((1, *event), var)
    mean = prior.mean[0] if like is None else prior.mean[0].to(like)
    start = GaussianStart(Point(mean) if sde.pinned else Gaussian(mean, prior.std))

    def forward(x: Tensor, t: Time, s: Time) -> Gaussian:
        reverse.check_step(t, s, 1.0)
        return sde.posterior(x, posterior(x, t), s, t)

    def backward(x: Tensor, s: Time, t: Time) -> Gaussian | Point:
        return Point(mean) if sde.pinned and float(t) == sde.T else sde.transition(x, s, t)

    return PathMeasure(start, target, times, forward, backward, level)


def log_weights(
    posterior: Posterior, log_prob: LogDensity, times: Float[Tensor, " k"], n: int, noise: Noise,
    var: float = 1.0, through_path: bool = True,
) -> Float[Tensor, " n"]:  # fmt: skip
    """Return the log-weights ``(n,)`` of n paths that a posterior generates.

    They are those of `denoising_paths`, ``log rho(x_0) - log pi(x_T) + sum_k [log B - log F]``;
    their mean weight is an unbiased estimate of Z for any posterior and any number of steps.

    Args:
        posterior: a `Denoiser`, or any posterior with an ``event_shape``.
        log_prob: the unnormalised log-density rho, ``(n, *event) -> (n,)``, nats.
        times: grid from T down to 0.
        n: number of paths.
        noise: source of randomness.
        var: variance of the data that the start law assumes.
        through_path: whether gradients flow through the states, as in `PathMeasure`.

    Example:
        >>> law = orn.targets.GaussianMixture(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1))
        >>> posterior = law.posterior(orn.VP())
        >>> w = orn.log_weights(posterior, law.log_prob, orn.VP().times(50), 1000, orn.Noise(0))
        >>> bool(w.exp().mean().log().abs() < 0.1)
        True
    """
    measure = denoising_paths(posterior, log_prob, times, var)
    return (measure if through_path else measure.off_path()).draw(n, noise).log_w
