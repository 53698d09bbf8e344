"""The denoiser of a data set: a softmax over the data, the limit of narrow mixtures, and the
nearest point at t = 0."""

import math

import pytest
import torch
from scipy import stats

from ornstein.core.processes.reference import Bridge
from ornstein.core.processes.schedules import EDM, VE, VP, Cosine
from ornstein.errors import DataError, OrnsteinError
from ornstein.reference.targets import empirical
from ornstein.reference.targets.empirical import Empirical
from ornstein.reference.targets.mixtures import GaussianMixture

DOUBLE = torch.float64


def images(n=50, event=(2, 3, 4), dtype=DOUBLE, seed=0):
    return torch.randn(n, *event, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(
    "sde", [VP(), VE(), EDM(), Cosine(), Bridge()], ids=lambda p: type(p).__name__
)
def test_posterior_is_a_softmax_over_the_data(sde):
    data, x = images(), images(7, seed=1)
    t = torch.linspace(0.1, 0.9, 7, dtype=DOUBLE) * sde.T
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    distance2 = torch.stack(
        [(x - alpha.view(-1, 1, 1, 1) * point).square().sum((1, 2, 3)) for point in data], 1
    )
    p = torch.softmax(-distance2 / (2 * sigma[:, None] ** 2), 1)
    mean = torch.einsum("bn,nchw->bchw", p, data)
    var = torch.einsum("bn,nchw->bchw", p, data**2) - mean**2
    posterior = Empirical(data).posterior(sde)
    got = posterior(x, t)
    torch.testing.assert_close(got.mean, mean, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(got.std**2, var, rtol=1e-7, atol=1e-10)
    kernels = torch.logsumexp(-distance2 / (2 * sigma[:, None] ** 2), 1) - math.log(50)
    expected = kernels - 12 * torch.log(2 * math.pi * sigma**2)
    torch.testing.assert_close(posterior.log_prob(x, t), expected, rtol=1e-9, atol=1e-9)


def test_posterior_is_the_limit_of_narrow_mixtures():
    data, sde = images(20, (3,)), Cosine()
    x = images(9, (3,), seed=4)
    narrow = GaussianMixture(data, torch.full_like(data, 1e-7), torch.ones(20)).posterior(sde)(
        x, 0.6
    )
    got = Empirical(data).posterior(sde)(x, 0.6)
    torch.testing.assert_close(got.mean, narrow.mean, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(got.std, narrow.std, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("per_sample", [False, True])
def test_both_ends_in_float32(per_sample):
    """At t = 0 the nearest point with no doubt; at the pinned end of a bridge the mean and
    deviation of the data."""
    data = images(30, (2, 5), torch.float32)
    x = data[:6] + 1e-3
    posterior = Empirical(data).posterior(Bridge(2.0))
    start = posterior(x, torch.zeros(6) if per_sample else 0.0)
    assert torch.equal(start.mean, data[:6]) and float(start.std.max()) == 0
    end = posterior(torch.zeros_like(x), torch.ones(6) if per_sample else 1.0)
    torch.testing.assert_close(end.mean, data.mean(0).expand(6, 2, 5), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        end.std, data.std(0, correction=0).expand(6, 2, 5), rtol=1e-5, atol=1e-6
    )
    assert bool((posterior.log_prob(torch.zeros_like(x), 1.0) == torch.inf).all())


def test_gradients_flow_where_one_point_takes_all():
    """A saturated softmax has zero variance, whose root must not return NaN."""
    data = images(30, (2, 5), torch.float32)
    x = (data[:3] + 1e-4).requires_grad_()
    got = Empirical(data).posterior(VP())(x, 1e-3)
    assert float(got.std.detach().max()) == 0
    (gradient,) = torch.autograd.grad(got.mean.sum() + got.std.sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x))


@pytest.mark.parametrize("event", [(1,), (2,), (3, 8, 8)])
@pytest.mark.parametrize("per_sample", [False, True])
def test_sample_i_is_the_same_in_every_batch(event, per_sample):
    posterior = Empirical(images(700, event, torch.float32)).posterior(VP())
    x, times = images(64, event, torch.float32, seed=1), torch.linspace(0, 1, 64)
    whole = posterior(x, times if per_sample else 0.3)
    for size in (1, 7):
        for i in range(0, 64 - size + 1, 3 * size):
            part = posterior(x[i : i + size], times[i : i + size] if per_sample else 0.3)
            assert torch.equal(part.mean, whole.mean[i : i + size])
            assert torch.equal(part.std, whole.std[i : i + size])


def test_pieces_do_not_change_the_result(monkeypatch):
    """Data that meet the samples in many pieces give what they give at once."""
    data, x = images(101, (3,)), images(5, (3,), seed=1)
    at_once = Empirical(data).posterior(VP())(x, 0.5)
    monkeypatch.setattr(empirical, "_CHUNK", 30)
    in_pieces = Empirical(data).posterior(VP())(x, 0.5)
    torch.testing.assert_close(in_pieces.mean, at_once.mean, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(in_pieces.std, at_once.std, rtol=1e-13, atol=1e-14)


def test_samples_are_rows_drawn_equally():
    """Counts of 50 rows in 20000 draws: chi-squared, 49 degrees of freedom, p > 1e-4, seed 0."""
    data = torch.arange(50.0)[:, None]
    draws = Empirical(data).sample(20000, seed=0)
    counts = draws[:, 0].long().bincount(minlength=50).double()
    assert counts.sum() == 20000 and stats.chisquare(counts).pvalue > 1e-4
    assert torch.equal(Empirical(data).sample(10, seed=0), draws[:10])


def test_errors_say_what_to_do():
    with pytest.raises(
        (DataError, TypeError), match=r"\.float\(\)|Type-check"
    ):  # where shapes are checked
        Empirical(torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(DataError, match="last dimension of 1"):
        Empirical(torch.zeros(3))
    with pytest.raises(DataError, match="1 NaN"):
        Empirical(torch.tensor([[1.0, torch.nan]]))
    target = Empirical(images())
    with pytest.raises(OrnsteinError, match="no density"):
        target.log_prob(images())
    with pytest.raises(OrnsteinError, match="time t > 0"):
        target.posterior(VP()).log_prob(images(3), 0.0)
    with pytest.raises(OrnsteinError, match=r"\(2, 3, 4\)"):
        target.posterior(VP())(torch.zeros(3, 24, dtype=DOUBLE), 0.5)
