"""The mixture's posterior against Bayes' rule by quadrature, Tweedie's formulas by autodiff, and
both ends of time."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from ornstein.core.processes.reference import OU, Bridge
from ornstein.core.processes.schedules import (
    EDM,
    VE,
    VP,
    Cosine,
    DiscreteVP,
    FromLogSNR,
    RectifiedFlow,
    SubVP,
)
from ornstein.errors import OrnsteinError
from ornstein.reference.targets.mixtures import GaussianMixture, Normal, gmm9, gmm40

PROCESSES = [
    VP(),
    SubVP(),
    VE(),
    EDM(),
    Cosine(),
    RectifiedFlow(),
    OU(1.5, 2.0),
    Bridge(2.0),
    DiscreteVP((0.1, 0.2, 0.4)),
    FromLogSNR(lambda t: 2 * (torch.log1p(-t) - t.log())),
]
IDS = [type(p).__name__ for p in PROCESSES]
EACH = pytest.mark.parametrize("sde", PROCESSES, ids=IDS)
DOUBLE = torch.float64


def mixture(k=5, d=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    means = 3 * torch.randn(k, d, generator=g, dtype=DOUBLE)
    return GaussianMixture(
        means, 0.2 + torch.rand(k, d, generator=g), 0.1 + torch.rand(k, generator=g)
    )


LINE = GaussianMixture(
    torch.tensor([[-2.0], [0.5], [1.5]], dtype=DOUBLE),
    torch.tensor([[0.4], [0.1], [0.7]], dtype=DOUBLE),
    torch.tensor([3.0, 1.0, 2.0], dtype=DOUBLE),
)


def test_log_prob_is_the_sum_of_normals():
    x = torch.linspace(-4, 4, 41, dtype=DOUBLE)
    density = norm.pdf(x[:, None], [-2, 0.5, 1.5], [0.4, 0.1, 0.7]) @ [0.5, 1 / 6, 1 / 3]
    torch.testing.assert_close(
        LINE.log_prob(x[:, None]).exp(), torch.as_tensor(density), rtol=1e-12, atol=0
    )
    single = LINE.log_prob(x.float()[:, None])
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), LINE.log_prob(x[:, None]), rtol=1e-5, atol=1e-5)


@EACH
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_posterior_is_bayes_rule(sde, part):
    """Mean, standard deviation and log-density against integrals over x_0 on a fine grid."""
    t = part * sde.T
    alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
    x0 = torch.linspace(-8, 8, 40001, dtype=DOUBLE)
    prior = LINE.log_prob(x0[:, None]).exp()
    x = (
        alpha * torch.linspace(-3, 3, 9, dtype=DOUBLE)
        + sigma * torch.linspace(-2, 2, 9, dtype=DOUBLE)
    )[:, None]
    joint = (
        prior * torch.exp(-(((x - alpha * x0) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
    )
    evidence = joint.sum(1)
    mean = (joint * x0).sum(1) / evidence
    std = ((joint * (x0 - mean[:, None]) ** 2).sum(1) / evidence).sqrt()
    posterior = LINE.posterior(sde)
    got = posterior(x, torch.tensor(t, dtype=DOUBLE))
    torch.testing.assert_close(got.mean[:, 0], mean, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(got.std[:, 0], std, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(
        posterior.log_prob(x, t), (evidence * 16 / 40000).log(), rtol=1e-8, atol=1e-8
    )


@EACH
def test_posterior_is_tweedie(sde):
    """In 3-d, one time per sample: ``alpha m = x + sigma^2 s`` and ``alpha^2 v = sigma^2 + sigma^4
    ds/dx``."""
    target = mixture()
    posterior = target.posterior(sde)
    t = torch.linspace(0.2, 0.95, 16, dtype=DOUBLE) * sde.T
    x0 = target.sample(16, seed=3, dtype=DOUBLE)
    x = sde.marginal(x0, t).draw(
        torch.randn(16, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    )
    x.requires_grad_()
    score = torch.autograd.grad(posterior.log_prob(x, t).sum(), x, create_graph=True)[0]
    rows = [torch.autograd.grad(score[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(3)]
    curvature = torch.stack(rows, 1)
    alpha, sigma2 = sde.alpha(t)[:, None], sde.sigma(t).square()[:, None]
    got = posterior(x, t)
    torch.testing.assert_close(alpha * got.mean, x + sigma2 * score, rtol=1e-8, atol=1e-8)
    second, tolerance = sigma2 + sigma2**2 * curvature, 1e-6 * float(sigma2.max())
    torch.testing.assert_close(alpha**2 * got.std**2, second, rtol=1e-6, atol=tolerance)


@EACH
@pytest.mark.parametrize("per_sample", [False, True])
def test_both_ends_in_float32(sde, per_sample):
    """At 0 the posterior is the point itself; where the signal is gone, it is the target's own mean
    and deviation."""
    target, b = mixture(k=4, d=3, seed=2), 6
    posterior = target.posterior(sde)

    def time(t):
        return torch.full((b,), t) if per_sample else t

    x = target.sample(b, seed=1)
    start = posterior(x, time(0.0))
    torch.testing.assert_close(start.mean, x, rtol=1e-6, atol=1e-6)
    assert float(start.std.max()) <= 2e-6
    torch.testing.assert_close(
        posterior.log_prob(x, time(0.0)), target.log_prob(x), rtol=1e-5, atol=1e-5
    )

    x = (
        torch.zeros(b, 3)
        if sde.pinned
        else float(sde.sigma(sde.T)) * torch.randn(b, 3, generator=torch.Generator())
    )
    end = posterior(x, time(sde.T))
    assert end.mean.dtype == end.std.dtype == torch.float32
    assert bool(end.mean.isfinite().all() and end.std.isfinite().all())
    if float(sde.alpha(sde.T)) == 0:
        torch.testing.assert_close(end.mean, target.mean.float().expand(b, 3), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(end.std, target.std.float().expand(b, 3), rtol=1e-5, atol=1e-5)
    law = posterior.log_prob(x, time(sde.T))
    assert bool((law == torch.inf).all()) if sde.pinned else bool(law.isfinite().all())


@pytest.mark.parametrize(("k", "d"), [(1, 1), (5, 1), (3, 2), (9, 7), (40, 50)])
@pytest.mark.parametrize(
    ("per_sample", "dtype"), [(False, torch.float32), (False, DOUBLE), (True, torch.float32)]
)
def test_sample_i_is_the_same_in_every_batch(k, d, per_sample, dtype):
    target, sde = mixture(k, d), VP()
    posterior = target.posterior(sde)
    x = 3 * torch.randn(64, d, generator=torch.Generator().manual_seed(5), dtype=dtype)
    times = torch.linspace(0, 1, 64, dtype=dtype)
    whole = posterior(x, times if per_sample else 0.4)
    density = posterior.log_prob(x, times if per_sample else 0.4), target.log_prob(x)
    for size in (1, 7):
        for i in range(0, 64 - size + 1, size):
            some = slice(i, i + size)
            t = times[some] if per_sample else 0.4
            part = posterior(x[some], t)
            assert torch.equal(part.mean, whole.mean[some]) and torch.equal(
                part.std, whole.std[some]
            )
            assert torch.equal(posterior.log_prob(x[some], t), density[0][some])
            assert torch.equal(target.log_prob(x[some]), density[1][some])


def test_gradients_flow_also_without_noise():
    target = mixture()
    x = target.sample(4, seed=1).requires_grad_()
    got = target.posterior(Cosine())(x, 0.0)
    (jacobian,) = torch.autograd.grad(got.mean.sum() + got.std.sum(), x)
    torch.testing.assert_close(jacobian, torch.ones(4, 3), rtol=1e-5, atol=1e-5)


def test_moments_against_samples():
    """Within 4 standard errors, seed 0, n = 20000; the component frequencies too."""
    target, n = mixture(k=4, d=3), 20000
    x = target.sample(n, seed=0, dtype=DOUBLE)
    assert bool(((x.mean(0) - target.mean).abs() < 4 * target.std / n**0.5).all())
    square = (x - target.mean).square()
    assert bool(((square.mean(0) - target.std**2).abs() < 4 * square.std(0) / n**0.5).all())
    left = float((LINE.sample(n, seed=0) < -0.3).double().mean())
    exact = float(np.dot([0.5, 1 / 6, 1 / 3], norm.cdf(-0.3, [-2, 0.5, 1.5], [0.4, 0.1, 0.7])))
    assert abs(left - exact) < 4 * math.sqrt(exact * (1 - exact) / n)


def test_normal_is_conjugate():
    """``E[x_0 | x_t] = m + alpha v / (alpha^2 v + sigma^2) (x - alpha m)``."""
    mean, std, sde, t = (
        torch.tensor([1.0, -2.0], dtype=DOUBLE),
        torch.tensor([0.5, 3.0], dtype=DOUBLE),
        OU(),
        0.3,
    )
    x = torch.tensor([[0.2, 0.7], [4.0, -1.0]], dtype=DOUBLE)
    got = Normal(mean, std).posterior(sde)(x, t)
    a, v = sde.alpha(t), std**2
    total = a**2 * v + sde.sigma(t) ** 2
    torch.testing.assert_close(
        got.mean, mean + a * v / total * (x - a * mean), rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(
        got.std, (v * sde.sigma(t) ** 2 / total).sqrt().expand(2, 2), rtol=1e-12, atol=1e-12
    )


def test_named_mixtures():
    """gmm9 by its definition; gmm40 by its first location, computed by hand from numpy's first two
    uniforms."""
    nine = gmm9()
    assert {tuple(m) for m in nine.means.tolist()} == {
        (a, b) for a in (-5, 0, 5) for b in (-5, 0, 5)
    }
    torch.testing.assert_close(nine.stds**2, torch.full((9, 2), 0.3, dtype=DOUBLE))
    forty = gmm40(50)
    assert forty.means.shape == (40, 50) and float(forty.means.abs().max()) < 40
    assert float(gmm40().means[0, 0]) == pytest.approx(80 * 0.6369616873214543 - 40, abs=1e-12)


@pytest.mark.parametrize(
    ("means", "stds", "weights", "said"),
    [
        (torch.zeros(2, 3), torch.ones(2, 1), torch.ones(2), "full_like"),
        (torch.zeros(2, 3), torch.ones(2, 3), torch.ones(3), r"\(3,\)"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2), "stds.*smallest is 0"),
        (torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([1.0, -1.0]), "weights.*smallest is -1"),
        (torch.full((2, 3), torch.nan), torch.ones(2, 3), torch.ones(2), "6 that are not"),
    ],
)
def test_bad_parameters_are_named(means, stds, weights, said):
    with pytest.raises(
        (OrnsteinError, TypeError), match=said + "|Type-check"
    ):  # where shapes are checked
        GaussianMixture(means, stds, weights)


def test_wrong_dimension_does_not_broadcast():
    with pytest.raises(OrnsteinError, match=r"dimension 3.*\(5, 1\)"):
        mixture().log_prob(torch.zeros(5, 1))
    with pytest.raises(OrnsteinError, match=r"dimension 3.*\(5, 1\)"):
        mixture().posterior(VP())(torch.zeros(5, 1), 0.5)
