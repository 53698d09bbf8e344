"""Exact kernels: of a linear SDE towards the data, with a posterior; of any process that knows its
transition, onwards.

Generating, ``x_s ~ int q(x_s | x_t, x_0) p(x_0 | x_t) dx_0`` with the model's Gaussian ``p(x_0 |
x_t)``; see eq. 3 of `ornstein.core.processes.linear`. No discretisation in time: the only error of
a step is that the posterior is no Gaussian.
"""

__all__ = ["Ancestral", "ForwardTransition"]

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Method, Step
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class Ancestral(Method):
    """Ancestral sampling for any s < t: DDPM at ``Reverse(model, eta=1)``, DDIM at ``eta=0``, in
    between with ``eta``.

    Order 1 in the ODE; weak order 1, and 2 in one dimension with eta = 1 and the posterior's exact
    std (measured). Ho et al. 2020, algorithm 2; Song et al. 2021 (DDIM), eq. 12; the step variance
    is that of Bao et al. 2022 (Analytic-DPM), eq. 8, when the posterior's std is right.

    Args:
        eta: overrides that of the `Reverse` process; None keeps it.
    """

    eta: float | None = None
    order: int = 1

    def _eta(self, sde: Any) -> float:
        if not isinstance(sde, Reverse):
            raise OrnsteinError(
                f"Ancestral() solves orn.Reverse(posterior), got {type(sde).__name__}: use"
                " EulerMaruyama()"
            )
        return sde.eta if self.eta is None else self.eta

    def noisy(self, sde: Any) -> bool:
        """If eta > 0."""
        return self._eta(sde) > 0

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One draw from the exact kernel."""
        eta = self._eta(sde)
        sde.check_step(t, s, eta)
        kernel = sde.process.posterior(x, sde.posterior(x, t), s, t, eta)
        return Step(kernel.draw(stream.between(t, s)), lambda: kernel) if eta else Step(kernel.mean)


@dataclass(frozen=True)
class ForwardTransition(Method):
    """The transition of a `LinearSDE`, or of another process of `ornstein.laws`, on an increasing
    grid: exact for any step."""

    order: int = 1

    def noisy(self, sde: Any) -> bool:
        """Always."""
        return True

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """One draw of ``x_s | x_t`` for s > t. The first number of an entry is that of the step's
        Brownian increment."""
        law = sde.transition(x, t, s)
        z = stream.between(t, s), *(stream.normal() for _ in range(getattr(sde, "numbers", 1) - 1))
        return Step(
            law.draw(*z), (lambda: law) if isinstance(law, Gaussian) else None, evaluations=0
        )
