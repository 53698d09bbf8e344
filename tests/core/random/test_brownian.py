"""A Brownian path has the law of Brownian motion and is one path, however, whenever and in what
company it is asked.

Statistical tolerances are k = 4 standard errors; the seeds are in the tests.
"""

import itertools
import math

import pytest
import scipy.stats
import torch

from ornstein.calculus.integrals.process import StochasticProcess
from ornstein.core.random import (
    BrownianBridgePath,
    BrownianPath,
    Correlated,
    foster_area,
    stochastic_area,
)
from ornstein.core.random.legendre import join, rotation, split
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError

K = 4
F32, F64 = torch.float32, torch.float64
N = 20_000
GRID = (0.0, 0.1, 0.15, 0.4, 0.75, 1.0)


def make(cells=None, n=N, seed=5, **kwargs):
    return BrownianPath((n,), seed=seed, cells=cells, dtype=F64, **kwargs)


def rising(n):
    return torch.linspace(0, 1, n + 1, dtype=F64)


def assert_mean(values, mean, k=K):
    error = values.std() / math.sqrt(len(values))
    assert abs(float(values.mean()) - mean) < k * float(error)


class TestLaw:
    @pytest.mark.parametrize("cells", [None, GRID])
    def test_increments_are_independent_and_have_the_variance_of_the_interval(self, cells):
        """On cells, across them, and within, where neighbours share a descent."""
        b = make(cells)
        times = (0.0, 0.1, 0.15, 0.2, 0.3, 0.5, 0.625, 0.75, 0.9, 1.0)
        increments = [(t - s, b(s, t)) for s, t in itertools.pairwise(times)]
        for gap, dw in increments:
            assert_mean(dw, 0)
            assert_mean(dw.square(), gap)
            assert_mean(dw.pow(4), 3 * gap**2)
        for (_, first), (_, second) in itertools.combinations(increments, 2):
            assert_mean(first * second, 0)

    @pytest.mark.parametrize("cells", [None, GRID])
    def test_the_covariance_of_values_is_the_earlier_time(self, cells):
        b = make(cells, seed=6, t0=-0.5, t1=1.0)
        for s, t in [(-0.3, 0.2), (0.1, 0.15), (0.12, 0.13), (0.37, 1.0)]:
            assert_mean(b(s) * b(t), s + 0.5)

    @pytest.mark.parametrize("cells", [None, rising(512)])
    def test_quadratic_variation_is_the_time(self, cells):
        """Each path on its own: the sum over n steps of (dB)^2 has mean 1 and variance 2 / n."""
        b, grid, n = make(cells, n=200, seed=7), rising(512), 512
        variation = sum(b(s, t).square() for s, t in itertools.pairwise(grid.unbind()))
        assert_mean(variation, 1)
        assert abs(float(variation.var()) / (2 / n) - 1) < K * math.sqrt(2 / 200)

    @pytest.mark.parametrize("cells", [None, GRID])
    @pytest.mark.parametrize("start", [0.3, 0.15, 1 / 3])
    def test_short_increments_have_the_law_of_short_increments(self, cells, start):
        """Far below what the difference of two values could resolve in float32, and to the last bit
        of the times in float64."""
        for gap in (1e-12, 2**-53):
            b = BrownianPath((N,), seed=8, cells=cells)
            dw = b(start, start + gap)
            assert_mean((dw.double() / math.sqrt(start + gap - start)).square(), 1)
            after = b(start + gap, start + 3 * gap)
            assert_mean(dw.double() * after.double() / gap, 0)

    def test_increments_next_to_zero(self):
        """The descent ends at 2^-63: closer to 0 the path is straight."""
        assert_mean(make()(1e-12).square(), 1e-12)
        assert make()(1e-300).abs().max() < 1e-20

    def test_entries_and_seeds_are_independent(self):
        values = BrownianPath((N, 3), seed=9, dtype=F64)(0.7)
        others = [make(seed=seed)(0.7) for seed in (9, 10)] + [make(seed=Noise(9).fold(1))(0.7)]
        for x, y in itertools.combinations([*values.unbind(1), *others], 2):
            assert_mean(x * y, 0)

    def test_normalised_increments_are_standard_normal(self):
        b = make(GRID)
        for s, t in [(0.1, 0.15), (0.15, 0.1), (0.1, 0.75), (0.9, 0.2)]:
            assert_mean(b.between(s, t).square(), 1)
            assert torch.allclose(
                b.between(s, t) * math.sqrt(abs(t - s)), b(s, t), rtol=1e-14, atol=0
            )


class TestOnePath:
    queries = (
        (0.0, 0.1),
        (0.1, 0.15),
        (0.4, 0.1),
        (0.0, 0.75),
        (0.0, 1.0),
        (0.0, 0.3),
        (0.3, 0.31),
        (0.05, 0.95),
        (0.7, 0.2),
    )

    @pytest.mark.parametrize(
        "options", [{}, {"tol": 0.004}, {"tol": 0.004, "order": 2}, {"tol": 0.004, "order": 3}]
    )
    @pytest.mark.parametrize("cells", [None, GRID])
    def test_answers_do_not_depend_on_earlier_questions(self, cells, options):
        alone = {q: make(cells, n=16, **options)(*q) for q in self.queries}
        for shift in range(0, len(self.queries), 4):
            b = make(cells, n=16, **options)
            for q in self.queries[shift:] + self.queries[:shift] + self.queries[::-1]:
                assert torch.equal(b(*q), alone[q]), q

    @pytest.mark.parametrize(
        "times", [GRID, torch.linspace(0, 1, 30).tolist(), sorted([*GRID, 0.2, 0.21, 0.8])]
    )
    def test_sweeps_in_either_direction_see_the_values_of_single_questions(self, times):
        alone = [make(GRID, n=5)(t) for t in times]
        up, down = make(GRID, n=5), make(GRID, n=5)
        assert torch.equal(torch.stack([up(t) for t in times]), torch.stack(alone))
        assert torch.equal(torch.stack([down(t) for t in times[::-1]]), torch.stack(alone[::-1]))

    @pytest.mark.parametrize("options", [{}, {"tol": 0.02}, {"tol": 0.02, "order": 3}])
    @pytest.mark.parametrize("cells", [None, GRID, rising(40)])
    def test_coarse_increments_are_sums_of_fine_ones(self, cells, options):
        b, grid = make(cells, n=8, **options), rising(40).unbind()
        fine = torch.stack([b(s, t) for s, t in itertools.pairwise(grid)])
        for n in (1, 5, 20):
            coarse = torch.stack([b(s, t) for s, t in itertools.pairwise(grid[:: 40 // n])])
            assert torch.allclose(coarse, fine.reshape(n, -1, 8).sum(1), rtol=0, atol=1e-14)

    @pytest.mark.parametrize("cells", [None, GRID])
    def test_increments_are_differences_of_values(self, cells):
        b = make(cells, n=8)
        for s, t in self.queries:
            assert torch.allclose(b(s, t), b(t) - b(s), rtol=0, atol=1e-14)
            assert torch.equal(b(t, s), -b(s, t))

    def test_the_start_is_zero_and_so_are_empty_increments(self):
        b = make(GRID, n=3)
        for nothing in (b(0.0), b(0.3, 0.3), b(0.4, 0.4), b(1.0, 1.0)):
            assert torch.equal(nothing, torch.zeros(3, dtype=F64))

    def test_an_answer_may_be_overwritten(self):
        b = make(GRID, n=3)
        for q in [(0.0, 0.4), (0.0, 0.3), (0.1, 0.15), (0.0, 0.1)]:
            first = b(*q).clone()
            b(*q).fill_(7)
            assert torch.equal(b(*q), first)

    @pytest.mark.parametrize("event", [(), (3,), (3, 20, 20), (7, 1171)])
    @pytest.mark.parametrize("dtype", [F32, F64])
    def test_a_sample_is_the_same_in_every_batch(self, event, dtype):
        """In blocks of 65536, 16384, 32 and 4 samples, of which the last do not end where a group
        of 16 numbers does."""

        def values(n, seed=3):
            b = BrownianPath(
                (n, *event), seed=seed, cells=[0.25, 0.5], dtype=dtype, tol=0.05, order=2
            )
            return [
                b(0.5, 0.25),
                b(0.2),
                b(0.9),
                b(0.3, 0.7),
                b.between(0.6, 0.1),
                b.levy_area(0.2, 0.3),
                b.levy_area(0.25, 0.5),
            ]

        large = values(36)
        for n in (1, 7, 33):
            assert all(torch.equal(x, y[:n]) for x, y in zip(values(n), large, strict=True))
        shifted = values(5, Noise(3, start=31))
        assert all(torch.equal(x, y[31:]) for x, y in zip(shifted, large, strict=True))

    def test_declared_times_may_run_down_and_come_in_any_container(self):
        grids = [GRID, GRID[::-1], list(GRID), torch.tensor(GRID[::-1], dtype=F64), GRID[1:-1]]
        paths = [make(grid, n=4) for grid in grids]
        assert all(
            path == paths[0] and torch.equal(path(0.15, 0.6), paths[0](0.15, 0.6)) for path in paths
        )

    def test_times_may_be_tensors_of_any_dtype(self):
        grid = torch.linspace(1, 0, 11)
        b = BrownianPath((4,), cells=grid)
        assert torch.equal(b(grid[3], grid[4]), b(float(grid[3]), float(grid[4])))


class Counting(BrownianPath):
    """Counts draws."""

    draws = 0

    def _draw(self, *name, std=1.0):
        Counting.draws += 1
        return super()._draw(*name, std=std)


class TestCost:
    def draws(self, path, questions):
        Counting.draws = 0
        for q in questions:
            path(*q)
        return Counting.draws

    def test_a_step_on_declared_times_is_one_draw_and_keeps_nothing(self):
        grid = rising(40).unbind()
        b = Counting((2,), cells=rising(40))
        for times in (grid, grid[::-1]):
            assert self.draws(b, itertools.pairwise(times)) == 40
        assert self.draws(b, itertools.pairwise(grid[::2])) == 40
        assert self.draws(Counting((2,), cells=rising(40)), [(t,) for t in grid]) <= 41
        assert not b._cuts and len(b._value) <= 1

    @pytest.mark.parametrize("dtype", [F32, F64])
    def test_other_times_cost_a_descent(self, dtype):
        times = torch.linspace(0.13, 0.97, 30, dtype=dtype).unbind()
        b = Counting((2,))
        for sweep in (times, times[::-1]):
            questions = list(itertools.pairwise(sweep))
            first, rest = self.draws(b, questions[:1]), self.draws(b, questions[1:])
            depth = 27 if dtype is F32 else 56
            assert first <= 2 * depth and rest <= depth * len(questions[1:])
            assert len(b._cuts) <= 2 * (depth + 2)

    def test_steps_of_the_length_of_the_tolerance_cost_two_draws(self):
        """One for each interval that is no longer than ``tol``, and one for each time: the steps
        here meet 1.02 intervals each."""
        b = Counting((2,), tol=1e-3, dtype=F64)
        times = [k * 1e-3 for k in range(1001)]
        assert self.draws(b, itertools.pairwise(times)) < 2.1 * 1000
        assert len(b._cuts) <= 2 * 12

    def test_a_step_that_is_tried_again_shares_its_descent(self):
        b = Counting((2,), tol=1e-4)
        b(0.3, 0.302)
        assert self.draws(b, [(0.3, 0.301)]) < 8

    def test_areas_on_declared_times_are_drawn_when_asked_for(self):
        grid = rising(40).unbind()
        b = Counting((2,), cells=rising(40), order=3)
        assert self.draws(b, itertools.pairwise(grid)) == 40
        Counting.draws = 0
        assert torch.equal(b(0.1, 0.125), BrownianPath((2,), cells=rising(40))(0.1, 0.125))
        assert b.levy_area(0.1, 0.125).shape == (2,) and Counting.draws == 2

    def test_a_million_steps_go_to_no_depth(self):
        """T = 20 in 1e6 steps, declared and not: the same stack as one step, and 21 halvings."""
        n, end = 1_000_000, 20.0
        b = Counting((1,), t1=end, tol=end / n)
        times = [end * k / n for k in range(n - 2000, n + 1)]
        assert self.draws(b, itertools.pairwise(times)) < 2.2 * 2000
        declared = Counting((1,), t1=end, cells=[end * k / n for k in range(n + 1)])
        assert self.draws(declared, itertools.pairwise(times)) == 2000
        assert len(declared._cuts) == 0


SAMPLES = 600_000


def assert_normal(values, var=1.0, level=1e-3):
    """Kolmogorov-Smirnov against N(0, var)."""
    p = scipy.stats.kstest((values.double() / math.sqrt(var)).numpy(), "norm").pvalue
    assert p > level, p


class TestAreas:
    """Normality by Kolmogorov-Smirnov at level 1e-3, at seeds fixed once."""

    @pytest.mark.parametrize(
        ("options", "interval"),
        [
            ({}, (0.0, 1.0)),
            ({}, (0.125, 0.15625)),
            ({"tol": 0.02}, (0.13, 0.37)),
            ({"cells": GRID}, (0.1, 0.15)),
            ({"cells": GRID, "tol": 0.02}, (0.3, 0.71)),
        ],
    )
    def test_increments_and_areas_have_their_laws(self, options, interval):
        """Kolmogorov-Smirnov over 6e5 samples, and no correlation: W ~ N(0, h), H ~ N(0, h / 12), K
        ~ N(0, h / 720)."""
        s, t = interval
        b = BrownianPath((SAMPLES,), seed=11, order=3, **options)
        w, area, second = b(s, t), b.levy_area(s, t), b.levy_area(s, t, 2)
        for x, var in ((w, t - s), (area, (t - s) / 12), (second, (t - s) / 720)):
            assert_normal(x, var)
            assert_mean(x.double().square() / var, 1)
        for x, y in itertools.combinations((w, area, second), 2):
            assert_mean(x.double() * y.double() / (t - s), 0)

    @pytest.mark.parametrize("order", [1, 2, 3])
    @pytest.mark.parametrize("m", [0.5, 0.3, 0.123])
    def test_the_law_in_the_middle_given_the_whole(self, m, order):
        """The first part given W, H, K of the whole: the residual from the regression of the
        theory, by KS."""
        b = BrownianPath((SAMPLES,), seed=12, order=order, tol=0.0 if m == 0.5 else 0.1)
        given = [b(0.0, 1.0), *(b.levy_area(0.0, 1.0, k) for k in range(1, order))]
        # B(m) = m W + 6 m q H + 60 m q (q - m) K + remainder, by the projections of the indicator
        # on Legendre polynomials
        q = 1 - m
        means = [m, 6 * m * q, 60 * m * q * (q - m)]
        rest = b(0.0, m) - sum(c * x for c, x in zip(means, given, strict=False))
        spent = [m * m, 3 * (m * q) ** 2, 5 * (m * q * (q - m)) ** 2]
        assert_normal(rest, m - sum(spent[:order]))
        for x in given:
            assert_mean(rest.double() * x.double(), 0)

    def test_areas_are_those_of_the_path(self):
        """H and K of the path as it is seen on 128 points: the trapezoidal rule leaves out about 1
        / (sqrt(12) 128)."""
        b = make(n=64, seed=13, order=3, tol=2**-9)
        for s, t in [(0.25, 0.75), (0.1, 0.93)]:
            x = torch.linspace(0, 1, 129, dtype=F64)
            values = torch.stack([b(s, s + (t - s) * float(v)) for v in x])
            bridge = values - x[:, None] * values[-1]
            assert float(
                (torch.trapezoid(bridge, x, dim=0) - b.levy_area(s, t)).abs().max()
            ) < 4 / (12**0.5 * 128)
            second = torch.trapezoid((0.5 - x)[:, None] * bridge, x, dim=0)
            assert float((second - b.levy_area(s, t, 2)).abs().max()) < 2 / (12**0.5 * 128)

    @pytest.mark.parametrize("options", [{}, {"tol": 0.05}, {"cells": GRID}])
    def test_areas_of_parts_make_that_of_the_whole(self, options):
        b = make(n=8, order=2, **options)
        for s, m, t in [(0.0, 0.5, 1.0), (0.1, 0.4, 0.75), (0.07, 0.3, 0.93)]:
            a, c, h = m - s, t - m, t - s
            joined = (
                a * b.levy_area(s, m) + c * b.levy_area(m, t) + (c * b(s, m) - a * b(m, t)) / 2
            ) / h
            assert torch.allclose(joined, b.levy_area(s, t), rtol=0, atol=1e-14)

    def test_against_time_h_is_the_same_and_k_its_negative(self):
        b = make(GRID, n=4, order=3)
        for s, t in [(0.1, 0.15), (0.2, 0.6)]:
            assert torch.equal(b.levy_area(t, s), b.levy_area(s, t))
            assert torch.equal(b.levy_area(t, s, 2), -b.levy_area(s, t, 2))
        assert torch.equal(b.levy_area(0.3, 0.3), torch.zeros(4, dtype=F64))

    @pytest.mark.parametrize("order", [1, 2, 3])
    @pytest.mark.parametrize("p", [0.5, 0.5 + 2**-30, 0.3, 1e-3, 1e-12, 1 - 1e-12])
    def test_a_cut_is_a_rotation_and_joining_undoes_it(self, p, order):
        r = torch.tensor(rotation(p, 1 - p, order), dtype=F64)
        assert torch.allclose(r @ r.T, torch.eye(2 * order, dtype=F64), rtol=0, atol=1e-14)
        c, z = (tuple(Noise(k).normal((order, 5), F64)) for k in (1, 2))
        left, right = split(c, lambda k, std: z[k] * std, p, 1 - p, 2.0)
        assert all(
            torch.allclose(x, y, rtol=0, atol=1e-13)
            for x, y in zip(join(left, right, p, 1 - p), c, strict=True)
        )

    def test_streams_give_the_area_of_the_step(self):
        x = torch.zeros(SAMPLES)
        t, s = torch.tensor(0.75), torch.tensor(0.5)
        path = BrownianPath((SAMPLES,), cells=GRID, order=2)
        stream = path.stream_like(x.double())
        assert stream.area(t, s).dtype == F64 and torch.equal(
            stream.area(t, s), path.levy_area(0.5, 0.75).double()
        )
        for draws in (Noise(3).stream_like(x), BrownianPath((SAMPLES,)).stream_like(x)):
            area = draws.area(t, s)
            assert_normal(area, 0.25 / 12)
            assert_mean(area * draws.increment(t, s), 0)


class TestStochasticArea:
    def test_the_step_formula_has_the_moments_of_levys_area(self):
        """Variance h^2 / 4; given H, h^2 / 20 + h (H_i^2 + H_j^2) / 5 about the
        conditional mean: as of a fine polygon of the path."""
        h, n, cells = 0.5, 20_000, 64
        b = BrownianPath(
            (n, 2),
            t1=h,
            seed=14,
            cells=torch.linspace(0, h, cells + 1, dtype=F64),
            dtype=F64,
            order=2,
        )
        true = stochastic_area(b, 0.0, h, pieces=cells)[:, 0, 1]
        w, area = b(0.0, h), b.levy_area(0.0, h)
        model = foster_area(w, area, h, Noise(1).normal((n, 2, 2), F64))
        assert torch.equal(model, -model.mT)
        known = area[:, 0] * w[:, 1] - w[:, 0] * area[:, 1]
        for x in (true, model[:, 0, 1]):
            rest, std = x - known, (h * h / 20 + h / 5 * area.square().sum(1)).sqrt()
            assert_mean(x, 0)
            assert_mean(x.square(), h * h / 4)
            assert_mean(rest * known, 0)
            assert_mean((rest / std).square(), 1)

    def test_more_pieces_come_nearer_to_the_paths_own_area(self):
        """At the rate h / sqrt(20 pieces) or so, against 128."""
        b = BrownianPath((500, 2), seed=15, cells=rising(128), dtype=F64, order=2)
        true = stochastic_area(b, 0.0, 1.0, 128)
        for pieces in (1, 4, 16):
            error = float((stochastic_area(b, 0.0, 1.0, pieces) - true)[:, 0, 1].std())
            assert 0.6 / math.sqrt(6 * pieces) < error < 1.4 / math.sqrt(6 * pieces)
        assert torch.equal(stochastic_area(b, 1.0, 0.0, 8), -stochastic_area(b, 0.0, 1.0, 8))

    def test_correlated_motions_enclose_correlated_areas(self):
        """``L A L'``: in the plane, its area times det L; in mean square the h^2 / 4 of independent
        ones by 1 - rho^2."""
        b = BrownianPath((N, 2), seed=16, cells=rising(4), dtype=F64, order=2)
        c = Correlated.of(b, torch.tensor([[1.0, 0.6], [0.6, 1.0]]))
        area = stochastic_area(c, 0.0, 1.0, 4)
        assert torch.allclose(area, 0.8 * stochastic_area(b, 0.0, 1.0, 4), rtol=0, atol=1e-6)
        assert_mean(area[:, 0, 1].square(), 0.64 / 4)

    def test_bad_shapes(self):
        with pytest.raises(OrnsteinError, match=r"shape \(b, m\)"):
            stochastic_area(make(n=3, order=2), 0.0, 1.0)


class TestMotions:
    def test_correlated_motions_have_their_covariance(self):
        c = torch.tensor([[1.0, 0.8, -0.3], [0.8, 1.0, 0.1], [-0.3, 0.1, 1.0]], dtype=F64)
        b = Correlated.of(BrownianPath((N, 3), seed=16, dtype=F64, order=2), c)
        for x, var in ((b(0.2, 0.7), 0.5), (b.levy_area(0.2, 0.7), 0.5 / 12)):
            for i, j in itertools.product(range(3), repeat=2):
                assert_mean(x[:, i] * x[:, j] / var, float(c[i, j]))
        assert torch.equal(
            b(0.2, 0.7)[:5],
            Correlated.of(BrownianPath((5, 3), seed=16, dtype=F64, order=2), c)(0.2, 0.7),
        )
        assert torch.allclose(b(0.2, 0.5) + b(0.5, 0.7), b(0.2, 0.7), rtol=0, atol=1e-14)

    def test_a_factor_may_be_rectangular_and_a_correlation_singular(self):
        path = BrownianPath((N, 2), seed=17, dtype=F64)
        wide = Correlated(path, torch.tensor([[1.0, 0.0], [0.6, 0.8], [3.0, 4.0]]))
        assert wide.shape == (N, 3) and wide.stream_like(torch.zeros(N, 3)).increment(
            0.5, 0.2
        ).shape == (N, 3)
        assert_mean(wide(1.0)[:, 2].square(), 25)
        same = Correlated.of(path, torch.ones(2, 2))
        assert torch.allclose(same(0.4)[:, 0], same(0.4)[:, 1])

    @pytest.mark.parametrize(
        "c", [[[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.5], [0.1, 1.0]], [[2.0, 0.0], [0.0, 1.0]]]
    )
    def test_what_is_no_correlation(self, c):
        with pytest.raises(OrnsteinError, match="not a correlation"):
            Correlated.of(BrownianPath((4, 2)), torch.tensor(c))

    def test_a_factor_that_does_not_fit(self):
        with pytest.raises(OrnsteinError, match=r"\(b, ..., m\)"):
            Correlated(BrownianPath((4, 2)), torch.eye(3))

    def test_a_bridge_is_pinned_and_has_the_covariance_of_one(self):
        """Mean linear between the ends, covariance ``(s - t0)(t1 - t) / (t1 - t0)``; its areas are
        those of the path."""
        b = make(t0=-1.0, t1=3.0, seed=18, order=2)
        x = BrownianBridgePath(b, end=2.0, start=-1.0)
        assert torch.allclose(x(3.0), torch.full((N,), 2.0, dtype=F64)) and torch.equal(
            x(-1.0), torch.full((N,), -1.0, dtype=F64)
        )
        for s, t in [(0.0, 1.0), (-0.5, 2.5)]:
            mean = [-1 + 3 * (u + 1) / 4 for u in (s, t)]
            assert_mean(x(s), mean[0])
            assert_mean((x(s) - mean[0]) * (x(t) - mean[1]), (s + 1) * (3 - t) / 4)
            assert_mean((x(s) - mean[0]) * b(3.0), 0)
        fine = torch.linspace(0, 1, 129, dtype=F64)
        values = torch.stack([x(float(u)) for u in fine])
        mean = torch.trapezoid(values, fine, dim=0)
        assert float(
            (mean - (values[0] + values[-1]) / 2 - x.levy_area(0.0, 1.0)).abs().max()
        ) < 5 / (12**0.5 * 128)


class TestPathValued:
    B = StochasticProcess(lambda omega: BrownianPath((N,), seed=omega, dtype=F64))

    def test_a_seed_gives_a_path_and_a_time_a_random_variable(self):
        assert torch.equal(self.B(7)(0.3), BrownianPath((N,), seed=7, dtype=F64)(0.3))
        assert torch.equal(self.B.at(0.3)(7), self.B(7)(0.3))

    def test_functions_of_it_are_made_of_the_same_chance(self):
        """The exponential martingale has mean 1; B and its delayed path have the covariance of the
        earlier time."""
        x = self.B.map(lambda b, t: (b - t / 2).exp())
        assert_mean(x(7)(0.8), 1)
        delayed = self.B.through(lambda path: lambda t: path(max(t - 0.2, 0.0)))
        assert_mean(self.B.combine(delayed, lambda a, b: a * b)(7)(0.6), 0.4)
        assert torch.equal(self.B.combine(x)(3)(0.5)[1], x(3)(0.5))

    def test_a_functional_is_a_random_variable(self):
        """The integral of the path has variance 1/3: here of a trapezoidal rule on 64 steps, whose
        variance is 1/3 + 1 / (6 64^2)."""
        grid = rising(64)
        area = self.B.then(
            lambda path: torch.trapezoid(torch.stack([path(t) for t in grid]), grid, dim=0)
        )
        assert_mean(area(5).square(), 1 / 3 + 1 / (6 * 64**2))


class TestStream:
    x = torch.zeros(6, 3)

    def test_runs_on_coarse_and_fine_grids_follow_one_path(self):
        """Ornstein-Uhlenbeck by Euler's rule: halving the step brings runs together as sqrt(h)
        noise never would."""
        b = BrownianPath((2000,), seed=1, cells=rising(160), dtype=F64)
        ends = {}
        for n in (20, 40, 80, 160):
            x, stream = (
                torch.ones(2000, dtype=F64),
                b.fold(1, 2).stream_like(torch.ones(2000, dtype=F64)),
            )
            for t, s in itertools.pairwise(rising(n).flip(0).unbind()):
                x = x - x * (t - s) + math.sqrt(float(t - s)) * stream.between(t, s)
            ends[n] = x
        errors = [float((ends[n] - ends[2 * n]).square().mean().sqrt()) for n in (20, 40, 80)]
        assert errors[0] < 0.03 and all(
            1.8 < a / b < 2.2 for a, b in itertools.pairwise(errors)
        )  # additive noise: order 1

    def test_steps_are_increments_in_the_dtype_of_the_state(self):
        b = BrownianPath((6, 3), cells=GRID)
        stream = b.stream_like(self.x.double())
        assert (
            stream.increment(0.4, 0.15).dtype
            == stream.between(0.4, 0.15).dtype
            == stream.normal().dtype
            == F64
        )
        assert torch.equal(stream.increment(0.4, 0.15), b(0.4, 0.15).double())
        assert torch.equal(
            stream.between(torch.tensor(0.75), torch.tensor(0.5)), b.between(0.75, 0.5).double()
        )

    def test_other_draws_are_apart_from_the_path(self):
        stream = make(GRID).stream_like(torch.zeros(N, dtype=F64))
        draws = [
            stream.normal(),
            stream.normal(),
            stream.uniform() - 0.5,
            stream.between(0.1, 0.0),
            stream.between(0.4, 0.2),
        ]
        for x, y in itertools.combinations(draws, 2):
            assert_mean(x * y, 0)
        assert torch.equal(make(GRID).stream_like(torch.zeros(N, dtype=F64)).normal(), draws[0])

    @pytest.mark.parametrize(("order", "least", "most"), [(2, 1.35, 1.75), (1, 0.85, 1.15)])
    def test_with_the_areas_of_the_path_a_method_has_strong_order_three_halves(
        self, order, least, most
    ):
        """Roessler's SRA1 for ``dX = sin(X) dt + dB``: with another H in place of its own,
        runs on it have order 1."""
        b = BrownianPath((1000,), seed=2, cells=rising(512), dtype=F64, order=order)
        ends = {}
        for n in (16, 64, 512):
            x, stream = torch.zeros(1000, dtype=F64), b.stream_like(torch.zeros(1000, dtype=F64))
            for t, s in itertools.pairwise(rising(n).unbind()):
                dw, h, first = stream.increment(t, s), float(s - t), x.sin()
                second = (x + 3 / 4 * h * first + 3 / 2 * (dw / 2 + stream.area(t, s))).sin()
                x = x + h * (first / 3 + 2 / 3 * second) + dw
            ends[n] = x
        errors = [float((ends[n] - ends[512]).square().mean().sqrt()) for n in (16, 64)]
        assert least < math.log(errors[0] / errors[1], 4) < most

    def test_folding_changes_nothing(self):
        b = make(GRID)
        assert b.fold(3) is b


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"shape": ()}, r"or \(1,\) for"),
            ({"t0": 1.0, "t1": 0.0}, "t0 < t1"),
            ({"t1": math.inf}, "finite"),
            ({"t1": math.nan}, "finite"),
            ({"cells": [0.1, 0.3, 0.2]}, "strictly monotone"),
            ({"cells": [0.1, 0.1]}, "strictly monotone"),
            ({"cells": [0.5, 2.0]}, "must lie in"),
            ({"cells": [math.nan]}, "must lie in"),
            ({"tol": -1.0}, "length of time"),
            ({"tol": math.nan}, "tol=nan"),
            ({"order": 4}, "order 4"),
        ],
    )
    def test_bad_paths(self, options, message):
        with pytest.raises(OrnsteinError, match=message):
            BrownianPath(**{"shape": (2,), **options})

    @pytest.mark.parametrize("t", [-0.1, 1.0001, math.nan, torch.tensor(3.0)])
    def test_times_outside(self, t):
        with pytest.raises(OrnsteinError, match=r"outside|time=nan"):
            make(n=2)(0.5, t)

    def test_one_time_for_each_sample(self):
        with pytest.raises(OrnsteinError, match="one at a time"):
            make(n=2)(torch.tensor([0.1, 0.2]))

    def test_no_interval_to_normalise(self):
        with pytest.raises(OrnsteinError, match="cannot be normalised"):
            make(n=2).between(0.3, 0.3)

    def test_a_state_of_another_shape(self):
        with pytest.raises(OrnsteinError, match=r"shape=x\.shape"):
            make(n=2).stream_like(torch.zeros(3))

    def test_intervals_below_the_tolerance(self):
        b = make(n=2, tol=0.1)
        with pytest.raises(OrnsteinError, match="smaller tol"):
            b(0.301, 0.302)
        assert torch.equal(b(0.301, 0.302 + 0.1), -b(0.302 + 0.1, 0.301))

    @pytest.mark.parametrize(
        ("order", "moment", "fix"), [(1, 1, "order=2"), (2, 2, "order=3"), (3, 3, "H is moment 1")]
    )
    def test_areas_that_the_path_does_not_have(self, order, moment, fix):
        with pytest.raises(OrnsteinError, match=fix):
            make(n=2, order=order).levy_area(0.1, 0.2, moment)
