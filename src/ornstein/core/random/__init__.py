"""Random numbers that belong to samples, and Brownian paths that can be queried at any time."""

__all__ = [
    "BrownianBridgePath",
    "BrownianPath",
    "Correlated",
    "Motion",
    "PathStream",
    "foster_area",
    "stochastic_area",
]

from ornstein.core.random.brownian_path import BrownianPath
from ornstein.core.random.levy_area import foster_area, stochastic_area
from ornstein.core.random.motion import BrownianBridgePath, Correlated, Motion, PathStream
