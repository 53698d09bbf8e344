"""Search for the modes of a density of which nothing is known, before tempering starts.

The search begins with scales from 1e-4 to 1e4 and ascends from points at the promising ones, then
from points around the modes that were found. Half of these starts are points at which the density
exceeds most what the modes so far explain; most others lie one to four times as far from the centre
as the modes do. The search ends when every mode was reached twice and, if there are several, three
rounds of ascents reached no new one: the fraction of starts that lead to modes seen once estimates
the chance that the next start leads to an unseen one (Good 1953).

`start_mixture` turns the modes into a mixture that covers the density.
"""

__all__ = ["ModeSearch", "mode_search"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.random.noise import Noise
from ornstein.density.proposals.mixture import Mixture
from ornstein.density.smc.optimise import Maxima, laplace, lbfgs_ascent, newton_ascent
from ornstein.density.smc.start_mixture import Modes, start_mixture
from ornstein.errors import OrnsteinError

_MAX_MODES = 100  # beyond, the modes are not counted and their ends are treated as a sample
_MAX_ROUNDS = 10  # rounds of ascents around the modes
_CANDIDATES = 32  # points of which the one with the largest unexplained density is a start
_ROUNDS_WITHOUT_NEWS = 3  # rounds without a new mode that end the search, if there are several
_NEGLIGIBLE = 50.0  # nats: modes with a mass this far below the largest are dropped
_SAME_MODE = 0.1  # squared Mahalanobis distance to a mode below which a point belongs to it
_UNFINISHED = 1e-6  # nats: an ascent that expects to gain more is continued
_FINISHED = 1e-3  # nats: an end that expects to gain less counts as a mode
_SCALES = range(-8, 9)  # twice the powers of ten that are tried as a scale
_SCALE_DRAWS = 32  # draws for each scale
_WIDTH = 10.0  # largest standard deviation at a mode, in units of the spread of the ends

# keys of random numbers
_SCALE, _FIRST_STARTS, _NEXT_STARTS, _WEIGHTS = 0, 1, 2, 4


class ModeSearch(NamedTuple):
    """The modes of a density, and the start distribution made of them.

    Attributes:
        start_law: normalised mixture that covers the modes.
        modes: ``(m, d)``, distinct local maxima.
        log_masses: ``(m,)``, logarithms of Laplace's masses, nats.
        countable: whether these are all modes that ascents reached.
        scale: standard deviation of the isotropic Gaussian that captures the most mass.
    """

    start_law: Mixture
    modes: Float[Tensor, "m d"]
    log_masses: Float[Tensor, " m"]
    countable: bool
    scale: float


def mode_search(
    target: LogDensity,
    dim: int,
    noise: Noise,
    mean: float | Tensor = 0.0,
    std: float | None = None,
    starts: int | None = None,
) -> ModeSearch:
    """Find the modes of a log-density and a start distribution that covers them.

    Args:
        target: log rho, ``(n, d) -> (n,)``, differentiable.
        dim: d.
        noise: source of randomness.
        mean: centre of the first starts.
        std: scale of the first starts; None tries 1e-4 to 1e4.
        starts: ascents in each round; None: between 16 and 512, fewer in many dimensions.

    Raises:
        OrnsteinError: if the density is -inf at every start.
    """
    centre = torch.zeros(dim, dtype=torch.float64) + torch.as_tensor(mean, dtype=torch.float64)
    starts = starts or max(16, min(512, 20000 // dim))
    scale = _best_scale(target, centre, std, noise.fold(_SCALE))
    x, step = _first_starts(centre, scale, std, starts, noise.fold(_FIRST_STARTS))
    modes = _add_modes(target, x, step, scale, Modes.none(dim))
    if not len(modes.x):
        raise OrnsteinError(
            "the log-density is -inf wherever the exploration looked: pass start_mean and start_std"
            " near its mass"
        )
    without_news = 0
    for k in range(_MAX_ROUNDS):
        number = len(modes.x)
        x, step = _next_starts(target, modes, starts, noise.fold(_NEXT_STARTS, k))
        modes = _add_modes(target, x, step, scale, modes)
        nothing_new = len(modes.x) == number and int(modes.counts.min()) > 1
        without_news = without_news + 1 if nothing_new else 0
        if not modes.countable or without_news == (1 if number == 1 else _ROUNDS_WITHOUT_NEWS):
            break
    law = start_mixture(target, modes, centre, scale, noise.fold(_WEIGHTS))
    return ModeSearch(law, modes.x, modes.log_masses, modes.countable, scale)


def _best_scale(target: LogDensity, centre: Tensor, std: float | None, noise: Noise) -> float:
    """Return the scale of the isotropic Gaussian whose importance weights have the largest sum."""
    best, largest = std, -math.inf
    for k in _SCALES if std is None else ():
        scale = 10 ** (k / 2)
        z = noise.fold(k).normal((_SCALE_DRAWS, len(centre)), torch.float64)
        with torch.no_grad():
            log_w = (
                target(centre + scale * z) + z.square().sum(1) / 2 + len(centre) * math.log(scale)
            )
        log_mass = float(log_w.logsumexp(0))
        if log_mass > largest:
            best, largest = scale, log_mass
    return best or 1.0


def _first_starts(
    centre: Tensor, scale: float, std: float | None, starts: int, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Return the starting points of the first ascents, and the lengths of their first steps.

    Half of them have the best scale, three in eight a scale within 1.5 decades of it, and one in
    eight any scale.
    """
    u = noise.fold(0).uniform((starts, 1), torch.float64)[:, 0]
    number = torch.arange(starts)
    anywhere = 8 * u - 4 - math.log10(scale)
    powers = torch.where(number % 8 == 7, anywhere, 3 * u - 1.5)
    scales = scale * 10 ** torch.where(number % 2 == 0, 0.0, powers if std is None else 0.0)
    x = centre + scales[:, None] * noise.fold(1).normal((starts, len(centre)), torch.float64)
    return x, scales * 0.1 * len(centre) ** 0.5


def _next_starts(
    target: LogDensity, modes: Modes, starts: int, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Return starting points around the known modes, and the lengths of their first steps.

    Half of them win among `_CANDIDATES` points at one scale each: those at which the density is
    furthest above what Laplace's Gaussians at the modes explain. A narrow mode among wide ones has
    a small basin of attraction, but there all of the density is unexplained.
    """
    d = modes.x.shape[1]
    half = starts // 2
    within = modes.factors.square().sum(2).mean(0)
    u = noise.fold(0).uniform((starts, 1), torch.float64)
    number = torch.arange(starts)[:, None]
    around = torch.where(number % 4 == 3, 2.5 * u - 0.5, 0.6 * u)
    distance = 10 ** torch.cat([0.7 * u[:half] - 0.3, around[half:]])
    spread = (modes.x.var(0, correction=0) + within).sqrt()
    z = noise.fold(1).normal((_CANDIDATES, half, d), torch.float64)
    candidates = modes.x.mean(0) + distance[:half] * spread * z
    points = candidates.reshape(-1, d)
    explained = Mixture(torch.softmax(modes.log_masses, 0), modes.x, modes.factors)
    with torch.no_grad():
        excess = target(points) - explained.log_prob(points)
    excess = excess.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    winners = excess.reshape(_CANDIDATES, half).argmax(0)
    unexplained = candidates[winners, torch.arange(half)]
    wide = (modes.ends.var(0, correction=0) + within).sqrt()
    z = noise.fold(2).normal((starts - half, d), torch.float64)
    others = modes.ends.mean(0) + distance[half:] * wide * z
    sizes = torch.stack([spread.norm(), wide.norm()])
    sizes = sizes.repeat_interleave(torch.tensor([half, starts - half]))
    return torch.cat([unexplained, others]), distance[:, 0] * sizes / 10


def _add_modes(
    target: LogDensity, x: Tensor, first_step: Tensor, scale: float, modes: Modes
) -> Modes:
    """Run ascents from x, count how many end at each known mode, and add the new modes."""
    ends = lbfgs_ascent(target, x, first_step)
    usable = ends.value.isfinite()
    if not bool(usable.any()):
        return modes
    width = _WIDTH * max(scale, float(ends.x[usable].std(0, correction=0).max()))
    unfinished = usable & (ends.expected_gain > _UNFINISHED)
    if bool(unfinished.any()):
        ends = _continue_ascents(target, ends, unfinished, width)
    finished = usable & (ends.expected_gain < _FINISHED)
    usable = finished if bool(finished.any()) else usable
    x = ends.x[usable][ends.value[usable].argsort(descending=True)]
    all_ends = torch.cat([modes.ends, x])
    points = list(modes.x)
    factors = list(modes.factors)
    masses = list(modes.log_masses)
    counts = modes.counts.tolist()
    for j, (mode, factor) in enumerate(zip(points, factors, strict=True)):
        elsewhere = _elsewhere(x, mode, factor)
        counts[j] += int((~elsewhere).sum())
        x = x[elsewhere]
    while len(x) and len(points) < _MAX_MODES:
        factor, mass = laplace(target, x[:1], width)
        elsewhere = _elsewhere(x, x[0], factor[0])
        points.append(x[0])
        factors.append(factor[0])
        masses.append(mass[0])
        counts.append(int((~elsewhere).sum()))
        x = x[elsewhere]
    log_masses = torch.stack(masses)
    relevant = (log_masses > log_masses.max() - _NEGLIGIBLE).nonzero()[:, 0]
    return Modes(
        torch.stack(points)[relevant],
        torch.stack(factors)[relevant],
        log_masses[relevant],
        torch.tensor(counts)[relevant],
        all_ends,
        not len(x),
    )


def _continue_ascents(target: LogDensity, ends: Maxima, unfinished: Tensor, width: float) -> Maxima:
    """Continue unfinished ascents in coordinates that whiten the best mode among their ends."""
    best = int(torch.where(unfinished, ends.value, -torch.inf).argmax())
    mode, factor, _ = newton_ascent(target, ends.x[best], width)
    round_ = Normal(mode, factor)
    q = round_.whiten(ends.x[unfinished])
    more = lbfgs_ascent(lambda q: target(round_.map(q)), q, q.norm(dim=1).clamp(min=0.1) / 10)
    x, value, gain = ends.x.clone(), ends.value.clone(), ends.expected_gain.clone()
    x[unfinished] = round_.map(more.x)
    value[unfinished] = more.value
    gain[unfinished] = more.expected_gain
    return Maxima(x, value, gain)


def _elsewhere(x: Tensor, mode: Tensor, factor: Tensor) -> Tensor:
    """Return for each row whether it is over a third of a standard deviation from a mode."""
    return Normal(mode, factor).whiten(x).square().sum(1) > _SAME_MODE
