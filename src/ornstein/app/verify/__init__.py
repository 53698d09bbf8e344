"""The identities of the four founding documents, each held against the library: ``ornstein
verify``."""

__all__ = ["CHECKS", "Check", "Outcome", "Verify"]

from ornstein.app.verify.check import Check, Outcome
from ornstein.app.verify.command import CHECKS, Verify
