"""More draws of a sampler that was learned from a density, with what they weigh: for a result, or a
sampler from its folder.

Weighted draws are ends of independent paths: their mean weight estimates Z, and any average over
them is right once reweighted. Where few of them would carry most of the weight, particles are
resampled on the way, which costs a call of the density for each stop but keeps more of them alive.
"""

__all__ = ["WeightedDraws", "draw_smc", "draw_weighted"]

from typing import Any, NamedTuple

from torch import Tensor

from ornstein.core.random.noise import Noise
from ornstein.density.as_density import as_density
from ornstein.density.counted import CountedLogDensity
from ornstein.density.learned.importance import PulledBackDensity, along, estimate
from ornstein.density.log_z import LogZ
from ornstein.errors import OrnsteinError
from ornstein.inference.diffusion_model import DiffusionModel


class WeightedDraws(NamedTuple):
    """Weighted draws.

    Attributes:
        x: ``(n, d)``, in the unconstrained coordinates of the density.
        log_w: ``(n,)``, exact log-weights.
        log_z: from these draws alone.
        evaluations: of the log-density.
    """

    x: Tensor
    log_w: Tensor
    log_z: LogZ
    evaluations: int


def draw_weighted(model: DiffusionModel, what: Any, n: int, seed: int = 0) -> WeightedDraws:
    """n ends of independent paths with their exact weights; one evaluation of the density each.

    Args:
        model: `DensityResult.sampler`, or what `load` makes of its folder.
        what: the density, as for `sample_density`.
        n: at least 2.
        seed: of everything random; draw i depends on it and i alone.

    Raises:
        OrnsteinError: for n below 2, a model that is not of vectors, or a density of another
            dimension.
    """
    frame, ledger = _frame(model, what, n, 2)
    paths, found = estimate(model, frame, n, Noise(seed))
    return WeightedDraws(model.codec.decode(paths.x), paths.log_w, found, ledger.values)


def draw_smc(
    model: DiffusionModel, what: Any, n: int, seed: int = 0, islands: int = 16
) -> WeightedDraws:
    """Particles along the model, resampled on the way, in independent islands whose spread is the
    error of log Z.

    Args:
        model, what, seed: as in `draw_weighted`.
        n: particles, of all islands together; rounded down to a multiple of these.
        islands: at least 2.

    Raises:
        OrnsteinError: for fewer than two islands or two particles in each.
    """
    if islands < 2:
        raise OrnsteinError(f"draw_smc(islands={islands}): at least 2, their spread is the error")
    frame, ledger = _frame(model, what, n, 2 * islands)
    paths, found = along(model, frame, n, Noise(seed), islands)
    return WeightedDraws(model.codec.decode(paths.x), paths.log_w, found, ledger.values)


def _frame(
    model: DiffusionModel, what: Any, n: int, least: int
) -> tuple[PulledBackDensity, CountedLogDensity]:
    if len(model.event_shape) != 1:
        raise OrnsteinError(
            f"a sampler of events of shape {model.event_shape}: densities are of vectors"
        )
    (dim,) = model.event_shape
    density = as_density(what, dim)
    if n < least:
        raise OrnsteinError(f"n={n} draws: at least {least}")
    ledger = CountedLogDensity(density.log_prob, dim)
    return PulledBackDensity(ledger, model.codec), ledger
