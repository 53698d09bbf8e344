"""Measures on paths: ``E[w] = Z`` whatever the kernels, bounds on both sides, constant weights
where theory says so."""

import math

import pytest
import torch

import ornstein as orn
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.random.noise import NormalStream
from ornstein.errors import OrnsteinError

F64 = torch.float64
LOG_Z = 1.3
LEVELS = torch.linspace(1, 0, 9, dtype=F64)


def start(d=2, std=1.5):
    return orn.paths.GaussianStart(
        Gaussian(torch.zeros(d, dtype=F64), torch.tensor(std, dtype=F64))
    )


def target(x):
    """Z = e^1.3: a mixture of two in two dimensions."""
    law = orn.targets.GaussianMixture(
        torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), torch.full((2, 2), 0.7), torch.tensor([0.4, 0.6])
    )
    return law.log_prob(x) + LOG_Z


def control(x, t):
    return 0.3 * torch.sin(2 * x) - 0.2 * x * t


MEASURES = {
    "ULA": lambda: orn.paths.langevin_paths(start(), target, LEVELS, 0.1),
    "CMCD": lambda: orn.paths.langevin_paths(start(), target, LEVELS, 0.1, control),
    "MCD": lambda: orn.paths.langevin_paths(start(), target, LEVELS, 0.1, None, control),
    "bridge": lambda: orn.paths.langevin_paths(
        start(), target, LEVELS, 0.1, control, lambda x, t: 0.5 * control(x, 2 * t)
    ),
    "another path": lambda: orn.paths.langevin_paths(
        start(), target, LEVELS, 0.1, lambda x, t: torch.cos(x), lambda x, t: -torch.cos(x)
    ),
    "UHA": lambda: orn.paths.kinetic_paths(
        start(), target, LEVELS, orn.mcmc.UnderdampedLangevin(0.4, 0.7, 2)
    ),
    "AIS": lambda: orn.paths.annealed_paths(
        start(), target, LEVELS, orn.mcmc.MALA(0.7, torch.eye(2, dtype=F64), 2)
    ),
}


@pytest.mark.parametrize("name", MEASURES)
def test_mean_weight_is_z(name):
    """Within 4 standard errors, n = 20000; the effective size shows that the error can be
    trusted."""
    w = (MEASURES[name]().draw(20000, orn.Noise(0)).log_w - LOG_Z).exp()
    assert float(w.sum() ** 2 / w.square().sum()) > 0.1 * len(w)
    assert abs(float(w.mean()) - 1) < 4 * float(w.std()) / len(w) ** 0.5


@pytest.mark.parametrize("name", MEASURES)
def test_paths_back_from_exact_samples_bound_from_above(name):
    """``E 1/w = 1/Z`` and ``ELBO < log Z < EUBO``: 4 standard errors, n = 20000.

    Moves that go back switch the level before they move, and those that generate after: two
    measures, each with its own bound.
    """
    law = orn.targets.GaussianMixture(
        torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), torch.full((2, 2), 0.7), torch.tensor([0.4, 0.6])
    )
    measure = MEASURES[name]()
    ends = law.sample(20000, seed=3).double()
    if name == "UHA":
        ends = torch.stack([ends, orn.Noise(8).normal((20000, 2), F64)], 1)
    up = measure.back(ends, orn.Noise(1)) - LOG_Z
    inverse = (-up).exp()
    assert abs(float(inverse.mean()) - 1) < 4 * float(inverse.std()) / 20000**0.5
    down = measure.draw(20000, orn.Noise(2)).log_w - LOG_Z
    assert float(down.mean()) < 0 < float(up.mean())


def test_weights_agree_with_an_independent_sum_over_the_path():
    """CMCD along a recorded path, kernel by kernel."""
    measure, size = MEASURES["CMCD"](), 0.1
    path = orn.Trajectory()
    noise = orn.Noise(5)
    x = measure.start.draw(7, noise)
    from ornstein.core.paths.kernels import Kernels

    end = orn.simulate(None, x, LEVELS, Kernels(measure.forward), noise, [path])
    expected = target(end) - measure.start.log_prob(x)
    states, root = path.stacked(), math.sqrt(2 * size)
    for k in range(len(LEVELS) - 1):
        t, s, a, b = LEVELS[k], LEVELS[k + 1], states[k], states[k + 1]

        def score(y, level):
            y = y.clone().requires_grad_()
            return torch.autograd.grad(
                (level * start().log_prob(y) + (1 - level) * target(y)).sum(), y
            )[0]

        ahead = (
            torch.distributions.Normal(a + size * (score(a, t) + control(a, t)), root)
            .log_prob(b)
            .sum(1)
        )
        back = (
            torch.distributions.Normal(b + size * (score(b, s) - control(b, s)), root)
            .log_prob(a)
            .sum(1)
        )
        expected = expected + back - ahead
    torch.testing.assert_close(measure.draw(7, noise).log_w, expected, rtol=0, atol=1e-10)


def test_the_control_that_transports_a_gaussian_makes_weights_constant():
    """Levels N(0, v(t)), v harmonic: u = v'/(2 v) x transports them; spread of log w falls with the
    step (CMCD, optimal control).

    The path runs in "time" 1 - t with total length T = K h: u = d/d(run) of log sd, times x.
    """
    a, b = 1.0, 1 / 0.36  # precisions of start and target

    def spread(steps):
        size, levels = 2.0 / steps, torch.linspace(1, 0, steps + 1, dtype=F64)

        def velocity(x, t):
            precision = t * a + (1 - t) * b
            rate = (
                (b - a) / 2.0
            )  # of the precision, per unit of run time, as t falls from 1 to 0 over a run of 2
            return -rate / (2 * precision) * x

        measure = orn.paths.langevin_paths(
            start(1, 1.0), lambda x: -x.square().sum(1) * b / 2, levels, size, velocity
        )
        return float(measure.draw(4000, orn.Noise(0)).log_w.std())

    coarse, fine = spread(32), spread(256)
    assert fine < 0.05
    assert fine < coarse / 2  # at least like the root of the step


def test_off_path_states_carry_no_gradient_but_kernels_do():
    scale = torch.tensor(0.3, dtype=F64, requires_grad=True)
    measure = orn.paths.langevin_paths(
        start(), target, LEVELS, 0.1, lambda x, t: scale * torch.sin(x)
    )
    found = measure.off_path().draw(64, orn.Noise(0))
    assert not found.x.requires_grad and found.log_w.requires_grad
    assert measure.draw(64, orn.Noise(0)).x.requires_grad


def test_a_kinetic_step_shrinks_volume_by_the_damping_alone():
    """The determinant of its Jacobian by central differences: e^-c for each momentum, and 1 for the
    leaps."""
    path, moves = (
        orn.mcmc.GeometricPath(start().log_prob, target),
        orn.mcmc.UnderdampedLangevin(0.3, 0.5, 3),
    )
    stream = _Quiet((8, 2, 2), F64, "cpu", orn.Noise(0))
    x = torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=F64)
    ends = torch.cat(
        [x + 1e-5 * torch.eye(4, dtype=F64), x - 1e-5 * torch.eye(4, dtype=F64)]
    ).reshape(8, 2, 2)
    moved = moves.step(path, ends, torch.tensor(0.6), torch.tensor(0.4), stream, None).x.reshape(
        2, 4, 4
    )
    assert float(torch.linalg.det((moved[0] - moved[1]) / 2e-5)) == pytest.approx(
        math.exp(-0.5 * 2), rel=1e-6
    )


class _Quiet(NormalStream):
    """No fresh momentum."""

    def normal(self):
        return torch.zeros(self.shape, dtype=self.dtype)


class TestLosses:
    def gradient(self, loss, measure_of, noise, n=40000):
        theta = torch.tensor(0.25, dtype=F64, requires_grad=True)
        (found,) = torch.autograd.grad(loss(measure_of(theta), noise, n), theta)
        return float(found)

    def test_both_gradients_of_the_reverse_kl_agree(self):
        """Reparametrised and score-function gradients over 30 batches agree within 4 standard
        errors of their difference."""

        def gaussian(x):
            return -(x - 0.5).square().sum(1)

        def measure(theta):
            process = orn.OU(T=1.0)
            return orn.paths.denoising_paths(_Shift(process, theta), gaussian, process.times(4))

        def kl(m, noise, n):
            return orn.paths.reverse_kl(m.draw(n, noise).log_w).mean()

        def score(m, noise, n):
            return orn.paths.score_function(m.off_path().draw(n, noise).log_w).mean()

        a = torch.tensor(
            [self.gradient(kl, measure, orn.Noise(0).fold(k), 2000) for k in range(30)]
        )
        b = torch.tensor(
            [self.gradient(score, measure, orn.Noise(1).fold(k), 2000) for k in range(30)]
        )
        gap, error = float(a.mean() - b.mean()), float((a.var() / 30 + b.var() / 30).sqrt())
        assert abs(gap) < 4 * error
        assert abs(float(a.mean())) > 10 * error

    def test_sub_trajectory_with_all_flows_exact_is_zero_and_with_ends_alone_is_trajectory_balance(
        self,
    ):
        g = torch.Generator().manual_seed(0)
        ratios = torch.randn(5, 3, generator=g, dtype=F64)
        flows = torch.cat([torch.zeros(1, 3, dtype=F64), -ratios.cumsum(0)])
        assert float(orn.paths.sub_trajectory(ratios, flows).abs().max()) < 1e-20
        one = orn.paths.sub_trajectory(
            ratios[:1], torch.stack([torch.full((3,), 0.2, dtype=F64), torch.zeros(3, dtype=F64)])
        )
        torch.testing.assert_close(
            one, orn.paths.trajectory_balance(ratios[0], torch.tensor(0.2, dtype=F64))
        )

    def test_sub_trajectory_by_hand(self):
        """Two steps: pieces (0, 1), (1, 2), (0, 2) with weights k, k, k^2."""
        r, f, k = torch.tensor([[0.3], [-0.5]]), torch.tensor([[0.1], [0.2], [-0.4]]), 0.5
        pieces = [(0.2 - 0.1 + 0.3) ** 2, (-0.4 - 0.2 - 0.5) ** 2, (-0.4 - 0.1 + 0.3 - 0.5) ** 2]
        expected = (k * pieces[0] + k * pieces[1] + k**2 * pieces[2]) / (2 * k + k**2)
        assert float(orn.paths.sub_trajectory(r, f, k)) == pytest.approx(expected, rel=1e-5)

    def test_bad_input(self):
        with pytest.raises(OrnsteinError, match=r"decay=1\.5"):
            orn.paths.sub_trajectory(torch.zeros(2, 1), torch.zeros(3, 1), 1.5)
        with pytest.raises(OrnsteinError, match="size=0"):
            orn.paths.langevin_paths(start(), target, LEVELS, 0)


class _Shift:
    """The posterior of N(0, 1), its mean shifted by theta."""

    event_shape = (1,)

    def __init__(self, sde, theta):
        self.sde, self.theta = sde, theta

    def __call__(self, x, t):
        a, s, k = self.sde.polar(t)
        return Gaussian(a * k * x.to(self.theta.dtype) + self.theta, s * torch.ones((), dtype=F64))
