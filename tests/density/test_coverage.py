"""The coverage probe: the sampler's own density by noising paths, and the mass that it does not
reach."""

import math

import pytest
import torch

import ornstein as orn
from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.density.learned.coverage import coverage, explore_independently
from ornstein.density.learned.model_density import model_log_density
from ornstein.errors import OrnsteinError

DOUBLE = torch.float64
SDE = orn.VP()


def mixture(weights, std=0.2, d=2):
    """Modes of width ``std`` on a circle of radius 1.5 in the first two coordinates."""
    k = len(weights)
    angle = torch.arange(k, dtype=DOUBLE) * 2 * math.pi / k
    means = torch.zeros(k, d, dtype=DOUBLE)
    means[:, 0], means[:, 1] = 1.5 * angle.cos(), 1.5 * angle.sin()
    return orn.targets.GaussianMixture(means, torch.full_like(means, std), torch.tensor(weights))


def probe(sampler, target, seed=0, steps=32):
    """The sampler with its own log Z and samples, at points of which as many lie near each mode,
    whatever its weight."""
    times, noise = SDE.times(steps), orn.Noise(seed)
    posterior = sampler.posterior(SDE)
    own = orn.paths.denoising_paths(posterior, target.log_prob, times).draw(1024, noise.fold(0))
    near = target.means.float().repeat(12, 1)
    points = near + 0.2 * noise.fold(1).normal(near.shape)
    return coverage(
        posterior,
        target.log_prob,
        orn.log_z(own.log_w).value,
        points,
        own.x[:64],
        times,
        noise.fold(2),
    )


# ------------------------------------------------------------------------------------------------
# the sampler's density


@pytest.mark.parametrize("process", [SDE, orn.OU(), orn.Bridge(1.5)], ids=["VP", "OU", "Bridge"])
def test_density_of_a_gaussian_sampler_is_exact(process):
    """Every path weighs the same: the value is the law that the chain generates, from the first
    path, for any grid."""
    target = orn.targets.Normal(torch.zeros(3), torch.full((3,), 0.7))
    x = target.sample(20, seed=1, dtype=DOUBLE)
    for steps in (1, 6):
        found = model_log_density(
            target.posterior(process), x, process.times(steps), 4, orn.Noise(0), var=0.49
        )
        torch.testing.assert_close(found.value, target.log_prob(x), rtol=0, atol=1e-7)
        assert float(found.stderr.max()) < 1e-6 and float(found.ess.min()) > 3.999


@pytest.mark.parametrize("process", [SDE, orn.Bridge(1.5)], ids=["VP", "Bridge"])
def test_density_of_any_sampler_integrates_to_one(process):
    """A mixture's posterior with four steps: the trapezoidal rule over 300 points, 200 paths each;
    4 standard errors and 1 %."""
    target = orn.targets.GaussianMixture(
        torch.tensor([[-1.0], [0.6]]), torch.tensor([[0.3], [0.2]]), torch.tensor([0.3, 0.7])
    )
    x = torch.linspace(-4, 4, 300, dtype=DOUBLE)[:, None]
    found = model_log_density(target.posterior(process), x, process.times(4), 200, orn.Noise(0))
    p, h = found.value.exp(), float(x[1, 0] - x[0, 0])
    error = float((p * found.stderr).square().sum().sqrt()) * h
    assert error < 0.01
    assert float(p.sum()) * h == pytest.approx(1.0, abs=4 * error + 1e-3)


def test_density_of_an_exact_posterior_tends_to_the_target():
    """96 steps, 64 paths: within 4 standard errors and the 0.05 nats that the Gaussian kernels are
    off."""
    target = mixture([0.2, 0.3, 0.5])
    x = target.sample(50, seed=2, dtype=DOUBLE)
    found = model_log_density(target.posterior(SDE), x, SDE.times(96), 64, orn.Noise(1))
    assert bool(((found.value - target.log_prob(x)).abs() < 4 * found.stderr + 0.05).all())


def test_points_do_not_see_their_batch():
    target = mixture([0.2, 0.8])
    x = target.sample(30, seed=3)
    whole = model_log_density(target.posterior(SDE), x, SDE.times(8), 4, orn.Noise(1)).value
    part = model_log_density(target.posterior(SDE), x[:30], SDE.times(8), 4, orn.Noise(1)).value
    assert torch.equal(whole, part)
    with pytest.raises(OrnsteinError, match="at least 2"):
        model_log_density(target.posterior(SDE), x, SDE.times(8), 1, orn.Noise(1))


# ------------------------------------------------------------------------------------------------
# what is missing


@pytest.mark.parametrize(("lost", "seed"), [(0.06, 0), (0.5, 1)])
def test_the_mass_of_a_lost_mode_is_estimated(lost, seed):
    """The sampler generates two modes of three exactly; its ESS is near 1. The missing mass within
    4 standard errors and 10 %."""
    target = mixture([lost, (1 - lost) / 2, (1 - lost) / 2], d=4)
    sampler = orn.targets.GaussianMixture(target.means[1:], target.stds[1:], target.weights[1:])
    found = probe(sampler, target, seed)
    assert found.warned and found.missing.value == pytest.approx(
        lost, abs=4 * found.missing.stderr + 0.1 * lost
    )
    assert float((found.where - target.means[0]).norm()) < 1.0
    assert (
        f"about {100 * found.missing.value:.2g} %" in found.sentence()
        and "x[1] = 1." in found.sentence()
    )
    assert "alpha" in found.sentence(2 * found.where, ("alpha", "b", "c", "d"))


def test_a_sampler_that_is_too_narrow_misses_the_outside():
    """Half as wide in d = 4: beyond D = c lies a known part of a Gaussian, and the probe finds at
    least half of it."""
    target = mixture([0.5, 0.5], d=4)
    sampler = orn.targets.GaussianMixture(target.means, target.stds / 2, target.weights)
    found = probe(sampler, target)
    radius2 = (found.threshold + 4 * math.log(2)) / 1.5  # D = 3/2 r^2 - d log 2, were log Z right
    outside = float(torch.special.gammaincc(torch.tensor(2.0), torch.tensor(radius2 / 2)))
    assert found.warned and outside / 2 < found.missing.value < 0.7


def test_a_good_sampler_raises_no_warning():
    """The exact posterior, and ones whose weights and widths are off by a tenth."""
    target = mixture([0.1, 0.2, 0.3, 0.4], d=3)
    factors = torch.tensor([1.1, 0.9, 1.0, 0.95], dtype=DOUBLE)
    for sampler in (
        target,
        orn.targets.GaussianMixture(
            target.means, target.stds * factors[:, None], target.weights * factors
        ),
    ):
        found = probe(sampler, target)
        assert (
            not found.warned
            and found.missing.value == 0
            and found.where is None
            and found.sentence() == ""
        )
        assert float(found.excess.max()) < found.threshold


def test_a_ridge_of_no_mass_is_no_reason_to_warn():
    """A sampler without a mode of 1e-4: points there are far above its density, the mass is
    estimated and too small to mention."""
    target = mixture([1e-4, 0.5, 0.5])
    sampler = orn.targets.GaussianMixture(target.means[1:], target.stds[1:], target.weights[1:])
    times, noise, posterior = SDE.times(32), orn.Noise(4), sampler.posterior(SDE)
    points = target.means[:1].float() + 0.1 * noise.normal((20, 2))
    found = coverage(posterior, target.log_prob, 0.0, points, sampler.sample(64), times, noise)
    assert float(found.excess.min()) > 20 and not found.warned
    assert found.missing.value == pytest.approx(1e-4, rel=0.3)


def test_points_outside_the_support_say_nothing():
    target = mixture([0.5, 0.5])

    def log_prob(x):
        return torch.where(x[:, 1] > 0, target.log_prob(x), -torch.inf)

    points = torch.tensor([[1.5, -0.3], [1.5, 0.1], [-1.5, 0.1]])
    found = coverage(
        target.posterior(SDE),
        log_prob,
        math.log(0.5),
        points,
        target.sample(64),
        SDE.times(32),
        orn.Noise(0),
    )
    assert found.excess[0] == -torch.inf and not found.warned


def test_independent_chains_reach_modes_of_little_mass():
    """From a law four times as wide as the circle all four modes are found, though one holds 1
    %."""
    target = mixture([0.01, 0.33, 0.33, 0.33])
    x = explore_independently(
        target.log_prob, Normal(torch.zeros(2), 6 * torch.eye(2)), 100, orn.Noise(0), levels=16
    )
    found = orn.metrics.mode_weights(x, target.means)
    assert (
        float(found.value.min()) > 0.05
        and float((torch.cdist(x.double(), target.means).amin(1) < 1).double().mean()) > 0.95
    )
