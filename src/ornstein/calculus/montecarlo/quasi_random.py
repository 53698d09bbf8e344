"""Random numbers with smaller variance than independent ones: antithetic pairs and Sobol' points.

Antithetic: sample n + i gets the numbers of sample i with the sign turned. Sobol': the path at the
times ``t_1, ..., t_n`` of the grid is ``B = V sqrt(D) z`` with the eigenvalues D and eigenvectors V
of its covariance ``min(t_i, t_j)``, the largest first, so that the coordinates of the points that
are distributed best determine most of the path (principal components; Acworth, Broadie and
Glasserman 1998). Points are scrambled at random, so that each is uniform and estimates are
unbiased, and turned normal by ``Phi^-1``.
"""

__all__ = ["Mirrored", "SobolPaths"]

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from ornstein.core.random.noise import Noise, NormalStream
from ornstein.errors import OrnsteinError

_MAX_DIMENSIONS = SobolEngine.MAXDIM
# points have 30 binary digits: this moves them into the middle of their cells, away from 0
_HALF_CELL = 2.0**-31
_OTHER_DRAWS = 1  # key of the numbers that a method draws besides increments


@dataclass(frozen=True)
class Mirrored:
    """A noise source for 2n samples, of which the last n are mirrors of the first."""

    noise: Noise

    def fold(self, *keys: int) -> "Mirrored":
        """Return an independent source of the same kind."""
        return Mirrored(self.noise.fold(*keys))

    def stream_like(self, x: Tensor) -> "_MirroredStream":
        """Return a stream of draws for x, whose first dimension is even."""
        return _MirroredStream(self.noise.stream_like(x[: len(x) // 2]))


class _MirroredStream(NamedTuple):
    """The random numbers of one antithetic simulation; uniform numbers are mirrored at 1/2."""

    half: NormalStream

    def normal(self) -> Tensor:
        return _with_mirror(self.half.normal())

    def uniform(self) -> Tensor:
        u = self.half.uniform()
        return torch.cat([u, 1 - u])

    def between(self, t: Tensor, s: Tensor) -> Tensor:
        return self.normal()

    def increment(self, t: Tensor, s: Tensor) -> Tensor:
        return _with_mirror(self.half.increment(t, s))

    def area(self, t: Tensor, s: Tensor) -> Tensor:
        return _with_mirror(self.half.area(t, s))


def _with_mirror(z: Tensor) -> Tensor:
    """Return the numbers followed by their negatives."""
    return torch.cat([z, -z])


@dataclass(frozen=True)
class SobolPaths:
    """A noise source of increments over the steps of a grid, from scrambled Sobol' points.

    All other draws of a method are plain.

    Args:
        times: the grid, ``(n + 1,)``.
        noise: determines the scrambling.
    """

    times: Tensor
    noise: Noise

    def fold(self, *keys: int) -> "SobolPaths":
        """Return the source of another scrambling."""
        return SobolPaths(self.times, self.noise.fold(*keys))

    def stream_like(self, x: Tensor) -> "_SobolStream":
        """Return a stream of draws for x, whose samples are the points.

        Raises:
            OrnsteinError: where steps times numbers per step exceed the number of dimensions of
                Sobol' points.
        """
        steps = len(self.times) - 1
        event = math.prod(x.shape[1:])
        if steps * event > _MAX_DIMENSIONS:
            raise OrnsteinError(
                f"{steps} steps of {event} numbers: Sobol' points have {_MAX_DIMENSIONS}"
                " dimensions at most; take fewer steps"
            )
        seed = int(torch.randint(2**31, (), generator=self.noise.generator()))
        points = SobolEngine(steps * event, scramble=True, seed=seed)
        u = points.draw(len(x), dtype=torch.float64) + _HALF_CELL
        z = torch.special.ndtri(u).reshape(len(x), steps, event)
        since = (self.times[1:] - self.times[0]).abs()
        values, vectors = torch.linalg.eigh(torch.minimum(since[:, None], since))
        factor = (vectors * values.clamp(min=0).sqrt()).flip(1)
        path = torch.einsum("ik,bke->ibe", factor, z)
        increments = torch.cat([path[:1], path.diff(dim=0)]).to(x).reshape(steps, *x.shape)
        step_of = {float(t): k for k, t in enumerate(self.times[:-1])}
        other = self.noise.fold(_OTHER_DRAWS).stream_like(x)
        return _SobolStream(increments, step_of, other)


class _SobolStream(NamedTuple):
    """The random numbers of one simulation: increments from Sobol' points, others pseudo-random."""

    increments: Tensor
    step_of: dict[float, int]
    other: NormalStream

    def normal(self) -> Tensor:
        return self.other.normal()

    def uniform(self) -> Tensor:
        return self.other.uniform()

    def area(self, t: Tensor, s: Tensor) -> Tensor:
        return self.other.area(t, s)

    def increment(self, t: Tensor, s: Tensor) -> Tensor:
        return self.increments[self.step_of[float(t)]]

    def between(self, t: Tensor, s: Tensor) -> Tensor:
        return self.increment(t, s) / (s - t).abs().sqrt()
