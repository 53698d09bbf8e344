"""Where is the mass? A start law for tempering, from nothing but the density.

Scales over eight decades are tried, ascents run from starts at the promising ones, then again from
all around the tops found: half of these starts where the density is most above what the tops
explain, most others one to four times as far as these lie apart. That goes on until every top was
found twice and, where there are several, three rounds found no other: the share of starts that lead
to tops found once estimates the chance that the next leads to an unknown one (Good 1953). The start
law is a mixture of Laplace's Gaussians at the tops (where these can be counted), round Student laws
of the best scales, and a wide Student law over all tops, so that it covers before it fits; its
weights w are then brought nearer to the density by population Monte Carlo (Cappe et al. 2008),

    w_k <- E_rho[ P(k | x) ],                                                                    (1)

by importance sampling from the mixture itself, with the importance weights tempered until half of
them count.
"""

__all__ = ["Explored", "explore"]

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.random.noise import Noise
from ornstein.density.proposals.mixture import Mixture
from ornstein.density.smc.optimise import Maxima, ascend, laplace, summit
from ornstein.errors import OrnsteinError

_COUNTABLE = 100  # tops; beyond, they are taken as a cloud
_COVER = 0.05  # share of the wide laws in the start law, at least
_ROUNDS = 10  # of ascents, at most
_RIVALS = 32  # candidates for a start
_QUIET = 3  # rounds that find nothing new, where there are several tops
_FAINT = 50.0  # nats: tops with a mass this far below the largest are forgotten


class Explored(NamedTuple):
    """What exploring found.

    Attributes:
        law: normalised start law that covers the tops.
        tops: ``(m, d)``, local maxima told apart.
        masses: ``(m,)``, logarithms of Laplace's masses.
        countable: whether these are all that were found.
        scale: of the round law with the most mass.
    """

    law: Mixture
    tops: Tensor
    masses: Tensor
    countable: bool
    scale: float


class _Found(NamedTuple):
    """Tops told apart, with the factors and the masses of Laplace's Gaussians there, and all ends
    of ascents."""

    tops: Tensor
    factors: Tensor
    masses: Tensor
    counts: Tensor  # ascents that ended at each
    ends: Tensor
    countable: bool = True


def explore(
    target: LogDensity,
    dim: int,
    noise: Noise,
    mean: float | Tensor = 0.0,
    std: float | None = None,
    starts: int | None = None,
) -> Explored:
    """Find the mass of a density.

    Args:
        target: ``(n, d) -> (n,)``.
        dim: d.
        noise: source of randomness.
        mean: where to look first.
        std: how far; None tries 1e-4 to 1e4.
        starts: ascents per round; None: between 16 and 512, fewer in many dimensions.

    Raises:
        OrnsteinError: if the density is -inf wherever it looked.
    """
    centre = torch.zeros(dim, dtype=torch.float64) + torch.as_tensor(mean, dtype=torch.float64)
    starts = starts or max(16, min(512, 20000 // dim))
    scale = _best_scale(target, centre, std, noise.fold(0))
    x, reach = _first(centre, scale, std, starts, noise.fold(1))
    empty = torch.zeros(0, dim, dtype=torch.float64)
    found = _Found(
        empty,
        torch.zeros(0, dim, dim, dtype=torch.float64),
        empty[:, 0],
        torch.zeros(0, dtype=torch.long),
        empty,
    )
    found = _climb(target, x, reach, scale, found)
    if not len(found.tops):
        raise OrnsteinError(
            "the log-density is -inf wherever the exploration looked: pass start_mean and start_std"
            " near its mass"
        )
    quiet = 0
    for round_ in range(_ROUNDS):
        known = len(found.tops)
        x, reach = _next(target, found, starts, noise.fold(2, round_))
        found = _climb(target, x, reach, scale, found)
        quiet = quiet + 1 if len(found.tops) == known and int(found.counts.min()) > 1 else 0
        if not found.countable or quiet == (1 if known == 1 else _QUIET):
            break
    law = _population(target, _law(found, centre, scale), noise.fold(4))
    return Explored(law, found.tops, found.masses, found.countable, scale)


def _best_scale(target: LogDensity, centre: Tensor, std: float | None, noise: Noise) -> float:
    """The scale of a round Gaussian whose importance weights find the most mass."""
    best, most = std, -math.inf
    for k in range(-8, 9) if std is None else ():
        scale, z = 10 ** (k / 2), noise.fold(k).normal((32, len(centre)), torch.float64)
        with torch.no_grad():
            log_w = (
                target(centre + scale * z) + z.square().sum(1) / 2 + len(centre) * math.log(scale)
            )
        mass = float(log_w.logsumexp(0))
        if mass > most:
            best, most = scale, mass
    return best or 1.0


def _first(
    centre: Tensor, scale: float, std: float | None, starts: int, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Starts of the first ascents, and their first steps: a half at the best scale, most of the
    others around it, some anywhere."""
    u = noise.fold(0).uniform((starts, 1), torch.float64)[:, 0]
    powers = torch.where(torch.arange(starts) % 8 == 7, 8 * u - 4 - math.log10(scale), 3 * u - 1.5)
    scales = scale * 10 ** torch.where(
        torch.arange(starts) % 2 == 0, 0.0, powers if std is None else 0.0
    )
    x = centre + scales[:, None] * noise.fold(1).normal((starts, len(centre)), torch.float64)
    return x, scales * 0.1 * len(centre) ** 0.5


def _next(target: LogDensity, found: _Found, starts: int, noise: Noise) -> tuple[Tensor, Tensor]:
    """Starts all around the tops found, and their first steps.

    Half of them are the winners among `_RIVALS` candidates at one scale each: those at which the
    density is most above what Laplace's Gaussians at the tops explain. A narrow top among wide ones
    has a small basin, but there all of the density is unexplained.
    """
    d, half = found.tops.shape[1], starts // 2
    within = found.factors.square().sum(2).mean(0)
    u = noise.fold(0).uniform((starts, 1), torch.float64)
    apart = torch.where(torch.arange(starts)[:, None] % 4 == 3, 2.5 * u - 0.5, 0.6 * u)
    far = 10 ** torch.cat([0.7 * u[:half] - 0.3, apart[half:]])
    spread = (found.tops.var(0, correction=0) + within).sqrt()
    pool = found.tops.mean(0) + far[:half] * spread * noise.fold(1).normal(
        (_RIVALS, half, d), torch.float64
    )
    law = Mixture(torch.softmax(found.masses, 0), found.tops, found.factors)
    with torch.no_grad():
        excess = (target(pool.reshape(-1, d)) - law.log_prob(pool.reshape(-1, d))).nan_to_num(
            -torch.inf, torch.inf, -torch.inf
        )
    best = pool[excess.reshape(_RIVALS, half).argmax(0), torch.arange(half)]
    wide = (found.ends.var(0, correction=0) + within).sqrt()
    others = found.ends.mean(0) + far[half:] * wide * noise.fold(2).normal(
        (starts - half, d), torch.float64
    )
    norms = torch.stack([spread.norm(), wide.norm()]).repeat_interleave(
        torch.tensor([half, starts - half])
    )
    return torch.cat([best, others]), far[:, 0] * norms / 10


def _climb(target: LogDensity, x: Tensor, reach: Tensor, scale: float, found: _Found) -> _Found:
    """Ascend from x, and add what is new to what was found."""
    ends = ascend(target, x, reach)
    good = ends.value.isfinite()
    if not bool(good.any()):
        return found
    width = 10 * max(scale, float(ends.x[good].std(0, correction=0).max()))
    late = good & (ends.rise > 1e-6)
    if bool(late.any()):
        ends = _again(target, ends, late, width)
    done = good & (ends.rise < 1e-3)
    good = done if bool(done.any()) else good
    x = ends.x[good][ends.value[good].argsort(descending=True)]
    every = torch.cat([found.ends, x])
    tops, factors, masses, counts = (
        list(found.tops),
        list(found.factors),
        list(found.masses),
        found.counts.tolist(),
    )
    for j, (top, factor) in enumerate(zip(tops, factors, strict=True)):
        apart = _apart(x, top, factor)
        counts[j] += int((~apart).sum())
        x = x[apart]
    while len(x) and len(tops) < _COUNTABLE:
        factor, mass = laplace(target, x[:1], width)
        apart = _apart(x, x[0], factor[0])
        tops.append(x[0])
        factors.append(factor[0])
        masses.append(mass[0])
        counts.append(int((~apart).sum()))
        x = x[apart]
    mass = torch.stack(masses)
    real = (mass > mass.max() - _FAINT).nonzero()[:, 0].tolist()
    return _Found(
        torch.stack([tops[j] for j in real]),
        torch.stack([factors[j] for j in real]),
        mass[real],
        torch.tensor(counts)[real],
        every,
        not len(x),
    )


def _again(target: LogDensity, ends: Maxima, late: Tensor, width: float) -> Maxima:
    """Finish the ascents that were not done, in the coordinates in which the best one's top is
    round."""
    best = int(torch.where(late, ends.value, -torch.inf).argmax())
    top, factor, _ = summit(target, ends.x[best], width)
    q = torch.linalg.solve_triangular(factor, (ends.x[late] - top).mT, upper=False).mT
    more = ascend(lambda q: target(top + q @ factor.mT), q, q.norm(dim=1).clamp(min=0.1) / 10)
    x, value, rise = ends.x.clone(), ends.value.clone(), ends.rise.clone()
    x[late], value[late], rise[late] = top + more.x @ factor.mT, more.value, more.rise
    return Maxima(x, value, rise)


def _apart(x: Tensor, top: Tensor, factor: Tensor) -> Tensor:
    """Which rows are more than a third of a standard deviation from a top."""
    return torch.linalg.solve_triangular(factor, (x - top).mT, upper=False).square().sum(0) > 0.1


def _law(found: _Found, centre: Tensor, scale: float) -> Mixture:
    """Laplace's Gaussians, with an equal share for a Gaussian and a Student law over all tops and
    round Student laws."""
    d = len(centre)
    eye = torch.eye(d, dtype=centre.dtype)
    share = torch.softmax(found.masses, 0)
    within = torch.einsum(
        "k,kij,klj->il", (share + 1 / len(share)) / 2, found.factors, found.factors
    )
    middle = (
        (found.ends.mean(0) + share @ found.tops) / 2 if found.countable else found.ends.mean(0)
    )
    apart = found.ends - middle
    whole = torch.linalg.cholesky(
        within + apart.mT @ apart / len(apart) + 1e-12 * within.diagonal().mean() * eye
    )
    means = torch.stack([middle, middle, centre, centre, centre])
    factors = torch.stack(
        [whole * 1.1, whole * 1.5, eye * scale, eye * scale * 3, eye * scale * 10]
    )
    df = torch.tensor([torch.inf, 4.0, 4.0, 4.0, 4.0], dtype=centre.dtype)
    wide = Mixture(torch.ones(5, dtype=centre.dtype), means, factors, df)
    if not found.countable:
        return wide
    return Mixture(
        torch.cat([share + 0.1 / len(share), wide.weights / 5]),
        torch.cat([found.tops, means]),
        torch.cat([found.factors, factors]),
        torch.cat([torch.full_like(share, torch.inf), df]),
    )


def _population(
    target: LogDensity, law: Mixture, noise: Noise, rounds: int = 4, n: int = 2048
) -> Mixture:
    """Weights of the components by (1); the wide Student law over all tops keeps a part of
    `_COVER`, the useless ones go."""
    cover = torch.zeros_like(law.weights)
    cover[-4] = _COVER
    for round_ in range(rounds):
        x = law.draw(n, noise.fold(round_))
        joint = law.components(x)
        with torch.no_grad():
            log_w = target(x) - joint.logsumexp(1)
        if not bool(log_w.isfinite().any()):
            break
        share = temper(log_w, 0.5) @ torch.softmax(joint, 1)
        keep = (cover > 0) | (share > 1e-3 / len(share))
        law = law.reweighted(torch.where(keep, (1 - _COVER) * share + cover, 0.0))
        cover = cover[keep]
    return law


def temper(log_w: Tensor, fraction: float) -> Tensor:
    """``w^b / sum w^b`` with the largest b up to 1 for which the effective sample size is
    ``fraction n``."""

    def weights(b: float) -> Tensor:
        return torch.softmax(torch.where(log_w > -torch.inf, b * log_w, -torch.inf), 0)

    def enough(b: float) -> bool:
        return float(1 / weights(b).square().sum()) >= fraction * len(log_w)

    low, high = 0.0, 1.0
    if enough(high):
        return weights(high)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return weights(low)
