"""Methods for general equations: held to the strong and weak orders of the table in `ornstein.core.fits`, and to exact laws."""

import math
from itertools import pairwise

import pytest
import torch

import ornstein as orn
from ornstein.core.fits import FITS, kind, strong_order
from ornstein.core.integrate import default_method
from ornstein.errors import OrnsteinError

F64 = torch.float64
T, A, S = 1.0, 0.5, 0.8
N = 400
TWIST = torch.tensor([[0.6, 0.4], [-0.2, 0.5]], dtype=F64)


def geometric(calculus="ito", noise="diagonal"):
    return orn.SDE(lambda x, t: A * x, lambda x, t: S * x, noise, calculus)


def geometric_exact(x, b, calculus="ito"):
    drift = A - S**2 / 2 if calculus == "ito" else A
    return x * torch.exp(drift * T + S * b)


def rotated(calculus="ito"):
    """Scalar noise in the plane: ``dX = A X dt + M X dB``, solved by ``exp((A - M^2 / 2) T + M B_T) x``."""
    return orn.SDE(lambda x, t: A * x, lambda x, t: x @ TWIST.T, "scalar", calculus)


def rotated_exact(x, b, calculus="ito"):
    fixed = A * torch.eye(2, dtype=F64) - (TWIST @ TWIST / 2 if calculus == "ito" else 0.0)
    return (torch.linalg.matrix_exp(fixed * T + TWIST * b[:, :, None]) @ x[..., None])[..., 0]


def swinging():
    """Additive noise whose size changes, and a drift that bends: no closed form."""
    return orn.SDE(lambda x, t: x.sin() - x, lambda x, t: 0.5 + 0.4 * torch.as_tensor(t, dtype=F64).cos() + 0 * x, "additive")


def crossed(calculus="ito"):
    """General noise that does not commute."""
    return orn.SDE(lambda x, t: -x, lambda x, t: torch.stack([x, x.flip(1) * 0.7 + 0.3], -1), "general", calculus)


COMMUTING = ["EulerMaruyama", "TamedEuler", "ImplicitEuler", "Milstein", "SRK", "WeakSecond"]
STRATONOVICH = ["Milstein", "EulerHeun", "StratonovichHeun", "StratonovichMidpoint", "ReversibleHeun", "LogODE"]
CASES = [(name, "ito", noise) for name in COMMUTING for noise in ("diagonal", "scalar", "additive")]
CASES += [(name, "stratonovich", noise) for name in STRATONOVICH for noise in ("diagonal", "scalar")]
CASES += [(name, "ito", "general") for name in ("EulerMaruyama", "TamedEuler", "ImplicitEuler")]
CASES += [(name, "stratonovich", "general") for name in STRATONOVICH if name not in ("Milstein", "LogODE")]


def method(name):
    return getattr(orn, name)()


def strong_errors(name, calculus, noise, steps):
    """Means over N paths, all on one motion."""
    shape = {"scalar": (N, 1), "diagonal": (N,), "additive": (N,), "general": (N, 2)}[noise]
    fine = torch.linspace(0, T, 1025, dtype=F64)
    path = orn.BrownianPath(shape, t1=T, seed=3, cells=fine, dtype=F64, order=2)
    x0 = torch.ones(N, 2, dtype=F64) if noise in ("scalar", "general") else torch.ones(N, dtype=F64)
    sde = {"diagonal": geometric(calculus), "scalar": rotated(calculus), "additive": swinging(), "general": crossed(calculus)}[noise]
    if noise == "diagonal":
        exact = geometric_exact(x0, path(T), calculus)
    elif noise == "scalar":
        exact = rotated_exact(x0, path(T), calculus)
    else:
        best = orn.SRK() if noise == "additive" else orn.EulerMaruyama() if calculus == "ito" else orn.StratonovichHeun()
        exact = orn.solve(sde, x0, fine, best, path)[-1]
    found = [orn.solve(sde, x0, torch.linspace(0, T, n + 1, dtype=F64), method(name), path)[-1] for n in steps]
    return [float((x - exact).abs().mean()) for x in found]


class TestStrongOrder:
    @pytest.mark.parametrize(("name", "calculus", "noise"), CASES)
    def test_slope(self, name, calculus, noise):
        """Slope over steps 1/16 to 1/128 within 0.2 of what the table says (0.1 of it is the sampling error of 400 paths); methods that
        are better on a problem than in general may be."""
        steps = (8, 16, 32, 64) if noise == "general" else (16, 32, 64, 128)
        order = FITS[name].strong[noise]
        found = slope(strong_errors(name, calculus, noise, steps), steps)
        assert found > order - 0.2
        assert found < order + 0.3 or order == 0.5 or noise == "additive" or name == "LogODE"  # exact where drift and noise commute

    def test_srk_is_no_less_accurate_than_the_known_numbers(self):
        """Errors at step 2^-7 on GBM(0.5, 0.8) of Euler, Milstein and SRK: 5.5e-2, 5.2e-3, 1.8e-4 elsewhere."""
        for name, known in (("EulerMaruyama", 5.5e-2), ("Milstein", 5.2e-3), ("SRK", 1.8e-4)):
            assert strong_errors(name, "ito", "diagonal", (128,))[0] < 1.3 * known


def heisenberg():
    """``dX = (dB_1, dB_2, X_1 o dB_2)``: ends in (B_1, B_2, int B_1 o dB_2)."""

    def diffusion(x, t):
        one, nil = torch.ones_like(x[:, 0]), torch.zeros_like(x[:, 0])
        return torch.stack([torch.stack([one, nil], 1), torch.stack([nil, one], 1), torch.stack([nil, x[:, 0]], 1)], 1)

    return orn.SDE(lambda x, t: torch.zeros_like(x), diffusion, "general", "stratonovich")


class TestLogODE:
    def test_first_integrals_are_those_of_the_path(self):
        """Brackets of brackets vanish, so that any step is exact as far as its area is. The integral by the trapezoidal rule on 128
        cells is within 5 of its own errors, sqrt(h / 12)."""
        n, cells = 128, torch.linspace(0, T, 129, dtype=F64)
        path = orn.BrownianPath((50, 2), seed=8, cells=cells, dtype=F64, order=2)
        end = orn.solve(heisenberg(), torch.zeros(50, 3, dtype=F64), [0.0, T], orn.LogODE(pieces=n), path)[-1]
        steps = torch.stack([path(a, b) for a, b in pairwise(cells.tolist())])
        before = steps.cumsum(0) - steps
        integral = ((before[..., 0] + steps[..., 0] / 2) * steps[..., 1]).sum(0)
        torch.testing.assert_close(end[:, :2], path(T))
        assert float((end[:, 2] - integral).abs().max()) < 5 * math.sqrt(1 / n / 12)
        assert float((end[:, 2] - path(T).prod(1) / 2).abs().mean()) > 0.1

    def test_is_of_order_one_with_the_areas_of_the_path(self):
        """General noise that does not commute, against 128 steps with the same 128 pieces of area: slope of 1/n - 1/128 is 1.07. With
        one piece for each step the order is 1/2."""
        cells, x, counts = torch.linspace(0, T, 129, dtype=F64), torch.ones(200, 2, dtype=F64), (4, 8, 16)
        path = orn.BrownianPath((200, 2), seed=4, cells=cells, dtype=F64, order=2)

        def end(n, pieces):
            return orn.solve(crossed("stratonovich"), x, torch.linspace(0, T, n + 1, dtype=F64), orn.LogODE(pieces), path)[-1]

        best = end(128, 1)
        assert slope([float((end(n, 128 // n) - best).abs().mean()) for n in counts], counts) == pytest.approx(1.07, abs=0.2)
        assert slope([float((end(n, 1) - best).abs().mean()) for n in counts], counts) == pytest.approx(0.5, abs=0.2)

    def test_drawn_areas_have_their_law(self):
        """One step from a seed: the integral has variance ``1/2``, by 4 standard errors of 100000."""
        z = orn.solve(heisenberg(), torch.zeros(100_000, 3, dtype=F64), [0.0, 1.0], orn.LogODE(), 5)[-1][:, 2]
        assert float(z.square().mean()) == pytest.approx(0.5, abs=4 * float(z.square().std()) / math.sqrt(len(z)))


class TestWeakOrder:
    @pytest.mark.parametrize(("name", "order"), [("EulerMaruyama", 1), ("Milstein", 1), ("WeakSecond", 2)])
    def test_moments_of_geometric_motion(self, name, order):
        """Error of ``E X^2`` by exact expectation: X' = X m(z) with z normal, so ``E[m^2]^n`` by quadrature of one step."""
        nodes, weights = torch.tensor(_hermite()).unbind()
        found = []
        steps = (8, 16, 32)
        for n in steps:
            step = orn.SDE(lambda x, t: A * x, lambda x, t: S * x)
            stream = _Fixed(nodes)
            t, s = torch.tensor([0.0, T / n], dtype=F64).unbind()
            x = method(name).step(step, torch.ones_like(nodes), t, s, stream, None).x
            found.append(abs(float((weights * x.square()).sum()) ** n - math.exp((2 * A + S**2) * T)))
        assert slope(found, steps) == pytest.approx(order, abs=0.2)


def slope(errors, steps):
    """The order by least squares."""
    x, y = torch.tensor(steps, dtype=F64).log(), torch.tensor(errors, dtype=F64).log()
    return -float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


class _Fixed:
    """Normal numbers that are given."""

    def __init__(self, z):
        self.z = z

    def between(self, t, s):
        return self.z

    def increment(self, t, s):
        return self.z * (s - t).abs().sqrt()

    def normal(self):
        raise AssertionError

    uniform = area = normal


def _hermite():
    import numpy as np

    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    return np.stack([nodes, weights / weights.sum()])


class TestFits:
    def test_refusals_name_what_fits(self):
        x = torch.ones(3, 2, dtype=F64)
        with pytest.raises(OrnsteinError, match=r"Milstein.*ito equations with general noise.*EulerMaruyama"):
            orn.solve(crossed(), x, [0.0, 1.0], orn.Milstein())
        with pytest.raises(OrnsteinError, match=r"EulerMaruyama.*stratonovich.*Milstein.*StratonovichHeun"):
            orn.solve(geometric("stratonovich"), x, [0.0, 1.0], orn.EulerMaruyama())
        with pytest.raises(OrnsteinError, match="ImplicitEuler"):
            orn.solve(geometric(), x, [0.0, 1.0], orn.StratonovichMidpoint())
        with pytest.raises(OrnsteinError, match="noise='round'"):
            orn.SDE(lambda x, t: x, lambda x, t: x, noise="round")
        with pytest.raises(OrnsteinError, match=r"\(3, 2, m\)"):
            orn.solve(orn.SDE(lambda x, t: x, lambda x, t: x, "general"), x, [0.0, 1.0])
        with pytest.raises(OrnsteinError, match="dt=-1"):
            orn.solve(geometric(), x, [0.0, 1.0], dt=-1)

    def test_both_senses_of_additive_noise_are_one(self):
        sde = orn.SDE(lambda x, t: -x, lambda x, t: torch.ones_like(x), "additive", "stratonovich")
        x = torch.zeros(5, dtype=F64)
        once = orn.solve(sde, x, [0.0, 0.5], orn.EulerMaruyama(), dt=0.1)
        other = orn.SDE(sde.drift_fn, sde.diffusion_fn, "additive")
        assert torch.equal(once, orn.solve(other, x, [0.0, 0.5], orn.EulerMaruyama(), dt=0.1))

    @pytest.mark.parametrize("sde", [geometric(), rotated(), swinging(), crossed(), crossed("stratonovich"), geometric("stratonovich")])
    def test_default_fits(self, sde):
        assert strong_order(default_method(sde), sde) == max(
            fit.strong[kind(sde)] for name, fit in FITS.items() if name == type(default_method(sde)).__name__
        )
        orn.solve(sde, torch.ones(2, 2, dtype=F64), [0.0, 0.1])


class TestSolve:
    def test_saves_what_is_asked_for_whatever_the_steps(self):
        """Times that no dt divides; the state at a time is that of a run that ends there."""
        x, ts = torch.ones(4, dtype=F64), [0.0, 0.13, 0.7, 1.0]
        path = orn.BrownianPath((4,), seed=1, cells=torch.linspace(0, 1, 401, dtype=F64), dtype=F64)
        found = orn.solve(geometric(), x, ts, orn.Milstein(), path, dt=0.004)
        assert found.shape == (4, 4) and torch.equal(found[0], x)
        for k, t in enumerate(ts):
            assert float((found[k] - x * torch.exp((A - S**2 / 2) * t + S * path(t))).abs().max()) < 0.02

    def test_sample_is_the_same_in_every_batch(self):
        x = torch.ones(40, 3)
        whole = orn.solve(geometric(), x, [0.0, 1.0], seed=5, dt=0.1)
        assert torch.equal(whole[:, :7], orn.solve(geometric(), x[:7], [0.0, 1.0], seed=5, dt=0.1))

    def test_gradient_of_geometric_motion(self):
        """``dX_T / dx_0 = X_T / x_0`` by back-propagation."""
        x = torch.full((5,), 2.0, dtype=F64, requires_grad=True)
        end = orn.solve(geometric(), x, [0.0, 1.0], orn.Milstein(), dt=0.05)[-1]
        (gradient,) = torch.autograd.grad(end.sum(), x)
        torch.testing.assert_close(gradient, end / 2)

    def test_reversible_heun_comes_back(self):
        """(x, z) forth and back along one path, to rounding."""
        sde, path = geometric("stratonovich"), orn.BrownianPath((6,), seed=2, cells=torch.linspace(0, 1, 21, dtype=F64), dtype=F64)
        grid, x = torch.linspace(0, 1, 21, dtype=F64), torch.ones(6, dtype=F64)
        stream, memory, y = path.stream_like(x), None, x
        for t, s in pairwise(grid):
            step = orn.ReversibleHeun().step(sde, y, t, s, stream, memory)
            y, memory = step.x, step.memory
        assert float((y - x).abs().max()) > 0.1
        for t, s in pairwise(grid.flip(0)):
            step = orn.ReversibleHeun().step(sde, y, t, s, stream, memory)
            y, memory = step.x, step.memory
        torch.testing.assert_close(y, x, atol=1e-12, rtol=0)


class TestStiff:
    def test_tamed_and_implicit_survive_where_euler_explodes(self):
        """``dX = -X^3 dt + dB`` from 30 with step 0.1."""
        sde, x = orn.SDE(lambda x, t: -(x**3), lambda x, t: torch.ones_like(x), "additive"), torch.full((50,), 30.0, dtype=F64)
        names = ("TamedEuler", "ImplicitEuler", "EulerMaruyama")
        ends = {name: orn.solve(sde, x, [0.0, 5.0], method(name), dt=0.1)[-1].abs().max() for name in names}
        assert ends["TamedEuler"] < 4 and ends["ImplicitEuler"] < 4 and not ends["EulerMaruyama"] < 1e6

    def test_exponential_euler_has_the_exact_law_of_a_linear_equation(self):
        """Rate -100 at step 0.1: variance ``g^2 (1 - e^(-2 r T)) / 2 r`` and mean within 4 standard errors of 40000 paths."""
        sde = orn.Semilinear(-100.0, lambda x, t: torch.full_like(x, 300.0), lambda x, t: torch.full_like(x, 5.0), "additive")
        end = orn.solve(sde, torch.zeros(40000, dtype=F64), [0.0, 0.5], orn.ExponentialEuler(), dt=0.1)[-1]
        assert float(end.mean()) == pytest.approx(3.0, abs=4 * float(end.std()) / 200)
        assert float(end.var()) == pytest.approx(25 / 200, rel=4 * math.sqrt(2 / 40000))
        with pytest.raises(OrnsteinError, match="Semilinear"):
            orn.solve(geometric(), torch.ones(2), [0.0, 1.0], orn.ExponentialEuler())


class TestSplitting:
    @pytest.mark.parametrize("name", ["BAOAB", "OBABO", "UBU"])
    def test_variances_of_a_harmonic_well(self, name):
        """The chain of a linear force is a matrix; its stationary covariance by iteration: position 1 and velocity 1 up to O(h^2), with
        BAOAB's position exact. The noise's covariance is that of many draws of one step, so 5 standard errors of 400000."""
        h, sde, n = 0.4, orn.Underdamped(lambda q: -q, 1.5), 400_000
        times = torch.tensor([0.0, h], dtype=F64)
        unit = torch.eye(2, dtype=F64)
        at = orn.solve(sde, torch.zeros(n, 2, dtype=F64), times, method(name), seed=1)[-1]
        zero = orn.solve(sde, torch.zeros(2, 2, dtype=F64), times, method(name), seed=1)[-1]
        matrix = (orn.solve(sde, unit, times, method(name), seed=1)[-1] - zero).T
        noise, covariance = at.T @ at / n, unit
        for _ in range(400):
            covariance = matrix @ covariance @ matrix.T + noise
        q, v = covariance.diagonal().tolist()
        slack = 5 * math.sqrt(2 / n) * 3
        assert q == pytest.approx(1.0, abs=slack + (0 if name == "BAOAB" else 0.3 * h**2))
        assert v == pytest.approx(1.0, abs=slack + 0.3 * h**2)

    def test_ubu_without_a_force_is_exact(self):
        """Free motion from (1, 2): mean and covariance of position and velocity after one long step, 4 standard errors."""
        sde, h, n = orn.Underdamped(torch.zeros_like, 0.7), 3.0, 200_000
        x = torch.tensor([1.0, 2.0], dtype=F64).expand(n, 2)
        end = orn.solve(sde, x, [0.0, h], orn.UBU(), seed=2)[-1]
        e, c = math.exp(-0.7 * h), 0.7
        mean = torch.tensor([1 + 2 * (1 - e) / c, 2 * e], dtype=F64)
        var = torch.tensor([(2 * c * h - 3 + 4 * e - e**2) / c**2, 1 - e**2], dtype=F64)
        assert ((end.mean(0) - mean).abs() < 4 * (var / n).sqrt()).all()
        assert ((end.var(0) / var - 1).abs() < 4 * math.sqrt(2 / n)).all()
        covariance = float(((end - mean).prod(1)).mean())
        assert covariance == pytest.approx((1 - e) ** 2 / c, rel=0.02)

    def test_refusals(self):
        with pytest.raises(OrnsteinError, match="Underdamped"):
            orn.solve(geometric(), torch.ones(2), [0.0, 1.0], orn.BAOAB())
        with pytest.raises(OrnsteinError, match="friction"):
            orn.Underdamped(lambda q: -q, 0.0)
