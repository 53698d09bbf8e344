"""Runge-Kutta methods: tableaus against the order conditions of rooted trees, `Adaptive` against
SciPy, what it costs and refuses."""

import math
from functools import cache
from itertools import pairwise

import pytest
import torch
from scipy.integrate import solve_ivp

from ornstein.core import processes as p
from ornstein.core.methods import Adaptive, RungeKutta
from ornstein.core.methods.runge_kutta import bogacki_shampine, dormand_prince, heun, midpoint, rk4
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.reverse import Reverse
from ornstein.core.processes.sde import SDE
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.watchers import Evaluations
from ornstein.errors import OrnsteinError
from problems import mixture

F64 = torch.float64
TABLEAUS = [heun, midpoint, rk4, bogacki_shampine, dormand_prince]
PAIRS = [heun, midpoint, bogacki_shampine, dormand_prince]


@cache
def trees(size: int) -> frozenset:
    """Rooted trees of so many nodes, each the sorted tuple of its branches."""
    if size == 1:
        return frozenset([()])
    grown = {tuple(sorted((*tree, ()))) for tree in trees(size - 1)}
    for tree in trees(size - 1):
        for i, branch in enumerate(tree):
            for larger in _grow(branch):
                grown.add(tuple(sorted((*tree[:i], larger, *tree[i + 1 :]))))
    return frozenset(grown)


def _grow(tree: tuple) -> set:
    """The tree with one more leaf anywhere."""
    return {tuple(sorted((*tree, ())))} | {
        tuple(sorted((*tree[:i], larger, *tree[i + 1 :])))
        for i, branch in enumerate(tree)
        for larger in _grow(branch)
    }


def size(tree: tuple) -> int:
    return 1 + sum(map(size, tree))


def density(tree: tuple) -> int:
    return size(tree) * math.prod(map(density, tree))


def defects(tableau, weights, order: int) -> list[float]:
    """``sum_i b_i Phi_i(tree) - 1 / gamma(tree)`` of all trees with ``order`` nodes (Hairer,
    Norsett and Wanner, II.2)."""
    stages = len(tableau.nodes)
    a = torch.tensor([[*row, *[0.0] * (stages - len(row))] for row in tableau.matrix], dtype=F64)

    def phi(tree):
        found = torch.ones(stages, dtype=F64)
        for branch in tree:
            found = found * (a @ phi(branch))
        return found

    return [
        float(torch.tensor(weights, dtype=F64) @ phi(tree)) - 1 / density(tree)
        for tree in trees(order)
    ]


class TestTableaus:
    def test_there_are_as_many_trees_as_cayley_counted(self):
        assert [len(trees(n)) for n in range(1, 7)] == [1, 1, 2, 4, 9, 20]

    @pytest.mark.parametrize("tableau", TABLEAUS, ids=repr)
    def test_rows_sum_to_their_nodes(self, tableau):
        assert [sum(row) for row in tableau.matrix] == pytest.approx(tableau.nodes, abs=1e-14)
        assert [len(row) for row in tableau.matrix] == list(range(len(tableau.nodes)))

    @pytest.mark.parametrize("tableau", TABLEAUS, ids=repr)
    def test_weights_have_the_declared_order_and_no_higher(self, tableau):
        for order in range(1, tableau.order + 1):
            assert defects(tableau, tableau.weights, order) == pytest.approx(
                [0.0] * len(trees(order)), abs=1e-13
            )
        assert max(map(abs, defects(tableau, tableau.weights, tableau.order + 1))) > 1e-4

    @pytest.mark.parametrize("tableau", PAIRS, ids=repr)
    def test_embedded_weights_have_one_order_less_and_no_more(self, tableau):
        for order in range(1, tableau.order):
            assert defects(tableau, tableau.low, order) == pytest.approx(
                [0.0] * len(trees(order)), abs=1e-13
            )
        assert max(map(abs, defects(tableau, tableau.low, tableau.order))) > 1e-4


PROBLEMS = {"VP": p.VP(), "EDM": p.EDM(20.0), "RectifiedFlow": p.RectifiedFlow()}


class Counting:
    """A posterior that counts its calls."""

    def __init__(self, inner):
        self.inner, self.sde, self.calls = inner, inner.sde, 0

    def __call__(self, x: torch.Tensor, t) -> Gaussian:
        self.calls += 1
        return self.inner(x, t)


@cache
def solution(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Start at T and end at 0 by DOP853: to a noise-to-signal ratio of 1e-5, then the posterior
    mean."""
    sde = PROBLEMS[name]
    posterior = mixture().posterior(sde)
    flow, x = Reverse(posterior, 0.0), Noise(0).normal((8, 2), F64) * sde.prior((1,), 2.0).std
    last = float(sde.time(torch.tensor(-2 * math.log(1e-5), dtype=F64)))

    def velocity(t, y):
        return flow.drift(torch.from_numpy(y.copy()).reshape(x.shape), float(t)).flatten().numpy()

    end = solve_ivp(
        velocity, (sde.T, last), x.flatten().numpy(), method="DOP853", rtol=1e-7, atol=1e-8
    ).y[:, -1]
    return x, posterior(torch.from_numpy(end).reshape(x.shape), last).mean


class TestAdaptive:
    @pytest.mark.parametrize("name", PROBLEMS)
    @pytest.mark.parametrize("tableau", [dormand_prince, bogacki_shampine], ids=repr)
    def test_is_within_ten_tolerances_of_the_solution_from_T_to_0(self, name, tableau):
        """On ``[T, 0]`` alone, for the rms over all entries; a tighter tolerance costs more
        evaluations."""
        sde, (x, end) = PROBLEMS[name], solution(name)
        posterior, counts = Counting(mixture().posterior(sde)), []
        for tol in (1e-2, 1e-3):
            posterior.calls = 0
            times = torch.tensor([sde.T, 0.0], dtype=F64)
            found = simulate(
                Reverse(posterior, 0.0), x, times, Adaptive(tableau, rtol=tol, atol=tol)
            )
            assert float((found - end).square().mean().sqrt()) < 10 * tol
            counts.append(posterior.calls)
        assert all(a < b for a, b in pairwise(counts)), counts

    @pytest.mark.parametrize(
        ("tableau", "reused"), [(dormand_prince, 6), (bogacki_shampine, 3)], ids=repr
    )
    def test_a_last_stage_is_the_first_of_the_next_step(self, tableau, reused):
        """Every attempt costs one evaluation less than there are stages, but the first; the step to
        the data costs one."""
        sde, (x, _), counter = p.VP(), solution("VP"), Evaluations()
        posterior = Counting(mixture().posterior(sde))
        times = torch.tensor([sde.T, 0.0], dtype=F64)
        simulate(Reverse(posterior, 0.0), x, times, Adaptive(tableau, 1e-3, 1e-3), watch=[counter])
        assert posterior.calls == counter.count
        assert (posterior.calls - 2) % reused == 0
        posterior.calls = 0
        simulate(Reverse(posterior, 0.0), x, times, Adaptive(heun, 1e-1, 1e-1))
        assert posterior.calls > 10

    def test_a_polynomial_of_the_time_is_solved_without_error_and_the_steps_grow(self):
        """``x' = 4 t^3``, ``x(2) = x(0) + 16``: both weights are exact, so each step is 5 times as
        long."""
        calls = []

        def drift(x, t):
            calls.append(float(t))
            return torch.full_like(x, 4 * float(t) ** 3)

        times = torch.tensor([0.0, 2.0], dtype=F64)
        end = simulate(
            SDE(drift), torch.ones(1, 1, dtype=F64), times, Adaptive(rtol=1e-9, atol=1e-9)
        )
        assert float(end) == pytest.approx(17.0, rel=1e-12)
        assert len(calls) <= 1 + 6 * 8  # 1e-3 (1 + 5 + 25 + ...) >= 1 after five or six

    def test_stops_at_the_times_of_the_grid(self):
        sde, (x, _), seen = p.VP(), solution("VP"), []
        times = torch.tensor([1.0, 0.6, 0.3, 0.1], dtype=F64)
        method = Adaptive(rtol=1e-5, atol=1e-5)
        flow = Reverse(mixture().posterior(sde), 0.0)
        whole = simulate(
            flow, x, times, method, watch=[lambda t, s, x, step: seen.append(float(s))]
        )
        assert seen == times[1:].tolist()
        torch.testing.assert_close(
            whole, simulate(flow, x, times[[0, -1]], method), rtol=1e-3, atol=1e-3
        )

    def test_a_step_that_jumps_too_far_is_taken_again(self):
        sde, (x, end) = p.VP(), solution("VP")
        times = torch.tensor([sde.T, 0.0], dtype=F64)
        found = simulate(
            Reverse(mixture().posterior(sde), 0.0),
            x,
            times,
            Adaptive(rtol=1e-4, atol=1e-4, initial_step=1.0),
        )
        assert float((found - end).square().mean().sqrt()) < 1e-3

    def test_refuses_what_it_cannot_do(self):
        sde, (x, _) = p.VP(), solution("VP")
        posterior = mixture().posterior(sde)
        with pytest.raises(OrnsteinError, match="no embedded method"):
            Adaptive(rk4)
        for options in ({"rtol": -1.0}, {"rtol": 0.0, "atol": 0.0}):
            with pytest.raises(OrnsteinError, match="not both 0"):
                Adaptive(**options)
        with pytest.raises(OrnsteinError, match=r"grid \(n,\) that all samples share"):
            simulate(Reverse(posterior, 0.0), x, sde.times(3)[:, None].expand(-1, 8), Adaptive())
        with pytest.raises(OrnsteinError, match="took 3 steps"):
            simulate(
                Reverse(posterior, 0.0),
                x,
                torch.tensor([1.0, 0.0], dtype=F64),
                Adaptive(max_steps=3),
            )
        for method in (Adaptive(), RungeKutta(rk4)):
            with pytest.raises(OrnsteinError, match="solves an ODE"):
                simulate(Reverse(posterior, 1.0), x, sde.times(3), method, Noise(0))
            with pytest.raises(OrnsteinError, match="no step can start"):
                simulate(Reverse(posterior, 0.0), x, sde.times(3).flip(0), method)
