"""Results of `sample_density` with named parameters: their law, exports, budgets, and densities
of infinite mass."""

import math

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.density.interop.export import load_npz
from ornstein.errors import OrnsteinError

pytestmark = pytest.mark.usefixtures("seeded_weights")

MU, TAU = torch.distributions.Normal(1.0, 0.5), torch.distributions.LogNormal(0.3, 0.4)
LOG_Z = 0.7


def log_prob(mu, tau):
    """Independent, mu normal and tau log-normal, so that mu and log tau are a Gaussian; times
    e^0.7."""
    return MU.log_prob(mu) + TAU.log_prob(tau) + LOG_Z


@pytest.fixture(scope="module")
def result():
    density = orn.Density.of(log_prob, mu=orn.supports.real(), tau=orn.supports.positive())
    with torch.random.fork_rng(devices=[]):
        return orn.sample_density(density, n=256, particles=256, training_steps=1)


def test_named_parameters_are_drawn_in_the_space_of_the_user(result):
    """tau is positive; means and variances of mu and tau within 5 standard errors of those of their
    laws, log Z too."""
    assert {name: value.shape for name, value in result.parameters.items()} == {
        "mu": (256,),
        "tau": (256,),
    }
    assert float(result.parameters["tau"].min()) > 0
    for name, law in (("mu", MU), ("tau", TAU)):
        x = result.parameters[name].double()
        squares = (x - law.mean).square()
        for drawn, exact in ((x, law.mean), (squares, law.variance)):
            assert (
                abs(float(drawn.mean() - exact))
                < 5 * float(drawn.std()) / min(result.ess, 256) ** 0.5
            )
    assert abs(result.log_z - LOG_Z) < 5 * result.log_z_stderr


def test_parameters_are_the_samples_mapped(result):
    """mu as it is, ``tau = e^z``."""
    torch.testing.assert_close(
        result.samples, torch.stack([result.parameters["mu"], result.parameters["tau"].log()], 1)
    )


def test_arviz_gets_the_result(result):
    pytest.importorskip("arviz", reason="ArviZ is not installed: pip install 'ornstein[arviz]'")
    posterior = result.to_inference_data().posterior
    assert set(posterior.data_vars) == {"mu", "tau"}
    for name, value in result.parameters.items():
        assert posterior[name].dims == ("chain", "draw")
        assert np.array_equal(posterior[name].values, value.numpy()[None])
    assert (
        posterior.attrs["log_z"] == result.log_z
        and posterior.attrs["log_z_stderr"] == result.log_z_stderr
    )
    assert (posterior.attrs["log_z_lower"], posterior.attrs["log_z_upper"]) == result.log_z_interval


def test_arviz_gets_a_vector_with_its_shape():
    pytest.importorskip("arviz", reason="ArviZ is not installed: pip install 'ornstein[arviz]'")
    density = orn.Density.of(lambda theta: -theta.square().sum() / 2, theta=orn.supports.real(2))
    r = orn.sample_density(density, n=64, particles=128, training_steps=1)
    drawn = r.to_inference_data().posterior["theta"].values
    assert drawn.shape == (1, 64, 2) and np.array_equal(drawn[0], r.samples.numpy())


def test_pandas_gets_the_result(result):
    pytest.importorskip("pandas", reason="pandas is not installed: pip install 'ornstein[arviz]'")
    frame = result.to_pandas()
    assert list(frame) == ["mu", "tau"] and len(frame) == 256
    for name, value in result.parameters.items():
        assert np.array_equal(frame[name], value.numpy())
    assert frame.attrs["log_z"] == result.log_z and frame.attrs["ess"] == result.ess


def test_a_file_brings_the_result_back(result, tmp_path):
    result.save(tmp_path / "draws.npz")
    draws, notes = load_npz(tmp_path / "draws.npz")
    assert draws.keys() == result.parameters.keys() and notes == result.notes
    for name, value in result.parameters.items():
        assert draws[name].dtype == value.dtype and torch.equal(draws[name], value)
    assert notes["log_z"] == result.log_z and notes["log_z_stderr"] == result.log_z_stderr


@pytest.mark.parametrize("limit", ["seconds", "evaluations"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan])
def test_a_budget_is_positive(limit, value):
    with pytest.raises(OrnsteinError, match=f"{limit}={value}.*both positive"):
        orn.Budget(**{limit: value})
    if limit == "seconds":
        with pytest.raises(OrnsteinError, match="both positive"):
            orn.sample_density(lambda x: -x.square().sum(1) / 2, 2, budget=value)


IMPROPER = {"constant": lambda x: 0 * x.sum(1), "a ridge": lambda x: -x[:, 0].square() / 2}


@pytest.mark.parametrize("name", IMPROPER)
def test_mass_without_end_is_named_not_numbered(name):
    """The integral is infinite: an error says so, or the code ``improper`` is among the
    warnings."""
    try:
        r = orn.sample_density(IMPROPER[name], 2, n=256, particles=256, training_steps=1)
    except OrnsteinError as error:
        assert "infinite" in str(error)
    else:
        assert "improper" in [warning.code for warning in r.warnings]
