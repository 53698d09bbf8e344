"""Convert a stochastic differential equation between Ito's and Stratonovich's calculus.

Read in Stratonovich's sense, an equation with the diffusion columns g_k has the same solutions as
an equation in Ito's sense with another drift,

    a_Stratonovich = a_Ito - 1/2 sum_k (D g_k) g_k.                                              (1)

Oksendal 2003 (Stochastic Differential Equations), equation 3.3.6.
"""

__all__ = ["Correction", "to_ito", "to_stratonovich"]

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ornstein.calculus.integrals.derivatives import columns, directional_derivative, noise_type_of
from ornstein.core.methods.base import calculus_of
from ornstein.core.processes.linear import Time
from ornstein.core.processes.noise_type import NOISE_TYPES, NoiseType, driving
from ornstein.core.processes.sde import Equation


@dataclass(frozen=True)
class Correction:
    """An equation in Stratonovich's sense made of one in Ito's, or the reverse.

    Its drift is that of the given equation plus ``factor * sum_k (D g_k) g_k``; its diffusion is
    the same. Made by `to_stratonovich` and `to_ito`.

    Args:
        sde: the given equation.
        factor: -1/2 to Stratonovich's sense, 1/2 to Ito's.
    """

    sde: Equation
    factor: float

    @property
    def calculus(self) -> str:
        """The sense of this equation: "stratonovich" for a factor of -1/2, else "ito"."""
        return "stratonovich" if self.factor < 0 else "ito"

    @property
    def noise(self) -> str:
        """The name of the noise type of the given equation, such as "diagonal"."""
        noise = noise_type_of(self.sde)
        return next(name for name, value in NOISE_TYPES.items() if value == noise)

    @property
    def driving(self) -> NoiseType:
        """The noise type of the given equation, as an object."""
        return driving(self.sde) if hasattr(self.sde, "driving") else noise_type_of(self.sde)

    @property
    def deterministic(self) -> bool:
        """Whether the given equation has no noise."""
        return getattr(self.sde, "deterministic", False)

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """Return the corrected drift ``a + factor * sum_k (D g_k) g_k``."""
        total = self.sde.drift(x, t)
        for k, g in enumerate(columns(self.sde, x, t)):
            column = partial(self._column, k, t)
            total = total + self.factor * directional_derivative(column, x, g)  # (1)
        return total

    def _column(self, k: int, t: Time, x: Tensor) -> Tensor:
        """Return column k of the diffusion at x."""
        return columns(self.sde, x, t)[k]

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """Return the diffusion of the given equation."""
        return self.sde.diffusion(x, t)


def to_stratonovich(sde: Equation) -> Equation:
    """Return the Stratonovich equation that has the same solutions as an Ito equation.

    From Ito's drift ``1/2 sum_k (D g_k) g_k`` is subtracted. The attribute `calculus` of an
    equation says in which sense it is meant; without it the sense is Ito's.

    Args:
        sde: an equation in either sense.
    """
    if calculus_of(sde) == "stratonovich":
        return sde
    return sde.sde if isinstance(sde, Correction) else Correction(sde, -0.5)


def to_ito(sde: Equation) -> Equation:
    """Return the Ito equation that has the same solutions as a Stratonovich equation.

    The inverse of `to_stratonovich`.

    Args:
        sde: an equation in either sense.
    """
    if calculus_of(sde) == "ito":
        return sde
    return sde.sde if isinstance(sde, Correction) else Correction(sde, 0.5)
