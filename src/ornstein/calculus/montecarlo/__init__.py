"""Means of functions of a diffusion by simulation, with their errors: plain, antithetic, Sobol' and
multilevel Monte Carlo."""

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
