"""Roots, quadrature, tables, covariances, estimates and importance weights against independent
formulas: SciPy, NumPy, brute force, and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats

from ornstein.core.numerics.checks import (
    require_finite,
    require_integers,
    require_positive,
    require_range,
)
from ornstein.core.numerics.covariance import shrunk_covariance, weighted_covariance
from ornstein.core.numerics.estimate import NORMAL_QUANTILE, Estimate, normal_interval
from ornstein.core.numerics.importance import (
    ess,
    ess_of_weights,
    log_ess,
    pareto_k,
    require_two,
    systematic_indices,
)
from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.numerics.quadrature import gauss_legendre
from ornstein.core.numerics.roots import bisect
from ornstein.core.numerics.tables import cell, interpolate, pick, quantile
from ornstein.core.numerics.tabulated_density import Line
from ornstein.core.random.noise import Noise
from ornstein.errors import DataError, OrnsteinError

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal numbers, float64."""
    return Noise(seed).normal(shape, F64)


class TestRoots:
    def test_a_float_root_is_that_of_brent(self):
        low, high = bisect(lambda x: math.cos(x) > x, 0.0, 1.0, 60)
        assert (low + high) / 2 == pytest.approx(
            optimize.brentq(lambda x: math.cos(x) - x, 0, 1, xtol=1e-15), abs=1e-15
        )

    def test_tensors_are_solved_elementwise(self):
        target = torch.linspace(0.1, 8.0, 23, dtype=F64)
        low, high = bisect(
            lambda x: x**3 < target,
            torch.zeros(23, dtype=F64),
            torch.full((23,), 2.0, dtype=F64),
            60,
        )
        torch.testing.assert_close((low + high) / 2, target ** (1 / 3), rtol=1e-14, atol=0)
        assert bool((low**3 <= target).all())

    def test_each_step_halves_the_interval(self):
        low, high = bisect(lambda x: x < 0.3, 0.0, 1.0, 10)
        assert high - low == 2.0**-10
        assert low <= 0.3 <= high


class TestQuadrature:
    @pytest.mark.parametrize("n", [1, 2, 5, 16])
    def test_polynomials_up_to_degree_2n_minus_1_are_exact(self, n):
        x, w = gauss_legendre(n, -0.5, 2.0)
        for degree in range(2 * n):
            exact = (2.0 ** (degree + 1) - (-0.5) ** (degree + 1)) / (degree + 1)
            assert float((w * x**degree).sum()) == pytest.approx(exact, rel=1e-12, abs=1e-12)
        degree = 2 * n
        exact = (2.0 ** (degree + 1) - (-0.5) ** (degree + 1)) / (degree + 1)
        assert abs(float((w * x**degree).sum()) - exact) > 1e-9 * abs(exact) or n > 5

    def test_a_smooth_function_is_that_of_quadpack(self):
        x, w = gauss_legendre(40, 0.0, 3.0)
        ours = float((w * (x.sin() * x.exp())).sum())
        assert ours == pytest.approx(
            integrate.quad(lambda t: math.sin(t) * math.exp(t), 0, 3)[0], rel=1e-13
        )

    def test_the_rule_is_not_changed_by_its_user(self):
        gauss_legendre(3)[0].zero_()
        assert float(gauss_legendre(3)[0].abs().sum()) > 1


class TestTables:
    knots = torch.tensor([-1.0, 0.0, 0.5, 2.0], dtype=F64)

    def test_cells_are_those_of_a_search(self):
        x = torch.tensor([-5.0, -1.0, -0.3, 0.0, 0.2, 0.5, 1.9, 2.0, 9.0], dtype=F64)
        by_hand = [max(0, min(2, sum(float(k) <= float(v) for k in self.knots) - 1)) for v in x]
        assert cell(self.knots, x).tolist() == by_hand

    def test_interpolation_is_that_of_numpy(self):
        values = torch.tensor([3.0, -1.0, 4.0, 4.5], dtype=F64)
        x = torch.linspace(-2, 3, 101, dtype=F64).reshape(101, 1)
        ours = interpolate(self.knots, values, x)
        assert ours.shape == x.shape
        reference = np.interp(x.numpy(), self.knots.numpy(), values.numpy())
        np.testing.assert_allclose(ours.numpy(), reference, rtol=1e-14, atol=1e-14)

    def test_rows_of_knots_are_interpolated_row_by_row(self):
        knots = torch.stack([self.knots, 2 * self.knots + 1])
        values = torch.tensor([3.0, -1.0, 4.0, 4.5], dtype=F64)
        x = torch.linspace(-2, 3, 20, dtype=F64).expand(2, -1).contiguous()
        together = interpolate(knots, values, x)
        for k in range(2):
            torch.testing.assert_close(together[k], interpolate(knots[k], values, x[k]))

    def test_an_index_is_picked_where_the_running_sum_passes(self):
        p = torch.tensor([0.2, 0.0, 0.5, 0.3], dtype=F64)
        u = torch.linspace(0.001, 0.999, 333, dtype=F64)
        by_hand = [
            next(i for i, c in enumerate(itertools.accumulate(p.tolist())) if c >= v) for v in u
        ]
        assert pick(p, u).tolist() == by_hand
        assert 1 not in pick(p, u)  # probability 0
        assert int(pick(p / p.sum(), torch.tensor(1.0 - 1e-17, dtype=F64))) <= 3

    def test_quantiles_of_a_normal_law(self):
        nodes = torch.linspace(-8, 8, 4001, dtype=F64)
        mass = torch.softmax(-nodes.square() / 2, 0)
        u = torch.linspace(0.01, 0.99, 33, dtype=F64)
        # exact at the nodes and linear between: an error of order h^2, h = 0.004
        reference = torch.from_numpy(stats.norm.ppf(u.numpy()))
        torch.testing.assert_close(quantile(nodes, mass, u), reference, rtol=0, atol=1e-4)
        line = Line(lambda t: -t.square() / 2, -8.0, 8.0)
        torch.testing.assert_close(line.quantile(u), reference, rtol=0, atol=1e-6)
        assert line.log_z == pytest.approx(math.log(2 * math.pi) / 2, abs=1e-12)
        assert float(line.mean(line.nodes.square())) == pytest.approx(1.0, abs=1e-12)


class TestCovariance:
    def test_weighted_points_are_repeated_points(self):
        x, counts = normal(6, 3), torch.tensor([1, 4, 2, 3, 1, 5])
        weights = counts / counts.sum().double()
        centred = x - (weights[:, None] * x).sum(0)
        repeated = np.repeat(x.numpy(), counts.numpy(), axis=0)
        np.testing.assert_allclose(
            weighted_covariance(centred, weights).numpy(),
            np.cov(repeated.T, bias=True),
            rtol=1e-12,
        )

    def test_shrinking_scales_the_entries_off_the_diagonal(self):
        cov = torch.cov(normal(4, 6).T)  # singular: 4 points of dimension 6
        shrunk = shrunk_covariance(cov, 4)
        assert torch.equal(shrunk.diagonal(), cov.diagonal())
        off = ~torch.eye(6, dtype=torch.bool)
        torch.testing.assert_close(shrunk[off], cov[off] * 4 / 10)
        assert float(torch.linalg.eigvalsh(cov)[0]) < 1e-12
        assert float(torch.linalg.eigvalsh(shrunk)[0]) > 1e-3

    def test_shrinking_towards_other_variances(self):
        cov, diagonal = torch.cov(normal(9, 3).T), torch.tensor([1.0, 2.0, 3.0], dtype=F64)
        torch.testing.assert_close(
            shrunk_covariance(cov, 9, diagonal), 9 / 12 * cov + 3 / 12 * torch.diag(diagonal)
        )

    def test_a_fitted_normal_law_is_that_of_scipy(self):
        x = normal(50, 3) @ torch.tensor([[1.0, 0.5, 0], [0, 2, 0.3], [0, 0, 1]], dtype=F64) + 1
        law = Normal.fit(x)
        reference = stats.multivariate_normal(x.mean(0).numpy(), np.cov(x.numpy().T))
        np.testing.assert_allclose(law.log_prob(x), reference.logpdf(x.numpy()), rtol=1e-4)
        z = normal(7, 3, seed=1)
        torch.testing.assert_close(law.whiten(law.map(z)), z)
        sign, log_det = torch.linalg.slogdet(law.factor)
        assert float(law.log_det) == pytest.approx(float(log_det)) and float(sign) == 1


class TestEstimates:
    def test_the_interval_covers_95_percent(self):
        assert pytest.approx(stats.norm.ppf(0.975), abs=1e-6) == NORMAL_QUANTILE
        estimate = Estimate(2.0, 0.5)
        assert estimate.interval == normal_interval(2.0, 0.5)
        z = normal(20000, 1)[:, 0]
        low, high = normal_interval(z, 1.0)
        covered = float(((low < 0) & (high > 0)).double().mean())
        assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 20000))

    def test_it_unpacks_shifts_and_compares_by_value(self):
        value, stderr = Estimate(torch.ones(3), torch.full((3,), 0.1))
        assert torch.equal(value, torch.ones(3)) and torch.equal(stderr, torch.full((3,), 0.1))
        moved = Estimate(2.0, 0.5, cost=7).shifted(1.0)
        assert moved == Estimate(
            3.0, 0.5, (3 - 0.5 * NORMAL_QUANTILE, 3 + 0.5 * NORMAL_QUANTILE), 7
        )
        assert Estimate(torch.ones(2), 0.1) == Estimate(torch.ones(2), 0.1)
        assert Estimate(torch.ones(2), 0.1) != Estimate(torch.zeros(2), 0.1)
        assert hash(Estimate(1.0, 0.1)) == hash(Estimate(1.0, 0.1))


class TestImportanceWeights:
    def test_the_effective_sample_size_is_kongs(self):
        log_w = normal(40, 1)[:, 0]
        w = np.exp(log_w.numpy())
        kong = w.sum() ** 2 / (w**2).sum()
        assert ess(log_w) == pytest.approx(kong, rel=1e-12)
        assert float(log_ess(log_w).exp()) == pytest.approx(kong, rel=1e-12)
        assert ess_of_weights(torch.softmax(log_w, 0)) == pytest.approx(kong, rel=1e-12)

    @pytest.mark.parametrize("shift", [0.0, 900.0, -900.0])
    def test_it_has_no_scale(self, shift):
        log_w = normal(3, 8)
        torch.testing.assert_close(log_ess(log_w + shift), log_ess(log_w), rtol=0, atol=1e-9)
        torch.testing.assert_close(log_ess(log_w, 0), log_ess(log_w.T))

    def test_equal_weights_count_all_and_zero_weights_none(self):
        equal = torch.zeros(9, dtype=F64)
        assert ess(equal) == 9
        equal[:4] = -math.inf
        assert ess(equal) == 5
        assert bool(log_ess(torch.full((3,), -math.inf)).isnan())

    @pytest.mark.parametrize("bad", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf] * 2, []])
    def test_weights_without_a_mean_are_refused(self, bad):
        for diagnostic in (ess, pareto_k):
            with pytest.raises(DataError):
                diagnostic(torch.tensor(bad, dtype=F64))

    def test_the_tail_index_is_that_of_the_law(self):
        """Pareto weights of shape k, median over 20 sets: within 0.1 of k, shrunk towards 0.5."""
        for k in (0.2, 0.5, 0.9):
            indices = [
                pareto_k(-k * Noise(seed).uniform((20000,), F64).clamp(min=1e-12).log())
                for seed in range(20)
            ]
            assert np.median(indices) == pytest.approx(k, abs=0.1)

    def test_systematic_resampling_takes_n_w_rounded_up_or_down(self):
        weights = torch.softmax(normal(4, 11), -1)
        offset = Noise(3).uniform((4, 1), F64)
        indices = systematic_indices(weights, 50, offset)
        assert indices.shape == (4, 50)
        for row, w in zip(indices, weights, strict=True):
            counts = torch.bincount(row, minlength=11)
            assert bool(((counts - 50 * w).abs() < 1 + 1e-9).all())

    def test_systematic_resampling_is_unbiased(self):
        """Over equidistant offsets, the mean count of each sample is ``n w_i``."""
        w = torch.tensor([0.07, 0.43, 0.2, 0.3], dtype=F64)
        offsets = (torch.arange(1000, dtype=F64)[:, None] + 0.5) / 1000
        indices = systematic_indices(w.expand(1000, -1), 3, offsets)
        mean = torch.bincount(indices.flatten(), minlength=4) / 1000
        torch.testing.assert_close(mean.double(), 3 * w, rtol=0, atol=2e-3)

    def test_a_variance_needs_two(self):
        assert require_two(torch.zeros(2)) == 2
        with pytest.raises(OrnsteinError, match="at least two"):
            require_two(torch.zeros(1))


class TestChecks:
    class Law:
        """An object with numbers."""

        def __init__(self, **numbers):
            self.__dict__.update(numbers)

    def test_good_numbers_pass(self):
        require_positive(self.Law(a=1, b=np.float64(2.5), c=torch.tensor(0.1)), "a", "b", "c")
        require_range(self.Law(), 0.0, 1.0, "fix", edge=1.0, inner=0.5)
        require_integers(1, n=1, m=np.int64(7))
        require_finite(t=-1.0, s=torch.tensor(2.0))
        require_finite(positive=True, t=1)

    @pytest.mark.parametrize("value", [math.nan, math.inf, 0, -1, None, "1", [1.0], 10**400])
    def test_others_are_named(self, value):
        with pytest.raises(OrnsteinError, match=r"Law\(rate=.*must be positive"):
            require_positive(self.Law(rate=value), "rate")
        with pytest.raises(OrnsteinError, match="rate="):
            require_finite(positive=True, rate=value)

    @pytest.mark.parametrize("value", [0, 1.0, True, None, "3"])
    def test_integers_are_integers(self, value):
        with pytest.raises(OrnsteinError, match="n="):
            require_integers(1, n=value)

    @pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
    def test_ranges_name_the_limits_and_the_fix(self, value):
        with pytest.raises(OrnsteinError, match="must be between 0 and 1: choose another"):
            require_range(self.Law(), 0.0, 1.0, "choose another", fraction=value)
