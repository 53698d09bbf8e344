"""Every linear SDE against autodiff, closed forms, quadrature and the identities of its kernels."""

import math

import pytest
import torch
from scipy.integrate import quad

from ornstein.core import processes as p
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError
from problems import BETAS, LAWS, VP_COEFFICIENTS, Law, NormalPosterior, relative_error

F64 = torch.float64
CLEAN = [name for name, law in LAWS.items() if float(law.sde.sigma(0.0)) == 0]  # no noise at t = 0
BLANK = [
    name for name, law in LAWS.items() if float(law.sde.alpha(law.sde.T)) == 0
]  # no signal at T


@pytest.fixture(params=LAWS)
def law(request: pytest.FixtureRequest) -> Law:
    return LAWS[request.param]


def autodiff(fn, t: torch.Tensor) -> torch.Tensor:
    """``fn'(t)`` elementwise, by reverse mode."""
    t = t.clone().requires_grad_()
    return torch.autograd.grad(fn(t).sum(), t)[0]


def pairs(sde: LinearSDE, n: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Times s < t inside (0, T)."""
    t = sde.T * torch.linspace(0.1, 0.95, n, dtype=F64)
    return t * torch.linspace(0.9, 0.2, n, dtype=F64), t


class TestCoefficients:
    def test_f_is_the_derivative_of_log_alpha(self, law):
        t = law.inner()
        by_autodiff = autodiff(lambda u: law.sde.log_alpha(u) + 0 * u, t)
        assert relative_error(law.sde.f(t), by_autodiff) < 1e-9
        assert relative_error(LinearSDE.f(law.sde, t), by_autodiff) < 1e-9

    def test_g2_is_minus_the_derivative_of_log_snr_times_the_variance(self, law):
        t = law.inner()
        by_autodiff = -autodiff(law.sde.log_snr, t) * law.sde.sigma(t) ** 2
        assert relative_error(law.sde.g2(t), by_autodiff) < 1e-9
        assert relative_error(LinearSDE.g2(law.sde, t), by_autodiff) < 1e-9

    def test_g2_is_the_growth_of_the_variance_that_the_drift_does_not_explain(self, law):
        t = law.inner()
        growth = autodiff(lambda u: law.sde.sigma(u) ** 2, t)
        damping = 2 * law.sde.f(t) * law.sde.sigma(t) ** 2
        error = (law.sde.g2(t) - growth + damping).abs() / (growth.abs() + damping.abs())
        assert error.max() < 1e-9

    @pytest.mark.parametrize("name", ["f", "g2", "alpha"])
    def test_coefficient_equals_the_printed_formula(self, law, name):
        t = law.inner()
        assert relative_error(getattr(law.sde, name)(t), getattr(law, name)(t)) < 1e-9

    def test_variance_equals_the_printed_formula(self, law):
        t = law.inner()
        assert relative_error(law.sde.sigma(t) ** 2, law.var(t)) < 1e-9

    def test_overrides_agree_with_the_logarithms(self, law):
        t = law.inner()
        assert relative_error(law.sde.alpha(t), law.sde.log_alpha(t).exp()) < 1e-12
        log_snr = 2 * (law.sde.log_alpha(t) - law.sde.log_sigma(t))
        assert (law.sde.log_snr(t) - log_snr).abs().max() < 1e-12

    def test_scalar_and_per_sample_times_agree(self, law):
        t = law.inner()
        for name in ("alpha", "sigma", "log_snr", "f", "g2"):
            together = getattr(law.sde, name)(t)
            apart = torch.stack([getattr(law.sde, name)(float(u)) for u in t])
            assert torch.allclose(together, apart, rtol=1e-13, atol=0), name

    def test_time_inverts_the_log_snr_as_bisection_does(self, law):
        t = law.inner()
        assert (law.sde.time(law.sde.log_snr(t)) - t).abs().max() < 1e-12 * law.sde.T
        levels = torch.tensor([-torch.inf, -300.0, -3.0, 0.1, 20.0, 300.0, torch.inf], dtype=F64)
        assert (
            law.sde.time(levels) - LinearSDE.time(law.sde, levels)
        ).abs().max() < 1e-12 * law.sde.T

    def test_probability_flow_is_drift_minus_half_the_score(self, law):
        """``a x + b E[x_0|x] = f x - g^2 / 2 (alpha E[x_0|x] - x) / sigma^2`` for every x and E."""
        t = law.inner()
        a, b = law.sde.flow(t)
        half = law.g2(t) / (2 * law.var(t))
        scale = law.f(t).abs() + half
        assert ((a - law.f(t) - half).abs() / scale).max() < 1e-9
        assert relative_error(b, -half * law.alpha(t)) < 1e-9

    def test_polar_coordinates(self, law):
        t = law.inner()
        cos, sin, scale = law.sde.polar(t)
        assert (cos**2 + sin**2 - 1).abs().max() < 1e-14
        assert relative_error(cos, law.alpha(t) * scale) < 1e-9
        assert relative_error(sin, law.var(t).sqrt() * scale) < 1e-9


class TestMembers:
    def test_from_coefficients_reproduces_vp(self):
        ours, vp = p.FromCoefficients(*VP_COEFFICIENTS, T=2.0), p.VP(0.2, 9.0, T=2.0)
        t = torch.linspace(0.01, 2.0, 12, dtype=F64)
        assert relative_error(ours.log_alpha(t), vp.log_alpha(t)) < 1e-12
        assert relative_error(ours.sigma(t), vp.sigma(t)) < 1e-12

    def test_damped_with_constant_noise_is_ornstein_uhlenbeck(self):
        ours, ou = (
            p.Damped(lambda u: torch.full_like(u, 0.7)),
            p.OU(theta=1.0, diffusion_constant=0.7, T=3.0),
        )
        t = torch.linspace(0.01, 3.0, 12, dtype=F64)
        assert relative_error(ours.alpha(t), ou.alpha(t)) < 1e-12
        assert relative_error(ours.sigma(t), ou.sigma(t)) < 1e-12

    def test_quadrature_agrees_with_scipy(self):
        sde = p.FromCoefficients(
            lambda u: torch.sin(3 * u) - 1, lambda u: torch.exp(-u) + torch.cos(u) ** 2, T=2.5
        )
        for t in (0.1, 1.0, 2.5):

            def integrand(u: float, t: float = t) -> float:
                decay = (math.cos(3 * u) - math.cos(3 * t)) / 3 - (t - u)  # int_u^t f
                return math.exp(2 * decay) * (math.exp(-u) + math.cos(u) ** 2) ** 2

            variance, _ = quad(integrand, 0, t, epsabs=0, epsrel=1e-12)
            assert float(sde.alpha(t).log()) == pytest.approx(
                (1 - math.cos(3 * t)) / 3 - t, abs=1e-12
            )
            assert float(sde.sigma(t) ** 2) == pytest.approx(variance, rel=1e-11)

    def test_discrete_chain_has_the_products_of_ho_et_al(self):
        sde, t = p.DiscreteVP(BETAS), torch.arange(1, len(BETAS) + 1, dtype=F64) / len(BETAS)
        alpha_bar = (1 - torch.tensor(BETAS, dtype=F64)).cumprod(0)
        assert relative_error(sde.alpha(t) ** 2, alpha_bar) < 1e-12
        assert relative_error(sde.sigma(t) ** 2, 1 - alpha_bar) < 1e-12

    @pytest.mark.parametrize("k", [2, 20, len(BETAS)])
    def test_discrete_chain_has_the_kernels_of_ho_et_al(self, k):
        """Ho et al. 2020, eq. 2, 6 and 7, at step k."""
        sde, betas = p.DiscreteVP(BETAS), torch.tensor(BETAS, dtype=F64)
        bar, s, t = (1 - betas).cumprod(0), (k - 1) / len(BETAS), k / len(BETAS)
        x_t, x_0 = Noise(0).normal((5, 3), F64), Noise(1).normal((5, 3), F64)
        beta, before, now = betas[k - 1], bar[k - 2], bar[k - 1]
        noising = sde.transition(x_0, s, t)
        assert relative_error(noising.mean, (1 - beta).sqrt() * x_0) < 1e-12
        assert relative_error(noising.std, beta.sqrt()) < 1e-12
        kernel = sde.posterior(x_t, x_0, s, t)
        mean = (
            before.sqrt() * beta / (1 - now) * x_0
            + (1 - beta).sqrt() * (1 - before) / (1 - now) * x_t
        )
        assert (kernel.mean - mean).abs().max() < 1e-12
        assert relative_error(kernel.std**2, (1 - before) / (1 - now) * beta) < 1e-10

    def test_from_log_snr_with_the_cosine_ratio_is_cosine(self):
        ours = p.FromLogSNR(lambda t: -2 * torch.tan(math.pi / 2 * t).log())
        t = torch.linspace(0.01, 0.99, 12, dtype=F64)
        assert relative_error(ours.alpha(t), p.Cosine().alpha(t)) < 1e-12
        assert relative_error(ours.sigma(t), p.Cosine().sigma(t)) < 1e-12

    def test_configuration_rebuilds_the_process(self):
        for name in (
            "VP",
            "SubVP",
            "VE",
            "EDM",
            "Cosine",
            "RectifiedFlow",
            "OU",
            "Bridge",
            "DiscreteVP",
        ):
            sde = LAWS[name].sde
            assert type(sde)(**sde.config()) == sde

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda: p.VP(beta_min=-1.0), "beta_min must be positive"),
            (lambda: p.SubVP(beta_max=0.0), "beta_max must be positive"),
            (lambda: p.VE(sigma_min=1.0, sigma_max=0.5), "must exceed sigma_min"),
            (lambda: p.EDM(sigma_max=float("nan")), "sigma_max must be positive"),
            (lambda: p.Cosine(T=0.0), "T must be positive"),
            (lambda: p.OU(theta=-1.0), "theta must be positive"),
            (lambda: p.Bridge(scale=-2.0), "scale must be positive"),
            (lambda: p.DiscreteVP(()), "not empty"),
            (lambda: p.DiscreteVP((0.1, 1.0)), "must be in (0, 1)"),
        ],
    )
    def test_impossible_constants_are_refused(self, make, words):
        with pytest.raises(OrnsteinError) as caught:
            make()
        assert words in str(caught.value)


class TestEnds:
    """Float32, no epsilon, and the right values: t = 0 is the data and t = T is the start law."""

    @pytest.fixture(params=["float", "0-d float32", "0-d float64", "per sample"])
    def at(self, request):
        make = {
            "float": float,
            "0-d float32": lambda t: torch.tensor(t, dtype=torch.float32),
            "0-d float64": lambda t: torch.tensor(t, dtype=F64),
            "per sample": lambda t: torch.full((4,), t, dtype=torch.float32),
        }
        return make[request.param]

    x_t = Noise(3).normal((4, 3))
    x_0 = Noise(4).normal((4, 3))

    def test_signal_and_noise_levels(self, law, at):
        for t in (0.0, law.sde.T):
            exact = torch.tensor([t], dtype=F64)
            for name, value in (
                ("alpha", law.alpha(exact)),
                ("sigma", law.var(exact).clamp(min=0).sqrt()),
            ):
                found = getattr(law.sde, name)(at(t)).double()
                assert torch.allclose(found, value, rtol=2e-5, atol=1e-7), (name, t)

    def test_polar_coordinates_are_finite(self, law, at):
        for t in (0.0, law.sde.T):
            cos, sin, scale = law.sde.polar(at(t))
            assert torch.isfinite(torch.stack([cos, sin, scale])).all()
            assert (cos**2 + sin**2 - 1).abs().max() < 1e-6

    @pytest.mark.parametrize("law", CLEAN, indirect=True)
    def test_transition_from_the_data_is_the_marginal(self, law, at):
        for t in (law.sde.T / 2, law.sde.T):
            ours, marginal = (
                law.sde.transition(self.x_0, at(0.0), at(t)),
                law.sde.marginal(self.x_0, at(t)),
            )
            assert torch.allclose(ours.mean, marginal.mean, rtol=1e-5, atol=1e-6)
            assert torch.allclose(ours.std, marginal.std, rtol=1e-5, atol=1e-7)

    def test_kernels_in_float32_agree_with_float64(self, law, at):
        T, std = law.sde.T, torch.full_like(self.x_0, 0.5)
        start = self.x_t * law.sde.prior((1,)).std.float()
        for s, t in ((0.0, T), (0.0, T / 2), (T / 2, T), (T / 4, T / 2)):
            for eta in (0.0, 0.5, 1.0):
                x0 = Gaussian(self.x_0, std)
                single = law.sde.posterior(start, x0, at(s), at(t), eta)
                double = law.sde.posterior(
                    start.double(), Gaussian(self.x_0.double(), std.double()), s, t, eta
                )
                assert single.mean.dtype == torch.float32
                scale = float(double.mean.abs().max() + double.std.abs().max())
                assert (single.mean - double.mean).abs().max() < 3e-5 * scale, (s, t, eta)
                assert (single.std - double.std).abs().max() < 3e-5 * scale, (s, t, eta)
            single, double = (
                law.sde.transition(self.x_0, at(s), at(t)),
                law.sde.transition(self.x_0.double(), s, t),
            )
            assert single.mean.dtype == torch.float32
            assert (single.mean - double.mean).abs().max() < 3e-5
            assert torch.allclose(single.std.double(), double.std, rtol=3e-5, atol=0)

    @pytest.mark.parametrize("law", CLEAN, indirect=True)
    def test_a_step_to_the_data_is_the_posterior_itself(self, law, at):
        for t in (law.sde.T / 2, law.sde.T):
            kernel = law.sde.posterior(
                self.x_t, Gaussian(self.x_0, torch.full_like(self.x_0, 0.5)), at(0.0), at(t)
            )
            assert torch.equal(kernel.mean, self.x_0)
            assert torch.equal(kernel.std.expand_as(self.x_0), torch.full_like(self.x_0, 0.5))

    @pytest.mark.parametrize("law", BLANK, indirect=True)
    def test_a_step_from_no_signal_forgets_the_start(self, law, at):
        """With alpha_T = 0 the state at T carries nothing: ``x_s | x_T, x_0`` is the marginal (eta
        = 1)."""
        s = law.sde.T / 2
        kernel = law.sde.posterior(0 * self.x_t, self.x_0, at(s), at(law.sde.T))
        marginal = law.sde.marginal(self.x_0, s)
        assert torch.allclose(kernel.mean, marginal.mean, atol=1e-6)
        assert torch.allclose(kernel.std.double(), marginal.std.double(), atol=1e-6)

    def test_prior_is_the_law_at_the_end_for_gaussian_data(self, law):
        prior = law.sde.prior((4, 3), var=2.5)
        T = torch.tensor([law.sde.T], dtype=F64)
        std = (law.alpha(T) ** 2 * 2.5 + law.var(T).clamp(min=0)).sqrt()
        assert prior.mean.shape == (4, 3) and not prior.mean.any()
        assert float(prior.std) == pytest.approx(float(std), rel=1e-6, abs=1e-7)

    def test_bridge_ends_in_one_point(self, at):
        sde = p.Bridge(1.5, T=2.0)
        assert sde.pinned
        arrival = sde.transition(self.x_0, at(0.7), at(2.0))
        assert not arrival.mean.any() and not arrival.std.any()

    @pytest.mark.parametrize("law", CLEAN, indirect=True)
    def test_tau_runs_from_0_to_1(self, law, at):
        s = law.sde.T / 2
        assert not law.sde.tau(at(s), at(s)).any()
        assert (law.sde.tau(at(0.0), at(s)) == 1).all()


class TestKernels:
    def test_chapman_kolmogorov(self, law):
        """``r -> s -> t`` is ``r -> t``, in mean and variance."""
        s, t = pairs(law.sde)
        r, x = s / 3, Noise(0).normal((7, 2), F64)
        first, direct = law.sde.transition(x, r, s), law.sde.transition(x, r, t)
        second = law.sde.transition(first.mean, s, t)
        factor = law.sde.transition(torch.ones(7, 2, dtype=F64), s, t).mean
        assert relative_error(second.mean, direct.mean) < 1e-12
        assert (
            relative_error(second.std**2 + factor**2 * first.std**2, (direct.std**2).expand(7, 2))
            < 1e-12
        )

    def test_marginal_follows_from_the_transition(self, law):
        s, t = pairs(law.sde)
        x = Noise(0).normal((7, 2), F64)
        at_s, at_t = law.sde.marginal(x, s), law.sde.marginal(x, t)
        step = law.sde.transition(at_s.mean, s, t)
        factor = law.sde.transition(torch.ones(7, 2, dtype=F64), s, t).mean
        assert relative_error(step.mean, at_t.mean) < 1e-12
        assert (
            relative_error(step.std**2 + factor**2 * at_s.std**2, (at_t.std**2).expand(7, 2))
            < 1e-12
        )

    def test_forward_and_backward_factorisation_of_the_joint_density_agree(self, law):
        """``q(x_s | x_0) q(x_t | x_s) = q(x_t | x_0) q(x_s | x_t, x_0)`` pointwise."""
        sde, (s, t) = law.sde, pairs(law.sde)
        x_0, z, w = (Noise(k).normal((7, 2), F64) for k in range(3))
        x_s = sde.marginal(x_0, s).draw(z)
        x_t = sde.transition(x_s, s, t).draw(w)
        forward = sde.marginal(x_0, s).log_prob(x_s) + sde.transition(x_s, s, t).log_prob(x_t)
        backward = sde.marginal(x_0, t).log_prob(x_t) + sde.posterior(x_t, x_0, s, t).log_prob(x_s)
        assert (forward - backward).abs().max() < 1e-10

    @pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
    def test_posterior_carries_marginal_to_marginal(self, law, eta):
        """If ``x_t ~ N(alpha_t x_0, sigma_t^2)`` then ``x_s ~ N(alpha_s x_0, sigma_s^2)``, for
        every eta."""
        sde, (s, t) = law.sde, pairs(law.sde)
        one, zero = torch.ones(7, 1, dtype=F64), torch.zeros(7, 1, dtype=F64)
        r, c = sde.posterior(one, zero, s, t, eta).mean, sde.posterior(zero, one, s, t, eta).mean
        std = sde.posterior(one, one, s, t, eta).std
        assert relative_error(r * sde.alpha(t)[:, None] + c, sde.alpha(s)[:, None]) < 1e-10
        assert (
            relative_error((r * sde.sigma(t)[:, None]) ** 2 + std**2, sde.sigma(s)[:, None] ** 2)
            < 1e-10
        )

    def test_without_fresh_noise_the_posterior_is_the_map_of_ddim(self, law):
        """Song et al. 2021 (DDIM), eq. 12: keep the noise, change its level."""
        sde, (s, t) = law.sde, pairs(law.sde)
        x_t, x_0 = Noise(0).normal((7, 2), F64), Noise(1).normal((7, 2), F64)
        kernel = sde.posterior(x_t, Gaussian(x_0, torch.full_like(x_0, 0.5)), s, t, eta=0.0)
        eps = (x_t - sde.alpha(t)[:, None] * x_0) / sde.sigma(t)[:, None]
        expected = sde.alpha(s)[:, None] * x_0 + sde.sigma(s)[:, None] * eps
        assert not kernel.std.any()
        assert ((kernel.mean - expected).abs() / (1 + expected.abs())).max() < 1e-10

    def test_posterior_is_bayes_theorem(self, law):
        """Precisions of ``x_s | x_0`` and ``x_t | x_s`` add up."""
        sde, (s, t) = law.sde, pairs(law.sde)
        x_t, x_0 = Noise(0).normal((7, 2), F64), Noise(1).normal((7, 2), F64)
        prior, factor = sde.marginal(x_0, s), sde.transition(torch.ones_like(x_t), s, t).mean
        noise = sde.transition(x_t, s, t).std
        precision = prior.std**-2 + factor**2 * noise**-2
        mean = (prior.mean * prior.std**-2 + factor * x_t * noise**-2) / precision
        kernel = sde.posterior(x_t, x_0, s, t)
        assert ((kernel.mean - mean).abs() / (1 + mean.abs())).max() < 1e-10
        assert relative_error(kernel.std.expand_as(precision) ** 2, 1 / precision) < 1e-10

    def test_posterior_integrates_the_spread_of_the_clean_point(self, law):
        """For Gaussian data ``x_s | x_t`` follows from the joint covariance of ``(x_s, x_t)``."""
        sde, (s, t), m, v = law.sde, pairs(law.sde), 0.7, 0.6
        x_t = Noise(0).normal((7, 2), F64)
        a_s, a_t = sde.alpha(s)[:, None], sde.alpha(t)[:, None]
        var_s = a_s**2 * v + sde.sigma(s)[:, None] ** 2
        var_t = a_t**2 * v + sde.sigma(t)[:, None] ** 2
        covariance = a_t / a_s * var_s
        mean = a_s * m + covariance / var_t * (x_t - a_t * m)
        kernel = sde.posterior(x_t, NormalPosterior(sde, m, v)(x_t, t), s, t)
        assert ((kernel.mean - mean).abs() / (1 + mean.abs())).max() < 1e-10
        assert relative_error(kernel.std**2, (var_s - covariance**2 / var_t).expand(7, 2)) < 1e-9

    def test_per_sample_times_act_row_by_row(self, law):
        sde, (s, t) = law.sde, pairs(law.sde)
        x, y = Noise(0).normal((7, 2, 3), F64), Noise(1).normal((7, 2, 3), F64)
        std = torch.full_like(x, 0.3)
        for i in range(7):
            row = slice(i, i + 1)
            x0, x0_row = Gaussian(y, std), Gaussian(y[row], std[row])
            for together, alone in (
                (sde.marginal(x, t), sde.marginal(x[row], t[i])),
                (sde.transition(x, s, t), sde.transition(x[row], s[i], t[i])),
                (sde.posterior(x, x0, s, t), sde.posterior(x[row], x0_row, s[i], t[i])),
            ):
                assert torch.allclose(together.mean[row], alone.mean, rtol=1e-13, atol=1e-15)
                assert torch.allclose(together.std[row], alone.std, rtol=1e-13, atol=1e-15)

    def test_drift_and_diffusion_are_f_x_and_g(self, law):
        t, x = law.inner(7), Noise(0).normal((7, 2, 3), F64)
        assert torch.allclose(law.sde.drift(x, t), law.f(t)[:, None, None] * x, rtol=1e-9)
        assert torch.allclose(law.sde.diffusion(x, t)[:, 0, 0], law.g2(t).sqrt(), rtol=1e-9)
