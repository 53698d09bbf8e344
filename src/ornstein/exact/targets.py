"""Targets with known answers: ``orn.targets``.

A target is an unnormalised density ``rho`` with ``log_prob(x) = log rho(x)``, ``Z = int rho`` and exact samples. What a
sampler claims about it (samples, log Z, moments) can be held against

    log_z = log int rho(x) dx,      x ~ rho / Z  from  sample(n, seed),                                       (1)

and mixtures and data sets also know their noised posterior at every time, ``target.posterior(sde)``, which may be used
wherever a trained denoiser is. `named` looks a target up for the command line.
"""

__all__ = [
    "Banana", "EightSchools", "Empirical", "EmpiricalPosterior", "Funnel", "GaussianMixture", "ManyWell",
    "MixturePosterior", "MultiWell", "Normal", "Rings", "StudentTMixture", "Target", "gmm9", "gmm40", "named", "names",
]  # fmt: skip

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.errors import UnknownNameError
from ornstein.exact.densities import Banana, Funnel, StudentTMixture
from ornstein.exact.empirical import Empirical, EmpiricalPosterior
from ornstein.exact.mixtures import GaussianMixture, MixturePosterior, Normal, gmm9, gmm40
from ornstein.exact.schools import EightSchools
from ornstein.exact.wells import ManyWell, MultiWell, Rings


@runtime_checkable
class Target(Protocol):
    """What every density here offers; all but `Empirical`, which has no density."""

    @property
    def dim(self) -> int:
        """Dimension d."""
        ...

    @property
    def log_z(self) -> float:
        """``log int rho``, in nats."""
        ...

    def log_prob(self, x: Tensor, /) -> Tensor:
        """``log rho(x)``: ``(b, d) -> (b,)``, differentiable, in the dtype of x."""
        ...

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """``n`` exact samples ``(n, d)``; sample i depends on the seed and i only."""
        ...


_NAMED: dict[str, Callable[[], Target]] = {
    "banana": Banana,
    "eight-schools": EightSchools,
    "funnel": Funnel,
    "gmm9": gmm9,
    "gmm40": gmm40,
    "many-well": ManyWell,
    "multi-well": MultiWell,
    "rings": Rings,
    "student-t": StudentTMixture,
}

names: tuple[str, ...] = tuple(_NAMED)
"""The names that `named` knows."""


def named(name: str) -> Target:
    """The target of that name, with its standard constants.

    Raises:
        UnknownNameError: if there is none, with the list of those that exist.
    """
    if name not in _NAMED:
        raise UnknownNameError("target", name, _NAMED)
    return _NAMED[name]()
