"""The classical sampler: explore, temper, fit, temper again from the fit, then report from frozen islands.

No network. A pilot carries particles from the explored start law to the target; a mixture fitted to them, with a share of the
start law so that nothing it covered is lost, is a start law from which the next pilot needs fewer rungs; and so on while it helps.
What the last pilot laid down is frozen, and independent islands climb down it: E[Z] = Z exactly, with an interval from their spread.
"""

__all__ = ["Classical", "Plan", "classical", "fit_law", "plan"]

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.noise import Noise
from ornstein.learn.density.explore import Explored, explore
from ornstein.learn.density.ledger import LogDensity
from ornstein.learn.density.mixture import Blend, Mixture, fit_mixture
from ornstein.learn.density.smc import Cloud, Law, Rung, pilot, run
from ornstein.learn.density.triangular import fit_triangular

_DEFENCE = 0.1  # least share of each law in a fitted blend


class Plan(NamedTuple):
    """What is laid down before anything is reported.

    Attributes:
        law: the start law of the islands: normalised, drawn by ``draw``.
        rungs: the ladder, frozen.
        cloud: weighted particles of the last pilot.
        explored: tops, masses and the first start law.
        pilots: log Z of each pilot, and its number of rungs.
    """

    law: Law
    rungs: list[Rung]
    cloud: Cloud
    explored: Explored
    pilots: list[tuple[float, int]]

    @property
    def cost(self) -> int:
        """Evaluations of the density for each particle of an island."""
        return 1 + sum(rung.kernel.moves * rung.kernel.leaps for rung in self.rungs if rung.kernel)


class Classical(NamedTuple):
    """What `classical` returns: frozen islands, and the plan that they followed."""

    cloud: Cloud
    plan: Plan


def plan(
    target: LogDensity, dim: int, noise: Noise, particles: int = 4096, cess: float = 0.7,
    mean: float | Tensor = 0.0, std: float | None = None, refits: int = 4,
) -> Plan:  # fmt: skip
    """Explore, temper, fit, temper again.

    Args:
        target: ``(n, d) -> (n,)``, a `Ledger` to have its calls counted.
        dim: d.
        noise: source of randomness.
        particles: of a pilot.
        cess: conditional effective sample size kept by each rung of the pilots.
        mean, std: where to look first, see `explore`.
        refits: fits of the start law, at most.

    Raises:
        OrnsteinError: if the density is -inf wherever it looked, or a pilot cannot reach the target.
    """
    explored = explore(target, dim, noise.fold(0), mean, std)
    law: Law = explored.law
    cloud, rungs = pilot(target, law, particles, noise.fold(1, 0), cess)
    pilots = [(cloud.log_z.value, len(rungs))]
    for k in range(1, refits + 1):
        if len(rungs) == 1 and cloud.log_z.ess > 0.8 * particles:
            break
        fitted = fit_law(cloud, explored, noise.fold(2, k))
        again, fewer = pilot(target, fitted, particles, noise.fold(1, k), cess)
        pilots.append((again.log_z.value, len(fewer)))
        if len(fewer) > len(rungs) + 1:
            break
        settled = abs(again.log_z.value - cloud.log_z.value) < 0.03 and (len(fewer) == 1 or k >= 3)
        law, cloud, rungs = fitted, again, fewer
        if settled:
            break
    return Plan(law, rungs, cloud, explored, pilots)


def classical(
    target: LogDensity, dim: int, noise: Noise, n: int = 16384, islands: int = 16, particles: int = 4096, cess: float = 0.7,
    mean: float | Tensor = 0.0, std: float | None = None, refits: int = 4,
) -> Classical:  # fmt: skip
    """Particles and log Z of a density by tempering alone: a `plan`, and n particles in ``islands`` that follow it; see there."""
    found = plan(target, dim, noise, particles, cess, mean, std, refits)
    return Classical(run(target, found.law, found.rungs, n // islands, islands, noise.fold(3)), found)


def fit_law(cloud: Cloud, explored: Explored, noise: Noise) -> Law:
    """The Gaussian mixture that gives held-out particles the highest density, with a share of two wide Student laws."""
    n = len(cloud.x)
    x = cloud.equal(n, noise.fold(0)).double()
    held, x = x[: n // 5], x[n // 5 :]
    best: Law = fit_mixture(x, 1, noise)
    most, worse = -math.inf, 0
    for k in (1, 2, 4, 8, 16, 32, 64):
        if k > 1 and len(x) < 4 * k * (x.shape[1] + 2) ** 0.5:
            break
        law = fit_mixture(x, k, noise.fold(1, k))
        score = float(law.log_prob(held).mean())
        best, most, worse = (law, score, 0) if score > most + 0.01 else (best, most, worse + 1)
        if worse == 2:
            break
    if explored.countable and len(explored.tops) > 1:
        law = fit_mixture(x, len(explored.tops), noise, means=explored.tops)
        if float(law.log_prob(held).mean()) > most:
            best, most = law, float(law.log_prob(held).mean())
    whole = fit_mixture(x, 1, noise)
    d, families = x.shape[1], [best]
    if 1 < d <= 100:
        maps = [fit_triangular(x, order) for order in (torch.arange(d), torch.arange(d).flip(0))]
        families.append(max(maps, key=lambda law: float(law.log_prob(held).mean())))
    families.append(Mixture(torch.ones(1).double(), whole.means, 1.5 * whole.factors, torch.full((1,), 4.0).double()))
    return _blend(families, held)


def _blend(laws: list[Law], held: Tensor) -> Blend:
    """The laws with the shares that held-out points give them by expectation maximisation, each at least `_DEFENCE`; largest first."""
    joint = torch.stack([law.log_prob(held) for law in laws], 1)
    share = torch.full((len(laws),), 1 / len(laws), dtype=joint.dtype)
    for _ in range(50):
        share = torch.softmax(joint + share.log(), 1).mean(0)
    share = share * (1 - _DEFENCE * len(laws)) + _DEFENCE
    order = share.argsort(descending=True).tolist()
    return Blend(tuple(laws[j] for j in order), tuple(float(share[j]) for j in order))
