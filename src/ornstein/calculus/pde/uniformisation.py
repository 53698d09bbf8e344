"""How ``p' = p Q`` and ``phi' = -Q phi`` are moved in time.

Uniformisation: let L be at least every rate at which the chain leaves a cell. Then ``P = 1 + Q /
L`` has no negative entry and

    exp(t Q) = sum_k w_k P^k,    w_k = e^(-L t) (L t)^k / k!                                     (1)

is the law of the chain after a Poisson number of jumps. Nothing negative is ever added, so that
densities stay positive, the mass stays to rounding and small values keep their leading digits; and
there is no error in time. It costs ``L t + 10 sqrt(L t)`` products with a sparse matrix, and L
grows like ``D / h^2``. Jensen 1953; Grassmann 1977.
"""

__all__ = ["UNIFORMISATION", "Stepping", "Uniformisation"]

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ornstein.calculus.pde.generator import Array, Generator
from ornstein.errors import OrnsteinError


@runtime_checkable
class Stepping(Protocol):
    """Moves densities over a time in which the generator does not change."""

    def forward(self, q: Generator, density: Array, dt: float) -> Array:
        """``density exp(dt Q)``, of the shape of the cells."""
        ...


@dataclass(frozen=True)
class Uniformisation:
    """The exponential (1): exact in time, positive, mass kept.

    Args:
        tolerance: terms are left out that sum to less, relative to the largest value.

    Raises:
        OrnsteinError: where more than 1e7 products would be needed.
    """

    tolerance: float = 1e-17

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise OrnsteinError(
                f"Uniformisation(tolerance={self.tolerance}): above 0, well below 1, usually 1e-17"
            )

    def forward(self, q: Generator, density: Array, dt: float) -> Array:
        """``density exp(dt Q)``."""
        return self._apply(q.forward, q, density, dt)

    def backward(self, q: Generator, function: Array, dt: float) -> Array:
        """``exp(dt Q) function``."""
        return self._apply(q.backward, q, function, dt)

    def _apply(self, matrix: Any, q: Generator, x: Array, dt: float) -> Array:
        growth = (
            0.0 if q.potential is None else max(0.0, -float(q.potential.min()))
        )  # taken out of the matrix, put back at the end
        rate = max(float(q.out.max()) + growth, 1e-300)
        if rate * dt > _MOST:
            raise OrnsteinError(
                f"uniformisation would multiply with the matrix {rate * dt:.1e} times, at most"
                f" {_MOST:.0e}: use FluxLimited() for densities, stationary(), committor() or"
                " mean_first_passage() for the long run, or fewer cells"
            )
        one = matrix.copy()
        one.data /= rate
        one.data[one.offsets == 0] += 1 - growth / rate
        weights = _poisson(rate * dt, self.tolerance)
        many, power = one, 1
        while many.data.size < _SMALL and 4 * power**2 < len(
            weights
        ):  # small matrices cost their calls: jump several times at once
            many, power = many @ many, 2 * power
        weights = np.append(weights, np.zeros(-len(weights) % power)).reshape(-1, power).T
        sums, term, terms = np.zeros((power, x.size)), x.reshape(-1), np.empty((_BLOCK, x.size))
        for first in range(0, weights.shape[1], _BLOCK):
            block = weights[:, first : first + _BLOCK]
            for k in range(block.shape[1]):
                terms[k] = term
                term = many @ term
            sums += block @ terms[: block.shape[1]]
        total = sums[-1]
        for part in sums[-2::-1]:
            total = part + one @ total  # (1), the terms k = r modulo power together
        return math.exp(growth * dt) * total.reshape(x.shape)


UNIFORMISATION = Uniformisation()
"""The default."""

_SMALL, _BLOCK, _MOST = 4000, 16, 1e7


def _poisson(mean: float, tolerance: float) -> Array:
    """The weights of (1), summing to 1, without the right tail, which is below the tolerance."""
    nats = -math.log(tolerance)
    last = math.ceil(
        mean + nats / 3 + math.sqrt(nats**2 / 9 + 2 * nats * mean)
    )  # Bernstein's bound on the tail
    log = np.zeros(last + 1)
    np.cumsum(math.log(max(mean, 1e-300)) - np.log(np.arange(1, last + 1)), out=log[1:])
    weights: Array = np.exp(log - log.max())
    return weights / weights.sum()
