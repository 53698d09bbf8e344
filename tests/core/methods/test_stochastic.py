"""`AncestralStep`, `Churn` and `RePaint`: they preserve laws, are their inner method where they add
nothing, and refuse what they must.

For Gaussian data every run is linear in its start and its random numbers, so variances come without
Monte Carlo: sample k + 1 of a batch gets a 1 as draw k and nothing else, and the variance is the
sum of squares over the batch.
"""

import math
from itertools import pairwise

import pytest
import torch

from ornstein.core import processes as p
from ornstein.core.methods import (
    Ancestral,
    AncestralStep,
    Churn,
    Heun,
    Multistep,
    RePaint,
    Singlestep,
)
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.sde import SDE
from ornstein.core.random.noise import Noise, NormalStream
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.watchers import Evaluations
from ornstein.errors import OrnsteinError
from problems import NormalPosterior, mixture

F64 = torch.float64
D = 0.7  # std of the data
EXACT = Multistep(1, D)  # solves the probability flow of such data in one step
PROCESSES = [p.VP(), p.EDM(10.0), p.RectifiedFlow(), p.OU(1.5, 2.0)]


class OneHot(NormalStream):
    """Draw k is 1 for sample k + 1 and 0 for all others."""

    def normal(self):
        found = torch.zeros(self.shape, dtype=self.dtype)
        self.count += 1
        found[self.count] = 1.0
        return found

    def between(self, t, s):
        return self.normal()


class Probe:
    """A source of one `OneHot` stream, which counts the draws."""

    def fold(self, *keys):
        return self

    def stream_like(self, x):
        self.stream = OneHot(tuple(x.shape), x.dtype, "cpu", Noise(0))
        return self.stream


def variance_after(sde, eta: float, method, times, draws: int = 200) -> tuple[float, int]:
    """Variance at the end of a run that starts with the right one, and the number of draws."""
    x, probe, start = torch.zeros(draws + 1, 1, dtype=F64), Probe(), times[0]
    x[0] = math.hypot(float(sde.alpha(start)) * D, float(sde.sigma(start)))
    end = simulate(Reverse(NormalPosterior(sde, 0.0, D**2), eta), x, times, method, probe)
    return float(end.square().sum()), probe.stream.count


def level(sde, t) -> float:
    return float(sde.alpha(t) ** 2 * D**2 + sde.sigma(t) ** 2)


@pytest.mark.parametrize("sde", PROCESSES, ids=repr)
@pytest.mark.parametrize("n", [1, 2, 7])
class TestWithAnExactInnerMethod:
    """The law of Gaussian data is kept exactly, in any number of steps, to the data and to a time
    before it."""

    @pytest.mark.parametrize("eta", [0.3, 1.0])
    def test_down_keeps_the_law(self, sde, n, eta):
        for times in (sde.times(n), sde.times(n + 1)[:-1]):
            var, draws = variance_after(sde, eta, AncestralStep(EXACT), times)
            assert var == pytest.approx(level(sde, times[-1]), rel=1e-8)
            assert draws == n - int(times[-1] == 0)  # a step to the data adds no noise

    def test_churn_keeps_the_law(self, sde, n):
        times = sde.times(n + 1)[
            1:
        ]  # the start has the largest ratio there is: nothing lies above it
        var, draws = variance_after(
            sde, 0.0, Churn(EXACT, amount=2.0, low=0.0, high=1e9, noise=1.0), times
        )
        assert var == pytest.approx(D**2, rel=1e-8)
        assert draws == n

    @pytest.mark.parametrize(("inner", "eta"), [(EXACT, 0.0), (Ancestral(), 1.0)], ids=repr)
    def test_repeat_keeps_the_law(self, sde, n, inner, eta):
        times = sde.times(n + 1)[:-1]
        var, draws = variance_after(sde, eta, RePaint(inner, times=3, steps=2), times)
        assert var == pytest.approx(level(sde, times[-1]), rel=1e-8)
        assert draws == n * (2 + (6 if eta else 0))


class TestNoiseThatIsDrawn:
    def test_down_replaces_the_share_that_ancestral_sampling_does(self):
        """``r'^2 = r^2 - eta^2 r^2 (1 - r^2 / r_t^2)``: fresh variance ``alpha_s^2 eta^2 r^2 (1 -
        r^2 / r_t^2)``, that of DDPM."""
        sde, eta = p.VP(), 0.6
        times = sde.times(8)[3:5]
        r_t, r_s = ((-sde.log_snr(t) / 2).exp() for t in times)
        x = torch.zeros(2, 1, dtype=F64)
        end = simulate(
            Reverse(NormalPosterior(sde, 0.0, D**2), eta), x, times, AncestralStep(EXACT), Probe()
        )
        fresh = sde.alpha(times[1]) ** 2 * eta**2 * r_s**2 * (1 - r_s**2 / r_t**2)
        assert float(end.square().sum()) == pytest.approx(float(fresh), rel=1e-8)

    def test_churn_is_algorithm_2_of_edm(self):
        """Karras et al. 2022, algorithm 2, with Euler steps, S_min and S_max that exclude both
        ends, and S_noise."""
        sde, inner = p.EDM(), Ancestral(eta=0.0)
        posterior, times, x, n = (
            mixture().posterior(sde),
            sde.times(12),
            80 * Noise(0).normal((5, 2), F64),
            12,
        )
        churn = Churn(inner, amount=3.0, low=0.3, high=20.0, noise=1.1)
        found = simulate(Reverse(posterior, 0.0), x, times, churn, Noise(4))
        stream, churned = Noise(4).fold(0x70617468).stream_like(x), 0
        for t, s in pairwise(times):
            gamma = min(3.0 / n, math.sqrt(2) - 1) if 0.3 <= t <= 20.0 else 0.0
            hat = t * (1 + gamma)
            if gamma:
                x, churned = x + (hat**2 - t**2).sqrt() * 1.1 * stream.normal(), churned + 1
            x = x + (s - hat) * (x - posterior(x, hat).mean) / hat
        assert 2 < churned < n
        assert torch.allclose(found, x, rtol=1e-8, atol=1e-8)

    def test_more_than_unit_noise_inflates_the_law(self):
        var, _ = variance_after(
            p.EDM(10.0), 0.0, Churn(EXACT, 4.0, 0.0, 1e9, noise=1.05), p.EDM(10.0).times(9)[1:]
        )
        assert 1.01 * D**2 < var < 1.5 * D**2


@pytest.mark.parametrize(
    "method",
    [AncestralStep(), AncestralStep(Heun()), Churn(Heun(), 5.0, noise=1.0), RePaint(Singlestep())],
    ids=repr,
)
def test_the_law_is_reached_as_the_inner_method_converges(method):
    """Variance of Gaussian data with usual inner methods: within 3% at 24 steps, and closer than at
    12."""
    sde = p.VP()
    eta = 0.0 if isinstance(method, Churn | RePaint) else 1.0
    grids = [torch.linspace(0.9, 0.1, n + 1, dtype=F64) for n in (12, 24)]
    errors = [
        abs(variance_after(sde, eta, method, times, 60)[0] / level(sde, 0.1) - 1) for times in grids
    ]
    assert errors[1] < 0.03
    assert errors[1] < errors[0] / 1.5


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_down_samples_the_mixture(eta):
    """Second moments of 4000 draws within 4 standard errors, 40 steps."""
    sde, target, n = p.VP(), mixture(), 4000
    x = simulate(
        Reverse(target.posterior(sde), eta),
        Noise(0).normal((n, 2), F64),
        sde.times(40),
        AncestralStep(),
        Noise(1),
    )
    gap = x.square().mean(0) - target.std.square()
    assert bool((gap.abs() < 4 * x.square().std(0) / n**0.5).all())


class TestWithoutEffect:
    sde = p.VP()
    x = Noise(0).normal((5, 2), F64)

    def pair(self, method, inner, eta=0.0):
        reverse = Reverse(mixture().posterior(self.sde), eta)
        return [simulate(reverse, self.x, self.sde.times(7), m, Noise(2)) for m in (method, inner)]

    @pytest.mark.parametrize("inner", [Heun(), Singlestep(), Ancestral()], ids=repr)
    def test_churn_of_nothing_is_the_inner_method(self, inner):
        assert torch.equal(*self.pair(Churn(inner, amount=0.0), inner))
        assert not torch.allclose(*self.pair(Churn(inner, amount=4.0), inner))
        assert not Churn(inner, amount=0.0).noisy(Reverse(mixture().posterior(self.sde), 0.0))

    @pytest.mark.parametrize("inner", [Heun(), Singlestep(), Ancestral()], ids=repr)
    def test_down_without_eta_is_the_inner_method(self, inner):
        assert torch.equal(*self.pair(AncestralStep(inner), inner))

    @pytest.mark.parametrize(
        ("inner", "eta"), [(Heun(), 0.0), (Singlestep(), 1.0), (Ancestral(), 1.0)], ids=repr
    )
    def test_one_pass_in_one_part_is_the_inner_method(self, inner, eta):
        assert torch.equal(*self.pair(RePaint(inner, times=1, steps=1), inner, eta))
        assert not torch.allclose(*self.pair(RePaint(inner, times=2, steps=1), inner, eta))

    def test_one_pass_in_parts_is_the_inner_method_on_the_finer_grid(self):
        """Parts are even in the log-SNR."""
        sde, posterior = self.sde, mixture().posterior(self.sde)
        times = sde.times(5)[:-1]
        ends = sde.log_snr(times)
        fine = torch.stack(
            [sde.time(a + (b - a) * k / 3) for a, b in pairwise(ends) for k in range(3)]
        )
        a = simulate(Reverse(posterior, 0.0), self.x, times, RePaint(Ancestral(), times=1, steps=3))
        b = simulate(Reverse(posterior, 0.0), self.x, torch.cat([fine, times[-1:]]), Ancestral())
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)

    def test_evaluations_are_those_of_the_inner_steps(self):
        reverse, counter = Reverse(mixture().posterior(self.sde), 0.0), Evaluations()
        simulate(
            reverse,
            self.x,
            self.sde.times(4)[:-1],
            RePaint(Heun(), times=3, steps=2),
            Noise(0),
            [counter],
        )
        assert counter.count == 3 * 3 * 2 * 2


class TestRefuses:
    @pytest.mark.parametrize(
        "options", [{"amount": -1.0}, {"noise": -0.1}, {"low": 3.0, "high": 2.0}, {"low": -1.0}]
    )
    def test_churn_out_of_range(self, options):
        with pytest.raises(OrnsteinError, match="not negative"):
            Churn(Heun(), **options)

    @pytest.mark.parametrize("options", [{"times": 0}, {"steps": 0}])
    def test_repeat_out_of_range(self, options):
        with pytest.raises(OrnsteinError, match="at least 1"):
            RePaint(Heun(), **options)

    @pytest.mark.parametrize(
        "method", [AncestralStep(), Churn(Heun()), RePaint(Singlestep())], ids=repr
    )
    def test_what_has_no_posterior_and_runs_without_noise(self, method):
        x, sde = torch.zeros(2, 2, dtype=F64), p.VP()
        with pytest.raises(OrnsteinError, match=r"solves orn\.Reverse"):
            simulate(SDE(lambda x, t: -x), x, sde.times(3), method, Noise(0))
        with pytest.raises(OrnsteinError, match="pass noise"):
            simulate(Reverse(mixture().posterior(sde), 1.0), x, sde.times(3), method)

    def test_down_with_noise_goes_down_only(self):
        sde, x = p.VP(), torch.zeros(2, 2, dtype=F64)
        with pytest.raises(OrnsteinError, match="goes down in time"):
            simulate(
                Reverse(mixture().posterior(sde), 1.0),
                x,
                sde.times(3)[:-1].flip(0),
                AncestralStep(),
                Noise(0),
            )

    def test_repeat_refuses_what_its_inner_method_does(self):
        sde, x = p.VP(), torch.zeros(2, 2, dtype=F64)
        with pytest.raises(OrnsteinError, match="solves an ODE"):
            simulate(
                Reverse(mixture().posterior(sde), 1.0), x, sde.times(3), RePaint(Heun()), Noise(0)
            )


@pytest.mark.parametrize("outer", [Churn, AncestralStep])
def test_methods_with_memory_are_refused(outer):
    with pytest.raises(OrnsteinError, match="needs no memory"):
        outer(Multistep(2))


class TestChurnBeyondTheEndOfAProcess:
    @pytest.mark.parametrize("sde", [p.VP(), p.RectifiedFlow(), p.OU()], ids=repr)
    def test_a_level_that_is_raised_beyond_t_is_refused(self, sde):
        x = Noise(0).normal((4, 2), F64)
        with pytest.raises(OrnsteinError, match=r"Churn\(high=inf\).*choose high below"):
            churn = Churn(Singlestep(), high=math.inf)
            simulate(Reverse(mixture().posterior(sde), 0.0), x, sde.times(10), churn, Noise(1))

    def test_a_lower_limit_is_accepted(self):
        sde, x = p.VP(), Noise(0).normal((4, 2), F64)
        churn = Churn(Singlestep(), high=100.0)
        flow = Reverse(mixture().posterior(sde), 0.0)
        assert simulate(flow, x, sde.times(10), churn, Noise(1)).isfinite().all()
