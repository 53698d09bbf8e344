"""Monte Carlo estimators: right within their errors, and their errors right. On geometric Brownian
motion with rate and volatility."""

import math

import pytest
import torch

import ornstein as orn
from ornstein.errors import OrnsteinError

R, S = 0.05, 0.2
ONE = torch.tensor(1.0)
MEAN = math.exp(R)
GBM = orn.SDE(lambda x, t: R * x, lambda x, t: S * x)
ESTIMATORS = [
    orn.montecarlo.Plain(20_000),
    orn.montecarlo.Antithetic(20_000),
    orn.montecarlo.Sobol(1024, 16),
    orn.montecarlo.Multilevel(2e-3),
]


def mean(x):
    return x


def call(x):
    return (x - 1).clamp(min=0)


def phi(z):
    return math.erfc(-z / math.sqrt(2)) / 2


d = (R + S**2 / 2) / S
CALL = MEAN * phi(d) - phi(d - S)  # Black and Scholes, undiscounted


class TestValue:
    @pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
    @pytest.mark.parametrize(("f", "exact"), [(mean, MEAN), (call, CALL)])
    def test_is_within_its_errors(self, estimator, f, exact):
        """4 standard errors and 1e-4 for steps of 1/32 (their bias for the mean is ``e^R - (1 + R
        h)^n = 4e-5``)."""
        computed = orn.expectation(
            f,
            GBM,
            ONE,
            1.0,
            estimator,
            orn.Milstein(),
            steps=4 if isinstance(estimator, orn.montecarlo.Multilevel) else 32,
        )
        assert abs(computed.value - exact) < 4 * computed.stderr + 1e-4 + (computed.bias or 0.0)
        assert 0 < computed.stderr < 3e-3

    @pytest.mark.parametrize(
        "estimator",
        [
            orn.montecarlo.Plain(400),
            orn.montecarlo.Antithetic(400),
            orn.montecarlo.Sobol(16, 16),
            orn.montecarlo.Multilevel(0.01, first=300),
        ],
    )
    def test_errors_cover(self, estimator):
        """Over 40 seeds the value is off by a standard error, as root mean square: 1.07 of 16
        scramblings, within 3.5 of its errors."""
        exact = (
            MEAN if isinstance(estimator, orn.montecarlo.Multilevel) else (1 + R / 4) ** 4
        )  # that of the scheme
        steps = 2 if isinstance(estimator, orn.montecarlo.Multilevel) else 4
        runs = [
            orn.expectation(mean, GBM, ONE, 1.0, estimator, orn.Milstein(), steps, seed)
            for seed in range(40)
        ]
        off = torch.tensor([(run.value - exact) / run.stderr for run in runs])
        assert 0.62 < float(off.square().mean().sqrt()) < 1.45

    def test_every_kind_of_noise(self):
        """``E |X|^2`` in the plane: additive, with X normal of variance ``(1 - e^-2) / 2`` in each
        entry, and the same as general."""
        exact = 1 - math.exp(-2)
        additive = orn.SDE(lambda x, t: -x, lambda x, t: torch.ones_like(x), "additive")
        general = orn.SDE(
            lambda x, t: -x, lambda x, t: torch.eye(2).expand(len(x), 2, 2), "general"
        )
        for sde, method in ((additive, orn.SRK()), (general, orn.EulerMaruyama())):
            for estimator in (*ESTIMATORS[:3], orn.montecarlo.Multilevel(0.02)):
                steps = 4 if isinstance(estimator, orn.montecarlo.Multilevel) else 64
                computed = orn.expectation(
                    lambda x: x.square().sum(1), sde, torch.zeros(2), 1.0, estimator, method, steps
                )
                assert abs(computed.value - exact) < 4 * computed.stderr + 0.02


class TestVarianceReduction:
    def test_pairs_and_points(self):
        """Variance at equal cost, beside that of plain paths: of pairs and of Sobol' points less
        than a quarter for a monotone f, and for an even one pairs are no better."""
        plain = (
            orn.expectation(mean, GBM, ONE, 1.0, orn.montecarlo.Plain(16_384), steps=16).stderr ** 2
        )
        assert (
            orn.expectation(mean, GBM, ONE, 1.0, orn.montecarlo.Antithetic(16_384), steps=16).stderr
            ** 2
            < plain / 4
        )
        assert (
            orn.expectation(mean, GBM, ONE, 1.0, orn.montecarlo.Sobol(1024, 16), steps=16).stderr
            ** 2
            < plain / 100
        )
        even = orn.SDE(lambda x, t: -x, lambda x, t: torch.ones_like(x), "additive")
        computed = [
            orn.expectation(torch.square, even, 0 * ONE, 1.0, e(8192), steps=8).stderr
            for e in (orn.montecarlo.Plain, orn.montecarlo.Antithetic)
        ]
        assert computed[1] > computed[0] * 1.2

    def test_sobol_converges_faster_than_the_root(self):
        """16 times the points: less than a tenth of the error, not a quarter."""
        computed = [
            orn.expectation(mean, GBM, ONE, 1.0, orn.montecarlo.Sobol(n, 32), steps=8).stderr
            for n in (128, 2048)
        ]
        assert computed[1] < computed[0] / 10


class TestMultilevel:
    def test_variances_fall_and_the_numbers_follow(self):
        """Of Milstein like h^2, of Euler like h: slopes over levels within 0.5; and fewer samples
        on each finer level."""
        for method, rate in ((orn.Milstein(), 2), (orn.EulerMaruyama(), 1)):
            levels = orn.expectation(
                call, GBM, ONE, 1.0, orn.montecarlo.Multilevel(1e-3, first=4000), method, steps=2
            ).levels
            v = [level.variance for level in levels[1:]]
            assert math.log2(v[0] / v[-1]) / (len(v) - 1) == pytest.approx(rate, abs=0.5)
            numbers = [level.n for level in levels]
            assert numbers == sorted(numbers, reverse=True)

    def test_cost_is_that_of_the_law(self):
        """With Milstein ``cost = c eps^-2``: no run above 1.3 times the fit over a range of 8 in
        eps, and below plain Monte Carlo's."""
        eps = [4e-3, 2e-3, 1e-3, 5e-4]
        runs = [
            orn.expectation(
                call,
                GBM,
                ONE,
                1.0,
                orn.montecarlo.Multilevel(e, first=100),
                orn.Milstein(),
                steps=4,
            )
            for e in eps
        ]
        law = [run.cost * e**2 for run, e in zip(runs, eps, strict=True)]
        assert max(law) < 1.3 * math.exp(sum(map(math.log, law)) / len(law))
        assert all(
            run.stderr <= 1.02 * e / math.sqrt(2) and run.bias <= e / math.sqrt(2)
            for run, e in zip(runs, eps, strict=True)
        )

    def test_refusals(self):
        with pytest.raises(OrnsteinError, match="bias may still be"):
            orn.expectation(
                mean,
                orn.SDE(lambda x, t: -3 * x),
                ONE,
                1.0,
                orn.montecarlo.Multilevel(1e-4, most=3),
                orn.EulerMaruyama(),
                steps=2,
            )
        for bad in (
            lambda: orn.montecarlo.Multilevel(0.0),
            lambda: orn.montecarlo.Sobol(100),
            lambda: orn.montecarlo.Antithetic(5),
            lambda: orn.montecarlo.Plain(1),
        ):
            with pytest.raises(OrnsteinError):
                bad()


class TestSamples:
    def test_do_not_depend_on_batches(self):
        """Many small batches, the same value but for rounding."""
        import ornstein.calculus.montecarlo.estimators as module

        computed = [orn.expectation(mean, GBM, ONE, 1.0, orn.montecarlo.Plain(5000), steps=4).value]
        size, module._BATCH = module._BATCH, 700
        try:
            computed.append(
                orn.expectation(mean, GBM, ONE, 1.0, orn.montecarlo.Plain(5000), steps=4).value
            )
        finally:
            module._BATCH = size
        assert computed[0] == pytest.approx(computed[1], rel=1e-12)

    def test_refusals(self):
        with pytest.raises(OrnsteinError, match="steps=0"):
            orn.expectation(mean, GBM, ONE, steps=0)
        with pytest.raises(OrnsteinError, match=r"shape \(\).*\(n,\)"):
            orn.expectation(torch.mean, GBM, ONE, 1.0, orn.montecarlo.Plain(10))
        with pytest.raises(OrnsteinError, match="dimensions at most"):
            orn.expectation(
                lambda x: x[:, 0], GBM, torch.ones(1000), 1.0, orn.montecarlo.Sobol(4, 2)
            )
