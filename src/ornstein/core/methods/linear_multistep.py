"""The step of a linear multistep method, from coefficients that are already computed.

A step of `Multistep`, and of `TabulatedMultistep`, moves the state by

    x_s = A x_t + sum_j b_j (D_j - kappa_j x_j) + std z,                                         (1)

where D_j are the posterior means of the last evaluations, newest first. What is interpolated, the
residual ``D - kappa x``, and the numbers A, b, kappa and std depend on the method and the grid
alone. A number is a float where all samples share their times, else a tensor ``(b,)``.
"""

__all__ = [
    "MultistepState",
    "Number",
    "StepCoefficients",
    "advance",
    "as_number",
    "combine",
    "residual_of",
]

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian, per_sample
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import NoiseStream
from ornstein.core.simulation.method import Step

Number = float | Tensor
"""A float where all samples share their times, else ``(b,)``."""


class StepCoefficients(NamedTuple):
    """The coefficients of one step ``x_s = A x_t + sum_j b_j (D_j - kappa_j x_j) + std z``.

    Attributes:
        kappa: factor of x_t in the residual of this step.
        keep: A, the factor of x_t.
        weights: b, newest first.
        std: standard deviation of the noise.
        lower: the weights b of the same step at one order less; empty at order 1.
        correction: weights of the correction on arrival, newest first; empty without corrector.
    """

    kappa: Number
    keep: Number
    weights: tuple[Number, ...]
    std: Number
    lower: tuple[Number, ...]
    correction: tuple[Number, ...] = ()


class MultistepState(NamedTuple):
    """The memory of a multistep method between two steps: coefficients and past residuals.

    Attributes:
        rows: the coefficients of every step of the run.
        done: how many steps are done, which is the index of the next one.
        residuals: the last residuals ``D - kappa x``, newest first.
        before: the state that the last step started from, where that step is to be corrected.
        noise: the noise of that step.
    """

    rows: tuple[StepCoefficients, ...]
    done: int = 0
    residuals: tuple[Tensor, ...] = ()
    before: Tensor | None = None
    noise: Tensor | None = None

    def embedded(self) -> Tensor | None:
        """Return the last step minus the same step of one order less, an estimate of the error.

        Returns:
            ``(b, *event)``, or None where there was no lower order.
        """
        row = self.rows[self.done - 1]
        if not row.lower:
            return None
        lower = (*row.lower, 0.0)
        difference = [w - v for w, v in zip(row.weights, lower, strict=False)]
        return combine(self.residuals, difference)


def advance(
    state: MultistepState,
    remembered: int,
    sde: Reverse,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    stream: NoiseStream,
) -> Step:
    """Take the next multistep step, after correcting the state by the new evaluation if asked.

    Args:
        state: the memory of the run.
        remembered: number of residuals to remember.
        sde, x, t, s, stream: as in `Method.step`.
    """
    row = state.rows[state.done]
    residuals = (residual_of(sde.posterior(x, t).mean, x, row.kappa), *state.residuals)
    if state.before is not None and state.rows[state.done - 1].correction:
        last = state.rows[state.done - 1]
        x = combine(residuals, last.correction, last.keep, state.before)
        x = x if state.noise is None else x + state.noise
    mean = combine(residuals, row.weights, row.keep, x)
    before = x if row.correction else None
    memory = MultistepState(state.rows, state.done + 1, residuals[:remembered], before)
    if not sde.eta:
        return Step(mean, memory=memory)
    z = stream.between(t, s)
    if isinstance(row.std, Tensor):
        kernel = Gaussian(mean, per_sample(row.std, x))
        y = kernel.draw(z)
    else:
        kernel = Gaussian(mean, torch.tensor(row.std, dtype=x.dtype))
        y = torch.add(mean, z, alpha=row.std)
    memory = memory._replace(noise=y - mean if row.correction else None)
    return Step(y, lambda: kernel, memory)  # (1)


def residual_of(mean: Tensor, x: Tensor, kappa: Number) -> Tensor:
    """Return the residual ``D - kappa x`` of a posterior mean D, ``(b, *event)``."""
    if isinstance(kappa, float):
        return torch.add(mean, x, alpha=-kappa) if kappa else mean
    return mean - per_sample(kappa, x) * x


def combine(
    residuals: Sequence[Tensor], weights: Any, keep: Number = 0.0, x: Tensor | None = None
) -> Tensor:
    """Return ``keep x + sum_j weights_j residuals_j`` as a new tensor ``(b, *event)``."""
    like = residuals[0]
    pairs = list(zip(weights, residuals, strict=False))
    if not isinstance(weights[0], float):
        total = torch.zeros_like(like) if x is None else per_sample(torch.as_tensor(keep), x) * x
        for w, q in pairs:
            total = total + per_sample(w, like) * q
        return total
    if x is not None:
        pairs = [(keep, x), *pairs]
    total = pairs[0][1] * pairs[0][0]
    for w, q in pairs[1:]:
        total.add_(q, alpha=w)
    return total


def as_number(value: Tensor) -> Number:
    """Return a float where all samples share the value, else the tensor itself."""
    return float(value) if value.ndim == 0 else value
