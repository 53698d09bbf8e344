"""``steps="auto"``: the tolerance is met, for the fewest steps of a ladder, and means the same to a
model as to a posterior."""

from itertools import pairwise

import pytest
import torch
from inference_problems import mixture, random_model, starts

import ornstein as orn
from ornstein.errors import OrnsteinError
from ornstein.inference.sampling.sample import (
    STEP_TEST_SAMPLES,
    grid,
    start_states,
    steps_for,
)
from ornstein.inference.sampling.samplers import default_sampler, sampler

pytestmark = pytest.mark.usefixtures("seeded_weights")


def run(posterior, x_T, n, method="auto"):
    chosen = sampler(method, posterior)
    return orn.simulate(
        orn.Reverse(posterior, 0.0), x_T, grid(posterior.sde, n, chosen.spacing), chosen.method
    )


def counted(posterior, **options) -> int:
    """Steps that a draw took."""
    watch = orn.Evaluations()
    orn.sample(posterior, 1, watch=[watch], **options)
    return watch.count


@pytest.mark.parametrize("sde", [orn.VP(), orn.EDM(), orn.RectifiedFlow()], ids=repr)
def test_the_error_is_below_the_tolerance_and_a_smaller_one_takes_more_steps(sde):
    """True rms error against 400 steps of 256 samples other than the test samples, in float64."""
    posterior, found = mixture().posterior(sde), []
    x_T = starts(posterior, 256, 5)
    best = run(posterior, x_T, 400)
    for tol in (0.1, 0.01, 0.001):
        watch = orn.Evaluations()
        x = orn.sample(posterior, 256, "auto", x_T=x_T, tol=tol, watch=[watch])
        assert float((x - best).square().mean().sqrt()) <= tol
        found.append(watch.count)
    assert all(a < b for a, b in pairwise(found)), found
    assert found[-1] < 200


def test_tolerances_are_in_the_units_of_the_samples():
    """Data a hundred times as large on a process scaled with them: the same steps at a hundred
    times the tolerance."""
    steps = [
        counted(mixture(c).posterior(orn.EDM(80.0 * c)), steps="auto", tol=0.003 * c)
        for c in (1.0, 100.0)
    ]
    assert steps[0] == steps[1] > 8


def test_the_estimate_is_the_distance_of_two_runs():
    posterior = mixture().posterior(orn.VP())
    x_T = starts(posterior, STEP_TEST_SAMPLES, 3)
    found = steps_for(posterior, 0.01, "auto", x_T)
    gap = run(posterior, x_T, found.steps) - run(posterior, x_T, found.steps // 2)
    assert found.error == pytest.approx(float(gap.square().mean().sqrt()), rel=1e-9)
    assert found.error <= 0.01
    ladder = [8, 12, 16, 24, 32, 48, 64, 96, 128]
    before = ladder[ladder.index(found.steps) - 1]
    assert (
        float(
            (run(posterior, x_T, before) - run(posterior, x_T, before // 2)).square().mean().sqrt()
        )
        > 0.01
    )


def test_a_sample_does_not_depend_on_how_many_are_drawn():
    posterior = mixture().posterior(orn.VP())
    x = orn.sample(posterior, 64, "auto", tol=0.01, seed=2)
    assert torch.equal(orn.sample(posterior, 7, "auto", tol=0.01, seed=2), x[:7])
    assert torch.equal(
        orn.sample(posterior, 64, counted(posterior, steps="auto", tol=0.01, seed=2), seed=2), x
    )


@pytest.mark.parametrize("method", ["ddim", "heun"])
def test_other_methods_get_the_steps_that_they_need(method):
    """Within a tenth: for order 1 the distance to half as many steps is the error itself, of 64
    other samples."""
    posterior = mixture().posterior(orn.VP())
    x_T = starts(posterior, 128, 5)
    x = orn.sample(posterior, 128, "auto", method, x_T=x_T, tol=0.03)
    assert float((x - run(posterior, x_T, 200)).square().mean().sqrt()) <= 1.1 * 0.03


def test_what_has_no_such_error_is_refused():
    posterior = mixture().posterior(orn.VP())
    with pytest.raises(OrnsteinError, match="go together"):
        orn.sample(posterior, 4, tol=0.1)
    with pytest.raises(OrnsteinError, match="go together"):
        orn.sample(posterior, 4, "auto")
    with pytest.raises(OrnsteinError, match="only an ODE"):
        orn.sample(posterior, 4, "auto", "ancestral", tol=0.1)
    with pytest.raises(OrnsteinError, match="only an ODE"):
        orn.sample(posterior, 4, "auto", eta=0.5, tol=0.1)
    for tol in (0.0, -1.0, float("nan")):
        with pytest.raises(OrnsteinError, match="a positive tol"):
            orn.sample(posterior, 4, "auto", tol=tol)
    with pytest.raises(OrnsteinError, match="60 steps do not meet it"):
        steps_for(
            posterior, 1e-9, "auto", start_states(posterior, 4, None, orn.Noise(0)), max_steps=60
        )


class TestOfAModel:
    def test_the_tolerance_is_in_standard_deviations_of_the_data(self):
        model, tol = random_model(data_std=0.5), 0.02
        x_test = start_states(
            model.denoiser, STEP_TEST_SAMPLES, None, orn.Noise(1).fold(STEP_TEST_SAMPLES)
        )
        with torch.no_grad():
            steps = {
                c: steps_for(model.denoiser, tol * c, "auto", x_test).steps for c in (0.5, 1.0)
            }
        assert steps[0.5] > steps[1.0]  # the unit is seen
        x = model.sample(40, "auto", seed=1, tol=tol)
        torch.testing.assert_close(x, model.sample(40, steps[0.5], seed=1), rtol=1e-6, atol=1e-6)
        error = (x - model.sample(40, 200, seed=1)) / torch.tensor([2.0, 0.5])
        assert float(error.square().mean().sqrt()) <= tol * 0.5

    def test_the_number_of_steps_does_not_depend_on_the_batch(self):
        model = random_model(data_std=0.5)
        x = model.sample(20, "auto", tol=0.02)
        torch.testing.assert_close(
            model.sample(20, "auto", tol=0.02, batch=6), x, rtol=1e-5, atol=1e-5
        )

    def test_it_decides_for_the_run_that_follows(self):
        """The spacing counts, and noise is refused."""
        model = random_model(data_std=0.5)
        posterior, spacing = model.denoiser, orn.spacing.uniform
        chosen = orn.Sampler(default_sampler(posterior).method, 0.0, spacing)
        with torch.no_grad():
            steps = steps_for(
                posterior,
                0.02 * 0.5,
                chosen,
                start_states(
                    posterior, STEP_TEST_SAMPLES, None, orn.Noise(0).fold(STEP_TEST_SAMPLES)
                ),
            ).steps
        x = model.sample(5, "auto", tol=0.02, spacing=spacing)
        torch.testing.assert_close(x, model.sample(5, steps, spacing=spacing), rtol=1e-6, atol=1e-6)
        with pytest.raises(OrnsteinError, match="only an ODE"):
            model.sample(5, "auto", tol=0.02, eta=1.0)

    def test_a_tolerance_and_a_number_of_steps_exclude_each_other(self):
        with pytest.raises(OrnsteinError, match="tol"):
            random_model(data_std=0.5).sample(4, "auto")
        with pytest.raises(OrnsteinError, match="go together"):
            random_model(data_std=0.5).sample(4, 10, tol=0.1)
