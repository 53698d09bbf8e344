"""Cache what depends on a method and a time grid alone, such as the weights of the steps.

Samplers run many times on the same grid; computing the weights of exponential integrators takes
longer than a cheap network evaluation.
"""

__all__ = ["once_per_grid"]

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor

from ornstein.core.processes.linear import LinearSDE

_CACHED_GRIDS = 64  # plans that are remembered, for each kind of method


def once_per_grid(
    plan: Callable[[Any, LinearSDE, float, Tensor], Any],
) -> Callable[[Any, LinearSDE, float, Tensor], Any]:
    """Wrap a function ``plan(method, process, eta, times)`` so that recent results are remembered.

    Only results for grids ``(n,)`` that all samples of a batch share are remembered, by value.
    """

    @lru_cache(maxsize=_CACHED_GRIDS)
    def remembered(method: Any, process: LinearSDE, eta: float, times: tuple[float, ...]) -> Any:
        with torch.inference_mode(
            False
        ):  # a remembered tensor must serve later runs with gradients
            return plan(method, process, eta, torch.tensor(times, dtype=torch.float64))

    @wraps(plan)
    def planned(method: Any, process: LinearSDE, eta: float, times: Tensor) -> Any:
        if times.ndim == 1:
            try:
                return remembered(method, process, eta, tuple(times.tolist()))
            except TypeError:  # a user's process that cannot be hashed
                pass
        return plan(method, process, eta, times.double())

    planned.cache_info = remembered.cache_info  # type: ignore[attr-defined]
    return planned
