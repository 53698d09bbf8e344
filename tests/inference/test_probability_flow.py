"""The likelihood of the probability flow: within its reported error of the exact one, for every
process, and what its parts mean."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import ornstein as orn
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.simulation.loop import simulate
from ornstein.errors import OrnsteinError
from ornstein.inference.likelihood.terminal import terminal
from ornstein.inference.sampling.sample import grid

DOUBLE = torch.float64
BETAS = tuple(np.linspace(1e-4, 0.02, 1000))
PROCESSES = {
    "VP": orn.VP(),
    "EDM": orn.EDM(),
    "VE": orn.VE(sigma_max=10.0),
    "Cosine": orn.Cosine(),
    "RectifiedFlow": orn.RectifiedFlow(),
    "OU": orn.OU(T=3.0),
    "SubVP": orn.SubVP(),
    "DiscreteVP": orn.DiscreteVP(BETAS),
}
RULES = {"exact": orn.likelihood.trace.Exact(), "Hutchinson": orn.likelihood.trace.Hutchinson(16)}


def mixture(d: int, seed: int):
    """Two to six components, means twice a standard normal, standard deviations and weights ``.1 +
    U(0, 1)``."""
    noise = orn.Noise(seed)
    k = 2 + int(5 * noise.fold(0).uniform((1,), DOUBLE))
    means, stds = (
        2 * noise.fold(1).normal((k, d), DOUBLE),
        0.1 + noise.fold(2).uniform((k, d), DOUBLE),
    )
    return orn.targets.GaussianMixture(means, stds, 0.1 + noise.fold(3).uniform((k,), DOUBLE))


def normal(mean, std, d: int = 3):
    return orn.targets.Normal(
        torch.full((d,), mean, dtype=DOUBLE), torch.full((d,), std, dtype=DOUBLE)
    )


@dataclass(frozen=True)
class FullGaussian:
    """The exact posterior mean of ``N(mean, cov)``: ``m + alpha C (alpha^2 C + sigma^2)^-1 (x -
    alpha m)``."""

    sde: LinearSDE
    mean: torch.Tensor
    cov: torch.Tensor

    @property
    def data_std(self) -> float:
        return float(self.cov.diagonal().mean().sqrt())

    def __call__(self, x, t) -> Gaussian:
        alpha, sigma = float(self.sde.alpha(t)), float(self.sde.sigma(t))
        gain = (
            alpha
            * self.cov
            @ torch.linalg.inv(
                alpha**2 * self.cov + sigma**2 * torch.eye(len(self.mean), dtype=DOUBLE)
            )
        )
        return Gaussian(self.mean + (x - alpha * self.mean) @ gain.T, torch.zeros((), dtype=DOUBLE))


def full_gaussian(sde, d: int = 5) -> FullGaussian:
    a = orn.Noise(8).normal((d, d), DOUBLE)
    return FullGaussian(
        sde, orn.Noise(9).normal((d,), DOUBLE), a @ a.T / d + 0.1 * torch.eye(d, dtype=DOUBLE)
    )


def inside(found, exact) -> float:
    """Fraction of points within three errors."""
    return float(((found.value - exact).abs() <= 3 * found.error).double().mean())


class TestLaterTimes:
    @pytest.mark.parametrize("process", ["VP", "EDM", "RectifiedFlow"])
    def test_density_of_noised_data(self, process):
        """``at=t`` is the mixture with means alpha m and deviations ``sqrt(alpha^2 s^2 +
        sigma^2)``, within three errors."""
        sde, target = PROCESSES[process], mixture(2, seed=0)
        t = 0.3 * sde.T
        alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
        noised = orn.targets.GaussianMixture(
            alpha * target.means, (alpha**2 * target.stds**2 + sigma**2).sqrt(), target.weights
        )
        x = noised.sample(50, seed=1).double()
        found = orn.log_likelihood(target.posterior(sde), x, at=t)
        assert inside(found, noised.log_prob(x)) >= 0.95
        assert float((found.value - noised.log_prob(x)).abs().max()) < 1e-3

    @pytest.mark.parametrize("at", [-0.1, 1.0, math.nan])
    def test_times_outside_are_refused(self, at):
        with pytest.raises(OrnsteinError, match="at="):
            orn.log_likelihood(mixture(2, 0).posterior(orn.VP()), torch.zeros(3, 2), at=at)


class TestMixtures:
    """Exact posteriors in place of networks, so that the exact answer is known: the log-density of
    the target."""

    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("d", [2, 8, 32])
    def test_value_is_within_its_error(self, d, rule):
        """At least 95 % of the points of four mixtures, 100 each (50 in d = 32), seeds 0 to 3,
        within three errors; with the exact divergence the mean error is below a tolerance, 1e-4
        nats per dimension."""
        hits, errors = [], []
        for seed in range(4):
            target = mixture(d, seed)
            x = target.sample(100 if d < 32 else 50, seed, DOUBLE)
            exact, found = (
                target.log_prob(x),
                orn.log_likelihood(
                    target.posterior(orn.VP()), x, divergence=RULES[rule], seed=seed
                ),
            )
            hits.append(inside(found, exact))
            errors.append(float((found.value - exact).abs().mean()) / d)
            assert bool((found.stderr == 0).all()) == (rule == "exact" or d <= 16)
        assert sum(hits) / 4 >= 0.95, hits
        assert rule != "exact" or max(errors) <= 1e-4, errors

    @pytest.mark.parametrize("name", PROCESSES)
    @pytest.mark.parametrize(("d", "seed"), [(2, 5), (6, 6)])
    def test_every_process_gives_the_same_within_its_error(self, name, d, seed):
        """At least 95 % of 60 points within three errors of the exact value, which is the same for
        all."""
        target = mixture(d, seed)
        x = target.sample(60, seed, DOUBLE)
        found = orn.log_likelihood(target.posterior(PROCESSES[name]), x)
        assert inside(found, target.log_prob(x)) >= 0.95

    def test_the_error_falls_with_the_tolerance_at_more_evaluations(self):
        target = mixture(2, 5)
        x, runs = target.sample(20, 5, DOUBLE), []
        for tol in (1e-3, 1e-4, 1e-6):
            runs.append(orn.log_likelihood(target.posterior(orn.Cosine()), x, tol))
        errors = [float((run.value - target.log_prob(x)).abs().max()) for run in runs]
        assert all(
            error < 20 * tol for error, tol in zip(errors, (1e-3, 1e-4, 1e-6), strict=True)
        ), errors
        assert errors == sorted(errors, reverse=True)
        assert runs[0].evaluations < runs[1].evaluations < runs[2].evaluations

    @pytest.mark.parametrize("refine", [True, False])
    def test_discretisation_holds_with_one_run_and_with_two(self, refine):
        """The value is the same, and three of what is reported hold 95 % of the points; one run
        costs less."""
        target = mixture(8, 2)
        x = target.sample(30, 2, DOUBLE)
        found, other = (
            orn.log_likelihood(target.posterior(orn.VP()), x, refine=how)
            for how in (refine, not refine)
        )
        assert torch.equal(found.value, other.value)
        off = (found.value - target.log_prob(x)).abs()
        assert (off <= 3 * found.discretisation).double().mean() >= 0.95
        assert (found.evaluations > other.evaluations) == refine

    def test_error_adds_its_parts_in_squares(self):
        target = mixture(20, 1)
        x = target.sample(10, 1, DOUBLE)
        found = orn.log_likelihood(
            target.posterior(PROCESSES["VE"]), x, divergence=RULES["Hutchinson"]
        )
        parts = torch.stack([found.stderr, found.discretisation, found.terminal])
        assert bool((parts > 0).all())
        torch.testing.assert_close(found.error, parts.norm(dim=0))

    @pytest.mark.parametrize(
        "rule",
        [orn.likelihood.trace.Hutchinson(4), orn.likelihood.trace.HutchPlusPlus(3, 2)],
        ids=["signs", "HutchPlusPlus"],
    )
    def test_a_sample_has_probes_of_its_own_whatever_the_batch(self, rule):
        """Sample i alone, from ``Noise.shift(i)``, agrees with itself in the batch within the
        discretisation of both, which is far below what other probes would change; the batch decides
        on the steps."""
        target = mixture(8, 3)
        x, posterior = target.sample(12, 3, DOUBLE), target.posterior(orn.Cosine())
        found = orn.log_likelihood(posterior, x, 1e-5, rule, orn.Noise(4))
        other = orn.log_likelihood(posterior, x, 1e-5, rule, orn.Noise(5))
        gaps = []
        for i in (0, 11):
            alone = orn.log_likelihood(posterior, x[i : i + 1], 1e-5, rule, orn.Noise(4).shift(i))
            gaps.append(float((alone.value - found.value[i]).abs()))
            assert gaps[-1] < 3 * float(alone.discretisation + found.discretisation[i])
        assert max(gaps) < float((other.value - found.value).abs().median()) / 3

    def test_in_one_dimension(self):
        """Where any probe is exact: the same value, and no standard error."""
        target = mixture(1, 1)
        x = target.sample(20, 1, DOUBLE)
        found = {
            rule: orn.log_likelihood(target.posterior(orn.VP()), x, divergence=RULES[rule])
            for rule in RULES
        }
        torch.testing.assert_close(found["exact"].value, found["Hutchinson"].value)
        assert bool((found["Hutchinson"].stderr == 0).all())
        assert inside(found["Hutchinson"], target.log_prob(x)) >= 0.95

    def test_counts_what_it_costs(self):
        """Calls of the posterior, and a backward pass for each dimension and evaluation of the
        flow; those at T are few."""
        target = mixture(4, 2)
        inner, calls = target.posterior(orn.VP()), []

        class Counted:
            sde, data_std = inner.sde, inner.data_std

            def __call__(self, x, t):
                calls.append(len(x))
                return inner(x, t)

        found = orn.log_likelihood(Counted(), target.sample(9, 2, DOUBLE))
        flow = found.passes // 4
        assert found.passes == 4 * flow
        assert found.evaluations == calls.count(9) == flow + 2
        assert calls.count(1) <= 4 and calls.count(64) == 2  # for the law at T
        assert len(calls) == calls.count(9) + calls.count(1) + calls.count(64)


class TestGaussians:
    """Where everything is a closed form."""

    @pytest.mark.parametrize("name", PROCESSES)
    def test_data_of_one_variance_and_mean_0_are_exact_at_once(self, name):
        """The flow is nothing in these coordinates: 1e-8 in at most 30 evaluations, the second run
        included."""
        target = normal(0.0, 0.7)
        x = target.sample(20, 0, DOUBLE)
        found = orn.log_likelihood(target.posterior(PROCESSES[name]), x)
        torch.testing.assert_close(found.value, target.log_prob(x), rtol=0, atol=1e-8)
        assert found.evaluations <= 30
        assert float(found.error.max()) < 1e-7 and found.prior_gap < 1e-9

    @pytest.mark.parametrize("name", PROCESSES)
    def test_any_other_gaussian_is_within_its_error(self, name):
        """A full covariance and a mean; the law at T is Gaussian, so next to nothing is left of
        that part."""
        posterior = full_gaussian(PROCESSES[name])
        law = torch.distributions.MultivariateNormal(posterior.mean, posterior.cov)
        x = (
            posterior.mean
            + orn.Noise(2).normal((100, 5), DOUBLE) @ torch.linalg.cholesky(posterior.cov).T
        )
        found = orn.log_likelihood(posterior, x)
        assert inside(found, law.log_prob(x)) >= 0.95
        assert float((found.value - law.log_prob(x)).abs().mean()) < 5e-4
        assert float(found.terminal.max()) < 1e-4

    @pytest.mark.parametrize("name", PROCESSES)
    def test_the_law_at_T_has_the_moments_of_the_data(self, name):
        """``N(alpha m, alpha^2 C + sigma^2)``, to 1e-6 of the noise, and the divergence from the
        start law."""
        sde = PROCESSES[name]
        posterior = full_gaussian(sde)
        alpha, sigma = float(sde.alpha(sde.T)), float(sde.sigma(sde.T))
        law = terminal(posterior, torch.zeros(1, 5, dtype=DOUBLE))
        factor = law.factor if law.factor.ndim else law.factor * torch.eye(5, dtype=DOUBLE)
        cov = alpha**2 * posterior.cov + sigma**2 * torch.eye(5, dtype=DOUBLE)
        torch.testing.assert_close(
            law.mean / sigma, alpha * posterior.mean / sigma, rtol=0, atol=1e-6
        )
        torch.testing.assert_close(factor @ factor.T / sigma**2, cov / sigma**2, rtol=0, atol=1e-6)
        start = torch.distributions.MultivariateNormal(
            torch.zeros(5, dtype=DOUBLE),
            (alpha**2 * posterior.data_std**2 + sigma**2) * torch.eye(5, dtype=DOUBLE),
        )
        exact = torch.distributions.kl_divergence(
            torch.distributions.MultivariateNormal(alpha * posterior.mean, cov), start
        )
        assert law.prior_gap == pytest.approx(float(exact), rel=1e-5, abs=1e-9)
        x = 3 * sigma * orn.Noise(1).normal((4, 5), DOUBLE)
        exact = torch.distributions.MultivariateNormal(alpha * posterior.mean, cov).log_prob(x)
        torch.testing.assert_close(law.log_prob(x), exact, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("name", ["VE", "OU"])
    def test_above_64_dimensions_one_variance_is_kept(self, name):
        sde, d = PROCESSES[name], 80
        target = orn.targets.Normal(
            orn.Noise(1).normal((d,), DOUBLE), torch.full((d,), 0.6, dtype=DOUBLE)
        )
        law = terminal(target.posterior(sde), torch.zeros(3, d, dtype=DOUBLE))
        alpha, sigma = float(sde.alpha(sde.T)), float(sde.sigma(sde.T))
        assert law.factor.ndim == 0
        assert float(law.factor) == pytest.approx(math.hypot(0.6 * alpha, sigma), rel=1e-6)
        torch.testing.assert_close(law.mean / sigma, alpha * target.mean / sigma, rtol=0, atol=1e-6)

    def test_a_start_law_that_is_not_the_law_at_T_is_wrong_by_the_divergence(self):
        """Unit variance and mean m != 0 under VE(sigma_max=10), S = sigma^2: the law at T is ``N(m,
        1 + S)``, and the start law of the samplers misses it by ``prior_gap = |m|^2 / 2 (1 + S)``,
        one without the data by ``d / 2 [1 / S - log(1 + 1 / S)] + |m|^2 / 2 S``. A likelihood that
        starts there is too small by that on average (4 standard errors, n = 500, seed 0), and point
        by point by the log-ratio of the two densities."""
        sde, d, m = PROCESSES["VE"], 4, 2.0
        target = normal(m, 1.0, d)
        x, posterior, s = (
            target.sample(500, 0, DOUBLE),
            target.posterior(sde),
            float(sde.sigma(sde.T)) ** 2,
        )
        found, exact = orn.log_likelihood(posterior, x), target.log_prob(x)
        assert inside(found, exact) >= 0.95 and float((found.value - exact).abs().mean()) < 5e-4
        samplers = d * m**2 / (2 * (1 + s))
        blank = d / 2 * (1 / s - math.log1p(1 / s)) + d * m**2 / (2 * s)
        assert found.prior_gap == pytest.approx(samplers, rel=1e-6)
        for var, gap in ((1.0, samplers), (0.0, blank)):
            wrong = orn.log_likelihood(
                posterior, x, start=orn.likelihood.TerminalGaussian.prior(sde, d, var)
            )
            loss = exact - wrong.value
            assert abs(float(loss.mean()) - gap) < 4 * float(loss.std()) / 500**0.5 + 5e-4
            assert gap > 50 * float((found.value - exact).abs().mean())
            x_T = (x - m) * math.sqrt(1 + s) + m
            torch.testing.assert_close(wrong.x_T, x_T, rtol=0, atol=1e-2)
            laws = [
                torch.distributions.Normal(mean, std)
                for mean, std in ((m, math.sqrt(1 + s)), (0.0, math.sqrt(var + s)))
            ]
            ratio = laws[0].log_prob(x_T).sum(1) - laws[1].log_prob(x_T).sum(1)
            torch.testing.assert_close(loss, ratio, rtol=0, atol=5e-3)

    def test_start_laws_without_the_data_where_nothing_is_left_of_them(self):
        """At alpha = 0 the law at T is the noise, whatever the data."""
        law = terminal(mixture(3, 0).posterior(orn.Cosine()), torch.zeros(1, 3, dtype=DOUBLE))
        x = orn.Noise(0).normal((5, 3), DOUBLE)
        torch.testing.assert_close(
            law.log_prob(x), torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
        )
        assert law.prior_gap == 0

    @pytest.mark.parametrize("seed", [5, 6, 7])
    def test_the_terminal_error_is_that_of_the_law_at_T(self, seed):
        """For mixtures under VE(sigma_max=10) against ``log p_T``, which is known: 95 % of 200
        points within three of it."""
        target = mixture(4, seed)
        posterior, x = target.posterior(PROCESSES["VE"]), target.sample(200, seed, DOUBLE)
        x_T = x + 10.0 * orn.Noise(1).normal((200, 4), DOUBLE)
        law = terminal(posterior, x)
        exact = posterior.log_prob(x_T, posterior.sde.T)
        added, error, _ = law.mismatch(posterior, x_T, orn.Noise(2))
        left, before = (law.log_prob(x_T) + added - exact).abs(), (law.log_prob(x_T) - exact).abs()
        assert float((left <= 3 * error).double().mean()) >= 0.95
        assert float(left.mean()) < 0.3 * float(before.mean())


class TestInputs:
    @pytest.mark.parametrize("event", [(1, 4, 4), (2, 2), (3,)], ids=str)
    @pytest.mark.usefixtures("seeded_weights")
    def test_float32_and_events_of_any_shape(self, event):
        """A network that is zero is the exact posterior of ``N(0, d^2)``: its density in float32,
        of the right shapes."""
        denoiser = orn.Denoiser(
            orn.MLP(event, 8, 1), orn.VP(), orn.parametrisations.edm, 0.5, event
        ).requires_grad_(False)
        x = 0.5 * orn.Noise(0).normal((7, *event))
        found = orn.log_likelihood(denoiser, x)
        exact = torch.distributions.Normal(0.0, 0.5).log_prob(x).flatten(1).sum(1)
        torch.testing.assert_close(found.value, exact, rtol=1e-5, atol=1e-4)
        assert found.x_T.shape == x.shape
        for part in (found.value, found.stderr, found.discretisation, found.terminal, found.error):
            assert part.shape == (7,) and part.dtype == torch.float32
        assert found.x_T.dtype == torch.float32
        alpha, sigma = float(denoiser.sde.alpha(1.0)), float(denoiser.sde.sigma(1.0))
        torch.testing.assert_close(
            found.x_T, x * math.hypot(0.5 * alpha, sigma) / 0.5, rtol=1e-4, atol=1e-4
        )

    def test_gradients_are_neither_needed_nor_made(self):
        target = mixture(2, 0)
        x = target.sample(3, 0, DOUBLE)
        with torch.no_grad():
            off = orn.log_likelihood(target.posterior(orn.VP()), x)
        on = orn.log_likelihood(target.posterior(orn.VP()), x.clone().requires_grad_())
        assert (
            torch.equal(on.value, off.value)
            and not on.value.requires_grad
            and not on.x_T.requires_grad
        )

    @pytest.mark.parametrize("name", ["RectifiedFlow", "EDM"])
    def test_samplers_carry_the_noise_back_to_the_sample(self, name):
        """``orn.sample(x_T=...)`` in 100 steps, and `simulate` with another method in 300: within
        1e-3."""
        target = mixture(2, 1)
        posterior, x = target.posterior(PROCESSES[name]), target.sample(20, 1, DOUBLE)
        x_T = orn.log_likelihood(posterior, x, 1e-5, refine=False).x_T
        torch.testing.assert_close(orn.sample(posterior, 20, 100, x_T=x_T), x, rtol=0, atol=1e-3)
        times = grid(posterior.sde, 300, orn.spacing.cosine)
        torch.testing.assert_close(
            simulate(orn.Reverse(posterior, 0.0), x_T, times, orn.Heun()), x, rtol=0, atol=1e-3
        )

    def test_bad_arguments_are_refused(self):
        target = normal(0.0, 1.0)
        x = target.sample(4, 0, DOUBLE)
        with pytest.raises(OrnsteinError, match=r"Bridge ends in one point.*start density"):
            orn.log_likelihood(target.posterior(orn.Bridge()), x)
        for bad in (math.nan, math.inf):
            spoilt = x.clone()
            spoilt[1, 2] = bad
            with pytest.raises(OrnsteinError, match="1 values that are not finite"):
                orn.log_likelihood(target.posterior(orn.VP()), spoilt)
        for tol in (0.0, -1e-4, math.nan):
            with pytest.raises(OrnsteinError, match=rf"tol={tol}.*positive"):
                orn.log_likelihood(target.posterior(orn.VP()), x, tol)


class TestNetworks:
    """A network of random weights, which is the posterior mean of nothing: against its flow
    integrated in another way."""

    @staticmethod
    def network(scale: float):
        net = orn.MLP(2, 16, 2)
        with torch.no_grad():
            for k, weight in enumerate(net.parameters()):
                weight += (
                    scale
                    * orn.Noise(3).fold(k).normal((weight.numel(),)).reshape(weight.shape)
                    / weight.shape[-1] ** 0.5
                )
        return net.requires_grad_(False)

    @staticmethod
    def reference(net, x, d, last):
        """``log p(x)`` with ``N(0, d^2 + last^2)`` at the noise level ``last``: the flow in the
        logarithm u of the level r,

            dx / du = r [r x / (r^2 + d^2) - d F / sqrt(r^2 + d^2)],    F = net(x / sqrt(r^2 + d^2),
            u / 4),

        from r = 1e-6 in float64 with the Jacobian by `torch.func`, DOP853 to 1e-5. Karras et al.
        2022, table 1."""
        net, b = net.double(), len(x)

        def slope(y, u):
            r = math.exp(u)
            root = math.hypot(r, d)
            level = torch.full((1,), u / 4, dtype=DOUBLE)
            return r * (r * y / root**2 - d * net(y / root, level) / root)

        def both(u, flat):
            y = torch.from_numpy(flat[: 2 * b].copy()).reshape(b, 2)
            jacobian = torch.func.vmap(torch.func.jacrev(lambda z: slope(z[None], u)[0]))(y)
            trace = jacobian.diagonal(dim1=1, dim2=2).sum(1)
            return np.concatenate([slope(y, u).flatten().numpy(), trace.numpy()])

        start = np.concatenate([x.double().flatten().numpy(), np.zeros(b)])
        end = solve_ivp(
            both, (math.log(1e-6), math.log(last)), start, method="DOP853", rtol=1e-5, atol=1e-5
        ).y[:, -1]
        y, integral = torch.from_numpy(end[: 2 * b]).reshape(b, 2), torch.from_numpy(end[2 * b :])
        return torch.distributions.Normal(0.0, math.hypot(d, last)).log_prob(y).sum(1) + integral

    @pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=str)
    @pytest.mark.usefixtures("seeded_weights")
    def test_agrees_with_the_flow_integrated_in_the_logarithm_of_the_level(self, dtype):
        """Every point within three errors and 1e-3, with the start law that the reference has, and
        at no more than the evaluations of a mixture: such a network's ``F`` is O(s) at the data,
        not O(s^2)."""
        sde, d = orn.EDM(20.0), 0.8
        denoiser = orn.Denoiser(self.network(0.3), sde, orn.parametrisations.edm, d, (2,)).to(dtype)
        x = (d * orn.Noise(1).normal((6, 2))).to(dtype)
        found = orn.log_likelihood(
            denoiser, x, start=orn.likelihood.TerminalGaussian.prior(sde, 2, d**2)
        )
        assert found.value.dtype == dtype
        gap = (found.value.double() - self.reference(denoiser.net, x, d, 20.0)).abs()
        allowed = 3 * found.error.double() + 1e-3
        assert bool((gap <= allowed).all()), (gap, allowed)
        assert found.evaluations < 150
