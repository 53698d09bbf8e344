"""More draws of a sampler: exact weights, with a result or without, and particles that stay alive
where paths do not."""

import pytest
import torch

import ornstein as orn
from ornstein.errors import OrnsteinError

pytestmark = pytest.mark.usefixtures("seeded_weights")

DOUBLE = torch.float64


def model(d):
    net = orn.models.ProductNetwork(d)
    return orn.DiffusionModel(
        orn.Denoiser(net, orn.VP(), orn.parametrisations.edm, 1.0, (d,)),
        orn.codecs.Codec(torch.zeros(d), torch.eye(d)),
    )


def narrow(d, log_z=2.0):
    """Independent N(0.4, 0.6^2), Z = e^2: the model N(0, I) is wrong in every coordinate."""
    law = torch.distributions.Normal(
        torch.tensor(0.4, dtype=DOUBLE), torch.tensor(0.6, dtype=DOUBLE)
    )
    return lambda x: law.log_prob(x).sum(1) + log_z


def test_weighted_draws_need_no_result(tmp_path):
    """The sampler from its folder gives the same draws and weights; draw i does not depend on n;
    log Z and the mean within 4 errors."""
    sampler = model(2)
    draws = orn.draw_weighted(sampler, narrow(2), 5000, seed=3)
    again = orn.draw_weighted(orn.load(sampler.save(tmp_path)), narrow(2), 4097, seed=3)
    assert torch.equal(draws.x[:4097], again.x) and torch.equal(draws.log_w[:4097], again.log_w)
    assert abs(draws.log_z.value - 2) < 4 * draws.log_z.stderr and draws.evaluations == 5000
    w = draws.log_w.softmax(0)
    error = (w.square() @ (draws.x.double() - 0.4).square()).sqrt()
    assert bool(((w @ draws.x.double() - 0.4).abs() < 4 * error).all())


def test_particles_that_are_resampled_stay_alive():
    """d = 8: less than one path in ten is effective, more than half of the particles; both have the
    right log Z within 4 errors."""
    paths, particles = (
        draw(model(8), narrow(8), 4096, seed=1) for draw in (orn.draw_weighted, orn.draw_smc)
    )
    assert paths.log_z.ess < 4096 / 10 and particles.log_z.ess > 4096 / 2
    for draws in (paths, particles):
        assert abs(draws.log_z.value - 2) < 4 * draws.log_z.stderr


def test_a_support_that_ends_takes_no_particles_on_the_way():
    """A Gaussian cut at -0.5, which posterior means cross long before the end: log Z within 4
    standard errors over 64 runs."""
    cut = torch.tensor([-0.5])
    exact = float(torch.special.log_ndtr(-cut))
    law = torch.distributions.Normal(
        torch.tensor(0.0, dtype=DOUBLE), torch.tensor(1.0, dtype=DOUBLE)
    )
    draws = orn.draw_smc(
        model(1),
        lambda x: torch.where(x[:, 0] > cut, law.log_prob(x[:, 0]), -torch.inf),
        8192,
        3,
        independent_groups=64,
    )
    assert abs(draws.log_z.value - exact) < 4 * draws.log_z.stderr < 0.1
    assert float(draws.x[draws.log_w > -torch.inf].min()) > -0.5


def test_a_result_draws_more_of_both():
    r = orn.sample_density(lambda x: -x.square().sum(1) / 2, 2, n=100, particles=128, stderr=0.1)
    paths = orn.draw_weighted(r.sampler, r.density, 64, 5)
    particles = orn.draw_smc(r.sampler, r.density, 64, 5)
    assert torch.equal(r.draw_weighted(64, seed=5).log_w, paths.log_w)
    assert torch.equal(r.draw_smc(64, seed=5).x, particles.x)
    assert (paths.independent_groups, particles.independent_groups) == (64, 16)
    with pytest.warns(DeprecationWarning, match="is now DensityResult.draw_weighted"):
        assert torch.equal(r.weighted(64, seed=5).log_w, paths.log_w)
    with pytest.warns(DeprecationWarning, match="is now DensityResult.draw_smc"):
        assert torch.equal(r.resampled(64, seed=5).x, particles.x)


def test_too_few_or_another_density_is_refused():
    with pytest.raises(OrnsteinError, match="n=1 draws: at least 2"):
        orn.draw_weighted(model(2), narrow(2), 1)
    with pytest.raises(OrnsteinError, match="independent_groups=1"):
        orn.draw_smc(model(2), narrow(2), 64, independent_groups=1)
    with pytest.raises(OrnsteinError, match="dim=2"):
        orn.draw_weighted(model(2), orn.targets.EightSchools(), 64)
    pictures = orn.Denoiser(orn.MLP((2, 2)), orn.VP(), orn.parametrisations.v, 1.0, (2, 2))
    with pytest.raises(OrnsteinError, match="vectors"):
        orn.draw_weighted(
            orn.DiffusionModel(pictures, orn.codecs.Codec(torch.zeros(2, 2), torch.ones(2, 2))),
            narrow(2),
            64,
        )
