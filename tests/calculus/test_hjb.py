"""Optimal control against Riccati, change of measure, and the proof of the likelihood bound,
statement by statement."""

import math
from dataclasses import dataclass

import pytest
import torch
from scipy.integrate import solve_ivp

import ornstein as orn
from ornstein.app.verify.likelihood_bound import Proof
from ornstein.core.processes.linear import Time
from ornstein.errors import OrnsteinError

F64 = torch.float64
RATE, NOISE, RUNNING, END = -0.5, 0.8, 1.0, 1.5
LINEAR = orn.SDE(lambda x, t: RATE * x, lambda x, t: torch.tensor(NOISE, dtype=x.dtype))
TIMES = torch.linspace(0, 1, 21, dtype=F64)


def riccati() -> tuple[float, float]:
    """``V(x, 0) = P x^2 + r``: ``-P' = 2 a P + q - 2 s^2 P^2``, ``-r' = s^2 P``; per dimension."""
    end = solve_ivp(
        lambda t, y: [2 * RATE * y[0] + RUNNING - 2 * NOISE**2 * y[0] ** 2, NOISE**2 * y[0]],
        (0, 1),
        [END, 0],
        rtol=1e-10,
        atol=1e-12,
    ).y[:, -1]
    return float(end[0]), float(end[1])


def linear_quadratic(grid: orn.Grid) -> orn.pde.Control:
    hjb = orn.HJB(LINEAR, grid, lambda x, t: RUNNING * x.square().sum(1))
    return hjb.solve(grid.evaluate(lambda x: END * x.square().sum(1)), TIMES)


class TestLinearQuadratic:
    @pytest.mark.parametrize(
        "grid",
        [orn.Grid(orn.Axis(-4, 4, 300)), orn.Grid(*[orn.Axis(-3.5, 3.5, 80)] * 2)],
        ids=["1-d", "2-d"],
    )
    def test_value_and_control_are_those_of_riccati(self, grid):
        """Within 1 % of their largest value, where |x| < 2."""
        computed, (p, r) = linear_quadratic(grid), riccati()
        x = grid.centres
        inner = (x.abs() < 2).all(1)
        value, u = p * x.square().sum(1) + r * grid.dim, -2 * NOISE * p * x
        assert float((computed.value[0].flatten() - value)[inner].abs().max()) < 0.01 * float(
            value[inner].max()
        )
        assert float((computed.u[0].reshape(-1, grid.dim) - u)[inner].abs().max()) < 0.01 * float(
            u[inner].abs().max()
        )

    def test_paths_under_the_control_cost_what_it_says(self):
        """4 standard errors of 4000 paths, and 1 %; without control the cost is more by far more
        than that."""
        control = linear_quadratic(orn.Grid(orn.Axis(-4, 4, 300)))
        driven = orn.SDE(lambda x, t: RATE * x + NOISE * control(x, t), LINEAR.diffusion_fn)
        start = torch.full((4000, 1), 1.2, dtype=F64)

        def cost(sde, u):
            spent = orn.calculus.Accumulate(
                lambda x, t: RUNNING * x[:, 0].square() + u(x, t)[:, 0].square() / 2
            )
            end = orn.simulate(
                sde,
                start,
                torch.linspace(0, 1, 201, dtype=F64),
                orn.EulerMaruyama(),
                orn.Noise(0),
                watch=[spent],
            )
            total = spent.value + END * end[:, 0].square()
            return float(total.mean()), float(total.std()) / math.sqrt(4000)

        p, r = riccati()
        best, stderr = cost(driven, control)
        assert best == pytest.approx(p * 1.44 + r, abs=4 * stderr + 0.01 * (p * 1.44 + r))
        assert cost(LINEAR, lambda x, t: torch.zeros_like(x))[0] > best + 20 * stderr

    def test_the_value_is_accurate_where_exp_of_minus_v_is_tiny(self):
        """A terminal cost of up to 600 nats; Brownian motion has ``V = x^2 c / (1 + 2 c) + log(1 +
        2 c) / 2``."""
        grid, c = orn.Grid(orn.Axis(-20, 20, 2000)), 1.5
        brownian = orn.SDE(lambda x, t: torch.zeros_like(x), lambda x, t: torch.ones((), dtype=F64))
        computed = (
            orn.HJB(brownian, grid)
            .solve(grid.evaluate(lambda x: c * x[:, 0].square()), torch.tensor([0.0, 1.0]))
            .value[0]
        )
        x = grid.centres[:, 0]
        exact = c * x.square() / (1 + 2 * c) + math.log(1 + 2 * c) / 2
        inner = x.abs() < 12
        torch.testing.assert_close(computed[inner], exact[inner], rtol=3e-3, atol=1e-3)


class TestControl:
    def test_is_linear_between_centres_and_times(self):
        grid = orn.Grid(orn.Axis(0, 1, 10), orn.Axis(0, 2, 8))
        x = grid.centres.reshape(10, 8, 2)
        field = torch.stack((1 + 2 * x[..., 0] - x[..., 1], x[..., 0] * x[..., 1]), -1)
        control = orn.pde.Control(
            grid,
            torch.tensor([1.0, 0.0]).double(),
            torch.zeros(2, 10, 8).double(),
            torch.stack((field, 3 * field)),
        )
        points = torch.tensor([[0.31, 0.77], [0.5, 1.2]], dtype=F64)
        a, b = points.unbind(1)
        exact = torch.stack((1 + 2 * a - b, a * b), 1)
        torch.testing.assert_close(control(points, 0.75), exact * 1.5)

    def test_wraps_on_a_circle(self):
        grid = orn.Grid(orn.Axis(0, 1, 4, orn.pde.Periodic(), orn.pde.Periodic()))
        field = torch.tensor([1.0, 0.0, 0.0, 3.0], dtype=F64).reshape(1, 4, 1).expand(2, 4, 1)
        control = orn.pde.Control(grid, torch.tensor([0.0, 1.0]).double(), field[..., 0], field)
        torch.testing.assert_close(
            control(torch.tensor([[0.0], [1.0]]), 0.5), torch.tensor([[2.0], [2.0]])
        )

    def test_costs_beyond_numbers_are_refused(self):
        grid = orn.Grid(orn.Axis(-40, 40, 50))
        with pytest.raises(OrnsteinError, match="varies by"):
            orn.HJB(LINEAR, grid).solve(grid.evaluate(lambda x: x[:, 0].square()), TIMES)


class TestGirsanov:
    def test_weights_have_mean_1_and_move_the_drift(self):
        """100 000 paths with drift 1 stand for Brownian paths: mean weight 1, second moment of the
        end 1; 4 standard errors."""
        brownian = orn.SDE(
            lambda x, t: torch.zeros_like(x), lambda x, t: torch.ones((), dtype=x.dtype)
        )
        drifting = orn.SDE(lambda x, t: torch.ones_like(x), brownian.diffusion_fn)
        ratio = orn.calculus.Girsanov(brownian)
        end = orn.simulate(
            drifting,
            torch.zeros(100_000, 1),
            torch.linspace(0, 1, 11),
            orn.EulerMaruyama(),
            orn.Noise(1),
            watch=[ratio],
        )
        for draws in (ratio.value.exp(), ratio.value.exp() * end[:, 0].square()):
            assert float(draws.mean()) == pytest.approx(
                1, abs=4 * float(draws.std()) / 100_000**0.5
            )
        torch.testing.assert_close(ratio.value, 0.5 - end[:, 0], atol=1e-4, rtol=0)

    def test_needs_gaussian_steps(self):
        with pytest.raises(OrnsteinError, match="draw from a Gaussian"):
            ode = orn.SDE(lambda x, t: -x)
            orn.simulate(
                ode,
                torch.ones(2, 1),
                torch.tensor([0.0, 1.0]),
                orn.EulerMaruyama(),
                watch=[orn.calculus.Girsanov(ode)],
            )


PROOF, COARSE = Proof(), Proof(steps=100)
EXACT = {
    "fokker_planck": 1e-3,
    "kolmogorov": 1e-3,
    "hjb": 0.06,
    "hjb_equation": 1e-8,
    "bound": 1e-6,
    "stokes": 1e-10,
}


class TestProof:
    @pytest.mark.parametrize(("name", "tolerance"), EXACT.items())
    def test_both_sides_agree(self, name, tolerance):
        """Tolerances: the error of 400 cells and 200 steps; V is up to 4, its control up to 9;
        quadrature; otherwise rounding."""
        assert getattr(PROOF, name)().error < tolerance

    @pytest.mark.parametrize("scale", [0.0, 0.7, 1.0])
    @pytest.mark.parametrize("name", ["verification", "girsanov"])
    def test_simulated_statements_hold_for_every_control(self, name, scale):
        """4 standard errors of 2000 paths, and Euler's error of order 1/100."""
        computed = getattr(COARSE, name)(scale=scale, n=2000)
        assert computed.error < 4 * float(computed.stderr) + 0.03

    def test_with_the_optimal_control_girsanov_has_no_variance_but_that_of_the_steps(self):
        assert float(COARSE.girsanov(scale=1.0, n=500).stderr) < 0.25 * float(
            COARSE.girsanov(scale=0.0, n=500).stderr
        )

    def test_the_bound_is_tight_for_a_model_with_its_own_score(self):
        computed = PROOF.bound(scale=1.0)
        assert float(computed.exact) < 1e-8 and float(computed.computed.abs()) < 1e-6
        assert float(PROOF.bound(scale=0.7).exact) > 0.01

    def test_the_score_as_printed_is_wrong(self):
        """The document has ``Phi = +(y - alpha y_0) / sigma^2``, the sign reversed: nothing is left
        of (2)."""

        @dataclass(frozen=True)
        class Printed(Proof):
            def mu(self, y: torch.Tensor, s: Time) -> torch.Tensor:
                return -self.sde.g2(s).sqrt() * self.phi(y, s) - self.sde.f(s) * y

        for name in ("fokker_planck", "kolmogorov", "hjb_equation"):
            assert getattr(Printed(steps=50), name)().error > 0.1
