"""Exact transition kernels as methods: ancestral sampling towards the data, and noising.

Ancestral sampling draws from ``p(x_s | x_t) = int q(x_s | x_t, x_0) p(x_0 | x_t) dx_0``, with the
model's Gaussian for ``p(x_0 | x_t)``; see eq. 3 of `ornstein.core.processes.linear`. There is no
discretisation in time: the only error of a step is that the posterior is no Gaussian. It is the
sampler of DDPM and DDIM, and the kernel of the importance weights of this library.
"""

__all__ = ["Ancestral", "ForwardTransition"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.methods.base import StochasticMethod, require_reverse
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Method, Step


@dataclass(frozen=True)
class Ancestral(Method):
    """Ancestral sampling: DDPM at ``Reverse(model, eta=1)``, DDIM at ``eta=0``.

    Works for any s < t and any eta in between. Order 1 in the ODE; weak order 1, and 2 in one
    dimension with eta = 1 and the posterior's exact std (measured). Ho et al. 2020, algorithm 2;
    Song et al. 2021 (DDIM), eq. 12; the step variance is that of Bao et al. 2022 (Analytic-DPM),
    eq. 8, when the posterior's std is right.

    Args:
        eta: overrides that of the `Reverse` process; None for that of the process.

    Example:
        >>> data = orn.targets.GaussianMixture(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1))
        >>> posterior = data.posterior(orn.VP())
        >>> times = orn.VP().times(20)
        >>> x = torch.randn(5, 2)
        >>> orn.simulate(orn.Reverse(posterior), x, times, orn.Ancestral(), orn.Noise(0)).shape
        torch.Size([5, 2])
    """

    eta: float | None = None
    order: int = 1

    def _eta(self, sde: Any) -> float:
        """Return the eta in use, or raise for other equations than `Reverse`."""
        reverse = require_reverse(self, sde)
        return reverse.eta if self.eta is None else self.eta

    def noisy(self, sde: Any) -> bool:
        """Return True if the eta in use is positive."""
        return self._eta(sde) > 0

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Draw once from the exact kernel; return its mean for eta = 0."""
        eta = self._eta(sde)
        sde.check_step(t, s, eta)
        kernel = sde.process.posterior(x, sde.posterior(x, t), s, t, eta)
        return Step(kernel.draw(stream.between(t, s)), lambda: kernel) if eta else Step(kernel.mean)


@dataclass(frozen=True)
class ForwardTransition(StochasticMethod):
    """The exact transition of a process on an increasing grid of times: noising without error.

    For a `LinearSDE`, or another process that has a ``transition(x, t, s)``, such as those of
    `ornstein.laws`.
    """

    order: int = 1

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Draw ``x_s | x_t`` for s > t; the first normal number is the Brownian increment's."""
        law = sde.transition(x, t, s)
        z = stream.between(t, s), *(stream.normal() for _ in range(getattr(sde, "numbers", 1) - 1))
        return Step(
            law.draw(*z), (lambda: law) if isinstance(law, Gaussian) else None, evaluations=0
        )
