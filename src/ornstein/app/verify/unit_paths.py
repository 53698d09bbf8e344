"""Brownian paths on [0, 1], with the allowed difference between sums over them and integrals.

Paths have steps ``h = 1/256``. Sums over a path tend to integrals as h -> 0; where one is compared
with the other, the tolerance is 5 standard deviations of what the sum leaves out, path by path, and
the largest difference over all paths counts:

    sum dB^2 - T:                                     sd sqrt(2 T h)                             (1)
    sum f(middle) dB - int f dB:                      sd max|f'| h sqrt(T / 12)                  (2)
    sum f' dB + f'' dB^2 / 2 - (f(B_T) - f(0)):       sd max|f'''| h sqrt(15 T) / 6              (3)
"""

__all__ = [
    "MIDPOINT_SUM",
    "PATHS",
    "SQUARED_INCREMENTS",
    "STEP",
    "TAYLOR_SUM",
    "TIMES",
    "free_path",
    "path_values",
    "unit_path",
]

import math

import torch
from torch import Tensor

from ornstein.app.verify.problems import SAMPLES, SEED
from ornstein.calculus import ito_process
from ornstein.core.random import BrownianPath

PATHS = 500
"""Number of paths of a statement that holds on every path."""
STEPS = 256
STEP = 1 / STEPS
"""Length of a step of the grid on [0, 1]."""
TIMES = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
"""Times of the grid on [0, 1], float64."""
SQUARED_INCREMENTS = 5 * math.sqrt(2 * STEP)  # (1)
"""Tolerance of a sum of squared increments: five standard deviations."""
MIDPOINT_SUM = 5 * STEP / math.sqrt(12)  # (2)
"""Tolerance of a midpoint sum: five standard deviations."""
TAYLOR_SUM = 5 * STEP * math.sqrt(15) / 6  # (3)
"""Tolerance of a Taylor sum: five standard deviations."""


def unit_path(n: int = SAMPLES, order: int = 1, seed: int = SEED) -> BrownianPath:
    """Return n Brownian paths, drawn at `TIMES`; order 2 adds their space-time Levy areas."""
    return BrownianPath((n,), seed=seed, cells=TIMES, dtype=torch.float64, order=order)


def path_values(n: int = PATHS) -> Tensor:
    """Return the values of n paths at `TIMES`, ``(steps + 1, n)``."""
    return ito_process(1.0, unit_path(n), TIMES)


def free_path(n: int = SAMPLES) -> BrownianPath:
    """Return n Brownian paths on [0, 1] that can be queried at any time."""
    return BrownianPath((n,), seed=SEED, dtype=torch.float64)
