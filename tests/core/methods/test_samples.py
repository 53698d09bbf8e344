"""Samples of exact posteriors, from exactly T to exactly 0, have the law of the data.

4000 samples, k = 4 standard errors, seeds in the tests. Two biases are made small against that
error (mean: 1.6 % of a standard deviation): the discretisation, by the number of steps, and the
start from ``N(0, alpha_T^2 var + sigma_T^2)`` instead of the true law at T. The latter vanishes for
Straight and Cosine; on VP ``alpha_T = 0.007``, and on EDM the data spreads over 2 of 80 units of
noise. The mixture has mean 0.
"""

import math

import pytest
import torch

from ornstein.core import processes as p
from ornstein.core.methods import Ancestral, Heun, Multistep, PredictorCorrector
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.timesteps import spacing
from ornstein.reference.metrics import floor, sliced_w2
from problems import mixture

F64 = torch.float64
N, K = 4000, 4
PROCESSES = {
    "VP": (p.VP(), spacing.cosine),
    "EDM": (p.EDM(), spacing.Karras()),
    "RectifiedFlow": (p.RectifiedFlow(), spacing.cosine),
    "Cosine": (p.Cosine(), spacing.cosine),
}
SAMPLERS = {
    "DDPM": (Ancestral(), 1.0, 60),
    "DDIM": (Ancestral(), 0.0, 120),
    "2M": (Multistep(), 0.0, 50),
    "Heun": (Heun(), 0.0, 50),
    "PC": (PredictorCorrector(snr=0.1), 1.0, 60),
}


@pytest.fixture(scope="module", params=PROCESSES)
def process(request):
    return PROCESSES[request.param]


@pytest.fixture(scope="module", params=SAMPLERS)
def samples(request, process):
    sde, where = process
    method, eta, n = SAMPLERS[request.param]
    target = mixture()
    start = sde.prior((N, 2), var=float(target.std.square().mean())).draw(Noise(0).normal((N, 2)))
    end = simulate(
        Reverse(target.posterior(sde), eta), start, sde.times(n, where), method, Noise(1)
    )
    assert end.dtype == torch.float32
    return end.double()


def test_mean_is_that_of_the_data(samples):
    stderr = samples.std(0) / math.sqrt(N)
    assert ((samples.mean(0) - mixture().mean).abs() / stderr).max() < K


def test_covariance_is_that_of_the_data(samples):
    target = mixture()
    centred = target.means - target.mean
    exact = torch.einsum("k,ki,kj->ij", target.weights, centred, centred)
    exact += torch.diag((target.weights[:, None] * target.stds**2).sum(0))
    products = torch.einsum("ni,nj->nij", samples - target.mean, samples - target.mean)
    stderr = products.std(0) / math.sqrt(N)
    assert ((products.mean(0) - exact).abs() / stderr).max() < K


def test_modes_have_their_weights(samples):
    target = mixture()
    nearest = (
        ((samples[:, None] - target.means) / target.stds).square().sum(-1) / 2
        + target.stds.log().sum(-1)
    ).argmin(1)
    fresh = target.sample(40_000, seed=5, dtype=F64)
    of_fresh = (
        ((fresh[:, None] - target.means) / target.stds).square().sum(-1) / 2
        + target.stds.log().sum(-1)
    ).argmin(1)
    for k in range(3):
        share, exact = float((nearest == k).double().mean()), float((of_fresh == k).double().mean())
        assert abs(share - exact) < K * math.sqrt(exact * (1 - exact) * (1 / N + 1 / 40_000))


def test_sliced_distance_to_the_data_is_that_of_another_sample(samples):
    """Against the floor: the distance between two samples of the target, of which 8 are drawn for
    its spread."""
    real = mixture().sample(4 * N, seed=7, dtype=F64)

    def metric(a, b):
        return sliced_w2(a, b, projections=32)

    least = floor(metric, real, N)
    spread = least.stderr * math.sqrt(8)
    assert metric(samples, real[:N]).value < least.value + K * spread
