"""Methods for general equations: their declared strong and weak orders, and exact laws."""

import math
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch

import ornstein as orn
from ornstein.core.methods.base import require_fit
from ornstein.core.solvers.solve import default_method
from ornstein.errors import OrnsteinError
from problems import fitted_slope

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
    """Scalar noise in the plane: ``dX = A X dt + M X dB``, solved by ``exp((A - M^2 / 2) T + M B_T)
    x``."""
    return orn.SDE(lambda x, t: A * x, lambda x, t: x @ TWIST.T, "scalar", calculus)


def rotated_exact(x, b, calculus="ito"):
    fixed = A * torch.eye(2, dtype=F64) - (TWIST @ TWIST / 2 if calculus == "ito" else 0.0)
    return (torch.linalg.matrix_exp(fixed * T + TWIST * b[:, :, None]) @ x[..., None])[..., 0]


def swinging():
    """Additive noise whose size changes, and a drift that bends: no closed form."""
    return orn.SDE(
        lambda x, t: x.sin() - x,
        lambda x, t: 0.5 + 0.4 * torch.as_tensor(t, dtype=F64).cos() + 0 * x,
        "additive",
    )


def crossed(calculus="ito"):
    """General noise that does not commute: ``[g_1, g_2] = (0, 1.4 cos 2 x_1)``."""

    def diffusion(x, t):
        nil = torch.zeros_like(x[:, 0])
        return torch.stack(
            [torch.stack([0.7 + nil, nil], 1), torch.stack([nil, (2 * x[:, 0]).sin()], 1)], -1
        )

    return orn.SDE(lambda x, t: -x / 2, diffusion, "general", calculus)


def bent(noise):
    """A drift that commutes with none of these noises: with one that does, `LogODE` is better than
    it is in general."""
    size = {
        "scalar": lambda x, t: 0.5 * x.flip(1) * torch.tensor([1.0, -1.0], dtype=F64),
        "diagonal": lambda x, t: 0.5 * x.cos(),
        "additive": lambda x, t: 0.5 * torch.ones_like(x),
    }[noise]
    return orn.SDE(lambda x, t: (2 * x.flip(1)).sin() - x, size, noise, "stratonovich")


COMMUTING = ["EulerMaruyama", "TamedEuler", "ImplicitEuler", "Milstein", "SRK", "PlatenWeak2"]
STRATONOVICH = [
    "Milstein",
    "EulerHeun",
    "StratonovichHeun",
    "StratonovichMidpoint",
    "ReversibleHeun",
]
CASES = [
    (name, problem) for name in COMMUTING for problem in ("diagonal ito", "scalar ito", "additive")
]
CASES += [
    (name, problem)
    for name in STRATONOVICH
    for problem in ("diagonal stratonovich", "scalar stratonovich", "additive")
]
CASES += [(name, "general ito") for name in ("EulerMaruyama", "TamedEuler", "ImplicitEuler")]
CASES += [(name, "general stratonovich") for name in (*STRATONOVICH[1:], "LogODE")]
CASES += [("LogODE", f"{noise} bent") for noise in ("scalar", "diagonal", "additive")]


class Problem(NamedTuple):
    """An equation, its start, a path, the solution on it at time T, and the numbers of steps to
    look at."""

    sde: orn.SDE
    x: torch.Tensor
    path: orn.BrownianPath
    exact: torch.Tensor
    steps: tuple[int, ...]


@cache
def problem(name: str, n: int) -> Problem:
    """n samples. Geometric motions are known; the rest is solved on finer cells, by Euler where no
    method has another order."""
    noise, sense = name.split() if " " in name else (name, "ito")
    cells, steps, method = 256, (32, 64, 128, 256), None
    if sense == "bent":
        sde, cells, steps, method = bent(noise), 256, (16, 32, 64), orn.methods.LogODE()
    elif noise == "additive":
        sde, cells, steps, method = swinging(), 512, (8, 16, 32, 64), orn.SRK()
    elif noise == "general":
        sde, cells, steps = crossed(sense), 512, (8, 16, 32)
        method = orn.EulerMaruyama() if sense == "ito" else orn.methods.EulerHeun()
    else:
        sde = geometric(sense) if noise == "diagonal" else rotated(sense)
    plane = sense == "bent" or noise in ("scalar", "general")
    x, fine = (
        torch.ones((n, 2) if plane else (n,), dtype=F64),
        torch.linspace(0, T, cells + 1, dtype=F64),
    )
    path = orn.BrownianPath(
        (n, 1) if noise == "scalar" else x.shape, t1=T, seed=3, cells=fine, dtype=F64, order=2
    )
    if method is None:
        exact = (geometric_exact if noise == "diagonal" else rotated_exact)(x, path(T), sense)
    else:
        exact = orn.solve(sde, x, fine, method, path)[-1]
    return Problem(sde, x, path, exact, steps)


def method(name):
    return getattr(orn.methods, name)()


def distances(scheme, on: Problem, steps) -> torch.Tensor:
    """From the solution, ``(len(steps), n)``: one for each path, all methods and steps on the same
    paths."""
    ends = [
        orn.solve(on.sde, on.x, torch.linspace(0, T, k + 1, dtype=F64), scheme, on.path)[-1]
        for k in steps
    ]
    return torch.stack([(end - on.exact).abs().reshape(len(end), -1).mean(1) for end in ends])


class TestStrongOrder:
    @pytest.mark.parametrize(("name", "on"), CASES)
    def test_slope_is_the_order_that_is_declared(self, name, on):
        """Within 0.1, with a standard error of the slope below 0.03."""
        at = problem(on, 1000 if name == "LogODE" else 2000)
        steps = at.steps[:-1] if name == "ImplicitEuler" else at.steps  # each of its steps is some
        found = fitted_slope(distances(method(name), at, steps), steps)
        assert found.stderr < 0.03, found
        assert found.slope == pytest.approx(method(name).solves.strong[on.split()[0]], abs=0.1), (
            found
        )

    def test_log_ode_is_of_order_2_where_the_drift_commutes_too(self):
        """Then (3) is exact, and the error is that of Runge-Kutta, whose fifth power of dB has mean
        0: better than declared."""
        at = problem("diagonal stratonovich", 2000)
        steps = at.steps[:-1]
        assert fitted_slope(distances(method("LogODE"), at, steps), steps).slope == pytest.approx(
            2, abs=0.1
        )

    def test_srk_is_no_less_accurate_than_the_known_numbers(self):
        """Errors at step 2^-7 on GBM(0.5, 0.8) of Euler, Milstein and SRK, 5.5e-2, 5.2e-3, 1.8e-4
        elsewhere, to 3 standard errors."""
        for name, known in (("EulerMaruyama", 5.5e-2), ("Milstein", 5.2e-3), ("SRK", 1.8e-4)):
            error = distances(method(name), problem("diagonal ito", 2000), (128,))[0]
            assert float(error.mean()) < known + 3 * float(error.std()) / math.sqrt(len(error))


def heisenberg():
    """``dX = (dB_1, dB_2, X_1 o dB_2)``: ends in (B_1, B_2, int B_1 o dB_2)."""

    def diffusion(x, t):
        one, nil = torch.ones_like(x[:, 0]), torch.zeros_like(x[:, 0])
        return torch.stack(
            [
                torch.stack([one, nil], 1),
                torch.stack([nil, one], 1),
                torch.stack([nil, x[:, 0]], 1),
            ],
            1,
        )

    return orn.SDE(lambda x, t: torch.zeros_like(x), diffusion, "general", "stratonovich")


class TestLogODE:
    def test_first_integrals_are_those_of_the_path(self):
        """Brackets of brackets vanish, so that any step is exact as far as its area is. The
        trapezoidal rule on 128 cells misses their areas, of variance h^2 / 4 each: the integral is
        within 5 of its errors, sqrt(h) / 2."""
        n, cells = 128, torch.linspace(0, T, 129, dtype=F64)
        path = orn.BrownianPath((50, 2), seed=8, cells=cells, dtype=F64, order=2)
        end = orn.solve(
            heisenberg(),
            torch.zeros(50, 3, dtype=F64),
            [0.0, T],
            orn.methods.LogODE(pieces=n),
            path,
        )[-1]
        steps = torch.stack([path(a, b) for a, b in pairwise(cells.tolist())])
        before = steps.cumsum(0) - steps
        integral = ((before[..., 0] + steps[..., 0] / 2) * steps[..., 1]).sum(0)
        torch.testing.assert_close(end[:, :2], path(T))
        assert float((end[:, 2] - integral).abs().max()) < 5 * math.sqrt(1 / n) / 2
        assert float((end[:, 2] - path(T).prod(1) / 2).abs().mean()) > 0.1

    def test_is_of_order_one_with_the_areas_of_the_path(self):
        """General noise that does not commute, against 256 steps, when a step's area is of as many
        pieces as it has of those: within 0.1 in the variable ``1/n - 1/256`` (0.94 +- 0.02 over
        seeds). With one piece for each step the order is 1/2, above."""
        n, cells, counts = 400, torch.linspace(0, T, 257, dtype=F64), (8, 16, 32)
        path = orn.BrownianPath((n, 2), seed=0, cells=cells, dtype=F64, order=2)
        sde, x = crossed("stratonovich"), torch.ones(n, 2, dtype=F64)

        def end(steps):
            return orn.solve(
                sde,
                x,
                torch.linspace(0, T, steps + 1, dtype=F64),
                orn.methods.LogODE(256 // steps),
                path,
            )[-1]

        best = end(256)
        errors = torch.stack([(end(k) - best).abs().mean(1) for k in counts])
        found = fitted_slope(errors, [1 / (1 / k - 1 / 256) for k in counts])
        assert found.stderr < 0.03 and found.slope == pytest.approx(1, abs=0.1), found

    def test_drawn_areas_have_their_law(self):
        """One step from a seed: the integral has variance ``1/2``, by 4 standard errors of
        100000."""
        z = orn.solve(
            heisenberg(), torch.zeros(100_000, 3, dtype=F64), [0.0, 1.0], orn.methods.LogODE(), 5
        )[-1][:, 2]
        assert float(z.square().mean()) == pytest.approx(
            0.5, abs=4 * float(z.square().std()) / math.sqrt(len(z))
        )


# Orders in E X and E X^2, and the sense. Better than declared: SRK's mean, in which its error of
# order 3/2 has no part, and LogODE, which is of weak order 2 where the noise commutes.
WEAK = {
    "EulerMaruyama": ((1, 1), "ito"),
    "ImplicitEuler": ((1, 1), "ito"),
    "Milstein": ((1, 1), "ito"),
    "PlatenWeak2": ((2, 2), "ito"),
    "SRK": ((3, 1.5), "ito"),
    "EulerHeun": ((1, 1), "stratonovich"),
    "StratonovichHeun": ((1, 1), "stratonovich"),
    "StratonovichMidpoint": ((1, 1), "stratonovich"),
    "ReversibleHeun": ((1, 1), "stratonovich"),
    "LogODE": ((2, 2), "stratonovich"),
}


class TestWeakOrder:
    @pytest.mark.parametrize("name", WEAK)
    def test_moments_of_geometric_motion_that_returns(self, name):
        """``dX = (1/2 - X) dt + 0.8 X dB``: errors of E X and E X^2 without sampling. A step is ``M
        x + N`` for functions M and N of normal numbers, whose moments are found by quadrature.
        Slopes over steps 1/256 and 1/512 within 0.1."""
        orders, sense = WEAK[name]
        sde = orn.SDE(lambda x, t: 0.5 - x, lambda x, t: S * x, calculus=sense)
        found = [abs(moments(method(name), sde, n) - moments_exact(sense)) for n in (256, 512)]
        assert torch.log2(found[0] / found[1]).tolist() == pytest.approx(orders, abs=0.1)


def moments(scheme, sde, n):
    """E X_1 and E X_1^2 from 1 after n steps."""
    nodes, weights = _hermite()
    t, s = torch.tensor([0.0, 1 / n], dtype=F64).unbind()

    def step(x):
        return scheme.step(sde, torch.full_like(nodes[0], x), t, s, _Fixed(*nodes), None).x

    shift, at = step(0.0), step(1.0)
    slope = at - shift
    torch.testing.assert_close(step(2.0), shift + 2 * slope, rtol=1e-12, atol=1e-12)
    first, second = 1.0, 1.0
    for _ in range(n):
        second = float(weights @ (slope**2 * second + 2 * slope * shift * first + shift**2))
        first = float(weights @ (slope * first + shift))
    return torch.tensor([first, second], dtype=F64)


def moments_exact(sense):
    """From ``d E X = 1/2 - k E X`` and ``d E X^2 = E X + (S^2 - 2 k) E X^2``; k is 1, or ``1 - S^2
    / 2`` in Stratonovich's sense."""
    k = 1 - (S**2 / 2 if sense == "stratonovich" else 0.0)
    matrix = torch.tensor([[-k, 0, 0.5], [1, S**2 - 2 * k, 0], [0, 0, 0]], dtype=F64)
    return (torch.linalg.matrix_exp(matrix) @ torch.ones(3, dtype=F64))[:2]


class _Fixed:
    """Normal numbers that are given: of increments and of areas."""

    def __init__(self, z, w):
        self.z, self.w = z, w

    def between(self, t, s):
        return self.z

    def increment(self, t, s):
        return self.z * (s - t).abs().sqrt()

    def area(self, t, s):
        return self.w * ((s - t).abs() / 12).sqrt()

    def normal(self):
        raise AssertionError

    uniform = normal


def _hermite():
    import numpy as np

    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(24))
    weights = weights / weights.sum()
    return torch.cartesian_prod(nodes, nodes).T, torch.outer(weights, weights).flatten()


class TestFits:
    def test_refusals_name_what_fits(self):
        x = torch.ones(3, 2, dtype=F64)
        with pytest.raises(
            OrnsteinError, match=r"Milstein.*ito equations with general noise.*EulerMaruyama"
        ):
            orn.solve(crossed(), x, [0.0, 1.0], orn.Milstein())
        with pytest.raises(
            OrnsteinError, match=r"EulerMaruyama.*stratonovich.*Milstein.*StratonovichHeun"
        ):
            orn.solve(geometric("stratonovich"), x, [0.0, 1.0], orn.EulerMaruyama())
        with pytest.raises(OrnsteinError, match="ImplicitEuler"):
            orn.solve(geometric(), x, [0.0, 1.0], orn.methods.StratonovichMidpoint())
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

    @pytest.mark.parametrize(
        "sde",
        [
            geometric(),
            rotated(),
            swinging(),
            crossed(),
            crossed("stratonovich"),
            geometric("stratonovich"),
        ],
    )
    def test_default_fits(self, sde):
        method = default_method(sde)
        assert method.solves.fits(sde)
        require_fit(method, sde)
        orn.solve(sde, torch.ones(2, 2, dtype=F64), [0.0, 0.1])


class HalfDrift(orn.methods.SDEMethod):
    """A method from outside the library: two Euler steps for the drift, one for additive noise."""

    order = 1
    solves = orn.methods.SolverOrders(("ito",), {"additive": 1.0, "diagonal": 0.5}, weak=1)

    def step(self, sde, x, t, s, stream, memory):
        h = (s - t) / 2
        y = x + h * sde.drift(x, t)
        noise = sde.diffusion(x, t) * stream.increment(t, s)
        return orn.simulation.Step(y + h * sde.drift(y, t + h) + noise, evaluations=2)


class MyEuler(orn.EulerMaruyama):
    """A subclass, which inherits what its base declares."""


class Silent(orn.methods.SDEMethod):
    """A method that does not say what it solves."""

    order = 1

    def step(self, sde, x, t, s, stream, memory):
        return orn.simulation.Step(x)


class TestMethodsFromOutside:
    @pytest.mark.parametrize("make", [MyEuler, HalfDrift])
    @pytest.mark.parametrize("on", ["diagonal ito", "additive"])
    def test_have_the_strong_order_they_declare(self, make, on):
        at = problem(on, 2000)
        found = fitted_slope(distances(make(), at, at.steps), at.steps)
        assert found.stderr < 0.03, found
        assert found.slope == pytest.approx(make.solves.strong[on.split()[0]], abs=0.1), found

    def test_a_subclass_takes_the_steps_of_its_base(self):
        sde, x = geometric(), torch.ones(4, dtype=F64)
        times = torch.linspace(0, T, 9, dtype=F64)
        for run in (orn.simulate, orn.solve):
            methods = MyEuler(), orn.EulerMaruyama()
            ours, theirs = (run(sde, x, times, method, orn.Noise(3)) for method in methods)
            assert torch.equal(ours, theirs)

    def test_run_in_solve_simulate_and_with_adaptive_steps(self):
        sde, x = swinging(), torch.ones(4, dtype=F64)
        times = torch.linspace(0, T, 9, dtype=F64)
        end = orn.simulate(sde, x, times, HalfDrift(), orn.Noise(1))
        assert torch.equal(end, orn.solve(sde, x, times, HalfDrift(), orn.Noise(1))[-1])
        path = orn.BrownianPath((4,), seed=1, dtype=F64)
        adaptive = orn.methods.AdaptiveSDE(HalfDrift(), 1e-2, 1e-2)
        fine = orn.solve(sde, x, torch.linspace(0, T, 513, dtype=F64), HalfDrift(), path)[-1]
        near = orn.solve(sde, x, [0.0, T], adaptive, path)[-1]
        assert float((near - fine).abs().max()) < 0.05

    def test_are_refused_where_they_declare_nothing(self):
        x = torch.ones(3, 2, dtype=F64)
        with pytest.raises(OrnsteinError, match=r"HalfDrift.*general noise.*EulerMaruyama"):
            orn.solve(crossed(), x, [0.0, 1.0], HalfDrift())
        with pytest.raises(OrnsteinError, match=r"HalfDrift.*stratonovich.*StratonovichHeun") as e:
            orn.solve(geometric("stratonovich"), x, [0.0, 1.0], HalfDrift())
        assert "MyEuler" not in str(e.value)  # the list is of the library's methods
        with pytest.raises(OrnsteinError, match=r"Silent does not declare.*solves ="):
            orn.solve(geometric(), x, [0.0, 1.0], Silent())


class TestSolve:
    def test_saves_what_is_asked_for_whatever_the_steps(self):
        """Times that no dt divides; the state at a time is that of a run that ends there."""
        x, ts = torch.ones(4, dtype=F64), [0.0, 0.13, 0.7, 1.0]
        path = orn.BrownianPath((4,), seed=1, cells=torch.linspace(0, 1, 401, dtype=F64), dtype=F64)
        found = orn.solve(geometric(), x, ts, orn.Milstein(), path, dt=0.004)
        assert found.shape == (4, 4) and torch.equal(found[0], x)
        for k, t in enumerate(ts):
            assert (
                float((found[k] - x * torch.exp((A - S**2 / 2) * t + S * path(t))).abs().max())
                < 0.02
            )

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
        sde, path = (
            geometric("stratonovich"),
            orn.BrownianPath((6,), seed=2, cells=torch.linspace(0, 1, 21, dtype=F64), dtype=F64),
        )
        grid, x = torch.linspace(0, 1, 21, dtype=F64), torch.ones(6, dtype=F64)
        stream, memory, y = path.stream_like(x), None, x
        for t, s in pairwise(grid):
            step = orn.methods.ReversibleHeun().step(sde, y, t, s, stream, memory)
            y, memory = step.x, step.memory
        assert float((y - x).abs().max()) > 0.1
        for t, s in pairwise(grid.flip(0)):
            step = orn.methods.ReversibleHeun().step(sde, y, t, s, stream, memory)
            y, memory = step.x, step.memory
        torch.testing.assert_close(y, x, atol=1e-12, rtol=0)


class TestStiff:
    def test_tamed_and_implicit_survive_where_euler_explodes(self):
        """``dX = -X^3 dt + dB`` from 30 with step 0.1."""
        sde, x = (
            orn.SDE(lambda x, t: -(x**3), lambda x, t: torch.ones_like(x), "additive"),
            torch.full((50,), 30.0, dtype=F64),
        )
        names = ("TamedEuler", "ImplicitEuler", "EulerMaruyama")
        ends = {
            name: orn.solve(sde, x, [0.0, 5.0], method(name), dt=0.1)[-1].abs().max()
            for name in names
        }
        assert (
            ends["TamedEuler"] < 4 and ends["ImplicitEuler"] < 4 and not ends["EulerMaruyama"] < 1e6
        )

    def test_exponential_euler_has_the_exact_law_of_a_linear_equation(self):
        """Rate -100 at step 0.1: variance ``g^2 (1 - e^(-2 r T)) / 2 r`` and mean within 4 standard
        errors of 40000 paths."""
        sde = orn.methods.Semilinear(
            -100.0,
            lambda x, t: torch.full_like(x, 300.0),
            lambda x, t: torch.full_like(x, 5.0),
            "additive",
        )
        end = orn.solve(
            sde, torch.zeros(40000, dtype=F64), [0.0, 0.5], orn.methods.ExponentialEuler(), dt=0.1
        )[-1]
        assert float(end.mean()) == pytest.approx(3.0, abs=4 * float(end.std()) / 200)
        assert float(end.var()) == pytest.approx(25 / 200, rel=4 * math.sqrt(2 / 40000))
        with pytest.raises(OrnsteinError, match="Semilinear"):
            orn.solve(geometric(), torch.ones(2), [0.0, 1.0], orn.methods.ExponentialEuler())


class TestSplitting:
    @pytest.mark.parametrize("name", ["BAOAB", "OBABO", "UBU"])
    def test_variances_of_a_harmonic_well(self, name):
        """The chain of a linear force is a matrix; its stationary covariance by iteration: position
        1 and velocity 1 up to O(h^2), with BAOAB's position exact. The noise's covariance is that
        of many draws of one step, so 5 standard errors of 400000."""
        h, sde, n = 0.4, orn.methods.Underdamped(lambda q: -q, 1.5), 400_000
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
        """Free motion from (1, 2): mean and covariance of position and velocity after one long
        step, 4 standard errors."""
        sde, h, n = orn.methods.Underdamped(torch.zeros_like, 0.7), 3.0, 200_000
        x = torch.tensor([1.0, 2.0], dtype=F64).expand(n, 2)
        end = orn.solve(sde, x, [0.0, h], orn.methods.UBU(), seed=2)[-1]
        e, c = math.exp(-0.7 * h), 0.7
        mean = torch.tensor([1 + 2 * (1 - e) / c, 2 * e], dtype=F64)
        var = torch.tensor([(2 * c * h - 3 + 4 * e - e**2) / c**2, 1 - e**2], dtype=F64)
        assert ((end.mean(0) - mean).abs() < 4 * (var / n).sqrt()).all()
        assert ((end.var(0) / var - 1).abs() < 4 * math.sqrt(2 / n)).all()
        covariance = float(((end - mean).prod(1)).mean())
        assert covariance == pytest.approx((1 - e) ** 2 / c, rel=0.02)

    def test_refusals(self):
        with pytest.raises(OrnsteinError, match="Underdamped"):
            orn.solve(geometric(), torch.ones(2), [0.0, 1.0], orn.methods.BAOAB())
        with pytest.raises(OrnsteinError, match="friction"):
            orn.methods.Underdamped(lambda q: -q, 0.0)
