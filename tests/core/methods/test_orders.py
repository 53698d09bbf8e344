"""Every method is held to the order it declares, on problems whose solution is known to many
digits.

A new method goes into `ODE_METHODS` (it solves the probability-flow ODE) or `WEAK_ORDERS` (its
kernels are Gaussian).
"""

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import pytest
import torch
from scipy.integrate import solve_ivp

from ornstein.core import processes as p
from ornstein.core.methods import (
    Ancestral,
    AncestralStep,
    EulerMaruyama,
    ForwardTransition,
    Heun,
    Multistep,
    PredictorCorrector,
    RungeKutta,
    Singlestep,
)  # fmt: skip
from ornstein.core.methods.exponential_weights import even, exact, middle, middle_bh1
from ornstein.core.methods.runge_kutta import bogacki_shampine, midpoint, rk4
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.sde import SDE
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.method import Method, Step
from ornstein.core.simulation.watchers import Evaluations
from ornstein.core.timesteps.clock import Asinh, Index, Ratio, Time
from ornstein.core.timesteps.spacing import Karras
from problems import NormalPosterior, mixture, slope

F64 = torch.float64
TOLERANCE, WEAK_TOLERANCE = 0.2, 0.1
INF = math.inf

DATA_STDS = (0.0, 1.6, INF)  # the clean point, the velocity, the noise

ODE_METHODS: list[Method] = [
    EulerMaruyama(),
    Heun(),
    Ancestral(),
    *map(RungeKutta, (midpoint, bogacki_shampine, rk4)),
    *(Multistep(order, d) for order in (1, 2, 3, 4) for d in DATA_STDS),
    *(
        Multistep(3, d, clock)
        for d, clock in ((INF, Ratio()), (1.6, Asinh(0.3)), (0.0, Time()), (INF, Time()))
    ),
    Multistep(weights=middle),
    Multistep(weights=middle_bh1),
    Multistep(2, INF, Index(), even),
    Multistep(2, INF, weights=even),
    Singlestep(),
    Singlestep(weights=exact),
    Singlestep((0.5,), INF),
    Singlestep((0.5,), INF, Ratio(), exact),
    Singlestep((1.0,), INF, Ratio(), exact),
    Singlestep((0.5, 1.0), weights=exact),
    Singlestep((1 / 3, 2 / 3), INF),
    *(Singlestep((1 / 3, 2 / 3), d, weights=exact) for d in DATA_STDS),
    Singlestep((1 / 3, 2 / 3), INF, Ratio(), exact),
]

# What bounds the order: prediction and correction of order p together have order p + 1, and 2 where
# the prediction has 1; one last step of order 1 costs h^2; a rule that misplaces the weight of the
# interval does not see more than a straight line.
BOUNDED: list[tuple[Method, int]] = [
    *((Multistep(order, d, corrector=order), order + 1) for order in (1, 2) for d in DATA_STDS),
    (Multistep(3, corrector=3), 4),
    (Multistep(2, weights=middle, corrector=2), 3),
    (Multistep(1, corrector=2), 2),
    (Multistep(2, last=1), 2),
    (Multistep(3, last=1), 2),
    (Multistep(4, INF, Index(), even), 2),
]

# Expectations at eta: order of the error in E[x^2], E[cos x] in one dimension. With eta = 1 the
# kernel of `Ancestral` has the exact mean and variance of x_s | x_t and only its third cumulant,
# O(h^3) per step, is off: order 2 where the posterior of one coordinate does not depend on the
# others, against 1 in general and for every other eta.
WEAK_ORDERS: list[tuple[Method, float, int]] = [
    (EulerMaruyama(), 1.0, 1),
    (EulerMaruyama(), 0.5, 1),
    (Ancestral(), 1.0, 2),
    (Ancestral(), 0.5, 1),
    (AncestralStep(Ancestral()), 1.0, 1),
    (AncestralStep(), 1.0, 2),
    (Multistep(1), 1.0, 1),
    (Singlestep(), 1.0, 1),
    (Singlestep((0.5,), INF), 1.0, 1),
]


def grid(sde: LinearSDE, n: int, high: float, low: float, even_in: str = "t") -> torch.Tensor:
    """``n`` steps from ``high T`` to ``low T``, even in t or in log t."""
    u = torch.linspace(0, 1, n + 1, dtype=F64)
    return sde.T * (high + (low - high) * u if even_in == "t" else high * (low / high) ** u)


PROBLEMS = {  # process, dimension, from and to as fractions of T, clock
    "VP": (p.VP(), 2, 0.5, 0.1, "t"),
    "RectifiedFlow": (p.RectifiedFlow(), 2, 0.6, 0.2, "t"),
    "EDM": (p.EDM(), 1, 0.05, 0.005, "log t"),
}


def step_numbers(name: str, method: Method, order: int) -> tuple[int, int]:
    """Return two numbers of steps from which on the error is asymptotic: slopes within 0.16."""
    if not isinstance(method, Multistep):
        return (40, 80) if order == 2 else (20, 40)
    if name == "VP" and method.order == method.corrector == 3:
        return 640, 1280
    return {1: (20, 40), 2: (40, 80), 3: (80, 160), 4: (160, 320)}[order]


def gentle(times: torch.Tensor) -> torch.Tensor:
    """The grid with a first step in parts that grow from almost nothing: a multistep method starts
    with order 1."""
    parts = 1.4 ** torch.arange(-24, 0, dtype=F64)
    return torch.cat([times[:1], times[0] + parts * (times[1] - times[0]), times[1:]])


@cache
def reference(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Start and end of the probability flow, by an eighth-order method of SciPy."""
    sde, d, high, low, _ = PROBLEMS[name]
    flow, start = Reverse(mixture(d).posterior(sde), eta=0.0), high * sde.T
    std = math.hypot(2 * float(sde.alpha(start)), float(sde.sigma(start)))
    x = Noise(0).normal((16, d), F64) * std

    def velocity(t, y):
        return flow.drift(torch.from_numpy(y.copy()).reshape(x.shape), float(t)).flatten().numpy()

    end = solve_ivp(
        velocity, (start, low * sde.T), x.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-13
    ).y[:, -1]
    return x, torch.from_numpy(end).reshape(x.shape)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(
    ("method", "order"), [*((method, method.order) for method in ODE_METHODS), *BOUNDED], ids=repr
)
def test_probability_flow_of_a_mixture_converges_at_the_declared_order(name, method, order):
    sde, d, high, low, clock = PROBLEMS[name]
    x, exact_end = reference(name)
    flow, errors = Reverse(mixture(d).posterior(sde), eta=0.0), []
    sizes = step_numbers(name, method, order)
    for n in sizes:
        times = grid(sde, n, high, low, clock)
        found = simulate(
            flow, x, gentle(times) if isinstance(method, Multistep) and order > 2 else times, method
        )
        errors.append(float((found - exact_end).square().mean().sqrt()))
    assert slope(errors, list(sizes)) == pytest.approx(order, abs=TOLERANCE)


@pytest.mark.parametrize("method", [EulerMaruyama(), Heun()], ids=repr)
def test_a_nonlinear_ode_converges_at_the_declared_order_in_both_directions(method):
    """``x' = x cos t - x^3 / 2`` is a Bernoulli equation: ``x^-2 = e^{-2 sin t} (x_0^-2 + int_0^t
    e^{2 sin u} du)``."""
    equation = SDE(lambda x, t: x * math.cos(float(t)) - x**3 / 2)
    integral = torch.linspace(0, 2, 20_001, dtype=F64)
    area = float(torch.trapezoid(torch.exp(2 * integral.sin()), integral))
    x = torch.tensor([[0.5], [1.0], [2.0]], dtype=F64)
    y = (math.exp(-2 * math.sin(2.0)) * (x**-2 + area)).rsqrt()
    for start, end, t, s in ((x, y, 0.0, 2.0), (y, x, 2.0, 0.0)):
        errors = [
            float(
                (simulate(equation, start, torch.linspace(t, s, n + 1, dtype=F64), method) - end)
                .abs()
                .max()
            )
            for n in (160, 320)
        ]
        assert slope(errors, [160, 320]) == pytest.approx(method.order, abs=TOLERANCE)


def law_after(
    reverse: Reverse, method: Method, times: torch.Tensor, points: torch.Tensor
) -> torch.Tensor:
    """Probabilities of grid points after the kernels of a method have acted on the exact density:
    no Monte Carlo."""
    width = points[1] - points[0]
    density = reverse.posterior.log_prob(points[:, None], times[0]).exp()
    stream = Noise(0).stream((len(points), 1), F64)
    for t, s in pairwise(times):
        kernel = method.step(reverse, points[:, None], t, s, stream, None).kernel
        std = kernel.std.expand_as(kernel.mean)
        density = (
            width
            * density
            @ (-(((points - kernel.mean) / std) ** 2) / 2).exp().div(std * math.sqrt(2 * math.pi))
        )
    return density * width


@pytest.mark.parametrize(("method", "eta", "order"), WEAK_ORDERS, ids=lambda v: repr(v))
def test_expectations_of_a_mixture_converge_at_the_weak_order(method, eta, order):
    sde, points = p.RectifiedFlow(), torch.linspace(-5, 5, 401, dtype=F64)
    posterior, sizes, low = mixture(1).posterior(sde), (40, 80) if order == 1 else (80, 160), 0.2
    exact = posterior.log_prob(points[:, None], low).exp() * (points[1] - points[0])
    errors = [
        law_after(Reverse(posterior, eta), method, grid(sde, n, 0.6, low), points) - exact
        for n in sizes
    ]
    assert max(abs(float(error.sum())) for error in errors) < 1e-6  # mass
    for observable in (points**2, points.cos()):
        seen = slope([abs(float(error @ observable)) for error in errors], list(sizes))
        assert seen == pytest.approx(order, abs=WEAK_TOLERANCE)


def moments_after(
    sde, method: Method, times: torch.Tensor, mean: float, var: float
) -> tuple[float, float]:
    """Mean and variance after the kernels of a method, for kernels that are affine in x."""
    probe = torch.tensor([[0.0], [1.0]], dtype=F64)
    stream = Noise(0).stream((2, 1), F64)
    for t, s in pairwise(times):
        kernel = method.step(sde, probe, t, s, stream, None).kernel
        shift, factor = float(kernel.mean[0]), float(kernel.mean[1] - kernel.mean[0])
        mean, var = shift + factor * mean, factor**2 * var + float(kernel.std.max()) ** 2
    return mean, var


GAUSSIAN_PROBLEMS = [
    p.VP(),
    p.EDM(10.0),
    p.RectifiedFlow(),
    p.Cosine(),
    p.OU(1.5, 2.0),
    p.SubVP(),
    p.VE(0.05, 10.0),
]


@pytest.mark.parametrize("sde", GAUSSIAN_PROBLEMS, ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize("n", [1, 3, 20])
def test_ancestral_sampling_of_gaussian_data_is_exact_in_any_number_of_steps(sde, n):
    """The kernel is ``p(x_s | x_t)`` itself, so mean and variance are those of the data, from T to
    0."""
    mean, var, T = 0.7, 0.4, sde.T
    start = float(sde.alpha(T)) * mean, float(sde.alpha(T) ** 2 * var + sde.sigma(T) ** 2)
    end = moments_after(Reverse(NormalPosterior(sde, mean, var)), Ancestral(), sde.times(n), *start)
    assert end == pytest.approx((mean, var), rel=1e-9)


@pytest.mark.parametrize(
    ("method", "eta"),
    [(EulerMaruyama(), 1.0), (EulerMaruyama(), 0.5), (Ancestral(), 0.5)],
    ids=repr,
)
@pytest.mark.parametrize(
    "sde", [p.OU(2.0, 2.0), p.RectifiedFlow()], ids=lambda sde: type(sde).__name__
)
def test_moments_of_gaussian_data_converge_at_order_1(method, eta, sde):
    mean, var, high, low = 0.7, 0.4, 0.9, 0.1
    at = [
        (float(sde.alpha(u)) * mean, float(sde.alpha(u) ** 2 * var + sde.sigma(u) ** 2))
        for u in (high, low)
    ]
    reverse, sizes = Reverse(NormalPosterior(sde, mean, var), eta), (60, 120)
    found = [moments_after(reverse, method, grid(sde, n, high, low), *at[0]) for n in sizes]
    assert slope([abs(v - at[1][1]) for _, v in found], list(sizes)) == pytest.approx(
        1, abs=WEAK_TOLERANCE
    )


def test_noising_by_euler_maruyama_has_weak_order_1():
    sde, mean, var, sizes = p.OU(1.5, 2.0), 3.0, 0.25, (40, 80)
    exact = float(sde.alpha(1.0)) * mean, float(sde.alpha(1.0) ** 2 * var + sde.sigma(1.0) ** 2)
    found = [
        moments_after(sde, EulerMaruyama(), torch.linspace(0, 1, n + 1, dtype=F64), mean, var)
        for n in sizes
    ]
    for k in (0, 1):
        assert slope([abs(value[k] - exact[k]) for value in found], list(sizes)) == pytest.approx(
            1, abs=WEAK_TOLERANCE
        )


@pytest.mark.parametrize("n", [1, 5])
def test_noising_by_the_exact_kernel_has_no_error(n):
    sde = p.VP()
    mean, var = moments_after(
        sde, ForwardTransition(), torch.linspace(0, 1, n + 1, dtype=F64), 3.0, 0.25
    )
    exact = float(sde.alpha(1.0)) * 3.0, float(sde.alpha(1.0) ** 2 * 0.25 + sde.sigma(1.0) ** 2)
    assert (mean, var) == pytest.approx(exact, rel=1e-12)


@dataclass(frozen=True)
class Stay(Method):
    """A predictor that leaves the state where it is."""

    order: int = 1

    def noisy(self, sde):
        return False

    def step(self, sde, x, t, s, stream, memory):
        return Step(x, evaluations=0)


class TestAgainstThePapers:
    """Methods beside algorithms typed from their papers."""

    x = Noise(5).normal((6, 2), F64)

    @pytest.mark.parametrize("sde", [p.VP(), p.RectifiedFlow(), p.Cosine()], ids=repr)
    def test_multistep_of_order_1_is_ancestral_without_noise(self, sde):
        flow = Reverse(mixture().posterior(sde), eta=0.0)
        a, b = (
            simulate(flow, self.x, sde.times(12), method)
            for method in (Multistep(order=1), Ancestral())
        )
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)

    def test_heun_on_edm_is_algorithm_1(self):
        """Karras et al. 2022, algorithm 1, with sigma(t) = t and s(t) = 1."""
        sde = p.EDM()
        posterior, times, x = mixture().posterior(sde), sde.times(18, Karras()), 80 * self.x
        found = simulate(Reverse(posterior, eta=0.0), x, times, Heun())
        for t, s in pairwise(times):
            d = (x - posterior(x, t).mean) / t
            y = x + (s - t) * d
            if s > 0:
                d = (d + (y - posterior(y, s).mean) / s) / 2
                y = x + (s - t) * d
            x = y
        assert torch.allclose(found, x, rtol=1e-9, atol=1e-9)

    def test_multistep_is_algorithm_2_of_dpm_solver_plus_plus(self):
        """Lu et al. 2022 (DPM-Solver++), algorithm 2; the last step, to t = 0, is of order 1."""
        sde = p.VP()
        posterior, times, x = mixture().posterior(sde), sde.times(10), self.x
        found, last = (
            simulate(Reverse(posterior, eta=0.0), x, times, Multistep(weights=middle)),
            None,
        )
        for t, s in pairwise(times):
            x0, h = posterior(x, t).mean, None
            if s == 0:
                x = x0
                break
            h = (sde.log_snr(s) - sde.log_snr(t)) / 2
            d = x0
            if last is not None:
                r = last[0] / h
                d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * last[1]
            x = sde.sigma(s) / sde.sigma(t) * x - sde.alpha(s) * torch.expm1(-h) * d
            last = h, x0
        assert torch.allclose(found, x, rtol=1e-9, atol=1e-12)

    def test_a_predictor_without_corrections_is_the_predictor(self):
        sde = p.VP()
        reverse = Reverse(mixture().posterior(sde))
        a = simulate(reverse, self.x, sde.times(8), PredictorCorrector(corrections=0), Noise(0))
        assert torch.equal(a, simulate(reverse, self.x, sde.times(8), Ancestral(), Noise(0)))

    def test_a_predictor_corrector_has_the_order_of_its_predictor(self):
        assert PredictorCorrector(predictor=Heun()).order == 2
        assert PredictorCorrector().order == Ancestral().order

    def test_corrections_are_langevin_moves_that_keep_the_law_of_their_level(self):
        """For Gaussian data a move is affine, and its stationary variance is off by O(delta)
        only."""
        sde, var, s = p.VP(), 0.5, torch.tensor(0.5, dtype=F64)
        level = float(sde.alpha(s) ** 2 * var + sde.sigma(s) ** 2)
        delta = (
            2 * (0.16 * float(sde.sigma(s))) ** 2
        )  # Song et al. 2021, algorithm 4, with |score| = |z| / sigma
        method, stream = PredictorCorrector(predictor=Stay()), Noise(3).stream((6, 2), F64)
        step = method.step(
            Reverse(NormalPosterior(sde, 0.0, var)), self.x, s + 0.1, s, stream, None
        )
        moved = (1 - delta / level) * self.x + math.sqrt(2 * delta) * Noise(3).normal((6, 2), F64)
        assert torch.allclose(step.x, moved, rtol=1e-12)
        assert step.evaluations == 1
        assert 2 * delta / (1 - (1 - delta / level) ** 2) == pytest.approx(level, rel=0.03)


@pytest.mark.parametrize(
    ("method", "n", "calls"),
    [(EulerMaruyama(), 9, 9), (Ancestral(), 10, 10), (Multistep(), 10, 10), (Heun(), 10, 19)],
    ids=repr,
)
def test_evaluations_are_counted(method, n, calls):
    """Two for a step of Heun's method, but one where it ends in the data."""
    sde, asked = p.VP(), []

    class Counting(NormalPosterior):
        def __call__(self, x: torch.Tensor, t: torch.Tensor | float) -> Gaussian:
            asked.append(1)
            return super().__call__(x, t)

    counter, x = Evaluations(), Noise(0).normal((3, 2), F64)
    simulate(Reverse(Counting(sde), eta=0.0), x, sde.times(10)[: n + 1], method, watch=[counter])
    assert counter.count == len(asked) == calls
