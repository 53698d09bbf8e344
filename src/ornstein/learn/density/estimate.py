"""log Z from weights, with its standard error and interval."""

__all__ = ["LogZ", "log_z", "several"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.errors import OrnsteinError


def several(log_w: Tensor) -> int:
    """The number of weights, if there are enough for a variance."""
    if len(log_w) < 2:
        raise OrnsteinError(f"{len(log_w)} log-weights: a variance needs at least two paths")
    return len(log_w)


class LogZ(NamedTuple):
    """An estimate of log Z in nats.

    Attributes:
        value: log of the mean weight.
        stderr: standard error of ``value`` (delta method).
        interval: 95 % interval.
        elbo: mean of log w, a lower bound in expectation.
        ess: effective sample size, in samples.
    """

    value: float
    stderr: float
    interval: tuple[float, float]
    elbo: float
    ess: float


def log_z(log_w: Float[Tensor, " n"]) -> LogZ:
    """log Z from independent weights: ``log mean w`` with the standard error ``sd(w) / (mean(w) sqrt(n))``.

    The interval is symmetric for w, so not for log w: ``log(mean w -+ 1.96 se)``.

    Raises:
        OrnsteinError: if there are fewer than two weights, one is NaN or +inf, or all are zero.
    """
    n, log_w = several(log_w), log_w.detach().double()
    if bool(torch.isnan(log_w).any() | (log_w == torch.inf).any()) or not bool(torch.isfinite(log_w).any()):
        raise OrnsteinError("log-weights are NaN, +inf or all -inf: check the log-density at the generated points")
    top = log_w.max()
    w = (log_w - top).exp()
    mean, se = float(w.mean()), float(w.std()) / math.sqrt(n)
    value = float(top) + math.log(mean)
    relative = se / mean
    low = math.log1p(-1.96 * relative) if 1.96 * relative < 1 else -math.inf
    interval = (value + low, value + math.log1p(1.96 * relative))
    return LogZ(value, relative, interval, float(log_w.mean()), float(w.sum().square() / w.square().sum()))
