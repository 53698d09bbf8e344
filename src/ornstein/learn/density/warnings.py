"""Reasons not to trust weights: where along the path they degenerate, and runs that contradict each other.

A path's log-weight is a sum over steps, ``log w = sum_k log u_k``. With the normalised weights W of the steps before, the conditional
effective sample size of step k, as a fraction of n,

    CESS_k / n = (sum_i W_i u_ki)^2 / sum_i W_i u_ki^2,                                                       (1)

is 1 where the step adds nothing to the spread of the weights (Zhou, Johansen and Aston 2016, section 3.3). For estimates ``z_s`` with
standard errors ``e_s`` from S seeds and their mean ``m`` by inverse variances,

    Q = sum_s (z_s - m)^2 / e_s^2  ~  chi^2 with S - 1 degrees of freedom                                     (2)

if the errors are what they say.
"""

__all__ = ["Disagreement", "StepWeights", "cess_profile", "disagreement"]

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.solve import LogWeight, Step
from ornstein.errors import OrnsteinError
from ornstein.learn.density.estimate import LogZ


@dataclass
class StepWeights(LogWeight):
    """A `LogWeight` that also keeps what every step adds: ``stacked()`` is ``(steps, n)``."""

    increments: list[Tensor] = field(default_factory=list)

    def __call__(self, t: Tensor, s: Tensor, x: Tensor, step: Step) -> None:
        self.increments.append(self._ratio(t, s, x, step))
        self.value = self.value + self.increments[-1]

    def stacked(self) -> Float[Tensor, "steps n"]:
        """The increments ``log u_k`` in nats."""
        return torch.stack(self.increments)


def cess_profile(increments: Float[Tensor, "steps n"]) -> Float[Tensor, " steps"]:
    """The conditional effective sample size (1) of each step, in (0, 1], float64.

    Args:
        increments: ``log u_k``; the first and last may take in the start law and the target. -inf is a weight of 0.

    Raises:
        OrnsteinError: for NaN, +inf, or fewer than two paths, and where all weights are 0.
    """
    log_u = increments.double()
    if log_u.shape[1] < 2 or bool(log_u.isnan().any() | (log_u == torch.inf).any()):
        raise OrnsteinError(f"increments {tuple(log_u.shape)} of log-weights: at least two paths, and no NaN or +inf")
    before = torch.cat([torch.zeros_like(log_u[:1]), log_u.cumsum(0)[:-1]]).log_softmax(1)
    log_cess = 2 * (before + log_u).logsumexp(1) - (before + 2 * log_u).logsumexp(1)  # (1)
    if bool(log_cess.isnan().any()):
        raise OrnsteinError("all weights are 0 from some step on: the paths leave the support of the target")
    return log_cess.exp().clamp(max=1)


class Disagreement(NamedTuple):
    """How estimates from several seeds fit together.

    Attributes:
        mean: by inverse variances, nats.
        stderr: of the mean, were the errors right.
        birge: ``sqrt(Q / (S - 1))``: about 1, or the factor by which the errors are too small.
        p_value: probability of a Q (2) as large or larger.
    """

    mean: float
    stderr: float
    birge: float
    p_value: float


def disagreement(estimates: Sequence[LogZ]) -> Disagreement:
    """The test (2) on log Z from runs with different seeds. Birge 1932.

    Raises:
        OrnsteinError: for fewer than two estimates, or a standard error that is not positive and finite.
    """
    values = torch.tensor([z.value for z in estimates], dtype=torch.float64)
    errors = torch.tensor([z.stderr for z in estimates], dtype=torch.float64)
    if len(values) < 2 or not bool((errors.isfinite() & (errors > 0)).all()):
        raise OrnsteinError(f"{len(values)} estimates with standard errors {errors.tolist()[:4]}: two or more, errors positive")
    precision = errors.square().reciprocal()
    mean = (precision * values).sum() / precision.sum()
    q = (precision * (values - mean).square()).sum()  # (2)
    freedom = torch.tensor(len(values) - 1, dtype=torch.float64)
    p = torch.special.gammaincc(freedom / 2, q / 2)
    return Disagreement(float(mean), float(precision.sum().rsqrt()), float((q / freedom).sqrt()), float(p))
