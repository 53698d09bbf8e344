"""Solvers of equations at given times: numerical or exact, with gradients of small memory."""

__all__ = [
    "Checkpointed",
    "Discretisation",
    "FirstPassage",
    "Reversible",
    "sample_exact",
    "solve",
]

from ornstein.core.solvers.checkpointed import Checkpointed
from ornstein.core.solvers.error_estimate import Discretisation
from ornstein.core.solvers.exact import sample_exact
from ornstein.core.solvers.first_passage import FirstPassage
from ornstein.core.solvers.reversible import Reversible
from ornstein.core.solvers.solve import solve
