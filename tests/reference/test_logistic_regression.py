"""Posteriors on data: their densities against scipy and torch.distributions, their evidence by
independent integration."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.stats import lognorm, norm

from ornstein.errors import OrnsteinError
from ornstein.reference import targets
from ornstein.reference.targets import (
    BrownianMissing,
    CoxProcess,
    LogisticRegression,
    SampledTarget,
    german_credit,
    sonar,
)

DOUBLE = torch.float64


@pytest.fixture(scope="module")
def cox():
    """126 points, denser towards one corner."""
    points = torch.rand(126, 2, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    return CoxProcess(points * points[:, :1].sqrt())


def normals(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def laplace(target, rounds=8):
    """Mode and covariance at the mode, by Newton's method from the origin."""
    w, f = torch.zeros(target.dim, dtype=DOUBLE), lambda v: target.log_prob(v[None])[0]
    for _ in range(rounds):
        hessian = torch.func.hessian(f)(w)
        w = w - torch.linalg.solve(hessian, torch.func.grad(f)(w))
    return w, torch.linalg.inv(-torch.func.hessian(f)(w))


# ------------------------------------------------------------------------------------------------
# logistic regression


@pytest.mark.parametrize(
    ("target", "n", "std"),
    [(sonar(), 208, 1.0), (german_credit(), 1000, 10.0)],
    ids=["sonar", "credit"],
)
def test_logistic_density_is_prior_times_bernoulli(target, n, std):
    w = 0.3 * normals(5, target.dim)
    law = torch.distributions.Bernoulli(logits=w @ target.design.mT)
    likelihood = law.log_prob((target.labels + 1) / 2).sum(1)
    prior = norm.logpdf(w.numpy(), scale=std).sum(1)
    torch.testing.assert_close(
        target.log_prob(w), likelihood + torch.as_tensor(prior), rtol=1e-12, atol=0
    )
    assert target.design.shape == (n, target.dim) and bool((target.design[:, 0] == 1).all())
    probability = target.probability(w, target.design[:7])
    torch.testing.assert_close(probability, law.probs[:, :7])


def test_features_are_scaled_as_defined():
    for features in (sonar().design[:, 1:], german_credit().design[:, 1:]):
        torch.testing.assert_close(
            features.square().mean(0) - features.mean(0).square(),
            torch.ones(features.shape[1], dtype=DOUBLE),
        )
    assert (
        float(sonar().design[:, 1:].mean(0).abs().max()) < 1e-12
        and float(german_credit().design.min()) >= 0
    )
    assert (
        int((german_credit().labels == 1).sum()) == 300 and int((sonar().labels == 1).sum()) == 97
    )


def test_evidence_of_german_credit_by_importance_sampling():
    """From a Gaussian 1.1 times as wide as the Laplace approximation, n = 20000, seed 0: 4 standard
    errors of both."""
    target = german_credit()
    mean, cov = laplace(target)
    law = torch.distributions.MultivariateNormal(mean, scale_tril=1.1 * torch.linalg.cholesky(cov))
    x = mean + normals(20000, target.dim) @ law.scale_tril.mT
    w = (target.log_prob(x) - law.log_prob(x) + 585).exp()
    error = float(w.std() / w.mean()) / 20000**0.5
    assert error < 0.01
    assert math.log(float(w.mean())) - 585 == pytest.approx(
        target.log_z, abs=4 * math.hypot(error, target.log_z_stderr)
    )
    assert target.log_z == pytest.approx(-585.094, abs=0.01)  # as published


def test_evidence_of_sonar_by_annealing():
    """Hamiltonian annealed importance sampling from a Gaussian with the curvature of the mode: 4
    standard errors, seed 0.

    40 levels, one leapfrog trajectory at each, 200 chains, no resampling; weights are those of Neal
    2001, eq. 7.
    """
    target, g = sonar(), torch.Generator().manual_seed(0)
    mean, cov = laplace(target)
    factor, d, n = torch.linalg.cholesky(cov), target.dim, 200

    def start(z):
        return -z.square().sum(1) / 2 - d / 2 * math.log(2 * math.pi)

    def end(z):
        return target.log_prob(mean + z @ factor.mT) + factor.diagonal().log().sum()

    def slope(z, beta):
        z = z.detach().requires_grad_()
        value = (1 - beta) * start(z) + beta * end(z)
        return value.detach(), torch.autograd.grad(value.sum(), z)[0]

    z = torch.randn(n, d, generator=g, dtype=DOUBLE)
    log_w, betas = torch.zeros(n, dtype=DOUBLE), torch.linspace(0, 1, 41, dtype=DOUBLE)
    for before, beta in pairwise(betas):
        log_w += (beta - before) * (end(z) - start(z))
        p = torch.randn(n, d, generator=g, dtype=DOUBLE)
        value, gradient = slope(z, beta)
        y, q, old = z, p, value - p.square().sum(1) / 2
        for _ in range(5):
            q = q + 0.125 * gradient
            y = y + 0.25 * q
            value, gradient = slope(y, beta)
            q = q + 0.125 * gradient
        accept = (
            torch.rand(n, generator=g, dtype=DOUBLE).log() < value - q.square().sum(1) / 2 - old
        )
        z = torch.where(accept[:, None], y, z)
    w = (log_w + 108).exp()
    error = float(w.std() / w.mean()) / n**0.5
    assert error < 0.1
    assert math.log(float(w.mean())) - 108 == pytest.approx(target.log_z, abs=4 * error)
    assert target.log_z == pytest.approx(-108.382, abs=0.01)  # as published


def test_bad_designs_are_refused():
    design = torch.ones(3, 2)
    for make in (
        lambda: LogisticRegression(design, torch.tensor([0.0, 1.0, 1.0])),
        lambda: LogisticRegression(design * math.nan, torch.ones(3)),
        lambda: LogisticRegression(design, torch.ones(3), prior_std=0.0),
    ):  # fmt: skip
        with pytest.raises(OrnsteinError, match=r"needed|must|positive"):
            make()
    with pytest.raises(OrnsteinError, match="dimension 2"):
        LogisticRegression(design, torch.ones(3)).log_prob(torch.zeros(4, 3))


# ------------------------------------------------------------------------------------------------
# Brownian motion


def test_brownian_density_is_that_of_the_model():
    target, z = BrownianMissing(), 0.5 * normals(6, 32)
    expected = []
    for row in z.numpy():
        s_i, s_o, x = math.exp(row[0]), math.exp(row[1]), row[2:]
        value = lognorm.logpdf([s_i, s_o], s=2).sum() + row[0] + row[1]
        value += norm.logpdf(x, loc=[0, *x[:-1]], scale=s_i).sum()
        expected.append(
            value + norm.logpdf(target.y, loc=[x[t - 1] for t in target.times], scale=s_o).sum()
        )
    torch.testing.assert_close(
        target.log_prob(z), torch.tensor(expected, dtype=DOUBLE), rtol=1e-12, atol=0
    )
    assert len(target.names) == target.dim
    torch.testing.assert_close(target.parameters(z)[:, :2], z[:, :2].exp())


def test_brownian_evidence_by_the_plain_rule():
    """The field integrated out by torch's multivariate normal, both scales by the trapezoidal rule
    on a plane, to 1e-6."""
    target = BrownianMissing()
    times = torch.tensor(target.times, dtype=DOUBLE)
    cov = torch.minimum(times[:, None], times)
    a, b = torch.linspace(-6, 4, 101, dtype=DOUBLE), torch.linspace(-12, 4, 161, dtype=DOUBLE)
    scales = torch.cartesian_prod(a, b)
    both = (2 * scales[:, 0]).exp()[:, None, None] * cov + (2 * scales[:, 1]).exp()[
        :, None, None
    ] * torch.eye(20)
    law = torch.distributions.MultivariateNormal(torch.zeros(20, dtype=DOUBLE), both)
    logs = law.log_prob(torch.tensor(target.y, dtype=DOUBLE)) + torch.distributions.Normal(
        0.0, 2.0
    ).log_prob(scales).sum(1)
    assert target.log_z == pytest.approx(float(logs.logsumexp(0)) + math.log(0.01), abs=1e-6)
    assert target.log_z == pytest.approx(1.187749, abs=1e-6)  # as published


# ------------------------------------------------------------------------------------------------
# Cox process


def test_cox_density_is_normal_times_poisson(cox):
    """With the factors of the Poisson law that do not depend on the field; and the covariance by
    its definition."""
    z = 0.5 * normals(3, 1600)
    f = cox.field(z)
    counts = cox.counts
    poisson = torch.distributions.Poisson(f.exp() / 1600).log_prob(counts)
    constant = counts * math.log(1600) + torch.lgamma(counts + 1)
    expected = norm.logpdf(z.numpy()).sum(1) + (poisson + constant).sum(1).numpy()
    torch.testing.assert_close(cox.log_prob(z), torch.as_tensor(expected), rtol=1e-12, atol=0)
    assert int(counts.sum()) == 126 and cox.mean == pytest.approx(math.log(126) - 0.955)
    i, j = 3 * 40 + 5, 10 * 40 + 29
    assert float(cox.covariance[i, j]) == pytest.approx(1.91 * math.exp(-33 / 40 * 25), rel=1e-12)
    units = torch.eye(1600, dtype=DOUBLE)[[i, j]]
    shift = (cox.field(units) - cox.mean).mT
    assert shift.shape == (1600, 2)
    rows = (cox.field(torch.eye(1600, dtype=DOUBLE)) - cox.mean).mT[[i, j]]  # of L
    torch.testing.assert_close(rows @ rows.mT, cox.covariance[[i, j]][:, [i, j]])


def _laplace(cox, z, hessian):
    """Laplace's own: the density at the mode times the Gaussian volume."""
    return (
        float(cox.log_prob(z[None]))
        + 800 * math.log(2 * math.pi)
        - float(hessian.diagonal().log().sum())
    )


def test_cox_evidence_is_near_its_laplace_approximation(cox):
    """Importance sampling from the Gaussian at the mode, n = 200, against Laplace's value: within
    20 nats (16 here); the constant of the prior is 1470."""
    factor, z = torch.linalg.cholesky(cox.covariance), torch.zeros(1600, dtype=DOUBLE)
    for _ in range(9):
        rate = (cox.mean + factor @ z).exp() / 1600
        hessian = torch.linalg.cholesky(
            torch.eye(1600, dtype=DOUBLE) + factor.mT @ (rate[:, None] * factor)
        )
        gradient = factor.mT @ (cox.counts - rate) - z
        z = z + torch.cholesky_solve(gradient[:, None], hessian)[:, 0]
    assert float(gradient.norm()) < 1e-6
    u = normals(200, 1600)
    x = z + torch.linalg.solve_triangular(hessian.mT, u.mT, upper=True).mT
    log_w = (
        cox.log_prob(x)
        + u.square().sum(1) / 2
        + 800 * math.log(2 * math.pi)
        - hessian.diagonal().log().sum()
    )
    assert (
        float(log_w.mean())
        < float(log_w.logsumexp(0)) - math.log(200)
        == pytest.approx(_laplace(cox, z, hessian), abs=20.0)
    )


# ------------------------------------------------------------------------------------------------
# all without exact samples


@pytest.mark.parametrize("name", ["sonar", "german-credit"])
def test_estimated_targets_keep_dtype_and_gradient(name):
    """float32 follows float64; the gradient is the directional difference; there are no exact
    samples to be had."""
    target = targets.named(name)
    assert (
        not isinstance(target, SampledTarget)
        and isinstance(target, targets.Target)
        and 0 < target.log_z_stderr < 0.2
    )
    w, u = 0.1 * normals(4, target.dim, 1), normals(4, target.dim, 2) / target.dim**0.5
    single = target.log_prob(w.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), target.log_prob(w), rtol=1e-5, atol=1e-3)
    w.requires_grad_()
    (gradient,) = torch.autograd.grad(target.log_prob(w).sum(), w)
    difference = (target.log_prob(w + 1e-5 * u) - target.log_prob(w - 1e-5 * u)) / 2e-5
    torch.testing.assert_close((gradient * u).sum(1), difference.detach(), rtol=1e-5, atol=1e-6)


def test_stretched_gaussian():
    target = targets.named("gaussian")
    v = target.stds[0].square()
    assert (
        target.dim == 100
        and float(v.max() / v.min()) == pytest.approx(1e4)
        and float(v.log().sum()) == pytest.approx(0, abs=1e-9)
    )
