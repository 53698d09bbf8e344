"""Samplers that make a deterministic method stochastic by adding noise before or after a step.

The noise corrects errors of earlier steps, for it carries every law towards the right one. In ``y =
x / alpha`` with ``r = sigma / alpha`` any linear SDE is variance exploding: noise of variance
``r'^2 - r^2`` carries the law at ratio r to the law at r'. So a deterministic step from t to s can
be
extended in two ways: go below s and add noise (ancestral samplers), or add noise and start above t
(the churn of EDM),

    t -> s' < s by the inner method,
        x_s = alpha_s / alpha_s' x_s' + alpha_s sqrt(r_s^2 - r_s'^2) z;                          (1)
    x_t' at t' > t by noising,        t' -> s by the inner method.                               (2)

A third way repeats whole steps (RePaint).
"""

__all__ = ["AncestralStep", "Churn", "RePaint"]

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.base import ReverseMethod, require_reverse
from ornstein.core.methods.multistep import Multistep
from ornstein.core.methods.singlestep import Singlestep
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Method, Step
from ornstein.errors import OrnsteinError

_MAX_GAMMA = math.sqrt(2) - 1  # Karras et al. 2022, algorithm 2: at most a doubled noise variance
_LEVEL_TOLERANCE = 1e-3  # relative, between a noise-to-signal ratio and that of its time


def _require_memoryless(outer: str, inner: Method) -> None:
    """Raise for a multistep method, whose past evaluations noise would make wrong."""
    if isinstance(inner, Multistep) and (inner.order > 1 or inner.corrector):
        raise OrnsteinError(
            f"{outer}({inner}): a method that needs no memory, such as Singlestep(),"
            " Ancestral(eta=0) or Multistep(1)"
        )


def _flow(sde: Any) -> Reverse:
    """Return the probability-flow ODE of a generating process."""
    return Reverse(sde.posterior, 0.0)


@dataclass(frozen=True)
class AncestralStep(ReverseMethod):
    """The ancestral version of a one-step method: step below the next level, then add noise.

    The step of the inner method ends at the ratio ``r_s'^2 = r_s^2 - eta^2 r_s^2 (1 - r_s^2 /
    r_t^2)``, with the eta of the `Reverse` process. ``AncestralStep(Ancestral(eta=0))`` is
    "euler_ancestral", ``AncestralStep(Singlestep((0.5,), inf))`` "dpm_2_ancestral", and
    ``AncestralStep(Singlestep())`` "dpmpp_2s_ancestral" of k-diffusion. The weak order is that of
    the
    inner method: both parts of a step preserve the marginals.

    Args:
        inner: a method that needs no memory.
    """

    inner: Method = field(default_factory=Singlestep)

    def __post_init__(self) -> None:
        _require_memoryless("AncestralStep", self.inner)

    @property
    def order(self) -> int:
        """The order of convergence of the inner method."""
        return self.inner.order

    def start(self, sde: Any, times: Tensor) -> None:
        """Raise for a grid with a step that the process does not allow."""
        require_reverse(self, sde).check_step(times[:-1], times[1:], sde.eta)

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one step of the inner method below s, and add the noise up to s."""
        if not sde.eta or sde.ends_clean(s):
            return self.inner.step(_flow(sde), x, t, s, stream, None)._replace(memory=None)
        process = sde.process
        r_s = process.ratio(s)
        fresh = sde.eta * r_s * process.tau(s, t).sqrt()
        below = process.time(-(r_s.square() - fresh.square()).log()).clamp(max=s)
        step = self.inner.step(_flow(sde), x, t, below, stream, None)
        kernel = process.transition(step.x, below, s)
        y = kernel.draw(stream.between(t, s))
        return Step(y, lambda: kernel, evaluations=step.evaluations)  # (1)


@dataclass(frozen=True)
class Churn(Method):
    """The stochastic sampler of EDM: noise is added before each step of the inner method.

    Before a step the noise-to-signal ratio is raised by the factor ``1 + gamma``, ``gamma =
    min(amount / n, sqrt(2) - 1)`` on a grid of n steps, where the ratio lies in ``[low, high]``;
    the noise has standard deviation ``noise``. The weak order is that of the inner method where
    ``noise`` is 1. Karras et al. 2022, algorithm 2.

    Args:
        inner: a method that needs no memory.
        amount: S_churn; 0 for none.
        low, high: S_min and S_max, noise-to-signal ratios.
        noise: S_noise.

    Raises:
        OrnsteinError: for values out of range, or if the raised level of a step lies beyond the end
            T of the process.
    """

    inner: Method
    amount: float = 40.0
    low: float = 0.05
    high: float = 50.0
    noise: float = 1.003

    def __post_init__(self) -> None:
        _require_memoryless("Churn", self.inner)
        if not (self.amount >= 0 and 0 <= self.low <= self.high and self.noise >= 0):
            raise OrnsteinError(f"{self}: amount and noise not negative, 0 <= low <= high")

    @property
    def order(self) -> int:
        """The order of convergence of the inner method."""
        return self.inner.order

    def noisy(self, sde: Any) -> bool:
        """Return True if the amount of noise is positive."""
        return self.amount > 0

    def start(self, sde: Any, times: Tensor) -> float:
        """Return the factors gamma of the noise, after checking that no step is raised beyond T."""
        reverse = require_reverse(self, sde)
        reverse.check_step(times[:-1], times[1:], 0.0)
        gamma = min(self.amount / (len(times) - 1), _MAX_GAMMA)
        process = reverse.process
        ratios = process.ratio(times[:-1]).reshape(len(times) - 1, -1)
        raised = ratios[self._applies(ratios)] * (1 + gamma)
        reached = process.ratio(process.time(-2 * raised.log()))
        bad = ~((reached / raised - 1).abs() <= _LEVEL_TOLERANCE)  # true for NaN as well
        if gamma and bool(bad.any()):
            largest = float(process.ratio(process.T))
            raise OrnsteinError(
                f"Churn(high={self.high:g}): a noise-to-signal ratio of"
                f" {float(raised.max()) / (1 + gamma):.4g} is raised by the factor {1 + gamma:.4g},"
                f" beyond {largest:.4g}, where {type(process).__name__} ends: choose high below"
                f" {largest / (1 + gamma):.4g}"
            )
        return gamma

    def _applies(self, ratios: Tensor) -> Tensor:
        """Return for each level ``(n, b)`` whether noise is added, between ``low`` and ``high``."""
        return (self.low <= ratios.amin(1)) & (ratios.amax(1) <= self.high)

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Add the noise up to t' and take one step of the inner method from there to s."""
        gamma = memory if memory is not None else _MAX_GAMMA
        ratio = sde.process.ratio(t)
        if gamma and bool(self._applies(ratio.reshape(1, -1))):
            process = sde.process
            above = process.time(process.log_snr(t) - 2 * math.log1p(gamma))
            kernel = process.transition(x, t, above)
            x, t = kernel.mean + self.noise * kernel.std * stream.normal(), above
        step = self.inner.step(_flow(sde), x, t, s, stream, None)
        return Step(step.x, memory=gamma, evaluations=step.evaluations)


@dataclass(frozen=True)
class RePaint(Method):
    """The resampling of RePaint: each step is repeated, after noise that leads back to its start.

    A step ``t -> s`` is taken in ``steps`` parts, then noise carries s back to t, ``times`` passes
    in all. This lets conditions that act on the path (an observed part of an image, guidance)
    settle before the level falls. With the length of a grid's step as jump length it is algorithm 1
    of Lugmayr et al. 2022; between two levels it is Restart sampling (Xu et al. 2023).

    Args:
        inner: the method of the parts.
        times: passes through each step, at least 1.
        steps: parts of a step, even in the log-SNR where it is finite, else in time.
    """

    inner: Method
    times: int = 2
    steps: int = 1

    def __post_init__(self) -> None:
        if self.times < 1 or self.steps < 1:
            raise OrnsteinError(f"{self}: times and steps are at least 1")

    @property
    def order(self) -> int:
        """The order of convergence of the inner method."""
        return self.inner.order

    def noisy(self, sde: Any) -> bool:
        """Return True if a step is repeated, or if the inner method draws noise."""
        return self.times > 1 or self.inner.noisy(sde)

    def start(self, sde: Any, times: Tensor) -> None:
        """Raise where the inner method refuses the equation or the grid."""
        self.inner.start(sde, times)

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one step of the grid as often as the method repeats, with noising in between."""
        parts = self._parts(sde, t, s)
        evaluations = 0
        for number in range(self.times):
            inner = self.inner.start(sde, parts)
            x = x if number == 0 else sde.process.transition(x, s, t).draw(stream.normal())
            for a, b in pairwise(parts.unbind()):
                step = self.inner.step(sde, x, a, b, stream, inner)
                x, inner, evaluations = step.x, step.memory, evaluations + step.evaluations
        return Step(x, evaluations=evaluations)

    def _parts(self, sde: Reverse, t: Tensor, s: Tensor) -> Tensor:
        """Return the times of the parts of a step, ``(steps + 1, *batch)``."""
        u = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64).reshape(-1, *[1] * t.ndim)
        ends = sde.process.log_snr(torch.stack([t, s]).double())
        parts = (
            sde.process.time(ends[0] + u * (ends[1] - ends[0]))
            if bool(ends.isfinite().all())
            else t + u * (s - t)
        )
        parts[0], parts[-1] = t, s
        return parts
