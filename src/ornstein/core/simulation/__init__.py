"""The simulation loop, the interface of a numerical method, and watchers of a run."""

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
