"""Document 000, first part: Brownian motion, its increments, its covariance, its variation.

Every statement is measured on Brownian paths on [0, 1] with steps of 1/256; `unit_paths` says how
far a sum over a path may be from the integral that it tends to.
"""

__all__: list[str] = []

import math
from typing import Any

import torch

from ornstein.app.verify.check import Outcome, check, estimated, exactly, normal_law
from ornstein.app.verify.problems import POINTS, ROUNDING, SAMPLES, SEED
from ornstein.app.verify.unit_paths import (
    PATHS,
    SQUARED_INCREMENTS,
    STEP,
    TIMES,
    free_path,
    unit_path,
)
from ornstein.calculus import covariation, ito_process, quadratic_variation
from ornstein.calculus.integrals.process import StochasticProcess
from ornstein.core.random import BrownianPath

STATES = POINTS[::2, 0]


@check("000", right=7, wrong=8, mistake="another omega is another path")
def path_valued(claim: int) -> Outcome:
    """A process is omega -> (t -> x), and at one omega it is one path.

    The path is the same in whatever order it is queried.
    """
    motion = StochasticProcess(lambda omega: BrownianPath((4,), seed=omega, dtype=torch.float64))
    path = motion(7)
    again = motion(claim)
    late = path(0.9)
    early = path(0.3)
    return exactly(
        torch.stack([again(0.3), again(0.9)]), torch.stack([early, late]), 1e-12, ROUNDING
    )


@check(
    "000",
    right=lambda h: math.sqrt(h),
    wrong=lambda h: h,
    mistake="t - s taken for the standard deviation",
)
def brownian_increments(claim: Any) -> Outcome:
    """The increments of Brownian motion are Gaussian, B_t - B_s ~ N(0, t - s)."""
    path = free_path()
    return normal_law(path(0.3, 0.8) / claim(0.5), SEED)


@check(
    "000",
    right=lambda path: path(0.3, 0.8),
    wrong=lambda path: path(0.8),
    mistake="the value B_t in place of the increment",
)
def increments_forget_the_past(claim: Any) -> Outcome:
    """B_t - B_s is independent of B_s: E[(B_t - B_s) B_s] = 0."""
    path = free_path()
    return estimated(claim(path) * path(0.3), 0.0, SEED)


@check("000", right=min, wrong=lambda s, t: s * t, mistake="s t, the covariance of t B_1")
def brownian_covariance(claim: Any) -> Outcome:
    """The covariance of Brownian motion is Cov(B_s, B_t) = min(s, t)."""
    path = free_path()
    return estimated(path(0.5) * path(0.6), claim(0.5, 0.6), SEED)


@check("000", right=1.0, wrong=0.0, mistake="(dB)^2 = 0, as for a smooth path")
def quadratic_variation_of_brownian(claim: Any) -> Outcome:
    """(dB)^2 = dt: the sum of (B_{k+1} - B_k)^2 tends to T."""
    return exactly(
        quadratic_variation(unit_path(PATHS), TIMES),
        claim,
        SQUARED_INCREMENTS,
        "5 sd of the sum, sqrt(2 T h), 500 paths",
    )


@check("000", right=3.0, wrong=1.0, mistake="(t - s)^2, the square of the second moment")
def brownian_paths_are_continuous(claim: Any) -> Outcome:
    """E (B_t - B_s)^4 = 3 (t - s)^2, a power above 1, so that paths are continuous (Kolmogorov)."""
    path = free_path(4 * SAMPLES)
    return estimated(path(0.3, 0.8) ** 4, claim * 0.25, SEED)


@check(
    "000",
    right=lambda path: TIMES[:, None].expand(-1, PATHS),
    wrong=lambda path: ito_process(1.0, path, TIMES),
    mistake="(dB)^2, which is dt",
)
def time_and_brownian_do_not_covary(claim: Any) -> Outcome:
    """dt dB = 0: the sum of (t_{k+1} - t_k) (B_{k+1} - B_k) tends to 0."""
    return exactly(
        covariation(claim(unit_path(PATHS)), unit_path(PATHS), TIMES),
        0.0,
        5 * STEP,
        "5 sd of the sum, h sqrt(T), 500 paths",
    )
