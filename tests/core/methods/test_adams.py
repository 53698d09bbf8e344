"""`Adams` against closed forms in both directions of time, its sum of errors against quadrature
replayed, its cost and refusals."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch

from ornstein.core import processes as p
from ornstein.core.methods import Adams, Adaptive
from ornstein.core.methods.adams import Errors, adams_weights
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.sde import SDE, Langevin
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.watchers import Evaluations, Trajectory
from ornstein.errors import OrnsteinError
from problems import mixture

F64 = torch.float64
STIFF = 30.0


def oscillator(x, t):
    return torch.stack([x[:, 1], -x[:, 0]], 1)


def oscillation(x, t):
    c, s = math.cos(t), math.sin(t)
    return torch.stack([c * x[:, 0] + s * x[:, 1], c * x[:, 1] - s * x[:, 0]], 1)


def logistic(x, t):
    return x * (1 - x)


def growth(x, t):
    return x / (x + (1 - x) * math.exp(-t))


def forced(rate):
    """``x' = rate (cos t - x) - sin t``: ``x = cos t + (x_0 - cos t_0) exp(-rate (t - t_0))``."""
    return lambda x, t: rate * (math.cos(float(t)) - x) - math.sin(float(t))


POINTS = torch.tensor([[0.2, 0.9], [0.5, 0.1], [1.3, 0.7]], dtype=F64)
# name: drift, grid, state at the end
PROBLEMS = {
    "oscillator": (oscillator, (0.0, 6.0), oscillation(POINTS, 6.0)),
    "oscillator, back": (oscillator, (6.0, 0.0), oscillation(POINTS, -6.0)),
    "logistic": (logistic, (0.0, 4.0), growth(POINTS, 4.0)),
    "logistic, back": (logistic, (0.7, 0.0), growth(POINTS, -0.7)),
    "forced": (forced(STIFF), (0.0, 2.0), math.cos(2.0) + (POINTS - 1) * math.exp(-2 * STIFF)),
    "forced, back": (
        forced(-STIFF),
        (2.0, 0.0),
        1 + (POINTS - math.cos(2.0)) * math.exp(-2 * STIFF),
    ),
}


class Counted:
    """A drift that keeps the times at which it is asked."""

    def __init__(self, drift):
        self.drift, self.times = drift, []

    def __call__(self, x, t):
        self.times.append(float(t))
        return self.drift(x, t)


def solve(drift, times, method, x=POINTS, watch=()):
    counted = Counted(drift)
    end = simulate(SDE(counted), x, torch.tensor(times, dtype=F64), method, watch=watch)
    return end, len(counted.times)


def three_rules(nodes, now, then):
    """Weights of the predictor, and, the new slope first, of the corrector and of the corrector of
    one order less."""
    (rise, ahead), correct, miss = adams_weights(tuple(nodes), now, then)
    new = np.concatenate([[1.0], -ahead])
    full = np.concatenate([[0.0], rise]) + correct * new
    return rise, full, full - miss * new


class TestWeights:
    @pytest.mark.parametrize(
        ("nodes", "bashforth", "moulton"),
        [
            (
                (0.0, -1.0, -2.0, -3.0),
                (55 / 24, -59 / 24, 37 / 24, -9 / 24),
                (251 / 720, 646 / 720, -264 / 720, 106 / 720, -19 / 720),
            ),
            ((0.0, -1.0, -2.0), (23 / 12, -16 / 12, 5 / 12), (9 / 24, 19 / 24, -5 / 24, 1 / 24)),
            ((0.0, -1.0), (3 / 2, -1 / 2), (5 / 12, 8 / 12, -1 / 12)),
            ((0.0,), (1.0,), (1 / 2, 1 / 2)),
        ],
        ids=["4", "3", "2", "1"],
    )
    def test_equal_steps_have_the_weights_of_the_textbook(self, nodes, bashforth, moulton):
        """Hairer, Norsett and Wanner 1993, III.1, (1.5) and (1.8); also at another place, scale and
        direction. The rule of one order less is Moulton's for one node less, and leaves the oldest
        slope out."""
        lower = {
            4: (9 / 24, 19 / 24, -5 / 24, 1 / 24),
            3: (5 / 12, 8 / 12, -1 / 12),
            2: (1 / 2, 1 / 2),
            1: (1.0,),
        }[len(nodes)]
        for scale, place in ((1.0, 0.0), (-0.1, 3.0)):
            rise, full, low = three_rules([place + scale * t for t in nodes], place, place + scale)
            assert rise == pytest.approx([scale * w for w in bashforth], abs=1e-13)
            assert full == pytest.approx([scale * w for w in moulton], abs=1e-13)
            assert low == pytest.approx([scale * w for w in (*lower, 0.0)], abs=1e-13)

    @pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
    def test_unequal_steps_integrate_polynomials(self, count):
        """Degree ``count - 1`` about 0.5, one more with the new slope and as many without the
        oldest, against the primitive; seed 0."""
        gaps = 0.1 + Noise(0).uniform((count,), F64).numpy()
        nodes = 0.7 - np.concatenate([[0.0], gaps[1:].cumsum()])
        after = np.concatenate([[0.95], nodes])
        rules = zip(
            three_rules(nodes.tolist(), 0.7, 0.95),
            (nodes, after, after),
            (count, count + 1, count),
            strict=True,
        )
        for weights, places, degrees in rules:
            for k in range(degrees):
                exact = ((0.95 - 0.5) ** (k + 1) - (0.7 - 0.5) ** (k + 1)) / (k + 1)
                assert float(weights @ (places - 0.5) ** k) == pytest.approx(
                    exact, abs=1e-9 * np.abs(weights).max()
                )


class TestAccuracy:
    @pytest.mark.parametrize("name", PROBLEMS)
    def test_the_error_falls_with_the_tolerance_and_stays_near_it(self, name):
        """At most 100 tolerances, and less at each hundredth of one."""
        drift, times, exact = PROBLEMS[name]
        errors, counts = [], []
        for tol in (1e-3, 1e-5, 1e-7, 1e-9):
            end, count = solve(drift, times, Adams(tol))
            errors.append(float((end - exact).abs().max()))
            counts.append(count)
            assert errors[-1] < 100 * tol
        assert all(a > b for a, b in pairwise(errors)), errors
        assert all(a < b for a, b in pairwise(counts)), counts

    @pytest.mark.parametrize(
        ("back", "tols"),
        [(1, (1e-3, 1e-5)), (2, (1e-4, 1e-7)), (4, (1e-5, 1e-10)), (6, (1e-7, 1e-12))],
        ids=["1", "2", "4", "6"],
    )
    def test_evaluations_grow_like_a_power_of_the_tolerance(self, back, tols):
        """The controlled error is of order ``back + 1`` in a step: ``tol^(-1 / (back + 1))``,
        within a fifth. For a quadrature, where no step is limited by stability."""

        def drift(x, t):
            return torch.full_like(x, math.cos(3 * float(t)))

        counts = [
            solve(drift, (0.0, 10.0), Adams(tol, back), torch.zeros(1, 1, dtype=F64))[1]
            for tol in tols
        ]
        slope = math.log(counts[1] / counts[0]) / math.log(tols[0] / tols[1])
        assert slope == pytest.approx(1 / (back + 1), rel=0.2), counts

    @pytest.mark.parametrize("name", ["oscillator", "logistic"])
    def test_costs_less_than_a_runge_kutta_pair_of_equal_error(self, name):
        """At each of four errors of Dormand and Prince, with the loosest of the tolerances ``10^(-k
        / 2)`` that is as good."""
        drift, times, exact = PROBLEMS[name]
        ours = [solve(drift, times, Adams(10.0 ** (-k / 2))) for k in range(8, 22)]
        for tol in (1e-4, 1e-5, 1e-6, 1e-7):
            end, count = solve(drift, times, Adaptive(rtol=tol, atol=tol))
            error = (end - exact).abs().max()
            assert next(n for x, n in ours if (x - exact).abs().max() <= error) < count

    def test_sees_events_of_any_shape_in_their_dtype(self):
        """The same numbers in another layout give the same result; float32 is solved to its own
        precision."""
        drift, times, exact = PROBLEMS["logistic"]
        flat, _ = solve(drift, times, Adams(1e-6))
        shaped, _ = solve(drift, times, Adams(1e-6), POINTS.reshape(3, 1, 2, 1))
        torch.testing.assert_close(shaped.flatten(1), flat, rtol=1e-12, atol=1e-12)
        single, _ = solve(drift, times, Adams(1e-5), POINTS.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-4)

    def test_a_first_step_that_is_too_long_is_taken_again(self):
        drift, times, exact = PROBLEMS["forced"]
        end, _ = solve(drift, times, Adams(1e-6, initial_step=1.0))
        assert float((end - exact).abs().max()) < 1e-4

    def test_a_slope_that_is_not_finite_further_out_is_approached_in_shorter_steps(self):
        """``x' = x``, which here is not defined above 3: a first step of 5 predicts 6, and the
        solution at 1 is e."""
        grid = (0.0, 1.0)
        end, _ = solve(
            lambda x, t: x.where(x < 3, math.nan),
            grid,
            Adams(1e-8, initial_step=5.0),
            torch.ones(1, 1, dtype=F64),
        )
        assert float(end) == pytest.approx(math.e, rel=1e-6)


class TestErrors:
    @staticmethod
    def replay(fn, times, back):
        """Accepted steps of a quadrature, from the times alone: an attempt is rejected if the next
        one falls short of it. The integral, and how much the polynomial through one slope less
        differs, each step fitted by `numpy.polyfit`."""
        sign = math.copysign(1.0, times[1] - times[0])
        nodes, total, gap = [times[0]], 0.0, 0.0
        for i, s in enumerate(times[1:], 1):
            if i + 1 < len(times) and sign * (times[i + 1] - s) <= 0:
                continue

            def through(points, s=s):
                h = s - nodes[-1]
                at = (np.array(points) - nodes[-1]) / h
                primitive = np.polyint(np.polyfit(at, [fn(u) for u in points], len(points) - 1))
                return h * float(np.polyval(primitive, 1.0) - np.polyval(primitive, 0.0))

            used = nodes[-back:]
            high, low = through([*used, s]), through([*used[1:], s])
            total, gap = total + high, gap + abs(high - low)
            nodes.append(s)
        return total, gap

    @pytest.mark.parametrize("span", [(0.0, 3.0), (3.0, 0.0)], ids=str)
    @pytest.mark.parametrize("back", [1, 2, 4])
    def test_the_sum_is_what_the_corrector_of_one_order_less_differs_by(self, back, span):
        """``x' = cos 2t + t`` with the weight that keeps the sign, against the steps replayed."""
        fn, errors = lambda t: math.cos(2 * t) + t, Errors()
        drift = Counted(lambda x, t: torch.full_like(x, fn(float(t))))
        method = Adams(1e-6 if back > 1 else 1e-4, back, error_parts=lambda e, x, v, t: e)
        end = simulate(
            SDE(drift),
            torch.zeros(1, 1, dtype=F64),
            torch.tensor(span, dtype=F64),
            method,
            watch=[errors],
        )
        total, gap = self.replay(fn, drift.times, back)
        assert float(end) == pytest.approx(total, abs=1e-10)
        assert float(errors.value) == pytest.approx(gap, abs=1e-10)
        assert errors.evaluations == len(drift.times)

    @pytest.mark.parametrize("tol", [1e-4, 1e-6, 1e-8])
    @pytest.mark.parametrize("name", ["decay", "signed decay", "cosine"])
    def test_the_sum_bounds_the_true_error_and_is_not_far_above(self, name, tol):
        """It is the error of a method of one order less: above the true one, and by less than 100
        times (200 by default: relative to ``1 + |x|``, and all counted as positive). With their
        signs errors of the cosine's lower order cancel: not tried."""
        fn, exact = (
            (math.cos, math.sin(3.0))
            if name == "cosine"
            else (lambda t: math.exp(-t), 1 - math.exp(-3.0))
        )
        errors, weigh = Errors(), (lambda e, x, v, t: e) if name == "signed decay" else None
        start = torch.zeros(2, 1, dtype=F64)
        end, _ = solve(
            lambda x, t: torch.full_like(x, fn(float(t))),
            (0.0, 3.0),
            Adams(tol, error_parts=weigh),
            start,
            [errors],
        )
        true, total = float((end - exact).abs().max()), float(errors.value.abs().max())
        assert errors.value.shape == (2,)
        assert true < total < (100 if weigh else 200) * true

    def test_parts_keep_their_signs_apart_in_the_control_and_together_in_the_sum(self):
        """Two parts that cancel: the sum is 0, the steps are those of twice the size."""
        drift, times, _ = PROBLEMS["oscillator"]
        errors = Errors()

        def part(e, x, v, t):
            return e[:, :1]

        cancelling = Adams(
            1e-6, error_parts=lambda e, x, v, t: torch.cat([part(e, x, v, t), -part(e, x, v, t)], 1)
        )
        end, count = solve(drift, times, cancelling, watch=[errors])
        assert float(errors.value.abs().max()) < 1e-18
        other, same = solve(drift, times, Adams(5e-7, error_parts=part))
        assert count == same
        torch.testing.assert_close(end, other, rtol=1e-12, atol=1e-12)

    def test_the_weight_is_given_the_error_the_state_its_slope_and_the_time(self):
        """The slope is that at the predicted state, which differs by less than 1e-5 here."""
        seen = []

        def weigh(e, x, v, t):
            seen.append((e.shape, float((v - oscillator(x, t)).abs().max()), t))
            return e.abs().sum(1, keepdim=True)

        solve(oscillator, (0.0, 2.0), Adams(1e-8, error_parts=weigh))
        assert all(shape == (3, 2) and gap < 1e-5 for shape, gap, _ in seen)
        assert seen[-1][2] == 2.0


class TestGrids:
    @pytest.mark.parametrize("name", ["oscillator", "logistic, back", "forced"])
    def test_memory_goes_from_one_interval_to_the_next(self, name):
        """Grids of 2 and of 5 points agree; the four intervals do not start anew: they cost at most
        8 evaluations more each."""
        drift, times, exact = PROBLEMS[name]
        grid, counter, errors, path = (
            np.linspace(*times, 5).tolist(),
            Evaluations(),
            Errors(),
            Trajectory(),
        )
        one, n_one = solve(drift, times, Adams(1e-7))
        more, n_more = solve(drift, grid, Adams(1e-7), watch=[counter, errors, path])
        torch.testing.assert_close(one, more, rtol=0, atol=1e-5)
        assert float((more - exact).abs().max()) < 1e-5
        assert n_more <= n_one + 8 * 4
        assert n_more == counter.count == errors.evaluations
        assert len(path.states) == 5

    def test_stops_at_the_times_of_the_grid(self):
        grid, seen = [0.0, 0.3, 1.0, 4.0], {}
        solve(
            oscillator,
            grid,
            Adams(1e-8),
            watch=[lambda t, s, x, step: seen.update({float(s): step.x})],
        )
        assert list(seen) == grid[1:]
        for t, x in seen.items():
            torch.testing.assert_close(x, oscillation(POINTS, t), rtol=0, atol=1e-6)

    def test_runs_do_not_see_each_other(self):
        method = Adams(1e-6)
        first, second = solve(oscillator, (0.0, 2.0), method), solve(oscillator, (0.0, 2.0), method)
        assert torch.equal(first[0], second[0]) and first[1] == second[1]


class TestFlow:
    def test_solves_the_probability_flow_written_out_in_another_time(self):
        """In the logarithm u of the noise level, where ``dx / du = x - D(x, e^u)``: against
        `Adaptive` on `Reverse` in its own time."""
        posterior, x = mixture().posterior(p.EDM(20.0)), Noise(0).normal((6, 2), F64)
        ours, _ = solve(lambda y, u: y - posterior(y, u.exp()).mean, (0.0, -3.0), Adams(1e-8), x)
        times = torch.tensor([1.0, math.exp(-3)], dtype=F64)
        theirs = simulate(Reverse(posterior, 0.0), x, times, Adaptive(rtol=1e-8, atol=1e-8))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


class TestGradients:
    def test_flow_through_the_steps_to_the_start_and_to_parameters(self):
        """``x' = r x (1 - x)``: ``x = x_0 / (x_0 + (1 - x_0) e^(-r t))``, by autograd on both
        sides."""
        x = POINTS.clone().requires_grad_()
        rate = torch.tensor(1.3, dtype=F64, requires_grad=True)
        end = simulate(
            SDE(lambda y, t: rate * y * (1 - y)),
            x,
            torch.tensor([0.0, 2.0], dtype=F64),
            Adams(1e-9),
        )
        exact = x / (x + (1 - x) * (-2 * rate).exp())
        weight = Noise(0).normal((3, 2), F64)
        ours, theirs = (torch.autograd.grad((weight * y).sum(), (x, rate)) for y in (end, exact))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)

    def test_without_a_warning(self):
        x, always = POINTS.clone().requires_grad_(), torch.is_warn_always_enabled()
        torch.set_warn_always(True)  # else torch warns of a thing once per process
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                end, _ = solve(logistic, (0.0, 1.0), Adams(1e-4), x)
        finally:
            torch.set_warn_always(always)
        assert end.requires_grad


class TestRefusals:
    @pytest.mark.parametrize(
        "options",
        [{"tol": 0.0}, {"tol": -1e-3}, {"tol": math.nan}, {"back": 0}, {"back": 9}],
        ids=str,
    )
    def test_bad_tolerances_and_numbers_of_slopes(self, options):
        with pytest.raises(OrnsteinError, match="a positive tolerance, and 1 to 8 slopes"):
            Adams(**options)

    def test_equations_and_grids_that_it_cannot_solve(self):
        sde, x = p.VP(), POINTS[:, :2]
        posterior, times = mixture().posterior(sde), sde.times(3)
        noisy = SDE(lambda x, t: -x, lambda x, t: torch.ones((), dtype=x.dtype))
        for equation in (
            noisy,
            Langevin(lambda x: -x),
            Reverse(posterior, 1.0),
            Reverse(posterior, 0.5),
            sde,
        ):
            with pytest.raises(OrnsteinError, match="solves an ODE: pass"):
                simulate(equation, x, times, Adams(), Noise(0))
        with pytest.raises(OrnsteinError, match="to draw samples use Multistep or Adaptive"):
            simulate(Reverse(posterior, 0.0), x, times, Adams())
        with pytest.raises(OrnsteinError, match=r"one grid \(n,\) that all samples share"):
            simulate(SDE(oscillator), x, times[:, None].expand(-1, 3), Adams())

    @pytest.mark.parametrize("limit", [1, 7])
    def test_more_evaluations_than_are_allowed(self, limit):
        with pytest.raises(
            OrnsteinError,
            match=f"took {limit} evaluations and reached t=.* of 6: .*raise max_evaluations",
        ):
            solve(oscillator, (0.0, 6.0), Adams(1e-6, max_evaluations=limit))
        _, count = solve(oscillator, (0.0, 6.0), Adams(1e-6))
        solve(oscillator, (0.0, 6.0), Adams(1e-6, max_evaluations=count))

    def test_a_slope_that_is_never_finite_ends_in_an_error(self):
        with pytest.raises(OrnsteinError, match="took 50 evaluations and reached t=0 of 1"):
            solve(lambda x, t: x * math.nan, (0.0, 1.0), Adams(max_evaluations=50))
