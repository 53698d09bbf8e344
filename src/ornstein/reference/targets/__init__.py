"""Targets with known answers: ``orn.targets``.

A target is an unnormalised density ``rho`` with ``log_prob(x) = log rho(x)``, ``Z = int rho`` and,
mostly, exact samples. What a sampler claims about it (samples, log Z, moments) can be held against

    log_z = log int rho(x) dx,      x ~ rho / Z  from  sample(n, seed),                          (1)

the first in closed form or by quadrature, but for the posteriors `LogisticRegression` and
`CoxProcess`, which have no exact samples and a ``log_z`` that was estimated, with ``log_z_stderr``.
Mixtures and data sets also know their noised posterior at every time, ``target.posterior(sde)``,
which may be used wherever a trained denoiser is. `named` looks a target up for the command line.
"""

__all__ = [
    "Banana",
    "BrownianMissing",
    "CoxProcess",
    "EightSchools",
    "Empirical",
    "EmpiricalPosterior",
    "Funnel",
    "GaussianMixture",
    "LogisticRegression",
    "ManyWell",
    "MixturePosterior",
    "MultiWell",
    "Normal",
    "Rings",
    "SampledTarget",
    "StudentTMixture",
    "Target",
    "german_credit",
    "gmm9",
    "gmm40",
    "named",
    "names",
    "sonar",
    "stretched",
]

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.errors import UnknownNameError
from ornstein.reference.targets.brownian_missing import BrownianMissing
from ornstein.reference.targets.closed_form import Banana, Funnel, StudentTMixture
from ornstein.reference.targets.eight_schools import EightSchools
from ornstein.reference.targets.empirical import Empirical, EmpiricalPosterior
from ornstein.reference.targets.log_gaussian_cox import CoxProcess
from ornstein.reference.targets.logistic_regression import LogisticRegression, german_credit, sonar
from ornstein.reference.targets.mixtures import (
    GaussianMixture,
    MixturePosterior,
    Normal,
    gmm9,
    gmm40,
    stretched,
)
from ornstein.reference.targets.wells import ManyWell, MultiWell, Rings


@runtime_checkable
class Target(Protocol):
    """What every density here offers."""

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


@runtime_checkable
class SampledTarget(Target, Protocol):
    """A target that has exact samples."""

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """``n`` exact samples ``(n, d)``; sample i depends on the seed and i only."""
        ...


_NAMED: dict[str, Callable[[], Target]] = {
    "banana": Banana,
    "brownian": BrownianMissing,
    "eight-schools": EightSchools,
    "funnel": Funnel,
    "gaussian": stretched,
    "german-credit": german_credit,
    "gmm9": gmm9,
    "gmm40": gmm40,
    "many-well": ManyWell,
    "multi-well": MultiWell,
    "rings": Rings,
    "sonar": sonar,
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
