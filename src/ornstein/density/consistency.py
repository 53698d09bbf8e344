"""Combine independent estimates of log Z, and test whether they agree.

`sample_density` estimates log Z twice, by tempered Monte Carlo and by importance sampling with a
diffusion, and several seeds give several results. `fuse` makes one estimate of them, with weights
inverse to their variances; `consistency_test` asks whether the errors are what they claim to be.
For estimates ``z_s`` with standard errors ``e_s``, s = 1..S, and their mean ``m`` by inverse
variances,

    Q = sum_s (z_s - m)^2 / e_s^2  ~  chi^2 with S - 1 degrees of freedom                        (1)

if the errors are right. Where ``sqrt(Q / (S - 1))`` exceeds 1, it is the factor by which the errors
are too small (Birge 1932).
"""

__all__ = ["ConsistencyTest", "consistency_test", "fuse"]

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from ornstein.density.log_z import NORMAL_REACH, LogZ
from ornstein.errors import OrnsteinError

_EXACT = 1e-12  # nats: a standard error below this size is rounding
_WIDEST_REACH = 3.0  # largest distance of an interval's ends from its middle, in standard errors


class ConsistencyTest(NamedTuple):
    """How well estimates from independent runs fit together, by a chi-squared test.

    Attributes:
        mean: mean of the estimates by inverse variances, nats.
        stderr: standard error of the mean, were the errors right.
        birge: ``sqrt(Q / (S - 1))``: about 1, or the factor by which the errors are too small.
        p_value: probability of a Q as large or larger, ``Q = sum_s (z_s - mean)^2 / e_s^2``.
    """

    mean: float
    stderr: float
    birge: float
    p_value: float


def consistency_test(estimates: Sequence[LogZ]) -> ConsistencyTest:
    """Test whether estimates of log Z from independent runs agree within their standard errors.

    With ``m`` the mean by inverse variances, ``Q = sum_s (z_s - m)^2 / e_s^2`` is compared with the
    chi-squared law of S - 1 degrees of freedom. Birge 1932.

    Args:
        estimates: two or more, such as those of runs with different seeds.

    Raises:
        OrnsteinError: for fewer than two estimates, or a standard error that is not positive and
            finite.
    """
    values = torch.tensor([estimate.value for estimate in estimates], dtype=torch.float64)
    errors = torch.tensor([estimate.stderr for estimate in estimates], dtype=torch.float64)
    if len(values) < 2 or not bool((errors.isfinite() & (errors > 0)).all()):
        raise OrnsteinError(
            f"{len(values)} estimates with standard errors {errors.tolist()[:4]}: two or more,"
            " errors positive"
        )
    precision = errors.square().reciprocal()
    mean = (precision * values).sum() / precision.sum()
    q = (precision * (values - mean).square()).sum()  # (1)
    freedom = torch.tensor(len(values) - 1, dtype=torch.float64)
    p_value = torch.special.gammaincc(freedom / 2, q / 2)
    return ConsistencyTest(
        float(mean), float(precision.sum().rsqrt()), float((q / freedom).sqrt()), float(p_value)
    )


def fuse(estimates: Sequence[LogZ], precisions: Sequence[float] | None = None) -> LogZ:
    """Combine independent estimates of log Z into their weighted mean, with one interval.

    Weights that happen to be low come with a standard error that is low, too: precisions that were
    known before the estimates are the better weights. The standard error is multiplied by
    ``sqrt(Q / (S - 1))`` where the estimates disagree, ``Q = sum_s (z_s - m)^2 / e_s^2`` (Birge
    1932). The weights must not be chosen by looking at the values: leave none out. The bound and
    the effective sample size are those of the most precise estimate.

    Args:
        estimates: independent of each other.
        precisions: expected ``1 / stderr^2``, one for each estimate; None takes those that came
            out.

    Raises:
        OrnsteinError: if no estimate has a finite standard error, or if the numbers of precisions
            and of estimates differ.
    """
    if precisions is not None and len(precisions) != len(estimates):
        raise OrnsteinError(
            f"fuse: {len(precisions)} precisions for {len(estimates)} estimates: one for each"
        )
    expected = precisions or [1 / max(e.stderr, _EXACT) ** 2 for e in estimates]
    usable = [
        (estimate, precision)
        for estimate, precision in zip(estimates, expected, strict=True)
        if math.isfinite(estimate.stderr) and math.isfinite(estimate.value)
    ]
    if not usable:
        raise OrnsteinError(
            f"fuse: none of {len(estimates)} estimates has a finite standard error: use more"
            " samples or independent runs"
        )
    best = min((estimate for estimate, _ in usable), key=lambda estimate: estimate.stderr)
    if len(usable) == 1:
        return best
    total = sum(p for _, p in usable)
    value = sum(p * e.value for e, p in usable) / total
    birge = (
        1.0
        if best.stderr < _EXACT
        else max(1.0, consistency_test([estimate for estimate, _ in usable]).birge)
    )
    stderr = birge * math.sqrt(sum((p * e.stderr) ** 2 for e, p in usable)) / total
    widest = max((e.interval[1] - e.value) / max(e.stderr, _EXACT) for e, _ in usable)
    reach = min(max(widest, NORMAL_REACH), _WIDEST_REACH)
    return LogZ(
        value,
        stderr,
        (value - reach * stderr, value + reach * stderr),
        elbo=best.elbo,
        ess=best.ess,
    )
