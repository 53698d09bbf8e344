"""Stochastic processes: linear SDEs with their exact kernels, general SDEs, and time reversal."""

__all__ = [
    "EDM",
    "OU",
    "SDE",
    "VE",
    "VP",
    "Bridge",
    "Cosine",
    "Damped",
    "DiscreteVP",
    "Equation",
    "FromCoefficients",
    "FromLogSNR",
    "Langevin",
    "LinearSDE",
    "Posterior",
    "RectifiedFlow",
    "Reverse",
    "SubVP",
]

from ornstein.core.processes.custom import Damped, DiscreteVP, FromCoefficients, FromLogSNR
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reference import OU, Bridge
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.processes.schedules import EDM, VE, VP, Cosine, RectifiedFlow, SubVP
from ornstein.core.processes.sde import SDE, Equation, Langevin
