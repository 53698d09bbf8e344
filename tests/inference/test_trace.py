"""Divergences against Jacobians written out: where they are exact, what is left where they are not,
and what they cost."""

import pytest
import torch

from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError
from ornstein.inference.likelihood.trace import (
    Divergence,
    Exact,
    Hutchinson,
    HutchPlusPlus,
    pullbacks,
)

F64 = torch.float64
RULES = {
    "Exact": Exact(),
    "Hutchinson": Hutchinson(3),
    "HutchPlusPlus": HutchPlusPlus(3, 2),
    "HutchPlusPlus, full rank": HutchPlusPlus(2, 9),
}
SEED = Noise(0)
COPIES = 4000  # of one point: draws of the directions that are independent


def matrix(d: int, seed: int = 0) -> torch.Tensor:
    return Noise(seed).normal((d, d), F64)


def linear(a: torch.Tensor):
    return lambda x: (x.flatten(1) @ a.to(x).T).reshape(x.shape)


def curved(d: int):
    """A field whose Jacobian is full and differs from point to point; entry by entry, so that a
    batch cannot change the rounding."""
    a = matrix(d, 5) / d**0.5

    def field(x):
        y = x.flatten(1)
        return (
            ((y[:, None] * a.to(y)).sum(2)).tanh() * (1 + y.roll(1, 1).square()) + y.square()
        ).reshape(x.shape)

    return field


def traces(field, x: torch.Tensor) -> torch.Tensor:
    """Of the Jacobians that `torch.autograd.functional.jacobian` gives, a point at a time."""
    found = []
    for point in x:
        full = torch.autograd.functional.jacobian(lambda y: field(y[None])[0], point)
        found.append(full.reshape(point.numel(), point.numel()).trace())
    return torch.stack(found)


def estimates(rule, field, x, noise=SEED):
    return rule(field, x, rule.directions(x, noise))[1]


def errors_of(rule, a: torch.Tensor, seed: int):
    """Error and standard error of `COPIES` independent estimates of the trace of a."""
    x = torch.zeros(COPIES, len(a), dtype=F64)
    totals = estimates(rule, linear(a), x, Noise(seed))
    return totals.mean(1) - a.trace(), rule.stderr(totals, len(a))


class TestExact:
    @pytest.mark.parametrize("event", [(3,), (2, 2), (1, 2, 3), (1,)], ids=str)
    def test_is_the_trace_of_the_jacobian(self, event):
        x = Noise(1).normal((6, *event), F64)
        field = curved(x[0].numel())
        value, found = Exact()(field, x, Exact().directions(x, Noise(0)))
        torch.testing.assert_close(value, field(x), rtol=0, atol=0)
        torch.testing.assert_close(found, traces(field, x)[:, None], rtol=1e-12, atol=1e-12)
        assert bool((Exact().stderr(found, x[0].numel()) == 0).all())

    @pytest.mark.parametrize("event", [(3,), (2, 2)], ids=str)
    def test_in_float32(self, event):
        x = Noise(1).normal((6, *event))
        field = curved(x[0].numel())
        value, found = Exact()(field, x, Exact().directions(x, Noise(0)))
        assert value.dtype == found.dtype == torch.float32
        torch.testing.assert_close(
            found.double(), traces(field, x.double())[:, None], rtol=1e-5, atol=1e-5
        )

    def test_pullbacks_are_the_rows_of_the_jacobian(self):
        x, a = Noise(1).normal((5, 3), F64), matrix(3)
        value, rows = pullbacks(linear(a), x, torch.eye(3, dtype=F64)[:, None])
        torch.testing.assert_close(torch.stack(rows, 1), a.expand(5, 3, 3))
        assert not value.requires_grad and not x.requires_grad


class TestSamples:
    @pytest.mark.parametrize("name", RULES)
    @pytest.mark.parametrize("event", [(5,), (2, 3)], ids=str)
    def test_a_sample_alone_gives_what_it_gives_in_the_batch(self, name, event):
        rule, x, noise = RULES[name], Noise(1).normal((9, *event), F64), Noise(4).fold(7)
        field = curved(x[0].numel())
        value, found = rule(field, x, rule.directions(x, noise))
        assert found.shape == (9, rule.estimates(x[0].numel()))
        for i in (0, 1, 8):
            alone = x[i : i + 1]
            value_i, found_i = rule(field, alone, rule.directions(alone, noise.shift(i)))
            torch.testing.assert_close(value_i, value[i : i + 1], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(found_i, found[i : i + 1], rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("name", ["Hutchinson", "HutchPlusPlus"])
    def test_directions_depend_on_the_noise_and_the_index_alone(self, name):
        """Bit for bit: not on the point, its dtype (signs) or the batch; other samples and other
        seeds get others."""
        rule = RULES[name]
        x = Noise(1).normal((50, 6), F64)
        found = rule.directions(x, Noise(3))
        assert torch.equal(found, rule.directions(0 * x, Noise(3)))
        assert torch.equal(found[:, 20:33], rule.directions(x[20:33], Noise(3, start=20)))
        assert torch.equal(found.float(), rule.directions(x.float(), Noise(3)))
        assert not torch.equal(found, rule.directions(x, Noise(4)))
        assert len({tuple(v) for v in found.transpose(0, 1).flatten(1).tolist()}) == 50

    @pytest.mark.parametrize("name", RULES)
    def test_gradient_mode_does_not_matter_and_nothing_is_left_on_the_graph(self, name):
        rule, x = RULES[name], Noise(1).normal((4, 3), F64)
        directions = rule.directions(x, Noise(0))
        with torch.no_grad():
            off = rule(curved(3), x, directions)
        for a, b in zip(off, rule(curved(3), x, directions), strict=True):
            assert torch.equal(a, b) and not b.requires_grad

    @pytest.mark.parametrize("name", RULES)
    def test_is_a_divergence(self, name):
        assert isinstance(RULES[name], Divergence)


class TestHutchinson:
    @pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 8, 13])
    def test_all_rows_give_the_exact_trace(self, d):
        """The mean over N = 2^k >= d probes, of which no error is left; asking for more makes no
        difference."""
        n = 1 << (d - 1).bit_length()
        x = Noise(1).normal((7, d), F64)
        for probes in {max(n, 2), 64}:
            rule = Hutchinson(probes)
            totals = estimates(rule, curved(d), x, Noise(2))
            assert totals.shape == (7, n) and rule.passes(d) == rule.estimates(d) == n
            torch.testing.assert_close(totals.mean(1), traces(curved(d), x), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(
                rule.stderr(totals, d), torch.zeros(7, dtype=F64), rtol=0, atol=0
            )

    @pytest.mark.parametrize("event", [(8,), (2, 2, 2), (5,)], ids=str)
    def test_entries_are_signs_and_rows_are_orthogonal(self, event):
        """In whole powers of 2; of a cut matrix the N rows have ``V^T V = N I``."""
        x = torch.zeros(6, *event, dtype=F64)
        d = x[0].numel()
        v = Hutchinson(8).directions(x, Noise(0)).flatten(2).transpose(0, 1)
        assert bool((v.abs() == 1).all())
        assert torch.equal(v.mT @ v, 8 * torch.eye(d, dtype=F64).expand(6, d, d))
        if d == 8:
            assert torch.equal(v @ v.mT, 8 * torch.eye(8, dtype=F64).expand(6, 8, 8))
            few = Hutchinson(3).directions(x, Noise(0)).flatten(2).transpose(0, 1)
            assert torch.equal(few @ few.mT, 8 * torch.eye(3, dtype=F64).expand(6, 3, 3))

    def test_the_second_moment_of_a_direction_is_the_identity(self):
        """``E[v v^T] = I``: entry by entry within 4.5 standard errors over 4000 copies, seed 0; d =
        6 of N = 8."""
        v = Hutchinson(2).directions(torch.zeros(COPIES, 6, dtype=F64), Noise(0))[0]
        outer = v[:, :, None] * v[:, None, :]
        gap = outer.mean(0) - torch.eye(6, dtype=F64)
        assert float(gap.diagonal().abs().max()) == 0
        assert float(gap.abs().max()) < 4.5 / COPIES**0.5
        assert float(v.mean(0).abs().max()) < 4.5 / COPIES**0.5

    @pytest.mark.parametrize(("d", "probes"), [(6, 2), (6, 5), (8, 3), (32, 16), (33, 16)])
    def test_is_unbiased_with_the_variance_that_it_reports(self, d, probes):
        """Over 4000 copies, seeds d + probes: the mean error is 0, and the mean of ``error^2 /
        E[stderr^2]`` is 1, each within 4 standard errors."""
        error, stderr = errors_of(Hutchinson(probes), matrix(d), d + probes)
        assert abs(float(error.mean())) < 4 * float(error.std()) / COPIES**0.5
        excess = error.square() - stderr.square()
        assert abs(float(excess.mean())) < 4 * float(excess.std()) / COPIES**0.5
        assert float(excess.std()) / COPIES**0.5 < 0.1 * float(
            stderr.square().mean()
        )  # so that the line above says something

    @pytest.mark.parametrize(("probes", "held"), [(16, 0.97), (8, 0.94)])
    def test_three_standard_errors_hold_the_trace(self, probes, held):
        """For full matrices with many eigenvalues of one size, where the values are nearly normal;
        seed 1."""
        error, stderr = errors_of(Hutchinson(probes), matrix(32), 1)
        assert float((error.abs() <= 3 * stderr).double().mean()) > held

    def test_without_replacement_is_better_than_independent_signs(self):
        """The variance is that of independent signs, ``sum_(i != j) ((A + A^T)_ij)^2 / 2 / k``,
        times ``1 - (k - 1) / (N - 1)`` where d = N: within 4 standard errors, seed 2. (The variance
        over the rows of one matrix is on average N / (N - 1) times that.)"""
        d, k = 16, 8
        a = matrix(d)
        error, _ = errors_of(Hutchinson(k), a, 2)
        both = a + a.T
        independent = float((both.square().sum() - both.diagonal().square().sum()) / 2 / k)
        squares = error.square()
        assert (
            abs(float(squares.mean()) - independent * (1 - (k - 1) / (d - 1)))
            < 4 * float(squares.std()) / COPIES**0.5
        )

    def test_a_diagonal_jacobian_leaves_no_error(self):
        x = Noise(1).normal((5, 6), F64)
        totals = estimates(Hutchinson(3), lambda y: y**3 + y.sin(), x)
        torch.testing.assert_close(
            totals, (3 * x**2 + x.cos()).sum(1, keepdim=True).expand(5, 3), rtol=1e-12, atol=1e-12
        )
        assert float(Hutchinson(3).stderr(totals, 6).max()) < 1e-12


class TestHutchPlusPlus:
    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_is_exact_up_to_its_rank_and_for_a_multiple_of_the_identity(self, rank):
        """``J = U V^T`` with no more columns than rank: the sketch spans the range of ``J^T``. ``J
        = c I``: any basis will do."""
        u, v = Noise(1).normal((7, rank), F64), Noise(2).normal((7, rank), F64)
        for a in (u @ v.T, 1.7 * torch.eye(7, dtype=F64), torch.zeros(7, 7, dtype=F64)):
            totals = estimates(HutchPlusPlus(3, rank), linear(a), torch.zeros(20, 7, dtype=F64))
            torch.testing.assert_close(totals, a.trace().expand(20, 3), rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("d", [1, 3, 4])
    def test_is_exact_where_the_rank_is_the_dimension(self, d):
        x, rule = Noise(1).normal((6, d), F64), HutchPlusPlus(3, 4)
        totals = estimates(rule, curved(d), x)
        torch.testing.assert_close(totals, traces(curved(d), x)[:, None], rtol=1e-12, atol=1e-12)
        assert bool((rule.stderr(totals, d) == 0).all())

    @pytest.mark.parametrize(("probes", "rank"), [(2, 1), (4, 3), (5, 7)])
    def test_is_unbiased_with_the_variance_that_it_reports(self, probes, rank):
        """d = 8, over 4000 copies, seed 3: mean error, and mean of ``error^2 - stderr^2``, 0 within
        4 standard errors."""
        error, stderr = errors_of(HutchPlusPlus(probes, rank), matrix(8), 3)
        assert abs(float(error.mean())) < 4 * float(error.std()) / COPIES**0.5
        excess = error.square() - stderr.square()
        assert abs(float(excess.mean())) < 4 * float(excess.std()) / COPIES**0.5 + 1e-20

    def test_sees_one_large_eigenvalue_that_random_signs_do_not(self):
        """``J = I + 40 u u^T``, d = 64, at 12 passes each: the root mean square error is a tenth,
        seed 4."""
        u = torch.nn.functional.normalize(Noise(1).normal((1, 64), F64), dim=1)
        a = torch.eye(64, dtype=F64) + 40 * u.T @ u
        plus, plain = HutchPlusPlus(4, 4), Hutchinson(12)
        assert plus.passes(64) == plain.passes(64) == 12
        ours, theirs = (
            float(errors_of(rule, a, 4)[0].square().mean().sqrt()) for rule in (plus, plain)
        )
        assert ours < theirs / 10


class _Tally(torch.autograd.Function):
    """The identity, which counts how often a gradient passes."""

    passes = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        _Tally.passes += 1
        return grad


class TestCost:
    @pytest.mark.parametrize("name", RULES)
    @pytest.mark.parametrize("d", [1, 2, 3, 5, 8])
    def test_passes_are_those_that_are_made_and_the_field_is_called_once(self, name, d):
        rule, x, calls = RULES[name], Noise(1).normal((4, d), F64), []

        def field(y):
            calls.append(1)
            return curved(d)(_Tally.apply(y))

        _Tally.passes = 0
        totals = estimates(rule, field, x)
        assert _Tally.passes == rule.passes(d)
        assert totals.shape == (4, rule.estimates(d))
        assert len(calls) == 1


class TestEdges:
    @pytest.mark.parametrize("name", RULES)
    def test_a_field_that_does_not_depend_on_x_has_divergence_0(self, name):
        """Where parameters ask for gradients, where x enters without effect, and where there is
        nothing to differentiate."""
        rule, x = RULES[name], Noise(1).normal((4, 3), F64)
        weight = torch.ones(3, dtype=F64, requires_grad=True)
        for field in (lambda y: weight.expand_as(y) * 2, lambda y: 0 * y + 1, torch.ones_like):
            value, totals = rule(field, x, rule.directions(x, Noise(0)))
            assert bool((totals == 0).all()) and bool((value >= 0).all())

    @pytest.mark.parametrize("probes", [1, 0, -3])
    def test_fewer_than_two_probes_are_refused(self, probes):
        for rule in (Hutchinson, HutchPlusPlus):
            with pytest.raises(OrnsteinError, match=f"probes={probes}.*at least 2"):
                rule(probes=probes)

    @pytest.mark.parametrize("rank", [0, -1])
    def test_a_rank_below_one_is_refused(self, rank):
        with pytest.raises(OrnsteinError, match=f"rank={rank}.*at least 1"):
            HutchPlusPlus(rank=rank)
