"""Eight schools written in JAX, NumPyro, PyMC and Stan against the target of `orn.targets`, and
models with awkward supports."""

import math
import shutil

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

import ornstein as orn
from ornstein.density.interop.jax import batch_size
from ornstein.errors import OrnsteinError

SCHOOLS = orn.targets.EightSchools()
Y, SE = np.array(SCHOOLS.y), np.array(SCHOOLS.s)
STAN = """
data { int J; vector[J] y; vector<lower=0>[J] sigma; }
parameters { real mu; real<lower=0> tau; vector[J] theta; }
model {
  mu ~ normal(0, 5);
  tau ~ cauchy(0, 5);
  target += log(2);  // of the half of the Cauchy
  theta ~ normal(mu, tau);
  y ~ normal(theta, sigma);
}
generated quantities {
  real average = mean(theta);
  matrix[2, 3] places;
  for (i in 1:2) for (j in 1:3) places[i, j] = 10 * i + j;
}
"""


def numpyro_schools(y, sigma=None):
    numpyro, dist = pytest.importorskip("numpyro"), pytest.importorskip("numpyro.distributions")
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(y)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)
    numpyro.deterministic("average", theta.mean())


def of_numpyro():
    pytest.importorskip(
        "numpyro", reason="NumPyro is not installed: pip install 'ornstein[numpyro]'"
    )
    return orn.from_numpyro(numpyro_schools, Y, sigma=SE)


def of_pymc():
    pm = pytest.importorskip("pymc", reason="PyMC is not installed: pip install 'ornstein[pymc]'")
    with pm.Model(coords={"school": list("abcdefgh")}) as model:
        mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
        theta = pm.Normal("theta", mu, tau, dims="school")
        pm.Normal("y", theta, SE, observed=Y)
        pm.Deterministic("average", theta.mean())
    return in_python(orn.from_pymc, model)


def in_python(function, *arguments):
    """PyTensor without C code, which would take a minute to compile where nothing is cached."""
    import pytensor

    with pytensor.config.change_flags(mode="FAST_COMPILE", linker="py", cxx=""):
        return function(*arguments)


def of_stan():
    pytest.importorskip(
        "httpstan", reason="httpstan is not installed: pip install 'ornstein[stan]'"
    )
    if not shutil.which("g++"):
        pytest.skip("no C++ compiler")
    return orn.from_stan(STAN, {"J": 8, "y": Y, "sigma": torch.tensor(SCHOOLS.s)})


MODELS = [
    of_numpyro,
    of_pymc,
    pytest.param(of_stan, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
]


@pytest.fixture(scope="module", params=MODELS, ids=lambda make: make.__name__)
def schools(request):
    return request.param()


@pytest.fixture(scope="module")
def points():
    """Exact draws of the posterior in (mu, log tau, theta), and log rho there."""
    z = SCHOOLS.sample(32, seed=0, dtype=torch.float64)
    mu, log_tau, theta = z[:, :1], z[:, 1:2], SCHOOLS.parameters(z)[:, 2:]
    centred = torch.cat([mu, log_tau, theta], 1)
    return centred, centred_log_prob(centred)


def centred_log_prob(z):
    """The target has (mu, log tau, eta) with theta = mu + tau eta: log rho less the Jacobian
    tau^8."""
    eta = (z[:, 2:] - z[:, :1]) / z[:, 1:2].exp()
    return SCHOOLS.log_prob(torch.cat([z[:, :2], eta], 1)) - 8 * z[:, 1]


class TestEightSchools:
    """All constants included, so log Z is that of the target: -31.311348."""

    def test_has_the_density_of_the_target(self, schools, points):
        z, expected = points
        assert schools.dim == 10
        assert torch.allclose(schools(z), expected, atol=1e-6)
        assert torch.allclose(schools(z.float()), expected.float(), rtol=1e-5)

    def test_has_the_gradient_of_the_target_and_of_finite_differences(self, schools, points):
        z = points[0].clone().requires_grad_()
        weight = torch.linspace(-1, 2, len(z), dtype=torch.float64)
        slopes = [
            torch.autograd.grad((weight * value).sum(), z)[0]
            for value in (schools(z), centred_log_prob(z))
        ]
        assert torch.allclose(*slopes, rtol=1e-8, atol=1e-8)
        steps = 1e-5 * torch.eye(10, dtype=torch.float64)
        with torch.no_grad():
            seen = torch.stack(
                [(schools(z + step) - schools(z - step)) / 2e-5 for step in steps], 1
            )
        assert torch.allclose(slopes[0], weight[:, None] * seen, rtol=1e-5, atol=1e-6)

    def test_names_its_draws(self, schools, points):
        z, _ = points
        draws = schools.constrain(z.float())
        assert {name: schools.shapes[name] for name in ("mu", "tau", "theta", "average")} == {
            "mu": (), "tau": (), "theta": (8,), "average": ()}  # fmt: skip
        assert draws.keys() == schools.shapes.keys()
        assert torch.allclose(draws["tau"], z[:, 1].exp().float(), rtol=1e-5)
        assert torch.allclose(draws["theta"], z[:, 2:].float(), rtol=1e-5)
        assert torch.allclose(draws["average"], z[:, 2:].mean(1).float(), rtol=1e-4, atol=1e-5)
        if "places" in draws:
            assert torch.equal(draws["places"][5], torch.tensor([[11.0, 12, 13], [21, 22, 23]]))

    def test_is_the_same_one_by_one(self, schools, points):
        z, expected = points
        assert torch.allclose(
            torch.cat([schools(row[None]) for row in z[:5]]), expected[:5], atol=1e-6
        )


def logistic(n, dim):
    """Points with tails heavier than those of any support here, and their log-density."""
    z = torch.logit(orn.Noise(0).uniform((n, dim), torch.float64).clamp(1e-12, 1 - 1e-12))
    return z, (-z - 2 * softplus(-z)).sum(1)


def test_constrained_pymc_models_integrate_to_one():
    """A Dirichlet, a Beta and ordered normals (which have 1 / 2 of their mass in order): within 4
    standard errors, seed 0."""
    pm = pytest.importorskip("pymc")
    with pm.Model() as model:
        pm.Dirichlet("p", np.array([2.0, 3.0, 1.5]))
        pm.Beta("share", 2.0, 3.0)
        pm.Normal(
            "cuts",
            0,
            1,
            shape=2,
            transform=pm.distributions.transforms.ordered,
            initval=[-1.0, 1.0],
        )
    density = in_python(orn.as_density, model)
    z, log_q = logistic(16_384, density.dim)
    estimate = orn.log_z(density(z) - log_q)
    assert abs(estimate.value + math.log(2)) < 4 * estimate.stderr < 0.2
    draws = density.constrain(z[:100])
    assert torch.allclose(draws["p"].sum(1), torch.ones(100, dtype=torch.float64))
    assert bool((draws["cuts"].diff(dim=1) > 0).all())


def test_constrained_numpyro_models_integrate_to_one():
    """A simplex between two scales: within 4 standard errors, seed 0."""
    numpyro, dist = pytest.importorskip("numpyro"), pytest.importorskip("numpyro.distributions")

    def model():
        numpyro.sample("width", dist.HalfNormal(2.0))
        numpyro.sample("p", dist.Dirichlet(np.array([2.0, 3.0, 1.5])))
        numpyro.sample("scale", dist.LogNormal(0.0, 1.0).expand([2]).to_event(1))

    density = orn.from_numpyro(model)
    assert dict(density.shapes) == {"width": (), "p": (3,), "scale": (2,)}
    z, log_q = logistic(16_384, density.dim)
    estimate = orn.log_z(density(z) - log_q)
    assert abs(estimate.value) < 4 * estimate.stderr < 0.2


def test_pymc_models_carry_their_axes():
    density = of_pymc()
    assert density.axes["theta"] == ("school",)
    assert density.labels["school"] == tuple("abcdefgh")
    assert density.start.shape == (10,)


class TestNumPy:
    """A gradient is compared with differences of the value at several points, not at one."""

    def test_a_gradient_that_is_wrong_in_some_places_is_refused(self):
        """Wrong near the origin only, far away only, or on one side."""
        places = (
            lambda x: np.abs(x).max(-1, keepdims=True) < 0.2,
            lambda x: np.abs(x).max(-1, keepdims=True) > 2.5,
            lambda x: x[..., :1] > 0,
        )
        for wrong in places:

            def fn(x, wrong=wrong):
                return -(x**2).sum(-1) / 2, np.where(wrong(x), 0.5, 1.0) * -x

            with pytest.raises(OrnsteinError, match="gradient is not that of the value"):
                orn.from_numpy(fn, 2)

    @pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
    def test_a_right_gradient_is_accepted_at_any_scale_and_with_a_kink(self, scale):
        def fn(x):
            value = -((x / scale) ** 2).sum(-1) / 2 - np.abs(x / scale).sum(-1)
            return value, -x / scale**2 - np.sign(x) / scale

        z = torch.ones(1, 3, dtype=torch.float64)
        assert float(orn.from_numpy(fn, 3)(z)) == pytest.approx(-1.5 / scale**2 - 3 / scale)

    @pytest.mark.parametrize(
        "fn",
        [
            lambda x: -np.sum(np.cos(x.numpy())),
            lambda x: -np.square(x.numpy()).sum(-1),
            lambda x: torch.as_tensor(-np.square(x.numpy()).sum(-1)),
        ],
    )
    def test_a_function_without_gradient_is_told_what_to_do(self, fn):
        with pytest.raises(OrnsteinError, match="from_numpy"):
            orn.sample_density(fn, dim=3, n=64)


class TestJAX:
    def test_values_and_gradients_are_those_of_the_function(self):
        jnp = pytest.importorskip(
            "jax.numpy", reason="JAX is not installed: pip install 'ornstein[jax]'"
        )
        density = orn.from_jax(lambda x: -jnp.logaddexp(x, -x).sum() + x[0] * x[1], 3)
        for n in (1, 5, 7, 8):
            z = orn.Noise(n).normal((n, 3), torch.float64).requires_grad_()
            expected = -torch.logaddexp(z, -z).sum(1) + z[:, 0] * z[:, 1]
            assert torch.allclose(density(z), expected, atol=1e-12)
            slopes = (torch.autograd.grad(value.sum(), z)[0] for value in (density(z), expected))
            assert torch.allclose(*slopes, atol=1e-12)

    def test_leaves_the_precision_of_jax_alone(self):
        jnp = pytest.importorskip("jax.numpy")
        orn.from_jax(lambda x: -(x @ x), 2)(torch.zeros(3, 2, dtype=torch.float64))
        assert jnp.ones(1).dtype == np.float32

    @pytest.mark.parametrize(
        ("fn", "words"),
        [(lambda x: -x, r"returned \(3,\), need a scalar"), (lambda x: x @ np.ones(4), "fails")],
    )
    def test_misfits_are_named(self, fn, words):
        pytest.importorskip("jax")
        with pytest.raises(OrnsteinError, match=words):
            orn.from_jax(fn, 3)

    def test_batches_are_filled_up_by_at_most_half(self):
        sizes = [batch_size(n) for n in range(1, 5000)]
        assert all(n <= size <= 1.5 * n for n, size in enumerate(sizes, 1))
        assert len(set(sizes)) <= 2 * math.log2(5000) + 1


class TestMisfits:
    def test_discrete_variables_are_named(self):
        numpyro, dist = pytest.importorskip("numpyro"), pytest.importorskip("numpyro.distributions")

        def model():
            numpyro.sample("k", dist.Categorical(np.ones(3) / 3))

        with pytest.raises(OrnsteinError, match="discrete latent sites k"):
            orn.from_numpyro(model)
        pm = pytest.importorskip("pymc")
        with pm.Model() as discrete:
            pm.Poisson("count", 3.0)
        with pytest.raises(OrnsteinError, match="discrete variables count"):
            orn.from_pymc(discrete)

    def test_models_without_unknowns_are_refused(self):
        pytest.importorskip("numpyro")
        with pytest.raises(OrnsteinError, match="no latent"):
            orn.from_numpyro(lambda: None)
        with pytest.raises(OrnsteinError, match=r"needs a pymc\.Model, got int"):
            orn.from_pymc(3)

    def test_stan_speaks_for_itself(self, tmp_path):
        pytest.importorskip("httpstan")
        with pytest.raises(OrnsteinError, match=r"not valid:(.|\n)*Syntax error"):
            orn.from_stan("parameters { real }")
        with pytest.raises(OrnsteinError, match="there is no file"):
            orn.from_stan(tmp_path / "missing.stan")

    @pytest.mark.slow
    @pytest.mark.timeout(900)
    def test_data_that_do_not_fit_a_stan_program_are_told(self):
        of_stan()
        with pytest.raises(OrnsteinError, match=r"data do not fit(.|\n)*sigma"):
            orn.from_stan(STAN, {"J": 8, "y": Y})

    def test_a_missing_package_says_how_to_install_it(self, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "httpstan", None)
        with pytest.raises(OrnsteinError, match=r"pip install 'ornstein\[stan\]'"):
            orn.from_stan(STAN, {})
