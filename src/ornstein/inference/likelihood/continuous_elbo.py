"""The evidence lower bound in continuous time, from evaluations at random noise levels.

In the limit of infinitely many steps the bound of `ornstein.inference.likelihood.elbo` is an
integral over noise levels, which can be estimated without bias. With ``r = sigma / alpha``, ``S =
r^-2``, ``y = x + r z`` and D the posterior mean, the reverse SDE generates with at least

    log p(x) >= log N(x; 0, d^2) - 1/2 int E[G] dS - E[G] / (2 v),
    G = |x - D(y)|^2 - |x - k y|^2,                                                              (1)

with ``k = d^2 / (d^2 + r^2)``, the integral from T to a last level, and there G as a decoder ``N(D,
v)``, ``v = k r^2``, sees it. It holds for any d, because for Gaussian data the bound is tight at
every point: the closed form contains the prior and the reconstruction with their infinities at
both ends, and the remaining integrand is the difference of two errors that see the same noise. In
the angle ``r = c tan(phi)``

    dS = -2 / r^3 dr,    dr = (c^2 + r^2) / c dphi,                                              (2)

it is bounded from pure noise to the data, and so is its variance, if D is right where little noise
is left. The start law is that of the samplers, `LinearSDE.prior`. Song et al. 2021 (Maximum
likelihood training), theorem 1; Huang et al. 2021; Kingma et al. 2021, eq. 15; for D exact, Kong et
al. 2023, eq. 9.

How often each angle is drawn decides the variance: `NoiseLevelProposal` is a density of the angle,
fitted to the root of the second moment of the integrand.
"""

__all__ = ["NoiseLevelProposal", "continuous_elbo"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.checks import require_integers
from ornstein.core.numerics.gaussian import LOG_2PI, per_sample, sum_event
from ornstein.core.numerics.tables import cell
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.inference.likelihood.elbo import Bound, require_start_density
from ornstein.inference.sampling.samplers import DENSE_RATIO, data_std

_BINS = 32  # bins of a fitted proposal
# Fraction of the probability that a fitted proposal spreads evenly, so that every bin is drawn.
_EVEN_FRACTION = 0.1
# Ratio r, in units of d, at which the decoder takes over: no network is right about a thousandth of
# the size of its data.
_DECODER_RATIO = 1e-3
_LEVELS = 0  # key of the uniform numbers that choose noise levels
_STATES = 1  # key of the noise that is added to the data
_DECODER = 2  # key of the noise at the decoder's level


@dataclass(frozen=True)
class NoiseLevelProposal:
    """A piecewise constant density of noise levels, as the angle ``atan(r / c)`` on an interval.

    Args:
        c: a noise-to-signal ratio.
        first: the smallest angle, at which the decoder takes over.
        end: the largest angle, that of T.
        probabilities: of equal bins, positive, summing to 1.
    """

    c: float
    first: float
    end: float
    probabilities: tuple[float, ...] = (1.0,)

    @staticmethod
    def even(sde: LinearSDE, d: float, last: float = _DECODER_RATIO) -> "NoiseLevelProposal":
        """Return the uniform density of the angle ``atan(r / c)``, with ``c = 0.36 d``.

        Args:
            sde: the process, which sets the largest angle.
            d: standard deviation of the data.
            last: smallest noise-to-signal ratio, in units of d.
        """
        c = DENSE_RATIO * d
        return NoiseLevelProposal(
            c,
            math.atan(last * d / c),
            math.atan2(float(sde.sigma(sde.T)), c * float(sde.alpha(sde.T))),
        )

    @staticmethod
    def fit(
        posterior: Posterior, x: Tensor, draws: int = 8, seed: int | Noise = 0
    ) -> "NoiseLevelProposal":
        """Return the proposal under which the bound varies least on data like x.

        Args:
            posterior: the model.
            x: ``(b, *event)``, a hundred samples or more.
            draws: evaluations for each.
            seed: an integer or a `Noise`; another one than for the bound.
        """
        noise = Noise.of(seed)
        even = NoiseLevelProposal.even(posterior.sde, data_std(posterior))
        with torch.no_grad():
            estimates = [
                _integrand(posterior, x, even, *_draw(even, x, j, draws, noise))
                for j in range(draws)
            ]
        values, angles = (torch.cat(parts) for parts in zip(*estimates, strict=True))
        index = ((angles - even.first) / (even.end - even.first) * _BINS).long()
        index = index.clamp(0, _BINS - 1)
        squares, counts = torch.zeros(2, _BINS, dtype=torch.float64).unbind()
        squares = squares.index_add(0, index, values.square())
        counts = counts.index_add(0, index, torch.ones_like(values))
        root = (squares / counts.clamp(min=1)).sqrt()
        probabilities = (1 - _EVEN_FRACTION) * root / root.sum() + _EVEN_FRACTION / _BINS
        return NoiseLevelProposal(even.c, even.first, even.end, tuple(probabilities.tolist()))

    def quantile(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the angle below which a fraction u of the probability lies, and the density there.

        Args:
            u: fractions in [0, 1), float64.
        """
        p = torch.tensor(self.probabilities, dtype=torch.float64)
        edges = torch.cat([p.new_zeros(1), p.cumsum(0)])
        width = (self.end - self.first) / len(p)
        k = cell(edges, u)
        return self.first + width * (k + (u - edges[k]) / p[k]), p[k] / width


def continuous_elbo(
    posterior: Posterior,
    x: Float[Tensor, "b *event"],
    draws: int = 32,
    seed: int | Noise = 0,
    repeats: int = 4,
    proposal: NoiseLevelProposal | None = None,
) -> Bound:
    """Estimate the evidence lower bound on ``log p(x)`` of the generating SDE in continuous time.

    The estimate is unbiased, and each sample has noise of its own. In the result
    ``reconstruction`` is the Gaussian's bound without its prior term, ``diffusion`` what the model
    adds to that bound. Song et al. 2021 (Maximum likelihood training), theorem 1.

    Args:
        posterior: the model.
        x: samples ``(b, *event)`` in the posterior's own space.
        draws: evaluations for each repeat, one in each of as many equal parts of the proposal.
        seed: an integer or a `Noise`.
        repeats: independent estimates, at least 2, from which the standard error comes.
        proposal: where to evaluate; by default uniform in the angle, see `NoiseLevelProposal.fit`.

    Raises:
        OrnsteinError: for no draws, fewer than 2 repeats, or a process that ends in one point.
    """
    require_integers(1, draws=draws)
    require_integers(2, repeats=repeats)
    sde = posterior.sde
    d = data_std(posterior)
    require_start_density(sde)
    noise = Noise.of(seed)
    rule = proposal or NoiseLevelProposal.even(sde, d)
    with torch.no_grad():
        losses = torch.stack(
            [_estimate(posterior, x, rule, draws, noise.fold(k)) for k in range(repeats)]
        )
    gaussian = -sum_event((x.double() / d).square()) / 2 - x[0].numel() * (
        math.log(d) + LOG_2PI / 2
    )  # (1)
    start = sde.prior(x.shape, d**2)
    prior = sde.marginal(x.double(), sde.T).kl(type(start)(start.mean.double(), start.std))
    return Bound(
        (gaussian - losses.mean(0)).to(x),
        (losses.std(0) / math.sqrt(repeats)).to(x),
        cost=(draws + 1) * repeats,
        prior=prior.to(x),
        diffusion=losses.mean(0).to(x),
        reconstruction=(-gaussian - prior).to(x),
    )


def _draw(
    rule: NoiseLevelProposal, x: Tensor, j: int, draws: int, noise: Noise
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw angles from part j of the proposal, with their densities, ``(b,)``, and noise like x."""
    u = (j + noise.fold(_LEVELS).uniform((len(x),), torch.float64)) / draws
    return *rule.quantile(u), noise.fold(_STATES, j).stream_like(x).normal()


def _estimate(
    posterior: Posterior, x: Tensor, rule: NoiseLevelProposal, draws: int, noise: Noise
) -> Tensor:
    """Return one estimate of the part of (1) that is subtracted, ``(b,)``."""
    integrals = [
        _integrand(posterior, x, rule, *_draw(rule, x, j, draws, noise))[0] for j in range(draws)
    ]
    last = torch.full((len(x),), rule.c * math.tan(rule.first), dtype=torch.float64)
    gain = _gain(posterior, x, last, noise.fold(_DECODER).stream_like(x).normal())
    precision = 1 / data_std(posterior) ** 2 + last**-2  # 1 / v
    return torch.stack(integrals).mean(0) + gain * precision / 2  # (1)


def _integrand(
    posterior: Posterior,
    x: Tensor,
    rule: NoiseLevelProposal,
    phi: Tensor,
    density: Tensor,
    z: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return one estimate of half the integral in (1), ``(b,)``, float64, and the angles."""
    r = rule.c * phi.tan()
    value = _gain(posterior, x, r, z) * (rule.c**2 + r.square()) / (r**3 * rule.c * density)  # (2)
    return value, phi


def _gain(posterior: Posterior, x: Tensor, r: Tensor, z: Tensor) -> Tensor:
    """Return the difference G of (1) at ratios ``(b,)``, as a product of sum and difference."""
    sde = posterior.sde
    variance = data_std(posterior) ** 2
    t = sde.time(-2 * r.log())
    mean = posterior(per_sample(sde.alpha(t), x) * x + per_sample(sde.sigma(t), x) * z, t).mean
    ratio = per_sample(r, x.double())
    model = (mean - x).double()  # D - x
    gaussian = (ratio.square() * x - variance * ratio * z) / (variance + ratio.square())  # x - k y
    return sum_event((model + gaussian) * (model - gaussian))
