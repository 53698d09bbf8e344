"""`sample_density`: log Z within its interval, samples with the right moments, and honest
complaints."""

import inspect
import math

import pytest
import torch

import ornstein as orn
from ornstein.errors import OrnsteinError

pytestmark = pytest.mark.usefixtures("seeded_weights")

SMALL = {"n": 64, "particles": 64, "stderr": 0.1}


def gaussian(cov, mean, log_z):
    exact = torch.distributions.MultivariateNormal(torch.tensor(mean), torch.tensor(cov))
    return exact, lambda x: exact.log_prob(x) + log_z


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_gaussian_needs_no_training(seed):
    """Correlated, shifted, Z = e^-3: no optimiser step; log Z, mean and covariance within 4
    standard errors."""
    exact, log_prob = gaussian([[2.0, 1.2], [1.2, 1.0]], [6.0, -3.0], -3.0)
    stages = []
    r = orn.sample_density(log_prob, 2, seed=seed, n=1000, particles=1024, callback=stages.append)
    assert [stage.name for stage in stages] == ["planned", "tempered", "importance-sampled"]
    assert not r.warnings
    assert stages[0].evaluations < stages[2].evaluations < r.evaluations
    assert stages[1].log_z == r.estimates["tempering"]
    assert (
        abs(r.log_z + 3) < 4 * r.log_z_stderr
        and r.log_z_interval[0] < r.log_z < r.log_z_interval[1]
    )
    assert r.elbo - 0.02 <= r.log_z <= r.eubo + 0.02 and r.ess > 900
    error = r.samples.std(0) / r.ess**0.5
    assert bool(((r.samples.mean(0) - exact.mean).abs() < 4 * error).all())
    torch.testing.assert_close(
        torch.cov(r.samples.mT).float(), exact.covariance_matrix, rtol=0.25, atol=0.1
    )  # 4 sqrt(2 / 1000) = 0.18
    more = r.sampler.sample(2000, 20, seed=4)
    assert bool(
        ((more.mean(0) - exact.mean).abs() < 5 * more.std(0) * (1 / 2000 + 1 / 1024) ** 0.5).all()
    )


def two_modes():
    return orn.targets.GaussianMixture(
        torch.tensor([[-3.0], [3.0]]), torch.full((2, 1), 0.7), torch.tensor([0.3, 0.7])
    )


@pytest.fixture(scope="module")
def learned():
    """One short run on two modes, Z = e^2."""
    target = two_modes()
    with torch.random.fork_rng(devices=[]):
        return orn.sample_density(
            lambda x: target.log_prob(x) + 2, 1, seed=0, n=2000, particles=1024, training_steps=150
        )


def test_two_modes_keep_their_masses(learned):
    """Trained for 150 steps: log Z and the mass of the right mode within 4 standard errors."""
    assert abs(learned.log_z - 2) < 4 * learned.log_z_stderr
    mass = float((learned.samples > 0).double().mean())
    assert abs(mass - 0.7) < 4 * (0.21 / learned.ess + 0.21 / 2000) ** 0.5
    assert learned.samples.shape == (2000, 1) and learned.ess > 0 and learned.seconds > 0


def test_same_seed_same_result_and_the_global_generator_is_left_alone(learned):
    target, before = two_modes(), torch.get_rng_state()
    again = orn.sample_density(
        lambda x: target.log_prob(x) + 2, 1, seed=0, n=2000, particles=1024, training_steps=150
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert again.log_z == learned.log_z and torch.equal(again.samples, learned.samples)
    assert again.evaluations == learned.evaluations


def test_evaluations_count_every_point():
    points = 0

    def log_prob(x):
        nonlocal points
        points += len(x)
        return -x.square().sum(1) / 2

    assert orn.sample_density(log_prob, 2, n=100, particles=128).evaluations == points


def test_regions_of_nan_are_reported_and_carry_no_mass():
    """NaN on the left half: what remains is half a Gaussian, log Z = log(1/2) within 4 standard
    errors, with a warning that counts."""

    def log_prob(x):
        return torch.where(x[:, 0] > 0, -x.square().sum(1) / 2 - math.log(2 * math.pi), math.nan)

    r = orn.sample_density(log_prob, 2, n=2000, particles=1024, training_steps=100)
    assert "bad-values" in [w.code for w in r.warnings]
    assert float(r.samples[:, 0].min()) > 0
    assert abs(r.log_z - math.log(0.5)) < 4 * r.log_z_stderr


def corners(x):
    """Uniform in four small boxes, which a Gaussian and a network after ten steps mostly miss."""
    inside = ((x.abs() - 3).abs() < 0.3).all(1)
    return torch.where(inside, 0.0 * x.sum(1), -torch.inf)


def test_a_bounded_support_that_the_model_mostly_misses_is_sampled():
    """Paths that end outside have weight 0: the log-variance of the others must not become NaN."""
    r = orn.sample_density(corners, 2, n=500, particles=1024, training_steps=10, start_std=3.0)
    assert bool(((r.samples.abs() - 3).abs() < 0.3).all())


def test_wrong_shapes_and_arguments_are_refused():
    with pytest.raises(OrnsteinError, match=r"returned shape \(3, 1\).*vmap"):
        orn.sample_density(lambda x: x[:, :1], 2)
    with pytest.raises(OrnsteinError, match="float"):
        orn.sample_density(lambda x: 0.5, 2)
    with pytest.raises(OrnsteinError, match="dim=0"):
        orn.sample_density(lambda x: x.sum(1), 0)
    with pytest.raises(OrnsteinError, match=r"-inf wherever.*start_mean"):
        orn.sample_density(lambda x: torch.full((len(x),), -torch.inf), 2)


@pytest.mark.parametrize(
    "options",
    [
        {"start_std": -1.0},
        {"start_std": 0.0},
        {"start_std": math.nan},
        {"stderr": 0.0},
        {"stderr": -0.1},
        {"n": 1},
        {"n": -5},
        {"particles": 0},
        {"training_steps": 0},
        {"start_mean": math.nan},
    ],
)
def test_arguments_out_of_range_are_named(options):
    with pytest.raises(OrnsteinError, match=next(iter(options))):
        orn.sample_density(lambda x: -x.square().sum(1) / 2, 2, **options)


def unchecked(function, /, *args, **keywords):
    """Call a function without the checks of annotations that the tests put around it."""
    return inspect.unwrap(function)(*args, **keywords)


@pytest.mark.parametrize(
    "options",
    [
        {"n": 100.0},
        {"n": None},
        {"particles": 64.5},
        {"training_steps": 1.5},
        {"stderr": "small"},
        {"start_mean": "left"},
        {"budget": "a minute"},
        {"budget": None},
    ],
)
def test_arguments_of_the_wrong_type_are_named(options):
    """What a user without a type checker meets is an `OrnsteinError` with the name in it."""
    with pytest.raises(OrnsteinError, match=next(iter(options))):
        unchecked(orn.sample_density, lambda x: -x.square().sum(1) / 2, 2, **options)


def test_keywords_of_the_previous_release_work_and_warn():
    stages = []
    old = {"steps": 1, "report": stages.append}
    with pytest.warns(DeprecationWarning) as warned:
        r = orn.sample_density(what=lambda x: -x.square().sum(1) / 2, dim=2, **SMALL, **old)
    assert {str(warning.message).split(";")[0] for warning in warned} == {
        "steps= is now training_steps=",
        "report= is now callback=",
        "what= is now log_prob=",
    }
    again = orn.sample_density(lambda x: -x.square().sum(1) / 2, 2, training_steps=1, **SMALL)
    assert stages and again.log_z == r.log_z
    with pytest.raises(OrnsteinError, match="pass one of the two"):
        orn.sample_density(lambda x: -x.square().sum(1) / 2, 2, training_steps=1, steps=1)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_mode_without_gradients_changes_nothing(mode):
    """The same numbers; gradients are on in every stage; the model can be differentiated."""
    modes = []

    def note(stage):
        modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    def log_prob(x):
        return -x.square().sum(1) / 2

    expected = orn.sample_density(log_prob, 2, **SMALL)
    with mode():
        start = torch.zeros(2)
        r = orn.sample_density(log_prob, 2, start_mean=start, callback=note, **SMALL)
    assert r.log_z == expected.log_z and torch.equal(r.samples, expected.samples)
    assert modes == [(True, False)] * 3
    x = r.samples.float().requires_grad_()
    r.sampler.denoiser(x, torch.tensor(0.5)).mean.sum().backward()
    assert x.grad is not None and not r.samples.is_inference()


def test_double_precision_may_be_the_default():
    """A run and more draws under ``torch.set_default_dtype(torch.float64)``."""
    torch.set_default_dtype(torch.float64)
    try:
        r = orn.sample_density(lambda x: -x.square().sum(1) / 2, 2, **SMALL)
        draws = r.draw_smc(64)
    finally:
        torch.set_default_dtype(torch.float32)
    assert abs(r.log_z - math.log(2 * math.pi)) < 5 * r.log_z_stderr + 1e-6
    assert bool(draws.log_w.isfinite().all())


def test_a_result_describes_itself():
    """``repr`` and the table of a notebook have log Z with its interval, sizes and warnings."""
    r = orn.sample_density(lambda x: -x.square().sum(1) / 2, 2, **SMALL)
    text, table = repr(r), r._repr_html_()
    shown = (f"{r.log_z:.4f} +- {r.log_z_stderr:.4f}", f"{r.evaluations} evaluations", "none")
    for part in (*shown, "effective sample size", "k-hat"):
        assert part in text and part in table
    assert len(text.splitlines()) < 24 and table.startswith("<table>")
    assert r.log_z_estimate == (r.log_z_estimate) and tuple(r.log_z_estimate) == (
        r.log_z,
        r.log_z_stderr,
    )
    assert r.log_z_estimate.interval == r.log_z_interval


@pytest.mark.slow
def test_eight_schools():
    """``|log Z - exact| <= 0.05`` and within 4 standard errors (the 95 % interval would fail one
    run in twenty); posterior means within 0.05 posterior standard deviations plus 4 standard errors
    of the resampled ones."""
    target = orn.targets.EightSchools()
    r = orn.sample_density(target.log_prob, 10, seed=0)
    assert abs(r.log_z - target.log_z) <= 0.05 and abs(r.log_z - target.log_z) < 4 * r.log_z_stderr
    deviation = (
        target.parameters(r.samples.double()).mean(0) - target.exact_mean
    ) / target.exact_std
    assert float(deviation.abs().max()) < 0.05
