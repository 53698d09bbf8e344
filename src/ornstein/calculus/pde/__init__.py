"""Equations on grids: Fokker-Planck, Kolmogorov backward and Hamilton-Jacobi-Bellman."""

__all__ = [
    "HJB",
    "Absorbing",
    "Axis",
    "Control",
    "FluxLimited",
    "FokkerPlanck",
    "Grid",
    "KolmogorovBackward",
    "Periodic",
    "Reflecting",
    "Uniformisation",
    "committor",
    "mean_first_passage",
]

from ornstein.calculus.pde.flux_limited import FluxLimited
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.calculus.pde.grid import Absorbing, Axis, Grid, Periodic, Reflecting
from ornstein.calculus.pde.hjb import HJB, Control
from ornstein.calculus.pde.kolmogorov_backward import (
    KolmogorovBackward,
    committor,
    mean_first_passage,
)
from ornstein.calculus.pde.uniformisation import Uniformisation
