"""Numerical methods: rules for one step of an equation from time t to time s.

There is one file for each family of methods. Every method declares its order of convergence, and
the tests measure it. A method of your own derives from `SDEMethod`, or from any method of the
library.
"""

__all__ = [
    "BAOAB",
    "OBABO",
    "SRK",
    "UBU",
    "Adams",
    "Adaptive",
    "AdaptiveSDE",
    "Ancestral",
    "AncestralStep",
    "Churn",
    "EulerHeun",
    "EulerMaruyama",
    "ExponentialEuler",
    "ForwardTransition",
    "Heun",
    "ImplicitEuler",
    "LogODE",
    "Milstein",
    "Multistep",
    "PlatenWeak2",
    "PredictorCorrector",
    "RePaint",
    "ReversibleHeun",
    "RungeKutta",
    "SDEMethod",
    "Semilinear",
    "Singlestep",
    "SolverOrders",
    "StratonovichHeun",
    "StratonovichMidpoint",
    "TabulatedMultistep",
    "TamedEuler",
    "Underdamped",
]  # fmt: skip

from ornstein.core.methods.adams import Adams
from ornstein.core.methods.adaptive import Adaptive
from ornstein.core.methods.ancestral import Ancestral, ForwardTransition
from ornstein.core.methods.base import SDEMethod, SolverOrders
from ornstein.core.methods.euler import EulerMaruyama, ImplicitEuler, TamedEuler
from ornstein.core.methods.exponential_euler import ExponentialEuler, Semilinear
from ornstein.core.methods.langevin_splitting import BAOAB, OBABO, UBU, Underdamped
from ornstein.core.methods.log_ode import LogODE
from ornstein.core.methods.milstein import Milstein
from ornstein.core.methods.multistep import Multistep
from ornstein.core.methods.platen import PlatenWeak2
from ornstein.core.methods.predictor_corrector import PredictorCorrector
from ornstein.core.methods.runge_kutta import Heun, RungeKutta
from ornstein.core.methods.singlestep import Singlestep
from ornstein.core.methods.step_doubling import AdaptiveSDE
from ornstein.core.methods.stochastic import AncestralStep, Churn, RePaint
from ornstein.core.methods.stochastic_runge_kutta import SRK
from ornstein.core.methods.stratonovich import (
    EulerHeun,
    ReversibleHeun,
    StratonovichHeun,
    StratonovichMidpoint,
)
from ornstein.core.methods.tabulated import TabulatedMultistep
