"""The command ``ornstein verify``: statements of four documents, measured against the library."""

__all__ = ["CHECKS", "Check", "Outcome", "Verify"]

from ornstein.app.verify.check import Check, Outcome
from ornstein.app.verify.command import CHECKS, Verify
