"""Stochastic calculus: integrals, Ito's formula, exact laws, Monte Carlo, equations on grids."""

__all__ = [
    "Accumulate",
    "Girsanov",
    "PathFunctional",
    "RandomWalk",
    "StochasticProcess",
    "adjoint_generator",
    "by_parts",
    "check_adapted",
    "covariation",
    "estimate_diffusion_constant",
    "generator",
    "heat",
    "ito",
    "ito_formula",
    "ito_isometry",
    "ito_process",
    "laws",
    "mean_squared_displacement",
    "montecarlo",
    "pde",
    "quadratic_variation",
    "stratonovich",
    "symbolic",
    "theta_integral",
    "time_change",
    "to_ito",
    "to_stratonovich",
    "wiener_integral",
]

from ornstein.calculus import laws, montecarlo, pde
from ornstein.calculus.integrals.adapted import check_adapted
from ornstein.calculus.integrals.conversion import to_ito, to_stratonovich
from ornstein.calculus.integrals.girsanov import Accumulate, Girsanov
from ornstein.calculus.integrals.integrals import (
    by_parts,
    covariation,
    ito,
    ito_process,
    quadratic_variation,
    stratonovich,
    theta_integral,
)
from ornstein.calculus.integrals.integrand import PathFunctional
from ornstein.calculus.integrals.ito_formula import adjoint_generator, generator, ito_formula
from ornstein.calculus.integrals.process import StochasticProcess
from ornstein.calculus.integrals.symbolic import symbolic
from ornstein.calculus.integrals.time_change import time_change
from ornstein.calculus.integrals.wiener import ito_isometry, wiener_integral
from ornstein.calculus.laws import heat
from ornstein.calculus.laws.displacement import (
    estimate_diffusion_constant,
    mean_squared_displacement,
)
from ornstein.calculus.laws.random_walk import RandomWalk
