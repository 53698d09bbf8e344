"""Methods made of methods: steps that take a little noise out too much or put some in, and draw
what is missing.

In ``y = x / alpha`` with ``r = sigma / alpha`` any linear SDE is variance exploding: noise of
variance ``r'^2 - r^2`` carries the law at ratio r to the law at r'. So any deterministic step can
be made stochastic in two ways,

    down:   t -> s' below s by the inner method,  then  x_s  = alpha_s / alpha_s' x_s' + alpha_s sqrt(r_s^2 - r_s'^2) z,  (1)
    churn:  x_t' at t' above t by noising,        then  t' -> s by the inner method.             (2)
"""

__all__ = ["AncestralStep", "Churn", "RePaint"]

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.multistep import Multistep, requires_reverse
from ornstein.core.methods.singlestep import Singlestep
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Method, Step
from ornstein.errors import OrnsteinError


def _require_memoryless(outer: str, inner: Method) -> None:
    """Raise for a multistep method, whose memory the noise between its steps would make wrong."""
    if isinstance(inner, Multistep) and (inner.order > 1 or inner.corrector):
        raise OrnsteinError(
            f"{outer}({inner}): a method that needs no memory, such as Singlestep(),"
            " Ancestral(eta=0) or Multistep(1)"
        )


def _flow(sde: Any) -> Reverse:
    return Reverse(sde.posterior, 0.0)


def _ratio(sde: Reverse, t: Tensor) -> Tensor:
    return (-sde.process.log_snr(t) / 2).exp()


@dataclass(frozen=True)
class AncestralStep(Method):
    """Ancestral version of any one-step method (1): with ``r_s'^2 = r_s^2 - eta^2 r_s^2 (1 - r_s^2
    / r_t^2)``.

    ``AncestralStep(Ancestral(eta=0))`` is "euler_ancestral", ``AncestralStep(Singlestep((0.5,), inf))``
    "dpm_2_ancestral", and ``AncestralStep(Singlestep())`` "dpmpp_2s_ancestral" of k-diffusion. The eta is
    that of the `Reverse`. Weak order that of the inner
    method: both parts of a step keep the marginals.

    Args:
        inner: a method that needs no memory.
    """

    inner: Method = field(default_factory=Singlestep)

    def __post_init__(self) -> None:
        _require_memoryless("AncestralStep", self.inner)

    @property
    def order(self) -> int:
        """The inner method's."""
        return self.inner.order

    def noisy(self, sde: Any) -> bool:
        """If eta > 0."""
        return requires_reverse(self, sde).eta > 0

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses what the steps cannot do."""
        requires_reverse(self, sde).check_step(times[:-1], times[1:], sde.eta)

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (1)."""
        if not sde.eta or sde.ends_clean(s):
            return self.inner.step(_flow(sde), x, t, s, stream, None)._replace(memory=None)
        process, r_s = sde.process, _ratio(sde, s)
        fresh = sde.eta * r_s * process.tau(s, t).sqrt()
        below = process.time(-(r_s.square() - fresh.square()).log()).clamp(max=s)
        step = self.inner.step(_flow(sde), x, t, below, stream, None)
        moved = process.transition(step.x, below, s)
        return Step(
            moved.draw(stream.between(t, s)), lambda: moved, evaluations=step.evaluations
        )  # (1)


@dataclass(frozen=True)
class Churn(Method):
    """The stochastic sampler of EDM (2): before each step the noise-to-signal ratio is raised by
    the factor ``1 + gamma``.

    ``gamma = min(amount / n, sqrt(2) - 1)`` on a grid of n steps, where the ratio lies in ``[low,
    high]``; the noise has standard deviation ``noise``. Weak order that of the inner method where
    ``noise`` is 1. Karras et al. 2022, algorithm 2.

    Args:
        inner: a method that needs no memory.
        amount: S_churn; 0 for none.
        low, high: S_min and S_max, noise-to-signal ratios.
        noise: S_noise.
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
        """The inner method's."""
        return self.inner.order

    def noisy(self, sde: Any) -> bool:
        """If there is any churn."""
        return self.amount > 0

    def start(self, sde: Any, times: Tensor) -> float:
        """gamma."""
        requires_reverse(self, sde).check_step(times[:-1], times[1:], 0.0)
        return min(self.amount / (len(times) - 1), math.sqrt(2) - 1)

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One step (2)."""
        gamma = memory if memory is not None else math.sqrt(2) - 1
        ratio = _ratio(sde, t)
        if gamma and self.low <= float(ratio.min()) and float(ratio.max()) <= self.high:
            process = sde.process
            above = process.time(process.log_snr(t) - 2 * math.log1p(gamma))
            kernel = process.transition(x, t, above)
            x, t = kernel.mean + self.noise * kernel.std * stream.normal(), above
        step = self.inner.step(_flow(sde), x, t, s, stream, None)
        return Step(step.x, memory=gamma, evaluations=step.evaluations)


@dataclass(frozen=True)
class RePaint(Method):
    """Jumps of RePaint: each step ``t -> s`` is taken in ``steps`` parts, noised back to t, and
    taken again, ``times`` times in all.

    Lets conditions that act along the path (a known part of an image, guidance) settle before the
    level falls. With the length of a grid's step as jump length, algorithm 1 of Lugmayr et al.
    2022; Restart sampling (Xu et al. 2023) between two levels.

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
        """The inner method's."""
        return self.inner.order

    def noisy(self, sde: Any) -> bool:
        """If a step is repeated, or the inner method draws."""
        return self.times > 1 or self.inner.noisy(sde)

    def start(self, sde: Any, times: Tensor) -> None:
        """Refuses what the inner method does."""
        self.inner.start(sde, times)

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """All passes of one step."""
        parts, evaluations, start = self._parts(sde, t, s), 0, x
        for turn in range(self.times):
            inner = self.inner.start(sde, parts)
            x = start if turn == 0 else sde.process.transition(x, s, t).draw(stream.normal())
            for a, b in pairwise(parts.unbind()):
                step = self.inner.step(sde, x, a, b, stream, inner)
                x, inner, evaluations = step.x, step.memory, evaluations + step.evaluations
        return Step(x, evaluations=evaluations)

    def _parts(self, sde: Reverse, t: Tensor, s: Tensor) -> Tensor:
        u = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64).reshape(-1, *[1] * t.ndim)
        ends = sde.process.log_snr(torch.stack([t, s]).double())
        parts = (
            sde.process.time(ends[0] + u * (ends[1] - ends[0]))
            if bool(ends.isfinite().all())
            else t + u * (s - t)
        )
        parts[0], parts[-1] = t, s
        return parts
