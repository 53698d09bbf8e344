"""Test densities with known answers, to judge samplers by: ``orn.targets``.

A target is an unnormalised density ``rho`` with ``log_prob(x) = log rho(x)``, ``Z = int rho`` and,
mostly, exact samples. What a sampler claims about it (samples, log Z, moments) can be compared with

    log_z = log int rho(x) dx,      x ~ rho / Z  from  sample(n, seed),                          (1)

the first in closed form or by quadrature, but for the posteriors `LogisticRegression` and
`CoxProcess`, which have no exact samples and a ``log_z`` that was estimated, with ``log_z_stderr``.
Mixtures and data sets also know the posterior of the clean point at every time,
``target.posterior(sde)``, which may be used wherever a trained denoiser is. `named` looks a target
up for the command line.
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

from ornstein.errors import look_up
from ornstein.reference.targets.base import SampledTarget, Target
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
"""The names that `named` accepts."""


def named(name: str) -> Target:
    """The target density of a given name, with its standard constants.

    Args:
        name: one of `names`.

    Raises:
        UnknownNameError: if no target has this name, with the list of those that exist.

    Example:
        >>> orn.targets.named("funnel").dim
        10
    """
    return look_up("target", name, _NAMED)()
