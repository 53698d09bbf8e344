"""The bound in continuous time, the bracket, the probability of quantised data, and the schedule
that trains for the bound."""

import math

import pytest
import torch
from scipy import stats

import ornstein as orn
from ornstein.errors import OrnsteinError
from ornstein.inference.likelihood.dequantise import Noised, Truncated, Uniform, discrete_log_prob
from ornstein.models.codecs.affine import Levels
from ornstein.reference.targets import Empirical
from ornstein.training.learned_noise_levels import LearnedNoiseLevels, MonotoneLogSNR, _integrand

DOUBLE = torch.float64
PROCESSES = {
    "VP": orn.VP(),
    "Cosine": orn.Cosine(),
    "EDM": orn.EDM(80.0),
    "RectifiedFlow": orn.RectifiedFlow(),
}


def normal(mean, std):
    return orn.targets.Normal(torch.tensor(mean, dtype=DOUBLE), torch.tensor(std, dtype=DOUBLE))


def two_modes():
    means = torch.tensor([[-1.5], [1.0]], dtype=DOUBLE)
    return orn.targets.GaussianMixture(
        means, torch.full_like(means, 0.3), torch.tensor([0.4, 0.6], dtype=DOUBLE)
    )


class TestContinuous:
    @pytest.mark.parametrize("process", PROCESSES)
    def test_tight_at_every_point_for_gaussian_data(self, process):
        """No noise is left either: both errors in eq. 1 are the same."""
        target = normal([0.0, 0.0], [0.8, 0.8])
        x = target.sample(50, seed=0).double()
        bound = orn.likelihood.continuous_elbo(
            target.posterior(PROCESSES[process]), x, draws=4, repeats=2
        )
        assert (bound.value - target.log_prob(x)).abs().max() < 1e-9
        assert bound.stderr.max() < 1e-9
        assert bound.evaluations == 10

    @pytest.mark.parametrize("process", ["VP", "EDM"])
    def test_unbiased_at_every_point_for_an_exact_posterior(self, process):
        """Standardised errors of 1000 points: mean 0 within 4 standard errors, at one point the
        mean of 200 runs too."""
        target = two_modes()
        posterior, x = target.posterior(PROCESSES[process]), target.sample(1000, seed=0).double()
        gap = target.log_prob(x) - orn.likelihood.continuous_elbo(posterior, x, 16, 1, 4).value
        assert abs(float(gap.mean())) < 4 * float(gap.std()) / 1000**0.5
        one = torch.full((400, 1), 0.1, dtype=DOUBLE)
        value = orn.likelihood.continuous_elbo(posterior, one, 16, 2, 2).value
        assert (
            abs(float(value.mean() - target.log_prob(one[:1]))) < 4 * float(value.std()) / 400**0.5
        )

    def test_gap_of_a_wrong_model_is_the_path_divergence(self):
        """Data N(0, 1), a model of N(0, s^2): 1/2 int E|D - D'|^2 dS per element, by quadrature; 4
        standard errors."""
        sde, s, n = orn.EDM(50.0), 1.4, 4000
        x = normal([0.0], [1.0]).sample(n, seed=0).double()
        bound = orn.likelihood.continuous_elbo(normal([0.0], [s]).posterior(sde), x, 16, 3, 2)
        S = torch.logspace(math.log10(50.0**-2), 8, 20001, dtype=DOUBLE)
        own, wrong = S / (S + 1), S / (S + s**-2)  # factors on y of the two posterior means
        squared = (own - wrong).square() * (1 + 1 / S)
        extra = float(torch.trapezoid(squared, S)) / 2
        prior = (
            float((1 + 50.0**2) / (s**2 + 50.0**2) - 1 - math.log((1 + 50.0**2) / (s**2 + 50.0**2)))
            / 2
        )
        entropy = -math.log(2 * math.pi * math.e) / 2
        assert (
            abs(float(bound.value.mean()) - (entropy - extra - prior))
            < 4 * float(bound.value.std()) / n**0.5
        )

    def test_standard_errors_are_those_of_repeated_runs(self):
        target = two_modes()
        posterior, x = target.posterior(orn.VP()), target.sample(100, seed=0).double()
        runs = [orn.likelihood.continuous_elbo(posterior, x, 6, seed, 6) for seed in range(16)]
        spread = torch.stack([run.value for run in runs]).std(0)
        ratio = torch.stack([run.stderr.square() for run in runs]).mean(0) / spread.square()
        assert 0.75 < float(ratio.median()) < 1.33

    def test_a_fitted_proposal_is_unbiased_and_varies_less(self):
        target = two_modes()
        posterior, x = target.posterior(orn.VP()), target.sample(2000, seed=0).double()
        proposal = orn.likelihood.NoiseLevelProposal.fit(
            posterior, target.sample(500, seed=9).double(), seed=7
        )
        assert abs(sum(proposal.probabilities) - 1) < 1e-12
        even, fitted = (
            orn.likelihood.continuous_elbo(posterior, x, 16, 0, 4, rule)
            for rule in (None, proposal)
        )
        gap = target.log_prob(x) - fitted.value
        assert abs(float(gap.mean())) < 4 * float(gap.std()) / 2000**0.5
        assert fitted.stderr.square().mean() < even.stderr.square().mean()

    def test_refusals(self):
        posterior, x = two_modes().posterior(orn.VP()), torch.zeros(2, 1)
        with pytest.raises(OrnsteinError, match="repeats=1"):
            orn.likelihood.continuous_elbo(posterior, x, repeats=1)
        with pytest.raises(OrnsteinError, match="ends in one point"):
            orn.likelihood.continuous_elbo(two_modes().posterior(orn.Bridge()), x)


class TestBracket:
    @pytest.mark.parametrize("process", ["VP", "EDM"])
    def test_encloses_the_truth_and_narrows(self, process):
        """At 10 and 30 steps, 100 points: the mean truth between the means, each point within 4
        standard errors of its sides."""
        target = two_modes()
        posterior, x = target.posterior(PROCESSES[process]), target.sample(100, seed=0).double()
        truth, widths = target.log_prob(x), []
        for steps in (10, 30):
            found = orn.two_sided_bound(posterior, x, steps, paths=16)
            assert float(found.lower.mean()) < float(truth.mean()) < float(found.upper.mean())
            assert (truth - found.lower > -4 * found.lower_stderr).double().mean() > 0.98
            assert (found.lower <= found.middle).all() and (found.middle <= found.upper).all()
            assert found.evaluations == 16 * steps
            widths.append(float((found.upper - found.lower).mean()))
        assert widths[1] < 0.6 * widths[0]

    def test_line_names_three_numbers_in_order(self):
        target = two_modes()
        posterior, x = target.posterior(orn.VP()), target.sample(50, seed=0).double()
        flow = orn.log_likelihood(posterior, x)
        line = orn.two_sided_bound(posterior, x, 30, 12, flow=flow).line()
        low, middle, high = (
            float(part.split("=")[-1].split("+-")[0].split("(")[0]) for part in line.split("<=")
        )
        assert low < middle < high
        assert abs(middle - float(target.log_prob(x).mean())) < 1e-3
        with pytest.raises(OrnsteinError, match="paths=1"):
            orn.two_sided_bound(posterior, x, 40, 1)


class TestDequantised:
    levels = Levels(-5.0, 0.5, 21)

    def problem(self, n=400):
        target = normal([0.0, 0.0], [1.0, 1.0])
        x = self.levels.nearest(target.sample(n, seed=1).double())
        exact = sum(
            torch.from_numpy(stats.norm.logcdf(x[:, j] + 0.25) + _log1mexp(x[:, j]))
            for j in range(2)
        )
        return target, x, exact

    @pytest.mark.parametrize(
        "rule", [Uniform(), Truncated(0.3), Truncated(1.0)], ids=["uniform", "narrow", "wide"]
    )
    def test_below_the_exact_probability_and_the_weights_reach_it(self, rule):
        """Mean over 400 points, 16 draws each: the bound below, the tighter one between; mean gap
        of the weights 0 in 4 stderr."""
        target, x, exact = self.problem()
        found = discrete_log_prob(
            lambda y, noise: (target.log_prob(y), torch.zeros(len(y))),
            x,
            self.levels,
            rule,
            draws=16,
        )
        assert float(found.value.mean()) < float(exact.mean())
        assert (found.value <= found.tighter + 1e-12).all()
        ratio = (found.tighter - exact).exp()
        assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / 400**0.5

    def test_draws_stay_in_their_cells_and_have_their_density(self):
        """log q of `Truncated` against scipy's truncated normal; all of `Uniform` is flat."""
        x = torch.zeros(2000, 3, dtype=DOUBLE)
        y, log_q = Truncated(0.3).draw(x, self.levels, orn.Noise(0))
        law = stats.truncnorm(-0.5 / 0.3, 0.5 / 0.3, scale=0.3 * 0.5)
        assert y.abs().max() <= 0.25
        torch.testing.assert_close(log_q, torch.from_numpy(law.logpdf(y.numpy())).sum(1))
        assert stats.kstest(y[:, 0].numpy(), law.cdf).pvalue > 1e-3
        y, log_q = Uniform().draw(x, self.levels, orn.Noise(0))
        assert y.abs().max() <= 0.25
        assert torch.allclose(log_q, torch.tensor(-3 * math.log(0.5), dtype=DOUBLE))

    def test_flat_bytes_take_eight_bits(self):
        """A model that is uniform on [-1/2, 255 1/2) gives every byte 8 bits, whatever is drawn."""
        bytes_ = torch.arange(256, dtype=DOUBLE)[:, None]

        def flat(y, noise):
            return torch.full((len(y),), -math.log(256.0), dtype=DOUBLE), torch.zeros(len(y))

        bits, stderr = discrete_log_prob(flat, bytes_, Levels(0.0, 1.0, 256)).bits_per_dim(1)
        assert bits == pytest.approx(8.0) and stderr == pytest.approx(0.0, abs=1e-12)

    def test_the_fitted_width_is_that_of_the_density(self):
        """A density that is normal of width 0.15 steps around each level: the bound is highest, and
        tight, at that width."""
        levels, x = (
            Levels(0.0, 1.0, 11),
            torch.arange(0.0, 11.0, dtype=DOUBLE)[:, None].repeat(20, 1),
        )
        law = stats.truncnorm(-0.5 / 0.15, 0.5 / 0.15, scale=0.15)

        def peaked(y, noise):
            return torch.from_numpy(law.logpdf((y - y.round()).numpy())).sum(1) - math.log(
                11
            ), torch.zeros(len(y))

        fitted = Truncated.fit(peaked, x, levels)
        assert fitted.width == 0.15
        assert discrete_log_prob(peaked, x, levels, fitted).value.mean() == pytest.approx(
            -math.log(11), abs=1e-9
        )

    @pytest.mark.parametrize(
        "sde", [orn.VP(), orn.Cosine(), orn.EDM()], ids=["VP", "Cosine", "EDM"]
    )
    def test_a_constant_takes_no_bits_and_uniform_bytes_take_eight(self, sde):
        """Exact posteriors of both data sets, by the bound and by the flow, within 4 standard
        errors; the Gaussian decoder, which is not the exact law of a level, and the steps of the
        bound cost less than 0.1 bits."""
        byte = Levels(-127.5 / 64, 1 / 64, 256)
        bytes_ = byte.low + byte.step * torch.arange(256, dtype=DOUBLE)[:, None]
        constant = torch.full((4, 3), byte.low + 100 * byte.step, dtype=DOUBLE)
        for x, data, exact, slack in (
            (bytes_, bytes_, 8.0, 0.1),
            (constant, constant[:1], 0.0, 1e-3),
        ):
            posterior = Empirical(data).posterior(sde)
            t, spacing = Noised.time(sde, byte), orn.spacing.Karras(sigma_min=byte.step / 3)

            def density(x_t, noise, posterior=posterior, t=t):
                result = orn.log_likelihood(posterior, x_t, at=t, refine=False)
                return result.value, result.error

            flow = discrete_log_prob(density, x, byte, Noised(posterior, t), draws=2)
            bound = orn.elbo(posterior, x, 60, levels=byte, spacing=spacing)
            for bits, stderr in (flow.bits_per_dim(x.shape[1]), bound.bits_per_dim(x.shape[1])):
                assert exact - 4 * stderr - 1e-9 < bits < exact + slack + 4 * stderr

    def test_noised_levels_lose_nothing_where_decoder_and_posterior_are_exact(self):
        """Two far levels, so that the Gaussian decoder is exact: log 1/2 in every draw."""
        levels, x = Levels(-1.0, 2.0, 2), torch.tensor([[-1.0], [1.0]], dtype=DOUBLE)
        posterior = Empirical(x).posterior(orn.VP())
        t = Noised.time(orn.VP(), levels, 1 / 12)
        assert float(orn.VP().sigma(t) / orn.VP().alpha(t)) == pytest.approx(1 / 6)
        density = lambda x_t, noise: (posterior.log_prob(x_t, t), torch.zeros(len(x_t)))  # noqa: E731
        found = discrete_log_prob(density, x, levels, Noised(posterior, t), draws=8)
        torch.testing.assert_close(
            found.value, torch.full((2,), -math.log(2), dtype=DOUBLE), atol=1e-6, rtol=0
        )
        with pytest.raises(OrnsteinError, match="part=0"):
            Noised.time(orn.VP(), levels, 0)

    def test_values_between_levels_are_refused(self):
        with pytest.raises(OrnsteinError, match="nearest level"):
            discrete_log_prob(
                lambda y, noise: (y[:, 0], y[:, 0]), torch.tensor([[0.1]]), Levels(0.0, 1.0, 5)
            )


class TestSchedule:
    def test_network_is_monotone_and_keeps_its_ends(self):
        net, u = MonotoneLogSNR(-8.0, 6.0), torch.linspace(0, 1, 200, dtype=DOUBLE)
        value, slope = net.slope(u)
        assert value[[0, -1]].tolist() == pytest.approx([-8, 6])
        assert (slope > 0).all()
        numeric = (net(u + 1e-6) - net(u - 1e-6)) / 2e-6
        torch.testing.assert_close(slope, numeric, rtol=1e-6, atol=1e-6)

    def test_density_belongs_to_the_quantiles(self):
        """``p(lambda(u)) dlambda/du = 1``."""
        schedule, sde = LearnedNoiseLevels((-6.0, -1.0, 0.5, 3.0, 9.0)), orn.VP()
        u = torch.tensor([0.05, 0.3, 0.55, 0.9], dtype=DOUBLE)
        slope = (sde.log_snr(schedule(sde, u + 1e-5)) - sde.log_snr(schedule(sde, u - 1e-5))) / 2e-5
        product = schedule.density(sde.log_snr(schedule(sde, u))) * slope
        torch.testing.assert_close(product, torch.ones(4, dtype=DOUBLE), rtol=1e-5, atol=0)

    def test_every_law_estimates_the_same_and_the_fitted_one_varies_less(self):
        """Means agree within 4 standard errors of 20000 draws; the fitted law is within 15 % of the
        best possible spread."""
        target = two_modes()
        posterior, x = target.posterior(orn.VP()), target.sample(2000, seed=0).double()
        found = []
        for schedule in (
            LearnedNoiseLevels((-8.0, 8.0)),
            LearnedNoiseLevels.fit(posterior, x, -8.0, 8.0, steps=100),
        ):
            u = orn.Noise(5).uniform((20000,), DOUBLE)
            log_snr = posterior.sde.log_snr(schedule(posterior.sde, u))
            index = (orn.Noise(6).uniform((20000,), DOUBLE) * len(x)).long()
            found.append(
                _integrand(posterior, x[index], log_snr, orn.Noise(7)) / schedule.density(log_snr)
            )
        even, fitted = found
        assert (
            abs(float(even.mean() - fitted.mean()))
            < 4 * math.hypot(float(even.std()), float(fitted.std())) / 20000**0.5
        )
        bins = (u * 40).long()  # the even law: quantile and level are the same but for scale
        per_level = even / 16  # the integrand at evenly drawn levels
        roots = torch.stack([per_level[bins == k].square().mean().sqrt() for k in range(40)])
        best = (roots.sum() * 0.4).square() - even.mean().square()
        assert float(fitted.std()) < 1.15 * float(best.sqrt()) < float(even.std())

    def test_training_weight_makes_the_loss_the_bound(self):
        """With `DenoisingObjective`'s reduction the mean loss is (1) per dimension, for the exact
        posterior by quadrature; 4 stderr."""
        sde, s = orn.VP(), 0.7
        schedule = LearnedNoiseLevels((-7.0, 1.0, 7.0))
        t = schedule(sde, torch.linspace(0.0005, 0.9995, 1000, dtype=DOUBLE))
        S = sde.log_snr(t).exp()
        mmse = s**2 / (1 + S * s**2)
        mean = float((schedule.weight(sde, t) * mmse).mean())
        exact = 0.5 * math.log((1 + math.exp(7) * s**2) / (1 + math.exp(-7) * s**2))
        assert mean == pytest.approx(exact, rel=1e-3)

    def test_refusals(self):
        with pytest.raises(OrnsteinError, match="increasing"):
            LearnedNoiseLevels((1.0, 0.0))
        with pytest.raises(OrnsteinError, match="low below high"):
            MonotoneLogSNR(1.0, 0.0)


def _log1mexp(x):
    """``log(1 - exp(logcdf(x - 1/4) - logcdf(x + 1/4)))``, so that with the upper logcdf the cell's
    log-probability results."""
    import numpy as np

    return np.log1p(-np.exp(stats.norm.logcdf(x - 0.25) - stats.norm.logcdf(x + 0.25)))
