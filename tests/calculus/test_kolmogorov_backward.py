"""Expectations as functions of the start: against closed forms and quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import cumulative_simpson, quad

import ornstein as orn
from ornstein.errors import OrnsteinError

F64 = torch.float64
UNIT = torch.tensor([0.0, 1.0])
WELL = orn.SDE(lambda x, t: 4 * x * (1 - x.square()), lambda x, t: torch.ones((), dtype=F64))
BROWNIAN = orn.SDE(lambda x, t: torch.zeros_like(x), lambda x, t: torch.ones((), dtype=F64))


def barrier(x: float) -> float:
    """``e^(U / D)`` of the double well: 2 (x^2 - 1)^2 in the exponent."""
    return math.exp(2 * (x * x - 1) ** 2)


class TestKolmogorov:
    def test_expectation_of_a_wave_under_ou(self):
        """``E cos(2 X_1) = cos(2 e^-1 x) e^(-2 v)`` with ``v = (1 - e^-2) / 2``; second order in
        h."""

        def error(cells):
            grid = orn.Grid(orn.Axis(-6, 6, cells))
            phi = orn.KolmogorovBackward(orn.OU(1.0, 1.0), grid).solve(
                grid.evaluate(lambda x: (2 * x[:, 0]).cos()), UNIT
            )[0]
            exact = grid.evaluate(
                lambda x: (2 * x[:, 0] / math.e).cos() * math.exp(-(1 - math.exp(-2)))
            )
            inner = grid.centres[:, 0].abs() < 2
            return float((phi - exact)[inner].abs().max())

        assert error(400) < 1e-3
        assert math.log2(error(100) / error(200)) == pytest.approx(2, abs=0.2)

    def test_feynman_kac_with_a_harmonic_potential(self):
        """``E_x exp(-1/2 int_0^1 B^2) = exp(-x^2 tanh(1) / 2) / sqrt(cosh 1)`` (Cameron and Martin
        1945)."""
        grid = orn.Grid(orn.Axis(-7, 7, 600))
        equation = orn.KolmogorovBackward(BROWNIAN, grid, lambda x, t: x[:, 0].square() / 2)
        exact = grid.evaluate(
            lambda x: (-x[:, 0].square() * math.tanh(1) / 2).exp() / math.cosh(1) ** 0.5
        )
        torch.testing.assert_close(
            equation.solve(torch.ones(600, dtype=F64), UNIT)[0], exact, atol=1e-4, rtol=0
        )

    def test_growth_is_a_negative_potential(self):
        grid = orn.Grid(orn.Axis(-1, 1, 20))
        equation = orn.KolmogorovBackward(
            BROWNIAN, grid, lambda x, t: torch.full((len(x),), -300.0)
        )
        computed = equation.solve(torch.ones(20, dtype=F64), UNIT)[0]
        torch.testing.assert_close(
            computed, torch.full((20,), math.exp(300), dtype=F64), rtol=1e-10, atol=0
        )

    def test_stays_between_the_bounds_of_its_data(self):
        """A step function, in steps short and long, with coefficients of time: no overshoot at
        all."""
        grid = orn.Grid(orn.Axis(-3, 3, 100))
        sde = orn.SDE(lambda x, t: 10 * torch.sin(5 * x + t), lambda x, t: 0.1 + t * x.square())
        step = grid.evaluate(lambda x: (x[:, 0] > 0.3).double())
        computed = orn.KolmogorovBackward(sde, grid).solve(
            step, torch.tensor([0.0, 0.5, 0.9, 0.99, 1.0])
        )
        assert computed.min() >= 0 and computed.max() <= 1 + 1e-12

    def test_runs_down_in_time_with_the_process(self):
        """The reverse of ``dX = -X dt + sqrt 2 dB`` from the stationary law is itself: ``E[X_0 |
        X_1 = x] = x / e``."""
        grid = orn.Grid(orn.Axis(-8, 8, 400))
        normal = orn.targets.Normal(torch.zeros(1), torch.ones(1))
        ts = torch.linspace(1, 0, 41, dtype=F64)
        computed = orn.KolmogorovBackward(orn.Reverse(normal.posterior(orn.OU())), grid).solve(
            grid.centres[:, 0], ts
        )[0]
        inner = grid.centres[:, 0].abs() < 3
        torch.testing.assert_close(
            computed[inner], grid.centres[inner, 0] / math.e, atol=2e-3, rtol=0
        )


class TestCommittor:
    def test_of_a_double_well_between_its_minima(self):
        """``int_-1^x e^(U/D) / int_-1^1 e^(U/D)``, by quadrature: within 1e-4, in fact 3e-6 on 400
        cells."""
        grid = orn.Grid(orn.Axis(-1, 1, 400, orn.pde.Absorbing(), orn.pde.Absorbing()))
        computed = orn.pde.committor(WELL, grid, lambda x: x[:, 0] <= -1, lambda x: x[:, 0] >= 1)
        whole = quad(barrier, -1, 1)[0]
        exact = torch.tensor(
            [quad(barrier, -1, x)[0] / whole for x in grid.centres[:, 0].tolist()], dtype=F64
        )
        torch.testing.assert_close(computed, exact, atol=1e-5, rtol=0)

    def test_of_sets_of_cells(self):
        """Sets end between two centres: brownian motion between them is linear."""
        grid = orn.Grid(orn.Axis(-2, 2, 400))
        computed = orn.pde.committor(BROWNIAN, grid, lambda x: x[:, 0] < -1, lambda x: x[:, 0] > 1)
        exact = ((grid.centres[:, 0] + 1.005) / 2.01).clamp(0, 1)
        torch.testing.assert_close(computed, exact, atol=1e-9, rtol=0)

    def test_in_the_plane_of_a_ring(self):
        """Brownian motion between circles of radius 1/2 and 2: ``log(2 r) / log 4``, up to cells
        that approximate circles."""
        grid = orn.Grid(*[orn.Axis(-2.2, 2.2, 220)] * 2)
        computed = orn.pde.committor(
            BROWNIAN, grid, lambda x: x.norm(dim=1) < 0.5, lambda x: x.norm(dim=1) > 2
        )
        exact = grid.evaluate(lambda x: ((2 * x.norm(dim=1)).log() / math.log(4)).clamp(0, 1))
        assert float((computed - exact).abs().max()) < 0.02

    def test_is_the_splitting_probability_of_simulated_paths(self):
        """From 0.3 with drift 1 between 0 and 1, the exact law is ``(1 - e^(-2 x)) / (1 -
        e^-2)``."""
        grid = orn.Grid(orn.Axis(0, 1, 200, orn.pde.Absorbing(), orn.pde.Absorbing()))
        sde = orn.SDE(lambda x, t: torch.ones_like(x), lambda x, t: torch.ones((), dtype=F64))
        computed = orn.pde.committor(sde, grid, lambda x: x[:, 0] <= 0, lambda x: x[:, 0] >= 1)
        exact = grid.evaluate(lambda x: torch.expm1(-2 * x[:, 0]) / math.expm1(-2))
        torch.testing.assert_close(computed, exact, atol=1e-9, rtol=0)

    def test_refuses_sets_that_are_none(self):
        grid = orn.Grid(orn.Axis(-1, 1, 20))
        with pytest.raises(OrnsteinError, match="set B holds no centre"):
            orn.pde.committor(WELL, grid, lambda x: x[:, 0] < 0, lambda x: x[:, 0] > 5)
        with pytest.raises(OrnsteinError, match="overlap"):
            orn.pde.committor(WELL, grid, lambda x: x[:, 0] < 0.5, lambda x: x[:, 0] > 0)


class TestMeanFirstPassage:
    def test_of_brownian_motion_from_an_interval(self):
        """``1 - x^2`` between absorbing ends."""
        grid = orn.Grid(orn.Axis(-1, 1, 200, orn.pde.Absorbing(), orn.pde.Absorbing()))
        exact = grid.evaluate(lambda x: 1 - x[:, 0].square())
        torch.testing.assert_close(
            orn.pde.mean_first_passage(BROWNIAN, grid), exact, atol=1e-4, rtol=0
        )

    def test_over_a_barrier(self):
        """``2 int_x^1 e^(2U) int_-inf^y e^(-2U)``, by quadrature (Gardiner, Stochastic Methods,
        5.5)."""
        grid = orn.Grid(orn.Axis(-2.5, 1, 700, orn.pde.Reflecting(), orn.pde.Absorbing()))
        computed = orn.pde.mean_first_passage(WELL, grid)
        y = np.linspace(-2.5, 1, 70_001)
        rise = np.exp(2 * (y * y - 1) ** 2)
        inner = 2 * rise * cumulative_simpson(1 / rise, x=y, initial=0)
        upto = cumulative_simpson(inner, x=y, initial=0)
        exact = torch.from_numpy(np.interp(grid.centres[:, 0].numpy(), y, upto[-1] - upto))
        torch.testing.assert_close(computed, exact, rtol=1e-4, atol=1e-4)

    def test_is_the_integral_of_the_survival_probability(self):
        grid = orn.Grid(orn.Axis(-1, 1, 60, orn.pde.Absorbing(), orn.pde.Reflecting()))
        ts = 40 * (1 - torch.linspace(1, 0, 401, dtype=F64).square())
        survival = orn.KolmogorovBackward(BROWNIAN, grid).solve(torch.ones(60, dtype=F64), ts)
        torch.testing.assert_close(
            torch.trapezoid(survival, ts, dim=0),
            orn.pde.mean_first_passage(BROWNIAN, grid),
            rtol=1e-3,
            atol=1e-3,
        )

    def test_refuses_when_there_is_nothing_to_hit(self):
        with pytest.raises(OrnsteinError, match="nothing to hit"):
            orn.pde.mean_first_passage(WELL, orn.Grid(orn.Axis(-1, 1, 20)))
