"""Integrals along a path are the sums they say they are, and have the laws of the theorems.

Identities hold path by path, to rounding where sums telescope. Statistical tolerances are k = 4
standard errors at the seeds in the tests; normality is tested by Kolmogorov-Smirnov at level 1e-3.
"""

import itertools
import math

import pytest
import scipy.integrate
import scipy.stats
import torch

from ornstein.calculus import (
    PathFunctional,
    by_parts,
    check_adapted,
    covariation,
    ito,
    ito_isometry,
    ito_process,
    quadratic_variation,
    stratonovich,
    theta_integral,
    time_change,
    wiener_integral,
)
from ornstein.calculus.integrals.time_change import kolmogorov
from ornstein.core.random import BrownianPath, Correlated
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError

K = 4
F64 = torch.float64
GRID = torch.linspace(0.0, 1.0, 129, dtype=F64)
UNEVEN = torch.tensor([0.0, 0.1, 0.11, 0.3, 0.55, 0.9, 1.0], dtype=F64)


def path(n=4000, grid=GRID, seed=3, **kwargs):
    return BrownianPath((n,), seed=seed, cells=grid, dtype=F64, **kwargs)


def assert_mean(values, mean, k=K):
    assert abs(float(values.mean()) - mean) < k * float(values.std()) / math.sqrt(len(values))


class TestSums:
    @pytest.mark.parametrize("grid", [GRID, UNEVEN])
    def test_twice_the_path_against_itself(self, grid):
        """d(B^2) = 2 B dB + dt, the dt being the quadratic variation: on a grid (Ito) exactly;
        without it (Stratonovich)."""
        b = path(100, grid)
        left, middle, right = (
            theta_integral(lambda x, t: 2 * x, b, grid, theta) for theta in (0.0, 0.5, 1.0)
        )
        bracket = quadratic_variation(b, grid)
        assert torch.allclose(left, b(1.0).square() - bracket, rtol=0, atol=1e-13)
        assert torch.allclose(middle, b(1.0).square(), rtol=0, atol=1e-13)
        assert torch.allclose(right, b(1.0).square() + bracket, rtol=0, atol=1e-13)
        assert torch.equal(left, ito(lambda x, t: 2 * x, b, grid)) and torch.equal(
            middle, stratonovich(lambda x, t: 2 * x, b, grid)
        )

    def test_the_bracket_is_time_and_the_printed_formula_is_wrong(self):
        """The sum of squares has mean T and variance 2 T^2 / n. With ``B dB + dt / 2`` in its place
        B_T^2 would be twice too small."""
        b = path()
        bracket = quadratic_variation(b, GRID)
        assert_mean(bracket, 1)
        assert abs(float(bracket.var()) * 128 / 2 - 1) < K * math.sqrt(2 / 4000)
        integral = ito(lambda x, t: x, b, GRID)
        assert float((2 * integral + 1 - b(1.0).square()).square().mean().sqrt()) < 1.5 * math.sqrt(
            2 / 128
        )
        assert float((integral + 0.5 - b(1.0).square()).square().mean().sqrt()) > 0.5

    def test_a_strong_order_of_one_half(self):
        """``int B^2 dB = B^3 / 3 - int B dt``: the left sums miss the double integrals over a step,
        ``2 B int int dB dB``."""
        b = path(grid=torch.linspace(0, 1, 1025, dtype=F64))
        errors = []
        for n in (64, 256):
            coarse = torch.linspace(0, 1, n + 1, dtype=F64)
            fine = ito(lambda x, t: x.square(), b, torch.linspace(0, 1, 1025, dtype=F64))
            errors.append(
                float((ito(lambda x, t: x.square(), b, coarse) - fine).square().mean().sqrt())
            )
            exact = math.sqrt(
                1 / n - 1 / 1024
            )  # variance: sum over steps of 4 E[B^2] h^2 / 2, E int B^2 = 1 / 2
            assert 0.9 * exact < errors[-1] < 1.12 * exact
        assert 1.9 < errors[0] / errors[1] < 2.4

    @pytest.mark.parametrize("theta", [0.0, 0.5])
    def test_integrands_of_all_kinds(self, theta):
        b, other = path(7), path(7, seed=4)
        times, values = GRID, torch.stack([b(float(t)) for t in GRID])
        for f, same in [
            (lambda t: t.cos(), lambda x, t: t.cos() + 0 * x),
            (values, lambda x, t: x),
            (2.5, lambda t: 2.5 + 0 * t),
            (b, lambda x, t: x) if theta == 0 else (2.5, torch.tensor(2.5)),
        ]:
            assert torch.allclose(
                theta_integral(f, b, times, theta),
                theta_integral(same, b, times, theta),
                rtol=0,
                atol=1e-13,
            )
        one, other_way = (theta_integral(lambda x, t: x * t, x, times, theta) for x in (b, values))
        assert torch.allclose(one, other_way, rtol=0, atol=1e-13)
        mixed = ito(other, b, times) + ito(b, other, times) + covariation(b, other, times)
        assert torch.allclose(mixed, b(1.0) * other(1.0), rtol=0, atol=1e-13)  # the product rule

    def test_stratonovich_of_another_process_asks_it_in_the_middle(self):
        b, other = path(5), path(5, seed=4)
        by_hand = sum(
            other(float((s + t) / 2)) * b(float(s), float(t)) for s, t in itertools.pairwise(UNEVEN)
        )
        assert torch.allclose(stratonovich(other, b, UNEVEN), by_hand, rtol=0, atol=1e-14)

    def test_the_process_ends_in_the_integral(self):
        b = path(6)
        process = ito_process(lambda x, t: x.sin(), b, GRID)
        assert process.shape == (129, 6) and torch.equal(process[0], torch.zeros(6, dtype=F64))
        assert torch.equal(process[-1], ito(lambda x, t: x.sin(), b, GRID))
        assert torch.equal(process[64], ito(lambda x, t: x.sin(), b, GRID[:65]))

    def test_a_grid_inside_the_path_starts_at_its_value(self):
        b, inner = path(6), GRID[32:97]
        assert torch.allclose(
            stratonovich(lambda x, t: x, b, inner),
            (b(0.75).square() - b(0.25).square()) / 2,
            rtol=0,
            atol=1e-14,
        )

    def test_covariation_of_correlated_motions(self):
        c = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
        b = Correlated.of(BrownianPath((4000, 2), seed=5, cells=GRID, dtype=F64), c)
        values = torch.stack([b(float(t)) for t in GRID])
        assert_mean(covariation(values[..., 0], values[..., 1], GRID), 0.6)
        assert (
            float(quadratic_variation(GRID[:, None] ** 2, GRID)) < 4 / 128
        )  # smooth: 0 in the limit

    def test_gradients_pass(self):
        scale = torch.tensor(2.0, dtype=F64, requires_grad=True)
        b = path(3)
        ito(lambda x, t: scale * x, b, GRID).sum().backward()
        assert torch.allclose(scale.grad, ito(lambda x, t: x, b, GRID).sum(), rtol=1e-12)


class TestLaws:
    @pytest.mark.parametrize(
        "f",
        [lambda x, t: x, lambda x, t: (x + t).sin(), lambda t: 1 + t],
        ids=["B", "sin", "1 + t"],
    )
    def test_the_isometry(self, f):
        """Both sides agree within four errors of their difference, and with the exact value where
        it is known."""
        isometry = ito_isometry(f, path(20_000), GRID)
        (variance, _), (energy, _), (gap, stderr) = isometry
        assert abs(gap) < K * stderr and stderr < 0.05 * energy + 0.02
        assert math.isclose(gap, variance - energy, rel_tol=1e-9, abs_tol=1e-12)

    def test_the_isometry_against_closed_forms(self):
        """``E (int B dB)^2 = 1/2 (1 - 1/n)`` on n steps; ``int (1 + t)^2 dt`` by its left sum has
        no chance in it."""
        isometry = ito_isometry(lambda x, t: x, path(20_000), GRID)
        for value, error in (isometry.variance, isometry.energy):
            assert abs(value - 0.5 * (1 - 1 / 128)) < K * error
        energy, stderr = ito_isometry(lambda t: 1 + t, path(), GRID).energy
        assert stderr < 1e-15
        assert math.isclose(energy, float((1 + GRID[:-1]).square().mean()), rel_tol=1e-12)

    def test_an_integrand_that_peeks_breaks_it(self):
        """The right end in place of the left: the gap is 100 standard errors and more."""
        b = path()
        values = torch.stack([b(float(t)) for t in GRID])
        gap, stderr = ito_isometry(values.roll(-1, 0), b, GRID).gap
        assert gap > 10 * stderr

    @pytest.mark.parametrize(
        ("f", "s", "t"),
        [
            (torch.exp, 0.0, 1.0),
            (torch.cos, -1.0, 20.0),
            (lambda u: u.abs().sqrt(), -1.0, 2.0),
            (lambda u: 0 * u + 3, 2.0, 5.0),
        ],
    )
    def test_the_gaussian_law_of_a_deterministic_integrand(self, f, s, t):
        """Its variance against SciPy's adaptive quadrature, to 1e-8."""
        law = wiener_integral(f, s, t)
        square = lambda u: float(f(torch.tensor(u, dtype=F64))) ** 2  # noqa: E731
        exact = scipy.integrate.quad(square, s, t, epsabs=1e-12, limit=500, points=[(s + t) / 2])
        assert law.mean.shape == (1,) and float(law.mean) == 0
        assert math.isclose(float(law.std) ** 2, exact[0], rel_tol=1e-8)

    def test_samples_of_the_integral_have_that_law(self):
        """``Z_t = x + int e^{lambda s} sigma dB``, the martingale of Ornstein and Uhlenbeck: by
        parts, which is nearly exact."""
        b = path(60_000, torch.linspace(0, 1, 33, dtype=F64), order=2)
        integral = by_parts(lambda s: 0.7 * (1.5 * s).exp(), b, torch.linspace(0, 1, 33, dtype=F64))
        law = wiener_integral(lambda s: 0.7 * (1.5 * s).exp(), 0.0, 1.0)
        assert math.isclose(float(law.std) ** 2, 0.49 * math.expm1(3.0) / 3, rel_tol=1e-12)
        assert scipy.stats.kstest((integral / law.std).numpy(), "norm").pvalue > 1e-3

    def test_several_integrands_at_once(self):
        law = wiener_integral(lambda u: torch.stack([u, 1 - u], -1), 0.0, 1.0)
        assert torch.allclose(law.std, torch.full((1, 2), 1 / 3, dtype=F64).sqrt(), rtol=1e-12)

    def test_an_integral_that_is_infinite(self):
        with pytest.raises(OrnsteinError, match="is it finite"):
            wiener_integral(lambda u: 1 / u, 0.0, 1.0)


class TestByParts:
    def test_it_is_the_integral(self):
        """``int f dB = f(T) B_T - int B f' ds``, not ``- int B f ds``: the sums of the definition
        approach it, as 1/n."""
        fine = torch.linspace(0, 1, 513, dtype=F64)
        b = path(500, fine, order=2)
        exact = by_parts(lambda t: (2 * t).sin(), b, fine)
        errors = [
            float(
                (ito(lambda t: (2 * t).sin(), b, fine[:: 512 // n]) - exact).square().mean().sqrt()
            )
            for n in (16, 64)
        ]
        assert errors[0] < 0.05 and 3.6 < errors[0] / errors[1] < 4.4
        printed = (2 * fine[-1]).sin() * b(1.0) - sum(
            (2 * t).sin() * b(float(t)) for t in fine[:-1]
        ) / 512
        assert float((printed - exact).square().mean().sqrt()) > 0.1

    def test_the_means_of_the_path_make_it_second_order(self):
        """With H the mean of the path over each step is its own. Here on 8 and 16 steps against
        256; without H the order is one."""
        fine = torch.linspace(0, 1, 257, dtype=F64)
        f = lambda t: (3 * t).cos()  # noqa: E731
        with_means, without = path(500, fine, order=2), path(500, fine)
        for b, low, high in ((with_means, 3.5, 4.6), (without, 1.7, 2.4)):
            exact = by_parts(f, b, fine)
            errors = [
                float((by_parts(f, b, fine[:: 256 // n]) - exact).square().mean().sqrt())
                for n in (8, 16)
            ]
            assert low < errors[0] / errors[1] < high, errors


class TestTimeChange:
    grid = torch.linspace(0, 1, 65, dtype=F64)
    times = torch.linspace(0, 0.9, 10, dtype=F64)

    def integrand(self, x, t):
        return 1.2 + (3 * x).sin() / 5 + t

    def test_the_integral_is_a_brownian_motion_on_its_own_clock(self):
        """Exact on any grid: increments N(0, dt) by Kolmogorov-Smirnov, as SciPy's, and independent
        of each other."""
        computed = time_change(self.integrand, path(20_000, self.grid), self.grid, self.times)
        assert computed.p_value > 1e-3
        jumps = computed.motion.diff(dim=0) / math.sqrt(0.1)
        check = scipy.stats.kstest(jumps.flatten().numpy(), "norm")
        assert math.isclose(computed.distance, check.statistic, rel_tol=1e-9) and math.isclose(
            computed.p_value, check.pvalue, abs_tol=1e-3
        )
        assert torch.equal(computed.motion[0], torch.zeros(20_000, dtype=F64))
        for i in range(1, 9):
            assert_mean(jumps[i] * jumps[i - 1], 0)
            assert_mean(jumps[i] * computed.motion[i], 0)

    def test_on_the_old_clock_it_is_not(self):
        b = path(20_000, self.grid)
        increments = ito_process(self.integrand, b, self.grid).diff(dim=0) * 8
        assert kolmogorov(increments.flatten() / increments.std())[1] < 1e-6

    def test_tau_is_when_the_clock_passes(self):
        """``A(tau(t)) = t``, with A linear between the times of the grid; and W at a time of the
        clock's own is the integral there."""
        computed = time_change(self.integrand, path(50, self.grid), self.grid, self.times)
        for j in range(50):
            at = torch.tensor([float(torch.as_tensor(x)) for x in computed.tau[:, j]], dtype=F64)
            k = (torch.searchsorted(self.grid, at, right=True) - 1).clamp(max=63)
            clock = computed.clock[:, j]
            assert torch.allclose(
                clock[k] + (at - self.grid[k]) * 64 * (clock[k + 1] - clock[k]),
                self.times,
                atol=1e-12,
            )
        steady = time_change(lambda t: 2.0 + 0 * t, path(9, self.grid), self.grid, 4 * self.grid)
        assert torch.allclose(steady.motion, steady.integral, rtol=0, atol=1e-12)
        assert torch.allclose(steady.tau, self.grid[:, None].expand(-1, 9), atol=1e-12)

    def test_shapes_with_events(self):
        b = BrownianPath((300, 2, 3), seed=8, cells=self.grid, dtype=F64)
        computed = time_change(self.integrand, b, self.grid, self.times)
        assert computed.motion.shape == (10, 300, 2, 3) and computed.p_value > 1e-3

    def test_an_integrand_that_peeks_gives_no_brownian_motion(self):
        b = path(20_000, self.grid)
        ahead = torch.stack([2 + b(float(t)).sign() for t in self.grid]).roll(
            -1, 0
        )  # larger where the step ends above 0
        assert time_change(ahead, b, self.grid, self.times).p_value < 1e-6

    def test_clocks_that_stop(self):
        with pytest.raises(OrnsteinError, match="the clock of a sample stops"):
            time_change(lambda t: 0.5 + 0 * t, path(5, self.grid), self.grid, self.times)
        with pytest.raises(OrnsteinError, match="starts at 0"):
            time_change(self.integrand, path(5, self.grid), self.grid, self.times[1:])


class TestAdapted:
    def test_the_past_may_be_used_and_the_future_not(self):
        """A running maximum on the grid; and a glance at the next time."""
        b = path(5, UNEVEN)

        def running(p, t):
            return torch.stack([p(float(s)) for s in UNEVEN if s <= t]).max(0).values

        values = torch.stack([b(float(t)) for t in UNEVEN]).cummax(0).values
        assert torch.allclose(
            ito(PathFunctional(running), b, UNEVEN), ito(values, b, UNEVEN), rtol=0, atol=1e-13
        )
        for peek in (
            lambda p, t: p(1.0),
            lambda p, t: p(0.0, float(t) + 0.01),
            lambda p, t: p.levy_area(0.0, 1.0),
        ):
            with pytest.raises(OrnsteinError, match="not known yet"):
                ito(PathFunctional(peek), b, UNEVEN)

    @pytest.mark.parametrize(
        ("f", "adapted"),
        [
            (lambda b: lambda t: b(t).square() + t, True),
            (lambda b: lambda t: b(float(t) / 2), True),
            (lambda b: lambda t: b(1.0), False),
            (lambda b: lambda t: b(min(float(t) + 0.01, 1.0)), False),
            (lambda b: lambda t: b(0.4) if t < 0.3 else b(0.1), False),
        ],
    )
    def test_another_future_tells(self, f, adapted):
        computed = check_adapted(f, path(5), path(5, seed=6), UNEVEN)
        assert (
            computed.adapted is adapted
            and (computed.time is None) is adapted
            and (computed.change > 0.01) is not adapted
        )


class TestErrors:
    @pytest.mark.parametrize(
        ("f", "grid", "message"),
        [
            (lambda t: t, GRID.flip(0), "run up in time"),
            (lambda t: t, [0.0, 0.0], "strictly"),
            (lambda a, b, c: a, GRID, "PathFunctional"),
            (torch.exp, GRID, "lambda"),
            (torch.zeros(3), GRID, "one value for each time"),
        ],
    )
    def test_bad_integrands_and_grids(self, f, grid, message):
        with pytest.raises(OrnsteinError, match=message):
            ito(f, path(3), grid)

    def test_bad_theta_values_and_isometries(self):
        with pytest.raises(OrnsteinError, match="theta=2"):
            theta_integral(1.0, path(3), GRID, 2.0)
        with pytest.raises(OrnsteinError, match="first dimension runs over the times"):
            ito(1.0, torch.zeros(4, 3), GRID)
        with pytest.raises(OrnsteinError, match="PathFunctional is an Ito integrand"):
            stratonovich(PathFunctional(lambda p, t: p(t)), path(3), GRID)
        with pytest.raises(OrnsteinError, match="needs several"):
            ito_isometry(1.0, path(1), GRID)


def test_kolmogorov_is_scipys():
    for n, shift in ((50, 0.0), (1000, 0.05), (20_000, 0.0)):
        x = Noise(n).normal((n,), F64) + shift
        computed, exact = kolmogorov(x), scipy.stats.kstest(x.numpy(), "norm")
        assert (
            math.isclose(computed[0], exact.statistic, rel_tol=1e-9)
            and abs(computed[1] - exact.pvalue) < 0.02
        )
