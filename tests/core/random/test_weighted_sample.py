"""Weighted samples: moments, effective size, and resampling, against NumPy and exact laws."""

import math

import numpy as np
import pytest
import torch

from ornstein.core.numerics.importance import ess
from ornstein.core.random.noise import Noise
from ornstein.core.random.weighted_sample import WeightedSample, resample
from ornstein.errors import OrnsteinError

F64 = torch.float64


def from_wide_proposal(n: int, seed: int = 0) -> WeightedSample:
    """Draws of N(0, 4) in two dimensions with the weights of N(1, 1), normalised."""
    x = 2 * Noise(seed).normal((n, 2), F64)
    log_target = -(x - 1).square().sum(1) / 2 - math.log(2 * math.pi)
    log_proposal = -x.square().sum(1) / 8 - math.log(2 * math.pi * 4)
    return WeightedSample(x, log_target - log_proposal)


def test_weighted_moments_are_those_of_the_target():
    sample = from_wide_proposal(20000)
    w = sample.normalised
    mean = (w[:, None] * sample.x).sum(0)
    error = (w.square()[:, None] * (sample.x - mean).square()).sum(0).sqrt()
    assert bool(((mean - 1).abs() < 4 * error).all())
    z = sample.log_w.exp()
    assert float(z.mean()) == pytest.approx(1.0, abs=4 * float(z.std()) / math.sqrt(len(sample)))


def test_weights_are_normalised_and_counted():
    sample = from_wide_proposal(500)
    w = np.exp(sample.log_w.numpy())
    np.testing.assert_allclose(sample.normalised.numpy(), w / w.sum(), rtol=1e-12)
    assert sample.normalised.dtype == F64
    assert sample.ess == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-12)
    assert sample.ess == pytest.approx(ess(sample.log_w), rel=1e-12)
    assert len(sample) == 500 and sample.independent_groups == 500 and sample.cost == 0


def test_a_common_factor_of_the_weights_does_not_matter():
    one = from_wide_proposal(100)
    other = WeightedSample(one.x, one.log_w + 2000.0)
    torch.testing.assert_close(one.normalised, other.normalised)
    assert torch.equal(one.resample(50, Noise(1)), other.resample(50, Noise(1)))


def test_points_and_weights_have_one_length():
    with pytest.raises(OrnsteinError, match="as many log-weights"):
        WeightedSample(torch.zeros(3, 2), torch.zeros(4))
    with pytest.raises(OrnsteinError, match="as many log-weights"):
        WeightedSample(torch.zeros(3, 2), torch.zeros(3, 1))


def test_resampling_takes_each_point_n_w_times_up_to_one():
    sample = from_wide_proposal(60)
    n = 5000
    counts = torch.bincount(resample(sample.log_w, n, Noise(2)), minlength=60)
    assert int(counts.sum()) == n
    assert bool(((counts - n * sample.normalised).abs() < 1 + 1e-9).all())


def test_a_weight_of_zero_is_never_taken():
    log_w = torch.tensor([0.0, -math.inf, 0.3, -math.inf])
    assert set(resample(log_w, 1000, Noise(0)).tolist()) == {0, 2}


def test_the_order_of_resampled_points_is_random():
    """Systematic indices increase; shuffled ones have a rank correlation with their position of 0,
    within 4 standard errors ``1 / sqrt(n)``."""
    n = 4000
    chosen = resample(torch.zeros(n), n, Noise(5)).double()
    assert sorted(chosen.tolist()) == list(range(n))
    position = torch.arange(n, dtype=F64)
    correlation = torch.corrcoef(torch.stack([chosen, position]))[0, 1]
    assert abs(float(correlation)) < 4 / math.sqrt(n)


def test_resampling_depends_on_the_seed_alone():
    sample = from_wide_proposal(40)
    assert torch.equal(sample.resample(30, Noise(1)), sample.resample(30, Noise(1)))
    assert not torch.equal(sample.resample(30, Noise(1)), sample.resample(30, Noise(2)))
    assert sample.resample(30, Noise(1)).shape == (30, 2)


def test_resampled_moments_are_the_weighted_moments():
    sample = from_wide_proposal(300)
    n = 100_000
    resampled = sample.resample(n, Noise(3)).mean(0)
    weighted = (sample.normalised[:, None] * sample.x).sum(0)
    # each count is off by less than 1
    bound = sample.x.abs().sum(0) / n
    assert bool(((resampled - weighted).abs() < bound).all())
