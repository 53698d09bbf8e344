"""Monte Carlo estimates of E f(X_T) for a diffusion: plain, antithetic, Sobol' and multilevel."""

__all__ = ["Antithetic", "Expectation", "Level", "Multilevel", "Plain", "Sobol", "expectation"]

from ornstein.calculus.montecarlo.estimators import (
    Antithetic,
    Expectation,
    Level,
    Plain,
    Sobol,
    expectation,
)
from ornstein.calculus.montecarlo.multilevel import Multilevel
