"""Resampling along a measure keeps ``E[mean w] = Z`` and keeps particles where the target is."""

import pytest
import torch

import ornstein as orn
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.paths.particles import lookahead, particle_filter
from ornstein.errors import OrnsteinError

LOG_Z = 0.7
LAW = orn.targets.GaussianMixture(
    torch.tensor([[-1.2, 0.0], [1.0, 0.6]]), torch.full((2, 2), 0.5), torch.tensor([0.3, 0.7])
)
WRONG = orn.targets.GaussianMixture(
    torch.tensor([[-1.2, 0.0], [1.0, 0.6]]), torch.full((2, 2), 0.6), torch.tensor([0.8, 0.2])
)


def target(x):
    return LAW.log_prob(x) + LOG_Z


def denoising():
    sde = orn.VP()
    posterior = WRONG.posterior(sde)
    return orn.paths.denoising_paths(
        posterior, target, sde.times(24), level=lookahead(posterior, target)
    )


def langevin():
    start = orn.paths.GaussianStart(Gaussian(torch.zeros(2), torch.tensor(2.0)))
    return orn.paths.langevin_paths(
        start, target, torch.linspace(1, 0, 17, dtype=torch.float64), 0.08
    )


@pytest.mark.parametrize("make", [denoising, langevin])
@pytest.mark.parametrize("ess_fraction", [0.0, 0.7, 1.0])
def test_the_mean_weight_is_z(make, ess_fraction):
    """40 runs of 400 particles, resampled never, sometimes and always: within 4 standard errors of
    the runs."""
    noise = orn.Noise(5)
    runs = [particle_filter(make(), 400, noise.fold(k), 8, ess_fraction) for k in range(40)]
    z = torch.stack([(run.log_w - LOG_Z).exp().mean() for run in runs])
    assert float(z.std()) < 0.5
    assert abs(float(z.mean()) - 1) < 4 * float(z.std()) / 40**0.5


def test_without_resampling_the_weights_are_those_of_the_paths():
    """Pieces telescope: the log-mean of the weights in one piece equals that in eight, on
    independent draws, and sums exactly."""
    measure, noise = denoising(), orn.Noise(1)
    one = particle_filter(measure, 300, noise, 1, 0.0)
    x = measure.start.draw(300, noise)
    end, ratio, calls = measure.carry(x, measure.times, noise.fold(0))
    expected = target(end) - measure.start.log_prob(x) + ratio
    torch.testing.assert_close(one.log_w.float(), expected, rtol=0, atol=1e-4)
    assert calls == one.cost == 24


def test_resampling_moves_particles_to_where_the_mass_is():
    """Three parts of ten in the left component; without resampling this posterior sends eight
    there."""
    measure = denoising()
    plain, moved = (
        particle_filter(measure, 4000, orn.Noise(0), 12, 0.0),
        particle_filter(measure, 4000, orn.Noise(0), 12, 0.9),
    )
    assert float((plain.x[:, 0] < 0).float().mean()) > 0.7
    weights = (moved.log_w - moved.log_w.logsumexp(0)).exp()
    assert float((moved.x[:, 0] < 0).float().mean()) < 0.6
    assert float(weights @ (moved.x[:, 0] < 0).double()) == pytest.approx(0.3, abs=0.08)


def test_a_measure_without_levels_is_refused():
    sde = orn.VP()
    with pytest.raises(OrnsteinError, match="level"):
        particle_filter(
            orn.paths.denoising_paths(WRONG.posterior(sde), target, sde.times(4)), 10, orn.Noise(0)
        )
