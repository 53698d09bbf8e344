"""Ito's formula, the generator of an equation and its adjoint, and the two calculi, by automatic
differentiation.

For ``dX = a(X, t) dt + sum_k g_k(X, t) dB_k`` with the columns g_k of the diffusion (of diagonal
noise, ``g_k e_k``), and f(x, t) with values of any shape,

    df(X_t, t) = [d_t f + Df a + 1/2 sum_k D^2 f(g_k, g_k)] dt + sum_k (Df g_k) dB_k.            (1)

The bracket without ``d_t f`` is the generator L f. Against densities its adjoint is the right-hand
side of Fokker-Planck's equation,

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

import torch
from torch import Tensor
from torch.func import jvp

from ornstein.core.processes.linear import Time, as_time
from ornstein.core.processes.noise_type import NOISE_TYPES, NoiseType, driving
from ornstein.core.processes.sde import Equation
from ornstein.core.processes.solver_orders import calculus
from ornstein.errors import OrnsteinError

Function = Callable[[Tensor, Time], Tensor]


def columns(sde: Equation, x: Tensor, t: Time) -> list[Tensor]:
    """The vector that each Brownian motion multiplies, each of the shape of ``x``, ``(b, *event)``.

    The one place that knows the forms of noise: `noise` of an equation is "diagonal" where it does
    not say. A "general" diffusion is a matrix ``(b, d, m)``; "scalar" noise is one column ``(b,
    *event)``; "additive" is either, told apart by its dimensions.

    Raises:
        OrnsteinError: if the diffusion does not have the shape of its noise.
    """
    g, noise = torch.as_tensor(sde.diffusion(x, t)).to(x.dtype), getattr(sde, "noise", "diagonal")
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


def _along(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    """``Df(x) v``."""
    return jvp(f, (x,), (v,))[1]


def _twice(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    """``D^2 f(x) (v, v)``."""
    return _along(lambda y: _along(f, y, v), x, v)


@dataclass(frozen=True)
class ItoFormula:
    """``df(X_t, t) = drift dt + diffusion dB``, as functions of the state of X (1).

    Args:
        f: ``(b, *event), t -> (b, *out)``, each sample on its own, made of differentiable
            operations of torch.
        sde: the equation of X, in Ito's sense.
    """

    f: Callable[[Tensor, Tensor], Tensor]
    sde: Equation

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """The bracket of (1), ``(b, *out)``."""
        now = as_time(t).to(x.dtype)
        rate = jvp(
            self.f,
            (x, now),
            (torch.as_tensor(self.sde.drift(x, t)).expand_as(x), torch.ones_like(now)),
        )[1]
        for g in columns(self.sde, x, t):
            rate = rate + _twice(lambda y: self.f(y, now), x, g) / 2
        return rate  # (1)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """The factors of the Brownian motions in (1): ``(b, *out, m)``; ``(b, *out)`` if X is
        scalar, of shape (b,)."""
        now = as_time(t).to(x.dtype)
        factors = [_along(lambda y: self.f(y, now), x, g) for g in columns(self.sde, x, t)]
        return factors[0] if x.ndim == 1 else torch.stack(factors, -1)  # (1)


def ito_formula(f: Callable[[Tensor, Tensor], Tensor], sde: Equation) -> ItoFormula:
    """Drift and diffusion of ``f(X_t, t)`` for a solution X of ``sde``, by automatic
    differentiation; see `symbolic` for formulas.

    At a cost of two derivatives for each Brownian motion: noise in d coordinates costs 2 d
    evaluations of f and its derivatives.
    """
    return ItoFormula(f, to_ito(sde))


def generator(f: Callable[[Tensor], Tensor], sde: Equation) -> Function:
    """``L f = Df a + 1/2 sum_k D^2 f(g_k, g_k)``: the rate at which ``E f(X_t)`` grows from x, as a
    function of (x, t)."""
    return ito_formula(lambda x, t: f(x), sde).drift


def adjoint_generator(p: Callable[[Tensor], Tensor], sde: Equation) -> Function:
    """``L* p`` (2): the rate at which a density p of X grows at x, as a function of (x, t).

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
            return lambda y: _along(f, y, units[i])

        pairs = [(i, i) for i in range(len(units))]
        if x.ndim > 1 and getattr(sde, "noise", "diagonal") != "diagonal":
            pairs = [(i, j) for i in range(len(units)) for j in range(len(units))]
        drifting = torch.stack([slope(current(i), i)(x) for i in range(len(units))]).sum(0)
        return (
            torch.stack([slope(slope(spread(i, j), j), i)(x) for i, j in pairs]).sum(0) - drifting
        )  # (2)

    return _rate


def _units(x: Tensor) -> list[Tensor]:
    """The unit vectors of an event, each of the shape of ``x``."""
    if x.ndim == 1:
        return [torch.ones_like(x)]
    flat = x.flatten(1)
    return [
        e.expand_as(flat).reshape(x.shape)
        for e in torch.eye(flat.shape[1], dtype=x.dtype, device=x.device)
    ]


def _entry(x: Tensor, i: int) -> Tensor:
    return x if x.ndim == 1 else x.flatten(1)[:, i]


@dataclass(frozen=True)
class Correction:
    """An equation in the other sense: the drift of the given one plus ``factor * sum_k (D g_k)
    g_k``, and its diffusion."""

    sde: Equation
    factor: float

    @property
    def calculus(self) -> str:
        """Stratonovich's where the factor is -1/2, Ito's where it is 1/2."""
        return "stratonovich" if self.factor < 0 else "ito"

    @property
    def noise(self) -> str:
        """That of the equation."""
        return getattr(self.sde, "noise", "diagonal")

    @property
    def driving(self) -> NoiseType:
        """That of the equation."""
        return driving(self.sde) if hasattr(self.sde, "driving") else NOISE_TYPES[self.noise]

    @property
    def deterministic(self) -> bool:
        """That of the equation."""
        return getattr(self.sde, "deterministic", False)

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """The corrected drift (3)."""
        total = self.sde.drift(x, t)
        for k, g in enumerate(columns(self.sde, x, t)):
            total = total + self.factor * _along(lambda y: columns(self.sde, y, t)[k], x, g)  # noqa: B023
        return total

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """That of the equation."""
        return self.sde.diffusion(x, t)


def to_stratonovich(sde: Equation) -> Equation:
    """The equation in Stratonovich's sense that has the solutions of ``sde``: from Ito's the drift
    loses half of (3)'s sum.

    In which sense an equation is meant is its `calculus`; Ito's where it does not say.
    """
    if calculus(sde) == "stratonovich":
        return sde
    return sde.sde if isinstance(sde, Correction) else Correction(sde, -0.5)


def to_ito(sde: Equation) -> Equation:
    """The equation in Ito's sense that has the solutions of ``sde``: the inverse of
    `to_stratonovich`."""
    if calculus(sde) == "ito":
        return sde
    return sde.sde if isinstance(sde, Correction) else Correction(sde, 0.5)
