"""Annealed Metropolis: its weights average to the normaliser for any schedule, its moves leave the
density alone.

Statistical tolerances are 4 standard errors; seeds are in the tests.
"""

import math

import pytest
import torch

from ornstein.core.mcmc import MALA
from ornstein.core.mcmc.geometric_path import GeometricPath
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.watchers import Evaluations, LogWeight

F64 = torch.float64
K = 4


def gaussian(mean: torch.Tensor, covariance: torch.Tensor, log_z: float = 0.0):
    """``x -> log_z + log N(x; mean, covariance)``."""
    law = torch.distributions.MultivariateNormal(mean, covariance)
    return lambda x: log_z + law.log_prob(x)


def problem(d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of a correlated target in d dimensions."""
    mean = torch.linspace(0.8, -0.4, d, dtype=F64)
    covariance = 0.3 * torch.ones(d, d, dtype=F64) + torch.diag(
        torch.linspace(0.2, 0.5, d, dtype=F64)
    )
    return mean, covariance


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("size", [0.3, 1.0])
def test_the_mean_weight_is_the_normaliser_for_every_schedule_and_step(d, steps, size):
    mean, covariance = problem(d)
    n, log_z, var = 8000, 1.3, 1.5**2
    start = gaussian(torch.zeros(d, dtype=F64), var * torch.eye(d, dtype=F64))
    path = GeometricPath(start, gaussian(mean, covariance, log_z))
    x = math.sqrt(var) * Noise(0).normal((n, d), F64)
    weight, calls = LogWeight(), Evaluations()
    method = MALA(size, torch.linalg.cholesky(covariance), moves=2)
    end = simulate(
        path, x, torch.linspace(1, 0, steps + 1, dtype=F64), method, Noise(1), [weight, calls]
    )
    w = (weight.value + path.target(end) - start(x) - log_z).exp()
    assert abs(float(w.mean()) - 1) < K * float(w.std()) / math.sqrt(n)
    assert calls.count == 3 * steps


@pytest.mark.parametrize("t", [1.0, 0.4, 0.0])
@pytest.mark.parametrize("size", [0.2, 0.8, 1.8])
def test_moves_leave_the_density_of_their_level_invariant(t, size):
    """Started in ``gamma_t``, a product of two Gaussians: mean and covariance stay."""
    mean, covariance = problem(3)
    n, eye = 20_000, torch.eye(3, dtype=F64)
    path = GeometricPath(gaussian(0 * mean, 2 * eye), gaussian(mean, covariance, 0.7))
    precision = t * eye / 2 + (1 - t) * torch.linalg.inv(covariance)
    level = torch.linalg.inv(precision)
    centre = level @ ((1 - t) * torch.linalg.inv(covariance) @ mean)
    x = centre + Noise(3).normal((n, 3), F64) @ torch.linalg.cholesky(level).mT
    method = MALA(size, torch.linalg.cholesky(covariance), moves=5)
    step = method.step(
        path, x, torch.tensor(1.0), torch.tensor(t, dtype=F64), Noise(4).stream_like(x), None
    )
    assert 0.05 < float(step.memory) <= 1
    moved = step.x - centre
    assert float((step.x != x).any(1).double().mean()) > 0.5
    assert (moved.mean(0).abs() / (level.diagonal() / n).sqrt()).max() < K
    products = torch.einsum("ni,nj->nij", moved, moved)
    assert ((products.mean(0) - level).abs() / (products.std(0) / math.sqrt(n))).max() < K


def test_the_density_of_a_level_is_the_geometric_path_with_its_gradient():
    mean, covariance = problem(2)
    path = GeometricPath(gaussian(0 * mean, torch.eye(2, dtype=F64)), gaussian(mean, covariance))
    x = Noise(0).normal((6, 2), F64)
    value, gradient = path.log_density(x, 0.3)
    assert torch.allclose(value, 0.3 * path.start(x) + 0.7 * path.target(x), rtol=1e-12)
    assert torch.allclose(
        gradient, -0.3 * x - 0.7 * (x - mean) @ torch.linalg.inv(covariance), rtol=1e-10
    )


def test_small_steps_are_accepted():
    mean, covariance = problem(2)
    path = GeometricPath(gaussian(mean, covariance), gaussian(mean, covariance))
    x = Noise(0).normal((500, 2), F64)
    method = MALA(1e-3, torch.linalg.cholesky(covariance))
    step = method.step(path, x, torch.tensor(1.0), torch.tensor(0.5), Noise(1).stream_like(x), None)
    assert float(step.memory) > 0.999


def test_a_chain_does_not_leave_the_support():
    """Uniform on the unit square: outside the density is 0, and no proposal from there is
    accepted."""

    def log_density(x):
        return torch.where(((x > 0) & (x < 1)).all(1), 0.0, -torch.inf) + 0 * x.sum(1)

    x = Noise(0).uniform((2000, 2), F64)
    path = GeometricPath(log_density, log_density)
    method = MALA(0.5, torch.eye(2, dtype=F64), moves=10)
    step = method.step(path, x, torch.tensor(1.0), torch.tensor(0.5), Noise(1).stream_like(x), None)
    assert torch.isfinite(path.log_density(step.x, 0.5)[0]).all()
    assert ((step.x.mean(0) - 0.5).abs() < K / math.sqrt(12 * 2000)).all()
    assert not step.log_ratio.any()
