"""Directional derivatives, and the columns of a diffusion in which they are taken.

Ito's formula and its relatives differentiate in the directions ``g_k`` that the Brownian motions
move the state, which forward-mode automatic differentiation does for a whole batch at once. The
columns g_k depend on the form of the noise (additive, diagonal, scalar, general); this file alone
interprets it.
"""

__all__ = ["columns", "correlates", "directional_derivative", "noise_type_of", "second_derivative"]

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp

from ornstein.core.processes.linear import LinearSDE, Time
from ornstein.core.processes.noise_type import (
    ADDITIVE,
    NOISE_TYPES,
    General,
    NoiseType,
    Scalar,
    driving,
)
from ornstein.core.processes.sde import Equation
from ornstein.errors import OrnsteinError


def noise_type_of(sde: Equation) -> NoiseType:
    """Return the noise type that an equation names, or has as an object; diagonal by default."""
    name = None if isinstance(sde, LinearSDE) else getattr(sde, "noise", None)
    return NOISE_TYPES[name] if isinstance(name, str) else driving(sde)


def _is_matrix(noise: NoiseType, x: Tensor, g: Tensor) -> bool:
    """Return whether a diffusion is a matrix; additive noise may have either shape."""
    return isinstance(noise, General) or (noise == ADDITIVE and x.ndim == 2 and g.ndim == 3)


def columns(sde: Equation, x: Tensor, t: Time) -> list[Tensor]:
    """Return the vector that each Brownian motion multiplies, each ``(b, *event)``.

    A general diffusion is a matrix ``(b, d, m)``; scalar noise is one column ``(b, *event)``;
    additive noise is a matrix or diagonal, according to its number of dimensions. Noise is diagonal
    where an equation does not say.

    Raises:
        OrnsteinError: if the diffusion does not have the shape of its noise.
    """
    g = torch.as_tensor(sde.diffusion(x, t)).to(x.dtype)
    noise = noise_type_of(sde)
    if _is_matrix(noise, x, g):
        if x.ndim != 2 or g.ndim != 3 or g.shape[1] != x.shape[1]:
            raise OrnsteinError(
                "general noise has a diffusion of shape (b, d, m) at x of shape (b, d), got"
                f" {tuple(g.shape)}"
            )
        return list(g.expand(len(x), -1, -1).unbind(2))
    g = g.expand_as(x)
    if isinstance(noise, Scalar) or x.ndim == 1:
        return [g]
    flat = g.flatten(1)
    masks = torch.eye(flat.shape[1], dtype=x.dtype, device=x.device)
    return [(flat * mask).reshape(x.shape) for mask in masks]


def directional_derivative(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    """Return the directional derivative ``Df(x) v`` of a function."""
    return jvp(f, (x,), (v,))[1]


def second_derivative(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    """Return the second directional derivative ``D^2 f(x) (v, v)`` of a function."""
    return directional_derivative(lambda y: directional_derivative(f, y, v), x, v)


def correlates(sde: Equation, x: Tensor, t: Time) -> bool:
    """Return whether a Brownian motion may drive more than one entry of the state."""
    noise = noise_type_of(sde)
    return isinstance(noise, Scalar) or _is_matrix(noise, x, torch.as_tensor(sde.diffusion(x, t)))
