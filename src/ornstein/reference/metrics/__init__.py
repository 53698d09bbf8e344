"""Metrics of how far samples are from a distribution: ``orn.metrics``.

Every metric returns an `Estimate`, which unpacks into ``value, stderr``, and takes batches ``(n,
*event)``, whose events are flattened. None of them is a verdict alone. A distance between finite
samples is above zero also when the laws agree,

    E T(a, b)  >  T(P, P) = 0    for a, b from P,                                                (1)

so report `floor`, the left side of (1), with it; a distance hardly sees a lost mode of small
weight, `mode_weights` does; and `ess` says nothing about regions that the proposal never visits, of
which `pareto_k` warns at least sometimes.
"""

__all__ = [
    "Estimate",
    "c2st",
    "energy_distance",
    "ess",
    "floor",
    "mmd",
    "mode_coverage",
    "mode_weights",
    "nearest_distance",
    "pareto_k",
    "sliced_w2",
]

from ornstein.core.numerics.estimate import Estimate
from ornstein.core.numerics.importance import ess, pareto_k
from ornstein.reference.metrics.diagnostics import c2st, mode_coverage, mode_weights
from ornstein.reference.metrics.distances import (
    energy_distance,
    floor,
    mmd,
    nearest_distance,
    sliced_w2,
)
