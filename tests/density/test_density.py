"""What can be handed to `orn.sample_density`: callables of either kind, distributions, targets,
named parameters, NumPy functions."""

import math
from threading import Barrier, Event, Thread

import numpy as np
import pytest
import torch
from torch import distributions as law
from torch.nn.functional import softplus

import ornstein as orn
from ornstein.density.vectorise import vectorise, without_validation
from ornstein.errors import OrnsteinError

S = orn.supports
Z = orn.Noise(5).normal((7, 10), torch.float64)
Y, SE = torch.tensor(orn.targets.EightSchools.y), torch.tensor(orn.targets.EightSchools.s)


def schools_of_a_point(mu, tau, theta):
    prior = (
        law.Normal(0.0, 5.0).log_prob(mu)
        + law.HalfCauchy(5.0).log_prob(tau)
        + law.Normal(mu, tau).log_prob(theta).sum()
    )
    return prior + law.Normal(theta, SE).log_prob(Y).sum()


def schools_of_a_batch(mu, tau, theta):
    prior = law.Normal(0.0, 5.0).log_prob(mu) + law.HalfCauchy(5.0).log_prob(tau)
    return prior + (
        law.Normal(mu[:, None], tau[:, None]).log_prob(theta) + law.Normal(theta, SE).log_prob(Y)
    ).sum(1)


@pytest.mark.parametrize("log_prob", [schools_of_a_point, schools_of_a_batch])
class TestNamedParameters:
    def density(self, log_prob):
        return orn.Density.of(log_prob, mu=S.real(), tau=S.positive(), theta=S.real(8))

    def test_are_the_density_of_the_target_in_other_coordinates(self, log_prob):
        """(mu, log tau, theta) and (mu, log tau, eta), theta = mu + tau eta, differ by the Jacobian
        tau^8."""
        target, density = orn.targets.EightSchools(), self.density(log_prob)
        mu, log_tau, theta = Z[:, :1], Z[:, 1:2], 10 * Z[:, 2:]
        z = torch.cat([mu, log_tau, theta], 1).requires_grad_()
        eta = torch.cat([z[:, :2], (z[:, 2:] - z[:, :1]) / z[:, 1:2].exp()], 1)
        expected = target.log_prob(eta) - 8 * z[:, 1]
        assert torch.allclose(density(z), expected, atol=1e-5)
        slopes = (
            torch.autograd.grad(value.sum(), z, retain_graph=True)[0]
            for value in (density(z), expected)
        )
        assert torch.allclose(*slopes, rtol=1e-5, atol=1e-4)

    def test_come_back_by_name(self, log_prob):
        density = self.density(log_prob)
        draws = density.constrain(Z)
        assert {name: tuple(x.shape) for name, x in draws.items()} == {
            "mu": (7,),
            "tau": (7,),
            "theta": (7, 8),
        }
        assert torch.allclose(draws["tau"], Z[:, 1].exp())
        assert torch.allclose(density.unconstrain(draws), Z)
        assert dict(density.shapes) == {"mu": (), "tau": (), "theta": (8,)}


def test_a_density_on_every_support_integrates_to_one():
    """E[w] = 1 over simplex, correlations, positive and interval at once: within 4 standard errors,
    seed 0."""

    def log_prob(p, chol, scale, share):
        return (
            law.Dirichlet(torch.tensor([2.0, 3.0, 4.0], dtype=p.dtype)).log_prob(p)
            + law.LKJCholesky(2, 2.0).log_prob(chol)
            + law.Gamma(2.0, 1.0).log_prob(scale)
            + law.Beta(2.0, 2.0).log_prob(share / 3) - math.log(3)
        )  # fmt: skip

    density = orn.Density.of(
        log_prob,
        p=S.simplex(3),
        chol=S.correlation_cholesky(2),
        scale=S.positive(),
        share=S.interval(0.0, 3.0),
    )
    z = torch.logit(
        orn.Noise(0).uniform((100_000, density.dim), torch.float64).clamp(1e-12, 1 - 1e-12)
    )
    log_q = (-z - 2 * softplus(-z)).sum(1)
    estimate = orn.log_z(density(z) - log_q)
    assert abs(estimate.value) < 4 * estimate.stderr < 0.1


def test_samples_of_a_constrained_density_have_its_law():
    """tau half-normal, mu given tau normal: log Z = 0 and E[tau] = sqrt(2 / pi), within 5 standard
    errors and Monte Carlo error."""

    def log_prob(mu, tau):
        return law.HalfNormal(1.0).log_prob(tau) + law.Normal(3.0, tau + 0.5).log_prob(mu)

    density = orn.Density.of(log_prob, mu=S.real(), tau=S.positive())
    r = orn.sample_density(density.log_prob, density.dim, n=2048, particles=1024, training_steps=20)
    draws = density.constrain(r.samples)
    assert abs(r.log_z) < 5 * r.log_z_stderr + 0.01
    error = math.sqrt(1 / r.ess + 1 / 2048)  # of the weights, and of 2048 draws by them
    assert (
        abs(float(draws["tau"].mean()) - math.sqrt(2 / math.pi))
        < 5 * float(draws["tau"].std()) * error
    )
    assert abs(float(draws["mu"].mean()) - 3) < 5 * float(draws["mu"].std()) * error


class TestCallables:
    @pytest.mark.parametrize("d", [1, 2, 3, 4, 5])
    @pytest.mark.parametrize(
        "log_prob",
        [
            lambda x: -x.square().sum(-1) / 2,
            lambda x: -x.square().sum() / 2,
            lambda x: -(x @ x) / 2,
            lambda x: (
                law.Normal(0.0, 1.0).log_prob(x).sum()
                + x.numel() / x.numel() * len(x) * 0.5 * math.log(2 * math.pi)
            ),
        ],
        ids=["batch", "sum of a point", "product of a point", "checked law of a point"],
    )
    def test_of_a_point_or_a_batch_are_told_apart(self, log_prob, d):
        x = Z[:, :d]
        assert torch.allclose(orn.as_density(log_prob, d)(x), -x.square().sum(1) / 2)

    def test_in_double_precision_are_served_in_it(self):
        matrix = torch.eye(3, dtype=torch.float64)
        density = orn.as_density(lambda x: -(x @ matrix).square().sum(1) / 2, 3)
        assert torch.allclose(density(Z[:, :3].float()), -Z[:, :3].square().sum(1) / 2, atol=1e-6)

    def test_cost_the_trials_that_are_told(self):
        calls = []

        def counted(x):
            calls.append(len(x))
            return -x.square().sum(1)

        assert orn.as_density(counted, 4).trials == sum(calls)

    def test_that_mix_their_rows_are_refused(self):
        with pytest.raises(OrnsteinError, match="a row depends on the others"):
            orn.as_density(lambda x: x[:, 0] - x.mean() if x.ndim == 2 else x, 2)

    @pytest.mark.parametrize(
        ("log_prob", "words"),
        [
            (lambda x: x, r"returned shape \(3, 2\)"),
            (lambda x: 1.0, "returned float"),
            (lambda x: undefined, "NameError: name 'undefined'"),
            (lambda x: torch.tensor(0.0) if x.sum().item() > 0 else x.sum(), "can be looped"),
        ],
    )
    def test_that_are_neither_are_refused_in_words(self, log_prob, words):
        with pytest.raises(OrnsteinError, match=words):
            orn.as_density(log_prob, 2)

    def test_leave_the_checks_of_distributions_as_they_were(self):
        vectorise(lambda x: law.Normal(0.0, 1.0).log_prob(x).sum(), Z[:3], "f")
        with pytest.raises(ValueError, match="scale"):
            law.Normal(0.0, -1.0)


class TestDistributions:
    @pytest.mark.parametrize(
        "one",
        [
            law.MultivariateNormal(torch.ones(3), torch.eye(3) + 0.5),
            law.HalfCauchy(2.0),
            law.Dirichlet(torch.tensor([1.0, 2.0, 3.0])),
            law.Independent(law.Uniform(torch.tensor([0.0, 5.0]), torch.tensor([1.0, 9.0])), 1),
            law.MixtureSameFamily(
                law.Categorical(torch.ones(2)), law.Normal(torch.tensor([0.0, 5.0]), torch.ones(2))
            ),
            law.Independent(law.LogNormal(torch.zeros(2, 2), 1.0), 2),
        ],
        ids=lambda one: type(one).__name__,
    )
    def test_have_their_own_density_and_the_jacobian_of_autograd(self, one):
        density = orn.as_density(one)
        z = Z[:4, : density.dim].float()
        x = density.constrain(z)["x"]
        assert x.shape == (4, *one.event_shape)
        free = (lambda x: x[:-1]) if isinstance(one, law.Dirichlet) else torch.flatten
        for k in range(4):
            jacobian = torch.autograd.functional.jacobian(
                lambda v: free(density.constrain(v[None])["x"][0]), z[k]
            )
            expected = (
                one.log_prob(x[k])
                + torch.linalg.slogdet(jacobian.reshape(density.dim, density.dim))[1]
            )
            assert float(density(z)[k]) == pytest.approx(float(expected), abs=1e-4)

    @pytest.mark.parametrize(
        ("one", "words"),
        [
            (law.Normal(torch.zeros(3), 1.0), r"Independent\(law, 1\)"),
            (law.Poisson(3.0), "marginalise"),
            (law.Wishart(torch.tensor(4.0), torch.eye(2)), "no smooth map"),
        ],
    )
    def test_that_do_not_fit_are_refused(self, one, words):
        with pytest.raises(OrnsteinError, match=words):
            orn.as_density(one)


class TestTargets:
    def test_are_taken_as_they_are(self):
        funnel = orn.targets.Funnel(10)
        density = orn.as_density(funnel)
        assert density.dim == 10
        assert torch.equal(density(Z), funnel.log_prob(Z))
        assert torch.equal(density.constrain(Z)["x"], Z)

    def test_with_named_parameters_give_them(self):
        schools = orn.targets.EightSchools()
        draws = orn.as_density(schools).constrain(Z)
        expected = schools.parameters(Z)
        assert torch.equal(draws["mu"], expected[:, 0])
        assert torch.equal(draws["theta"], expected[:, 2:])

    def test_and_densities_pass_through(self):
        density = orn.as_density(orn.targets.Funnel(3))
        assert orn.as_density(density, 3) is density


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: orn.as_density(3.0, 2), "float is no density"),
        (lambda: orn.as_density(lambda x: x.sum(1)), "pass dim="),
        (lambda: orn.as_density(lambda x: x.sum(1), 0), "at least 1"),
        (lambda: orn.as_density(orn.targets.Funnel(3), 4), "has 3 unconstrained"),
        (lambda: orn.Density.of(lambda: 0.0), "names no parameters"),
        (lambda: orn.Density.of(lambda y: y, x=S.real()), "unexpected keyword argument 'x'"),
        (
            lambda: orn.as_density(orn.targets.Funnel(3)).constrain(torch.zeros(3)),
            r"a batch \(n, 3\)",
        ),
        (
            lambda: orn.as_density(orn.targets.Funnel(3)).unconstrain({"y": torch.zeros(1, 3)}),
            r"need \['x'\]",
        ),
        (
            lambda: orn.as_density(orn.targets.EightSchools()).unconstrain(
                {"mu": Z[:, 0], "tau": Z[:, 0], "theta": Z[:, 2:]}
            ),
            "inverse",
        ),
        (lambda: orn.Density(lambda z: z.sum(1), 3, start=torch.zeros(2)), r"need \(3,\)"),
    ],
)
def test_misfits_are_named(make, words):
    with pytest.raises(OrnsteinError, match=words):
        make()


class TestNumPy:
    def batch(self, x):
        return -np.logaddexp(x, -x).sum(-1), -np.tanh(x)

    def point(self, x):
        assert x.shape == (3,)
        return self.batch(x)

    @pytest.mark.parametrize("kind", ["batch", "point"])
    def test_values_and_gradients_are_those_of_the_function(self, kind):
        density = orn.from_numpy(getattr(self, kind), 3)
        z = Z[:, :3].clone().requires_grad_()
        expected = -torch.logaddexp(z, -z).sum(1)
        assert torch.allclose(density(z), expected, atol=1e-12)
        weight = torch.arange(7.0, dtype=torch.float64)
        slopes = (
            torch.autograd.grad((weight * value).sum(), z)[0] for value in (density(z), expected)
        )
        assert torch.allclose(*slopes, atol=1e-12)
        assert density(z.float()).dtype == torch.float32

    def test_points_outside_the_support_do_not_spoil_gradients(self):
        def half(x):
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.log(x[:, 0]) - x[:, 0], 1 / np.where(x > 0, x, np.nan) - 1

        z = torch.tensor([[2.0], [-1.0]], requires_grad=True)
        value = orn.from_numpy(lambda x: (np.nan_to_num(half(x)[0], nan=-np.inf), half(x)[1]), 1)(z)
        assert torch.equal(torch.isneginf(value), torch.tensor([False, True]))
        (slope,) = torch.autograd.grad(value[torch.isfinite(value)].sum(), z)
        assert torch.equal(slope, torch.tensor([[-0.5], [0.0]]))

    @pytest.mark.parametrize(
        ("fn", "words"),
        [
            (lambda x: (-(x**2).sum(-1), -x), "says .*central differences"),
            (lambda x: -(x**2).sum(-1), "as a function of a batch .*as one of a point"),
            (lambda x: (-(x**2).sum(-1), -2 * x.sum()), r"returned shapes \(4,\) and \(\)"),
        ],
        ids=["a wrong gradient", "no gradient", "a gradient of another shape"],
    )
    def test_misfits_are_named(self, fn, words):
        with pytest.raises(OrnsteinError, match=words):
            orn.from_numpy(fn, 3)


def test_threads_leave_the_checks_of_torch_distributions_as_they_were():
    """Two threads are inside at once: the checks are off until the last of them has left."""
    validate = law.Distribution._validate_args
    both_inside, leave_last = Barrier(2), Event()

    def first():
        with without_validation():
            both_inside.wait()
        states.append(law.Distribution._validate_args)
        leave_last.set()

    def last():
        with without_validation():
            both_inside.wait()
            leave_last.wait()

    states = []
    threads = [Thread(target=first), Thread(target=last)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == [False] and law.Distribution._validate_args is validate
