"""Markov chain Monte Carlo moves that leave each density of a tempered path invariant."""

__all__ = [
    "HMC",
    "MALA",
    "GeometricPath",
    "UnderdampedLangevin",
]

from ornstein.core.mcmc.geometric_path import GeometricPath
from ornstein.core.mcmc.hmc import HMC
from ornstein.core.mcmc.mala import MALA
from ornstein.core.mcmc.underdamped import UnderdampedLangevin
