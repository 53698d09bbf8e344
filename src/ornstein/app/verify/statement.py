"""The two sides of an equation of the proof of the likelihood bound, with their sampling error."""

__all__ = ["Statement", "of_draws", "of_numbers"]

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Statement(NamedTuple):
    """The two sides of an equation, and the standard error of their difference.

    Attributes:
        computed: the side that a solver or a simulation gave.
        exact: the side in closed form, or by quadrature.
        stderr: standard error of ``computed - exact`` where it was simulated, else 0.
    """

    computed: Tensor
    exact: Tensor
    stderr: Tensor

    @property
    def error(self) -> float:
        """The largest absolute difference of the two sides."""
        return float((self.computed - self.exact).abs().max())


def of_numbers(computed: Tensor, exact: Tensor) -> Statement:
    """Return a statement whose sides have no sampling error."""
    return Statement(computed, exact, torch.zeros_like(computed))


def of_draws(draws: Tensor, exact: Tensor) -> Statement:
    """Return a statement whose computed side is the mean of independent draws."""
    stderr = draws.std() / math.sqrt(len(draws))
    return Statement(draws.mean().reshape(1), exact, stderr.reshape(1))
