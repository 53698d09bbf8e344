"""Brownian motion as an object: one path, that may be asked for its value at any time, in any order, at any resolution."""

__all__ = ["BrownianPath", "Correlated", "Motion", "PathStream", "PathValued", "Pinned", "foster_area", "stochastic_area"]

from ornstein.core.brownian.area import foster_area, stochastic_area
from ornstein.core.brownian.motion import Correlated, Motion, PathStream, Pinned
from ornstein.core.brownian.path import BrownianPath
from ornstein.core.brownian.valued import PathValued
