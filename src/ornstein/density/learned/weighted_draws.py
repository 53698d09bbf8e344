"""Draw more weighted points from a diffusion model of a density, for which Z is estimated anew.

The model is the ``sampler`` of a `DensityResult`, or what `ornstein.load` reads from its folder.
`draw_weighted` returns ends of independent paths: their mean weight estimates Z, and averages with
these weights are averages over the density. Where a small number of paths would carry most of the
weight, `draw_smc` resamples particles on the way (sequential Monte Carlo), which costs a call of
the density at each resampling time but keeps the weights even.
"""

__all__ = ["WeightedDraws", "draw_smc", "draw_weighted"]

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.random.noise import Noise
from ornstein.core.random.weighted_sample import WeightedSample
from ornstein.density.as_density import as_density
from ornstein.density.counted import CountedLogDensity
from ornstein.density.learned.importance import (
    NO_ESTIMATE,
    PulledBackDensity,
    estimate_log_z,
    smc_along_model,
)
from ornstein.density.log_z import LogZ
from ornstein.errors import OrnsteinError
from ornstein.inference.diffusion_model import DiffusionModel


@dataclass(frozen=True)
class WeightedDraws(WeightedSample):
    """Weighted draws of a density, with the estimate of log Z that their weights give.

    Args:
        x: ``(n, d)``, in the unconstrained coordinates of the density.
        log_w: ``(n,)``, exact log-weights in nats.
        independent_groups: number of independent groups of draws.
        cost: evaluations of the log-density.
        log_z: the estimate of log Z from these draws alone.
    """

    log_z: LogZ = NO_ESTIMATE

    @property
    def evaluations(self) -> int:
        """The number of evaluations of the log-density behind the draws."""
        return self.cost


@renamed_arguments(what="density")
def draw_weighted(
    model: DiffusionModel, density: Any, n: int, seed: int | Noise = 0
) -> WeightedDraws:
    """Draw the ends of n independent paths of a model, with their exact importance weights.

    Args:
        model: `DensityResult.sampler`, or what `ornstein.load` makes of its folder.
        density: the density, in any form that `sample_density` takes; one evaluation for each draw.
        n: number of draws, at least 2.
        seed: of everything random; draw i depends on the seed and i alone.

    Raises:
        OrnsteinError: for n below 2, a model that is not of vectors, or a density of another
            dimension.

    Example:
        >>> log_prob = lambda x: -x.square().sum(1) / 2
        >>> r = orn.sample_density(log_prob, dim=2, n=32, particles=32, stderr=0.5)
        >>> draws = orn.draw_weighted(r.sampler, log_prob, 100)
        >>> draws.x.shape, draws.log_w.shape
        (torch.Size([100, 2]), torch.Size([100]))
    """
    return _draw(estimate_log_z, model, density, n, 2, seed)


@renamed_arguments(what="density", islands="independent_groups")
def draw_smc(
    model: DiffusionModel, density: Any, n: int, seed: int | Noise = 0, independent_groups: int = 16
) -> WeightedDraws:
    """Draw particles by sequential Monte Carlo with a model, for models whose weights are uneven.

    Args:
        model: `DensityResult.sampler`, or what `ornstein.load` makes of its folder.
        density: the density, in any form that `sample_density` takes.
        n: particles of all runs together; rounded down to a multiple of ``independent_groups``.
        seed: of everything random.
        independent_groups: independent runs, at least 2: their spread is the error of log Z.

    Raises:
        OrnsteinError: for fewer than two independent runs or two particles in each.

    Example:
        >>> log_prob = lambda x: -x.square().sum(1) / 2
        >>> r = orn.sample_density(log_prob, dim=2, n=32, particles=32, stderr=0.5)
        >>> orn.draw_smc(r.sampler, log_prob, 64, independent_groups=4).independent_groups
        4
    """
    if independent_groups < 2:
        raise OrnsteinError(
            f"draw_smc(independent_groups={independent_groups}): at least 2, whose spread is the"
            " error"
        )
    method = partial(smc_along_model, filters=independent_groups)
    return _draw(method, model, density, n, 2 * independent_groups, seed)


def _draw(
    method: Callable[..., tuple[WeightedSample, LogZ]],
    model: DiffusionModel,
    density: Any,
    n: int,
    min_n: int,
    seed: int | Noise,
) -> WeightedDraws:
    """Draw n weighted points by one of two estimators of log Z, and count evaluations."""
    if len(model.event_shape) != 1:
        raise OrnsteinError(
            f"a sampler of events of shape {model.event_shape}: densities are of vectors"
        )
    (dim,) = model.event_shape
    density = as_density(density, dim)
    if n < min_n:
        raise OrnsteinError(f"n={n} draws: at least {min_n}")
    target = CountedLogDensity(density.log_prob, dim)
    points, estimate = method(model, PulledBackDensity(target, model.codec), n, Noise.of(seed))
    return WeightedDraws(
        model.codec.decode(points.x),
        points.log_w,
        points.independent_groups,
        target.values,
        replace(estimate, cost=target.values),
    )
