"""The classical sampler: explore, temper, fit, weigh; then report from frozen islands.

No network. A pilot carries particles from the explored start law to the target; a law fitted to
them, with a share of wide ones, lies nearer, and so on while it helps: once a law's own draws can
be trusted, the next is fitted to many of these. At last it is patched where it is thin, by what its
draws and a half of the pilot's particles weigh; the other half has to confirm it. Along a ladder of
temperatures with conditional effective sample sizes ``c_k``, and straight from a law whose weights
keep the effective fraction e, n particles estimate Z with a relative variance of about

    (2 / n) sum_k (1 / c_k - 1),          (1 / n) (1 / e - 1),                                   (1)

and the ladder costs its moves. So as soon as the fitted law is near, nothing moves any more and its
own draws are weighed. What was chosen is frozen, and independent islands follow it, as many
particles as (1) asks for the wanted error: E[Z] = Z exactly, with an interval from their spread.
"""

__all__ = [
    "ISLANDS",
    "Classical",
    "ProposalTrial",
    "SamplingStrategy",
    "classical",
    "fit_law",
    "plan",
]

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.random.noise import Noise
from ornstein.density.proposals.imis import patched
from ornstein.density.proposals.mixture import DefensiveMixture, Mixture, fit_mixture
from ornstein.density.proposals.triangular import (
    Triangular,
    fit_triangular,
    independent,
    with_mixtures,
    with_tails,
)
from ornstein.density.smc.mode_search import Explored, explore
from ornstein.density.smc.tempered_smc import Cloud, StartLaw, TemperingStep, pilot, run, weigh
from ornstein.reference.metrics import pareto_k

ISLANDS = 16
"""Independent clouds behind a reported number, at least."""
_SETS = (
    64  # of draws that are weighed as they are: their error is known better, and each is stratified
)
EVALUATIONS = 2.0**21
"""Of the density for the islands, at most, if nothing else is said."""
_DEFENCE = 0.1  # share of the wide laws in a fitted blend
_USEFUL = 0.02  # and of another: below, it is not worth its evaluation
_DIRECT = (
    0.05  # effective draws per draw of a start law from which on it is weighed without tempering
)
_EFFECTIVE = 16384  # draws wanted for a fit to weighed draws of a law
_SOME = 4096  # of them, for finding out how many Gaussians they ask for
_TRUSTED = 0.2  # effective draws per draw from which on these are good for a fit
_FITTED = 150  # dimensions up to which laws are fitted to particles
_RIDGE = 0.3  # of maps that bend little
_RUNG = 0.7  # conditional effective sample size of a rung, per particle
_NEAR = 0.8  # and from which on no better one is looked for


Score = Callable[[StartLaw], float]


class ProposalTrial(NamedTuple):
    """A start law, draws of it with their weights, and the Pareto shape of these."""

    law: StartLaw
    drawn: Cloud
    k_hat: float

    @property
    def kept(self) -> float:
        """Effective draws per draw."""
        return self.drawn.log_z.ess / len(self.drawn.x)

    @property
    def direct(self) -> bool:
        """Whether its weights are better trusted as they are than laid out on a ladder: their
        variance is finite, or one rung."""
        return self.kept >= _DIRECT and (
            self.k_hat <= 0.5 or (self.kept >= _RUNG and self.k_hat <= 0.7)
        )

    def confirmed(self, target: LogDensity, x: Tensor) -> bool:
        """Whether by equally weighted particles of the target, found without the law, half or more
        of what it says it keeps is kept.

        ``E_rho[w] = E[w^2] / Z``: these particles see the large weights that few draws have.
        Without particles, yes.
        """
        if not len(x):
            return True
        with torch.no_grad():
            log_w = target(x) - self.law.log_prob(x) - self.drawn.log_z.value
        return float((math.log(len(x)) - log_w.logsumexp(0)).exp()) >= self.kept / 2


class SamplingStrategy(NamedTuple):
    """What is laid down before anything is reported.

    Attributes:
        law: the start law of the islands: normalised, drawn by ``draw``.
        rungs: the ladder, frozen; one rung without moves where draws are weighed as they are.
        cloud: weighted particles of the last pilot, or weighed draws of the law.
        explored: tops, masses and the first start law.
        trials: of each start law.
    """

    law: StartLaw
    rungs: list[TemperingStep]
    cloud: Cloud
    explored: Explored
    trials: list[ProposalTrial]

    @property
    def cost(self) -> int:
        """Evaluations of the density for each particle of an island."""
        return 1 + sum(rung.kernel.moves * rung.kernel.leaps for rung in self.rungs if rung.kernel)

    @property
    def variance(self) -> float:
        """n times the relative variance (1) of Z."""
        if self.cost == 1:
            return len(self.cloud.x) / self.cloud.log_z.ess - 1
        return 2 * sum(1 / max(c, 1e-3) - 1 for c in self.cloud.cess)

    def particles(self, stderr: float, least: int, evaluations: float = EVALUATIONS) -> int:
        """Of all islands together: for this standard error of log Z by (1), within the evaluations,
        and no fewer than ``least``."""
        wanted = max(min(self.variance / stderr**2, evaluations / self.cost), least)
        islands = self.islands(wanted)
        return islands * math.ceil(wanted / islands)

    def islands(self, particles: float) -> int:
        """How many for so many particles."""
        return _SETS if self.cost == 1 and particles >= 32 * _SETS else ISLANDS

    def run(self, target: LogDensity, particles: int, noise: Noise) -> Cloud:
        """Islands of so many `particles` together."""
        islands = self.islands(particles)
        return run(target, self.law, self.rungs, particles // islands, islands, noise)


class Classical(NamedTuple):
    """What `classical` returns: frozen islands, and the plan that they followed."""

    cloud: Cloud
    plan: SamplingStrategy


def plan(
    target: LogDensity, dim: int, noise: Noise, particles: int | None = None,
    mean: float | Tensor = 0.0, std: float | None = None, refits: int = 6,
) -> SamplingStrategy:  # fmt: skip
    """Explore, temper, fit, and again.

    Args:
        target: ``(n, d) -> (n,)``, a `CountedLogDensity` to have its calls counted.
        dim: d.
        noise: source of randomness.
        particles: of a pilot; None: 4096, more where a covariance asks for it, fewer in very many
            dimensions.
        mean, std: where to look first, see `explore`.
        refits: fits of the start law, at most.

    Raises:
        OrnsteinError: if the density is -inf wherever it looked, or a pilot cannot reach the
            target.
    """
    particles = particles or int(min(max(4096, 200 * dim), max(1024, 1e6 / dim)))
    refits = refits if dim <= _FITTED else 0
    explored = explore(target, dim, noise.fold(0), mean, std)
    law: StartLaw = explored.law
    tried, moved = list[ProposalTrial](), torch.zeros(0, dim, dtype=torch.float64)
    for k in range(refits + 1):
        drawn = weigh(target, law, particles, 1, noise.fold(4, k))
        tried.append(ProposalTrial(law, drawn, float(pareto_k(drawn.log_w))))
        settled = k > 0 and tried[-2].kept >= _DIRECT and tried[-1].kept < 1.2 * tried[-2].kept
        if settled or k == refits or tried[-1].kept > _NEAR:
            break
        cloud = _cloud(target, tried[-1], particles, noise.fold(1, k))
        law = fit_law(target, cloud, explored, noise.fold(2, k))
        moved = cloud.equal(len(cloud.x), noise.fold(6, k)) if cloud.acceptance else moved
    best = max(tried, key=lambda trial: trial.kept)
    if best.kept >= _DIRECT:
        law = patched(target, best.law, 2 * particles, noise.fold(5), moved[::2])
        drawn = weigh(target, law, 2 * particles, 1, noise.fold(4, refits + 1))
        best = ProposalTrial(law, drawn, float(pareto_k(drawn.log_w)))
        tried.append(best)
    if best.direct and best.confirmed(target, moved[1::2]):
        return SamplingStrategy(best.law, [TemperingStep(0.0, None)], best.drawn, explored, tried)
    cloud, rungs = pilot(target, best.law, particles, noise.fold(1, refits + 1), _RUNG)
    return SamplingStrategy(best.law, rungs, cloud, explored, tried)


def _cloud(target: LogDensity, trial: ProposalTrial, particles: int, noise: Noise) -> Cloud:
    """Particles to fit to: from tempering, or, once draws of the law are worth something, from many
    of these."""
    if trial.kept < _TRUSTED or trial.k_hat > 0.5:
        return pilot(target, trial.law, particles, noise, _RUNG)[0]
    return weigh(target, trial.law, int(_EFFECTIVE / trial.kept), 1, noise)


def classical(
    target: LogDensity,
    dim: int,
    noise: Noise,
    stderr: float = 0.004,
    least: int = 8192,
    particles: int | None = None,
    mean: float | Tensor = 0.0,
    std: float | None = None,
    refits: int = 6,
    evaluations: float = EVALUATIONS,
) -> Classical:
    """Particles and log Z of a density by tempering alone: a `plan`, and islands of
    `SamplingStrategy.particles` that follow it; see there."""
    found = plan(target, dim, noise, particles, mean, std, refits)
    return Classical(
        found.run(target, found.particles(stderr, least, evaluations), noise.fold(3)), found
    )


def fit_law(target: LogDensity, cloud: Cloud, explored: Explored, noise: Noise) -> DefensiveMixture:
    """The laws nearest to a cloud, one triangular and a mixture, with a share of a wide Student
    law.

    Nearest is the one whose weights would be the least uneven: for held-out particles of the
    target, ``E[rho / q]`` is least.
    """
    x = cloud.equal(min(len(cloud.x), _EFFECTIVE), noise.fold(0)).double()
    held, x = x[: len(x) // 5], x[len(x) // 5 :]
    with torch.no_grad():
        density = target(held)

    def score(law: StartLaw) -> float:
        spread = float((density - law.log_prob(held)).logsumexp(0))
        return -math.inf if math.isnan(spread) else -spread

    whole, d = fit_mixture(x, 1, noise), x.shape[1]
    laws = list[StartLaw]([_mixture(x, whole, explored, score, noise)])
    wide = list[StartLaw](
        [
            Mixture(
                torch.ones(1).double(),
                whole.means,
                1.5 * whole.factors,
                torch.full((1,), 4.0).double(),
            )
        ]
    )
    if 1 < d <= 100:
        bent = _triangular(x, score)
        laws.append(with_tails(bent, 0.1 / d))
        wide.append(with_tails(bent, 1 / d))
    return _blend(laws, wide, held)


def _mixture(x: Tensor, whole: Mixture, explored: Explored, score: Score, noise: Noise) -> Mixture:
    """Of as many Gaussians as do best for some of the points, or of one at each top that was
    found."""
    some, best, most, worse = x[:_SOME], whole, score(whole), 0
    for k in (2, 4, 8, 16, 32, 64):
        if len(some) < 4 * k * (x.shape[1] + 2) ** 0.5 or worse == 2:
            break
        law = fit_mixture(some, k, noise.fold(1, k))
        reached = score(law)
        best, most, worse = (law, reached, 0) if reached > most + 0.01 else (best, most, worse + 1)
    if explored.countable and len(explored.tops) > 1:
        law = fit_mixture(some, len(explored.tops), noise, means=explored.tops)
        best = law if score(law) > most else best
    return best if len(x) == len(some) else fit_mixture(x, len(best.means), noise, means=best.means)


def _triangular(x: Tensor, score: Score) -> Triangular:
    """Bent much, little or not at all, in the order in which a first fit does better, with mixtures
    for z or without."""
    order = torch.arange(x.shape[1])
    order = max(
        (order, order.flip(0)), key=lambda order: score(fit_triangular(x[:1024], order, _RIDGE, 10))
    )
    bent = max((fit_triangular(x, order, ridge) for ridge in (0.0, _RIDGE)), key=score)
    return max((bent, *(with_mixtures(law, x) for law in (bent, independent(x)))), key=score)


def _blend(laws: list[StartLaw], wide: list[StartLaw], held: Tensor) -> DefensiveMixture:
    """The laws with the shares that held-out points give them by expectation maximisation, largest
    first; then the wide ones."""
    joint = torch.stack([law.log_prob(held) for law in laws], 1)
    share = torch.full((len(laws),), 1 / len(laws), dtype=joint.dtype)
    for _ in range(50):
        share = torch.softmax(joint + share.log(), 1).mean(0)
    kept = [j for j in share.argsort(descending=True).tolist() if share[j] >= _USEFUL]
    weight = (1 - _DEFENCE) / float(share[kept].sum())
    shares = [weight * float(share[j]) for j in kept] + [_DEFENCE / len(wide)] * len(wide)
    return DefensiveMixture((*(laws[j] for j in kept), *wide), tuple(shares))
