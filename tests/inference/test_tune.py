"""Tables and tuning: a table is the method it was made from, tuning gains what it reports, and what
it finds can be kept."""

import json
import math
import sys
from itertools import pairwise

import pytest
import torch
from inference_problems import mixture, random_model, run, starts

import ornstein as orn
from ornstein.core.methods.tabulated import TabulatedMultistep, tabulate
from ornstein.core.numerics.estimate import Estimate
from ornstein.errors import OrnsteinError
from ornstein.inference.sampling.sample import start_states
from ornstein.inference.sampling.samplers import default_sampler

F64 = torch.float64
FAST = {
    "n": 32,
    "iterations": 2,
    "seconds": 1e9,
}  # no clock: the same whatever else the machine does
pytestmark = pytest.mark.usefixtures("seeded_weights")


class TestTables:
    @pytest.mark.parametrize("sde", [orn.EDM(), orn.VP(), orn.RectifiedFlow()], ids=repr)
    @pytest.mark.parametrize("n", [2, 9])
    def test_the_table_of_auto_is_auto(self, sde, n):
        posterior = mixture().posterior(sde)
        auto, x_T = default_sampler(posterior), starts(posterior, 16, 0)
        times = sde.times(n, auto.spacing)
        table = tabulate(auto.method, orn.Reverse(posterior, 0.0), times)
        torch.testing.assert_close(table.spacing(sde, n), times, rtol=1e-9, atol=1e-12)
        found = orn.simulate(orn.Reverse(posterior, 0.0), x_T, times, table)
        torch.testing.assert_close(found, run(posterior, x_T, n, auto), rtol=1e-12, atol=1e-12)

    def test_rows_sum_to_the_angle_of_their_step(self):
        """Consistency, eq. 1 of `tabulated`: ``sum_j b_kj = phi_k - phi_{k+1}`` with ``phi = atan(r
        / d)``."""
        posterior = mixture().posterior(orn.RectifiedFlow())
        auto = default_sampler(posterior)
        table = tabulate(
            auto.method, orn.Reverse(posterior, 0.0), posterior.sde.times(8, auto.spacing)
        )
        angles = [
            math.atan2(r, table.data_std) if math.isfinite(r) else math.pi / 2 for r in table.ratios
        ]
        assert [sum(row) for row in table.weights] == pytest.approx(
            [a - b for a, b in pairwise(angles)], rel=1e-9
        )
        assert table.ratios[0] == math.inf
        assert table.ratios[-1] == 0

    def test_one_table_serves_every_process_that_starts_from_its_ratio(self):
        """Cosine and straight paths both start without signal: the same x_T ends in the same
        sample."""
        a, b = (
            mixture().posterior(sde)
            for sde in (
                orn.RectifiedFlow(),
                orn.processes.FromLogSNR(lambda t: 2 * (torch.log1p(-t) - t.log())),
            )
        )
        auto, x_T = default_sampler(a), starts(a, 8, 0)
        table = tabulate(auto.method, orn.Reverse(a, 0.0), a.sde.times(6, auto.spacing))
        found = [
            orn.simulate(orn.Reverse(q, 0.0), x_T, table.spacing(q.sde, 6), table) for q in (a, b)
        ]
        torch.testing.assert_close(*found, rtol=1e-7, atol=1e-7)

    def test_factors_multiply_the_state(self):
        """keep = 0 and no weights but the last: one step from nothing is ``b F / d`` in ``z = x /
        scale``."""
        posterior = mixture().posterior(orn.RectifiedFlow())
        x_T = starts(posterior, 8, 0)
        table = TabulatedMultistep((math.inf, 0.0), ((0.4,),), data_std=0.9, keep=(0.5,))
        found = orn.simulate(
            orn.Reverse(posterior, 0.0), x_T, table.spacing(posterior.sde, 1), table
        )
        expected = 0.9 * (0.5 * x_T + 0.4 / 0.9 * posterior(x_T, 1.0).mean)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)

    def test_another_grid_is_refused(self):
        posterior = mixture().posterior(orn.VP())
        auto = default_sampler(posterior)
        reverse, x_T = orn.Reverse(posterior, 0.0), starts(posterior, 2, 0)
        times = posterior.sde.times(6, auto.spacing)
        table = tabulate(auto.method, reverse, times)
        with pytest.raises(OrnsteinError, match="made for 6 steps"):
            table.spacing(posterior.sde, 7)
        with pytest.raises(OrnsteinError, match="noise-to-signal ratio"):
            table.spacing(orn.EDM(), 6)
        with pytest.raises(OrnsteinError, match="6 rows of weights"):
            TabulatedMultistep(table.ratios[1:], table.weights, 1.0)
        with pytest.raises(OrnsteinError, match="table of 7 levels"):
            orn.simulate(reverse, x_T, times[1:], table)
        with pytest.raises(OrnsteinError, match="table of 7 levels"):
            orn.simulate(reverse, x_T, times[:, None].expand(-1, 2), table)
        with pytest.raises(OrnsteinError, match="eta=0"):
            orn.simulate(orn.Reverse(posterior, 1.0), x_T, times, table, orn.Noise(0))
        with pytest.raises(OrnsteinError, match="no steps of its own"):
            table.step(reverse, x_T, times[0], times[1], orn.Noise(0).stream_like(x_T), None)

    def test_as_many_steps_elsewhere_are_refused_too(self):
        posterior = mixture().posterior(orn.VP())
        auto = default_sampler(posterior)
        reverse, x_T = orn.Reverse(posterior, 0.0), starts(posterior, 2, 0)
        table = tabulate(auto.method, reverse, posterior.sde.times(6, auto.spacing))
        with pytest.raises(OrnsteinError, match="spacing"):
            orn.simulate(reverse, x_T, posterior.sde.times(6, orn.spacing.uniform), table)


@pytest.fixture
def one_search(monkeypatch):
    """One start, one power."""
    module = sys.modules["ornstein.inference.sampling.gauss_newton"]
    monkeypatch.setattr(module, "STARTS", module.STARTS[:2])
    monkeypatch.setattr(module, "SEARCHES", 1)
    monkeypatch.setattr(module, "POWERS", (1.0,))


def held_out(posterior, tuned, n: int, seed: int, steps: int) -> tuple[float, float]:
    """Errors of a sampler and of auto on the noise on which it was chosen."""
    x_T, auto = (
        start_states(posterior, n, None, orn.Noise(seed).fold(1)).double(),
        default_sampler(posterior),
    )
    best = run(posterior, x_T, 100, auto)
    return tuple(
        float((run(posterior, x_T, steps, s) - best).square().mean().sqrt()) for s in (tuned, auto)
    )


@pytest.fixture(scope="module")
def tuned():
    """Six steps on a mixture, from one start with one power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["ornstein.inference.sampling.gauss_newton"], "SEARCHES", 1)
        patch.setattr(sys.modules["ornstein.inference.sampling.gauss_newton"], "POWERS", (1.0,))
        return orn.tune(
            mixture().posterior(orn.VP()), 6, n=256, iterations=4, seconds=60, dtype=F64
        )


class TestTuning:
    steps = 6

    def errors(self, tuned, seed: int, n: int = 512):
        """Root mean square on new noise against 200 steps, with its standard error, and that of
        auto."""
        posterior = mixture().posterior(orn.VP())
        x_T = starts(posterior, n, seed)
        best, found = run(posterior, x_T, 200, default_sampler(posterior)), []
        for sampler in (tuned, default_sampler(posterior)):
            squares = (run(posterior, x_T, self.steps, sampler) - best).square().mean(1)
            rms = float(squares.mean().sqrt())
            found.append((rms, float(squares.std() / n**0.5 / (2 * rms))))
        return found

    def test_halves_the_error_at_least(self, tuned):
        assert tuned.error.value < tuned.before.value / 2
        (after, _), (before, _) = self.errors(tuned, seed=77)
        assert after < before / 2

    def test_reports_the_error_that_new_noise_shows(self, tuned):
        """Within four combined standard errors, both before and after."""
        found = self.errors(tuned, seed=78)
        for (value, stderr), reported in zip(found, (tuned.error, tuned.before), strict=True):
            assert (
                abs(value - reported.value)
                < 4 * math.hypot(stderr, reported.stderr) + 0.05 * reported.value
            )
            assert 0 < reported.stderr < reported.value

    def test_is_a_sampler_by_itself(self, tuned):
        posterior = mixture().posterior(orn.VP())
        x_T = starts(posterior, 5, 1)
        assert torch.equal(
            orn.sample(posterior, 5, self.steps, tuned, x_T=x_T),
            run(posterior, x_T, self.steps, tuned),
        )
        assert tuned.eta == 0
        assert tuned.evaluations > 3 * 100  # the accurate solutions alone
        assert 0 < tuned.seconds < 60
        with pytest.raises(OrnsteinError, match="made for 6 steps"):
            orn.sample(posterior, 5, 7, tuned)

    def test_configurations_rebuild_it_exactly(self, tuned):
        again = orn.sampling.Tuned.build(json.loads(json.dumps(tuned.config())))
        assert again.method == tuned.method
        assert (again.error, again.before, again.evaluations) == (
            tuned.error,
            tuned.before,
            tuned.evaluations,
        )
        posterior, x_T = mixture().posterior(orn.VP()), starts(mixture().posterior(orn.VP()), 5, 1)
        assert torch.equal(
            run(posterior, x_T, self.steps, again), run(posterior, x_T, self.steps, tuned)
        )

    def test_infinite_ratios_survive_strict_json(self):
        table = TabulatedMultistep((math.inf, 1 / 3, 0.0), ((0.1,), (0.2, 0.3)), 0.7, (1.0, 1.1))
        made = orn.sampling.Tuned(
            table, 0.0, table.spacing, Estimate(0.1, 0.01), Estimate(0.2, 0.01), 5, 1.5
        )
        again = orn.sampling.Tuned.build(json.loads(json.dumps(made.config(), allow_nan=False)))
        assert again.method == table
        assert again.method.ratios[0] == math.inf
        assert (again.error, again.before, again.evaluations, again.seconds) == (
            made.error,
            made.before,
            5,
            1.5,
        )

    def test_the_fixed_rule_has_no_configuration(self):
        auto = default_sampler(mixture().posterior(orn.VP()))
        with pytest.raises(OrnsteinError, match="fixed rule"):
            orn.sampling.Tuned(auto.method, 0.0, auto.spacing).config()


@pytest.mark.usefixtures("one_search")
@pytest.mark.parametrize("sde", [orn.RectifiedFlow(), orn.EDM()], ids=repr)
def test_a_seed_decides_and_it_is_never_worse_than_auto_where_it_was_chosen(sde):
    posterior = mixture().posterior(sde)
    lines = []
    first, second = (
        orn.tune(posterior, 3, seed=4, callback=lines.append, dtype=F64, **FAST) for _ in range(2)
    )
    assert first.method == second.method
    assert (first.error, first.before) == (second.error, second.before)
    assert len(lines) == 2
    assert lines[0] == lines[1]
    after, before = held_out(posterior, first, FAST["n"], 4, 3)
    assert after < before
    assert f"{after:.3g}" in lines[0]
    assert orn.tune(posterior, 3, seed=5, dtype=F64, **FAST).method != first.method


@pytest.mark.parametrize("limits", [{"iterations": 0}, {"seconds": 0.0}], ids=repr)
def test_without_iterations_or_time_the_best_fixed_sampler_is_kept(limits):
    posterior = mixture().posterior(orn.VP())
    found = orn.tune(posterior, 4, dtype=F64, **{**FAST, **limits})
    after, before = held_out(posterior, found, FAST["n"], 0, 4)
    assert after <= before * (1 + 1e-9)


@pytest.mark.usefixtures("one_search")
def test_the_order_bounds_what_a_step_uses():
    found = orn.tune(mixture().posterior(orn.VP()), 4, order=2, dtype=F64, **FAST)
    assert isinstance(found.method, TabulatedMultistep)
    assert max(len(row) for row in found.method.weights) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 1}, "steps=1.*at least 2"),
        ({"n": 1}, "n=1.*at least 2"),
        ({"order": 7}, "order=7.*1 to 6"),
    ],
)
def test_tuning_refuses_what_is_out_of_range(options, words):
    with pytest.raises(OrnsteinError, match=words):
        orn.tune(mixture().posterior(orn.VP()), **options)


@pytest.mark.usefixtures("one_search")
def test_a_process_with_noise_at_the_data_can_be_tuned_for():
    """Levels stay above the last one."""
    posterior = mixture().posterior(orn.processes.FromLogSNR(lambda t: 4 - 14 * t))
    found = orn.tune(posterior, 4, dtype=F64, **FAST)
    after, before = held_out(posterior, found, FAST["n"], 0, 4)
    assert after < before


@pytest.mark.usefixtures("one_search")
class TestOfAModel:
    def test_auto_uses_what_was_tuned_and_a_folder_keeps_it(self, tmp_path):
        model = random_model(orn.RectifiedFlow()).tune(3, **FAST).tune(4, **FAST)
        assert set(model.tuned) == {3, 4}
        assert isinstance(model.tuned[3].method, TabulatedMultistep)
        x = model.sample(6, 3, seed=1)
        assert torch.equal(x, model.sample(6, 3, model.tuned[3], seed=1))
        assert not torch.allclose(x, random_model(orn.RectifiedFlow()).sample(6, 3, seed=1))
        assert torch.equal(
            model.sample(6, 5, seed=1), random_model(orn.RectifiedFlow()).sample(6, 5, seed=1)
        )
        again = orn.load(model.save(tmp_path / "run"))
        assert set(again.tuned) == {3, 4}
        for steps in (3, 4):
            assert again.tuned[steps].method == model.tuned[steps].method
            assert torch.equal(again.sample(6, steps, seed=1), model.sample(6, steps, seed=1))

    def test_a_spacing_or_noise_asked_for_is_not_replaced(self):
        model, plain = (
            random_model(orn.RectifiedFlow()).tune(3, **FAST),
            random_model(orn.RectifiedFlow()),
        )
        for options in ({"spacing": orn.spacing.uniform}, {"eta": 0.5}, {"method": "ddim"}):
            assert torch.equal(
                model.sample(4, 3, seed=1, **options), plain.sample(4, 3, seed=1, **options)
            )

    def test_tuning_leaves_the_model_alone(self):
        model = random_model(orn.RectifiedFlow())
        model.tune(3, **FAST)
        assert model.tuned == {}

    def test_a_label_and_guidance_are_fitted_under(self):
        model = random_model(orn.RectifiedFlow(), labels=2)
        plain, guided = (model.tune(3, label=1, guidance=g, **FAST).tuned[3] for g in (None, 4.0))
        assert plain.method != guided.method
        with pytest.raises(OrnsteinError, match="labels are 0 to 1"):
            model.tune(3, label=2, **FAST)
