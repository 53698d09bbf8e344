"""The random walk against its recurrence and against scipy's laws, its limit against the heat
kernel, D from data with its error."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, linalg, stats

from ornstein.calculus.laws import heat
from ornstein.calculus.laws.displacement import (
    estimate_diffusion_constant,
    mean_squared_displacement,
)
from ornstein.calculus.laws.random_walk import RandomWalk
from ornstein.core.random.noise import Noise
from ornstein.errors import DataError, OrnsteinError

F64 = torch.float64
WALKS = [
    RandomWalk(0.2, 0.3),
    RandomWalk(1 / 3, 2 / 3),
    RandomWalk(0.5, 0.5),
    RandomWalk(0.1, 0.9, 0.5, 2.0),
    RandomWalk(0.0, 0.4),
    RandomWalk(1.0, 0.0),
]


def moments(law: torch.Tensor, x: torch.Tensor) -> tuple[float, float]:
    mean = float((law * x).sum())
    return mean, float((law * (x - mean) ** 2).sum())


class TestTheLawOnTheLattice:
    @pytest.mark.parametrize("walk", WALKS, ids=repr)
    @pytest.mark.parametrize("steps", [0, 1, 2, 9, 60])
    def test_is_that_of_the_recurrence(self, walk, steps):
        """Each probability to a relative 1e-12, down to 1e-60."""
        c = torch.ones(1, dtype=F64)
        for _ in range(steps):
            c = walk.step(c)
        assert torch.allclose(walk.law(steps), c, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("walk", WALKS, ids=repr)
    def test_has_the_moments_of_the_steps_after_many(self, walk):
        """Mean ``k delta (q - p)`` and variance ``k delta^2 (p + q - (q - p)^2)`` after 30 000
        steps, to a relative 1e-11."""
        mean, var = moments(walk.law(30_000), walk.sites(30_000))
        assert mean == pytest.approx(30_000 * walk.delta * (walk.q - walk.p), rel=1e-11, abs=1e-9)
        assert var == pytest.approx(
            30_000 * walk.delta**2 * (walk.p + walk.q - (walk.q - walk.p) ** 2), rel=1e-11, abs=1e-9
        )
        assert walk.mean_squared_displacement(30_000) == pytest.approx(mean**2 + var, rel=1e-11)

    def test_is_binomial_where_nobody_stays(self):
        law = RandomWalk(0.3, 0.7).law(500)[::2]
        exact = stats.binom.pmf(np.arange(501), 500, 0.7)
        np.testing.assert_allclose(law.numpy(), exact, rtol=1e-11, atol=1e-300)

    def test_changes_by_a_drift_and_a_diffusion(self):
        walk, c = RandomWalk(0.2, 0.35), Noise(0).uniform((3, 7), F64)
        drift, diffusion = walk.parts(c)
        assert torch.allclose(
            walk.step(c), torch.nn.functional.pad(c, (1, 1)) + drift + diffusion, atol=1e-15
        )
        assert torch.allclose(drift.sum(1), torch.zeros(3, dtype=F64), atol=1e-15)
        assert torch.allclose(diffusion.sum(1), torch.zeros(3, dtype=F64), atol=1e-15)

    @pytest.mark.parametrize(("p", "q"), [(-0.1, 0.5), (0.6, 0.6), (0.0, 0.0)])
    def test_needs_probabilities(self, p, q):
        with pytest.raises(OrnsteinError, match="needs p, q >= 0"):
            RandomWalk(p, q)


class TestContinuousTime:
    @pytest.mark.parametrize(
        ("p", "q", "t"), [(0.3, 0.2, 7.0), (0.0, 0.5, 3.0), (0.4, 0.0, 8.0), (0.1, 0.6, 2e4)]
    )
    def test_is_skellam(self, p, q, t):
        walk = RandomWalk(p, q, tau=0.5)
        law = walk.law_at(t)
        reach = len(law) // 2
        j, a, b = np.arange(-reach, reach + 1), 2 * p * t, 2 * q * t
        exact = (
            stats.skellam.pmf(j, b, a)
            if a and b
            else stats.poisson.pmf(j, b)
            if b
            else stats.poisson.pmf(-j, a)
        )
        np.testing.assert_allclose(law.numpy(), exact, atol=1e-14)
        mean, var = moments(law, walk.sites(reach))
        assert mean == pytest.approx(walk.velocity * t, rel=1e-12)
        assert var == pytest.approx(
            2 * walk.diffusion * t, rel=1e-12
        )  # Einstein; no (q - p)^2 when the times are random

    def test_solves_the_master_equation(self):
        """``tau c' = drift + diffusion``, by the exponential of the matrix that the parts make."""
        walk, reach = RandomWalk(0.3, 0.5, tau=2.0), 80
        drift, diffusion = walk.parts(torch.eye(2 * reach + 1, dtype=F64))
        generator = ((drift + diffusion)[:, 1:-1] / walk.tau).T.numpy()
        start = np.eye(2 * reach + 1)[reach]
        np.testing.assert_allclose(
            walk.law_at(9.0, reach).numpy(), linalg.expm(9.0 * generator) @ start, atol=1e-13
        )

    def test_too_small_a_reach_is_refused(self):
        with pytest.raises(OrnsteinError, match="sites hold the walkers"):
            RandomWalk(0.5, 0.5).law_at(100.0, 10)


class TestManyWalkers:
    @pytest.mark.parametrize("how", ["at once", "step by step"])
    def test_counts_have_the_multinomial_mean_and_covariance(self, how):
        """1e8 walkers after 4 steps, 400 times: every mean and covariance within 4.5 standard
        errors (45 + 9 numbers), seed 1."""
        walk, n, steps, replicas = RandomWalk(0.2, 0.3), 10**8, 4, 400
        start = torch.full((replicas, 1), n)
        counts = (
            walk.counts(n, steps, 1, replicas) if how == "at once" else walk.evolve(start, steps, 1)
        ).double()
        assert (counts.sum(1) == n).all()
        mean, cov = n * walk.law(steps), walk.count_covariance(n, steps)
        assert ((counts.mean(0) - mean).abs() < 4.5 * (cov.diagonal() / replicas).sqrt()).all()
        error = ((cov.diagonal()[:, None] * cov.diagonal() + cov.square()) / (replicas - 1)).sqrt()
        assert ((counts.T.cov() - cov).abs() < 4.5 * error).all()

    def test_few_walkers_too(self):
        """3 walkers, 2 steps, 8000 times: the whole law of the count at the origin, by chi-square,
        seed 2."""
        walk, replicas = RandomWalk(0.25, 0.25), 8000
        seen = np.bincount(walk.counts(3, 2, 2, replicas)[:, 2].numpy(), minlength=4)
        expected = replicas * stats.binom.pmf(np.arange(4), 3, float(walk.law(2)[2]))
        assert stats.chisquare(seen, expected).pvalue > 1e-3

    def test_a_replica_depends_on_its_number_alone(self):
        walk = RandomWalk(0.4, 0.3)
        assert torch.equal(walk.counts(1000, 20, 3, 5)[:2], walk.counts(1000, 20, 3, 2))
        assert torch.equal(
            walk.evolve(torch.full((5, 1), 1000), 20, 3)[:2],
            walk.evolve(torch.full((2, 1), 1000), 20, 3),
        )
        assert not torch.equal(walk.counts(1000, 20, 3), walk.counts(1000, 20, 4))

    def test_sites_and_sums_survive_odd_walks(self):
        for walk in WALKS:
            for steps in (0, 1, 6):
                counts = walk.counts(1000, steps)
                assert counts.sum() == 1000 and not counts[:, walk.law(steps) == 0].any()
                assert walk.evolve(torch.tensor([[1000]]), steps).sum() == 1000

    def test_negative_counts_are_refused(self):
        with pytest.raises(OrnsteinError, match="at least 0"):
            RandomWalk(0.5, 0.5).evolve(torch.tensor([[-1]]), 1)


class TestTheLimit:
    @pytest.mark.parametrize(
        ("velocity", "move", "order"),
        [(0.0, 1 / 3, 4), (0.0, 0.5, 2), (0.0, 1.0, 2), (1.0, 1 / 3, 2), (-1.0, 1.0, 2)],
    )
    def test_is_the_heat_kernel_to_the_order_stated(self, velocity, move, order):
        """D = 0.5 at t = 0.5; halving delta divides the distance by 2^order."""
        far = []
        for delta in (0.1, 0.05):
            walk = RandomWalk.towards(0.5, velocity, delta, move)
            assert (walk.diffusion, walk.velocity) == (pytest.approx(0.5), pytest.approx(velocity))
            far.append(walk.distance_to_limit(round(0.5 / walk.tau)))
        assert math.log2(far[0] / far[1]) == pytest.approx(order, abs=0.1)

    def test_needs_the_right_constant(self):
        """With D = delta^2 D~ / (2 tau), D~ = p = q, half of what it is, the kernel is far from the
        walk."""
        walk, steps = RandomWalk(0.25, 0.25), 400
        x, wrong = walk.sites(steps), walk.diffusion / 2
        assert walk.distance_to_limit(steps) < 2e-3
        assert float((walk.law(steps) - heat.kernel(x, steps, wrong)).abs().sum()) > 0.3

    def test_a_drift_needs_a_fine_lattice(self):
        with pytest.raises(OrnsteinError, match="make delta smaller"):
            RandomWalk.towards(0.5, 20.0, 0.1)


INTERVALS = [
    cls(0.7, -0.5, 1.5, v)
    for cls in (heat.Killed, heat.Reflected, heat.Ring)
    for v in (0.0, 1.3, -2.0)
]


class TestTheHeatEquation:
    @pytest.mark.parametrize("interval", INTERVALS, ids=repr)
    @pytest.mark.parametrize("t", [0.02, 0.3, 2.0])
    def test_is_solved_on_an_interval(self, interval, t):
        """``d_t c + v d_x c - D d_xx c = 0`` by central differences of order 4: 1e-6 of the terms,
        and rounding."""
        h, x = 1e-3, torch.linspace(-0.3, 1.3, 9, dtype=F64)
        dt = 1e-3 * t

        def first(f, step):
            return (8 * (f(step) - f(-step)) - f(2 * step) + f(-2 * step)) / (12 * step)

        def c(dx=0.0, dt=0.0):
            return interval.density(x + dx, t + dt, 0.1)

        space = lambda dx: c(dx=dx)  # noqa: E731
        second = (16 * (space(h) + space(-h)) - 30 * c() - space(2 * h) - space(-2 * h)) / (
            12 * h * h
        )
        terms = torch.stack(
            [
                first(lambda s: c(dt=s), dt),
                interval.velocity * first(space, h),
                -interval.diffusion * second,
            ]
        )
        assert terms.sum(0).abs().max() < 1e-6 * terms.abs().max() + 1e-9

    @pytest.mark.parametrize(
        "interval",
        [i for i in INTERVALS if not (isinstance(i, heat.Reflected) and i.velocity)],
        ids=repr,
    )
    def test_images_and_modes_agree(self, interval):
        y = torch.linspace(0, interval.length, 41, dtype=F64)
        for t in (0.05, 0.5, 2.0):
            assert torch.allclose(
                interval.by_images(y, t, 0.6), interval.by_modes(y, t, 0.6), atol=1e-13
            )

    @pytest.mark.parametrize("interval", INTERVALS, ids=repr)
    def test_mass_and_ends(self, interval):
        x, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(200))
        x = (interval.low + interval.high) / 2 + x * interval.length / 2
        ends = torch.tensor([interval.low, interval.high], dtype=F64)
        for t in (0.02, 0.5):
            mass = float((weights * interval.density(x, t, 0.1)).sum()) * interval.length / 2
            at_ends = interval.density(ends, t, 0.1)
            if isinstance(interval, heat.Killed):
                assert mass == pytest.approx(interval.survival(t, 0.1), abs=1e-12)
                assert at_ends.abs().max() < 1e-12
            else:
                assert mass == pytest.approx(1, abs=1e-12)
            if isinstance(interval, heat.Ring):
                assert float(at_ends.diff()) == pytest.approx(0, abs=1e-12)

    def test_the_walls_let_nothing_through(self):
        """``v c = D c'`` at a reflecting end, by a one-sided difference; and the stationary law is
        what is left."""
        interval, h = heat.Reflected(0.7, velocity=1.3), 1e-4
        near = interval.density(torch.tensor([0.0, h, 2 * h], dtype=F64), 0.1, 0.3)
        slope = (-3 * near[0] + 4 * near[1] - near[2]) / (2 * h)
        assert float(1.3 * near[0] - 0.7 * slope) == pytest.approx(0, abs=1e-5)
        x = torch.linspace(0, 1, 11, dtype=F64)
        assert torch.allclose(interval.density(x, 20.0, 0.3), interval.stationary(x), atol=1e-14)
        with pytest.raises(OrnsteinError, match="take a later time"):
            heat.Reflected(0.01, velocity=1.0).density(x, 0.1, 0.3)

    @pytest.mark.parametrize("velocity", [0.0, 1e-7, 1.3, -2.0, 60.0, -500.0])
    def test_the_mean_exit_time_is_the_integral_of_the_survival(self, velocity):
        interval = heat.Killed(0.7, velocity=velocity)
        exact = interval.mean_exit_time(0.3)
        computed = integrate.quad(
            lambda t: interval.survival(t, 0.3),
            1e-9,
            30 * exact,
            epsabs=1e-10,
            limit=200,
            points=[exact],
        )[0]
        assert computed == pytest.approx(exact, abs=2e-8)

    def test_a_ring_evolves_any_start(self):
        """From a narrow kernel it goes the way of the kernel: 64 points carry it to 1e-10."""
        ring = heat.Ring(0.05, 0.0, 2.0, velocity=0.8)
        x = 2.0 * torch.arange(64, dtype=F64) / 64
        assert torch.allclose(
            ring.evolve(ring.density(x, 0.2, 0.9), 0.5), ring.density(x, 0.7, 0.9), atol=1e-9
        )

    def test_a_point_has_no_density(self):
        with pytest.raises(OrnsteinError, match="has no density"):
            heat.kernel(torch.zeros(3), 0.0, 1.0)


class TestDiffusionFromData:
    @pytest.mark.parametrize("dim", [1, 2])
    def test_errors_cover_the_truth_as_often_as_they_say(self, dim):
        """400 data sets of 5 trajectories and 60 jumps, lag 2: 1.96 standard errors hold 95 %, less
        3.5 of its own."""
        d_true, dt, hits, scores = 0.7, 0.1, 0, []
        for seed in range(400):
            z = Noise(seed).normal((5, 60, dim), F64)
            x = torch.nn.functional.pad(
                (0.3 * dt + math.sqrt(2 * d_true * dt) * z).cumsum(1), (0, 0, 1, 0)
            )
            fit = estimate_diffusion_constant(x, dt, lag=2)
            assert fit.increments == 150
            scores.append(
                [
                    (fit.diffusion.value - d_true) / fit.diffusion.stderr,
                    float((fit.velocity.value[0] - 0.3) / fit.velocity.stderr[0]),
                ]
            )
        scores = np.array(scores)
        assert (np.abs(scores).max(0) < 5).all()
        hits = (np.abs(scores) < 1.96).mean(0)
        assert (np.abs(hits - 0.95) < 3.5 * math.sqrt(0.95 * 0.05 / 400)).all()

    def test_of_a_walk_it_is_the_constant_of_discrete_time(self):
        """``var / (2 tau)`` with the drift's part taken off, within 3 standard errors, for 20 seeds
        but one."""
        walk, right = RandomWalk(0.1, 0.5, 0.2, 0.01), 0
        for seed in range(20):
            u = Noise(seed).uniform((10, 1000), F64)
            jumps = walk.delta * ((u < walk.q).double() - (u >= 1 - walk.p).double())
            positions = torch.nn.functional.pad(jumps.cumsum(1), (1, 0))
            value, stderr = estimate_diffusion_constant(positions, walk.tau).diffusion
            right += abs(value - walk.var_step / (2 * walk.tau)) < 3 * stderr
        assert right >= 19

    def test_the_curve_is_that_of_drift_and_diffusion(self):
        """``v^2 s^2 + 2 d D s`` within 4 standard errors at every lag, seed 5."""
        x = (0.5 * 0.1 + math.sqrt(0.2 * 0.7) * Noise(5).normal((400, 50, 3), F64)).cumsum(1)
        curve = mean_squared_displacement(x, 0.1, [1, 2, 5, 10, 40])
        expected = 3 * (0.25 * curve.lags.square() + 2 * 0.7 * curve.lags)
        assert ((curve.value - expected).abs() < 4 * curve.stderr).all()
        assert (curve.stderr < 0.1 * expected).all()

    def test_bad_data_are_named(self):
        x = torch.zeros(3, 10)
        with pytest.raises(OrnsteinError, match="lag"):
            estimate_diffusion_constant(x, 0.1, lag=10)
        with pytest.raises(DataError, match="NaN"):
            estimate_diffusion_constant(x.fill_(math.nan), 0.1)
        with pytest.raises(DataError, match="scatter between trajectories"):
            mean_squared_displacement(torch.zeros(1, 10), 0.1, [1])
