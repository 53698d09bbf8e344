"""Uniformisation: the exponential of a generator matrix as a Poisson mixture of jumps.

It moves densities, ``p' = p Q``, and functions, ``phi' = -Q phi``, in time. Let L be at least every
rate at which the chain leaves a cell. Then ``P = 1 + Q / L`` has no negative entry and

    exp(t Q) = sum_k w_k P^k,    w_k = e^(-L t) (L t)^k / k!                                     (1)

is the law of the chain after a Poisson number of jumps. Nothing negative is ever added, so that
densities stay positive, the mass is constant to rounding and small values have all of their leading
digits; and there is no error in time. It costs ``L t + 10 sqrt(L t)`` products with a sparse
matrix, and L grows like ``D / h^2``. Jensen 1953; Grassmann 1977.
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
    """A method that moves densities over a time in which the generator does not change."""

    def forward(self, q: Generator, density: Array, dt: float) -> Array:
        """Return ``density exp(dt Q)``, of the shape of the cells."""
        ...


@dataclass(frozen=True)
class Uniformisation:
    """The exponential of the generator: exact in time, positive, mass-conserving.

    Args:
        tolerance: terms are left out that sum to less, relative to the largest value.

    Raises:
        OrnsteinError: where more than 1e7 products would be needed.
    """

    tolerance: float = 1e-17

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise OrnsteinError(
                f"Uniformisation(tolerance={self.tolerance}): above 0, far below 1, say 1e-17"
            )

    def forward(self, q: Generator, density: Array, dt: float) -> Array:
        """Return the density ``density exp(dt Q)`` after the time dt."""
        return self._apply(q.forward, q, density, dt)

    def backward(self, q: Generator, function: Array, dt: float) -> Array:
        """Return the function ``exp(dt Q) function``, the time dt earlier."""
        return self._apply(q.backward, q, function, dt)

    def _apply(self, matrix: Any, q: Generator, x: Array, dt: float) -> Array:
        """Return the exponential of a matrix applied to an array of the shape of the cells."""
        # growth is taken out of the matrix and multiplied back at the end
        growth = 0.0 if q.potential is None else max(0.0, -float(q.potential.min()))
        rate = max(float(q.out.max()) + growth, 1e-300)
        if rate * dt > _MAX_PRODUCTS:
            raise OrnsteinError(
                f"uniformisation would multiply with the matrix {rate * dt:.1e} times, at most"
                f" {_MAX_PRODUCTS:.0e}: use FluxLimited() for densities, stationary(), committor()"
                " or mean_first_passage() for the long run, or fewer cells"
            )
        jumps = matrix.copy()
        jumps.data /= rate
        jumps.data[jumps.offsets == 0] += 1 - growth / rate
        weights = _poisson(rate * dt, self.tolerance)
        # the cost of a small matrix is its calls, so take a power of the matrix at once
        matrix_power = jumps
        power = 1
        while matrix_power.data.size < _SMALL and 4 * power**2 < len(weights):
            matrix_power, power = matrix_power @ matrix_power, 2 * power
        weights = np.append(weights, np.zeros(-len(weights) % power)).reshape(-1, power).T
        sums = np.zeros((power, x.size))
        terms = np.empty((_BLOCK, x.size))
        term = x.reshape(-1)
        for first in range(0, weights.shape[1], _BLOCK):
            block = weights[:, first : first + _BLOCK]
            for k in range(block.shape[1]):
                terms[k] = term
                term = matrix_power @ term
            sums += block @ terms[: block.shape[1]]
        total = sums[-1]
        for part in sums[-2::-1]:
            total = part + jumps @ total  # (1), the terms k = r modulo power together
        return math.exp(growth * dt) * total.reshape(x.shape)


UNIFORMISATION = Uniformisation()
"""The default."""

_SMALL = 4000  # entries of a matrix below which a product costs as much as its call
_BLOCK = 16  # terms that are summed in one product
_MAX_PRODUCTS = 1e7  # largest number of products, which would take hours


def _poisson(mean: float, tolerance: float) -> Array:
    """Return the Poisson weights of (1), cut off below the tolerance and summing to 1."""
    nats = -math.log(tolerance)
    # Bernstein's bound on the tail
    last = math.ceil(mean + nats / 3 + math.sqrt(nats**2 / 9 + 2 * nats * mean))
    log = np.zeros(last + 1)
    np.cumsum(math.log(max(mean, 1e-300)) - np.log(np.arange(1, last + 1)), out=log[1:])
    weights: Array = np.exp(log - log.max())
    return weights / weights.sum()
