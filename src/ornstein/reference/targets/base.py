"""The interface of target densities, and what targets with exact answers have in common."""

__all__ = ["ExactPosterior", "Normalised", "SampledTarget", "Target"]

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import LinearSDE, Time


@runtime_checkable
class Target(Protocol):
    """An unnormalised density rho with a known normaliser: the interface of every target.

    Example:
        >>> isinstance(orn.targets.gmm9(), orn.targets.Target)
        True
    """

    @property
    def dim(self) -> int:
        """The dimension d of the space."""
        ...

    @property
    def log_z(self) -> float:
        """The log of the normaliser, ``log int rho(x) dx``, in nats."""
        ...

    def log_prob(self, x: Tensor, /) -> Tensor:
        """The log-density ``log rho(x)`` in nats, differentiable, in the dtype of x.

        Args:
            x: points ``(b, d)``.
        """
        ...


@runtime_checkable
class SampledTarget(Target, Protocol):
    """A target density from which exact samples can be drawn.

    Example:
        >>> isinstance(orn.targets.gmm9(), orn.targets.SampledTarget)
        True
    """

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n exact samples ``(n, d)``; sample i depends on the seed and on i only.

        Args:
            n: number of samples.
            seed: any integer.
            dtype: of the samples; they are computed in float64.
        """
        ...


class Normalised:
    """A target with a normalised density, for which ``Z = 1``."""

    @property
    def log_z(self) -> float:
        """The log of the normaliser, which is 0 for a normalised density."""
        return 0.0


@dataclass(frozen=True, eq=False)
class ExactPosterior:
    """The exact law of x_0 given x_t for data whose law is known, under a linear SDE.

    Args:
        target: the law of x_0, with ``event_shape`` and ``variance``.
        sde: the process that adds the noise.
    """

    target: Any
    sde: LinearSDE

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one data point."""
        return tuple(self.target.event_shape)

    @property
    def data_std(self) -> float:
        """The root of the mean variance of the coordinates of x_0; 1 if x_0 is constant."""
        return float(self.target.variance.mean().sqrt()) or 1.0

    def __call__(self, x: Tensor, t: Time) -> Gaussian:
        """The mean and the marginal standard deviation of the clean point, like x both.

        Args:
            x: states at time t, ``(b, *event)``.
            t: scalar, or ``(b,)``: one time per sample.
        """
        raise NotImplementedError
