"""Maps onto supports: inverses, Jacobians against autograd, integrals that must not change, and
digits where z is huge."""

import math

import pytest
import torch
from torch import distributions as law
from torch.distributions import biject_to, constraints
from torch.nn.functional import softplus

import ornstein as orn
from ornstein.density.constraints.bijections import bijection, ordered_vector
from ornstein.density.constraints.supports import Support
from ornstein.errors import OrnsteinError

S = orn.supports
BELOW = torch.tril_indices(4, 4, -1)
CASES = {
    "real": (S.real(2, 3), lambda x: x.flatten()),
    "positive": (S.positive(3), lambda x: x),
    "greater_than": (S.greater_than(2.0), lambda x: x.reshape(1)),
    "less_than": (S.less_than(-1.0, 2), lambda x: x),
    "interval": (S.interval(-1.0, 4.0, 2, 2), lambda x: x.flatten()),
    "simplex": (S.simplex(5), lambda x: x[:-1]),
    "two simplexes": (S.simplex(2, 4), lambda x: x[:, :-1].flatten()),
    "ordered": (S.ordered(4), lambda x: x),
    "correlation": (S.correlation_cholesky(4), lambda x: x[BELOW[0], BELOW[1]]),
    "nonnegative": (S.of(constraints.nonnegative, 2), lambda x: x),
    "independent": (
        S.of(constraints.independent(constraints.simplex, 1), 2, 3),
        lambda x: x[:, :-1].flatten(),
    ),
}


def points(dim, n=6, scale=1.5, seed=0):
    return scale * orn.Noise(seed).normal((n, dim), torch.float64)


@pytest.mark.parametrize("name", CASES)
class TestEverySupport:
    def test_constrains_into_the_support_and_back(self, name):
        support, _ = CASES[name]
        z = points(support.dim)
        x, _ = support.constrain(z)
        assert x.shape == (6, *support.shape)
        assert bool(support.contains(x).all())
        assert torch.allclose(support.unconstrain(x), z, rtol=1e-9, atol=1e-9)

    def test_has_the_jacobian_of_autograd(self, name):
        support, free = CASES[name]
        z = points(support.dim, seed=1)
        _, log_det = support.constrain(z)
        for row, claimed in zip(z, log_det, strict=True):
            jacobian = torch.autograd.functional.jacobian(
                lambda v: free(support.constrain(v[None])[0][0]), row
            )
            assert float(claimed) == pytest.approx(
                float(torch.linalg.slogdet(jacobian)[1]), abs=1e-9
            )

    def test_keeps_its_digits_in_float32(self, name):
        """The log-determinant to 1e-5 of its size up to |z| = 80, and no value on an edge or
        infinite; ordered vectors may tie."""
        support, _ = CASES[name]
        for scale in (1.0, 10.0, 20.0, 80.0):
            z = points(support.dim, 500, seed=2)
            z = (scale * z / z.norm(dim=1, keepdim=True)).float()
            x, log_det = support.constrain(z)
            _, exact = support.constrain(z.double())
            assert torch.allclose(log_det.double(), exact, rtol=1e-5, atol=1e-5 * scale)
            assert bool(x.isfinite().all())
            assert name == "ordered" or bool(support.contains(x).all())


INTEGRALS = {
    "half-normal": (S.positive(2), lambda x: law.HalfNormal(1.0).log_prob(x).sum(1), 0.0),
    "shifted exponential": (
        S.greater_than(2.0),
        lambda x: law.Exponential(1.5).log_prob(x - 2),
        0.0,
    ),
    "half-line to the left": (
        S.less_than(0.0),
        lambda x: law.Normal(0.0, 1.0).log_prob(x),
        -math.log(2),
    ),
    "uniform": (S.interval(-1.0, 4.0), lambda x: torch.zeros_like(x), math.log(5)),
    "Dirichlet": (
        S.simplex(3),
        lambda x: law.Dirichlet(x.new_tensor([2.0, 0.7, 4.0]), validate_args=False).log_prob(x),
        0.0,
    ),
    "ordered normals": (
        S.ordered(3),
        lambda x: law.Normal(0.0, 1.0).log_prob(x).sum(1),
        -math.log(6),
    ),
    "LKJ": (
        S.correlation_cholesky(3),
        lambda x: law.LKJCholesky(3, 1.5, validate_args=False).log_prob(x),
        0.0,
    ),
}


@pytest.mark.parametrize("name", INTEGRALS)
def test_the_integral_stays_the_same(name):
    """E[w] = Z by importance sampling from logistic z, whose tails are heavier than any here:
    within 4 standard errors, seed 0."""
    support, log_prob, log_z = INTEGRALS[name]
    u = orn.Noise(0).uniform((200_000, support.dim), torch.float64).clamp(1e-12, 1 - 1e-12)
    s = 1.5
    z = s * torch.logit(u)
    log_q = (-z / s - 2 * softplus(-z / s) - math.log(s)).sum(1)
    x, log_det = support.constrain(z)
    estimate = orn.log_z(log_prob(x) + log_det - log_q)
    assert abs(estimate.value - log_z) < 4 * estimate.stderr
    assert estimate.stderr < 0.02


def test_uniform_correlations_have_the_volume_of_joe():
    """The volume of 3 x 3 correlation matrices is pi^2 / 2 (Joe 2006); from L to the matrix the
    Jacobian is prod_i L_ii^(d - i)."""
    support = S.correlation_cholesky(3)
    u = orn.Noise(1).uniform((100_000, 3), torch.float64).clamp(1e-12, 1 - 1e-12)
    z = torch.logit(u)
    log_q = (-z - 2 * softplus(-z)).sum(1)
    x, log_det = support.constrain(z)
    volume = orn.log_z(log_det + x[:, 1, 1].log() - log_q)
    assert abs(volume.value - math.log(math.pi**2 / 2)) < 4 * volume.stderr


def test_simplex_treats_its_corners_alike():
    """Permuting x permutes log x, so z = 0 is the centre and the map of a permuted point has the
    same length."""
    support = S.simplex(4)
    x = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.1, 0.3, 0.2]], dtype=torch.float64)
    z = support.unconstrain(x)
    assert float(z[0].norm()) == pytest.approx(float(z[1].norm()), rel=1e-12)
    assert torch.allclose(
        support.constrain(torch.zeros(1, 3, dtype=torch.float64))[0],
        torch.full((1, 4), 0.25, dtype=torch.float64),
    )


def test_correlations_are_those_of_torch_where_torch_is_exact():
    z = points(6, scale=0.7, seed=3)
    theirs = biject_to(constraints.corr_cholesky)
    x, log_det = S.correlation_cholesky(4).constrain(z)
    assert torch.allclose(x, theirs(z), atol=1e-12)
    assert torch.allclose(log_det, theirs.log_abs_det_jacobian(z, x), atol=1e-10)


def test_ordered_is_known_to_torch():
    assert torch.equal(biject_to(ordered_vector)(torch.zeros(3)), torch.tensor([0.0, 1.0, 2.0]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: S.interval(2.0, 1.0), "lower end must lie below"),
        (lambda: S.simplex(1), "nothing free"),
        (lambda: S.simplex(), "1 or more axes"),
        (lambda: S.correlation_cholesky(1), "nothing free"),
        (lambda: Support(constraints.corr_cholesky, (2, 3)), "square"),
        (lambda: S.real(0), "none of them empty"),
        (lambda: bijection(constraints.nonnegative_integer), "marginalise"),
        (lambda: bijection(constraints.lower_cholesky), "no smooth map"),
        (
            lambda: S.positive(2).unconstrain(torch.tensor([[1.0, 2.0], [1.0, -3.0]])),
            r"1 of 2 points are not inside.*-3.0",
        ),
        (lambda: S.interval(0.0, 1.0).unconstrain(torch.tensor([1.5])), "not inside"),
        (lambda: S.positive(2).unconstrain(torch.ones(4, 3)), r"shape \(3,\)"),
    ],
)
def test_misfits_are_named(make, words):
    with pytest.raises(OrnsteinError, match=words):
        make()
