"""Parametrisations: what the output of a denoising network means."""

__all__ = ["Parametrisation", "edm", "eps", "score", "v", "x0"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.errors import UnknownNameError

Coefficients = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Parametrisation:
    """What the network's output means: the coefficients ``(skip, out, in)`` of (1).

    Args:
        name: for configurations.
        coefficients: ``(cos, sin, data_std) -> (skip, out, in)``.
        needs_signal: whether the output says nothing about x_0 where alpha = 0.
    """

    name: str
    coefficients: Callable[[Tensor, Tensor, float], Coefficients]
    needs_signal: bool = False


def _in(cos: Tensor, sin: Tensor, d: float) -> Tensor:
    return 1 / torch.hypot(cos * d, sin)  # unit variance into the network


x0 = Parametrisation("x0", lambda cos, sin, d: (0 * cos, 1 + 0 * cos, _in(cos, sin, d)))
"""The network predicts the clean point."""


eps = Parametrisation(
    "eps", lambda cos, sin, d: (1 / cos, -sin / cos, _in(cos, sin, d)), needs_signal=True
)
"""The network predicts the noise, ``eps = (x_t - alpha x_0) / sigma``. Ho et al. 2020, eq. 12."""


score = Parametrisation(
    "score", lambda cos, sin, d: (1 / cos, sin / cos, _in(cos, sin, d)), needs_signal=True
)
"""The network predicts ``sigma grad log p_t``, the score in units of the noise. Song and Ermon
2019, section 4.2."""


v = Parametrisation("v", lambda cos, sin, d: (cos, -sin, _in(cos, sin, d)))
"""The network predicts the velocity ``cos eps - sin x_0`` on the circle. Salimans and Ho 2022,
appendix D."""


edm = Parametrisation(
    "edm",
    lambda cos, sin, d: (
        cos * d**2 * _in(cos, sin, d).square(),
        sin * d * _in(cos, sin, d),
        _in(cos, sin, d),
    ),
)
"""Input, output and target of unit variance; at zero output, the exact posterior of ``N(0, d^2)``.
Karras et al. 2022, table 1."""


PARAMETRISATIONS = {p.name: p for p in (x0, eps, score, v, edm)}


def parametrisation(name: str) -> Parametrisation:
    """The parametrisation of that name, for command lines and configurations."""
    if name not in PARAMETRISATIONS:
        raise UnknownNameError("parametrisation", name, PARAMETRISATIONS)
    return PARAMETRISATIONS[name]
