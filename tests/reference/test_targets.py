"""Every target: its log Z by an independent quadrature, its samples by moments and laws, its
gradients by Stein."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest, t
from scipy.stats import norm as normal

from ornstein.core.numerics.tabulated_density import Line
from ornstein.errors import OrnsteinError, UnknownNameError
from ornstein.reference import targets
from ornstein.reference.targets import (
    Banana,
    Funnel,
    ManyWell,
    MultiWell,
    Rings,
    StudentTMixture,
    named,
)

DOUBLE = torch.float64
ALL = pytest.mark.parametrize(
    "name", [name for name in targets.names if isinstance(named(name), targets.SampledTarget)]
)


def plane(target, x_range, y_range, n):
    """log of the integral of exp(log_prob) over a rectangle, by the trapezoidal rule in Cartesian
    coordinates."""
    x, y = torch.linspace(*x_range, n, dtype=DOUBLE), torch.linspace(*y_range, n, dtype=DOUBLE)
    logs = torch.cat([target.log_prob(torch.cartesian_prod(some, y)) for some in x.split(200)])
    return float(logs.logsumexp(0)) + math.log(float((x[1] - x[0]) * (y[1] - y[0])))


@pytest.mark.parametrize(
    ("target", "x_range", "y_range", "n", "error"),
    [
        (named("gmm9"), (-9, 9), (-9, 9), 300, 1e-9),
        (named("gmm40"), (-48, 48), (-48, 48), 300, 1e-9),
        (Banana(), (-80, 80), (-210, 12), 1500, 1e-9),
        (Rings(), (-6.2, 6.2), (-6.2, 6.2), 1000, 1e-9),
        (ManyWell(1), (-5, 5), (-9, 9), 600, 1e-9),
        (MultiWell(2, 1, 3.0), (-5, 5), (-9, 9), 600, 1e-9),
        (Funnel(2, std=0.7), (-6, 6), (-140, 140), 1500, 1e-9),
    ],
    ids=lambda v: type(v).__name__ if hasattr(v, "log_prob") else None,
)
def test_log_z_in_the_plane(target, x_range, y_range, n, error):
    assert plane(target, x_range, y_range, n) == pytest.approx(target.log_z, abs=error)


@pytest.mark.parametrize(
    ("target", "known", "digits"),
    [
        (MultiWell(5, 5, 4.0), -0.5410555, 1e-7),
        (MultiWell(20, 5, 3.0), 14.0196773, 1e-7),
        (MultiWell(50, 5, 2.0), 42.8172427, 1e-7),
        (ManyWell(1), 10.2934797, 1e-7),
        (ManyWell(16), 164.695675, 1e-6),
        (Rings(), 2.3048815, 1e-7),
    ],
)
def test_log_z_as_published(target, known, digits):
    assert target.log_z == pytest.approx(known, abs=digits)


@pytest.mark.parametrize("delta", [-1.0, 0.0, 2.0, 4.0, 12.0])
def test_multi_well_factorises(delta):
    """One well by scipy's adaptive quadrature."""
    bottom = [math.sqrt(max(delta, 0))]
    one, _ = quad(
        lambda u: math.exp(-((u**2 - delta) ** 2)), 0, 12, points=bottom, epsabs=0, limit=200
    )
    expected = 2 * math.log(2 * one) + 1.5 * math.log(2 * math.pi)
    assert MultiWell(5, 2, delta).log_z == pytest.approx(expected, abs=1e-9)


def test_many_well_side_of_the_barrier():
    """P(x > 0) = 0.844307 (published), by quadrature and by samples (4 standard errors, seed 0)."""
    z, _ = quad(lambda u: math.exp(-(u**4) + 6 * u**2 + u / 2), -5, 5, epsabs=0, epsrel=1e-12)
    assert z == pytest.approx(11784.5092651, rel=1e-10)
    target = ManyWell(2)
    right = (target.sample(20000, seed=0)[:, 0::2] > 0).double().mean(0)
    assert bool(((right - 0.844307).abs() < 4 * math.sqrt(0.844307 * 0.155693 / 20000)).all())


def test_funnel_is_a_product_of_conditionals():
    x = Funnel().sample(50, seed=1, dtype=DOUBLE)
    first = normal.logpdf(x[:, 0].numpy(), scale=3)
    others = normal.logpdf(x[:, 1:].numpy(), scale=(x[:, :1] / 2).exp().numpy()).sum(1)
    torch.testing.assert_close(
        Funnel().log_prob(x), torch.as_tensor(first + others), rtol=1e-12, atol=1e-12
    )


def test_funnel_neck_is_finite_in_float32():
    """``x_1 = -90``: e^{-x_1} overflows float32, the density does not."""
    x = torch.zeros(1, 10)
    x[0, 0] = -90.0
    expected = -450 - math.log(3) + 9 * 45 - 5 * math.log(2 * math.pi)
    assert float(Funnel().log_prob(x)) == pytest.approx(expected, rel=1e-6)


def test_student_t_mixture_is_scipys():
    target = StudentTMixture(3)
    centres = 20 * np.random.default_rng(0).random((10, 3)) - 10
    x = target.sample(40, seed=0, dtype=DOUBLE)
    density = np.mean([t.pdf(x.numpy() - c, df=2).prod(1) for c in centres], 0)
    torch.testing.assert_close(
        target.log_prob(x), torch.as_tensor(np.log(density)), rtol=1e-10, atol=1e-10
    )


def test_student_t_samples_follow_their_law():
    """Kolmogorov-Smirnov per coordinate against the exact law, p > 1e-4, seed 0, n = 5000."""
    target = StudentTMixture(2)
    x = target.sample(5000, seed=0, dtype=DOUBLE).numpy()
    for i, centre in enumerate(target.locations.numpy().T):
        assert (
            kstest(x[:, i], lambda u, c=centre: t.cdf(u[:, None] - c, df=2).mean(1)).pvalue > 1e-4
        )


def test_rings_have_weights_like_their_radii():
    """To 1e-3 in the law, and within 4 standard errors in the samples (seed 0, n = 20000); angles
    are uniform."""
    x = Rings().sample(20000, seed=0, dtype=DOUBLE)
    r, angle = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0]).numpy()
    for (low, high), c in zip(pairwise((0.0, 2.0, 4.0, 6.5)), (1, 3, 5), strict=True):
        exact, _ = quad(
            lambda u, c=c: u * math.exp(-100 * (u - c) ** 2), low, high, points=[c], epsabs=0
        )
        share = 2 * math.pi * exact / math.exp(Rings().log_z)
        assert share == pytest.approx(c / 9, abs=1e-3)
        counted = float(((r > low) & (r < high)).double().mean())
        assert abs(counted - share) < 4 * math.sqrt(share * (1 - share) / 20000)
    assert kstest(angle, "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 1e-4


def test_banana_moments():
    """``E x_2 = 0``, ``Var x_2 = 1 + 2 bend^2 std^4``, within 4 standard errors, seed 0, n =
    50000."""
    x = Banana().sample(50000, seed=0, dtype=DOUBLE)
    square = x.square()
    exact = torch.tensor([100.0, 1 + 2 * 0.03**2 * 1e4], dtype=DOUBLE)
    assert bool((x.mean(0).abs() < 4 * x.std(0) / 50000**0.5).all())
    assert bool(((square.mean(0) - exact).abs() < 4 * square.std(0) / 50000**0.5).all())


@ALL
def test_samples_and_gradients_agree(name):
    """Stein: ``E[score] = 0`` and ``E[x_i score_i] = -1`` on exact samples; 4.5 standard errors,
    seed 1, n = 20000."""
    target = named(name)
    x = target.sample(20000, seed=1, dtype=DOUBLE).requires_grad_()
    (score,) = torch.autograd.grad(target.log_prob(x).sum(), x)
    x = x.detach()
    for values in (score, x * score + 1):
        assert float((values.mean(0) / values.std(0)).abs().max()) * 20000**0.5 < 4.5


@ALL
def test_samples_are_prefix_stable_and_typed(name):
    target = named(name)
    many = target.sample(5000, seed=3)
    assert many.shape == (5000, target.dim) and many.dtype == torch.float32
    assert torch.equal(target.sample(17, seed=3), many[:17])
    assert torch.equal(target.sample(17, seed=3, dtype=DOUBLE).float(), many[:17])
    assert not torch.equal(target.sample(17, seed=4), many[:17])


@ALL
def test_log_prob_keeps_the_dtype_and_the_batch(name):
    target = named(name)
    x = target.sample(64, seed=2)
    single = target.log_prob(x)
    assert single.dtype == torch.float32 and single.shape == (64,)
    torch.testing.assert_close(single.double(), target.log_prob(x.double()), rtol=1e-4, atol=1e-4)
    assert torch.equal(torch.cat([target.log_prob(x[i : i + 1]) for i in range(64)]), single)
    with pytest.raises(OrnsteinError, match=f"dimension {target.dim}"):
        target.log_prob(torch.zeros(3, target.dim + 1))


def test_line_against_a_known_law():
    """The standard normal: normaliser, moments and quantiles (the latter to the square of the
    step)."""
    line = Line(lambda u: -u.square() / 2, -12.0, 12.0)
    assert line.log_z == pytest.approx(math.log(2 * math.pi) / 2, abs=1e-13)
    torch.testing.assert_close(
        line.mean(line.nodes**4), torch.tensor(3.0, dtype=DOUBLE), rtol=1e-12, atol=0
    )
    u = torch.tensor([0.0, 1e-9, 0.1, 0.5, 0.9, 1 - 1e-9], dtype=DOUBLE)
    torch.testing.assert_close(line.quantile(u)[1:], torch.special.ndtri(u[1:]), rtol=0, atol=1e-6)
    assert -12 <= float(line.quantile(u)[0]) < -8


def test_bad_constants_are_refused():
    for make in (
        lambda: Funnel(1),
        lambda: Banana(std=0.0),
        lambda: ManyWell(0),
        lambda: MultiWell(3, 4),
        lambda: Rings(()),
        lambda: StudentTMixture(0),
        lambda: targets.gmm40(0),
        lambda: Line(lambda u: u, 1.0, 0.0),
    ):
        with pytest.raises(OrnsteinError, match=r"needs|must|positive|at least"):
            make()


def test_unknown_names_are_guessed():
    with pytest.raises(UnknownNameError, match="Did you mean 'funnel'"):
        named("funel")
