"""A Brownian path has the law of Brownian motion and is one path, however, whenever and in what company it is asked.

Statistical tolerances are k = 4 standard errors; the seeds are in the tests.
"""

import itertools
import math

import pytest
import torch

from ornstein.core.brownian import BrownianPath
from ornstein.core.noise import Noise
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
        """Far below what the difference of two values could resolve in float32, and to the last bit of the times in float64."""
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
            assert torch.allclose(b.between(s, t) * math.sqrt(abs(t - s)), b(s, t), rtol=1e-14, atol=0)


class TestOnePath:
    queries = ((0.0, 0.1), (0.1, 0.15), (0.4, 0.1), (0.0, 0.75), (0.0, 1.0), (0.0, 0.3), (0.3, 0.31), (0.05, 0.95), (0.7, 0.2))

    @pytest.mark.parametrize("cells", [None, GRID])
    def test_answers_do_not_depend_on_earlier_questions(self, cells):
        alone = {q: make(cells, n=16)(*q) for q in self.queries}
        for shift in range(0, len(self.queries), 4):
            b = make(cells, n=16)
            for q in self.queries[shift:] + self.queries[:shift] + self.queries[::-1]:
                assert torch.equal(b(*q), alone[q]), q

    @pytest.mark.parametrize("times", [GRID, torch.linspace(0, 1, 30).tolist(), sorted([*GRID, 0.2, 0.21, 0.8])])
    def test_sweeps_in_either_direction_see_the_values_of_single_questions(self, times):
        alone = [make(GRID, n=5)(t) for t in times]
        up, down = make(GRID, n=5), make(GRID, n=5)
        assert torch.equal(torch.stack([up(t) for t in times]), torch.stack(alone))
        assert torch.equal(torch.stack([down(t) for t in times[::-1]]), torch.stack(alone[::-1]))

    @pytest.mark.parametrize("cells", [None, GRID, rising(40)])
    def test_coarse_increments_are_sums_of_fine_ones(self, cells):
        b, grid = make(cells, n=8), rising(40).unbind()
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

    @pytest.mark.parametrize("event", [(), (3,), (3, 20, 20)])
    @pytest.mark.parametrize("dtype", [F32, F64])
    def test_a_sample_is_the_same_in_every_batch(self, event, dtype):
        def values(n, seed=3):
            b = BrownianPath((n, *event), seed=seed, cells=[0.25, 0.5], dtype=dtype)
            return [b(0.5, 0.25), b(0.2), b(0.9), b(0.3, 0.7), b.between(0.6, 0.1)]

        large = values(64)
        for n in (1, 7):
            assert all(torch.equal(x, y[:n]) for x, y in zip(values(n), large, strict=True))
        shifted = values(4, Noise(3, start=60))
        assert all(torch.equal(x, y[60:]) for x, y in zip(shifted, large, strict=True))

    def test_declared_times_may_run_down_and_come_in_any_container(self):
        grids = [GRID, GRID[::-1], list(GRID), torch.tensor(GRID[::-1], dtype=F64), GRID[1:-1]]
        paths = [make(grid, n=4) for grid in grids]
        assert all(path == paths[0] and torch.equal(path(0.15, 0.6), paths[0](0.15, 0.6)) for path in paths)

    def test_times_may_be_tensors_of_any_dtype(self):
        grid = torch.linspace(1, 0, 11)
        b = BrownianPath((4,), cells=grid)
        assert torch.equal(b(grid[3], grid[4]), b(float(grid[3]), float(grid[4])))


class Counting(BrownianPath):
    """Counts draws."""

    draws = 0

    def _draw(self, cell, node=0):
        Counting.draws += 1
        return super()._draw(cell, node)


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
        assert len(b._kept) <= 1

    @pytest.mark.parametrize("dtype", [F32, F64])
    def test_other_times_cost_a_descent(self, dtype):
        times = torch.linspace(0.13, 0.97, 30, dtype=dtype).unbind()
        b = Counting((2,))
        for sweep in (times, times[::-1]):
            questions = list(itertools.pairwise(sweep))
            first, rest = self.draws(b, questions[:1]), self.draws(b, questions[1:])
            depth = 27 if dtype is F32 else 56
            assert first <= 2 * depth and rest <= depth * len(questions[1:])
            assert len(b._kept) <= depth + 2


class TestStream:
    x = torch.zeros(6, 3)

    def test_runs_on_coarse_and_fine_grids_follow_one_path(self):
        """Ornstein-Uhlenbeck by Euler's rule: halving the step brings runs together as sqrt(h) noise never would."""
        b = BrownianPath((2000,), seed=1, cells=rising(160), dtype=F64)
        ends = {}
        for n in (20, 40, 80, 160):
            x, stream = torch.ones(2000, dtype=F64), b.fold(1, 2).stream_like(torch.ones(2000, dtype=F64))
            for t, s in itertools.pairwise(rising(n).flip(0).unbind()):
                x = x - x * (t - s) + math.sqrt(float(t - s)) * stream.between(t, s)
            ends[n] = x
        errors = [float((ends[n] - ends[2 * n]).square().mean().sqrt()) for n in (20, 40, 80)]
        assert errors[0] < 0.03 and all(1.8 < a / b < 2.2 for a, b in itertools.pairwise(errors))  # additive noise: order 1

    def test_steps_are_increments_in_the_dtype_of_the_state(self):
        b = BrownianPath((6, 3), cells=GRID)
        stream = b.stream_like(self.x.double())
        assert stream.increment(0.4, 0.15).dtype == stream.between(0.4, 0.15).dtype == stream.normal().dtype == F64
        assert torch.equal(stream.increment(0.4, 0.15), b(0.4, 0.15).double())
        assert torch.equal(stream.between(torch.tensor(0.75), torch.tensor(0.5)), b.between(0.75, 0.5).double())

    def test_other_draws_are_apart_from_the_path(self):
        stream = make(GRID).stream_like(torch.zeros(N, dtype=F64))
        draws = [stream.normal(), stream.normal(), stream.uniform() - 0.5, stream.between(0.1, 0.0), stream.between(0.4, 0.2)]
        for x, y in itertools.combinations(draws, 2):
            assert_mean(x * y, 0)
        assert torch.equal(make(GRID).stream_like(torch.zeros(N, dtype=F64)).normal(), draws[0])

    def test_folding_changes_nothing(self):
        b = make(GRID)
        assert b.fold(3) is b


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"shape": ()}, r"shape=\(1,\)"),
            ({"t0": 1.0, "t1": 0.0}, "t0 < t1"),
            ({"t1": math.inf}, "finite"),
            ({"t1": math.nan}, "finite"),
            ({"cells": [0.1, 0.3, 0.2]}, "strictly monotone"),
            ({"cells": [0.1, 0.1]}, "strictly monotone"),
            ({"cells": [0.5, 2.0]}, "must lie in"),
            ({"cells": [math.nan]}, "must lie in"),
        ],
    )
    def test_bad_paths(self, options, message):
        with pytest.raises(OrnsteinError, match=message):
            BrownianPath(**{"shape": (2,), **options})

    @pytest.mark.parametrize("t", [-0.1, 1.0001, math.nan, torch.tensor(3.0)])
    def test_times_outside(self, t):
        with pytest.raises(OrnsteinError, match="outside"):
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
