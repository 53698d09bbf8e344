"""Brownian motion as an object: one path, that may be asked for its value at any time, in any
order, at any resolution."""

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
