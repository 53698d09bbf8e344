"""Estimators of log Z: bridge sampling, fusion, independent runs, and coverage of intervals."""

import math

import pytest
import torch

import ornstein as orn
from ornstein.density.consistency import fuse
from ornstein.density.log_z import LogZ, bar, log_z, log_z_of_runs, student
from ornstein.errors import OrnsteinError

DOUBLE = torch.float64


def covered(intervals, truth=0.0):
    return sum(low <= truth <= high for low, high in intervals) / len(intervals)


def gaussians(seed, n, m, shift=0.8, log_z=0.0):
    """``u = log rho - log q`` for q = N(0, 1) and rho = Z N(shift, 1): at n draws of q and m of rho
    / Z."""
    u = lambda x: shift * x - shift**2 / 2 + log_z  # noqa: E731
    return u(orn.Noise(seed).fold(0).normal((n,), DOUBLE)), u(
        orn.Noise(seed).fold(1).normal((m,), DOUBLE) + shift
    )


def test_the_bridge_is_exact_for_a_constant_ratio():
    estimate = bar(torch.full((5,), 1.7, dtype=DOUBLE), torch.full((9,), 1.7, dtype=DOUBLE))
    assert estimate.value == pytest.approx(1.7, abs=1e-9)
    assert estimate.stderr == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("sizes", [(200, 200), (400, 100), (100, 400)])
def test_bridge_intervals_cover(sizes):
    """400 replicates: coverage of 95 % within 0.92 .. 0.975; mean error 0, its spread the stderr,
    within 4 standard errors."""
    runs = [bar(*gaussians(seed, *sizes, log_z=3.0)) for seed in range(400)]
    errors = torch.tensor([run.value - 3.0 for run in runs])
    assert 0.92 <= covered([run.interval for run in runs], 3.0) <= 0.975
    assert abs(float(errors.mean())) < 4 * float(errors.std()) / 20
    assert float(errors.std()) == pytest.approx(
        sum(run.stderr for run in runs) / 400, rel=4 / math.sqrt(800)
    )


def test_the_bridge_beats_the_mean_weight_where_both_laws_are_apart():
    """Shift 3: the mean of w has a relative variance of e^9 - 1; the bridge's error is a tenth of
    the mean weight's."""
    bridge = torch.tensor([bar(*gaussians(seed, 500, 500, 3.0)).value for seed in range(50)])
    weights = torch.tensor([log_z(gaussians(seed, 1000, 2, 3.0)[0]).value for seed in range(50)])
    assert float(bridge.square().mean()) < float(weights.square().mean()) / 4


def test_correlated_target_samples_count_for_what_they_are_worth():
    """500 draws of each Gaussian, of which those of the target count for 50.

    The asymptotic variance of the optimal bridge is ``1 / int (n q m p / (n q + m p)) - 1 / n - 1 /
    m``, here by the trapezoidal rule. It gives the ratio of the standard errors. The mean over 20
    seeds is within 4 standard errors of it, and 1 % for what is not asymptotic at n = 500."""
    x = torch.linspace(-12, 13, 5001, dtype=DOUBLE)
    q, p = (torch.exp(-((x - mean) ** 2) / 2) / math.sqrt(2 * math.pi) for mean in (0.0, 0.8))

    def variance(n, m):
        overlap = float(torch.trapezoid(n * q * m * p / (n * q + m * p), x))
        return 1 / overlap - 1 / n - 1 / m

    exact = math.sqrt(variance(500, 50) / variance(500, 500))
    ratios = []
    for seed in range(20):
        u_q, u_p = gaussians(seed, 500, 500)
        ratios.append(bar(u_q, u_p, 50).stderr / bar(u_q, u_p).stderr)
    mean = sum(ratios) / len(ratios)
    spread = torch.tensor(ratios).std().item() / math.sqrt(len(ratios))
    assert abs(mean - exact) < 4 * spread + 0.01 * exact


def test_bridge_refuses_bad_ratios():
    good = torch.zeros(4, dtype=DOUBLE)
    for q, p in (
        (good[:1], good),
        (torch.full((4,), -torch.inf), good),
        (good, torch.full((4,), torch.nan)),
    ):
        with pytest.raises(OrnsteinError, match=r"bar|at least two"):
            bar(q, p)


def test_intervals_of_runs_cover():
    """Unbiased lognormal estimates of Z = 1, sd of the log 0.05 and 0.3, 8 runs: 600 replicates
    cover 0.90 .. 0.98."""
    for sd in (0.05, 0.3):
        noise = sd * orn.Noise(1).normal((600, 8), DOUBLE) - sd**2 / 2
        assert (
            0.90 <= covered([log_z_of_runs(row, torch.zeros(8)).interval for row in noise]) <= 0.98
        )


def test_a_dead_run_counts_as_an_estimate_of_zero():
    estimates = torch.tensor([0.0, -torch.inf], dtype=DOUBLE)
    assert log_z_of_runs(estimates, torch.zeros(4)).value == pytest.approx(-math.log(2))


def test_students_quantiles():
    for df, exact in ((1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (15, 2.131), (100, 1.984)):
        assert student(df) == pytest.approx(exact, rel=0.01)


def normal_estimate(value, stderr):
    return LogZ(value, stderr, (value - 1.96 * stderr, value + 1.96 * stderr), elbo=value, ess=1.0)


def test_fusion_has_the_least_variance_and_covers():
    """Errors 0.1, 0.2, 0.4: 600 replicates; variance ``1 / sum 1 / s^2`` within 4 standard errors,
    coverage 0.93 .. 0.985."""
    scales = (0.1, 0.2, 0.4)
    noise = orn.Noise(2).normal((600, 3), DOUBLE)
    runs = [
        fuse([normal_estimate(s * float(z), s) for s, z in zip(scales, row, strict=True)])
        for row in noise
    ]
    best = 1 / math.sqrt(sum(1 / s**2 for s in scales))
    assert float(torch.tensor([run.value for run in runs]).std()) == pytest.approx(
        best, rel=4 / math.sqrt(1200)
    )
    assert 0.93 <= covered([run.interval for run in runs]) <= 0.985


def test_estimates_that_disagree_get_a_wider_interval():
    result = fuse([normal_estimate(0.0, 0.1), normal_estimate(1.0, 0.1)])
    assert result.value == pytest.approx(0.5)
    assert result.stderr == pytest.approx(0.5, rel=1e-6)  # sqrt(chi^2 = 50) 0.1 / sqrt(2)
    with pytest.raises(OrnsteinError, match="finite standard error"):
        fuse([normal_estimate(0.0, math.inf)])


def test_precisions_that_were_expected_decide_not_those_that_came_out():
    """Weighted mean and its error by hand; without them, those that came out; a wrong number of
    them is refused."""
    a = orn.LogZ(1.0, 0.1, (0.8, 1.2), elbo=0.9, ess=50.0)
    b = orn.LogZ(1.1, 0.2, (0.7, 1.5), elbo=0.8, ess=40.0)
    fused = fuse([a, b], [1.0, 3.0])
    assert fused.value == pytest.approx((1.0 + 3 * 1.1) / 4)
    assert fused.stderr == pytest.approx(math.sqrt(0.1**2 + (3 * 0.2) ** 2) / 4)
    assert fuse([a, b]).value == pytest.approx((100 * 1.0 + 25 * 1.1) / 125)
    with pytest.raises(OrnsteinError, match="1 precisions for 2"):
        fuse([a, b], [1.0])


def test_fused_errors_are_those_of_the_mean_whatever_its_weights():
    """Consistent pairs, 4000 of them, with weights that are not their precisions: the reported
    error is inflated in about one of three, as chi^2 with one degree of freedom exceeds 1, and its
    root mean square is within 30 % above the true one."""
    noise = orn.Noise(5).normal((4000, 2), DOUBLE)
    fused = [
        fuse([LogZ(0.1 * a, 0.1, (0, 0)), LogZ(0.3 * b, 0.3, (0, 0))], [1.0, 1.0])
        for a, b in noise.tolist()
    ]
    true = math.sqrt(0.01 + 0.09) / 2
    assert abs(sum(z.stderr > true * 1.0001 for z in fused) / 4000 - 0.3173) < 4 * math.sqrt(
        0.3173 * 0.6827 / 4000
    )
    assert 1 < math.sqrt(sum(z.stderr**2 for z in fused) / 4000) / true < 1.3


def test_a_draw_of_almost_no_density_does_not_set_the_scale():
    """Both sides with a value of -1e275, as wide start laws have: the bridge is what it is without,
    up to one draw in 4000."""
    u_q, u_p = gaussians(0, 4000, 4000, log_z=1.5)
    plain, wide = bar(u_q, u_p), bar(torch.cat([u_q, torch.tensor([-1e275], dtype=DOUBLE)]), u_p)
    assert abs(plain.value - 1.5) < 4 * plain.stderr and abs(wide.value - plain.value) < 1e-3
