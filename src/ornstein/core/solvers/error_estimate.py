"""Estimate the discretisation error of a multistep run, without further evaluations.

A multistep method of order p contains one of order p - 1: the same evaluations with other weights.
If e_k is the distance of its state from the run's, a step with the linear factor A adds the
difference of the two steps,

    e_{k+1} = A_k e_k + sum_j (b_kj - b'_kj) F_{k-j},                                            (1)

so that at the end e is the change of the final state if each step had been of one order less, with
the same evaluations. It is the error of the lower order, which overestimates the error where the
run has converged. It says nothing about samples that end in another mode, which no local estimate
detects.
"""

__all__ = ["Discretisation"]

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ornstein.core.methods.linear_multistep import MultistepState
from ornstein.core.simulation.method import Step
from ornstein.errors import OrnsteinError


@dataclass
class Discretisation:
    """A watcher that estimates the discretisation error of a run of `Multistep`.

    Pass it as ``watch=[error]`` to a run of order 2 or more.

    Attributes:
        gap: the estimated error of each entry of the state, ``(b, *event)``, signed.
    """

    gap: Tensor = field(default_factory=lambda: torch.zeros(()))

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        if not isinstance(step.memory, MultistepState) or not any(
            row.lower for row in step.memory.rows
        ):
            raise OrnsteinError(
                "the discretisation error is estimated by Multistep(order=2) or higher, such as"
                " method='auto'"
            )
        row = step.memory.rows[step.memory.done - 1]
        difference = step.memory.embedded()
        self.gap = self.gap * row.keep + (0.0 if difference is None else difference)  # (1)

    def rms(self) -> Tensor:
        """Return the root mean square error over the entries of each sample, ``(b,)``."""
        return self.gap.square().flatten(1).mean(1).sqrt()
