"""Processes and functionals with distributions in closed form: ``orn.laws``.

A process is an equation that a method can discretise (`drift`, `diffusion`) and has a known
transition, from which it is drawn without error at any times (`sample_exact`). Where they exist, a
process also has its stationary law, its entropy over time, and the laws of first passages and of
maxima. The members of `orn.LinearSDE`, `orn.OU` and `orn.Bridge` among them, are exact processes as
well.
"""

__all__ = [
    "CIR",
    "BridgeMaximum",
    "Brownian",
    "BrownianBridge",
    "BrownianMaximum",
    "BrownianPassage",
    "ExactProcess",
    "GeometricBrownian",
    "JointGaussian",
    "LogNormal",
    "MultivariateOU",
    "NoncentralChiSquare",
    "OUPassage",
    "underdamped_ou",
]

from ornstein.calculus.laws.brownian import Brownian, BrownianBridge, GeometricBrownian, LogNormal
from ornstein.calculus.laws.cir import CIR, NoncentralChiSquare
from ornstein.calculus.laws.exact_process import ExactProcess
from ornstein.calculus.laws.first_passage import (
    BridgeMaximum,
    BrownianMaximum,
    BrownianPassage,
    OUPassage,
)
from ornstein.calculus.laws.multivariate_ou import JointGaussian, MultivariateOU, underdamped_ou
