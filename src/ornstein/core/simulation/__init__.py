"""The simulation loop, what a numerical method is, and the watchers that collect quantities along a path."""

__all__ = [
    "Evaluations",
    "Kernel",
    "KernelKL",
    "LogWeight",
    "Method",
    "Step",
    "Trajectory",
    "Watcher",
    "WrappedMethod",
    "check_grid",
    "simulate",
]

from ornstein.core.simulation.loop import Watcher, check_grid, simulate
from ornstein.core.simulation.method import Kernel, Method, Step, WrappedMethod
from ornstein.core.simulation.watchers import Evaluations, KernelKL, LogWeight, Trajectory
