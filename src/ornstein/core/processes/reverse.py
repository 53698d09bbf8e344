"""Time reversal of a linear SDE: the process that generates samples from noise.

A model gives the posterior mean ``E[x_0 | x_t]``. With Tweedie's formula ``score = (alpha E[x_0 |
x_t] - x) / sigma^2`` and any eta in [0, 1], the process

    dX = [f X - (1 + eta^2) / 2  g^2 score] dt + eta g dB    (time decreasing)                   (1)

has the marginals of the forward process: eta = 1 is the reverse SDE, eta = 0 the probability-flow
ODE. Every sampler of a model solves it. Anderson 1982; Song et al. 2021, eq. 6 and 13; Karras et
al. 2022, eq. 6.
"""

__all__ = ["Posterior", "Reverse"]

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.core.numerics.checks import require_finite
from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.processes.linear import LinearSDE, Time, as_time
from ornstein.core.processes.noise_type import ADDITIVE, NoiseType
from ornstein.core.processes.sde import Batch, no_diffusion
from ornstein.errors import OrnsteinError

_BEYOND_T = 1e-6  # relative: times may have been rounded to float32


@runtime_checkable
class Posterior(Protocol):
    """A model of the clean point ``x_0`` given a noisy point ``x_t``, as a Gaussian."""

    @property
    def sde(self) -> LinearSDE:
        """The noising process for which the posterior was made."""
        ...

    def __call__(self, x: Tensor, t: Time) -> Gaussian:
        """Return the law of ``x_0`` given ``x_t = x``.

        Mean and standard deviation are ``(b, *event)``; the latter may broadcast.
        """
        ...


@dataclass(frozen=True)
class Reverse:
    """The generating process of a posterior, from noise at T to data at 0.

    ``dX = [f X - (1 + eta^2) / 2 g^2 score] dt + eta g dB`` with time decreasing.

    Args:
        posterior: a `Denoiser`, an exact posterior of `ornstein.targets`, or anything with ``.sde``
            and ``(x, t) -> Gaussian``.
        eta: amount of fresh noise: 1 the reverse SDE, 0 the probability-flow ODE.

    Raises:
        OrnsteinError: for an eta outside [0, 1], or a posterior that is none.

    Example:
        >>> target = orn.targets.GaussianMixture(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1))
        >>> vp = orn.VP()
        >>> reverse = orn.Reverse(target.posterior(vp))
        >>> x = orn.simulate(reverse, torch.randn(5, 2), vp.times(8), orn.Ancestral(), orn.Noise(0))
        >>> x.shape
        torch.Size([5, 2])
    """

    posterior: Posterior
    eta: float = 1.0

    def __post_init__(self) -> None:
        if not callable(self.posterior) or not hasattr(self.posterior, "sde"):
            raise OrnsteinError(
                f"Reverse(posterior={type(self.posterior).__name__}): pass a model, such as an"
                " orn.Denoiser or target.posterior(sde), with an attribute sde and (x, t) ->"
                " Gaussian"
            )
        require_finite(eta=self.eta)
        if not 0 <= self.eta <= 1:
            raise OrnsteinError(f"Reverse(eta={self.eta}): from 0, the ODE, to 1, the reverse SDE")

    @property
    def driving(self) -> NoiseType:
        """The type of the noise, additive, for the diffusion is a function of time."""
        return ADDITIVE

    @property
    def process(self) -> LinearSDE:
        """The forward process, which noises the data."""
        return self.posterior.sde

    @property
    def deterministic(self) -> bool:
        """Whether this process is the probability-flow ODE, with eta = 0."""
        return self.eta == 0

    def ends_clean(self, s: Time) -> bool:
        """Return whether any sample has no noise left at the time s.

        Drift and score are singular there, and only the exact kernel can take the step.
        """
        return bool((self.process.sigma(s) == 0).any())

    def check_step(self, t: Time, s: Time, eta: float) -> None:
        """Raise where a step from t to s is not defined and would give NaN.

        Raises:
            OrnsteinError: from a time without noise (unless it is the pinned end, which a step with
                fresh noise leaves), or towards the noise with eta > 0.
        """
        if eta > 0 and bool((as_time(s) > as_time(t)).any()):
            raise OrnsteinError(
                "a generating step with eta > 0 goes down in time: to noise samples use"
                " ForwardTransition(), or eta=0"
            )
        if self.ends_clean(t) and not (self.process.pinned and eta > 0):
            self._no_start(t)

    def check_times(self, times: Tensor) -> None:
        """Raise unless the generating process is defined at all times of a grid.

        Args:
            times: ``(n,)`` or ``(n, b)``, monotone, the last of them the end of the run; so that
                only its ends are looked at.

        Raises:
            OrnsteinError: for times outside [0, T], or a start at a time without noise.
        """
        end = float(self.process.T)
        ends = times[0], times[-1]
        lowest = min(float(t.min()) for t in ends)
        highest = max(float(t.max()) for t in ends)
        if not (lowest >= 0 and highest <= end * (1 + _BEYOND_T)):
            outside = lowest if lowest < 0 else highest
            raise OrnsteinError(
                f"t={outside:g} is outside the time of {type(self.process).__name__}, which runs"
                f" from 0 (data) to T={end:g} (noise): use a grid such as sde.times(20)"
            )
        for t in (times[0], times[-2]):  # only the time 0 can be without noise
            if float(t.min()) == 0 and self.ends_clean(t) and not self.process.pinned:
                self._no_start(t)

    def _no_start(self, t: Time) -> None:
        """Raise the error of a step that starts at a time without noise."""
        where = "all paths start in one point" if self.process.pinned else "there is no noise"
        raise OrnsteinError(
            f"no step can start at t={float(as_time(t).min()):g} of"
            f" {type(self.process).__name__}, where {where}: start the grid inside"
        )

    def score(self, x: Batch, t: Time) -> Batch:
        """Return ``grad log p_t(x) = (alpha E[x_0 | x_t] - x) / sigma^2``; needs sigma > 0."""
        mean, sde = self.posterior(x, t).mean, self.process
        return (per_sample(sde.alpha(t), x) * mean - x) / per_sample(sde.sigma(t).square(), x)

    def drift(self, x: Batch, t: Time) -> Batch:
        """Return the drift ``f x - (1 + eta^2) / 2 g^2 score``, per unit of time.

        Written so that the part of the ODE is finite where alpha = 0.
        """
        mean, sde = self.posterior(x, t).mean, self.process
        a, b = sde.flow(t)
        drift = per_sample(self._finite(a, "drift", t), x) * x + per_sample(b, x) * mean
        if self.eta:
            alpha = sde.alpha(t)
            g2 = self._finite(sde.g2(t), "diffusion", t)
            rate = g2 / sde.sigma(t).square() * self.eta**2 / 2
            drift = drift + per_sample(rate, x) * (x - per_sample(alpha, x) * mean)
        return drift  # (1)

    def diffusion(self, x: Batch, t: Time) -> Tensor:
        """Return the diffusion ``eta g(t)``, per root of time."""
        if not self.eta:
            return no_diffusion(x, t)
        g2 = self._finite(self.process.g2(t), "diffusion", t)
        return per_sample(self.eta * g2.sqrt(), x)

    def _finite(self, coefficient: Tensor, name: str, t: Time) -> Tensor:
        """Return a coefficient of (1), or raise `OrnsteinError` if the value is infinite."""
        if not bool(torch.isfinite(coefficient).all()):
            raise OrnsteinError(
                f"the {name} coefficient of {type(self.process).__name__} is infinite at"
                f" t={float(as_time(t).max()):g}: start the grid below T, set eta=0, or use"
                " Ancestral(), which is exact at both ends"
            )
        return coefficient
