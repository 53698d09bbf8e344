"""The loop: samples that do not depend on their batch, gradients, watchers, and errors that tell
the fix."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

import ornstein as orn
from ornstein.core import processes as p
from ornstein.core.methods import (
    Ancestral,
    EulerMaruyama,
    ForwardTransition,
    Heun,
    Multistep,
    PredictorCorrector,
    Singlestep,
)
from ornstein.core.numerics.gaussian import Gaussian, Point
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.sde import SDE, Langevin
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.method import Step
from ornstein.core.simulation.watchers import Evaluations, KernelKL, LogWeight, Trajectory
from ornstein.errors import OrnsteinError
from ornstein.reference.targets import GaussianMixture
from problems import LAWS, NormalPosterior, mixture, relative_error

F64 = torch.float64
METHODS = [
    (Ancestral(), 1.0),
    (Ancestral(), 0.3),
    (Ancestral(), 0.0),
    (Multistep(), 0.0),
    (Heun(), 0.0),
    (PredictorCorrector(), 1.0),
    (Multistep(), 0.5),
    (Singlestep(), 0.5),
    (EulerMaruyama(), 1.0),
    (EulerMaruyama(), 0.0),
]


def inner_times(sde, n: int) -> torch.Tensor:
    """A grid that stays away from both ends, where Euler's method has no slope."""
    return sde.T * torch.linspace(0.9, 0.1, n + 1, dtype=F64)


class TestSamplesDoNotDependOnTheirBatch:
    @pytest.mark.parametrize(("method", "eta"), METHODS, ids=repr)
    @pytest.mark.parametrize("sde", [p.VP(), p.RectifiedFlow()], ids=repr)
    def test_bit_by_bit_for_batches_of_1_and_7_and_64(self, sde, method, eta):
        posterior = mixture().posterior(sde)

        def sample(b: int, first: int = 0) -> torch.Tensor:
            x_T = sde.prior((b, 2)).draw(Noise(4, start=first).normal((b, 2)))
            return simulate(
                Reverse(posterior, eta), x_T, inner_times(sde, 10), method, Noise(4, start=first)
            )

        whole = sample(64)
        assert torch.equal(sample(7), whole[:7])
        assert torch.equal(sample(1), whole[:1])
        assert torch.equal(sample(7, first=50), whole[50:57])
        assert torch.equal(sample(1, first=63), whole[63:])

    @pytest.mark.parametrize("method", [Ancestral(), PredictorCorrector()], ids=repr)
    def test_also_for_images(self, method):
        sde = p.VP()
        reverse = Reverse(NormalPosterior(sde, 0.3, 0.5))

        def sample(b: int, first: int = 0) -> torch.Tensor:
            x_T = Noise(4, start=first).normal((b, 3, 8, 8))
            return simulate(reverse, x_T, sde.times(5), method, Noise(5, start=first))

        whole = sample(64)
        assert torch.equal(sample(7), whole[:7])
        assert torch.equal(sample(1, first=40), whole[40:41])

    def test_the_numbers_of_a_path_are_not_those_of_its_start(self):
        """The same Noise for x_T and for the path must not correlate them: 5 standard errors of 20
        000 samples."""
        sde, n = p.OU(), 20_000
        x = Noise(0).normal((n, 1), F64)
        end = simulate(sde, x, torch.tensor([0.0, 0.5], dtype=F64), ForwardTransition(), Noise(0))
        fresh = end - sde.alpha(0.5) * x
        assert abs(float((fresh * x).mean() / fresh.std())) < 5 / math.sqrt(n)

    def test_a_run_is_repeatable_and_depends_on_the_seed(self):
        sde = p.VP()
        reverse, x = Reverse(mixture().posterior(sde)), Noise(0).normal((8, 2))
        a, b, c = (
            simulate(reverse, x, sde.times(5), Ancestral(), Noise(seed)) for seed in (1, 1, 2)
        )
        assert torch.equal(a, b)
        assert not torch.isclose(a, c).any()


class TestPerSampleTimes:
    @pytest.mark.parametrize(("method", "eta"), METHODS, ids=repr)
    @pytest.mark.parametrize("sde", [p.VP(), p.RectifiedFlow(), p.EDM(5.0)], ids=repr)
    def test_a_grid_per_sample_is_the_grids_of_the_samples(self, sde, method, eta):
        reverse, x = Reverse(mixture().posterior(sde), eta), Noise(0).normal((5, 2), F64)
        t = sde.T * torch.linspace(0.9, 0.5, 5, dtype=F64)
        s = t * torch.linspace(0.3, 0.9, 5, dtype=F64)
        times = torch.stack([t, (t + s) / 2, s])
        together = simulate(reverse, x, times, method, Noise(1))
        for i in range(5):
            row = slice(i, i + 1)
            alone = simulate(reverse, x[row], times[:, i], method, Noise(1, start=i))
            assert torch.allclose(together[row], alone, rtol=1e-11, atol=1e-13)


class TestGradients:
    """Against finite differences in float64 (torch.autograd.gradcheck), through starts, models and
    the ends of time."""

    means = torch.tensor([[-1.0, 0.5], [1.2, -0.4]], dtype=F64)

    def run(self, sde, method, eta, times):
        def end(x, means):
            target = GaussianMixture(means, torch.full_like(means, 0.6), torch.ones(2))
            return simulate(Reverse(target.posterior(sde), eta), x, times, method, Noise(2))

        return end

    @pytest.mark.parametrize(("method", "eta"), METHODS, ids=repr)
    def test_flow_through_the_loop(self, method, eta):
        sde = p.VP()
        x, means = (
            Noise(0).normal((3, 2), F64).requires_grad_(),
            self.means.clone().requires_grad_(),
        )
        assert torch.autograd.gradcheck(
            self.run(sde, method, eta, inner_times(sde, 4)), (x, means), rtol=1e-5, atol=1e-7
        )

    @pytest.mark.parametrize(("method", "eta"), METHODS[:8], ids=repr)
    @pytest.mark.parametrize("sde", [p.VP(), p.RectifiedFlow(), p.Cosine(), p.OU()], ids=repr)
    def test_flow_from_exactly_T_to_exactly_0(self, sde, method, eta):
        x, means = (
            Noise(0).normal((2, 2), F64).requires_grad_(),
            self.means.clone().requires_grad_(),
        )
        assert torch.autograd.gradcheck(
            self.run(sde, method, eta, sde.times(3)), (x, means), rtol=1e-5, atol=1e-7
        )

    def test_flow_into_a_log_weight(self):
        sde, x = p.VP(), Noise(0).normal((3, 2), F64)

        def log_weight(means):
            target = GaussianMixture(means, torch.full_like(means, 0.6), torch.ones(2))
            weight = LogWeight(lambda x_s, s, t: sde.transition(x_s, s, t))
            end = simulate(
                Reverse(target.posterior(sde)), x, sde.times(3), Ancestral(), Noise(2), [weight]
            )
            return weight.value - end.square().sum(1) / 2

        assert torch.autograd.gradcheck(
            log_weight, (self.means.clone().requires_grad_(),), rtol=1e-5, atol=1e-7
        )


class TestWatchers:
    sde = p.VP()

    def test_trajectory_keeps_every_state(self):
        path, x, times = Trajectory(), Noise(0).normal((3, 2), F64), self.sde.times(6)
        end = simulate(
            Reverse(mixture().posterior(self.sde)), x, times, Ancestral(), Noise(0), [path]
        )
        assert path.stacked().shape == (7, 3, 2)
        assert torch.equal(path.stacked()[0], x) and torch.equal(path.stacked()[-1], end)
        assert torch.equal(torch.stack(path.times), times)
        again = simulate(
            Reverse(mixture().posterior(self.sde)), x, times[:4], Ancestral(), Noise(0)
        )
        assert torch.equal(path.stacked()[3], again)

    def test_watching_changes_nothing(self):
        x, reverse = Noise(0).normal((3, 2)), Reverse(mixture().posterior(self.sde))
        watched = simulate(
            reverse, x, self.sde.times(6), Ancestral(), Noise(0), [Trajectory(), Evaluations()]
        )
        assert torch.equal(watched, simulate(reverse, x, self.sde.times(6), Ancestral(), Noise(0)))

    @pytest.mark.parametrize("name", [n for n in LAWS if n != "FromLogSNR, linear"])
    @pytest.mark.parametrize("n", [1, 2, 7])
    def test_weights_of_the_exact_posterior_are_constant(self, name, n):
        """Gaussian target of mean 0, start in its true law at T: log w = log Z for every path and
        number of steps."""
        sde, var, log_z = LAWS[name].sde, 0.6, 1.7
        prior = sde.prior((5, 3), var)
        x_T = prior.draw(Noise(0).normal((5, 3), F64))

        def noising(x_s, s, t):
            return (
                Point(torch.zeros(()))
                if sde.pinned and float(t) == sde.T
                else sde.transition(x_s, s, t)
            )

        weight = LogWeight(
            noising, torch.zeros(5, dtype=F64) if sde.pinned else -prior.log_prob(x_T)
        )
        end = simulate(
            Reverse(NormalPosterior(sde, 0.0, var)),
            x_T,
            sde.times(n),
            Ancestral(),
            Noise(1),
            [weight],
        )
        log_rho = log_z + Gaussian(
            torch.zeros_like(end), torch.tensor(var, dtype=F64).sqrt()
        ).log_prob(end)
        assert (weight.value + log_rho - log_z).abs().max() < 1e-10

    def test_weights_telescope_with_a_foreign_posterior(self):
        """The sum over steps is the ratio of the joint densities of the path, taken from its states
        afterwards."""
        sde, x, times = self.sde, Noise(0).normal((4, 2), F64), self.sde.times(6)
        weight, path = LogWeight(lambda x_s, s, t: sde.transition(x_s, s, t)), Trajectory()
        posterior = mixture().posterior(sde)
        simulate(Reverse(posterior), x, times, Ancestral(), Noise(1), [weight, path])
        states, expected = path.stacked(), torch.zeros(4, dtype=F64)
        for k in range(6):
            t, s, x_t, x_s = times[k], times[k + 1], states[k], states[k + 1]
            forward = sde.posterior(x_t, posterior(x_t, t), s, t)
            backward = sde.transition(x_s, s, t)
            for kernel, at, sign in ((backward, x_t, 1), (forward, x_s, -1)):
                law = Independent(Normal(kernel.mean, kernel.std.expand_as(kernel.mean)), 1)
                expected = expected + sign * law.log_prob(at)
        assert torch.allclose(weight.value, expected, rtol=1e-12)

    def test_weights_take_the_ratio_that_a_method_knows(self):
        weight, x = LogWeight(), torch.zeros(3, 1)
        for k in (1.0, 2.0):
            weight(torch.tensor(1.0), torch.tensor(0.0), x, Step(x, log_ratio=torch.full((3,), k)))
        assert torch.equal(weight.value, torch.full((3,), 3.0))

    def test_kernel_kl_is_the_closed_form_summed_over_steps(self):
        sde, x, times = self.sde, Noise(0).normal((4, 2), F64), self.sde.times(5)[:-1]
        truth, model = NormalPosterior(sde, 0.5, 0.4), NormalPosterior(sde, -0.2, 0.9)
        path = Trajectory()
        bound = KernelKL(lambda t, s, x, step: sde.posterior(x, truth(x, t), s, t))
        simulate(Reverse(model), x, times, Ancestral(), Noise(1), [path, bound])
        expected = torch.zeros(4, dtype=F64)
        for k in range(4):
            x_t, t, s = path.stacked()[k], times[k], times[k + 1]
            p_k, q_k = (sde.posterior(x_t, posterior(x_t, t), s, t) for posterior in (truth, model))
            expected += kl_divergence(Normal(p_k.mean, p_k.std), Normal(q_k.mean, q_k.std)).sum(1)
        assert relative_error(bound.value, expected) < 1e-9

    def test_kernel_kl_of_the_truth_with_itself_is_0(self):
        sde, x, truth = self.sde, Noise(0).normal((4, 2), F64), NormalPosterior(self.sde, 0.5, 0.4)
        bound = KernelKL(lambda t, s, x, step: sde.posterior(x, truth(x, t), s, t))
        simulate(Reverse(truth), x, sde.times(5), Ancestral(), Noise(1), [bound])
        assert bound.value.abs().max() < 1e-12


class TestErrors:
    sde = p.VP()
    x = torch.zeros(2, 2)

    def reverse(self, eta: float = 1.0) -> Reverse:
        return Reverse(NormalPosterior(self.sde), eta)

    @pytest.mark.parametrize(
        "times",
        [[1.0, 0.5, 0.5, 0.0], [1.0, 0.5, 0.7], [0.0, float("nan"), 1.0], [float("nan"), 0.0]],
    )
    def test_a_grid_that_is_not_monotone_is_refused(self, times):
        with pytest.raises(OrnsteinError, match=r"strictly decreasing .* or increasing"):
            simulate(self.reverse(), self.x, torch.tensor(times), Ancestral(), Noise(0))

    def test_a_grid_of_one_time_is_refused(self):
        with pytest.raises(
            OrnsteinError, match=r"at least two entries .* got shape \(1,\): see sde.times\(n\)"
        ):
            simulate(self.reverse(), self.x, torch.tensor([1.0]), Ancestral(), Noise(0))

    def test_an_infinite_time_is_refused(self):
        with pytest.raises(OrnsteinError, match="finite"):
            simulate(
                self.reverse(), self.x, torch.tensor([math.inf, 1.0, 0.0]), Ancestral(), Noise(0)
            )

    @pytest.mark.parametrize(
        "method", [Ancestral(), EulerMaruyama(), PredictorCorrector()], ids=repr
    )
    def test_a_missing_source_of_noise_is_named(self, method):
        with pytest.raises(
            OrnsteinError, match=r"draws random numbers: pass noise=orn.Noise\(seed\)"
        ):
            simulate(self.reverse(), self.x, self.sde.times(4), method)

    @pytest.mark.parametrize(
        "method", [Ancestral(), Multistep(), Heun(), EulerMaruyama()], ids=repr
    )
    def test_no_noise_is_needed_without_randomness(self, method):
        end = simulate(self.reverse(0.0), self.x + 0.1, inner_times(self.sde, 4), method)
        assert end.shape == (2, 2)

    def test_a_method_for_odes_refuses_an_sde(self):
        with pytest.raises(
            OrnsteinError,
            match=r"solves an ODE: pass orn.Reverse\(posterior, eta=0\), or use Ancestral",
        ):
            simulate(self.reverse(), self.x, self.sde.times(4), Heun(), Noise(0))

    @pytest.mark.parametrize(
        "equation",
        [p.VP(), Langevin(lambda x: -x), SDE(lambda x, t: -x)],
        ids=lambda equation: type(equation).__name__,
    )
    def test_ancestral_refuses_what_has_no_posterior(self, equation):
        with pytest.raises(
            OrnsteinError, match=r"solves orn.Reverse\(posterior\), got \w+: use EulerMaruyama"
        ):
            simulate(equation, self.x, self.sde.times(4), Ancestral())

    def test_euler_maruyama_refuses_an_infinite_diffusion(self):
        sde = p.RectifiedFlow()
        with pytest.raises(
            OrnsteinError,
            match=r"RectifiedFlow is infinite at t=1: start the grid below T, set eta=0",
        ):
            simulate(Reverse(NormalPosterior(sde)), self.x, sde.times(4), EulerMaruyama(), Noise(0))

    def test_weights_refuse_a_deterministic_method(self):
        with pytest.raises(OrnsteinError, match="log-weights need the density of every step"):
            simulate(self.reverse(0.0), self.x, self.sde.times(4), Multistep(), watch=[LogWeight()])

    def test_kernel_kl_refuses_a_deterministic_method(self):
        bound = KernelKL(lambda t, s, x, step: Gaussian(x, torch.ones(())))
        with pytest.raises(OrnsteinError, match="needs a method with Gaussian steps"):
            simulate(self.reverse(0.0), self.x, self.sde.times(4), Multistep(), watch=[bound])

    def test_negative_noise_and_unknown_orders_are_refused(self):
        with pytest.raises(OrnsteinError, match=r"eta=-1.*from 0, the ODE, to 1"):
            self.reverse(-1.0)
        with pytest.raises(OrnsteinError, match="from 1 to 6"):
            Multistep(order=7)


class TestStepsWithoutMeaning:
    """Steps that would be NaN without a word are refused."""

    posterior = orn.targets.GaussianMixture(
        torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1)
    ).posterior

    @pytest.mark.parametrize("method", [orn.Ancestral(), orn.Multistep(2), orn.Heun()])
    def test_no_path_starts_where_there_is_no_noise(self, method):
        reverse = orn.Reverse(self.posterior(orn.VP()), eta=0.0)
        with pytest.raises(OrnsteinError, match="there is no noise"):
            orn.simulate(reverse, torch.ones(3, 2), orn.VP().times(4).flip(0), method)

    @pytest.mark.parametrize("method", [orn.Ancestral(), orn.Multistep(2), orn.Heun()])
    def test_no_deterministic_path_leaves_a_pinned_point(self, method):
        reverse = orn.Reverse(self.posterior(orn.Bridge()), eta=0.0)
        with pytest.raises(OrnsteinError, match="one point"):
            orn.simulate(reverse, torch.zeros(3, 2), orn.Bridge().times(4), method)

    @pytest.mark.parametrize(
        ("times", "words"),
        [
            ([0.75, -1.0], "t=-1 is outside the time of VP"),
            ([0.75, -1e-9], "outside the time of VP"),
            ([1.5, 0.5], "t=1.5 is outside"),
            ([0.0, -0.5], "outside the time of VP"),
            ([0.0, 0.5], "there is no noise"),
        ],
    )
    @pytest.mark.parametrize(
        "method",
        [
            orn.Ancestral(),
            orn.EulerMaruyama(),
            orn.Heun(),
            orn.Multistep(2),
            orn.SRK(),
        ],
    )
    @pytest.mark.parametrize("eta", [0.0, 1.0])
    def test_generation_stays_within_the_time_of_the_process(self, times, words, method, eta):
        reverse = orn.Reverse(self.posterior(orn.VP()), eta)
        with pytest.raises(OrnsteinError, match=words):
            orn.simulate(reverse, torch.ones(3, 2), torch.tensor(times), method, orn.Noise(0))

    @pytest.mark.parametrize(
        ("sde", "times"),
        [
            (orn.VP(), [-0.5, 0.5]),
            (orn.RectifiedFlow(), [0.5, 1.5]),
            (orn.Cosine(T=2.0), [0.5, 2.5]),
            (orn.Bridge(), [0.5, 1.5]),
            (orn.OU(), [-1.0, 1.0]),
        ],
    )
    def test_noising_stays_where_the_process_has_a_law(self, sde, times):
        for run in (
            lambda: orn.sample_exact(sde, torch.ones(3, 2), torch.tensor(times)),
            lambda: orn.simulate(
                sde, torch.ones(3, 2), torch.tensor(times), orn.EulerMaruyama(), orn.Noise(0)
            ),
        ):
            with pytest.raises(OrnsteinError, match="outside the time of"):
                run()

    def test_noising_may_go_on_beyond_the_end_where_there_is_a_law(self):
        out = orn.sample_exact(orn.OU(), torch.ones(3, 2), torch.tensor([0.0, 5.0]))
        assert bool(out.isfinite().all())

    def test_the_drift_is_refused_at_a_pinned_end(self):
        """Euler-Maruyama would multiply an infinite rate with 0."""
        bridge = orn.Bridge()
        with pytest.raises(OrnsteinError, match="infinite at t=1"):
            orn.simulate(
                orn.Reverse(self.posterior(bridge)),
                torch.zeros(3, 2),
                bridge.times(4),
                orn.EulerMaruyama(),
                orn.Noise(0),
            )

    def test_fresh_noise_is_for_generating(self):
        reverse = orn.Reverse(self.posterior(orn.VP()))
        with pytest.raises(OrnsteinError, match="use ForwardTransition"):
            orn.simulate(
                reverse, torch.ones(3, 2), torch.tensor([0.3, 0.6]), orn.Ancestral(), orn.Noise(0)
            )

    def test_eta_beyond_one_is_refused(self):
        with pytest.raises(OrnsteinError, match="from 0, the ODE, to 1"):
            orn.Reverse(self.posterior(orn.VP()), eta=1.5)

    def test_a_batch_of_which_some_end_clean_takes_the_exact_step(self):
        """Heun has no velocity at time 0: with per-sample ends 0, 0.2, 0.3 the batch takes the DDIM
        step."""
        reverse = orn.Reverse(self.posterior(orn.VP()), eta=0.0)
        x, t, s = (
            torch.ones(3, 2),
            torch.full((3,), 0.4, dtype=torch.float64),
            torch.tensor([0.0, 0.2, 0.3], dtype=torch.float64),
        )
        end, ddim = (
            m.step(reverse, x, t, s, orn.Noise(0).stream_like(x), None).x
            for m in (orn.Heun(), orn.Ancestral(eta=0.0))
        )
        assert torch.equal(end, ddim)
        torch.testing.assert_close(
            end[0], orn.VP().alpha(0.4).float() * x[0]
        )  # N(0, 1): E[x_0 | x_t] = alpha x_t
