"""Parametrisations: which quantity the output of a denoising network predicts.

With the polar form of the process (``alpha = cos / k``, ``sigma = sin / k``, see
`LinearSDE.polar`) and data of standard deviation d, a parametrisation is three functions of
``(cos, sin, d)``, the coefficients in

    E[x_0 | x_t] = skip y + out net(in y, c),    y = k x_t.                                      (1)

Karras et al. 2022, eq. 7. In all of them ``in`` gives the network an input of unit variance.
"""

__all__ = ["Parametrisation", "edm", "eps", "score", "v", "x0"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.errors import look_up

Coefficients = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Parametrisation:
    """The quantity that a network predicts, as coefficients of the posterior mean.

    Args:
        name: for configurations.
        coefficients: the function ``(cos, sin, data_std) -> (skip, out, in)``.
        needs_signal: whether the output says nothing about x_0 where alpha = 0.
    """

    name: str
    coefficients: Callable[[Tensor, Tensor, float], Coefficients]
    needs_signal: bool = False


def unit_input(cos: Tensor, sin: Tensor, d: float) -> Tensor:
    """Return the factor ``1 / sqrt(cos^2 d^2 + sin^2)`` that gives inputs unit variance."""
    return 1 / torch.hypot(cos * d, sin)


def _x0(cos: Tensor, sin: Tensor, d: float) -> Coefficients:
    """Return the coefficients of the parametrisation `x0`."""
    return 0 * cos, 1 + 0 * cos, unit_input(cos, sin, d)


def _eps(cos: Tensor, sin: Tensor, d: float) -> Coefficients:
    """Return the coefficients of the parametrisation `eps`."""
    return 1 / cos, -sin / cos, unit_input(cos, sin, d)


def _score(cos: Tensor, sin: Tensor, d: float) -> Coefficients:
    """Return the coefficients of the parametrisation `score`."""
    return 1 / cos, sin / cos, unit_input(cos, sin, d)


def _v(cos: Tensor, sin: Tensor, d: float) -> Coefficients:
    """Return the coefficients of the parametrisation `v`."""
    return cos, -sin, unit_input(cos, sin, d)


def _edm(cos: Tensor, sin: Tensor, d: float) -> Coefficients:
    """Return the coefficients of the parametrisation `edm`."""
    into = unit_input(cos, sin, d)
    return cos * d**2 * into.square(), sin * d * into, into


x0 = Parametrisation("x0", _x0)
"""The network predicts the clean point x_0."""


eps = Parametrisation("eps", _eps, needs_signal=True)
"""The network predicts the noise, ``eps = (x_t - alpha x_0) / sigma``. Ho et al. 2020, eq. 12."""


score = Parametrisation("score", _score, needs_signal=True)
"""The network predicts ``sigma grad log p_t``, the score in units of the noise. Song and Ermon
2019, section 4.2."""


v = Parametrisation("v", _v)
"""The network predicts the velocity ``cos eps - sin x_0`` on the circle. Salimans and Ho 2022,
appendix D."""


edm = Parametrisation("edm", _edm)
"""Input, output and target have unit variance; with zero output, the exact posterior of
``N(0, d^2)``. Karras et al. 2022, table 1."""


PARAMETRISATIONS = {p.name: p for p in (x0, eps, score, v, edm)}


def parametrisation(name: str) -> Parametrisation:
    """Return the parametrisation of a given name, for command lines and configurations.

    Raises:
        UnknownNameError: for a name that no parametrisation has.
    """
    return look_up("parametrisation", name, PARAMETRISATIONS)
