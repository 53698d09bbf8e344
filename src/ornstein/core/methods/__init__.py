"""Methods: one step from t to s. One file per family; each declares its order, and the tests hold
it to it."""

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
    "Semilinear",
    "Singlestep",
    "StratonovichHeun",
    "StratonovichMidpoint",
    "TabulatedMultistep",
    "TamedEuler",
    "Underdamped",
]  # fmt: skip

from ornstein.core.methods.adams import Adams
from ornstein.core.methods.ancestral import Ancestral, ForwardTransition
from ornstein.core.methods.euler import EulerMaruyama, ImplicitEuler, TamedEuler
from ornstein.core.methods.exponential_euler import ExponentialEuler, Semilinear
from ornstein.core.methods.langevin_splitting import BAOAB, OBABO, UBU, Underdamped
from ornstein.core.methods.log_ode import LogODE
from ornstein.core.methods.milstein import Milstein
from ornstein.core.methods.multistep import Multistep
from ornstein.core.methods.platen import PlatenWeak2
from ornstein.core.methods.predictor_corrector import PredictorCorrector
from ornstein.core.methods.runge_kutta import Adaptive, Heun, RungeKutta
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
