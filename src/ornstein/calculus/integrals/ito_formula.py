"""Ito's formula, the generator of a diffusion, and its adjoint, by automatic differentiation.

For ``dX = a(X, t) dt + sum_k g_k(X, t) dB_k`` with the columns g_k of the diffusion (of diagonal
noise, ``g_k e_k``), and f(x, t) with values of any shape,

    df(X_t, t) = [d_t f + Df a + 1/2 sum_k D^2 f(g_k, g_k)] dt + sum_k (Df g_k) dB_k.            (1)

The bracket without ``d_t f`` is the generator L f. Against densities its adjoint is the right-hand
side of the Fokker-Planck equation,

    L* p = -div(a p) + 1/2 sum_ij d_i d_j (sum_k g_ik g_jk p).                                   (2)

Only directional derivatives occur, which forward mode gives for a batch at once.

Ito 1951; Oksendal 2003 (Stochastic Differential Equations), theorems 4.2.1 and 7.3.3.
"""

__all__ = ["ItoFormula", "adjoint_generator", "generator", "ito_formula"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp

from ornstein.calculus.integrals.conversion import to_ito
from ornstein.calculus.integrals.derivatives import (
    columns,
    correlates,
    directional_derivative,
    second_derivative,
)
from ornstein.core.processes.linear import Time, as_time
from ornstein.core.processes.sde import Equation

Function = Callable[[Tensor, Time], Tensor]


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
            rate = rate + second_derivative(lambda y: self.f(y, now), x, g) / 2
        return rate  # (1)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """Return the factors ``Df g_k`` of the Brownian motions, ``(b, *out, m)``.

        Args:
            x: states of X, ``(b, *event)``; if they are scalars, ``(b,)``, the result is ``(b,
                *out)``.
            t: the time.
        """
        now = as_time(t).to(x.dtype)
        factors = [
            directional_derivative(lambda y: self.f(y, now), x, g) for g in columns(self.sde, x, t)
        ]
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
            return lambda y: directional_derivative(f, y, units[i])

        pairs = [(i, i) for i in range(len(units))]
        if x.ndim > 1 and correlates(sde, x, t):
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
    """Return entry i of the event of each sample, ``(b,)``."""
    return x if x.ndim == 1 else x.flatten(1)[:, i]
