"""The probability of quantised data from a density: spread each level over its cell, and account
for how.

With q(u | x) a density on the cell of x and p the model's density,

    log P(x) = log int_cell p(x + u) du >= E_q[log p(x + u) - log q(u | x)],                     (1)

equal where q is p restricted to the cell; the log of the mean of K weights ``p / q`` in place of
the mean of their logs is above (1), and below log P as well. Theis et al. 2016 (uniform q); Ho et
al. 2019, section 3.1 (variational); Burda et al. 2016 (K weights). The outermost cells are as wide
as the others: a model with mass beyond them gives away what lies there.

A diffusion need not be asked for the density of the data, which for levels is infinite if it is
right. With q its own kernel to a small time t and ``P(x | x_t)`` the chance that its posterior
gives to the level,

    log P(x) >= E_q[log p_t(x_t) + log P(x | x_t) - log q(x_t | x)],                             (2)

without a gap, draw by draw, for a posterior that is exact. It is the bound of `elbo` with the flow
in place of the chain.
"""

__all__ = ["Bits", "Dequantisation", "Noised", "Truncated", "Uniform", "discrete_log_prob"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import sum_event
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError
from ornstein.inference.likelihood.elbo import bits_per_dim, level_log_prob
from ornstein.models.codecs.affine import Levels

LogDensity = Callable[[Tensor, Noise], tuple[Tensor, Tensor]]
"""``(x, noise) -> (log p, its error)``, ``(b,)`` each: `log_likelihood` or a bound with the model
filled in."""


@runtime_checkable
class Dequantisation(Protocol):
    """A random point for each level, where the density of the model is asked for."""

    def draw(self, x: Tensor, levels: Levels, noise: Noise) -> tuple[Tensor, Tensor]:
        """The point, like x, and what is subtracted from the log-density there, ``(b,)``, nats:
        ``log q``."""
        ...


@dataclass(frozen=True)
class Uniform:
    """q uniform: the density that (1) asks of the model is flat over each cell."""

    def draw(self, x: Tensor, levels: Levels, noise: Noise) -> tuple[Tensor, Tensor]:
        """``x + step (v - 1/2)``, v uniform."""
        u = noise.stream_like(x).uniform() - 0.5
        log_q = -math.log(levels.step) * x[0].numel()
        return x + levels.step * u, torch.full((len(x),), log_q, dtype=torch.float64)


@dataclass(frozen=True)
class Truncated:
    """q a normal density around the level, cut off at the cell: for models that know their data are
    quantised.

    A diffusion trained on levels peaks at them; the narrower q follows the peak. Zheng et al. 2023
    (Improved techniques for maximum likelihood), section 4.

    Args:
        width: standard deviation before it is cut off, in units of the step; see `Truncated.fit`.
    """

    width: float = 0.25

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise OrnsteinError(
                f"Truncated(width={self.width}): positive, in units of the distance of levels;"
                " usually 0.05 to 1"
            )

    def draw(self, x: Tensor, levels: Levels, noise: Noise) -> tuple[Tensor, Tensor]:
        """By inversion of the distribution function."""
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
        """The width with the highest bound (1) on x, which must not be the data that are
        reported."""
        noise = seed if isinstance(seed, Noise) else Noise(seed)
        rules = [Truncated(width) for width in widths]
        return max(
            rules,
            key=lambda rule: float(
                discrete_log_prob(log_density, x, levels, rule, draws=1, seed=noise).value.mean()
            ),
        )


@dataclass(frozen=True)
class Noised:
    """q the process's own kernel to a time t, (2): the density to hand over is that of the noised
    data, ``log_likelihood(..., at=t)``.

    Args:
        posterior: the model.
        t: a time with noise of about a third of the distance of levels, see `time`.
    """

    posterior: Posterior
    t: float

    @staticmethod
    def time(sde: LinearSDE, levels: Levels, part: float = 1 / 3) -> float:
        """The time at which ``sigma / alpha`` is a part of the distance of levels.

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
        """``x_t`` and ``log q(x_t | x) - log P(x | x_t)``."""
        sde, kernel = self.posterior.sde, self.posterior.sde.marginal(x, self.t)
        x_t = kernel.draw(noise.stream_like(x).normal())
        with torch.no_grad():
            decoder = sde.posterior(x_t, self.posterior(x_t, self.t), 0.0, self.t)
        return (
            x_t,
            kernel.log_prob(x_t).double() - level_log_prob(decoder, x, levels).double(),
        )  # (2)


@dataclass(frozen=True)
class Bits:
    """The log-probability of quantised data, nats per sample.

    Attributes:
        value: ``(b,)``, the bound (1).
        tighter: ``(b,)``, the bound from the log of the mean weight.
        stderr: ``(b,)``, of the value, over draws; with one draw nan.
        error: ``(b,)``, root mean square of the error that the density itself reports.
    """

    value: Tensor
    tighter: Tensor
    stderr: Tensor
    error: Tensor

    def bits_per_dim(self, numel: int) -> tuple[float, float]:
        """Mean over samples of ``-value / (numel log 2)`` with its standard error (over samples and
        draws)."""
        return bits_per_dim(self.value, numel)


def discrete_log_prob(
    log_density: LogDensity,
    x: Float[Tensor, "b *event"],
    levels: Levels,
    how: Dequantisation | None = None,
    draws: int = 4,
    seed: int | Noise = 0,
) -> Bits:
    """``log P(x)`` of quantised data by (1).

    Args:
        log_density: the model's log-density with its error, in the space of x and the levels.
        x: values that are levels.
        levels: in the space of x.
        how: `Uniform`, the default, `Truncated` or `Noised`.
        draws: of u for each sample.
        seed: an integer or a `Noise`.

    Raises:
        OrnsteinError: for values that are no levels.
    """
    if draws < 1:
        raise OrnsteinError(f"discrete_log_prob(draws={draws}): at least 1")
    off = (x - levels.nearest(x)).abs().max() / levels.step
    if float(off) > 1e-3:
        raise OrnsteinError(
            f"values up to {float(off):.2g} steps from the nearest level: the probability is of"
            " levels; round x first"
        )
    noise, rule = seed if isinstance(seed, Noise) else Noise(seed), how or Uniform()
    weights, errors = [], []
    for k in range(draws):
        spread, log_q = rule.draw(x, levels, noise.fold(k, 0))
        value, error = log_density(spread, noise.fold(k, 1))
        weights.append(value.double() - log_q)
        errors.append(error.double())
    log_w = torch.stack(weights)
    stderr = log_w.std(0) / math.sqrt(draws) if draws > 1 else torch.full_like(log_w[0], math.nan)
    return Bits(
        log_w.mean(0),
        log_w.logsumexp(0) - math.log(draws),
        stderr,
        torch.stack(errors).square().mean(0).sqrt(),
    )
