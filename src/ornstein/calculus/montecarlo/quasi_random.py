"""Random numbers that are chosen to vary less: in pairs, or as points that fill a cube evenly.

Antithetic: sample n + i gets the numbers of sample i with the sign turned. Sobol': the path at the
times ``t_1, ..., t_n`` of the grid is ``B = V sqrt(D) z`` with the eigenvalues D and eigenvectors V
of its covariance ``min(t_i, t_j)``, the largest first, so that the coordinates of the points that
are spread best decide most about the path (principal components; Acworth, Broadie and Glasserman
1998). Points are scrambled at random, so that each is uniform and estimates are unbiased, and
turned normal by ``Phi^-1``.
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

_MOST = SobolEngine.MAXDIM
_HALF_CELL = (
    2.0**-31
)  # points have 30 binary digits: this moves them into the middle of their cells, off 0


@dataclass(frozen=True)
class Mirrored:
    """A `Noise` for 2n samples, the last n mirrors of the first."""

    noise: Noise

    def fold(self, *keys: int) -> "Mirrored":
        """An independent source."""
        return Mirrored(self.noise.fold(*keys))

    def stream_like(self, x: Tensor) -> "_MirroredStream":
        """Draws for x, whose first dimension is even."""
        return _MirroredStream(self.noise.stream_like(x[: len(x) // 2]))


class _MirroredStream(NamedTuple):
    """Its draws; uniform numbers are mirrored at 1/2."""

    half: NormalStream

    def normal(self) -> Tensor:
        return _both(self.half.normal())

    def uniform(self) -> Tensor:
        u = self.half.uniform()
        return torch.cat([u, 1 - u])

    def between(self, t: Tensor, s: Tensor) -> Tensor:
        return self.normal()

    def increment(self, t: Tensor, s: Tensor) -> Tensor:
        return _both(self.half.increment(t, s))

    def area(self, t: Tensor, s: Tensor) -> Tensor:
        return _both(self.half.area(t, s))


def _both(z: Tensor) -> Tensor:
    return torch.cat([z, -z])


@dataclass(frozen=True)
class SobolPaths:
    """Increments over the steps of a grid from scrambled Sobol' points; what a method draws beside
    them is plain.

    Args:
        times: the grid, ``(n + 1,)``.
        noise: names the scrambling.
    """

    times: Tensor
    noise: Noise

    def fold(self, *keys: int) -> "SobolPaths":
        """Another scrambling."""
        return SobolPaths(self.times, self.noise.fold(*keys))

    def stream_like(self, x: Tensor) -> "_SobolStream":
        """Draws for x.

        Raises:
            OrnsteinError: where steps times numbers per step exceed the dimensions that Sobol's
                points have.
        """
        steps, event = len(self.times) - 1, math.prod(x.shape[1:])
        if steps * event > _MOST:
            raise OrnsteinError(
                f"{steps} steps of {event} numbers: Sobol' points have {_MOST} dimensions at most;"
                " take fewer steps"
            )
        seed = int(torch.randint(2**31, (), generator=self.noise.generator()))
        u = (
            SobolEngine(steps * event, scramble=True, seed=seed).draw(len(x), dtype=torch.float64)
            + _HALF_CELL
        )
        z = torch.special.ndtri(u).reshape(len(x), steps, event)
        since = (self.times[1:] - self.times[0]).abs()
        values, vectors = torch.linalg.eigh(torch.minimum(since[:, None], since))
        at = torch.einsum("ik,bke->ibe", (vectors * values.clamp(min=0).sqrt()).flip(1), z)
        steps_of = torch.cat([at[:1], at.diff(dim=0)]).to(x).reshape(steps, *x.shape)
        place = {float(t): k for k, t in enumerate(self.times[:-1])}
        return _SobolStream(steps_of, place, self.noise.fold(1).stream_like(x))


class _SobolStream(NamedTuple):
    """Its draws."""

    steps: Tensor
    place: dict[float, int]
    rest: NormalStream

    def normal(self) -> Tensor:
        return self.rest.normal()

    def uniform(self) -> Tensor:
        return self.rest.uniform()

    def area(self, t: Tensor, s: Tensor) -> Tensor:
        return self.rest.area(t, s)

    def increment(self, t: Tensor, s: Tensor) -> Tensor:
        return self.steps[self.place[float(t)]]

    def between(self, t: Tensor, s: Tensor) -> Tensor:
        return self.increment(t, s) / (s - t).abs().sqrt()
