"""Methods: one step from t to s. One file per family; each declares its order, and the tests hold it to it."""

__all__ = [
    "SRK",
    "Adams",
    "Adaptive",
    "Ancestral",
    "Churn",
    "Down",
    "EulerMaruyama",
    "Heun",
    "Metropolis",
    "Multistep",
    "Noising",
    "PredictorCorrector",
    "Repeat",
    "RungeKutta",
    "Singlestep",
    "Tabulated",
]  # fmt: skip

from ornstein.core.methods.adams import Adams
from ornstein.core.methods.ancestral import Ancestral, Noising
from ornstein.core.methods.annealed import Metropolis
from ornstein.core.methods.corrector import PredictorCorrector
from ornstein.core.methods.euler import EulerMaruyama
from ornstein.core.methods.exponential import Multistep
from ornstein.core.methods.renoise import Churn, Down, Repeat
from ornstein.core.methods.runge_kutta import Adaptive, Heun, RungeKutta
from ornstein.core.methods.singlestep import Singlestep
from ornstein.core.methods.srk import SRK
from ornstein.core.methods.tabulated import Tabulated
