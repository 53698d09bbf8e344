"""Which method solves which equation, and with which order: a table that methods consult, and that
the tests hold them to.

An equation is meant in Ito's or in Stratonovich's sense and driven by one of four kinds of noise
(`ornstein.core.processes.noise_type`). Strong order p: ``E|X_T - x_T| = O(h^p)`` on one path; weak
order q: ``E f(X_T) - E f(x_T) = O(h^q)``. With additive noise the senses agree.
"""

__all__ = ["FITS", "Fit", "calculus", "require_fit", "strong_order"]

from typing import Any, NamedTuple

from ornstein.core.processes.noise_type import ADDITIVE, NOISE_TYPES, driving
from ornstein.errors import OrnsteinError

ITO, STRATONOVICH = ("ito",), ("stratonovich",)
BOTH = ITO + STRATONOVICH


class Fit(NamedTuple):
    """What a method solves.

    Attributes:
        calculi: senses of the equation.
        strong: order for each kind of noise; the kinds that are missing are refused.
        weak: order, the least over the kinds of noise.
    """

    calculi: tuple[str, ...]
    strong: dict[str, float]
    weak: float


_HALF = {"additive": 1.0, "diagonal": 0.5, "scalar": 0.5, "general": 0.5}
_ONE = {"additive": 1.0, "diagonal": 1.0, "scalar": 1.0}
_COMMUTING = _ONE | {"general": 0.5}
_THREE_HALVES = {"additive": 1.5, "diagonal": 1.5, "scalar": 1.5}

FITS: dict[str, Fit] = {
    "EulerMaruyama": Fit(ITO, _HALF, 1),
    "TamedEuler": Fit(ITO, _HALF, 1),
    "ImplicitEuler": Fit(ITO, _HALF, 1),
    "ExponentialEuler": Fit(ITO, _HALF, 1),
    "Milstein": Fit(BOTH, _ONE, 1),
    "SRK": Fit(ITO, _THREE_HALVES, 1.5),
    "PlatenWeak2": Fit(ITO, _ONE, 2),
    "EulerHeun": Fit(STRATONOVICH, _COMMUTING, 1),
    "StratonovichHeun": Fit(STRATONOVICH, _COMMUTING, 1),
    "StratonovichMidpoint": Fit(STRATONOVICH, _COMMUTING, 1),
    "ReversibleHeun": Fit(STRATONOVICH, _COMMUTING, 1),
    "LogODE": Fit(STRATONOVICH, _THREE_HALVES | {"general": 0.5}, 1),
}  # fmt: skip
"""By the name of the method; methods that are not here solve ODEs, or one process of the
library."""


def calculus(sde: Any) -> str:
    """In which sense an equation is meant; Ito's where it does not say."""
    return getattr(sde, "calculus", "ito")


def kind(sde: Any) -> str:
    """Name of the noise."""
    found = driving(sde)
    return next(name for name, value in NOISE_TYPES.items() if value == found)


def strong_order(method: Any, sde: Any) -> float:
    """Of a method on an equation."""
    return FITS[type(method).__name__].strong[kind(sde)]


def require_fit(method: Any, sde: Any) -> None:
    """Raise unless the method solves the equation.

    Raises:
        OrnsteinError: with the methods that do.
    """
    sense, noise = calculus(sde), kind(sde)

    def fits(fit: Fit) -> bool:
        return noise in fit.strong and (sense in fit.calculi or driving(sde) == ADDITIVE)

    if not fits(FITS[type(method).__name__]):
        others = ", ".join(name for name, fit in FITS.items() if fits(fit))
        raise OrnsteinError(
            f"{method} does not solve {sense} equations with {noise} noise: those that do are"
            f" {others}"
        )
