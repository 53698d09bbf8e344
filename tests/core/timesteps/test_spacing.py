"""Time grids: exact ends, monotone, uniform in the clock they name; the computed one against its
closed form."""

import math

import numpy as np
import pytest
import torch

from ornstein.core import processes as p
from ornstein.core.methods import Ancestral
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.timesteps import spacing
from ornstein.core.timesteps.grid import LOG_SNR_RANGE
from ornstein.core.timesteps.noise_levels import beta_quantile
from ornstein.errors import OrnsteinError, UnknownNameError
from problems import LAWS, NormalPosterior, mixture

F64 = torch.float64
NAMES = [
    "uniform",
    "quadratic",
    "cosine",
    "log_snr",
    "lu",
    "karras",
    "balanced",
    "exponential",
    "polyexponential",
    "beta",
]
OTHERS = [
    spacing.Power(1.0),
    spacing.Power(2.0, t_min=0.01),
    spacing.Beta(1.5, 0.8),
    spacing.Aligned(lambda l: torch.sigmoid(-l).sqrt()),
    *(
        spacing.Shifted(grid, shift)
        for grid in (spacing.uniform, spacing.Karras())
        for shift in (0.3, 3.0)
    ),
    spacing.Table([10.0, 3.0, 1.0, 0.3, 0.02]),
    spacing.Karras(sigma_max=1.0),
    spacing.Exponential(sigma_max=1e3),
]
CHAIN = p.DiscreteVP(np.linspace(1e-4, 0.02, 1000).tolist())
OF_A_CHAIN = [
    spacing.trailing,
    spacing.Leading(),
    spacing.Leading(offset=1, drop_last=True),
    spacing.Linspace(),
    spacing.Linspace(rounded=False),
    spacing.Linspace(drop_last=True),
]


@pytest.fixture(params=LAWS)
def sde(request):
    return LAWS[request.param].sde


def title(value: object) -> str:
    """A name that does not change from process to process."""
    return getattr(value, "__name__", repr(value))


def is_even(clock: torch.Tensor) -> bool:
    """Whether the entries are equally spaced."""
    gaps = clock.diff()
    return bool(
        torch.allclose(
            gaps, gaps.mean().expand_as(gaps), rtol=1e-6, atol=1e-9 * float(clock.abs().max())
        )
    )


@pytest.mark.parametrize(
    "grid", [*map(spacing.named, NAMES), *OTHERS], ids=[*NAMES, *map(repr, range(len(OTHERS)))]
)
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_a_grid_falls_strictly_from_T_to_0_in_n_steps(sde, grid, n):
    times = sde.times(n, grid)
    assert times.shape == (n + 1,) and times.dtype == F64
    assert float(times[0]) == sde.T and float(times[-1]) == 0.0
    assert (times.diff() < -1e-9 * sde.T).all()  # and no step is empty


def test_time_inverts_log_snr(sde):
    t = sde.T * torch.linspace(0.003, 0.997, 50, dtype=F64)
    assert (sde.time(sde.log_snr(t)) - t).abs().max() < 1e-9 * sde.T


def test_time_clamps_to_the_interval(sde):
    ends = sde.time(torch.tensor([1e6, -1e6], dtype=F64))
    assert torch.allclose(ends, torch.tensor([0.0, sde.T], dtype=F64), atol=1e-12 * sde.T)


class TestClocks:
    n = 24

    def test_uniform_is_even_in_t(self, sde):
        assert is_even(sde.times(self.n, spacing.uniform))

    def test_quadratic_is_even_in_the_root_of_t(self, sde):
        assert is_even(sde.times(self.n, spacing.quadratic).sqrt())

    def test_cosine_is_even_in_the_angle(self, sde):
        times = sde.times(self.n, spacing.cosine)[1:-1]
        assert is_even(torch.atan2(sde.sigma(times), sde.alpha(times)))

    def test_log_snr_is_even_in_the_log_snr(self, sde):
        assert is_even(sde.log_snr(sde.times(self.n, spacing.log_snr)[1:-1]))

    def test_lu_is_even_in_the_log_snr_down_to_its_last_time(self, sde):
        times = sde.times(self.n, spacing.Lu(t_min=0.01))
        assert is_even(sde.log_snr(times[1:-1]))
        assert float(times[-2]) == pytest.approx(0.01 * sde.T, rel=1e-9)

    @pytest.mark.parametrize("rho", [1.0, 7.0])
    def test_karras_is_even_in_a_power_of_the_noise_to_signal_ratio(self, sde, rho):
        times = sde.times(self.n, spacing.Karras(rho=rho, sigma_min=0.02))
        ratio = (-sde.log_snr(times[1:-1]) / 2).exp()
        assert is_even(ratio ** (1 / rho))
        assert float(ratio[-1]) == pytest.approx(0.02, rel=1e-6)

    def test_power_is_even_in_a_root_of_t_down_to_its_last_time(self, sde):
        times = sde.times(self.n, spacing.Power(3.0, t_min=0.01))
        assert is_even(times[:-1] ** (1 / 3))
        assert float(times[-2]) == pytest.approx(0.01 * sde.T, rel=1e-9)

    def test_power_down_to_0_is_uniform_or_quadratic(self, sde):
        for rho, same in ((1.0, spacing.uniform), (2.0, spacing.quadratic)):
            assert torch.allclose(
                sde.times(self.n, spacing.Power(rho, 0.0)), sde.times(self.n, same), rtol=1e-12
            )

    def test_exponential_is_the_log_snr_with_other_ends(self, sde):
        assert torch.equal(
            sde.times(self.n, spacing.Exponential()), sde.times(self.n, spacing.log_snr)
        )
        times = sde.times(self.n, spacing.Exponential(sigma_min=0.05))
        assert is_even(sde.log_snr(times[1:-1])) and float(sde.log_snr(times[-2])) == pytest.approx(
            -2 * math.log(0.05), rel=1e-6
        )

    def test_polyexponential_is_even_in_a_root_of_the_log_ratio(self, sde):
        times = sde.times(self.n, spacing.Polyexponential(rho=2.0, sigma_min=0.02))
        assert is_even((-sde.log_snr(times[1:-2]) / 2 - math.log(0.02)).sqrt())

    def test_beta_is_even_in_its_distribution_function(self, sde):
        """The arcsine law, alpha = beta = 1/2: ``F^-1(p) = sin^2(pi p / 2)``."""
        times = sde.times(self.n, spacing.Beta(0.5, 0.5, sigma_min=0.02, sigma_max=1.0))
        share = ((-sde.log_snr(times[1:-2]) / 2).exp() - 0.02) / 0.98
        assert is_even(share.sqrt().asin())


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (0.2, 3.0), (5.0, 2.0), (1.0, 1.0), (50.0, 80.0)])
def test_quantiles_of_a_beta_law_are_those_of_scipy(a, b):
    special = pytest.importorskip("scipy.special")
    x = torch.linspace(0, 1, 101, dtype=F64)
    assert (
        beta_quantile(x, a, b) - torch.from_numpy(special.betaincinv(a, b, x.numpy()))
    ).abs().max() < 1e-13


def test_karras_on_edm_is_equation_5():
    """Karras et al. 2022, eq. 5 and table 1: rho 7, sigma from 80 to 0.002, then 0."""
    i, n = torch.arange(18, dtype=F64), 18
    expected = (80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    times = p.EDM(80.0).times(n, spacing.Karras())
    assert torch.allclose(times[:-1], expected, rtol=1e-9, atol=0)
    assert times[-1] == 0


class TestShifted:
    def test_on_the_straight_path_is_the_formula_of_sd3(self):
        t = p.RectifiedFlow().times(9, spacing.uniform)
        assert torch.allclose(
            p.RectifiedFlow().times(9, spacing.Shifted(spacing.uniform, 3.0)),
            3 * t / (1 + 2 * t),
            rtol=1e-12,
        )

    def test_multiplies_the_noise_to_signal_ratio(self):
        sde = p.Cosine(T=2.0)
        ratio, shifted = (
            (-sde.log_snr(sde.times(9, s)) / 2).exp()
            for s in (spacing.cosine, spacing.Shifted(spacing.cosine, 0.4))
        )
        assert torch.allclose(shifted[1:-1], 0.4 * ratio[1:-1], rtol=1e-9)

    def test_multiplies_it_far_from_the_ends_of_a_process_that_has_ends(self):
        sde = p.EDM(1e6)
        base = spacing.Exponential(sigma_min=1e-3)
        assert torch.allclose(
            sde.times(9, spacing.Shifted(base, 4.0))[3:-1], 4 * sde.times(9, base)[3:-1], rtol=1e-2
        )

    def test_forth_and_back_changes_nothing(self, sde):
        base = sde.times(9, spacing.uniform)
        there = spacing.Shifted(spacing.uniform, 4.0)
        assert torch.allclose(
            sde.times(9, spacing.Shifted(there, 0.25)), base, rtol=0, atol=1e-8 * sde.T
        )

    def test_cosine_shifted_by_the_width_of_the_data_is_best_for_ddim(self):
        """Sabour et al. 2024, theorem 3.1: in the angle of Gaussian data n steps keep ``cos(pi /
        2n)^n`` of the width, and no other grid keeps as much."""
        sde, c, n = p.Cosine(), 3.0, 6

        def kept(grid):
            out = simulate(
                Reverse(NormalPosterior(sde, var=c**2), 0.0),
                torch.ones(1, 1, dtype=F64),
                sde.times(n, grid),
                Ancestral(),
            )
            return float(out) / c

        best = kept(spacing.Shifted(spacing.cosine, c))
        assert best == pytest.approx(math.cos(math.pi / 2 / n) ** n, rel=1e-6)
        assert best > 1.001 * max(
            kept(grid)
            for grid in (spacing.cosine, spacing.Karras(), spacing.Shifted(spacing.cosine, 2 * c))
        )


class TestTable:
    def test_of_its_own_length_is_itself(self):
        ratios = [80.0, 7.0, 3.0, 0.2, 0.01]
        assert torch.allclose(
            p.EDM(80.0).times(5, spacing.Table([*ratios, 0.0])),
            torch.tensor([*ratios, 0.0], dtype=F64),
            rtol=1e-12,
        )

    def test_is_log_linear_in_between(self):
        times = p.EDM(80.0).times(9, spacing.Table([80.0, 7.0, 3.0, 0.2, 0.01]))
        assert torch.allclose(times[1:8:2].square(), times[0:8:2] * times[2:9:2], rtol=1e-9)

    @pytest.mark.parametrize(
        "ratios",
        [
            [],
            [1.0],
            [1.0, 2.0],
            [2.0, 2.0],
            [3.0, -1.0],
            [3.0, math.nan],
            [math.inf, 1.0, 0.0, 0.0],
        ],
    )
    def test_that_is_none_is_refused(self, ratios):
        with pytest.raises(OrnsteinError, match="positive and decreasing"):
            spacing.Table(ratios)

    def test_beyond_the_process_is_refused(self):
        with pytest.raises(
            OrnsteinError, match=r"from 700 to 0\.1 on EDM, which has those from 80 to 0"
        ):
            p.EDM(80.0).times(4, spacing.Table([700.0, 300.0, 1.0, 0.1]))


class TestStepsOfAChain:
    @pytest.mark.parametrize("grid", OF_A_CHAIN, ids=title)
    @pytest.mark.parametrize("n", [1, 2, 7, 64, 499])
    def test_fall_strictly_to_0(self, grid, n):
        times = CHAIN.times(n, grid)
        assert times.shape == (n + 1,) and times.dtype == F64
        assert float(times[-1]) == 0.0 and (times.diff() < 0).all() and float(times[0]) <= 1
        assert isinstance(grid, spacing.Leading) or float(times[0]) == 1

    @pytest.mark.parametrize(
        ("grid", "steps"),
        [
            (spacing.trailing, [1000, 750, 500, 250, 0]),
            (spacing.Leading(), [751, 501, 251, 1, 0]),
            (spacing.Leading(offset=1), [752, 502, 252, 2, 0]),
            (spacing.Leading(drop_last=True), [801, 601, 401, 201, 0]),
            (spacing.Linspace(), [1000, 667, 334, 1, 0]),
            (spacing.Linspace(drop_last=True), [1000, 750, 501, 251, 0]),
        ],
        ids=title,
    )
    def test_are_the_steps_of_their_definition(self, grid, steps):
        assert (CHAIN.times(4, grid) * 1000).tolist() == pytest.approx(steps, abs=1e-9)

    @pytest.mark.parametrize("grid", OF_A_CHAIN, ids=title)
    def test_need_a_chain(self, grid):
        with pytest.raises(OrnsteinError, match=r"VP has no steps to choose from.*use uniform"):
            p.VP().times(4, grid)

    @pytest.mark.parametrize("grid", OF_A_CHAIN, ids=title)
    def test_need_a_chain_that_is_long_enough(self, grid):
        with pytest.raises(OrnsteinError, match="1001 steps on a chain of 1000"):
            CHAIN.times(1001, grid)

    def test_of_an_offset_beyond_the_chain_are_refused(self):
        with pytest.raises(OrnsteinError, match="starts at step 1001 of a chain that has 1000"):
            CHAIN.times(1000, spacing.Leading(offset=1))


def excess(std, log_snr: torch.Tensor) -> float:
    """(2) of `ornstein.core.timesteps.align_your_steps`: what freezing the denoiser over each step
    costs, in nats per coordinate."""
    fine = torch.linspace(float(log_snr[0]), float(log_snr[-1]), 20001, dtype=F64)
    riemann = (std(log_snr[:-1]).square() * log_snr.exp().diff()).sum()
    return float(riemann - torch.trapezoid(std(fine).square() * fine.exp(), fine)) / 2


class TestAligned:
    @pytest.mark.parametrize("c", [0.3, 1.0, 5.0])
    @pytest.mark.parametrize("n", [3, 8, 40])
    def test_for_gaussian_data_is_even_in_the_log_of_one_plus_the_snr(self, c, n):
        """Setting the derivative of (2) to 0 gives ``u_{i-1} u_{i+1} = u_i^2`` for ``u = 1 + c^2 /
        sigma^2``."""
        times = p.EDM(80.0).times(
            n, spacing.Aligned(lambda l: c * torch.sigmoid(-l - 2 * math.log(c)).sqrt())
        )
        clock = torch.log1p(c**2 / times[:-1].square())
        assert torch.allclose(clock.diff(), clock.diff().mean(), rtol=1e-5)
        assert float(times[-2]) == pytest.approx(0.002, rel=1e-9)

    @pytest.fixture
    def aligned(self):
        target, sde = mixture(), p.EDM(80.0)
        return spacing.Aligned.measured(
            target.posterior(sde), target.sample(2000, dtype=F64), Noise(0)
        )

    @pytest.mark.parametrize("n", [4, 10, 24])
    def test_for_a_mixture_costs_less_than_other_grids(self, aligned, n):
        sde = p.EDM(80.0)
        own, *others = (
            excess(aligned.std, sde.log_snr(sde.times(n, grid)[:-1]))
            for grid in (
                aligned,
                spacing.Karras(),
                spacing.log_snr,
                spacing.Polyexponential(),
                spacing.Power(7.0, 0.002 / 80),
            )
        )
        angles = torch.linspace(math.atan(80), math.atan(0.002), n, dtype=F64)
        others.append(excess(aligned.std, -2 * angles.tan().log()))
        assert own < 0.95 * min(others)

    @pytest.mark.parametrize("n", [4, 10, 24])
    def test_for_a_mixture_is_no_worse_than_the_best_path_through_a_fine_table(self, aligned, n):
        sde = p.EDM(80.0)
        log_snr = torch.linspace(float(sde.log_snr(80.0)), -2 * math.log(0.002), 401, dtype=F64)
        cost = aligned.std(log_snr).square()[:, None] * (log_snr.exp() - log_snr.exp()[:, None])
        cost = torch.where(log_snr > log_snr[:, None], cost, torch.inf)
        total = cost[0]
        for _ in range(n - 2):
            total = (total[:, None] + cost).min(0).values
        levels = sde.log_snr(sde.times(n, aligned)[:-1])
        assert float((aligned.std(levels[:-1]).square() * levels.exp().diff()).sum()) < float(
            total[-1]
        )

    def test_measures_the_standard_deviation_of_the_posterior(self):
        posterior = NormalPosterior(p.VP(), var=4.0)
        measured = spacing.Aligned.measured(posterior, 2 * Noise(0).normal((50, 3), F64), Noise(1))
        log_snr = torch.linspace(-8, 10, 37, dtype=F64)
        assert torch.allclose(
            measured.std(log_snr), 2 * torch.sigmoid(-log_snr - math.log(4)).sqrt(), rtol=5e-3
        )


def test_cosine_on_the_cosine_process_is_even_in_t():
    assert is_even(p.Cosine(T=2.0).times(20))


def test_log_snr_is_cut_where_it_is_infinite():
    times = p.RectifiedFlow().times(30, spacing.log_snr)
    low, high = LOG_SNR_RANGE
    inner = p.RectifiedFlow().log_snr(times[1:-1])
    assert float(inner[-1]) == pytest.approx(high) and high == pytest.approx(-2 * math.log(0.002))
    assert float(inner[0]) == pytest.approx(low + (high - low) / 29)


def test_a_name_gives_the_function_of_that_name():
    assert spacing.named("uniform") is spacing.uniform
    assert spacing.named("karras") == spacing.Karras()


@pytest.mark.parametrize("name", [*NAMES, "trailing", "leading", "linspace"])
@pytest.mark.parametrize("n", [0, -3])
def test_a_grid_without_steps_is_refused(name, n):
    with pytest.raises(OrnsteinError, match="at least 1 step"):
        p.VP().times(n, spacing.named(name))


@pytest.mark.parametrize("grid", OTHERS, ids=[*map(repr, range(len(OTHERS)))])
def test_no_grid_has_no_steps(grid):
    for call in (grid, p.VP().times):
        with pytest.raises(OrnsteinError, match="at least 1 step"):
            call(p.VP(), 0) if call is grid else call(0, grid)


@pytest.mark.parametrize(
    "grid",
    [spacing.Karras, spacing.Exponential, spacing.Polyexponential, spacing.Beta, spacing.Aligned],
)
@pytest.mark.parametrize(("low", "high"), [(2.0, 1.0), (0.0, 1.0), (100.0, None)])
def test_ratios_in_the_wrong_order_are_refused(grid, low, high):
    made = grid(
        sigma_min=low, sigma_max=high, **({"std": torch.sigmoid} if grid is spacing.Aligned else {})
    )
    with pytest.raises(OrnsteinError, match="must be positive and below sigma_max"):
        p.EDM(80.0).times(5, made)


@pytest.mark.parametrize(
    "make",
    [
        lambda: spacing.Power(rho=0.0),
        lambda: spacing.Power(t_min=1.0),
        lambda: spacing.Beta(alpha=0.0),
        lambda: spacing.Shifted(spacing.uniform, 0.0),
    ],
)
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(OrnsteinError, match="positive"):
        make()


def test_an_unknown_name_is_refused_with_a_guess():
    with pytest.raises(
        UnknownNameError, match=r"unknown spacing 'karas': choose one of .* Did you mean 'karras'\?"
    ):
        spacing.named("karas")
