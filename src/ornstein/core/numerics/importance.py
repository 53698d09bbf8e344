"""Importance weights: what they are worth and what may be estimated from them."""

__all__ = ["require_two"]

from torch import Tensor

from ornstein.errors import OrnsteinError


def require_two(log_w: Tensor) -> int:
    """Return the number of weights, and raise unless there are at least two, so that they have a
    variance."""
    if len(log_w) < 2:
        raise OrnsteinError(f"{len(log_w)} log-weights: a variance needs at least two paths")
    return len(log_w)
