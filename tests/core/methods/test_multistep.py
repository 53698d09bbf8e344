"""`Multistep`: its weights against quadrature of the equation, its steps where they are exact, what
it holds, takes and refuses."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from ornstein.core import processes as p
from ornstein.core.methods import Ancestral, Multistep
from ornstein.core.methods.exponential_weights import middle
from ornstein.core.methods.multistep import step_coefficients
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.sde import SDE
from ornstein.core.random import BrownianPath
from ornstein.core.random.noise import Noise, NormalStream
from ornstein.core.simulation.loop import simulate
from ornstein.core.timesteps.clock import Asinh, Log, Ratio
from ornstein.errors import OrnsteinError
from ornstein.inference.sampling.samplers import default_sampler
from ornstein.reference.targets import GaussianMixture, Normal
from problems import LAWS, NormalPosterior, mixture

F64 = torch.float64
INF = math.inf
NAMES = ["VP", "SubVP", "VE", "EDM", "Cosine", "RectifiedFlow", "OU", "DiscreteVP", "FromLogSNR"]
PROCESSES = pytest.mark.parametrize("sde", [LAWS[name].sde for name in NAMES], ids=NAMES)


def starts(posterior, n: int = 16) -> torch.Tensor:
    prior = posterior.sde.prior((n, *posterior.event_shape), posterior.data_std**2)
    return prior.std * Noise(0).normal((n, *posterior.event_shape), F64)


def run(posterior, x, n: int, sampler=None) -> torch.Tensor:
    sampler = sampler or default_sampler(posterior)
    return simulate(
        Reverse(posterior, 0.0), x, posterior.sde.times(n, sampler.spacing), sampler.method
    )


@dataclass(frozen=True)
class Point:
    """The posterior of data in one point."""

    sde: LinearSDE
    value: float = 0.5

    def __call__(self, x, t):
        return Gaussian(torch.full_like(x, self.value), torch.zeros((), dtype=x.dtype))


class TestAuto:
    @PROCESSES
    def test_more_steps_are_closer_to_the_solution(self, sde):
        """The rms error of 2 steps is below the data's own std, of 50 a hundredth of it; it does
        not grow on the way."""
        posterior = mixture().posterior(sde)
        x = starts(posterior)
        end = run(posterior, x, 150)
        errors = [
            float((run(posterior, x, n) - end).square().mean().sqrt()) / posterior.data_std
            for n in (2, 3, 4, 5, 7, 10, 20, 50)
        ]
        assert errors[0] < 1
        assert all(b < 1.5 * a for a, b in pairwise(errors)), errors
        assert errors[5] < errors[2] / 2
        assert errors[6] < errors[5] / 2
        assert errors[-1] < 1e-2

    def test_up_to_200_steps(self):
        posterior = mixture().posterior(p.VP())
        x = starts(posterior)
        end = run(posterior, x, 400)
        errors = [
            float((run(posterior, x, n) - end).square().mean().sqrt()) / posterior.data_std
            for n in (25, 50, 100, 200)
        ]
        assert all(b < a / 2 for a, b in pairwise(errors)), errors
        assert errors[-1] < 1e-4

    @PROCESSES
    @pytest.mark.parametrize("n", [1, 2, 3, 10])
    def test_is_exact_for_gaussian_data_of_its_std_at_any_number_of_steps(self, sde, n):
        """``x_0 = x_T d / sqrt(alpha_T^2 d^2 + sigma_T^2)``, also from a time without signal."""
        d = 0.6
        posterior = Normal(torch.zeros(2, dtype=F64), torch.full((2,), d, dtype=F64)).posterior(sde)
        x = starts(posterior)
        factor = d / math.hypot(float(sde.alpha(sde.T)) * d, float(sde.sigma(sde.T)))
        torch.testing.assert_close(run(posterior, x, n), factor * x, rtol=1e-9, atol=1e-12)

    def test_starts_without_signal_where_others_would_divide_by_it(self):
        """On `RectifiedFlow`, alpha_T = 0: the first step of every quantity is finite, and noise
        prediction starts with DDIM."""
        sde = p.RectifiedFlow()
        posterior = mixture().posterior(sde)
        x, times = starts(posterior), sde.times(6)
        assert float(sde.alpha(sde.T)) == 0
        ddim = (
            Ancestral(eta=0.0)
            .step(Reverse(posterior, 0.0), x, times[0], times[1], Noise(0).stream_like(x), None)
            .x
        )
        for d in (0.0, INF):
            first = simulate(Reverse(posterior, 0.0), x, times[:2], Multistep(3, d))
            torch.testing.assert_close(first, ddim, rtol=1e-10, atol=1e-12)
        velocity = simulate(
            Reverse(posterior, 0.0), x, times[:2], Multistep(3, 1.0)
        )  # a straight line in the angle
        alpha, sigma, mean = (
            float(sde.alpha(times[1])),
            float(sde.sigma(times[1])),
            posterior(x, times[0]).mean,
        )
        expected = math.hypot(alpha, sigma) * (x + math.atan2(alpha, sigma) * mean)
        torch.testing.assert_close(velocity, expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("sde", [p.VP(), p.EDM(), p.RectifiedFlow()], ids=repr)
    def test_the_last_step_leaves_no_noise(self, sde):
        """Data in one point, of which auto is not told: x is alpha_t times the point plus noise,
        all of which must go."""
        posterior, times = (
            Point(sde),
            sde.times(10, default_sampler(mixture().posterior(sde)).spacing),
        )
        noise = Noise(0).normal((64, 2), F64)
        x = float(sde.alpha(sde.T)) * posterior.value + float(sde.sigma(sde.T)) * noise
        for method in (Multistep(3, 0.0), Multistep(2, 0.0, weights=middle)):
            last = step_coefficients(method, posterior.sde, 0.0, times)[-1]
            assert (last.keep, last.weights, last.kappa) == (0.0, (1.0,), 0.0)
        sigma = float(sde.sigma(times[-2]))
        left = (
            simulate(
                Reverse(posterior, 0.0), x, times, default_sampler(mixture().posterior(sde)).method
            )
            - posterior.value
        )
        assert sigma < 0.2
        assert float(left.square().mean().sqrt()) < 1e-2 * sigma, (
            float(left.square().mean().sqrt()) / sigma
        )


def reference_row(sde, times, k, order, d, clock, eta):
    """Eq. 1 of `weights` by adaptive quadrature over the noise-to-signal ratio: ``keep`` and b_j,
    newest first."""
    m = (1 + eta**2) / 2
    r, alpha = ((-sde.log_snr(times) / 2).exp().tolist(), sde.alpha(times).tolist())
    t, s = r[k], r[k + 1]

    def u(ratio):
        return 1.0 if d == INF else d**2 + ratio**2

    def w(ratio):
        return 1 / ratio if d == INF else 1.0 if d == 0 else math.sqrt(u(ratio)) / ratio

    def c(ratio):
        return (
            math.log(ratio)
            if isinstance(clock, Log)
            else ratio
            if isinstance(clock, Ratio)
            else math.asinh(ratio / clock.width)
        )

    def basis(j, ratio):
        return math.prod(
            (c(ratio) - c(r[k - i])) / (c(r[k - j]) - c(r[k - i])) for i in range(order) if i != j
        )

    def weight(j):
        def integrand(ratio):
            return (u(s) / u(ratio)) ** m * basis(j, ratio) * w(r[k - j]) / w(ratio) / ratio

        return quad(integrand, s, t, epsabs=0, epsrel=1e-11)[0]

    b = [alpha[k + 1] * 2 * m * weight(j) for j in range(order)]
    return alpha[k + 1] / alpha[k] * (u(s) / u(t)) ** m, b


class TestWeights:
    @pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("d", [0.0, 0.7, INF])
    @pytest.mark.parametrize("clock", [Log(), Ratio(), Asinh(0.2)], ids=repr)
    def test_are_the_integrals_of_the_interpolating_polynomial(self, d, clock, eta):
        sde, order, k = p.VP(), 3, 5
        times = sde.times(9)
        row = step_coefficients(Multistep(order, d, clock), sde, eta, times)[k]
        keep, b = reference_row(sde, times, k, order, d, clock, eta)
        assert row.keep == pytest.approx(keep, rel=1e-10)
        assert row.weights == pytest.approx(b, rel=1e-7)

    @pytest.mark.parametrize("eta", [0.5, 1.0])
    @pytest.mark.parametrize("d", [0.0, 0.7, INF])
    @pytest.mark.parametrize("sde", [p.VP(), p.OU(1.5, 2.0), p.SubVP()], ids=repr)
    def test_noise_is_that_of_the_linear_sde_in_time(self, sde, d, eta):
        """Steps of ``dX = a(t) X dt + eta g dB`` by quadrature in t: a is what is left of the drift
        when F = 0."""
        times = sde.times(6)
        found = step_coefficients(Multistep(1, d), sde, eta, times)

        def rate(t):
            var = INF if d == INF else float(sde.alpha(t)) ** 2 * d**2 + float(sde.sigma(t)) ** 2
            return float(sde.f(t)) + (1 + eta**2) / 2 * float(sde.g2(t)) / var

        ends = times.tolist()
        for k in (0, 5) if d else (0, 4):  # the last step with d = 0 has no noise
            t, s = ends[k], ends[k + 1]
            nodes, weights = np.polynomial.legendre.leggauss(20)

            def log_gain(v, s=s, nodes=nodes, weights=weights):
                return (
                    -sum(
                        w * rate(s + (v - s) * (y + 1) / 2)
                        for y, w in zip(nodes, weights, strict=True)
                    )
                    * (v - s)
                    / 2
                )

            var = sum(
                w * math.exp(2 * log_gain(v)) * eta**2 * float(sde.g2(v)) * (t - s) / 2
                for v, w in (
                    (s + (t - s) * (y + 1) / 2, w) for y, w in zip(nodes, weights, strict=True)
                )
            )
            assert found[k].keep == pytest.approx(math.exp(log_gain(t)), rel=1e-6)
            assert found[k].std == pytest.approx(math.sqrt(var), rel=1e-5)
        if d == 0:
            assert found[-1].std == 0


class OneHot(NormalStream):
    """Draw k is 1 for sample k + 1 and 0 for all others: the response of a linear run to each of
    its numbers."""

    def normal(self):
        found = torch.zeros(self.shape, dtype=self.dtype)
        self.count += 1
        found[self.count] = 1.0
        return found

    def between(self, t, s):
        return self.normal()


class Probe:
    """A source of `OneHot` streams."""

    def fold(self, *keys):
        return self

    def stream_like(self, x):
        return OneHot(tuple(x.shape), x.dtype, "cpu", Noise(0))


def variance_after(reverse, method, times, var):
    """Variance at the end of a linear run from ``N(0, var)``: no Monte Carlo, also for methods with
    memory."""
    x = torch.zeros(len(times), 1, dtype=F64)
    x[0] = var**0.5
    return float(simulate(reverse, x, times, method, Probe()).square().sum())


class TestOnSDEs:
    @pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize(
        "sde", [p.VP(), p.EDM(10.0), p.RectifiedFlow(), p.OU(1.5, 2.0)], ids=repr
    )
    def test_the_marginals_of_gaussian_data_of_its_std_are_exact_in_any_number_of_steps(
        self, sde, eta
    ):
        d = 0.7
        start = float(sde.alpha(sde.T) ** 2 * d**2 + sde.sigma(sde.T) ** 2)
        for n in (1, 4):
            reverse = Reverse(NormalPosterior(sde, 0.0, d**2), eta)
            assert variance_after(reverse, Multistep(3, d), sde.times(n), start) == pytest.approx(
                d**2, rel=1e-9
            )

    @pytest.mark.parametrize("eta", [0.5, 1.0])
    @pytest.mark.parametrize("d", [0.0, 1.6, INF])
    def test_other_marginals_converge_at_the_order_and_order_2_is_better(self, d, eta):
        """For linear equations the deterministic part is all that a marginal sees, up to the square
        of the order-1 noise."""
        sde, var, high, low = p.VP(), 0.4, 0.9, 0.1
        at = [float(sde.alpha(u) ** 2 * var + sde.sigma(u) ** 2) for u in (high, low)]
        reverse, errors = Reverse(NormalPosterior(sde, 0.0, var), eta), {}
        for order in (1, 2):
            for n in (40, 80):
                times = torch.linspace(high, low, n + 1, dtype=F64)
                errors[order, n] = abs(
                    variance_after(reverse, Multistep(order, d), times, at[0]) - at[1]
                )
        assert 1.6 < errors[1, 40] / errors[1, 80] < 2.6
        assert errors[2, 40] / errors[2, 80] > 1.7
        assert errors[2, 80] < errors[1, 80]

    @pytest.mark.parametrize("method", [Multistep(2), Ancestral()], ids=repr)
    def test_runs_on_one_brownian_path_converge_to_one_another(self, method):
        """Strong order 1 for noise that does not depend on the state: distances of n and 2n steps
        fall like 1 / n."""
        sde = p.VP()
        means = torch.tensor(
            [[-0.4, 0.2], [0.4, -0.2]], dtype=F64
        )  # one mode: two runs never part for good
        reverse = Reverse(
            GaussianMixture(means, torch.full_like(means, 0.6), torch.ones(2)).posterior(sde), 1.0
        )
        fine = sde.times(160)
        x = Noise(1).normal((128, 2), F64)
        path = BrownianPath(x.shape, 0.0, sde.T, 3, fine, F64)
        runs = [simulate(reverse, x, fine[::skip], method, path) for skip in (8, 4, 2, 1)]
        gaps = [float((a - b).square().mean().sqrt()) for a, b in pairwise(runs)]
        assert gaps[0] / gaps[2] > 2, gaps
        assert all(a / b > 1.4 for a, b in pairwise(gaps)), gaps
        other = simulate(reverse, x, fine, method, Noise(4))
        assert gaps[2] < 0.1 * float((runs[-1] - other).square().mean().sqrt())


def tensors(value, shape) -> list[int]:
    """Addresses of the tensors of a shape that are reachable from a memory."""
    if isinstance(value, torch.Tensor):
        return [value.data_ptr()] if value.shape == shape else []
    return (
        [found for part in value for found in tensors(part, shape)]
        if isinstance(value, tuple | list)
        else []
    )


@pytest.mark.parametrize(
    "method",
    [Multistep(1), Multistep(2), Multistep(4, 1.0, Asinh(0.2), last=2), Multistep(3, corrector=3)],
    ids=repr,
)
def test_at_most_order_plus_2_states_are_held(method):
    held, sde, x = [], p.VP(), Noise(0).normal((3, 2), F64)

    def watch(t, s, x, step):
        held.append(len({*tensors(step.memory, x.shape), step.x.data_ptr()}))

    simulate(Reverse(mixture().posterior(sde), 0.0), x, sde.times(12), method, watch=[watch])
    assert max(held) <= method.order + 2
    assert max(held) >= method.order  # the count sees them


@pytest.mark.parametrize(
    "method",
    [Multistep(3), Multistep(4, 1.3, Asinh(0.2), last=2), Multistep(2, INF, corrector=2)],
    ids=repr,
)
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("sde", [p.VP(), p.RectifiedFlow()], ids=repr)
def test_a_grid_per_sample_is_the_run_of_each_sample(method, eta, sde):
    reverse, x = Reverse(mixture().posterior(sde), eta), Noise(0).normal((4, 2), F64)
    grids = torch.stack(
        [sde.T * (sde.times(7) / sde.T) ** power for power in (0.7, 1.0, 1.3, 2.0)], 1
    )
    together = simulate(reverse, x, grids, method, Noise(1))
    for i in range(4):
        alone = simulate(reverse, x[i : i + 1], grids[:, i], method, Noise(1).shift(i))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-10)


@dataclass(frozen=True)
class Rounded:
    """A posterior that sees and says numbers of another precision."""

    inner: object
    dtype: torch.dtype

    @property
    def sde(self):
        return self.inner.sde

    @property
    def data_std(self):
        return self.inner.data_std

    def __call__(self, x, t):
        found = self.inner(x.to(self.dtype).to(torch.float32), t)
        return Gaussian(found.mean.to(self.dtype), found.std)


class TestPrecision:
    @pytest.mark.parametrize("sde", [p.VP(), p.RectifiedFlow(), p.EDM()], ids=repr)
    def test_a_bfloat16_network_costs_bfloat16_errors_only(self, sde):
        """Rounding is relative 2^-9; the median error stays below 2^-6 of the data's std."""
        posterior = mixture().posterior(sde)
        x = starts(posterior, 64).float()
        single, half = run(posterior, x, 20), run(Rounded(posterior, torch.bfloat16), x, 20)
        assert half.dtype == torch.float32
        gap = (half - single).abs().median()
        assert 1e-5 < float(gap) < posterior.data_std * 2**-6  # and rounding is seen

    def test_a_float32_network_drives_a_float64_state(self):
        posterior = mixture().posterior(p.VP())
        x = starts(posterior, 64)
        double, single = run(posterior, x, 20), run(Rounded(posterior, torch.float32), x, 20)
        assert single.dtype == F64
        torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        "method", [Multistep(4, 1.3, Asinh(0.2), last=2), Multistep(2, corrector=2)], ids=repr
    )
    def test_gradients_pass_a_run(self, method):
        sde = p.VP()
        flow = Reverse(mixture().posterior(sde), 0.0)
        x = Noise(0).normal((2, 2), F64).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: simulate(flow, x, sde.times(5), method), (x,))


def test_inversion_returns_to_the_start_at_the_order():
    """Data to noise on the reversed grid, and back (DDIM inversion): the errors of the two ways do
    not cancel."""
    sde = p.VP()
    flow, x, sizes = (
        Reverse(mixture().posterior(sde), 0.0),
        mixture().sample(32, dtype=F64),
        (40, 80),
    )
    errors = {}
    for order in (1, 2):
        for n in sizes:
            times = torch.linspace(0.9, 0.1, n + 1, dtype=F64)
            there = simulate(flow, x, times.flip(0), Multistep(order))
            errors[order, n] = float(
                (simulate(flow, there, times, Multistep(order)) - x).square().mean().sqrt()
            )
    assert 1.6 < errors[1, 40] / errors[1, 80] < 2.6
    assert errors[2, 40] / errors[2, 80] > 3
    assert errors[2, 80] < errors[1, 80] / 4


class TestRefuses:
    @pytest.mark.parametrize(
        "options", [{"order": 0}, {"order": 7}, {"corrector": -1}, {"corrector": 7}, {"last": 0}]
    )
    def test_orders_out_of_range(self, options):
        with pytest.raises(OrnsteinError, match="from 1 to 6"):
            Multistep(**options)

    @pytest.mark.parametrize("d", [-0.1, math.nan])
    def test_a_data_std_that_is_none(self, d):
        with pytest.raises(OrnsteinError, match="data_std"):
            Multistep(data_std=d)

    def test_what_it_does_not_solve(self):
        x, sde = torch.zeros(2, 2, dtype=F64), p.VP()
        posterior = mixture().posterior(sde)
        with pytest.raises(OrnsteinError, match=r"solves orn\.Reverse"):
            simulate(SDE(lambda x, t: -x), x, sde.times(3), Multistep())
        with pytest.raises(OrnsteinError, match="goes down in time"):
            simulate(Reverse(posterior, 1.0), x, sde.times(3)[:-1].flip(0), Multistep(), Noise(0))
        with pytest.raises(OrnsteinError, match="no step can start"):
            simulate(Reverse(posterior, 0.0), x, sde.times(3).flip(0), Multistep())
        with pytest.raises(OrnsteinError, match="pass noise"):
            simulate(Reverse(posterior, 1.0), x, sde.times(3), Multistep())


@dataclass(frozen=True)
class Listed(LinearSDE):
    """VP with its betas in a list, which no cache can hold."""

    betas: list[float] = field(default_factory=lambda: [0.1, 20.0])
    T: float = 1.0

    def log_alpha(self, t):
        return p.VP(*self.betas).log_alpha(t)

    def log_sigma(self, t):
        return p.VP(*self.betas).log_sigma(t)


class TestRows:
    def test_are_remembered_for_grids_that_all_samples_share(self):
        sde, x = p.VP(0.1, 17.25), Noise(0).normal((3, 2), F64)
        flow, info = Reverse(mixture().posterior(sde), 0.0), step_coefficients.cache_info
        before = info()
        first = simulate(flow, x, sde.times(5), Multistep(3))
        assert torch.equal(simulate(flow, x, sde.times(5), Multistep(3)), first)
        assert (info().misses, info().hits) == (before.misses + 1, before.hits + 1)
        simulate(flow, x, sde.times(5)[:, None].expand(-1, 3), Multistep(3))
        assert (info().misses, info().hits) == (before.misses + 1, before.hits + 1)
        other = simulate(
            Reverse(mixture().posterior(p.VP(0.1, 12.5)), 0.0),
            x,
            p.VP(0.1, 12.5).times(5),
            Multistep(3),
        )
        assert not torch.allclose(other, first)

    def test_are_computed_for_processes_that_no_cache_can_hold(self):
        x = Noise(0).normal((3, 2), F64)
        with pytest.raises(TypeError, match="unhashable"):
            hash(Listed())
        a, b = (
            simulate(Reverse(mixture().posterior(sde), 0.0), x, p.VP().times(6), Multistep(3))
            for sde in (Listed(), p.VP())
        )
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
