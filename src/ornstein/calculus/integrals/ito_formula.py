"""Ito's formula, the generator and its adjoint, and Ito-Stratonovich conversion, by autodiff.

For ``dX = a(X, t) dt + sum_k g_k(X, t) dB_k`` with the columns g_k of the diffusion (of diagonal
noise, ``g_k e_k``), and f(x, t) with values of any shape,

    df(X_t, t) = [d_t f + Df a + 1/2 sum_k D^2 f(g_k, g_k)] dt + sum_k (Df g_k) dB_k.            (1)

The bracket without ``d_t f`` is the generator L f. Against densities its adjoint is the right-hand
side of the Fokker-Planck equation,

    L* p = -div(a p) + 1/2 sum_ij d_i d_j (sum_k g_ik g_jk p).                                   (2)

Only directional derivatives occur, which forward mode gives for a batch at once. Where the same
equation is read in Stratonovich's sense its drift is another one,

    a_Stratonovich = a_Ito - 1/2 sum_k (D g_k) g_k.                                              (3)

Ito 1951; Oksendal 2003 (Stochastic Differential Equations), theorems 4.2.1 and 7.3.3, and equation
3.3.6.
"""

__all__ = [
    "Correction",
    "ItoFormula",
    "adjoint_generator",
    "columns",
    "generator",
    "ito_formula",
    "to_ito",
    "to_stratonovich",
]

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.func import jvp

from ornstein.core.methods.base import calculus_of
from ornstein.core.processes.linear import Time, as_time
from ornstein.core.processes.noise_type import NOISE_TYPES, NoiseType, driving
from ornstein.core.processes.sde import Equation
from ornstein.errors import OrnsteinError

Function = Callable[[Tensor, Time], Tensor]


def columns(sde: Equation, x: Tensor, t: Time) -> list[Tensor]:
    """Return the vector that each Brownian motion multiplies, each ``(b, *event)``.

    This function alone interprets the forms of noise: `noise` of an equation is "diagonal" where it
    is not given. A "general" diffusion is a matrix ``(b, d, m)``; "scalar" noise is one column
    ``(b, *event)``; "additive" is either, according to its number of dimensions.

    Raises:
        OrnsteinError: if the diffusion does not have the shape of its noise.
    """
    g = torch.as_tensor(sde.diffusion(x, t)).to(x.dtype)
    noise = getattr(sde, "noise", "diagonal")
    if noise == "general" or (noise == "additive" and x.ndim == 2 and g.ndim == 3):
        if x.ndim != 2 or g.ndim != 3 or g.shape[1] != x.shape[1]:
            raise OrnsteinError(
                "general noise has a diffusion of shape (b, d, m) at x of shape (b, d), got"
                f" {tuple(g.shape)}"
            )
        return list(g.expand(len(x), -1, -1).unbind(2))
    g = g.expand_as(x)
    if noise == "scalar" or x.ndim == 1:
        return [g]
    flat = g.flatten(1)
    masks = torch.eye(flat.shape[1], dtype=x.dtype, device=x.device)
    return [(flat * mask).reshape(x.shape) for mask in masks]


def _derivative(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    """Return the directional derivative ``Df(x) v``."""
    return jvp(f, (x,), (v,))[1]


def _second_derivative(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    """Return the second directional derivative ``D^2 f(x) (v, v)``."""
    return _derivative(lambda y: _derivative(f, y, v), x, v)


@dataclass(frozen=True)
class ItoFormula:
    """Drift and diffusion of ``f(X_t, t)`` as functions of the state of X, by Ito's formula.

    ``df(X_t, t) = drift dt + diffusion dB``; made by `ito_formula`.

    Args:
        f: ``(b, *event), t -> (b, *out)``, each sample independently, made of differentiable
            operations of torch.
        sde: the equation of X, in Ito's sense.
    """

    f: Callable[[Tensor, Tensor], Tensor]
    sde: Equation

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """Return the drift ``d_t f + Df a + 1/2 sum_k D^2 f(g_k, g_k)`` of f(X, t), ``(b, *out)``.

        Args:
            x: states of X, ``(b, *event)``.
            t: the time.
        """
        now = as_time(t).to(x.dtype)
        drift = torch.as_tensor(self.sde.drift(x, t)).expand_as(x)
        rate = jvp(self.f, (x, now), (drift, torch.ones_like(now)))[1]
        for g in columns(self.sde, x, t):
            rate = rate + _second_derivative(lambda y: self.f(y, now), x, g) / 2
        return rate  # (1)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """Return the factors ``Df g_k`` of the Brownian motions, ``(b, *out, m)``.

        Args:
            x: states of X, ``(b, *event)``; if they are scalars, ``(b,)``, the result is ``(b,
                *out)``.
            t: the time.
        """
        now = as_time(t).to(x.dtype)
        factors = [_derivative(lambda y: self.f(y, now), x, g) for g in columns(self.sde, x, t)]
        return factors[0] if x.ndim == 1 else torch.stack(factors, -1)  # (1)


def ito_formula(f: Callable[[Tensor, Tensor], Tensor], sde: Equation) -> ItoFormula:
    """Return drift and diffusion of ``f(X_t, t)`` for a solution X of an equation, by autodiff.

    The cost is two derivatives for each Brownian motion: noise in d coordinates costs 2 d
    evaluations of f and its derivatives. For formulas on paper see `symbolic`.

    Args:
        f: ``(b, *event), t -> (b, *out)``, made of differentiable operations of torch.
        sde: the equation of X, in Ito's or Stratonovich's sense.

    Returns:
        An `ItoFormula`, with methods ``drift(x, t)`` and ``diffusion(x, t)``.

    Example:
        >>> sde = orn.SDE(lambda x, t: 0.5 * x, lambda x, t: 0.8 * x)
        >>> log = orn.ito_formula(lambda x, t: x.log(), sde)
        >>> x = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
        >>> torch.allclose(log.drift(x, 0.0), torch.full_like(x, 0.5 - 0.8**2 / 2))
        True
    """
    return ItoFormula(f, to_ito(sde))


def generator(f: Callable[[Tensor], Tensor], sde: Equation) -> Function:
    """Return the generator ``L f = Df a + 1/2 sum_k D^2 f(g_k, g_k)`` as a function of (x, t).

    It is the rate at which ``E f(X_t)`` grows for paths that are at x at time t.

    Args:
        f: ``(b, *event) -> (b, *out)``, made of differentiable operations of torch.
        sde: the equation of X.
    """
    return ito_formula(lambda x, t: f(x), sde).drift


def adjoint_generator(p: Callable[[Tensor], Tensor], sde: Equation) -> Function:
    """Return ``L* p``, the rate at which a density p of X grows at x, as a function of (x, t).

    It is the right-hand side of the Fokker-Planck equation, ``-div(a p) + 1/2 sum_ij d_i d_j (sum_k
    g_ik g_jk p)``.

    Args:
        p: ``(b, *event) -> (b,)``, such as ``lambda x: target.log_prob(x).exp()``.
        sde: the equation of X.
    """
    sde = to_ito(sde)

    def _rate(x: Tensor, t: Time) -> Tensor:
        units = _units(x)

        def current(i: int) -> Callable[[Tensor], Tensor]:
            return lambda y: _entry(torch.as_tensor(sde.drift(y, t)).expand_as(y), i) * p(y)

        def spread(i: int, j: int) -> Callable[[Tensor], Tensor]:
            return lambda y: (
                torch.stack([_entry(g, i) * _entry(g, j) for g in columns(sde, y, t)]).sum(0)
                * p(y)
                / 2
            )

        def slope(f: Callable[[Tensor], Tensor], i: int) -> Callable[[Tensor], Tensor]:
            return lambda y: _derivative(f, y, units[i])

        pairs = [(i, i) for i in range(len(units))]
        if x.ndim > 1 and getattr(sde, "noise", "diagonal") != "diagonal":
            pairs = [(i, j) for i in range(len(units)) for j in range(len(units))]
        drifting = torch.stack([slope(current(i), i)(x) for i in range(len(units))]).sum(0)
        return (
            torch.stack([slope(slope(spread(i, j), j), i)(x) for i, j in pairs]).sum(0) - drifting
        )  # (2)

    return _rate


def _units(x: Tensor) -> list[Tensor]:
    """Return the unit vectors of an event, each of the shape of ``x``."""
    if x.ndim == 1:
        return [torch.ones_like(x)]
    flat = x.flatten(1)
    return [
        e.expand_as(flat).reshape(x.shape)
        for e in torch.eye(flat.shape[1], dtype=x.dtype, device=x.device)
    ]


def _entry(x: Tensor, i: int) -> Tensor:
    """Return entry i of each sample, ``(b,)``."""
    return x if x.ndim == 1 else x.flatten(1)[:, i]


@dataclass(frozen=True)
class Correction:
    """An equation in the other sense, Stratonovich's for Ito's or the reverse.

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
        """The form of the noise, that of the given equation."""
        return getattr(self.sde, "noise", "diagonal")

    @property
    def driving(self) -> NoiseType:
        """The noise type of the given equation, as an object."""
        return driving(self.sde) if hasattr(self.sde, "driving") else NOISE_TYPES[self.noise]

    @property
    def deterministic(self) -> bool:
        """Whether the given equation has no noise."""
        return getattr(self.sde, "deterministic", False)

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """Return the corrected drift ``a + factor * sum_k (D g_k) g_k``."""
        total = self.sde.drift(x, t)
        for k, g in enumerate(columns(self.sde, x, t)):
            column = partial(self._column, k, t)
            total = total + self.factor * _derivative(column, x, g)  # (3)
        return total

    def _column(self, k: int, t: Time, x: Tensor) -> Tensor:
        """Return column k of the diffusion at x."""
        return columns(self.sde, x, t)[k]

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """Return the diffusion of the given equation."""
        return self.sde.diffusion(x, t)


def to_stratonovich(sde: Equation) -> Equation:
    """Return the equation in Stratonovich's sense that has the solutions of an equation.

    From Ito's drift ``1/2 sum_k (D g_k) g_k`` is subtracted. The attribute `calculus` of an
    equation says in which sense it is meant; without it the sense is Ito's.

    Args:
        sde: an equation in either sense.
    """
    if calculus_of(sde) == "stratonovich":
        return sde
    return sde.sde if isinstance(sde, Correction) else Correction(sde, -0.5)


def to_ito(sde: Equation) -> Equation:
    """Return the equation in Ito's sense that has the solutions of an equation.

    The inverse of `to_stratonovich`.

    Args:
        sde: an equation in either sense.
    """
    if calculus_of(sde) == "ito":
        return sde
    return sde.sde if isinstance(sde, Correction) else Correction(sde, 0.5)
