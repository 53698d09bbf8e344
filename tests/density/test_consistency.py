"""The agreement of seeds."""

import math

import pytest
import torch
from scipy.stats import chi2

import ornstein as orn
from ornstein.density.consistency import consistency_test
from ornstein.density.log_z import LogZ
from ornstein.errors import OrnsteinError

DOUBLE = torch.float64


def estimate(value, stderr):
    return LogZ(value, stderr, (value - 2 * stderr, value + 2 * stderr), elbo=value, ess=1.0)


def test_disagreement_is_a_chi_squared_test():
    values, errors = [1.0, 1.2, 0.7], [0.1, 0.2, 0.1]
    result = consistency_test([estimate(v, e) for v, e in zip(values, errors, strict=True)])
    precision = [1 / e**2 for e in errors]
    mean = sum(p * v for p, v in zip(precision, values, strict=True)) / sum(precision)
    q = sum(p * (v - mean) ** 2 for p, v in zip(precision, values, strict=True))
    assert result.mean == pytest.approx(mean) and result.stderr == pytest.approx(
        sum(precision) ** -0.5
    )
    assert result.birge == pytest.approx(math.sqrt(q / 2)) and result.p_value == pytest.approx(
        chi2.sf(q, 2)
    )


def test_honest_errors_agree_at_their_level():
    """Of 1000 sets of five, a tenth have p < 0.1, within 4 standard errors; with errors half as
    large, most do."""
    z = orn.Noise(2).normal((1000, 5), DOUBLE)
    for factor, low, high in ((1.0, 0.062, 0.138), (0.5, 0.5, 1.0)):
        small = (
            sum(
                consistency_test([estimate(float(v), factor) for v in row]).p_value < 0.1
                for row in z
            )
            / 1000
        )
        assert low < small < high


def test_disagreement_needs_two_errors():
    for estimates in ([estimate(0.0, 1.0)], [estimate(0.0, 0.0), estimate(1.0, 1.0)]):
        with pytest.raises(OrnsteinError, match="two or more"):
            consistency_test(estimates)
