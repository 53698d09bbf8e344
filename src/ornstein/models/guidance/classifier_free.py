"""Classifier-free guidance: combine two posteriors so that samples follow a condition more.

Moving the posterior mean is moving the score, ``grad log p = (alpha E[x_0 | x_t] - x_t) /
sigma^2``, so combining scores linearly with weights that sum to 1 is combining means with the same
weights:

    mean = mean_weak + scale (mean_strong - mean_weak).                                          (1)

The result is a posterior, which is sampled, weighted and scored like any other.
"""

__all__ = ["Guided", "guide"]

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import LinearSDE, Time
from ornstein.core.processes.reverse import Posterior
from ornstein.errors import OrnsteinError
from ornstein.models.posterior import PosteriorBase, attributes


@dataclass(frozen=True)
class Guided(PosteriorBase):
    """A posterior extrapolated away from a weaker one, with the stronger posterior's std.

    Args:
        strong, weak: posteriors of one process.
        scale: 1 is the stronger posterior, 0 the weaker, above 1 is guidance.
    """

    strong: Posterior
    weak: Posterior
    scale: float

    @property
    def sde(self) -> LinearSDE:  # type: ignore[override]
        """The process of both posteriors."""
        return self.strong.sde

    @property
    def event_shape(self) -> tuple[int, ...] | None:  # type: ignore[override]
        """The event shape of the stronger posterior, None where it is not determined."""
        return attributes(self.strong).event_shape

    @property
    def data_std(self) -> float:  # type: ignore[override]
        """The standard deviation of the data of the stronger posterior."""
        return attributes(self.strong).data_std

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type in which the stronger posterior computes."""
        return attributes(self.strong).dtype

    @property
    def device(self) -> torch.device:
        """The device on which the stronger posterior computes."""
        return attributes(self.strong).device

    def __call__(self, x: Float[Tensor, "b *event"], t: Time) -> Gaussian:
        """Return ``x_0 | x_t = x`` under guidance, by an evaluation of each posterior.

        Args:
            x: noisy samples, ``(b, *event)``.
            t: a time for all, or one per sample.
        """
        strong, weak = self.strong(x, t), self.weak(x, t)
        return Gaussian(weak.mean + self.scale * (strong.mean - weak.mean), strong.std)  # (1)


def guide(strong: Posterior, weak: Posterior, scale: float) -> Guided:
    """Return the posterior that is guided away from a weaker one.

    Classifier-free guidance is ``guide(denoiser.given(label=3), denoiser, scale)`` (Ho and
    Salimans 2022, eq. 6; their w is scale - 1), autoguidance has a smaller or less trained model as
    ``weak`` (Karras et al. 2024).

    Args:
        strong, weak: posteriors of one process.
        scale: 1 is the stronger posterior itself; a finite number.

    Raises:
        OrnsteinError: if the two have different processes, or the scale is not finite.

    Example:
        >>> target = orn.targets.Normal(torch.ones(2), torch.ones(2))
        >>> strong = target.posterior(orn.VP())
        >>> orn.guide(strong, strong, 2.0)(torch.zeros(3, 2), 0.5).mean.shape
        torch.Size([3, 2])
    """
    if strong.sde != weak.sde:
        raise OrnsteinError(f"guidance needs one process, got {strong.sde} and {weak.sde}")
    if not torch.isfinite(torch.tensor(float(scale))):
        raise OrnsteinError(f"guidance={scale}: a finite number, usually 1 to 5")
    return Guided(strong, weak, float(scale))
