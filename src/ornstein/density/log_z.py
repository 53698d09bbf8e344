"""log Z from weights, with its standard error and interval.

From samples of one law the mean weight; from samples of two, Bennett's acceptance ratio: with ``u =
log rho - log q`` known at n_q draws of the normalised q and at n_p draws of rho / Z, and ``c = log
Z + log(n_q / n_p)``, log Z solves

    sum_q 1 / (1 + exp(c - u)) = sum_p 1 / (1 + exp(u - c)),                                     (1)

the optimal bridge between the two (Bennett 1976; Meng and Wong 1996). Independent estimates are
fused with weights that are inverse to their variances. For estimates ``z_s`` with standard errors
``e_s`` from S seeds and their mean ``m`` by inverse variances,

    Q = sum_s (z_s - m)^2 / e_s^2  ~  chi^2 with S - 1 degrees of freedom                        (2)

if the errors are what they say.
"""

__all__ = [
    "ConsistencyTest",
    "LogZ",
    "bar",
    "consistency_test",
    "fuse",
    "log_z",
    "log_z_islands",
    "student",
]

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.importance import require_two
from ornstein.errors import OrnsteinError


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
    """log Z from independent weights: ``log mean w`` with the standard error ``sd(w) / (mean(w)
    sqrt(n))``.

    The interval is symmetric for w, so not for log w: ``log(mean w -+ 1.96 se)``.

    Raises:
        OrnsteinError: if there are fewer than two weights, one is NaN or +inf, or all are zero.
    """
    n, log_w = require_two(log_w), log_w.detach().double()
    if bool(torch.isnan(log_w).any() | (log_w == torch.inf).any()) or not bool(
        torch.isfinite(log_w).any()
    ):
        raise OrnsteinError(
            "log-weights are NaN, +inf or all -inf: check the log-density at the generated points"
        )
    top = log_w.max()
    w = (log_w - top).exp()
    mean, se = float(w.mean()), float(w.std()) / math.sqrt(n)
    value = float(top) + math.log(mean)
    relative = se / mean
    return LogZ(
        value,
        relative,
        _interval(value, relative, 1.96),
        float(log_w.mean()),
        float(w.sum().square() / w.square().sum()),
    )


def log_z_islands(islands: Float[Tensor, " k"], log_w: Float[Tensor, " n"]) -> LogZ:
    """log Z from independent unbiased estimates of Z: the log of their mean, with Student's
    interval from their spread.

    Args:
        islands: log of each estimate; -inf for an island that died.
        log_w: log-weights of all particles, for the effective sample size.

    Raises:
        OrnsteinError: if all are -inf, or one is NaN or +inf.
    """
    k, islands = len(islands), islands.detach().double()
    if bool(torch.isnan(islands).any() | (islands == torch.inf).any()) or not bool(
        torch.isfinite(islands).any()
    ):
        raise OrnsteinError(
            "the islands' estimates are NaN, +inf or all -inf: check the log-density at the"
            " particles"
        )
    top = islands.max()
    z = (islands - top).exp()
    mean = float(z.mean())
    relative = float(z.std()) / math.sqrt(k) / mean if k > 1 else math.inf
    value, ess = (
        float(top) + math.log(mean),
        float((2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()),
    )
    return LogZ(
        value, relative, _interval(value, relative, student(k - 1)), float(islands.mean()), ess
    )


def _interval(value: float, relative: float, quantile: float) -> tuple[float, float]:
    """``log(Z -+ q se)``: symmetric for Z, so not for log Z."""
    reach = quantile * relative
    return value + (math.log1p(-reach) if reach < 1 else -math.inf), value + math.log1p(reach)


def student(df: int) -> float:
    """The 0.975 quantile of Student's t with df degrees of freedom, to 1 % from df = 2
    (Cornish-Fisher; Hill 1970)."""
    if df < 1:
        return math.inf
    if df <= 2:
        return (12.706, 4.303)[df - 1]
    z = 1.959964
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / df**j for j, term in enumerate(terms))


def bar(
    proposal: Float[Tensor, " n"], target: Float[Tensor, " m"], target_ess: float | None = None
) -> LogZ:
    """log Z by (1), from ``u = log rho - log q`` at draws of q and at draws of rho / Z.

    Args:
        proposal: u at independent draws of q; -inf outside the support of rho.
        target: u at draws of rho / Z, equally weighted.
        target_ess: how many independent draws these are worth, for the error; None: as many as
            there are.

    Raises:
        OrnsteinError: if there are fewer than two of either, all of ``proposal`` are -inf, or a
            value is NaN or +inf.
    """
    n, m = require_two(proposal), require_two(target)
    u_q, u_p = proposal.detach().double(), target.detach().double()
    bad = torch.cat([u_q.isnan() | (u_q == torch.inf), ~u_p.isfinite()])
    if bool(bad.any()) or not bool(u_q.isfinite().any()):
        raise OrnsteinError(
            "bar: the log ratios are NaN or infinite where they may not be: check both densities at"
            " both sets of draws"
        )
    worth = m if target_ess is None else min(float(target_ess), m)
    shift = math.log(n / worth)

    def excess(value: float) -> float:  # of the left-hand side of (1): decreases in log Z
        c = value + shift
        left, right = torch.sigmoid(u_q - c).mean() * n, torch.sigmoid(c - u_p).mean() * worth
        return float(left.log() - right.log())

    low = high = float(u_q.logsumexp(0)) - math.log(
        n
    )  # a value of -1e300 among the others must not set the scale
    for step in range(60):
        low, high = (
            low - (2**step if excess(low) <= 0 else 0),
            high + (2**step if excess(high) > 0 else 0),
        )
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    value = (low + high) / 2
    f, g = torch.sigmoid(u_q - value - shift), torch.sigmoid(value + shift - u_p)
    relative = math.sqrt(
        float(f.var() / f.mean().square()) / n + float(g.var() / g.mean().square()) / worth
    )
    ess = float((2 * u_q.logsumexp(0) - (2 * u_q).logsumexp(0)).exp())
    return LogZ(
        value, relative, (value - 1.96 * relative, value + 1.96 * relative), float(u_q.mean()), ess
    )


def fuse(estimates: Sequence[LogZ], precisions: Sequence[float] | None = None) -> LogZ:
    """Independent estimates as one: their weighted mean; the interval is widened where they
    disagree.

    An estimate of weights that happen to be low comes with a standard error that is low, too:
    precisions that were known before the estimates are the better weights. The standard error is
    multiplied by ``sqrt(chi^2 / (k - 1))`` where that exceeds 1 (Birge 1932). The weights must not
    be chosen by looking at the values: leave none out. The bound and the ESS are those of the most
    precise.

    Args:
        estimates: independent of each other.
        precisions: expected ``1 / stderr^2``, one of each; None takes those that came out.

    Raises:
        OrnsteinError: if there is none with a finite standard error, or as many precisions as
            estimates are not given.
    """
    if precisions is not None and len(precisions) != len(estimates):
        raise OrnsteinError(
            f"fuse: {len(precisions)} precisions for {len(estimates)} estimates: one for each"
        )
    floor = 1e-12
    expected = precisions or [1 / max(e.stderr, floor) ** 2 for e in estimates]
    usable = [
        (e, p)
        for e, p in zip(estimates, expected, strict=True)
        if math.isfinite(e.stderr) and math.isfinite(e.value)
    ]
    if not usable:
        raise OrnsteinError(
            f"fuse: none of {len(estimates)} estimates has a finite standard error: use more"
            " samples or islands"
        )
    best = min((e for e, _ in usable), key=lambda e: e.stderr)
    if len(usable) == 1:
        return best
    whole = sum(p for _, p in usable)
    value = sum(p * e.value for e, p in usable) / whole
    birge = (
        1.0
        if min(e.stderr for e, _ in usable) < floor
        else max(1.0, consistency_test([e for e, _ in usable]).birge)
    )
    stderr = birge * math.sqrt(sum((p * e.stderr) ** 2 for e, p in usable)) / whole
    reach = max(
        (e.interval[1] - e.value) / max(e.stderr, floor) for e, _ in usable
    )  # the widest of their quantiles
    reach = min(max(reach, 1.96), 3.0)
    return LogZ(
        value, stderr, (value - reach * stderr, value + reach * stderr), best.elbo, best.ess
    )


class ConsistencyTest(NamedTuple):
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


def consistency_test(estimates: Sequence[LogZ]) -> ConsistencyTest:
    """The test (2) on log Z from runs with different seeds. Birge 1932.

    Raises:
        OrnsteinError: for fewer than two estimates, or a standard error that is not positive and
            finite.
    """
    values = torch.tensor([z.value for z in estimates], dtype=torch.float64)
    errors = torch.tensor([z.stderr for z in estimates], dtype=torch.float64)
    if len(values) < 2 or not bool((errors.isfinite() & (errors > 0)).all()):
        raise OrnsteinError(
            f"{len(values)} estimates with standard errors {errors.tolist()[:4]}: two or more,"
            " errors positive"
        )
    precision = errors.square().reciprocal()
    mean = (precision * values).sum() / precision.sum()
    q = (precision * (values - mean).square()).sum()  # (2)
    freedom = torch.tensor(len(values) - 1, dtype=torch.float64)
    p = torch.special.gammaincc(freedom / 2, q / 2)
    return ConsistencyTest(
        float(mean), float(precision.sum().rsqrt()), float((q / freedom).sqrt()), float(p)
    )
