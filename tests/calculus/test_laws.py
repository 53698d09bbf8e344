"""Exact processes: transitions against scipy and closed forms, Chapman-Kolmogorov, samples, Euler's
paths."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg, stats

import ornstein as orn
from ornstein.calculus.laws import (
    CIR,
    Brownian,
    BrownianBridge,
    GeometricBrownian,
    JointGaussian,
    MultivariateOU,
    underdamped_ou,
)
from ornstein.calculus.laws.cir import gamma_quantile, poisson_quantile
from ornstein.core.methods import EulerMaruyama, ForwardTransition
from ornstein.core.processes.reference import OU, Bridge
from ornstein.core.processes.schedules import VP
from ornstein.core.random import BrownianPath
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.errors import OrnsteinError

F64 = torch.float64
RATE = torch.tensor(
    [[1.0, 2.0, 0.0], [-2.0, 1.5, 0.3], [0.0, 5.0, 0.7]], dtype=F64
)  # not normal, complex eigenvalues
NOISE = torch.tensor([[1.0, 0.2], [0.0, 0.5], [0.3, 0.0]], dtype=F64)
MATRIX = MultivariateOU(RATE, NOISE, torch.tensor([1.0, -2.0, 0.5], dtype=F64))
LINEAR = {
    "matrix": MATRIX,
    "underdamped": underdamped_ou(2.0, 0.3, 0.5, 1.5),
    "critical": underdamped_ou(4.0, 4.0),
    "overdamped": underdamped_ou(1.0, 100.0),
    "free": underdamped_ou(0.0, 2.0),
}
ONE_PER_ENTRY = {
    "Brownian": Brownian(0.4, 1.3),
    "bridge": BrownianBridge(2.0, 0.7, 5.0),
    "GBM": GeometricBrownian(0.1, 0.5),
    "CIR": CIR(1.2, 0.7, 0.9),
}


def start(process, n=1, dtype=F64):
    shape = (n, len(process.rate)) if isinstance(process, MultivariateOU) else (n, 1)
    return torch.full(shape, 0.8, dtype=dtype)


def noise_square(process: MultivariateOU) -> np.ndarray:
    """``S S'``, the rate at which the covariance grows."""
    return (process.noise @ process.noise.T).numpy()


class TestLinearEquations:
    @pytest.mark.parametrize("name", LINEAR)
    @pytest.mark.parametrize("h", [1e-3, 0.3, 2.0])
    def test_are_the_block_exponential_of_van_loan(self, name, h):
        """To 1e-12 of the largest entry, which is what that can do."""
        a, q, d = LINEAR[name].rate.numpy(), noise_square(LINEAR[name]), len(LINEAR[name].rate)
        block = linalg.expm(h * np.block([[a, q], [np.zeros((d, d)), -a.T]]))
        phi, cov = LINEAR[name].propagate(h)
        exact = linalg.expm(-a * h)
        np.testing.assert_allclose(phi.numpy(), exact, atol=1e-12)
        np.testing.assert_allclose(
            cov.numpy(), exact @ block[:d, d:], atol=1e-12 * np.abs(block).max()
        )

    def test_critical_damping_is_no_exception(self):
        """``e^{-w t} [[1 + w t, t], [-w^2 t, 1 - w t]]`` with w = 2: a defective matrix; to 1e-15,
        for short times relative to it."""
        for t in (1e-8, 0.7, 9.0):
            exact = math.exp(-2 * t) * torch.tensor(
                [[1 + 2 * t, t], [-4 * t, 1 - 2 * t]], dtype=F64
            )
            assert torch.allclose(
                LINEAR["critical"].propagate(t)[0], exact, rtol=1e-14 if t < 1 else 0, atol=1e-15
            )

    @pytest.mark.parametrize("name", ["underdamped", "critical", "free"])
    def test_short_times_keep_every_digit(self, name):
        """``Q = s^2 [[h^3/3, h^2/2], [h^2/2, h]]`` and the next two orders, each entry to 1e-11."""
        process, h = LINEAR[name], 1e-4
        s2, c, k = (
            float(process.noise.square().sum()),
            float(process.rate[1, 1]),
            float(process.rate[1, 0]),
        )
        # after a kick: velocity a(u) = 1 - c u + (c^2 - k) u^2 / 2 + ..., position b its integral
        a = np.polynomial.Polynomial([1, -c, (c**2 - k) / 2, (2 * c * k - c**3) / 6])
        b = a.integ()
        exact = s2 * np.array([[(x * y).integ()(h) for y in (b, a)] for x in (b, a)])
        np.testing.assert_allclose(process.propagate(h)[1].numpy(), exact, rtol=1e-11)

    @pytest.mark.parametrize("name", ["matrix", "underdamped", "critical", "overdamped"])
    def test_long_times_are_stationary(self, name):
        """Lyapunov's equation by scipy, a fixed point of the transition, and what is left after t =
        1e5."""
        process, law = LINEAR[name], LINEAR[name].stationary()
        exact = linalg.solve_continuous_lyapunov(process.rate.numpy(), noise_square(process))
        np.testing.assert_allclose(law.cov.numpy(), exact, atol=1e-12)
        for h in (0.1, 3.0):
            assert torch.allclose(process.covariance(h, law.cov), law.cov, atol=1e-13)
        phi, cov = process.propagate(1e5)
        assert phi.abs().max() < 1e-15 and torch.allclose(cov, law.cov, atol=1e-13)

    def test_the_heat_bath_shares_its_energy(self):
        assert torch.allclose(
            LINEAR["underdamped"].stationary().cov,
            torch.tensor([0.25, 1 / 3], dtype=F64).diag(),
            atol=1e-14,
        )
        with pytest.raises(OrnsteinError, match="no stationary law"):
            LINEAR["free"].stationary()

    @pytest.mark.parametrize("name", LINEAR)
    def test_two_steps_are_one(self, name):
        """Chapman-Kolmogorov to 1e-12, with a time for each sample."""
        process, x = LINEAR[name], start(LINEAR[name], 3)
        s, t = torch.tensor([0.01, 1.0, 0.0], dtype=F64), torch.tensor([0.5, 40.0, 2.0], dtype=F64)
        half = process.transition(x, 0.0, s)
        whole, rest = process.transition(x, 0.0, t), process.transition(half.mean, s, t)
        phi = process.propagate(t - s)[0]
        assert torch.allclose(rest.mean, whole.mean, atol=1e-12)
        assert torch.allclose(phi @ half.cov @ phi.mT + rest.cov, whole.cov, atol=1e-12)
        one = process.transition(x[1:2], 0.0, 40.0)
        assert torch.allclose(one.cov, whole.cov[1], atol=1e-14) and torch.allclose(
            one.mean[0], whole.mean[1], atol=1e-14
        )

    def test_density_and_entropy_are_those_of_scipy(self):
        law = MATRIX.transition(start(MATRIX, 2), 0.0, 0.4)
        x = law.draw(Noise(0).normal((2, 3), F64))
        exact = [stats.multivariate_normal(m, law.cov.numpy()) for m in law.mean.numpy()]
        np.testing.assert_allclose(
            law.log_prob(x).numpy(),
            [e.logpdf(v) for e, v in zip(exact, x.numpy(), strict=True)],
            rtol=1e-10,
        )
        assert float(law.entropy()) == pytest.approx(exact[0].entropy(), rel=1e-12)
        copies = JointGaussian(law.mean[..., None].expand(2, 3, 4), law.cov)
        assert torch.allclose(
            copies.log_prob(x[..., None].expand(2, 3, 4)), 4 * law.log_prob(x), rtol=1e-12
        )

    def test_entropy_rises_to_that_of_the_stationary_law(self):
        """``log(2 pi e s^2 (1 - e^{-2 theta t}) / (2 theta)) / 2`` for one coordinate."""
        process = MultivariateOU(torch.tensor([[1.5]]), torch.tensor([2.0]))
        for t in (1e-9, 0.1, 1.0, 50.0):
            exact = math.log(2 * math.pi * math.e * 4 * -math.expm1(-3 * t) / 3) / 2
            assert float(process.entropy(t)) == pytest.approx(exact, rel=1e-12)
        rising = LINEAR["critical"].entropy(torch.logspace(-3, 2, 30, dtype=F64))
        assert (rising.diff() > -1e-13).all()
        assert float(rising[-1]) == pytest.approx(
            float(LINEAR["critical"].stationary().entropy()), rel=1e-12
        )
        with pytest.raises(OrnsteinError, match="singular"):
            process.entropy(0.0)

    def test_noise_that_mixes_coordinates_is_solved_to_the_law_of_its_transition(self):
        """Two correlated coordinates, three copies: mean and covariance of 20000 paths by Euler's
        method with 100 steps within 4 standard errors, where its own error is a tenth of one;
        copies are independent."""
        process, n = (
            MultivariateOU(
                torch.tensor([[1.0, 0.5], [-0.5, 0.7]]), torch.tensor([[0.8, 0.0], [0.5, 0.3]])
            ),
            20_000,
        )
        x = torch.tensor([0.8, -0.4], dtype=F64)[:, None].expand(n, 2, 3)
        end = orn.solve(process, x, [0.0, 0.5], orn.EulerMaruyama(), seed=1, dt=0.005)[-1]
        law = process.transition(x[:1], 0.0, 0.5)
        assert (
            (end.mean(0) - law.mean[0]).abs() < 4 * (law.cov.diagonal()[:, None] / n).sqrt()
        ).all()
        off = (end - law.mean).flatten(1)
        exact = torch.kron(law.cov, torch.eye(3, dtype=F64))
        stderr = ((exact.diagonal()[:, None] * exact.diagonal() + exact.square()) / n).sqrt()
        assert ((off.T @ off / n - exact).abs() < 4 * stderr).all()

    def test_noise_of_a_rectangular_matrix_drives_any_method_that_fits(self):
        """On one path Euler's method with 64 steps and an exact sum over them: ``x' = x + A (m - x)
        h + S dB``."""
        path, x = (
            orn.BrownianPath((5, 2), seed=2, cells=torch.linspace(0, 1, 65), dtype=F64),
            start(MATRIX, 5),
        )
        computed = orn.solve(MATRIX, x, [0.0, 1.0], seed=path, dt=1 / 64)[-1]
        for k in range(64):
            x = x + (MATRIX.mean - x) @ RATE.T / 64 + path(k / 64, (k + 1) / 64) @ NOISE.T
        assert torch.allclose(computed, x, rtol=1e-12)
        with pytest.raises(OrnsteinError, match="general noise"):
            orn.solve(MATRIX, x, [0.0, 1.0], orn.Milstein())
        with pytest.raises(OrnsteinError, match="see sample_exact"):
            simulate(MATRIX, x, torch.tensor([0.0, 1.0]), ForwardTransition(), Noise(0))
        with pytest.raises(OrnsteinError, match="needs \\(b, 3"):
            MATRIX.drift(torch.zeros(2, 4, dtype=F64), 0.0)

    def test_singular_covariances_are_drawn_from(self):
        """Noise in one direction only: ``F F' = Q``, of rank 1."""
        process = MultivariateOU(torch.eye(2, dtype=F64), torch.tensor([[1.0], [2.0]], dtype=F64))
        law = process.transition(torch.zeros(2, 2, dtype=F64), 0.0, 1.0)
        factor = law.draw(torch.eye(2, dtype=F64)).T
        assert (
            torch.allclose(factor @ factor.T, law.cov, atol=1e-14)
            and torch.linalg.matrix_rank(law.cov) == 1
        )


class TestOneNumberPerEntry:
    @pytest.mark.parametrize("name", ["Brownian", "bridge", "GBM"])
    def test_two_steps_are_one(self, name):
        process, x = ONE_PER_ENTRY[name], start(ONE_PER_ENTRY[name])
        log = (lambda law: law.log) if name == "GBM" else (lambda law: law)
        half = log(process.transition(x, 0.0, 1.5))
        state = torch.exp if name == "GBM" else torch.clone
        unit = [
            log(process.transition(state(y), 1.5, 4.0)).mean for y in (half.mean, half.mean + 1)
        ]
        rest, whole = log(process.transition(x, 1.5, 4.0)), log(process.transition(x, 0.0, 4.0))
        assert torch.allclose(unit[0], whole.mean, atol=1e-12)
        assert torch.allclose(
            (unit[1] - unit[0]) ** 2 * half.std**2 + rest.std**2, whole.std**2, atol=1e-12
        )

    def test_geometric_brownian_motion_is_lognormal(self):
        law = ONE_PER_ENTRY["GBM"].transition(torch.full((3, 1), 2.0, dtype=F64), 0.5, 2.5)
        exact = stats.lognorm(0.5 * math.sqrt(2), scale=2 * math.exp((0.1 - 0.125) * 2))
        x = torch.tensor([[0.5], [2.0], [7.0]], dtype=F64)
        np.testing.assert_allclose(
            law.log_prob(x).numpy(), exact.logpdf(x[:, 0].numpy()), rtol=1e-12
        )
        assert float(law.mean[0]) == pytest.approx(exact.mean()) and float(
            law.var[0]
        ) == pytest.approx(exact.var())
        assert float(ONE_PER_ENTRY["GBM"].entropy(2.0, 2.0)) == pytest.approx(
            exact.entropy(), rel=1e-12
        )

    def test_geometric_brownian_motion_is_the_solution_on_its_path(self):
        path = BrownianPath((4, 1), t1=2.0, seed=3, cells=[0.5, 1.0], dtype=F64)
        x = simulate(
            ONE_PER_ENTRY["GBM"],
            torch.ones(4, 1, dtype=F64),
            torch.tensor([0.0, 0.5, 1.0, 2.0]),
            ForwardTransition(),
            path,
        )
        assert torch.allclose(x, torch.exp((0.1 - 0.125) * 2 + 0.5 * path(2.0)), rtol=1e-12)

    @pytest.mark.parametrize("theta", [0.05, 0.7, 3.0])
    def test_cir_is_noncentral_chi_square(self, theta):
        process, x = CIR(1.2, theta, 0.9), torch.tensor([[0.0], [0.3], [2.0]], dtype=F64)
        for h in (0.02, 0.5, 30.0):
            law = process.transition(x, 1.0, 1.0 + h)
            decay, y = (
                math.exp(-1.2 * h),
                law.mean * torch.tensor([[0.3], [1.0], [2.0]], dtype=F64) + 1e-3,
            )
            c, var = (
                0.81 * (1 - decay) / 4.8,
                x * 0.81 / 1.2 * (decay - decay**2) + theta * 0.81 / 2.4 * (1 - decay) ** 2,
            )
            exact = stats.ncx2.logpdf(
                y[:, 0].numpy() / c, process.df, x[:, 0].numpy() * decay / c
            ) - math.log(c)
            np.testing.assert_allclose(law.log_prob(y).numpy(), exact, rtol=1e-9, atol=1e-9)
            assert torch.allclose(law.mean, x * decay + theta * (1 - decay)) and torch.allclose(
                law.var, var
            )

    def test_cir_chapman_kolmogorov(self):
        """The integral over the state between, by the trapezoidal rule in its logarithm, to
        1e-10."""
        process, x, y = (
            ONE_PER_ENTRY["CIR"],
            torch.tensor([[0.8]], dtype=F64),
            torch.tensor([[0.4]], dtype=F64),
        )
        between = torch.linspace(-40, 4, 4001, dtype=F64)[:, None]
        first = process.transition(x, 0.0, 0.3).log_density(between.exp()) + between
        second = process.transition(between.exp(), 0.3, 1.0).log_density(y)
        computed = (first + second).logsumexp(0) + math.log(44 / 4000)
        assert float(computed) == pytest.approx(
            float(process.transition(x, 0.0, 1.0).log_prob(y)), abs=1e-10
        )

    def test_cir_tends_to_a_gamma_law(self):
        process, exact = CIR(1.2, 0.7, 0.9), stats.gamma(2 * 1.2 * 0.7 / 0.81, scale=0.81 / 2.4)
        x = torch.tensor([0.05, 0.7, 3.0], dtype=F64)
        np.testing.assert_allclose(
            process.stationary().log_density(x).numpy(), exact.logpdf(x.numpy()), rtol=1e-12
        )
        assert process.entropy(math.inf, 1.0) == pytest.approx(exact.entropy(), abs=1e-8)
        assert process.entropy(60.0, 1.0) == pytest.approx(exact.entropy(), abs=1e-8)
        normal = math.log(2 * math.pi * math.e * 0.81 * 1e-6) / 2  # of a short step from 1
        assert process.entropy(1e-6, 1.0) == pytest.approx(normal, abs=1e-4)

    @pytest.mark.parametrize("shape", [0.02, 0.7, 30.0, 2e4, 1.1e5, 1e9])
    def test_quantiles_are_those_of_scipy(self, shape):
        """Gamma to 1e-8 standard deviations (torch's incomplete gamma is good to 3e-10), and to
        3e-10 if large; Poisson exactly."""
        z = torch.linspace(-4.2, 4.2, 43, dtype=F64)
        u = stats.norm.cdf(z.numpy())
        exact = np.where(
            u < 0.5, stats.gamma.ppf(u, shape), stats.gamma.isf(stats.norm.sf(z.numpy()), shape)
        )
        computed = gamma_quantile(torch.tensor(shape, dtype=F64), z).numpy()
        assert np.abs(computed - exact).max() < (1e-8 if shape < 1e5 else 3e-10) * math.sqrt(shape)
        np.testing.assert_array_equal(
            poisson_quantile(torch.tensor(shape, dtype=F64), z).numpy(), stats.poisson.ppf(u, shape)
        )

    def test_the_bridge_is_pinned(self):
        bridge = ONE_PER_ENTRY["bridge"]
        assert torch.equal(
            orn.sample_exact(bridge, start(bridge, 3), torch.tensor([0.0, 1.0, 5.0]))[-1],
            torch.full((3, 1), 2.0, dtype=F64),
        )
        assert float(bridge.covariance(1.0, 3.0)) == pytest.approx(0.49 * 1 * 2 / 5)
        ours, linear = (
            b.transition(start(bridge), 0.3, 1.1)
            for b in (BrownianBridge(0.0, 1.5, 2.0), Bridge(1.5, 2.0))
        )
        assert torch.allclose(ours.mean, linear.mean) and torch.allclose(ours.std, linear.std)
        with pytest.raises(OrnsteinError, match="the bridge ends"):
            bridge.transition(start(bridge), 1.0, 6.0)


WIDE = MultivariateOU(
    Noise(0).normal((40, 40), F64) / 4 + 2 * torch.eye(40, dtype=F64), torch.ones(40)
)
PROCESSES = {**LINEAR, **ONE_PER_ENTRY, "OU": OU(1.5, 2.0), "VP": VP()}


class TestSamples:
    @pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
    @pytest.mark.parametrize("name", [*PROCESSES, "wide"])
    def test_a_path_is_the_same_in_every_batch(self, name, dtype):
        process, ts = {**PROCESSES, "wide": WIDE}[name], torch.tensor([0.0, 0.1, 0.9], dtype=F64)
        paths = orn.sample_exact(process, start(process, 64, dtype), ts, seed=5)
        assert paths.shape[:2] == (3, 64) and paths.dtype == dtype
        assert torch.equal(paths[0], start(process, 64, dtype))
        for n in (1, 7):
            assert torch.equal(
                orn.sample_exact(process, start(process, n, dtype), ts, seed=5), paths[:, :n]
            )

    @pytest.mark.parametrize("name", [n for n in PROCESSES if n not in ("GBM", "CIR")])
    def test_gaussian_paths_have_their_mean_and_covariance(self, name):
        """At two times, 40 000 paths: every entry within 4.5 standard errors, seed 1."""
        process, n = PROCESSES[name], 40_000
        x = start(process, n)
        _, first, second = orn.sample_exact(
            process, x, torch.tensor([0.0, 0.4, 0.9], dtype=F64), seed=1
        )
        law, last = process.transition(x[:1], 0.0, 0.4), process.transition(x[:1], 0.0, 0.9)
        d, eye = x.shape[1], torch.eye(x.shape[1], dtype=F64)
        cov = [
            v.cov if isinstance(v, JointGaussian) else (v.std.square() * eye).reshape(d, d)
            for v in (law, last)
        ]
        zero = torch.zeros(1, d, dtype=F64)
        slope = torch.stack(
            [
                (
                    process.transition(e[None], 0.4, 0.9).mean
                    - process.transition(zero, 0.4, 0.9).mean
                )[0]
                for e in eye
            ],
            1,
        )
        exact = torch.cat(
            [torch.cat([cov[0], cov[0] @ slope.T], 1), torch.cat([slope @ cov[0], cov[1]], 1)]
        )
        both = torch.cat([first, second], 1)
        var = exact.diagonal()
        assert (
            (both.mean(0) - torch.cat([law.mean, last.mean], 1)[0]).abs() < 4.5 * (var / n).sqrt()
        ).all()
        assert (
            (both.T.cov() - exact).abs() < 4.5 * ((var[:, None] * var + exact.square()) / n).sqrt()
        ).all()

    @pytest.mark.parametrize("theta", [0.05, 0.7])
    def test_cir_is_drawn_from_its_law(self, theta):
        """Kolmogorov-Smirnov against scipy after two steps, 20 000 paths; below and above the point
        where 0 is met."""
        process = CIR(1.2, theta, 0.9)
        x = orn.sample_exact(
            process,
            torch.full((20_000, 1), 0.8, dtype=F64),
            torch.tensor([0.0, 0.1, 0.9], dtype=F64),
            seed=2,
        )[-1]
        c, decay = 0.81 * -math.expm1(-1.08) / 4.8, math.exp(-1.08)
        assert (
            stats.kstest(
                x.flatten().numpy() / c, stats.ncx2(process.df, 0.8 * decay / c).cdf
            ).pvalue
            > 1e-3
        )

    @pytest.mark.parametrize("name", ["GBM", "CIR", "critical", "Brownian", "bridge"])
    def test_eulers_paths_have_the_same_moments(self, name):
        """500 steps to t = 1 from 20 000 starts: mean and variance within 4.5 standard errors and 3
        / 500 of the variance."""
        process, n = PROCESSES[name], 20_000
        x = simulate(
            process,
            start(process, n),
            torch.linspace(0, 1, 501, dtype=F64),
            EulerMaruyama(),
            Noise(3),
        )
        law = process.transition(start(process), 0.0, 1.0)
        var = (
            law.cov.diagonal()
            if isinstance(law, JointGaussian)
            else law.std.square()
            if hasattr(law, "std")
            else law.var[0]
        )
        kurtosis = ((x - x.mean(0)) ** 4).mean(0) / x.var(0) ** 2
        assert ((x.mean(0) - law.mean[0]).abs() < 4.5 * (var / n).sqrt() + 6e-3 * var.sqrt()).all()
        assert ((x.var(0) - var).abs() < 4.5 * var * ((kurtosis - 1) / n).sqrt() + 6e-3 * var).all()

    @pytest.mark.parametrize("name", [n for n in PROCESSES if n not in ("bridge", "VP", "free")])
    def test_float32_is_good_at_both_ends_of_time(self, name):
        """Draws after 1e-9 and after 1e3, in float32 and from the same numbers in float64: 1e-6 of
        the state apart."""
        process = PROCESSES[name]
        z = [Noise(k).normal((8, *start(process).shape[1:]), F64) for k in (1, 2)]
        for h in (1e-9, 1e3) if name not in ("GBM", "Brownian") else (1e-9, 10.0):
            draws = []
            for dtype in (torch.float32, F64):
                law = process.transition(start(process, 8, dtype), 0.0, h)
                draws.append(
                    law.draw(*[v.to(dtype) for v in z[: getattr(process, "numbers", 1)]]).double()
                )
            assert torch.isfinite(draws[0]).all()
            assert (draws[0] - draws[1]).abs().max() < 2e-6 * (1 + draws[1].abs().max())

    def test_gradients_reach_the_start(self):
        """``d x_t / d x_0 = e^{-theta t}``, whatever the noise."""
        for process, slope in (
            (OU(1.5, 2.0), math.exp(-1.5)),
            (Brownian(), 1.0),
            (underdamped_ou(), None),
        ):
            x = start(process, 2, torch.float32).requires_grad_()
            orn.sample_exact(process, x, torch.tensor([0.0, 0.3, 1.0]))[-1].sum().backward()
            expected = (
                torch.full_like(x, slope)
                if slope
                else process.propagate(1.0)[0].sum(0).float().expand(2, 2)
            )
            assert torch.allclose(x.grad, expected, atol=1e-5)

    @pytest.mark.parametrize("process", [OU(), Brownian()], ids=repr)
    def test_time_goes_up(self, process):
        with pytest.raises(OrnsteinError, match="up in time"):
            orn.sample_exact(process, torch.zeros(2, 1), torch.tensor([1.0, 0.0]))
