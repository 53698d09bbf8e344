"""Predictor-corrector sampling: after each step, Langevin moves towards the law at the new level.

The corrections repair errors of the predictor without changing the noise level. A correction is

    x <- x + delta score(x, s) + sqrt(2 delta) z,    delta = 2 (snr sigma_s)^2.                  (1)

With ``|score| ~ |z| / sigma`` the step of (1) is that of Song et al. 2021, algorithm 4 (with alpha
= 1), but it does not mix the samples of a batch through their norms.
"""

__all__ = ["PredictorCorrector"]

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ornstein.core.methods.ancestral import Ancestral
from ornstein.core.methods.base import StochasticMethod
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Method, Step


@dataclass(frozen=True)
class PredictorCorrector(StochasticMethod):
    """Any predictor, followed in each step by Langevin corrections at the new noise level.

    A correction is ``x <- x + delta score(x, s) + sqrt(2 delta) z`` with ``delta = 2 (snr
    sigma_s)^2``. The order is that of the predictor, since corrections only contract. Song et al.
    2021, algorithm 4.

    Args:
        predictor: the method that changes the level.
        corrections: Langevin moves per step, each one evaluation.
        snr: size of a move relative to the noise level, dimensionless.
    """

    predictor: Method = field(default_factory=Ancestral)
    corrections: int = 1
    snr: float = 0.16

    @property
    def order(self) -> int:
        """The order of convergence of the predictor."""
        return self.predictor.order

    def start(self, sde: Any, times: Tensor) -> Any:
        """Return the predictor's memory before the first step."""
        return self.predictor.start(sde, times)

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take one predictor step and its corrections; no correction at a level without noise."""
        step = self.predictor.step(sde, x, t, s, stream, memory)
        corrections = 0 if sde.ends_clean(s) else self.corrections
        delta = per_sample(2 * (self.snr * sde.process.sigma(s)).square(), x)
        x = step.x
        for _ in range(corrections):
            x = x + delta * sde.score(x, s) + (2 * delta).sqrt() * stream.normal()  # (1)
        return Step(x, memory=step.memory, evaluations=step.evaluations + corrections)
