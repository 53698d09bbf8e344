"""Data of users: readers of arrays, files and folders, checked samples, and kinds of data."""

__all__ = ["DataKind", "Samples", "bundled", "read"]

from ornstein.training.datasets.read import bundled, read
from ornstein.training.datasets.samples import DataKind, Samples
