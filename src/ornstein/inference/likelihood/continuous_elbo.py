"""The bound of the generating SDE itself, the limit of ever more steps, from randomly placed
evaluations.

With ``r = sigma / alpha``, ``S = r^-2``, ``y = x + r z`` and D the posterior mean, the reverse SDE
generates with at least

    log p(x) >= log N(x; 0, d^2) - 1/2 int E[G] dS - E[G] / (2 v),    G = |x - D(y)|^2 - |x - k y|^2,  (1)

with ``k = d^2 / (d^2 + r^2)``, the integral from T to a last level, and there G as a decoder ``N(D,
v)``, ``v = k r^2``, sees it. It holds for any d, because for Gaussian data the bound is tight at
every point: prior, reconstruction and what both ends have of infinity are in the closed form, and
what is left to estimate is the difference of two errors that see the same noise. In the angle ``r =
c tan(phi)``

    dS = -2 / r^3 dr,    dr = (c^2 + r^2) / c dphi,                                              (2)

it is bounded from pure noise to the data, and so is its variance, if D is right where little noise
is left. The start law is that of the samplers, `LinearSDE.prior`. Song et al. 2021 (Maximum
likelihood training), theorem 1; Huang et al. 2021; Kingma et al. 2021, eq. 15; for D exact, Kong et
al. 2023, eq. 9.

How often each angle is drawn decides the variance: `NoiseLevelProposal` holds probabilities of its bins,
fitted to the root of the second moment.
"""

__all__ = ["NoiseLevelProposal", "continuous_elbo"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import per_sample, sum_event
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError
from ornstein.inference.likelihood.elbo import Bound
from ornstein.inference.likelihood.probability_flow import DENSE
from ornstein.inference.sampling.sample import data_std

BINS = 32
EVENLY = 0.1  # of the probability, so that no bin is forgotten
LAST = 1e-3  # r at which the decoder takes over, in units of d: no network is right about a thousandth of its data's size


@dataclass(frozen=True)
class NoiseLevelProposal:
    """A density of the angle ``atan(r / c)`` on an interval: constant in each of as many bins as
    there are probabilities.

    Args:
        c: a noise-to-signal ratio.
        first, end: the interval; at the first the decoder takes over.
        probabilities: of equal bins, positive, summing to 1.
    """

    c: float
    first: float
    end: float
    probabilities: tuple[float, ...] = (1.0,)

    @staticmethod
    def even(sde: LinearSDE, d: float, last: float = LAST) -> "NoiseLevelProposal":
        """Uniform in the angle with ``c = 0.36 d``, down to a ratio of ``last d``."""
        c = DENSE * d
        return NoiseLevelProposal(
            c,
            math.atan(last * d / c),
            math.atan2(float(sde.sigma(sde.T)), c * float(sde.alpha(sde.T))),
        )

    @staticmethod
    def fit(
        posterior: Posterior, x: Tensor, draws: int = 8, seed: int | Noise = 0
    ) -> "NoiseLevelProposal":
        """The probabilities that make the variance of (1) smallest for data like x; use another
        seed than for the bound.

        Args:
            posterior: the model.
            x: ``(b, *event)``, some hundred samples.
            draws: evaluations for each.
            seed: an integer or a `Noise`.
        """
        noise, even = (
            seed if isinstance(seed, Noise) else Noise(seed),
            NoiseLevelProposal.even(posterior.sde, data_std(posterior)),
        )
        with torch.no_grad():
            drawn = [
                _integrand(posterior, x, even, *_draw(even, x, j, draws, noise))
                for j in range(draws)
            ]
        values, angles = (
            torch.cat([value for value, _ in drawn]),
            torch.cat([phi for _, phi in drawn]),
        )
        index = ((angles - even.first) / (even.end - even.first) * BINS).long().clamp(0, BINS - 1)
        squares, counts = torch.zeros(2, BINS, dtype=torch.float64).unbind()
        squares, counts = (
            squares.index_add(0, index, values.square()),
            counts.index_add(0, index, torch.ones_like(values)),
        )
        root = (squares / counts.clamp(min=1)).sqrt()
        probabilities = (1 - EVENLY) * root / root.sum() + EVENLY / BINS
        return NoiseLevelProposal(even.c, even.first, even.end, tuple(probabilities.tolist()))

    def quantile(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The angle below which a fraction u lies, and the density there."""
        p = torch.tensor(self.probabilities, dtype=torch.float64)
        edges, width = torch.cat([p.new_zeros(1), p.cumsum(0)]), (self.end - self.first) / len(p)
        k = (torch.searchsorted(edges, u, right=True) - 1).clamp(0, len(p) - 1)
        return self.first + width * (k + (u - edges[k]) / p[k]), p[k] / width


def continuous_elbo(
    posterior: Posterior,
    x: Float[Tensor, "b *event"],
    draws: int = 32,
    seed: int | Noise = 0,
    repeats: int = 4,
    proposal: NoiseLevelProposal | None = None,
) -> Bound:
    """The bound (1) on ``log p(x)`` of the generating SDE, each sample with noise of its own:
    unbiased, with its standard error.

    In the result ``reconstruction`` is all of the Gaussian's bound but its prior term,
    ``diffusion`` what the model adds to it.

    Args:
        posterior: the model.
        x: samples in the posterior's own space.
        draws: evaluations for each repeat, one in each of as many equal parts of the proposal.
        seed: an integer or a `Noise`.
        repeats: independent estimates, at least 2, from which the standard error comes.
        proposal: where to evaluate; by default uniform in the angle, see `NoiseLevelProposal.fit`.
    """
    sde, d = posterior.sde, data_std(posterior)
    if draws < 1 or repeats < 2:
        raise OrnsteinError(
            f"continuous_elbo(draws={draws}, repeats={repeats}): at least 1, at least 2"
        )
    if sde.pinned:
        raise OrnsteinError(
            f"{type(sde).__name__} ends in one point: a bound needs a process with a start density,"
            " such as VP"
        )
    noise, rule = (
        seed if isinstance(seed, Noise) else Noise(seed),
        proposal or NoiseLevelProposal.even(sde, d),
    )
    with torch.no_grad():
        found = torch.stack(
            [_once(posterior, x, rule, draws, noise.fold(k)) for k in range(repeats)]
        )
    dim = x[0].numel()
    gaussian = -sum_event((x.double() / d).square()) / 2 - dim * (
        math.log(d) + math.log(2 * math.pi) / 2
    )  # (1)
    T = sde.marginal(x.double(), sde.T)
    start = sde.prior(x.shape, d**2)
    prior = T.kl(type(start)(start.mean.double(), start.std))
    parts = (
        gaussian - found.mean(0),
        found.std(0) / math.sqrt(repeats),
        prior,
        found.mean(0),
        -gaussian - prior,
    )
    value, stderr, prior, diffusion, reconstruction = (part.to(x) for part in parts)
    return Bound(value, stderr, prior, diffusion, reconstruction, (draws + 1) * repeats)


def _draw(
    rule: NoiseLevelProposal, x: Tensor, j: int, draws: int, noise: Noise
) -> tuple[Tensor, Tensor, Tensor]:
    """Angles and their densities in part j of the proposal, ``(b,)``, and noise like x."""
    u = (j + noise.fold(0).uniform((len(x),), torch.float64)) / draws
    return *rule.quantile(u), noise.fold(1, j).stream_like(x).normal()


def _once(
    posterior: Posterior, x: Tensor, rule: NoiseLevelProposal, draws: int, noise: Noise
) -> Tensor:
    """One estimate of what (1) subtracts, ``(b,)``."""
    parts = [
        _integrand(posterior, x, rule, *_draw(rule, x, j, draws, noise))[0] for j in range(draws)
    ]
    last, d = (
        torch.full((len(x),), rule.c * math.tan(rule.first), dtype=torch.float64),
        data_std(posterior),
    )
    gain = _gain(posterior, x, last, noise.fold(2).stream_like(x).normal())
    return torch.stack(parts).mean(0) + gain * (1 / d**2 + last**-2) / 2  # (1)


def _integrand(
    posterior: Posterior,
    x: Tensor,
    rule: NoiseLevelProposal,
    phi: Tensor,
    density: Tensor,
    z: Tensor,
) -> tuple[Tensor, Tensor]:
    """One estimate of the integral in (1) times one half, ``(b,)``, float64; and the angles."""
    r = rule.c * phi.tan()
    return (
        _gain(posterior, x, r, z) * (rule.c**2 + r.square()) / (r**3 * rule.c * density),
        phi,
    )  # (2)


def _gain(posterior: Posterior, x: Tensor, r: Tensor, z: Tensor) -> Tensor:
    """G of (1) at ratios ``(b,)``, float64."""
    sde, d2, t = posterior.sde, data_std(posterior) ** 2, posterior.sde.time(-2 * r.log())
    mean = posterior(per_sample(sde.alpha(t), x) * x + per_sample(sde.sigma(t), x) * z, t).mean
    ratio = per_sample(r, x.double())
    off, gaussian = (
        (mean - x).double(),
        (ratio.square() * x - d2 * ratio * z) / (d2 + ratio.square()),
    )  # D - x, x - k y
    return sum_event((off + gaussian) * (off - gaussian))
