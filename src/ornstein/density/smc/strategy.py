"""Choose how to sample a density without a network: search, temper, fit a proposal, then freeze.

1. `mode_search` finds the modes and a start distribution.
2. `adaptive_smc` carries particles from it to the target; a proposal is fitted to them
   (`ornstein.density.proposals.fit_proposal`) and becomes the next start distribution. As soon as
   draws of a proposal can be trusted, the next is fitted to many weighted draws of it instead.
3. The best proposal is repaired where it is too thin (`ornstein.density.proposals.imis`). Half of
   the particles that tempering moved help with that, the other half has to confirm the result.
4. What was chosen is frozen, and independent runs follow it: E[Z] = Z exactly, with an interval
   from the spread of the runs.

Along tempering steps with conditional effective sample sizes ``c_k n``, and directly from a
proposal with the effective fraction e, n particles estimate Z with a relative variance of about

    (2 / n) sum_k (1 / c_k - 1),          (1 / n) (1 / e - 1).                                   (1)

Tempering also costs its moves. So once the fitted proposal is near the target, its draws are
weighted directly and nothing is moved. The number of particles follows from (1) and the wanted
standard error.
"""

__all__ = [
    "EVALUATIONS",
    "MIN_RUNS",
    "ProposalTrial",
    "SamplingStrategy",
    "TemperedSample",
    "choose_strategy",
    "tempered_sampler",
]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.numerics.importance import pareto_k
from ornstein.core.random.noise import Noise
from ornstein.density.proposals.fit_proposal import FIT_POINTS, fit_proposal
from ornstein.density.proposals.imis import refine_proposal
from ornstein.density.smc.mode_search import ModeSearch, mode_search
from ornstein.density.smc.particles import SMCSample, StartLaw
from ornstein.density.smc.tempered_smc import (
    TemperingStep,
    adaptive_smc,
    frozen_smc,
    importance_sample,
)

MIN_RUNS = 16
"""Number of independent runs, at least, behind a reported number: their spread is its error."""
EVALUATIONS = 2.0**21
"""Evaluations of the density by all runs together, if the caller sets no limit."""
_SETS = 64  # sets of directly weighted draws, each stratified: more sets give a better error
_DRAWS_PER_SET = 32  # smallest size of a set; with fewer draws there are fewer sets
_DIRECT = 0.05  # effective fraction from which on draws are weighted without tempering
_RELIABLE = 0.2  # effective fraction from which on weighted draws are good for a fit
_CESS = 0.7  # conditional effective sample size of a tempering step, over n
_NEAR = 0.8  # effective fraction from which on no better proposal is looked for
_IMPROVED = 1.2  # growth of the effective fraction below which another fit is useless
_MAX_FIT_DIM = 150  # dimensions up to which proposals are fitted to particles
_FINITE_VARIANCE = 0.5  # Pareto shape up to which weights have a finite variance
_RELIABLE_MEAN = 0.7  # Pareto shape up to which averages can be trusted

# keys of random numbers
_SEARCH, _TEMPER, _FIT, _RUN, _DRAW, _REFINE, _RESAMPLE = 0, 1, 2, 3, 4, 5, 6


class ProposalTrial(NamedTuple):
    """A proposal with weighted draws, from which its quality is judged.

    Attributes:
        law: the proposal, normalised.
        sample: draws of it with their importance weights.
        k_hat: Pareto shape of these weights.
    """

    law: StartLaw
    sample: SMCSample
    k_hat: float

    @classmethod
    def of(cls, target: LogDensity, law: StartLaw, n: int, noise: Noise) -> "ProposalTrial":
        """Draw from a proposal, importance-sample the target, and judge the weights."""
        sample = importance_sample(target, law, n, 1, noise)
        return cls(law, sample, float(pareto_k(sample.log_w)))

    @property
    def ess_fraction(self) -> float:
        """The effective sample size of the draws divided by their number."""
        return self.sample.log_z.ess / len(self.sample)

    @property
    def direct(self) -> bool:
        """Whether the draws should be weighted directly instead of tempered.

        Their weights then have a finite variance, or are no more uneven than those of one
        tempering step.
        """
        even = self.ess_fraction >= _CESS and self.k_hat <= _RELIABLE_MEAN
        return self.ess_fraction >= _DIRECT and (self.k_hat <= _FINITE_VARIANCE or even)

    def confirmed_by(self, target: LogDensity, x: Float[Tensor, "m d"]) -> bool:
        """Check the proposal against particles of the target that were drawn without it.

        Such particles see large importance weights that the proposal's own draws may miss, since
        ``E_rho[w] = E_q[w^2] / Z``.

        Args:
            target: log rho.
            x: ``(m, d)``, equally weighted particles of the target; without any, nothing speaks
                against the proposal.

        Returns:
            True if the effective fraction that the particles imply, ``1 / E_rho[w / Z]``, is at
            least half of ``ess_fraction``.
        """
        if not len(x):
            return True
        with torch.no_grad():
            log_w = target(x) - self.law.log_prob(x) - self.sample.log_z.value
        implied = float((math.log(len(x)) - log_w.logsumexp(0)).exp())
        return implied >= self.ess_fraction / 2


class SamplingStrategy(NamedTuple):
    """A frozen plan of sampling: a start distribution and the tempering steps from it.

    Attributes:
        law: the start distribution of the runs, normalised.
        steps: the tempering steps; one without moves where draws are weighted directly.
        sample: weighted particles of the last `adaptive_smc`, or weighted draws of ``law``.
        search: the modes and the first start distribution.
        trials: every proposal that was tried.
    """

    law: StartLaw
    steps: list[TemperingStep]
    sample: SMCSample
    search: ModeSearch
    trials: list[ProposalTrial]

    @property
    def cost(self) -> int:
        """The evaluations of the log-density for each particle of a run."""
        return 1 + sum(step.kernel.moves * step.kernel.leaps for step in self.steps if step.kernel)

    @property
    def variance(self) -> float:
        """The relative variance of the estimate of Z from one particle of a run."""
        if self.cost == 1:
            return len(self.sample) / self.sample.log_z.ess - 1
        return 2 * sum(1 / max(c, 1e-3) - 1 for c in self.sample.cess)  # (1)

    def particles(self, stderr: float, min_particles: int, evaluations: float = EVALUATIONS) -> int:
        """Return the number of particles of all runs together for a standard error of log Z.

        Args:
            stderr: the wanted standard error, nats.
            min_particles: smallest number.
            evaluations: largest number of evaluations of the density.
        """
        affordable = min(self.variance / stderr**2, evaluations / self.cost)
        n_wanted = max(affordable, min_particles)
        runs = self.runs(n_wanted)
        return runs * math.ceil(n_wanted / runs)

    def runs(self, particles: float) -> int:
        """Return the number of independent runs that so many particles are divided into."""
        return _SETS if self.cost == 1 and particles >= _DRAWS_PER_SET * _SETS else MIN_RUNS

    def run(self, target: LogDensity, particles: int, noise: Noise) -> SMCSample:
        """Sample by the strategy, with a given number of particles over all independent runs."""
        runs = self.runs(particles)
        return frozen_smc(target, self.law, self.steps, particles // runs, runs, noise)


class TemperedSample(NamedTuple):
    """What `tempered_sampler` returns: weighted particles and the strategy that they followed."""

    sample: SMCSample
    strategy: SamplingStrategy


def choose_strategy(
    target: LogDensity,
    dim: int,
    noise: Noise,
    particles: int | None = None,
    mean: float | Tensor = 0.0,
    std: float | None = None,
    refits: int = 6,
) -> SamplingStrategy:
    """Search for modes, temper, fit a proposal, and repeat while the proposal improves.

    Args:
        target: ``(n, d) -> (n,)``, a `CountedLogDensity` to have its calls counted.
        dim: d.
        noise: source of randomness.
        particles: of each `adaptive_smc`; None: 4096, more where a covariance asks for it, fewer in
            very many dimensions.
        mean: centre of the first starts of `mode_search`.
        std: their scale; None: found by trial.
        refits: largest number of fits.

    Raises:
        OrnsteinError: if the density is -inf at every start, or tempering cannot reach the target.
    """
    particles = particles or int(min(max(4096, 200 * dim), max(1024, 1e6 / dim)))
    refits = refits if dim <= _MAX_FIT_DIM else 0
    search = mode_search(target, dim, noise.fold(_SEARCH), mean, std)
    law: StartLaw = search.start_law
    modes = search.modes if search.countable else None
    trials = list[ProposalTrial]()
    moved = torch.zeros(0, dim, dtype=torch.float64)
    for k in range(refits + 1):
        trials.append(ProposalTrial.of(target, law, particles, noise.fold(_DRAW, k)))
        if k == refits or _good_enough(trials):
            break
        sample = _points_to_fit(target, trials[-1], particles, noise.fold(_TEMPER, k))
        law = fit_proposal(target, sample, modes, noise.fold(_FIT, k))
        if sample.acceptance:
            moved = sample.resample(len(sample), noise.fold(_RESAMPLE, k))
    best = max(trials, key=lambda trial: trial.ess_fraction)
    if best.ess_fraction >= _DIRECT:
        law = refine_proposal(target, best.law, 2 * particles, noise.fold(_REFINE), moved[::2])
        best = ProposalTrial.of(target, law, 2 * particles, noise.fold(_DRAW, refits + 1))
        trials.append(best)
    if best.direct and best.confirmed_by(target, moved[1::2]):
        return SamplingStrategy(best.law, [TemperingStep(0.0, None)], best.sample, search, trials)
    sample, steps = adaptive_smc(
        target, best.law, particles, noise.fold(_TEMPER, refits + 1), _CESS
    )
    return SamplingStrategy(best.law, steps, sample, search, trials)


def _good_enough(trials: list[ProposalTrial]) -> bool:
    """Return whether the last proposal is near the target, or fitting again gained little."""
    last = trials[-1].ess_fraction
    before = trials[-2].ess_fraction if len(trials) > 1 else 0.0
    return last > _NEAR or (before >= _DIRECT and last < _IMPROVED * before)


def _points_to_fit(
    target: LogDensity, trial: ProposalTrial, particles: int, noise: Noise
) -> SMCSample:
    """Return particles from tempering, or many weighted draws of a proposal that is good enough."""
    if trial.ess_fraction < _RELIABLE or trial.k_hat > _FINITE_VARIANCE:
        return adaptive_smc(target, trial.law, particles, noise, _CESS)[0]
    return importance_sample(target, trial.law, int(FIT_POINTS / trial.ess_fraction), 1, noise)


def tempered_sampler(
    target: LogDensity,
    dim: int,
    noise: Noise,
    stderr: float = 0.004,
    min_particles: int = 8192,
    particles: int | None = None,
    mean: float | Tensor = 0.0,
    std: float | None = None,
    refits: int = 6,
    evaluations: float = EVALUATIONS,
) -> TemperedSample:
    """Sample a density and estimate log Z by tempered SMC alone, without a learned model.

    Args:
        target: log rho, ``(n, d) -> (n,)``, differentiable.
        dim: d.
        noise: source of randomness.
        stderr: wanted standard error of log Z, nats.
        min_particles: smallest number of particles that are returned.
        particles: see `choose_strategy`, as ``mean``, ``std`` and ``refits``.
        mean: centre of the first starts.
        std: their scale.
        refits: largest number of fits.
        evaluations: largest number of evaluations by the runs.
    """
    strategy = choose_strategy(target, dim, noise, particles, mean, std, refits)
    count = strategy.particles(stderr, min_particles, evaluations)
    return TemperedSample(strategy.run(target, count, noise.fold(_RUN)), strategy)
