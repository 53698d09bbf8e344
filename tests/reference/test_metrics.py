"""Metrics against closed forms, against scipy and brute force, and their standard errors against
repetition."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import linear_sum_assignment

from ornstein.errors import DataError
from ornstein.reference import metrics
from ornstein.reference.metrics import Estimate, distances

DOUBLE = torch.float64


def normal(n, d, seed, shift=0.0, scale=1.0):
    return shift + scale * torch.randn(
        n, d, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE
    )


def repeated(metric, runs=150, n=200, m=300, shift=0.5):
    """Values and reported errors over independent pairs of samples."""
    estimates = [
        metric(normal(n, 2, 2 * k), normal(m, 2, 2 * k + 1, shift=shift)) for k in range(runs)
    ]
    return torch.tensor([tuple(estimate) for estimate in estimates], dtype=DOUBLE).unbind(1)


# ------------------------------------------------------------------------------------------------
# sliced W2


def test_w2_on_the_line_is_optimal_assignment():
    """Equal sizes: the best of all pairings, found by the Hungarian method."""
    a, b = normal(60, 1, 0), normal(60, 1, 1, shift=1.0, scale=2.0)
    cost = (a - b.mT).square().numpy()
    rows, columns = linear_sum_assignment(cost)
    assert metrics.sliced_w2(a, b).value == pytest.approx(
        math.sqrt(cost[rows, columns].mean()), rel=1e-12
    )


@pytest.mark.parametrize(("n", "m"), [(7, 3), (40, 60), (64, 1000), (2, 9)])
def test_w2_of_unequal_sizes(n, m):
    """The integral of squared quantile differences by brute force: repeat each sample to the least
    common multiple."""
    a, b = normal(n, 1, 3), normal(m, 1, 4, shift=0.3)
    common = math.lcm(n, m)
    gap = a.sort(0).values.repeat_interleave(common // n, 0) - b.sort(0).values.repeat_interleave(
        common // m, 0
    )
    assert metrics.sliced_w2(a, b).value == pytest.approx(
        float(gap.square().mean().sqrt()), rel=1e-12
    )
    assert metrics.sliced_w2(b, a).value == pytest.approx(metrics.sliced_w2(a, b).value, rel=1e-12)


def test_sliced_w2_of_a_shift():
    """``N(0, I)`` against ``N(c, I)``: ``|c| / sqrt(d)``; within 4 standard errors, seeds 0, 1; a
    shifted copy too."""
    shift = torch.tensor([3.0, -1.0, 2.0, 0.0], dtype=DOUBLE)
    got = metrics.sliced_w2(normal(4000, 4, 0), normal(6000, 4, 1) + shift, projections=512)
    assert abs(got.value - float(shift.norm()) / 2) < 4 * got.stderr < 0.5
    a = normal(500, 4, 0)
    copy = metrics.sliced_w2(a, a + shift, projections=512)
    assert abs(copy.value - float(shift.norm()) / 2) < 4 * copy.stderr
    assert metrics.sliced_w2(a, a.flip(0)).value < 1e-12
    assert metrics.sliced_w2(a, a) == Estimate(0.0, 0.0)


def test_sliced_w2_of_a_scale():
    """``N(0, I)`` against ``N(0, 4 I)``: 1; within 4 standard errors, seeds 0, 1; the error itself
    is below 0.02."""
    got = metrics.sliced_w2(normal(20000, 3, 0), normal(20000, 3, 1, scale=2.0))
    assert abs(got.value - 1) < 4 * got.stderr and got.stderr < 0.02


def test_sliced_w2_in_blocks(monkeypatch):
    a, b = normal(50, 3, 0), normal(80, 3, 1, shift=1.0)
    whole = metrics.sliced_w2(a, b)
    monkeypatch.setattr(distances, "_BLOCK", 400)
    assert tuple(metrics.sliced_w2(a, b)) == pytest.approx(tuple(whole), rel=1e-12)


# ------------------------------------------------------------------------------------------------
# kernels


def test_mmd_is_its_definition():
    """Equation 3 of Gretton et al. by double loops."""
    a, b, h = normal(9, 2, 0), normal(6, 2, 1, shift=1.0), 1.3

    def k(x, y):
        return math.exp(-float((x - y).square().sum()) / (2 * h**2))

    within_a = np.mean([k(a[i], a[j]) for i in range(9) for j in range(9) if i != j])
    within_b = np.mean([k(b[i], b[j]) for i in range(6) for j in range(6) if i != j])
    across = np.mean([k(x, y) for x in a for y in b])
    assert metrics.mmd(a, b, bandwidth=h).value == pytest.approx(
        within_a + within_b - 2 * across, abs=1e-12
    )


def test_mmd_of_gaussians():
    """``E k = (1 + 2 / h^2)^(-d/2) exp(-|c|^2 / (2 (h^2 + 2)))`` for unit variance; 4 standard
    errors, seeds 0, 1."""
    h, shift, d = 1.5, 1.0, 3
    factor = (1 + 2 / h**2) ** (-d / 2)
    exact = 2 * factor * (1 - math.exp(-d * shift**2 / (2 * (h**2 + 2))))
    got = metrics.mmd(normal(2000, d, 0), normal(3000, d, 1, shift=shift), bandwidth=h)
    assert abs(got.value - exact) < 4 * got.stderr < 0.2 * exact


def test_median_bandwidth():
    a, b = normal(30, 2, 0), normal(20, 2, 1)
    together = torch.cat([a, b])
    distances = torch.stack(
        [(together[i] - together[j]).norm() for i in range(50) for j in range(i)]
    )
    expected = metrics.mmd(a, b, bandwidth=float(distances.median()))
    assert tuple(metrics.mmd(a, b)) == pytest.approx(tuple(expected), rel=1e-12)


def test_energy_distance_is_scipys_made_unbiased():
    """On the line scipy's value squared is the biased statistic; the diagonal is put back by
    hand."""
    a, b = normal(40, 1, 0), normal(70, 1, 1, shift=0.7)
    within_a, within_b = (float((x - x.mT).abs().mean()) for x in (a, b))
    biased = stats.energy_distance(a[:, 0].numpy(), b[:, 0].numpy()) ** 2
    expected = biased - within_a / 39 - within_b / 69
    assert metrics.energy_distance(a, b).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "metric", [metrics.mmd, metrics.energy_distance, metrics.sliced_w2], ids=lambda m: m.__name__
)
def test_standard_errors_of_distances(metric):
    """The mean reported error against the spread of 150 repetitions: equal within 20 % (the spread
    is known to 6 %)."""
    value, stderr = repeated(metric)
    assert 0.8 < float(stderr.mean() / value.std()) < 1.2


@pytest.mark.parametrize("metric", [metrics.mmd, metrics.energy_distance], ids=lambda m: m.__name__)
def test_unbiased_under_equality(metric):
    """Mean of 150 repetitions within 4 standard errors of 0; the reported error is up to sqrt(2)
    times the spread."""
    value, stderr = repeated(metric, shift=0.0)
    assert abs(float(value.mean())) < 4 * float(value.std()) / 150**0.5
    assert 0.9 < float(stderr.mean() / value.std()) < 1.7


def test_kernel_sums_in_blocks(monkeypatch):
    a, b = normal(50, 3, 0), normal(80, 3, 1, shift=1.0)
    whole = metrics.energy_distance(a, b)
    monkeypatch.setattr(distances, "_BLOCK", 400)
    assert tuple(metrics.energy_distance(a, b)) == pytest.approx(tuple(whole), rel=1e-10)


def test_nearest_distance_by_brute_force(monkeypatch):
    """Also far from the origin, where a matrix product alone is inexact, and exactly 0 for
    copies."""
    monkeypatch.setattr(distances, "_BLOCK", 200)
    a, b = normal(40, 3, 0, shift=1e4), normal(60, 3, 1, shift=1e4)
    a[:5] = b[10:15]
    expected = torch.stack([(x - b).norm(dim=1).min() for x in a])
    got = metrics.nearest_distance(a.reshape(40, 3, 1), b.reshape(60, 3, 1))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
    assert torch.equal(got[:5], torch.zeros(5, dtype=DOUBLE))


def test_floor_is_the_distance_between_equals():
    """W2 of two normal samples of 100, averaged over 400 independent pairs, and over 40 splits of
    one; 4 errors."""
    w2 = metrics.sliced_w2
    pairs = torch.tensor(
        [w2(normal(100, 1, 2 * k), normal(100, 1, 2 * k + 1)).value for k in range(400)]
    )
    got = metrics.floor(metrics.sliced_w2, normal(20000, 1, 5000), n=100, repeats=40)
    spread = math.hypot(got.stderr, float(pairs.std()) / 20)
    assert abs(got.value - float(pairs.mean())) < 4 * spread
    with pytest.raises(DataError, match="2 n = 200"):
        metrics.floor(metrics.sliced_w2, normal(150, 1, 0), n=100)


# ------------------------------------------------------------------------------------------------
# weights and modes


def test_ess():
    """Equal weights give n, one weight gives 1, and {1, 2, 3} give 36 / 14, at any scale."""
    assert metrics.ess(torch.full((50,), 1234.0)) == pytest.approx(50)
    assert metrics.ess(torch.tensor([0.0, -torch.inf, -torch.inf])) == pytest.approx(1)
    assert metrics.ess(torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE).log() - 5000) == pytest.approx(
        36 / 14, rel=1e-11
    )


@pytest.mark.parametrize("k", [0.1, 0.3, 0.5, 0.7, 1.0, 1.5])
def test_pareto_k_of_pareto_weights(k):
    """Quantiles of a Pareto law: the tail has the same k, then shrunk towards 1/2 (by 0.03 at k =
    1.5)."""
    n = 10000
    u = (torch.arange(n, dtype=DOUBLE) + 0.5) / n
    got = metrics.pareto_k(-k * torch.log1p(-u) + 700)
    assert got == pytest.approx((300 * k + 5) / 310, abs=0.015)


def test_pareto_k_of_random_weights():
    """Mean of 40 samples within 4 standard errors of k; the asymptotic deviation is ``(1 + k) /
    sqrt(M)``, M = 190."""
    k, found = 0.6, []
    for seed in range(40):
        u = torch.rand(4000, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
        found.append((metrics.pareto_k(-k * torch.log1p(-u)) * 200 - 5) / 190)
    spread = (1 + k) / math.sqrt(190)
    assert abs(np.mean(found) - k) < 4 * spread / math.sqrt(40)
    assert 0.7 < np.std(found, ddof=1) / spread < 1.3


def test_pareto_k_against_maximum_likelihood():
    """scipy's fit of the same tail of log-normal weights, n = 20000: they differ by less than their
    error, 0.06."""
    log_w = 1.5 * normal(20000, 1, 0)[:, 0]
    w = log_w.exp().sort().values
    size = math.ceil(3 * math.sqrt(20000))
    fitted, _, _ = stats.genpareto.fit((w[-size:] - w[-size - 1]).numpy(), floc=0)
    assert metrics.pareto_k(log_w) == pytest.approx((size * fitted + 5) / (size + 10), abs=0.03)


def test_pareto_k_at_the_edges():
    """Bounded weights are below 0.5, equal ones 0, too few cannot be judged; the order does not
    matter."""
    uniform = torch.rand(2000, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    assert metrics.pareto_k(uniform.log()) < 0
    assert metrics.pareto_k(torch.full((100,), -3.0)) == 0
    assert metrics.pareto_k(torch.zeros(10)) == metrics.pareto_k(torch.arange(20.0)) == math.inf
    log_w = normal(500, 1, 0)[:, 0]
    assert metrics.pareto_k(log_w) == metrics.pareto_k(log_w.flip(0))
    assert metrics.pareto_k(log_w) == pytest.approx(metrics.pareto_k(log_w - 900), rel=1e-9)


@pytest.mark.parametrize("metric", [metrics.ess, metrics.pareto_k], ids=lambda m: m.__name__)
def test_bad_weights_are_refused(metric):
    for bad in ([0.0, torch.nan], [0.0, torch.inf], [-torch.inf, -torch.inf], [], [[0.0, 1.0]]):
        with pytest.raises((DataError, TypeError), match="log_w"):  # where shapes are checked
            metric(torch.tensor(bad))


def test_mode_weights_and_coverage():
    """1000 points in known shares; the error is that of a proportion, also where nothing was
    found."""
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    which = torch.tensor([0] * 700 + [1] * 280 + [2] * 20)
    samples = centres[which] + normal(1000, 2, 0).float()
    got = metrics.mode_weights(samples, centres)
    torch.testing.assert_close(got.value, torch.tensor([0.7, 0.28, 0.02, 0.0], dtype=DOUBLE))
    torch.testing.assert_close(
        got.stderr[0], torch.tensor(math.sqrt(0.21 / 1000), dtype=DOUBLE), rtol=1e-3, atol=0
    )
    assert 0.0005 < float(got.stderr[3]) < 0.001
    assert (
        metrics.mode_coverage(samples, centres).value == 0.5
    )  # 0.02 is less than a tenth of a quarter
    assert (
        metrics.mode_coverage(samples, centres, weights=torch.tensor([0.7, 0.2, 0.05, 0.05])).value
        == 0.75
    )
    border = metrics.mode_coverage(
        samples, centres, share=0.08
    )  # exactly on the line for the third mode
    assert border.value == 0.75 and border.stderr == pytest.approx(0.125, abs=0.01)
    with pytest.raises(
        (DataError, TypeError), match=r"4 centres|Type-check"
    ):  # where shapes are checked
        metrics.mode_coverage(samples, centres, weights=torch.ones(3))


# ------------------------------------------------------------------------------------------------
# classifier


def test_c2st_of_one_law():
    """0.5 within 4 standard errors, seeds 0 and 1, also for unequal sizes; the error is that of a
    proportion."""
    for n, m in ((200, 200), (300, 100)):
        got = metrics.c2st(normal(n, 2, 0), normal(m, 2, 1))
        assert abs(got.value - 0.5) < 4 * got.stderr
        assert got.stderr == pytest.approx(math.sqrt(0.25 / n + 0.25 / m) / 2, rel=0.5)


def test_c2st_is_balanced():
    """Half of b lies apart, half like a: p + q = 3/2 for every rule that sees the gap, whatever the
    sizes; 4 errors."""
    u = torch.rand(550, 1, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    a, b = u[:400], torch.cat([u[400:475], u[475:] + 5])
    got = metrics.c2st(a, b)
    assert abs(got.value - 0.75) < 4 * got.stderr < 0.12


def test_c2st_of_separated_laws():
    assert metrics.c2st(normal(150, 2, 0), normal(150, 2, 1, shift=10.0)).value == 1.0


def test_c2st_approaches_the_best_classifier():
    """Two normals at distance 2: the best accuracy is Phi(1), which a logistic regression attains;
    4 errors."""
    got = metrics.c2st(normal(500, 1, 0), normal(500, 1, 1, shift=2.0))
    assert abs(got.value - 0.8413) < 4 * got.stderr


def test_c2st_sees_what_a_line_cannot():
    """Same mean and covariance, other shape: a ring against a normal law. Logistic regression alone
    would say 0.5."""
    angle = 2 * math.pi * torch.rand(300, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    ring = math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], 1)
    assert metrics.c2st(ring, normal(300, 2, 1)).value > 0.8


# ------------------------------------------------------------------------------------------------
# input


@pytest.mark.parametrize(
    "metric",
    [
        metrics.sliced_w2,
        metrics.mmd,
        metrics.energy_distance,
        metrics.c2st,
        metrics.nearest_distance,
    ],
)
def test_bad_samples_are_refused(metric):
    good, bad = normal(10, 2, 0), normal(10, 2, 1)
    bad[3, 1] = torch.nan
    with pytest.raises(DataError, match="row 3"):
        metric(good, bad)
    with pytest.raises(DataError, match="one space"):
        metric(good, normal(10, 3, 1))
    with pytest.raises(DataError, match="samples are needed"):
        metric(good, good[:0])


def test_events_are_flattened():
    a, b = normal(20, 12, 0), normal(30, 12, 1)
    assert metrics.sliced_w2(a.reshape(20, 3, 2, 2), b.reshape(30, 3, 2, 2)) == metrics.sliced_w2(
        a, b
    )
    assert metrics.energy_distance(a[:, 0], b[:, 0]) == metrics.energy_distance(a[:, :1], b[:, :1])
