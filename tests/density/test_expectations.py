"""Averages over a density and their errors."""

import math
from dataclasses import replace

import pytest
import torch

import ornstein as orn
from ornstein.core.random.weighted_sample import WeightedSample
from ornstein.density.expectations import average
from ornstein.errors import OrnsteinError

DOUBLE = torch.float64


def tilted(seed, n=4096, groups=16):
    """Particles of N(0, 1), weighted for N(1, 1)."""
    x = orn.Noise(seed).normal((n, 1), DOUBLE)
    return WeightedSample(x, x[:, 0] - 0.5, groups)


def test_the_error_is_what_repetitions_show():
    """Mean and square under N(1, 1) from weighted draws of N(0, 1), 300 times: unbiased, and the
    mean square error is the reported variance, both within 4 standard errors of 300 runs."""
    f = lambda x: torch.cat([x, x.square()], 1)  # noqa: E731
    estimates = [average([tilted(seed)], f) for seed in range(300)]
    values = torch.stack([estimate.value for estimate in estimates])
    error = values - torch.tensor([1.0, 2.0], dtype=DOUBLE)
    variance = torch.stack([estimate.stderr for estimate in estimates]).square()
    assert bool((error.mean(0).abs() < 4 * error.std(0) / math.sqrt(300)).all())
    excess = error.square() - variance
    assert bool((excess.mean(0).abs() < 4 * excess.std(0) / math.sqrt(300)).all())


def test_groups_may_be_dependent_within():
    """Every particle of a group the same: the error is that of as many draws as there are
    groups."""
    x = orn.Noise(0).normal((64, 1), DOUBLE)
    mean = average(
        [WeightedSample(x.repeat_interleave(100, 0), torch.zeros(6400, dtype=DOUBLE), 64)],
        lambda x: x[:, 0],
    )
    assert float(mean.value) == pytest.approx(float(x.mean())) and float(
        mean.stderr
    ) == pytest.approx(float(x.std()) / 8)


def test_sets_count_by_their_effective_sizes():
    """Three sets of one law: their common error is nearly what a set of all has; particles
    of weight 0 do not count, even where f is NaN."""
    sets = [
        tilted(0),
        tilted(1),
        replace(tilted(2), log_w=tilted(2).log_w + 7),
    ]  # of an unknown constant
    dead = WeightedSample(
        torch.cat([sets[0].x, -sets[0].x]),
        torch.cat([sets[0].log_w, torch.full((4096,), -torch.inf)]),
        32,
    )
    one, all_ = average(sets[:1], lambda x: x[:, 0]), average(sets, lambda x: x[:, 0])
    assert abs(float(all_.value) - 1) < 4 * float(all_.stderr)
    assert float(all_.stderr) == pytest.approx(float(one.stderr) / 3**0.5, rel=0.3)
    spoilt = lambda x: x[:, 0].where(x[:, 0] != -sets[0].x[0, 0], torch.nan)  # noqa: E731
    assert float(average([dead], spoilt).value) == pytest.approx(float(one.value))


def test_a_weight_that_is_zero_in_double_precision_does_not_count():
    """At x = 1e301 the square overflows; a log-weight of -2000 keeps that out of the mean."""
    x = torch.cat([tilted(0).x, torch.full((16, 1), 1e301, dtype=DOUBLE)])
    log_w = torch.cat([tilted(0).log_w, torch.full((16,), -2000.0, dtype=DOUBLE)])
    mean, stderr = average([WeightedSample(x, log_w, 16)], lambda x: x.square())
    expected = average([tilted(0)], lambda x: x.square())
    assert float(mean) == pytest.approx(float(expected.value))
    assert float(stderr) == pytest.approx(float(expected.stderr), rel=0.5)


def test_a_row_for_each_particle():
    with pytest.raises(OrnsteinError, match="need a row for each"):
        average([tilted(0)], lambda x: x.mean())


def test_a_result_averages_by_name():
    """Moments of eight schools' mu and log tau, on two seeds. Each mean is within 4 standard errors
    of the exact one, those of the exact samples included.

    What a run reports as its error is itself estimated, from an adaptive plan that differs between
    processors, so nothing is asked of one run's: the root mean square of the true errors of all
    four numbers is below 2 standard errors of a mean of the 1024 samples, which is what averaging
    over all weighted particles is to improve on."""
    target = orn.targets.EightSchools()
    exact = target.parameters(target.sample(400_000, dtype=DOUBLE))[:, :2]
    truth = torch.stack([exact[:, 0], exact[:, 1].log()], 1)
    errors = []
    for seed in range(2):
        r = orn.sample_density(
            target, n=1024, stderr=0.03, particles=512, training_steps=1, seed=seed
        )
        mean = r.average(lambda p: torch.stack([p["mu"], p["tau"].log()], 1))
        error = mean.value - truth.mean(0)
        assert mean.value.shape == mean.stderr.shape == (2,)
        assert bool((error.abs() < 4 * (mean.stderr + truth.std(0) / 400_000**0.5)).all())
        errors.append(error / (truth.std(0) / 1024**0.5))
    assert float(torch.stack(errors).square().mean().sqrt()) < 2
