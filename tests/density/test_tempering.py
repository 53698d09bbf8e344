"""Tempered SMC and systematic resampling."""

import math

import pytest
import torch

import ornstein as orn
from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.random.weighted_sample import resample
from ornstein.density.proposals.mixture import Mixture
from ornstein.density.smc.tempered_smc import adaptive_smc, frozen_smc
from ornstein.errors import OrnsteinError

pytestmark = pytest.mark.usefixtures("seeded_weights")

DOUBLE = torch.float64


def wide(std):
    return Mixture(
        torch.ones(1, dtype=DOUBLE),
        torch.zeros(1, 2, dtype=DOUBLE),
        std * torch.eye(2, dtype=DOUBLE)[None],
    )


def test_resampling_takes_each_sample_its_share_up_or_down_rounded():
    """Systematic: every count is the floor or the ceiling of ``n w_i``, for any weights and any
    n."""
    log_w = 2 * orn.Noise(0).normal((37,), DOUBLE)
    for n in (10, 100, 1000):
        share = n * log_w.softmax(0)
        for seed in range(20):
            counts = torch.bincount(resample(log_w, n, orn.Noise(seed)), minlength=37)
            assert bool(((counts >= share.floor()) & (counts <= share.ceil())).all())


def test_resampling_is_unbiased_and_in_random_order():
    """Mean counts over 4000 seeds are ``n w_i`` within 4 standard errors; the first place holds
    each sample with its weight."""
    log_w = torch.tensor([0.0, 1.0, -0.7, 0.4], dtype=DOUBLE)
    w = log_w.softmax(0)
    draws = torch.stack([resample(log_w, 3, orn.Noise(seed)) for seed in range(4000)])
    counts = torch.stack([(draws == i).sum(1) for i in range(4)], 1).double()
    assert bool(((counts.mean(0) - 3 * w).abs() < 4 * counts.std(0) / 4000**0.5).all())
    first = torch.stack([(draws[:, 0] == i).double().mean() for i in range(4)])
    assert bool(((first - w).abs() < 4 * (w * (1 - w) / 4000).sqrt()).all())


def test_resampling_never_takes_a_weight_of_zero():
    log_w = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf])
    for seed in range(50):
        assert set(resample(log_w, 7, orn.Noise(seed)).tolist()) == {1, 3}


def test_normal_is_the_multivariate_normal():
    factor = torch.tensor([[1.5, 0.0], [-0.7, 0.4]], dtype=DOUBLE)
    law = Normal(torch.tensor([1.0, -2.0], dtype=DOUBLE), factor)
    x = orn.Noise(0).normal((20, 2), DOUBLE)
    exact = torch.distributions.MultivariateNormal(law.mean, scale_tril=factor)
    torch.testing.assert_close(law.log_prob(x), exact.log_prob(x))
    assert float(law.log_det) == pytest.approx(math.log(1.5 * 0.4))
    torch.testing.assert_close(law.whiten(law.map(x)), x)
    y = law.map(orn.Noise(1).normal((5000, 2), DOUBLE))
    fitted = Normal.fit(y)
    torch.testing.assert_close(fitted.mean, y.mean(0))
    torch.testing.assert_close(fitted.factor @ fitted.factor.mT, torch.cov(y.mT), rtol=0, atol=1e-5)


def test_log_z_and_moments_of_a_correlated_gaussian():
    """Z = e^1.7, mean (2, -1), a correlation of 0.8: averages over 8 seeds within 4 of their
    standard errors."""
    cov = torch.tensor([[1.0, 0.4], [0.4, 0.25]])
    exact = torch.distributions.MultivariateNormal(torch.tensor([2.0, -1.0]), cov)
    samples = [
        adaptive_smc(lambda x: exact.log_prob(x) + 1.7, wide(4.0), 1024, orn.Noise(seed), 0.9)[0]
        for seed in range(8)
    ]

    def agrees(values, truth):
        values = torch.stack(values).double()
        assert bool(((values.mean(0) - truth).abs() < 4 * values.std(0) / 8**0.5).all())

    equal = [sample.resample(1024, orn.Noise(100 + seed)) for seed, sample in enumerate(samples)]
    agrees([torch.tensor(sample.log_z.value) for sample in samples], torch.tensor(1.7))
    agrees([x.mean(0) for x in equal], exact.mean)
    agrees([torch.cov(x.mT) for x in equal], cov)
    for sample in samples:
        assert (
            sample.levels[0] == 1
            and sample.levels[-1] == 0
            and sample.levels == sorted(sample.levels, reverse=True)
        )
        assert 0.3 < sample.acceptance[-1] <= 1


def test_nine_modes_stay_with_their_ninths():
    """Particles per mode of gmm9 over 4 seeds: none is lost, each mean share is 1/9 within 4 of its
    standard errors."""
    target, fractions, log_z = orn.targets.gmm9(), [], []
    for seed in range(4):
        sample, _ = adaptive_smc(target.log_prob, wide(10.0), 2048, orn.Noise(seed), 0.9)
        nearest = torch.cdist(
            sample.resample(2048, orn.Noise(100 + seed)), target.means.double()
        ).argmin(1)
        fractions.append(torch.bincount(nearest, minlength=9) / 2048)
        log_z.append(sample.log_z.value)
    fractions, log_z = torch.stack(fractions), torch.tensor(log_z)
    assert float(fractions.min()) > 0.02
    assert bool(
        ((fractions.mean(0) - 1 / 9).abs() < 4 * (fractions.std(0) / 2).clamp(min=0.005)).all()
    )
    assert abs(float(log_z.mean())) < 4 * float(log_z.std()) / 2 + 0.01


def test_a_density_that_vanishes_everywhere_is_refused():
    with pytest.raises(OrnsteinError, match=r"-inf at every starting point.*start_std"):
        adaptive_smc(lambda x: torch.full((len(x),), -torch.inf), wide(1.0), 64, orn.Noise(0))


def test_too_few_levels_are_an_error():
    far = torch.distributions.MultivariateNormal(torch.full((2,), 60.0), 0.01 * torch.eye(2))
    with pytest.raises(OrnsteinError, match="after 3 steps"):
        adaptive_smc(far.log_prob, wide(1.0), 64, orn.Noise(0), 0.9, max_levels=3)


def test_particles_never_leave_a_bounded_support():
    """Half-plane: log Z = log(1/2) of a standard normal within 4 standard errors over 6 runs, no
    particle outside."""

    def half(x):
        return torch.where(x[:, 0] > 0, -x.square().sum(1) / 2 - math.log(2 * math.pi), -torch.inf)

    first, steps = adaptive_smc(half, wide(2.0), 1024, orn.Noise(0), 0.9)
    sample = frozen_smc(half, wide(2.0), steps, 1024, 6, orn.Noise(1))
    for particles in (first, sample):
        assert float(particles.resample(1024, orn.Noise(2))[:, 0].min()) > 0
    assert (
        abs(float(sample.run_log_z.mean()) - math.log(0.5))
        < 4 * float(sample.run_log_z.std()) / 6**0.5
    )
