"""Dequantisation: the probability of quantised data under a model that has a density.

Bytes and counts have probabilities, a model has a density; the probability of a level is the
integral of the density over the cell of the level. With q(u | x) a density on the cell of x and p
the model's density,

    log P(x) = log int_cell p(x + u) du >= E_q[log p(x + u) - log q(u | x)],                     (1)

equal where q is p restricted to the cell; the log of the mean of K weights ``p / q`` in place of
the mean of their logs is above (1), and below log P as well. Theis et al. 2016 (uniform q); Ho et
al. 2019, section 3.1 (variational); Burda et al. 2016 (K weights). The outermost cells are as wide
as the others: a model with mass beyond them loses that mass.

A diffusion need not be asked for the density of the data, which for levels is infinite if the model
is right. With q the process's own kernel to a small time t and ``P(x | x_t)`` the chance that the
posterior gives to the level,

    log P(x) >= E_q[log p_t(x_t) + log P(x | x_t) - log q(x_t | x)],                             (2)

with equality, draw by draw, for a posterior that is exact. It is the bound of
`ornstein.inference.likelihood.elbo` with the flow in place of the chain.
"""

__all__ = [
    "Dequantisation",
    "DiscreteLogProb",
    "Noised",
    "Truncated",
    "Uniform",
    "discrete_log_prob",
]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.checks import require_integers, require_positive
from ornstein.core.numerics.gaussian import sum_event
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError
from ornstein.inference.likelihood.elbo import LogProbabilities, level_log_prob
from ornstein.models.codecs.affine import Levels

LogDensity = Callable[[Tensor, Noise], tuple[Tensor, Tensor]]
"""``(x, noise) -> (log p, its error)``, ``(b,)`` each: `log_likelihood` or a bound with the model
filled in."""

# Distance from the nearest level, in units of the step, beyond which a value is no level.
_LEVEL_TOLERANCE = 1e-3
_POINT = 0  # key of the noise that chooses a point in the cell
_DENSITY = 1  # key of the noise for the density there


@runtime_checkable
class Dequantisation(Protocol):
    """A rule that draws a random point for each quantised value, with its log-density."""

    def draw(self, x: Tensor, levels: Levels, noise: Noise) -> tuple[Tensor, Tensor]:
        """Draw a point for each level, with ``log q``, which is subtracted from the log-density.

        Args:
            x: values that are levels, ``(b, *event)``.
            levels: the lattice of levels.
            noise: the source of random numbers.

        Returns:
            The points, like x, and ``log q`` in nats, ``(b,)``.
        """
        ...


@dataclass(frozen=True)
class Uniform:
    """Uniform dequantisation: q is uniform on the cell of each level.

    The bound is tight for a model whose density is flat over each cell. Theis et al. 2016.
    """

    def draw(self, x: Tensor, levels: Levels, noise: Noise) -> tuple[Tensor, Tensor]:
        """Draw ``x + step (v - 1/2)`` with v uniform on [0, 1)."""
        u = noise.stream_like(x).uniform() - 0.5
        log_q = -math.log(levels.step) * x[0].numel()
        return x + levels.step * u, torch.full((len(x),), log_q, dtype=torch.float64)


@dataclass(frozen=True)
class Truncated:
    """Truncated normal dequantisation: q is a normal density around the level, cut off at the cell.

    A diffusion trained on levels has peaks there; the narrower q follows the peak. Zheng et al.
    2023 (Improved techniques for maximum likelihood), section 4.

    Args:
        width: standard deviation before truncation, in units of the step; see `Truncated.fit`.
    """

    width: float = 0.25

    def __post_init__(self) -> None:
        usual = "in units of the distance of levels, usually 0.05 to 1"
        require_positive(self, "width", usual=usual)

    def draw(self, x: Tensor, levels: Levels, noise: Noise) -> tuple[Tensor, Tensor]:
        """Draw from the truncated normal density by inversion of the distribution function."""
        edge = 0.5 / self.width
        mass = math.erf(edge / math.sqrt(2))
        v = noise.stream_like(x.double()).uniform()
        z = math.sqrt(2) * torch.erfinv(mass * (2 * v - 1)).clamp(-edge, edge)
        log_q = -z.square() / 2 - math.log(math.sqrt(2 * math.pi) * mass * self.width * levels.step)
        return x + (levels.step * self.width * z).to(x), sum_event(log_q)

    @staticmethod
    def fit(
        log_density: LogDensity,
        x: Tensor,
        levels: Levels,
        widths: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0),
        seed: int | Noise = 0,
    ) -> "Truncated":
        """Return the width with the highest bound ``E_q[log p - log q]`` on x.

        Args:
            log_density: the model's log-density with its error.
            x: values that are levels; not the data that are reported.
            levels: the lattice of levels.
            widths: the candidates, in units of the step.
            seed: an integer or a `Noise`.
        """
        noise = Noise.of(seed)
        return max(
            (Truncated(width) for width in widths),
            key=lambda rule: float(
                discrete_log_prob(log_density, x, levels, rule, draws=1, seed=noise).value.mean()
            ),
        )


@dataclass(frozen=True)
class Noised:
    """Dequantisation by the noising process: q is the kernel from the data to a small time t.

    The density to pass is that of data with noise of this time, ``log_likelihood(..., at=t)``; then

        log P(x) >= E_q[log p_t(x_t) + log P(x | x_t) - log q(x_t | x)].

    Args:
        posterior: the model.
        t: a time with noise of about a third of the distance of levels, see `Noised.time`.
    """

    posterior: Posterior
    t: float

    @staticmethod
    def time(sde: LinearSDE, levels: Levels, part: float = 1 / 3) -> float:
        """Return the time at which ``sigma / alpha`` is a given part of the distance of levels.

        Args:
            sde: the process.
            levels: the lattice of levels.
            part: noise-to-signal ratio in units of the distance of levels.

        Raises:
            OrnsteinError: unless the part is positive.
        """
        if not part > 0:
            raise OrnsteinError(
                f"Noised.time(part={part}): positive, in units of the distance of levels; usually"
                " 1/5 to 1/2"
            )
        return float(sde.time(torch.tensor(-2 * math.log(part * levels.step), dtype=torch.float64)))

    def draw(self, x: Tensor, levels: Levels, noise: Noise) -> tuple[Tensor, Tensor]:
        """Draw ``x_t`` given x, with ``log q(x_t | x) - log P(x | x_t)``."""
        sde, kernel = self.posterior.sde, self.posterior.sde.marginal(x, self.t)
        x_t = kernel.draw(noise.stream_like(x).normal())
        with torch.no_grad():
            decoder = sde.posterior(x_t, self.posterior(x_t, self.t), 0.0, self.t)
        return (
            x_t,
            kernel.log_prob(x_t).double() - level_log_prob(decoder, x, levels).double(),
        )  # (2)


@dataclass(frozen=True, eq=False, kw_only=True)
class DiscreteLogProb(LogProbabilities):
    """A lower bound on the log-probability of quantised data, in nats per sample.

    ``value`` is ``(b,)``, the mean of ``log p - log q`` over draws; ``stderr`` its standard error
    over draws, nan for one draw. ``interval`` covers both errors, ``value -+ 1.96 sqrt(stderr^2 +
    error^2)``. ``cost`` counts evaluations of the density per sample.

    Args:
        tighter: ``(b,)``, the bound from the log of the mean weight over draws, in nats.
        error: ``(b,)``, root mean square of the error that the density itself reports.
    """

    tighter: Tensor
    error: Tensor

    def _total_error(self) -> Tensor:
        """The error that the interval covers, from the draws and from the density."""
        return torch.hypot(self.stderr, self.error)


def discrete_log_prob(
    log_density: LogDensity,
    x: Float[Tensor, "b *event"],
    levels: Levels,
    how: Dequantisation | None = None,
    draws: int = 4,
    seed: int | Noise = 0,
) -> DiscreteLogProb:
    """Estimate a lower bound on the log-probability ``log P(x)`` of quantised data.

    With q a density around each level the bound is ``E_q[log p - log q]``. Theis et al. 2016.

    Args:
        log_density: the model's log-density with its error, in the space of x and the levels.
        x: values that are levels, ``(b, *event)``.
        levels: in the space of x.
        how: `Uniform`, the default, `Truncated` or `Noised`.
        draws: of u for each sample.
        seed: an integer or a `Noise`.

    Raises:
        OrnsteinError: for values that are no levels, or no draws.
    """
    require_integers(1, draws=draws)
    distance = float((x - levels.nearest(x)).abs().max() / levels.step)
    if distance > _LEVEL_TOLERANCE:
        raise OrnsteinError(
            f"values up to {distance:.2g} steps from the nearest level: the probability is of"
            " levels; round x first"
        )
    noise = Noise.of(seed)
    rule = how or Uniform()
    weights, errors = [], []
    for k in range(draws):
        point, log_q = rule.draw(x, levels, noise.fold(k, _POINT))
        value, error = log_density(point, noise.fold(k, _DENSITY))
        weights.append(value.double() - log_q)
        errors.append(error.double())
    log_w = torch.stack(weights)
    return DiscreteLogProb(
        log_w.mean(0),
        log_w.std(0) / math.sqrt(draws) if draws > 1 else torch.full_like(log_w[0], math.nan),
        cost=draws,
        tighter=log_w.logsumexp(0) - math.log(draws),
        error=torch.stack(errors).square().mean(0).sqrt(),
    )
