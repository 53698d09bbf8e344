"""Densities on a grid: against exact laws, with their mass, positive, and stationary where they
should be."""

import math

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.calculus.pde.generator import generator
from ornstein.errors import OrnsteinError

F64 = torch.float64
UNIT = torch.tensor([0.0, 1.0])
STEPPINGS = [orn.pde.Uniformisation(), orn.pde.FluxLimited()]


def normal(mean, var):
    mean = torch.as_tensor(mean, dtype=F64)
    return lambda x: (
        (-(x - mean).square().sum(1) / (2 * var)).exp() / (2 * math.pi * var) ** (x.shape[1] / 2)
    )


def constant(value):
    return lambda x, t: torch.tensor(value, dtype=F64)


def l1(grid, p, q) -> float:
    return float(grid.integrate((p - q).abs()))


def ou_error(cells: int, dim: int = 1) -> float:
    """N(1.5, 0.09) under ``dX = -X dt + dB`` to t = 1."""
    grid = orn.Grid(*[orn.Axis(-6, 6, cells)] * dim)
    computed = orn.FokkerPlanck(orn.OU(1.0, 1.0), grid).solve(
        grid.density(normal(1.5, 0.09)), UNIT
    )[-1]
    law = normal(1.5 * math.exp(-1), 0.5 - 0.41 * math.exp(-2))
    return l1(grid, computed, grid.evaluate(law))


def double_well(x, t=0.0):
    a, b = x[:, 0], x[:, 1]
    return -torch.stack((4 * a * (a * a - 1) - (b - a / 2), 2 * (b - a / 2)), 1)


def well_density(grid, temperature: float = 1.0):
    values = grid.evaluate(
        lambda x: (
            -2 * ((x[:, 0] ** 2 - 1) ** 2 + (x[:, 1] - x[:, 0] / 2) ** 2) / temperature
        ).exp()
    )
    return values / grid.integrate(values)


class TestOrnsteinUhlenbeck:
    def test_on_400_cells_the_error_is_below_1e_3_and_of_order_2(self):
        errors = [ou_error(n) for n in (100, 200, 400)]
        assert errors[-1] < 1e-3
        assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)
        assert np.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.1)

    def test_errors_are_below_those_of_fplanck(self):
        """2.26e-3 and 5.66e-4 on a line, 1.19e-2 and 2.98e-3 in a plane:
        benchmarks/fokker_planck.py measures both."""
        assert ou_error(100) < 2.2e-3 and ou_error(200) < 5.6e-4
        assert ou_error(50, dim=2) < 1.15e-2 and ou_error(100, dim=2) < 2.9e-3

    def test_moments_in_the_plane(self):
        """Two coordinates with different rates and noises; means to O(h^4), variances to O(h^2)."""
        rate, noise = torch.tensor([1.0, 2.0], dtype=F64), torch.tensor([1.0, 0.8], dtype=F64)
        grid = orn.Grid(orn.Axis(-5, 5, 80), orn.Axis(-4, 4, 80))
        equation = orn.FokkerPlanck(orn.SDE(lambda x, t: -rate * x, lambda x, t: noise), grid)
        computed = equation.solve(grid.density(normal([1.0, -1.0], 0.2)), UNIT)[-1]
        torch.testing.assert_close(
            grid.mean(computed),
            torch.tensor([1.0, -1.0], dtype=F64) * (-rate).exp(),
            atol=5e-4,
            rtol=0,
        )
        decay = (-2 * rate).exp()
        var = 0.2 * decay + noise.square() / (2 * rate) * (1 - decay)
        torch.testing.assert_close(grid.covariance(computed), torch.diag(var), atol=3e-3, rtol=0)

    def test_the_mean_follows_the_drift_to_fourth_order(self):
        def off(cells):
            grid = orn.Grid(orn.Axis(-6, 6, cells))
            computed = orn.FokkerPlanck(orn.OU(1.0, 1.0), grid).solve(
                grid.density(normal(1.0, 0.3)), UNIT
            )[-1]
            return abs(float(grid.mean(computed)) - math.exp(-1))

        assert math.log2(off(60) / off(120)) > 3.5

    def test_noise_that_grows_in_time_is_exact_in_a_single_step(self):
        """VP with a linear rate: its generators commute, and the middle of an interval has the mean
        of the rate."""
        sde, grid = orn.VP(0.1, 4.0), orn.Grid(orn.Axis(-5, 5, 300))
        computed = orn.FokkerPlanck(sde, grid).solve(grid.density(normal(1.0, 0.04)), UNIT)[-1]
        alpha, sigma = float(sde.alpha(1.0)), float(sde.sigma(1.0))
        assert l1(grid, computed, grid.evaluate(normal(alpha, alpha**2 * 0.04 + sigma**2))) < 1e-3

    def test_coefficients_that_depend_on_time_are_of_order_2_in_the_step(self):
        """``dX = (3 sin 4t - X) dt + (1/2 + t) dB``: mean ``3 int e^(s-1) sin 4s ds``, variance
        ``int e^(2s-2) (1/2 + s)^2 ds``."""
        sde = orn.SDE(
            lambda x, t: 3 * math.sin(4 * t) - x, lambda x, t: torch.tensor(0.5 + t, dtype=F64)
        )
        grid = orn.Grid(orn.Axis(-5, 5, 400))
        s = torch.linspace(0, 1, 2001, dtype=F64)
        mean = 3 * torch.trapezoid((s - 1).exp() * (4 * s).sin(), s) + math.exp(-1)
        var = torch.trapezoid((2 * s - 2).exp() * (0.5 + s).square(), s) + 0.04 * math.exp(-2)

        def error(steps):
            ts = torch.linspace(0, 1, steps + 1, dtype=F64)
            computed = orn.FokkerPlanck(sde, grid).solve(grid.density(normal(1.0, 0.04)), ts)[-1]
            return l1(grid, computed, grid.evaluate(normal(mean, float(var))))

        assert error(64) < 1e-3
        assert math.log2(error(4) / error(8)) == pytest.approx(2, abs=0.2)

    def test_a_reverse_process_runs_down_in_time(self):
        target = orn.targets.GaussianMixture(
            torch.tensor([[-1.0], [1.2]]), torch.tensor([[0.4], [0.5]]), torch.tensor([0.4, 0.6])
        )
        sde, grid = orn.OU(), orn.Grid(orn.Axis(-6, 6, 300))
        posterior = target.posterior(sde)
        start = grid.density(lambda x: posterior.log_prob(x, 1.0).exp())
        computed = orn.FokkerPlanck(orn.Reverse(posterior), grid).solve(
            start, torch.linspace(1, 0, 81, dtype=F64)
        )[-1]
        assert l1(grid, computed, grid.evaluate(lambda x: target.log_prob(x).exp())) < 3e-3


class TestMassAndSign:
    @pytest.mark.parametrize("stepping", STEPPINGS, ids=repr)
    @pytest.mark.parametrize("end", [orn.pde.Reflecting(), orn.pde.Periodic()], ids=repr)
    def test_hold_for_coefficients_of_space_and_time(self, stepping, end):
        """A strong drift and a noise that nearly vanishes, from a density on one cell, in steps
        short and long."""
        sde = orn.SDE(
            lambda x, t: 5 * torch.sin(3 * x + t), lambda x, t: 0.05 + torch.cos(x + t).square()
        )
        grid = orn.Grid(orn.Axis(0, 2 * math.pi, 120, end, end))
        start = torch.zeros(120, dtype=F64)
        start[7] = 1 / grid.volume
        computed = orn.FokkerPlanck(sde, grid, stepping).solve(
            start, torch.tensor([0.0, 1e-5, 1e-3, 0.1, 1.0, 3.0])
        )
        assert (computed >= 0).all()
        assert (grid.integrate(computed) - 1).abs().max() < 1e-12

    @pytest.mark.parametrize("stepping", STEPPINGS, ids=repr)
    def test_hold_in_the_plane_after_many_steps(self, stepping):
        grid = orn.Grid(orn.Axis(-2.5, 2.5, 40), orn.Axis(-3, 3, 50))
        computed = orn.FokkerPlanck(orn.SDE(double_well, constant(1.0)), grid, stepping).solve(
            grid.density(normal([1.0, 0.5], 0.05)), torch.linspace(0, 20, 101, dtype=F64)
        )
        assert (computed >= 0).all()
        assert (grid.integrate(computed) - 1).abs().max() < 1e-12

    def test_what_an_absorbing_end_takes_is_the_first_passage_law(self):
        """Brownian motion from 0 between absorbing ends -1 and 1: survival is ``4/pi sum
        (-1)^k/(2k+1) e^(-(2k+1)^2 pi^2 t/8)``."""
        grid = orn.Grid(orn.Axis(-1, 1, 201, orn.pde.Absorbing(), orn.pde.Absorbing()))
        start = torch.zeros(201, dtype=F64)
        start[100] = 1 / grid.volume
        brownian = orn.SDE(lambda x, t: torch.zeros_like(x), constant(1.0))
        ts = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=F64)
        odd = 2 * torch.arange(20)[:, None] + 1
        sign = (-1.0) ** torch.arange(20)[:, None]
        exact = (4 / math.pi * sign / odd * (-(odd**2) * math.pi**2 * ts / 8).exp()).sum(0)[1:]
        survival = grid.integrate(orn.FokkerPlanck(brownian, grid).solve(start, ts))[1:]
        torch.testing.assert_close(survival, exact, atol=1e-4, rtol=0)
        fine = torch.linspace(0, 1, 201, dtype=F64).square()
        limited = grid.integrate(
            orn.FokkerPlanck(brownian, grid, orn.pde.FluxLimited()).solve(start, fine)
        )[-1]
        assert float(limited) == pytest.approx(float(exact[-1]), abs=1e-3)

    def test_the_limited_step_is_of_order_2(self):
        sde = orn.SDE(lambda x, t: 1 + 0.5 * torch.sin(x), lambda x, t: 0.7 + 0.2 * torch.cos(x))
        grid = orn.Grid(orn.Axis(0, 2 * math.pi, 100, orn.pde.Periodic(), orn.pde.Periodic()))
        start = grid.density(normal(3.0, 0.1))
        exact = orn.FokkerPlanck(sde, grid).solve(start, 2 * UNIT)[-1]

        def error(steps):
            ts = torch.linspace(0, 2, steps + 1, dtype=F64)
            return l1(
                grid, orn.FokkerPlanck(sde, grid, orn.pde.FluxLimited()).solve(start, ts)[-1], exact
            )

        assert math.log2(error(40) / error(80)) == pytest.approx(2, abs=0.15)

    def test_splitting_two_axes_is_of_order_2(self):
        grid = orn.Grid(orn.Axis(-2.5, 2.5, 50), orn.Axis(-3, 3, 50))
        equation, start = (
            orn.SDE(double_well, constant(1.0)),
            grid.density(normal([1.0, 0.5], 0.05)),
        )
        exact = orn.FokkerPlanck(equation, grid).solve(start, UNIT)[-1]

        def error(steps):
            ts = torch.linspace(0, 1, steps + 1, dtype=F64)
            return l1(
                grid,
                orn.FokkerPlanck(equation, grid, orn.pde.FluxLimited()).solve(start, ts)[-1],
                exact,
            )

        assert math.log2(error(20) / error(40)) == pytest.approx(2, abs=0.2)


def assert_stationary(sde, grid, exact, rtol):
    """The stationary density is the given one, up to its normaliser and a relative error."""
    stationary = orn.FokkerPlanck(sde, grid).stationary()
    torch.testing.assert_close(stationary, exact / grid.integrate(exact), rtol=rtol, atol=0)


class TestStationary:
    def test_density_is_exact_at_the_centres_in_detailed_balance(self):
        """On 30 cells only: the drift is a cubic, for which the quadrature has no error."""
        grid = orn.Grid(orn.Axis(-2, 2, 30))
        sde = orn.SDE(lambda x, t: 4 * x * (1 - x.square()), constant(1.0))
        exact = grid.evaluate(lambda x: (-2 * (x[:, 0] ** 2 - 1) ** 2).exp())
        assert_stationary(sde, grid, exact, 1e-10)

    def test_density_of_multiplicative_noise_follows_ito(self):
        """``dX = -X dt + sqrt(2 (1 + X^2)) dB`` has ``D p = exp(int A / D)``: ``p ~ (1 +
        x^2)^(-3/2)`` in the sense of Ito."""
        grid = orn.Grid(orn.Axis(-5, 5, 200))
        sde = orn.SDE(lambda x, t: -x, lambda x, t: (2 * (1 + x.square())).sqrt())
        exact = grid.evaluate(lambda x: (1 + x[:, 0] ** 2) ** -1.5)
        assert_stationary(sde, grid, exact, 1e-7)

    def test_double_well_in_the_plane(self):
        """200 x 200 cells, from one well: started there, solved through the barrier's time scale,
        and directly."""
        grid = orn.Grid(orn.Axis(-2.2, 2.2, 200), orn.Axis(-3, 3, 200))
        equation = orn.FokkerPlanck(
            orn.SDE(double_well, constant(1.2)), grid, orn.pde.FluxLimited()
        )
        exact = well_density(grid, 1.44)
        times = 30 * torch.linspace(0, 1, 31, dtype=F64).square()
        computed = equation.solve(grid.density(normal([1.0, 0.5], 0.05)), times)[-1]
        assert l1(grid, computed, exact) / 2 < 1e-3
        assert l1(grid, equation.stationary(), exact) / 2 < 1e-9

    def test_barriers_that_no_rounding_sees_over(self):
        """Wells of unequal depth behind 200 nats: exact on a line; in the plane it is refused, not
        made up."""
        potential = lambda x: 200 * (x.square() - 1).square() + x  # noqa: E731
        slope = lambda x: 800 * x * (x.square() - 1) + 1  # noqa: E731
        grid = orn.Grid(orn.Axis(-1.5, 1.5, 300))
        computed = orn.FokkerPlanck(
            orn.SDE(lambda x, t: -slope(x), constant(2.0**0.5)), grid
        ).stationary()
        exact = grid.evaluate(lambda x: (-potential(x[:, 0])).exp())
        torch.testing.assert_close(computed, exact / grid.integrate(exact), rtol=1e-9, atol=0)
        plane = orn.Grid(orn.Axis(-1.5, 1.5, 30), orn.Axis(-3, 3, 30))
        sde = orn.SDE(lambda x, t: torch.stack((-slope(x[:, 0]), -x[:, 1]), 1), constant(2.0**0.5))
        with pytest.raises(OrnsteinError, match="apart"):
            orn.FokkerPlanck(sde, plane).stationary()

    def test_current_on_a_circle(self):
        """A constant drift around a circle: the stationary density is flat, the mean displacement
        not."""
        grid = orn.Grid(orn.Axis(0, 1, 50, orn.pde.Periodic(), orn.pde.Periodic()))
        computed = orn.FokkerPlanck(
            orn.SDE(lambda x, t: torch.ones_like(x), constant(0.5)), grid
        ).stationary()
        torch.testing.assert_close(computed, torch.ones(50, dtype=F64), rtol=1e-10, atol=0)

    def test_a_coordinate_without_noise_moves_upwind(self):
        """Langevin dynamics with friction: positions have no noise; the stationary law is
        ``exp(-x^2/2 - v^2/2)``, order 1 in h."""
        sde = orn.SDE(
            lambda z, t: torch.stack((z[:, 1], -z[:, 0] - z[:, 1]), 1),
            lambda z, t: torch.tensor([0.0, 2.0**0.5], dtype=F64),
        )

        def error(cells):
            grid = orn.Grid(*[orn.Axis(-5, 5, cells)] * 2)
            return l1(
                grid,
                orn.FokkerPlanck(sde, grid).stationary(),
                grid.evaluate(normal([0.0, 0.0], 1.0)),
            )

        errors = [error(n) for n in (40, 80)]
        assert errors[1] < 0.15 and math.log2(errors[0] / errors[1]) > 0.7


def correlated(rho):
    """A constant g with ``D = g g' / 2 = [[1, rho], [rho, 1]] / 2``."""
    return torch.tensor([[1.0, 0.0], [rho, math.sqrt(1 - rho * rho)]], dtype=F64)


def brownian(rho, drift=torch.zeros_like):
    return orn.SDE(
        lambda x, t: drift(x), lambda x, t: correlated(rho).expand(len(x), 2, 2), "general"
    )


class TestMixedNoise:
    @pytest.mark.parametrize("rho", [0.6, -0.6])
    def test_law_of_correlated_ornstein_uhlenbeck_to_second_order(self, rho):
        """To t = 1 under rates that do not commute with the noise: 1.5e-3 and 5.6e-4 on 160 x 160
        cells, from 80 x 80 with a slope of 2.15 and 2.20; positive, with mass 1 to 1e-12."""
        process = orn.laws.MultivariateOU(torch.tensor([[1.0, 0.5], [-0.3, 1.2]]), correlated(rho))
        start = (
            torch.tensor([1.0, -0.7], dtype=F64),
            torch.tensor([[0.3, 0.1], [0.1, 0.2]], dtype=F64),
        )
        phi, cov = process.propagate(1.0)

        def law(mean, cov):
            return lambda x: orn.laws.JointGaussian(mean.expand_as(x), cov).log_prob(x).exp()

        def error(cells):
            grid = orn.Grid(*[orn.Axis(-6, 6, cells)] * 2)
            computed = orn.FokkerPlanck(process, grid).solve(grid.density(law(*start)), UNIT)[-1]
            assert (computed >= 0).all() and abs(float(grid.integrate(computed)) - 1) < 1e-12
            return l1(
                grid, computed, grid.evaluate(law(phi @ start[0], phi @ start[1] @ phi.T + cov))
            )

        errors = [error(n) for n in (80, 160)]
        assert errors[1] < 1.6e-3 and 1.9 < math.log2(errors[0] / errors[1]) < 2.3

    def test_stationary_density_is_exact_in_detailed_balance(self):
        """``A = -D grad U`` with a quartic U, on 24 x 20 cells, whose widths differ."""
        rho = 0.5

        def pull(x):
            a, b = x.unbind(1)
            slope = torch.stack((4 * a * (a * a - 1) - (b - a / 2), 2 * (b - a / 2)), 1)
            return -slope @ torch.tensor([[0.5, rho / 2], [rho / 2, 0.5]], dtype=F64)

        grid = orn.Grid(orn.Axis(-2, 2, 24), orn.Axis(-3, 3, 30))
        computed = orn.FokkerPlanck(brownian(rho, pull), grid).stationary()
        exact = grid.evaluate(
            lambda x: (-((x[:, 0] ** 2 - 1) ** 2) - (x[:, 1] - x[:, 0] / 2) ** 2).exp()
        )
        torch.testing.assert_close(computed, exact / grid.integrate(exact), rtol=1e-9, atol=0)

    def test_waves_on_a_torus_decay_as_they_should(self):
        """``cos(x + 2 y)`` by ``exp(-k' D k t)``, k = (1, 2): what diagonals, which go round both
        ends, add to it is half of it."""

        def off(cells):
            grid = orn.Grid(
                *[orn.Axis(0, 2 * math.pi, cells, orn.pde.Periodic(), orn.pde.Periodic())] * 2
            )
            wave = grid.evaluate(lambda x: (x[:, 0] + 2 * x[:, 1]).cos())
            computed = orn.FokkerPlanck(brownian(-0.7), grid).solve(
                (1 + wave) / (2 * math.pi) ** 2, UNIT
            )[-1]
            seen = float((computed * wave).sum() / (wave * wave).sum()) * (2 * math.pi) ** 2
            return seen / math.exp(-(1 + 4 - 4 * 0.7) / 2) - 1

        assert abs(off(48)) < 0.01 and math.log2(off(24) / off(48)) == pytest.approx(2, abs=0.1)

    def test_an_absorbing_end_takes_what_it_would_without_the_other_coordinate(self):
        """Of the first coordinate of a correlated motion, a Brownian motion between ends -1 and 1:
        1e-3 of its survival."""
        ends = orn.Axis(-1, 1, 41, orn.pde.Absorbing(), orn.pde.Absorbing())
        plane = orn.Grid(ends, orn.Axis(-3, 3, 123))
        start = torch.zeros(plane.shape, dtype=F64)
        start[20, 61] = 1 / plane.volume
        computed = float(
            plane.integrate(orn.FokkerPlanck(brownian(0.6), plane).solve(start, UNIT)[-1])
        )
        assert computed == pytest.approx(
            orn.calculus.heat.Killed(0.5, -1.0, 1.0).survival(1.0, 0.0), abs=1e-3
        )

    def test_control_has_a_component_for_each_brownian_motion(self):
        """The least cost of ``a . x`` at the end is ``a . x - |g' a|^2 t / 2``, by the constant
        control ``-g' a``."""
        grid, a = orn.Grid(*[orn.Axis(-5, 5, 60)] * 2), torch.tensor([0.6, -0.4], dtype=F64)
        control = orn.HJB(brownian(0.5), grid).solve(
            grid.evaluate(lambda x: x @ a), torch.tensor([0.0, 0.5], dtype=F64)
        )
        best = -(correlated(0.5).T @ a)
        torch.testing.assert_close(
            control(torch.zeros(1, 2, dtype=F64), 0.0)[0], best, atol=2e-3, rtol=0
        )
        value = float(control.value[0, 29:31, 29:31].mean())
        assert value == pytest.approx(-float(best.square().sum()) / 4, abs=1e-3)

    def test_cells_that_would_need_negative_rates(self):
        """With D_11 = 4 D_22 they must be about twice as wide as high: the message says so, and it
        is right."""
        sde = orn.SDE(
            lambda x, t: -x,
            lambda x, t: correlated(0.8).expand(len(x), 2, 2) * torch.tensor([[2.0], [1.0]]),
            "general",
        )
        with pytest.raises(OrnsteinError, match=r"h_1 / h_2 = 1: .* choose one from 1\.6 to 2\.5"):
            orn.FokkerPlanck(sde, orn.Grid(*[orn.Axis(-4, 4, 20)] * 2)).generator(0.0)
        orn.FokkerPlanck(sde, orn.Grid(orn.Axis(-8, 8, 20), orn.Axis(-4, 4, 20))).generator(0.0)
        scalar = orn.SDE(lambda x, t: -x, lambda x, t: 1 + x.square(), "scalar")
        with pytest.raises(OrnsteinError, match="turn the coordinates"):
            orn.FokkerPlanck(scalar, orn.Grid(*[orn.Axis(-4, 4, 20)] * 2)).generator(0.0)
        with pytest.raises(OrnsteinError, match="mixes the coordinates: use Uniformisation"):
            grid = orn.Grid(*[orn.Axis(-4, 4, 20)] * 2)
            orn.FokkerPlanck(brownian(0.5), grid, orn.pde.FluxLimited()).solve(
                grid.density(normal([0.0, 0.0], 0.5)), UNIT
            )


class TestGenerator:
    @pytest.mark.parametrize(
        "sde", [orn.SDE(double_well, lambda x, t: 0.3 + x.square()), brownian(0.2, double_well)]
    )
    def test_rows_sum_to_zero_and_rates_are_positive(self, sde):
        grid = orn.Grid(
            orn.Axis(-2, 2, 12), orn.Axis(0, 1, 3, orn.pde.Periodic(), orn.pde.Periodic())
        )
        q = generator(sde, grid, 0.0).backward.toarray()
        assert np.abs(q.sum(1)).max() < 1e-12 * np.abs(q).max()
        assert (q - np.diag(np.diag(q)) >= 0).all()

    def test_is_the_transpose_of_what_moves_densities(self):
        """``sum p_t f = sum p_0 phi_0``, to rounding, whatever the coefficients and ends."""
        grid = orn.Grid(orn.Axis(-1, 2, 40, orn.pde.Absorbing(), orn.pde.Reflecting()))
        sde = orn.SDE(lambda x, t: torch.cos(3 * x) * (1 + t), lambda x, t: 0.4 + 0.1 * x)
        ts = torch.linspace(0, 1, 8, dtype=F64)
        p = orn.FokkerPlanck(sde, grid).solve(grid.density(normal(0.5, 0.02)), ts)
        phi = orn.KolmogorovBackward(sde, grid).solve(
            grid.evaluate(lambda x: x[:, 0].sin() + 2), ts
        )
        pairing = grid.integrate(p * phi)
        torch.testing.assert_close(pairing, pairing[:1].expand(8), rtol=1e-13, atol=0)


class TestRefusals:
    grid = orn.Grid(orn.Axis(-1, 1, 10))
    flat = torch.full((10,), 0.5, dtype=F64)

    @pytest.mark.parametrize("ts", [torch.tensor([0.0]), torch.tensor([0.0, 1.0, 0.5])])
    def test_times(self, ts):
        with pytest.raises(OrnsteinError, match="increases, or decreases"):
            orn.FokkerPlanck(orn.OU(), self.grid).solve(self.flat, ts)

    def test_densities(self):
        equation = orn.FokkerPlanck(orn.OU(), self.grid)
        with pytest.raises(OrnsteinError, match="shape of the cells"):
            equation.solve(self.flat[:5], UNIT)
        with pytest.raises(OrnsteinError, match="negative values"):
            equation.solve(-self.flat, UNIT)
        with pytest.raises(OrnsteinError, match=r"has mass 7\.9"):
            self.grid.density(normal(5.0, 0.1))

    def test_axes(self):
        with pytest.raises(OrnsteinError, match="below the high end"):
            orn.Axis(1, -1, 10)
        with pytest.raises(OrnsteinError, match="periodic at both ends"):
            orn.Axis(0, 1, 10, orn.pde.Periodic())
        with pytest.raises(OrnsteinError, match="1 or 2"):
            orn.Grid(*[orn.Axis(0, 1, 10)] * 3)

    def test_coefficients(self):
        with pytest.raises(OrnsteinError, match="for diagonal noise"):
            orn.FokkerPlanck(
                orn.SDE(lambda x, t: x[:, None, :].expand(-1, 3, -1)), self.grid
            ).generator(0.0)
        with pytest.raises(OrnsteinError, match="not finite"):
            orn.FokkerPlanck(orn.SDE(lambda x, t: x / 0), self.grid).generator(0.0)

    def test_other_noise_and_calculus(self):
        def equation(**kind):
            return orn.FokkerPlanck(
                orn.SDE(lambda x, t: -x, lambda x, t: torch.ones_like(x), **kind), self.grid
            )

        with pytest.raises(OrnsteinError, match="sense of Ito"):
            equation(calculus="stratonovich").generator(0.0)
        with pytest.raises(OrnsteinError, match="one dimension more for general noise"):
            equation(noise="general").generator(0.0)
        assert equation(noise="scalar").generator(0.0).same(equation().generator(0.0))

    def test_products_without_end(self):
        with pytest.raises(OrnsteinError, match="use FluxLimited"):
            orn.FokkerPlanck(orn.OU(), self.grid).solve(self.flat, 1e9 * UNIT)

    def test_no_stationary_density(self):
        absorbing = orn.Grid(orn.Axis(-1, 1, 10, orn.pde.Absorbing()))
        with pytest.raises(OrnsteinError, match="absorbs"):
            orn.FokkerPlanck(orn.OU(), absorbing).stationary()
