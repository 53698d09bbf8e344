"""Densities with known answers to test samplers on, and metrics that compare samples."""

__all__ = [
    "metrics",
    "targets",
]

from ornstein.reference import metrics, targets
