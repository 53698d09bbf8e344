"""What a sampler is judged by: targets with known answers, and metrics with their errors."""

__all__ = [
    "metrics",
    "targets",
]

from ornstein.reference import metrics, targets
