"""Guidance: functions from posteriors to a posterior. What they return is sampled, weighted and
scored like any other.

Moving the posterior mean is moving the score, ``grad log p = (alpha E[x_0 | x_t] - x_t) /
sigma^2``, so combining scores linearly with weights that sum to 1 is combining means with the same
weights:

    mean = mean_0 + scale (mean_1 - mean_0).                                                     (1)
"""

__all__ = ["Guided", "guide"]

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import LinearSDE, Time
from ornstein.core.processes.reverse import Posterior
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class Guided:
    """Extrapolation (1) away from a weaker posterior; the standard deviation is the stronger
    one's."""

    strong: Posterior
    weak: Posterior
    scale: float

    @property
    def sde(self) -> LinearSDE:
        """The process of both."""
        return self.strong.sde

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        """The event shape of the stronger posterior, if it knows it."""
        return getattr(self.strong, "event_shape", None)

    @property
    def denoiser(self) -> Posterior:
        """The denoiser behind the stronger posterior, whose start law and device hold."""
        return getattr(self.strong, "denoiser", self.strong)

    @property
    def data_std(self) -> float:
        """That of the stronger posterior, 1 if it does not say."""
        return getattr(self.strong, "data_std", 1.0)

    def __call__(self, x: Float[Tensor, "b *event"], t: Time) -> Gaussian:
        """``x_0 | x_t = x`` under guidance: two evaluations."""
        strong, weak = self.strong(x, t), self.weak(x, t)
        return Gaussian(weak.mean + self.scale * (strong.mean - weak.mean), strong.std)  # (1)


def guide(strong: Posterior, weak: Posterior, scale: float) -> Guided:
    """Guidance by a weaker posterior.

    Classifier-free guidance with ``guide(model.given(label=3), model, scale)`` (Ho and Salimans
    2022, eq. 6; their w is scale - 1); autoguidance with a smaller or less trained model as
    ``weak`` (Karras et al. 2024). Scale 1 is the stronger posterior itself.

    Raises:
        OrnsteinError: if the two have different processes.
    """
    if strong.sde != weak.sde:
        raise OrnsteinError(f"guidance needs one process, got {strong.sde} and {weak.sde}")
    return Guided(strong, weak, float(scale))
