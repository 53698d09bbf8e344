"""An estimate of the discretisation error of a run, from the run itself.

A multistep method of order p contains one of order p - 1: the same evaluations with other weights.
If e_k is the distance of its state from the run's, a step with the linear factor A adds the
difference of the two steps,

    e_{k+1} = A_k e_k + sum_j (b_kj - b'_kj) F_{k-j},                                            (1)

so that at the end e is what the whole run would have moved had each step been of one order less
(the denoiser being held). It costs no evaluation. It is the error of the lower order, so it errs on
the safe side where the run has converged, and says nothing about samples that fall to another mode,
where no local estimate can see the difference.
"""

__all__ = ["Discretisation"]

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ornstein.core.methods.multistep import MultistepState
from ornstein.core.simulation.method import Step
from ornstein.errors import OrnsteinError


@dataclass
class Discretisation:
    """A watcher that collects (1) along a run of `Multistep` of order 2 or more, ``watch=[error]``.

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
        row, difference = step.memory.rows[step.memory.done - 1], step.memory.embedded()
        self.gap = self.gap * row.keep + (0.0 if difference is None else difference)  # (1)

    def rms(self) -> Tensor:
        """Root mean square over the entries of each sample, ``(b,)``."""
        return self.gap.square().flatten(1).mean(1).sqrt()
