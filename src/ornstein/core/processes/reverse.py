"""Time reversal of a linear SDE, driven by a posterior.

`Reverse` is the reversal of Anderson (1982). With Tweedie's formula ``score = (alpha E[x_0 | x_t] -
x) / sigma^2`` and any eta in [0, 1], the process

    dX = [f X - (1 + eta^2) / 2  g^2 score] dt + eta g dB    (time decreasing)                   (1)

has the marginals of the forward process: eta = 1 is the reverse SDE, eta = 0 the probability-flow
ODE. Anderson 1982; Song et al. 2021, eq. 6 and 13; Karras et al. 2022, eq. 6.
"""

__all__ = ["Posterior", "Reverse"]

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.processes.linear import LinearSDE, Time, as_time
from ornstein.core.processes.noise_type import ADDITIVE, NoiseType
from ornstein.core.processes.sde import Batch, no_diffusion
from ornstein.errors import OrnsteinError


@runtime_checkable
class Posterior(Protocol):
    """What a model is: the law of the clean point given a noisy one, as a Gaussian, for one linear
    SDE."""

    @property
    def sde(self) -> LinearSDE:
        """The process whose noise is to be removed."""
        ...

    def __call__(self, x: Tensor, t: Time) -> Gaussian:
        """``x_0 | x_t = x``: mean and standard deviation, both ``(b, *event)`` (the std may
        broadcast)."""
        ...


@dataclass(frozen=True)
class Reverse:
    """The generating process (1) of a posterior.

    Args:
        posterior: a `Denoiser`, an exact posterior of `ornstein.targets`, or anything with ``.sde``
            and ``(x, t) -> Gaussian``.
        eta: amount of fresh noise: 1 the reverse SDE, 0 the probability-flow ODE.
    """

    posterior: Posterior
    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise OrnsteinError(f"Reverse(eta={self.eta}): from 0, the ODE, to 1, the reverse SDE")

    @property
    def driving(self) -> NoiseType:
        """The diffusion is a function of time."""
        return ADDITIVE

    @property
    def process(self) -> LinearSDE:
        """The forward process."""
        return self.posterior.sde

    @property
    def deterministic(self) -> bool:
        """Whether this is the probability-flow ODE."""
        return self.eta == 0

    def ends_clean(self, s: Time) -> bool:
        """Whether any sample has no noise left at s, where drift and score are singular and only
        the exact kernel will do."""
        return bool((self.process.sigma(s) == 0).any())

    def check_step(self, t: Time, s: Time, eta: float) -> None:
        """Raise where a step from t to s has no meaning, and would be NaN without a word.

        Raises:
            OrnsteinError: from a time without noise (unless it is the pinned end, left with fresh
                noise), or towards the noise with eta > 0.
        """
        name = type(self.process).__name__
        if eta > 0 and bool((as_time(s) > as_time(t)).any()):
            raise OrnsteinError(
                "a generating step with eta > 0 goes down in time: to noise samples use ForwardTransition(),"
                " or eta=0"
            )
        if self.ends_clean(t) and not (self.process.pinned and eta > 0):
            where = "all paths start in one point" if self.process.pinned else "there is no noise"
            raise OrnsteinError(
                f"no step can start at t={float(as_time(t).min()):g} of {name}, where {where}:"
                " start the grid inside"
            )

    def score(self, x: Batch, t: Time) -> Batch:
        """``grad log p_t(x)`` by Tweedie's formula; needs sigma > 0."""
        mean, sde = self.posterior(x, t).mean, self.process
        return (per_sample(sde.alpha(t), x) * mean - x) / per_sample(sde.sigma(t).square(), x)

    def drift(self, x: Batch, t: Time) -> Batch:
        """The bracket of (1), written so that the ODE part is finite where alpha = 0."""
        mean, sde = self.posterior(x, t).mean, self.process
        a, b = sde.flow(t)
        drift = per_sample(a, x) * x + per_sample(b, x) * mean
        if self.eta:
            alpha, rate = (
                sde.alpha(t),
                self._finite(sde.g2(t), t) / sde.sigma(t).square() * self.eta**2 / 2,
            )
            drift = drift + per_sample(rate, x) * (x - per_sample(alpha, x) * mean)
        return drift  # (1)

    def diffusion(self, x: Batch, t: Time) -> Tensor:
        """``eta g(t)``."""
        if not self.eta:
            return no_diffusion(x, t)
        return per_sample(self.eta * self._finite(self.process.g2(t), t).sqrt(), x)

    def _finite(self, g2: Tensor, t: Time) -> Tensor:
        if not bool(torch.isfinite(g2).all()):
            raise OrnsteinError(
                f"the diffusion coefficient of {type(self.process).__name__} is infinite at"
                f" t={float(as_time(t).max()):g}: start the grid below T, set eta=0, or use"
                " Ancestral(), which is exact at both ends"
            )
        return g2
