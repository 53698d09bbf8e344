"""Measures on path space: weights of simulated paths, particle filters, and losses."""

__all__ = [
    "GaussianStart",
    "PathMeasure",
    "annealed_paths",
    "denoising_paths",
    "kinetic_paths",
    "langevin_paths",
    "log_variance",
    "log_weights",
    "lookahead",
    "particle_filter",
    "reverse_kl",
    "score_function",
    "sub_trajectory",
    "trajectory_balance",
]

from ornstein.core.paths.annealing import annealed_paths, kinetic_paths, langevin_paths
from ornstein.core.paths.denoising import denoising_paths, log_weights
from ornstein.core.paths.losses import (
    log_variance,
    reverse_kl,
    score_function,
    sub_trajectory,
    trajectory_balance,
)
from ornstein.core.paths.measure import GaussianStart, PathMeasure
from ornstein.core.paths.particles import lookahead, particle_filter
