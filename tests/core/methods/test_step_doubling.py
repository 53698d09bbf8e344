"""Adaptive steps on a Brownian path: errors on exact problems, and what is refused."""

import math

import pytest
import torch

import ornstein as orn
from ornstein.errors import OrnsteinError

F64 = torch.float64
A, S, N = 0.5, 0.8, 200


def geometric(noise="diagonal", calculus="ito"):
    return orn.SDE(lambda x, t: A * x, lambda x, t: S * x, noise, calculus)


def run(method, n=N, sde=None, order=2, **options):
    """End states of geometric motion from 1 at time 1, less the exact ones on the same path."""
    path = orn.BrownianPath((n,), seed=11, dtype=F64, order=order)
    end = orn.solve(
        sde or geometric(), torch.ones(n, dtype=F64), [0.0, 1.0], method, path, **options
    )[-1]
    return end, end - torch.exp((A - S**2 / 2) + S * path(1.0))


class _Unchecked(orn.methods.AdaptiveSDE):
    """Takes any method."""

    def start(self, sde, times):
        pass


class TestError:
    @pytest.mark.parametrize(
        ("inner", "first", "known"), [(orn.Milstein(), 1e-1, 0.104), (orn.SRK(), 1e-2, 0.0114)]
    )
    def test_falls_with_the_tolerance(self, inner, first, known):
        """Steps of length h differ by the local error, and there are 1/h of them: with a tenth of
        the tolerance at least half the error, its mean and its mean size alike, so that there is no
        bias in the limit."""
        found = [
            run(orn.methods.AdaptiveSDE(inner, 0.0, tol))[1]
            for tol in (first, first / 10, first / 100)
        ]
        sizes, means = [float(x.abs().mean()) for x in found], [abs(float(x.mean())) for x in found]
        assert sizes[0] < 1.5 * known and sizes[1] < sizes[0] / 2 and sizes[2] < sizes[1] / 2
        assert means[2] < means[0] / 4 and means[2] < sizes[0] / 8

    def test_euler_would_be_biased_in_the_limit(self):
        """Why it is refused: its error stays where it is, and so does its mean."""
        means = [
            float(run(_Unchecked(orn.EulerMaruyama(), 0.0, tol))[1].mean()) for tol in (3e-2, 1e-2)
        ]
        assert min(means) > 0.1

    def test_steps_go_where_they_are_needed(self):
        """A rate that is high for a tenth of the time, without noise: a tenth of the error of equal
        steps with as many evaluations."""
        sde, count = (
            orn.SDE(lambda x, t: -100 * math.exp(-(((t - 0.53) / 0.01) ** 2)) * x),
            orn.Evaluations(),
        )
        x, exact = torch.ones(1, dtype=F64), math.exp(-math.sqrt(math.pi))
        found = orn.solve(
            sde,
            x,
            [0.0, 1.0],
            orn.methods.AdaptiveSDE(orn.SRK(), 0.0, 1e-4),
            watch=[count],
            dt=0.125,
        )[-1]
        equal = orn.solve(sde, x, [0.0, 1.0], orn.SRK(), dt=2 / count.count)[-1]
        assert abs(float(found) - exact) < abs(float(equal) - exact) / 10

    def test_without_noise(self):
        """``X' = X`` to e."""
        end = orn.solve(
            orn.SDE(lambda x, t: x),
            torch.ones(3, dtype=F64),
            [0.0, 1.0],
            orn.methods.AdaptiveSDE(orn.SRK(), 0.0, 1e-7),
        )[-1]
        torch.testing.assert_close(end, torch.full((3,), math.e, dtype=F64), atol=1e-4, rtol=0)


class TestPath:
    def test_sample_is_the_same_in_every_batch_and_run(self):
        method = orn.methods.AdaptiveSDE(orn.Milstein(), 0.0, 1e-2)
        whole = run(method)[0]
        assert torch.equal(whole, run(method)[0])
        assert torch.equal(whole[:7], run(method, n=7)[0])

    def test_gradient(self):
        """``dX_T / dx_0 = X_T / x_0``: every step is linear."""
        path = orn.BrownianPath((5,), seed=11, dtype=F64)
        x = torch.full((5,), 2.0, dtype=F64, requires_grad=True)
        end = orn.solve(geometric(), x, [0.0, 1.0], orn.methods.AdaptiveSDE(orn.Milstein()), path)[
            -1
        ]
        torch.testing.assert_close(torch.autograd.grad(end.sum(), x)[0], end / 2)


class TestRefusals:
    def test_fresh_numbers(self):
        with pytest.raises(OrnsteinError, match=r"BrownianPath\(shape"):
            orn.solve(
                geometric(),
                torch.ones(3),
                [0.0, 1.0],
                orn.methods.AdaptiveSDE(orn.Milstein()),
                seed=0,
            )

    def test_methods_that_would_be_biased(self):
        with pytest.raises(OrnsteinError, match=r"strong order 1.*EulerMaruyama.*0\.5.*Milstein"):
            run(orn.methods.AdaptiveSDE(orn.EulerMaruyama()))
        with pytest.raises(OrnsteinError, match="unknown"):
            run(orn.methods.AdaptiveSDE(orn.methods.Adams()), sde=orn.SDE(lambda x, t: x))

    def test_areas_that_the_path_does_not_have(self):
        with pytest.raises(OrnsteinError, match="order=2"):
            run(orn.methods.AdaptiveSDE(orn.SRK()), order=1)

    def test_tolerances(self):
        with pytest.raises(OrnsteinError, match="not both 0"):
            orn.methods.AdaptiveSDE(orn.SRK(), 0.0, 0.0)
        with pytest.raises(OrnsteinError, match="max_halvings"):
            run(orn.methods.AdaptiveSDE(orn.Milstein(), 0.0, 1e-9, max_halvings=3))
