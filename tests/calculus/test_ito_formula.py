"""Ito's formula against derivatives by hand, by SymPy, along paths and in the mean; the generator
against its adjoint."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import sympy
import torch

from ornstein.calculus import (
    adjoint_generator,
    generator,
    ito,
    ito_formula,
    symbolic,
    to_ito,
    to_stratonovich,
)
from ornstein.calculus.laws import MultivariateOU
from ornstein.core import processes as processes
from ornstein.core.methods import StratonovichHeun
from ornstein.core.processes.sde import SDE, Langevin
from ornstein.core.random import BrownianPath
from ornstein.core.random.noise import Noise
from ornstein.core.solvers.solve import solve
from ornstein.errors import OrnsteinError

F64 = torch.float64
BROWNIAN = SDE(lambda x, t: 0 * x, lambda x, t: torch.ones_like(x))
GBM = SDE(lambda x, t: 0.5 * x, lambda x, t: 0.8 * x)
MEANT_OTHERWISE = SDE(GBM.drift_fn, GBM.diffusion_fn, calculus="stratonovich")
X = Noise(1).normal((6,), F64)
V = Noise(2).normal((6, 3), F64)


def close(a, b, atol=1e-12):
    return torch.allclose(a, torch.as_tensor(b, dtype=a.dtype).expand_as(a), rtol=1e-10, atol=atol)


@dataclass(frozen=True)
class Turning:
    """``dX = -X dt + G(X, t) dB`` in the plane with three Brownian motions and a diffusion that
    depends on state and time."""

    noise: str = "general"

    def drift(self, x, t):
        return -x

    def diffusion(self, x, t):
        a, b = x.unbind(1)
        one = torch.ones_like(a)
        return torch.stack(
            [torch.stack([b, one, 0.3 * a * b], 1), torch.stack([-a, t * one, a.cos()], 1)], 1
        )


class TestByHand:
    def test_the_square_of_brownian_motion(self):
        """d(B^2) = 2 B dB + dt; not B dB + dt/2."""
        computed = ito_formula(lambda x, t: x.square(), BROWNIAN)
        assert close(computed.drift(X, 0.3), 1.0) and close(computed.diffusion(X, 0.3), 2 * X)

    def test_the_logarithm_of_geometric_brownian_motion(self):
        computed = ito_formula(lambda x, t: x.log(), GBM)
        x = X.abs() + 0.1
        assert close(computed.drift(x, 0.0), 0.5 - 0.32) and close(computed.diffusion(x, 0.0), 0.8)

    def test_a_martingale_has_no_drift(self):
        """exp(c B - c^2 t / 2), and B^3 - 3 t B."""
        for f in (lambda x, t: (0.7 * x - 0.245 * t).exp(), lambda x, t: x**3 - 3 * t * x):
            assert close(ito_formula(f, BROWNIAN).drift(X, 0.6), 0.0)

    def test_the_ornstein_uhlenbeck_process_undone(self):
        """``Z = e^{lambda t} X`` has no drift and diffusion ``e^{lambda t} sigma``."""
        computed = ito_formula(
            lambda x, t: (1.5 * t).exp() * x, processes.OU(theta=1.5, diffusion_constant=2.0)
        )
        assert close(computed.drift(X, 0.4), 0.0) and close(
            computed.diffusion(X, 0.4), 2 * math.exp(0.6)
        )

    def test_a_number_of_a_vector(self):
        """``|x|^2 t`` of d = 3 geometric motions: one factor for each Brownian motion."""
        computed = ito_formula(lambda x, t: x.square().sum(1) * t, GBM)
        assert close(computed.drift(V, 0.7), V.square().sum(1) * (1 + 0.7 * (2 * 0.5 + 0.64)))
        assert close(computed.diffusion(V, 0.7), 2 * 0.7 * 0.8 * V.square())

    def test_a_vector_of_a_vector(self):
        """(x y, y^2 z) of Brownian motion: drift (0, z), diffusion the Jacobian."""
        computed = ito_formula(
            lambda v, t: torch.stack([v[:, 0] * v[:, 1], v[:, 1] ** 2 * v[:, 2]], 1), BROWNIAN
        )
        x, y, z = V.unbind(1)
        o = torch.zeros_like(x)
        assert close(computed.drift(V, 0.0), torch.stack([o, z], 1))
        assert close(
            computed.diffusion(V, 0.0),
            torch.stack([torch.stack([y, x, o], 1), torch.stack([o, 2 * y * z, y * y], 1)], 1),
        )

    def test_bessel_in_any_event_shape(self):
        """The radius of a Brownian motion in d dimensions: drift (d - 1) / 2r, and a diffusion of
        length 1."""
        x = Noise(3).normal((4, 2, 3), F64)
        computed = ito_formula(lambda v, t: v.flatten(1).norm(dim=1), BROWNIAN)
        assert close(computed.drift(x, 0.0), 5 / (2 * x.flatten(1).norm(dim=1)))
        assert close(computed.diffusion(x, 0.0).norm(dim=1), 1.0)

    def test_in_single_precision_with_times_in_double(self):
        computed = ito_formula(lambda x, t: x * t, GBM)
        drift = computed.drift(X.float(), torch.tensor(0.5, dtype=F64))
        assert drift.dtype == torch.float32 and close(
            drift.double(), X.float().double() * 1.25, 1e-6
        )

    def test_scalar_noise_is_one_column(self):
        @dataclass(frozen=True)
        class Scalar:
            noise: str = "scalar"

            def drift(self, x, t):
                return 0 * x

            def diffusion(self, x, t):
                return x

        computed = ito_formula(lambda x, t: x.prod(1), Scalar())
        x, y, z = V.unbind(1)
        assert close(computed.drift(V, 0.0), 3 * x * y * z) and close(
            computed.diffusion(V, 0.0), 3 * (x * y * z)[:, None]
        )

    def test_a_diffusion_that_does_not_fit(self):
        class Wrong(Turning):
            def diffusion(self, x, t):
                return x

        with pytest.raises(OrnsteinError, match=r"\(b, d, m\)"):
            ito_formula(lambda x, t: x.sum(1), Wrong()).drift(V[:, :2], 0.0)


class TestOnAPath:
    def test_the_formula_adds_up_along_a_path(self):
        """``f(X_T) - f(X_0)`` against the integrals of its drift and diffusion, for GBM in closed
        form: an error of order 1/2."""
        fine, errors, ordinary = 256, [], []
        times = torch.linspace(0, 1, fine + 1, dtype=F64)
        b = BrownianPath((1000,), seed=4, cells=times, dtype=F64)
        x = torch.stack([(0.4 * b(float(t)) + (0.5 - 0.08) * t).exp() for t in times])
        f = ito_formula(lambda y, t: (y + t).cos(), SDE(lambda x, t: 0.5 * x, lambda x, t: 0.4 * x))
        for n in (64, 256):
            grid, values = times[:: fine // n], x[:: fine // n]
            drift = sum(f.drift(v, t) / n for v, t in zip(values[:-1], grid[:-1], strict=True))
            noise = torch.stack([f.diffusion(v, t) for v, t in zip(values, grid, strict=True)])
            change = (values[-1] + 1).cos() - values[0].cos()
            rest = change - drift - ito(noise, b, grid)
            second = sum(
                -(v + t).cos() * 0.16 * v.square() / 2 / n
                for v, t in zip(values[:-1], grid[:-1], strict=True)
            )
            errors.append(float(rest.square().mean().sqrt()))
            ordinary.append(float((rest + second).square().mean().sqrt()))
        assert errors[1] < 0.02 and 1.8 < errors[0] / errors[1] < 2.4, errors
        assert (
            ordinary[1] > 3 * errors[1]
        )  # without 1/2 f'' g^2, nothing is gained by smaller steps

    def test_the_generator_is_the_rate_of_the_mean(self):
        """For OU: L x^2 = -2 theta x^2 + sigma^2; and (E f(X_h) - f(x)) / h at h = 1e-4 by
        Gauss-Hermite from the exact transition."""
        sde = processes.OU(theta=1.5, diffusion_constant=2.0)
        rate = generator(lambda x: x.square(), sde)
        assert close(rate(X, 0.2), -3 * X.square() + 4)
        h = 1e-4
        nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(20))
        law = sde.transition(X, 0.0, h)
        mean = ((law.mean[:, None] + law.std * nodes).cos() * weights).sum(1) / math.sqrt(
            2 * math.pi
        )
        assert close((mean - X.cos()) / h, generator(torch.cos, sde)(X, 0.0), 2e-3)


class TestSymbolic:
    def test_it_prints_the_formula(self):
        assert str(symbolic(lambda x, t: x**2)) == "d(x**2) = dt + 2*x dB"
        assert (
            str(
                symbolic(
                    sympy.log(sympy.Symbol("x", real=True)), lambda x, t: x / 2, lambda x, t: x
                )
            )
            == "d(log(x)) = dB"
        )
        assert str(symbolic(lambda x, t: x[0] * x[1], dim=2)) == "d(x1*x2) = x2 dB1 + x1 dB2"
        assert str(symbolic(3)) == "d(3) = 0"
        assert (
            symbolic(lambda x, t: x**2).latex()
            == r"d\left(x^{2}\right) = \left(1\right) dt + \left(2 x\right) dB"
        )

    @pytest.mark.parametrize(
        ("f", "f_torch", "drift", "diffusion"),
        [
            (
                lambda x, t: sympy.sin(x * t),
                lambda x, t: (x * t).sin(),
                lambda x, t: -x * t,
                lambda x, t: 1 + x**2,
            ),
            (
                lambda x, t: x**3 * sympy.exp(-t),
                lambda x, t: x**3 * (-t).exp(),
                lambda x, t: 1 - x,
                lambda x, t: t * x,
            ),
        ],
    )
    def test_symbols_and_numbers_agree(self, f, f_torch, drift, diffusion):
        paper, numbers = symbolic(f, drift, diffusion), ito_formula(f_torch, SDE(drift, diffusion))
        for expression, values in (
            (paper.drift, numbers.drift(X, 0.7)),
            (paper.diffusion[0], numbers.diffusion(X, 0.7)),
        ):
            evaluated = sympy.lambdify((*paper.x, paper.t), expression)
            assert close(
                values, torch.tensor([float(evaluated(float(x), 0.7)) for x in X], dtype=F64)
            )

    def test_noise_given_as_a_matrix_attribute(self):
        """The multivariate Ornstein-Uhlenbeck process: ``L(x_1 x_2) = -2 x_1 x_2 + (S S')_12``."""
        process = MultivariateOU(torch.eye(2), torch.tensor([[1.0, 0.0], [0.5, 0.8]]))
        x = V[:, :2]
        rate = generator(lambda x: x.prod(1), process)(x, 0.0)
        assert close(rate, 0.5 - 2 * x.prod(1), atol=1e-6)
        assert to_stratonovich(process).noise == "general"

    def test_symbols_and_numbers_agree_for_general_noise(self):
        sde, x = Turning(), V[:, :2]
        paper = symbolic(
            lambda x, t: x[0] ** 2 * x[1] + t * x[1],
            lambda x, t: [-x[0], -x[1]],
            lambda x, t: [
                [x[1], 1, sympy.Rational(3, 10) * x[0] * x[1]],
                [-x[0], t, sympy.cos(x[0])],
            ],
            dim=2,
        )
        numbers = ito_formula(lambda x, t: x[:, 0] ** 2 * x[:, 1] + t * x[:, 1], sde)
        expressions, computed = (
            [paper.drift, *paper.diffusion],
            [numbers.drift(x, 0.7), *numbers.diffusion(x, 0.7).unbind(1)],
        )
        for expression, values in zip(expressions, computed, strict=True):
            evaluated = sympy.lambdify((*paper.x, paper.t), expression)
            assert close(
                values,
                torch.tensor([float(evaluated(*map(float, row), 0.7)) for row in x], dtype=F64),
            )

    def test_what_does_not_fit(self):
        with pytest.raises(OrnsteinError, match="dim=2"):
            symbolic(lambda x, t: x[0], [1, 2, 3], dim=2)


class TestAdjoint:
    def test_a_stationary_density_stays(self):
        """OU: N(0, sigma^2 / 2 theta). A double well: exp(-V), with noise sqrt(2)."""
        ou = processes.OU(theta=1.5, diffusion_constant=2.0)
        assert close(adjoint_generator(lambda x: (-x.square() * 3 / 8).exp(), ou)(X, 0.0), 0.0)
        well = Langevin(lambda x: -4 * x * (x.square() - 1))
        assert close(
            adjoint_generator(lambda x: (-(x.square() - 1).square()).sum(1).exp(), well)(V, 0.0),
            0.0,
            1e-10,
        )

    def test_it_is_the_adjoint(self):
        """``int f L* p = int p L f`` by the trapezoidal rule, spectrally accurate for what vanishes
        at the ends."""
        x = torch.linspace(-12, 12, 2001, dtype=F64)
        sde = SDE(lambda x, t: x.sin() - x, lambda x, t: 1 + 0.5 * x.cos())
        f, p = (
            (lambda x: (x + x.square() / 4).cos()),
            (lambda x: (-x.square()).exp() * (1 + 0.3 * x)),
        )
        one, other = (
            (f(x) * adjoint_generator(p, sde)(x, 0.0)).sum(),
            (p(x) * generator(f, sde)(x, 0.0)).sum(),
        )
        assert close(one, other, 1e-9) and abs(float(one)) > 1

    def test_it_is_the_adjoint_for_general_noise(self):
        line = torch.linspace(-7, 7, 141, dtype=F64)
        x = torch.cartesian_prod(line, line)
        f, p = (
            (lambda x: (x[:, 0] + 0.5 * x[:, 1]).cos()),
            (lambda x: (-x.square().sum(1)).exp() * (1 + 0.3 * x[:, 0] * x[:, 1])),
        )
        sde = Turning()
        one, other = (
            (f(x) * adjoint_generator(p, sde)(x, 0.4)).sum(),
            (p(x) * generator(f, sde)(x, 0.4)).sum(),
        )
        assert close(one, other, 1e-8) and abs(float(one)) > 1


class TestTwoCalculi:
    def test_geometric_brownian_motion(self):
        """Stratonovich's drift is mu - sigma^2 / 2, entry by entry; additive noise has the same
        drift in both."""
        for x in (X, V):
            assert close(to_stratonovich(GBM).drift(x, 0.0), (0.5 - 0.32) * x)
            assert close(to_ito(MEANT_OTHERWISE).drift(x, 0.0), (0.5 + 0.32) * x)
            ou = processes.OU(theta=1.5, diffusion_constant=2.0)
            assert close(to_stratonovich(ou).drift(x, 0.0), ou.drift(x, 0.0))

    def test_there_and_back(self):
        assert (
            to_ito(to_stratonovich(GBM)) is GBM
            and to_stratonovich(to_ito(MEANT_OTHERWISE)) is MEANT_OTHERWISE
        )
        assert to_ito(GBM) is GBM and to_stratonovich(MEANT_OTHERWISE) is MEANT_OTHERWISE
        sde, x = Turning(), V[:, :2]
        twice = to_ito(SDEOf(to_stratonovich(sde)))
        assert close(twice.drift(x, 0.3), sde.drift(x, 0.3)) and twice.noise == "general"

    def test_general_noise_against_the_definition(self):
        """``1/2 sum_jk g_jk d_j g_ik`` by central differences."""
        sde, x, step = Turning(), V[:, :2], 1e-5
        g, correction = sde.diffusion(x, 0.3), torch.zeros_like(x)
        for j in range(2):
            e = torch.zeros(2, dtype=F64)
            e[j] = step
            slope = (sde.diffusion(x + e, 0.3) - sde.diffusion(x - e, 0.3)) / (2 * step)
            correction += (g[:, j, None, :] * slope).sum(2) / 2
        assert close(to_stratonovich(sde).drift(x, 0.3), sde.drift(x, 0.3) - correction, 1e-8)

    def test_a_diffusion_that_mixes_coordinates(self):
        """Diagonal noise may depend on all coordinates; only d_i g_i counts: here g_1 = x_2, g_2 =
        x_1 x_2."""
        sde = SDE(lambda x, t: 0 * x, lambda x, t: torch.stack([x[:, 1], x[:, 0] * x[:, 1]], 1))
        x = V[:, :2]
        assert close(
            to_stratonovich(sde).drift(x, 0.0),
            torch.stack([0 * x[:, 0], -(x[:, 0] ** 2) * x[:, 1] / 2], 1),
        )

    def test_heuns_method_on_the_converted_equation_solves_the_first(self):
        """GBM's closed form along the path: stochastic Heun converges to Stratonovich's solution,
        at order 1 in one dimension."""
        fine = torch.linspace(0, 1, 129, dtype=F64)
        b = BrownianPath((500,), seed=5, cells=fine, dtype=F64)
        exact = (0.8 * b(1.0) + 0.5 - 0.32).exp()
        errors = []
        for n in (32, 128):
            x = solve(
                to_stratonovich(GBM),
                torch.ones(500, dtype=F64),
                fine[:: 128 // n],
                StratonovichHeun(),
                b,
            )[-1]
            errors.append(float((x - exact).square().mean().sqrt()))
        assert errors[1] < 0.02 and 3.0 < errors[0] / errors[1] < 5.5, errors


@dataclass(frozen=True)
class SDEOf:
    """An equation that does not tell where it comes from."""

    sde: object
    calculus: str = "stratonovich"

    @property
    def noise(self):
        return self.sde.noise

    def drift(self, x, t):
        return self.sde.drift(x, t)

    def diffusion(self, x, t):
        return self.sde.diffusion(x, t)
