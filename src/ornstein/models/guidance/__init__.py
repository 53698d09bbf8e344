"""Guidance: functions from a posterior to a posterior that strengthen a condition."""

__all__ = [
    "guide",
]

from ornstein.models.guidance.classifier_free import guide
