"""Estimate a normalising constant Z, on the log scale, from importance weights.

Weights ``w = rho(x) / q(x)`` of draws x of a normalised proposal q have the mean Z, the integral of
the unnormalised density rho. `log_z` takes independent weights, `log_z_of_runs` the estimates of
independent runs of sequential Monte Carlo, whose particles depend on each other. With draws of both
q and rho / Z, Bennett's acceptance ratio (`bar`) is the estimator of least variance: with
``u = log rho - log q`` at n_q draws of q and at n_p draws of rho / Z, it solves

    sum_q 1 / (1 + exp(c - u)) = sum_p 1 / (1 + exp(u - c)),   c = log Z + log(n_q / n_p),       (1)

the optimal bridge between the two (Bennett 1976; Meng and Wong 1996). Estimates that are
independent of each other are combined in `ornstein.density.consistency`.
"""

__all__ = ["NORMAL_REACH", "LogZ", "bar", "log_z", "log_z_of_runs", "student"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.estimate import NORMAL_QUANTILE, Estimate
from ornstein.core.numerics.importance import ess, log_ess, require_two
from ornstein.core.numerics.roots import bisect
from ornstein.errors import OrnsteinError

NORMAL_REACH = 1.96
"""Standard errors from the middle to the ends of a 95 % interval, where the errors are normal."""
_BRACKETING_STEPS = 60  # doublings of the interval that is to hold the root of (1)
_BISECTION_STEPS = 100  # halvings of that interval: the last digit of a double is reached


@dataclass(frozen=True, eq=False)
class LogZ(Estimate):
    """An estimate of the log normalising constant log Z, in nats, with its 95 % interval.

    Args:
        value: log of the mean weight.
        stderr: standard error of the value, by the delta method.
        interval: 95 % interval.
        cost: evaluations of the log-density behind the estimate, where they were counted; else 0.
        elbo: mean of the log-weights, a lower bound on log Z in expectation.
        ess: effective sample size ``(sum w)^2 / sum w^2``, in samples.

    Example:
        >>> estimate = orn.log_z(torch.tensor([0.9, 1.0, 1.1, 1.0]))
        >>> estimate.elbo <= estimate.value
        True
        >>> value, stderr = estimate
    """

    elbo: float = math.nan
    ess: float = math.nan


def log_z(log_w: Float[Tensor, " n"]) -> LogZ:
    """Estimate log Z from independent log-weights, as ``log mean w``.

    The standard error is ``sd(w) / (mean(w) sqrt(n))``. The interval is symmetric for w, so not for
    log w: ``log(mean w -+ 1.96 se)``.

    Args:
        log_w: log-weights in nats; -inf is a weight of 0.

    Raises:
        OrnsteinError: if there are fewer than two weights, one is NaN or +inf, or all are zero.

    Example:
        >>> orn.log_z(torch.full((10,), 3.0)).value
        3.0
    """
    n = require_two(log_w)
    log_w = log_w.detach().double()
    if not _usable(log_w):
        raise OrnsteinError(
            "log-weights are NaN, +inf or all -inf: check the log-density at the generated points"
        )
    largest = log_w.max()
    w = (log_w - largest).exp()
    mean = float(w.mean())
    stderr = float(w.std()) / math.sqrt(n) / mean
    value = float(largest) + math.log(mean)
    return LogZ(
        value,
        stderr,
        _interval(value, stderr, NORMAL_REACH),
        elbo=float(log_w.mean()),
        ess=ess(log_w),
    )


def log_z_of_runs(log_estimates: Float[Tensor, " k"], log_w: Float[Tensor, " n"]) -> LogZ:
    """Estimate log Z from independent unbiased estimates of Z, as the log of their mean.

    The interval is Student's, from the spread of the estimates. Sequential Monte Carlo gives such
    estimates, one for each independent group of particles.

    Args:
        log_estimates: log of each estimate of Z; -inf for a run whose particles all died.
        log_w: log-weights of all particles, for the effective sample size.

    Raises:
        OrnsteinError: if all estimates are -inf, or one is NaN or +inf.
    """
    k = len(log_estimates)
    log_estimates = log_estimates.detach().double()
    if not _usable(log_estimates):
        raise OrnsteinError(
            "the estimates of the runs are NaN, +inf or all -inf: check the log-density at the"
            " particles"
        )
    largest = log_estimates.max()
    z = (log_estimates - largest).exp()
    mean = float(z.mean())
    stderr = float(z.std()) / math.sqrt(k) / mean if k > 1 else math.inf
    value = float(largest) + math.log(mean)
    return LogZ(
        value,
        stderr,
        _interval(value, stderr, student(k - 1)),
        elbo=float(log_estimates.mean()),
        ess=float(log_ess(log_w, 0).exp()),
    )


def _usable(logs: Tensor) -> bool:
    """Return whether log-weights have a mean: none is NaN or +inf, and not all are -inf."""
    spoilt = bool(torch.isnan(logs).any() | (logs == torch.inf).any())
    return not spoilt and bool(torch.isfinite(logs).any())


def _interval(value: float, stderr: float, quantile: float) -> tuple[float, float]:
    """Return the ends ``log(Z -+ q se)``, symmetric for Z and therefore not for log Z."""
    reach = quantile * stderr
    low = value + math.log1p(-reach) if reach < 1 else -math.inf
    return low, value + math.log1p(reach)


def student(df: int) -> float:
    """Return the 0.975 quantile of Student's t distribution, to 1 % from df = 2.

    The expansion of Cornish and Fisher: Hill 1970.

    Args:
        df: degrees of freedom; inf is returned below 1.
    """
    if df < 1:
        return math.inf
    if df <= 2:
        return (12.706, 4.303)[df - 1]
    z = NORMAL_QUANTILE
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
    """Estimate log Z by Bennett's acceptance ratio, from draws of a proposal and of the target.

    With ``u = log rho - log q`` at n_q draws of q and n_p draws of rho / Z, and ``c = log Z +
    log(n_q / n_p)``, the estimate solves ``sum_q sigmoid(u - c) = sum_p sigmoid(c - u)``.
    Bennett 1976; Meng and Wong 1996.

    Args:
        proposal: u at independent draws of q; -inf outside the support of rho.
        target: u at draws of rho / Z, equally weighted.
        target_ess: how many independent draws these are worth, for the error; None: as many as
            there are.

    Raises:
        OrnsteinError: if there are fewer than two of either, all of ``proposal`` are -inf, or a
            value is NaN or +inf.
    """
    n = require_two(proposal)
    m = require_two(target)
    u_q = proposal.detach().double()
    u_p = target.detach().double()
    bad = torch.cat([torch.isnan(u_q) | (u_q == torch.inf), ~torch.isfinite(u_p)])
    if bool(bad.any()) or not bool(u_q.isfinite().any()):
        raise OrnsteinError(
            "bar: the log ratios are NaN or infinite where they may not be: check both densities at"
            " both sets of draws"
        )
    n_p = m if target_ess is None else min(float(target_ess), m)
    shift = math.log(n / n_p)

    def excess(value: float) -> float:  # of the left-hand side of (1): decreases in log Z
        c = value + shift
        left = torch.sigmoid(u_q - c).mean() * n
        right = torch.sigmoid(c - u_p).mean() * n_p
        return float(left.log() - right.log())

    low = high = float(u_q.logsumexp(0)) - math.log(n)  # -1e300 in u must not set the scale
    for step in range(_BRACKETING_STEPS):
        low -= 2**step if excess(low) <= 0 else 0
        high += 2**step if excess(high) > 0 else 0
    value = sum(bisect(lambda value: excess(value) > 0, low, high, _BISECTION_STEPS)) / 2  # (1)
    f = torch.sigmoid(u_q - value - shift)
    g = torch.sigmoid(value + shift - u_p)
    stderr = math.sqrt(_relative_variance(f) / n + _relative_variance(g) / n_p)
    return LogZ(
        value,
        stderr,
        (value - NORMAL_REACH * stderr, value + NORMAL_REACH * stderr),
        elbo=float(u_q.mean()),
        ess=float(log_ess(u_q, 0).exp()),
    )


def _relative_variance(x: Tensor) -> float:
    """Return the variance of the entries divided by the square of their mean."""
    return float(x.var() / x.mean().square())
