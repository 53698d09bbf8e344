"""Patches where a law is too thin: importance sampling that mends its own proposal.

A draw x of a law q whose weight ``rho(x) / (Z q(x))`` is far above 1 marks a place that q does not
cover: a neck, a corner, a mode. Short Markov chains from there explore it; a Gaussian fitted to
them joins the law; the shares of all parts follow the weighted draws,

    share_k <- E_rho[ share_k q_k(x) / q(x) ],                                                   (1)

and new draws are weighed, for twelve rounds or until no weight is far above 1 (Raftery and Bao
2010, incremental mixture importance sampling, there with the nearest draws for the chains; (1) is
population Monte Carlo, Cappe et al. 2008).
"""

__all__ = ["patched"]

import torch
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.random.noise import Noise
from ornstein.density.proposals.mixture import DefensiveMixture, Mixture
from ornstein.density.smc.short_chains import around, walk
from ornstein.density.smc.tempered_smc import Cloud, StartLaw, weigh

_HIGH = 2.0  # log of the weight, in units of their mean, beyond which a point marks a hole
_LEAST = 0.003  # share of any part
_FRESH = 0.03  # share of a new patch
_EACH = 4  # patches of a round, at most


def patched(
    target: LogDensity,
    law: StartLaw,
    n: int,
    noise: Noise,
    suspects: Tensor | None = None,
    rounds: int = 12,
) -> StartLaw:
    """The law with patches wherever weights ask for them: of n of its draws, of suspects, and of
    where the last patches' chains went.

    Args:
        target: the unnormalised log-density, differentiable.
        law: normalised.
        n: draws per round.
        noise: source of randomness.
        suspects: ``(m, d)``, points that were found without the law, such as particles that
            tempering has moved.
        rounds: at most.
    """
    law = law if isinstance(law, DefensiveMixture) else DefensiveMixture((law,), (1.0,))
    for k in range(rounds):
        drawn = weigh(target, law, n, 1, noise.fold(0, k))
        x, log_w = drawn.x, drawn.log_w
        if suspects is not None and len(suspects):
            with torch.no_grad():
                x, log_w = (
                    torch.cat([x, suspects]),
                    torch.cat([log_w, target(suspects) - law.log_prob(suspects)]),
                )
        holes, suspects = _holes(target, x, log_w - drawn.log_z.value, noise.fold(1, k))
        if not holes and k == 0:
            break
        law = _shared(law, drawn)
        if not holes:
            break
        law = DefensiveMixture(
            (*law.laws, *holes),
            (*((1 - _FRESH * len(holes)) * share for share in law.shares), *[_FRESH] * len(holes)),
        )
    return law


def _holes(
    target: LogDensity, x: Tensor, log_w: Tensor, noise: Noise
) -> tuple[list[Mixture], Tensor]:
    """Patches at the points of the largest weights, and where their chains went."""
    holes, ends, chains = list[Mixture](), [x[:0]], min(1024, max(256, 16 * x.shape[1]))
    for i in log_w.argsort(descending=True)[:64].tolist():
        if log_w[i] < _HIGH or len(holes) == _EACH:
            break
        if not any(_inside(hole, x[i]) for hole in holes):
            ends.append(walk(target, x[i], noise.fold(i), chains))
            found = around(ends[-1])
            holes.append(Mixture(torch.ones(1).double(), found.mean[None], found.factor[None]))
    return holes, torch.cat(ends)


def _shared(law: DefensiveMixture, drawn: Cloud, rounds: int = 20) -> DefensiveMixture:
    """The shares by (1), each about `_LEAST` at least, from weighed draws."""
    before = torch.tensor(law.shares, dtype=torch.float64)
    parts = torch.stack([part.log_prob(drawn.x) for part in law.laws], 1).double()
    share, w = before, torch.softmax(drawn.log_w, 0)
    for _ in range(rounds):
        share = w @ torch.softmax(parts + share.log(), 1)
        share = (share + _LEAST) / (1 + _LEAST * len(share))
    return DefensiveMixture(law.laws, tuple(share.tolist()))


def _inside(hole: Mixture, x: Tensor) -> bool:
    """Whether a point is within four standard deviations of the typical distance from the middle of
    a patch."""
    d = len(x)
    distance = (
        torch.linalg.solve_triangular(hole.factors[0], (x - hole.means[0])[:, None], upper=False)
        .square()
        .sum()
    )
    return float(distance) < d + 4 * (2 * d) ** 0.5
