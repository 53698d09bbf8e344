"""Stochastic calculus that runs: integrals along a path, Ito's formula, the clock that turns an
integral into a Brownian motion."""

__all__ = [
    "AdaptednessCheck",
    "Correction",
    "Isometry",
    "ItoFormula",
    "PathFunctional",
    "SymbolicFormula",
    "TimeChange",
    "adjoint_generator",
    "by_parts",
    "check_adapted",
    "covariation",
    "generator",
    "ito",
    "ito_formula",
    "ito_isometry",
    "ito_process",
    "quadratic_variation",
    "stratonovich",
    "symbolic",
    "theta_integral",
    "time_change",
    "to_ito",
    "to_stratonovich",
    "wiener_integral",
]

from ornstein.calculus.integrals.adapted import AdaptednessCheck, check_adapted
from ornstein.calculus.integrals.integrals import (
    PathFunctional,
    by_parts,
    covariation,
    ito,
    ito_process,
    quadratic_variation,
    stratonovich,
    theta_integral,
)
from ornstein.calculus.integrals.ito_formula import (
    Correction,
    ItoFormula,
    adjoint_generator,
    generator,
    ito_formula,
    to_ito,
    to_stratonovich,
)
from ornstein.calculus.integrals.symbolic import SymbolicFormula, symbolic
from ornstein.calculus.integrals.time_change import TimeChange, time_change
from ornstein.calculus.integrals.wiener import Isometry, ito_isometry, wiener_integral
