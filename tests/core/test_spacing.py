"""Time grids: exact ends, monotone, uniform in the clock they name."""

import math

import pytest
import torch
from core_problems import LAWS

from ornstein.core import processes as p
from ornstein.core import spacing
from ornstein.errors import OrnsteinError, UnknownNameError

F64 = torch.float64
NAMES = ["uniform", "quadratic", "cosine", "log_snr", "lu", "karras"]


@pytest.fixture(params=LAWS)
def sde(request):
    return LAWS[request.param].sde


def is_even(clock: torch.Tensor) -> bool:
    """Whether the entries are equally spaced."""
    gaps = clock.diff()
    return bool(torch.allclose(gaps, gaps.mean().expand_as(gaps), rtol=1e-6, atol=1e-9 * float(clock.abs().max())))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_a_grid_falls_strictly_from_T_to_0_in_n_steps(sde, name, n):
    times = sde.times(n, spacing.named(name))
    assert times.shape == (n + 1,) and times.dtype == F64
    assert float(times[0]) == sde.T and float(times[-1]) == 0.0
    assert (times.diff() < -1e-7 * sde.T).all()  # and no step is empty


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


def test_karras_on_edm_is_equation_5():
    """Karras et al. 2022, eq. 5 and table 1: rho 7, sigma from 80 to 0.002, then 0."""
    i, n = torch.arange(18, dtype=F64), 18
    expected = (80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    times = p.EDM(80.0).times(n, spacing.Karras())
    assert torch.allclose(times[:-1], expected, rtol=1e-9, atol=0)
    assert times[-1] == 0


def test_cosine_on_the_cosine_process_is_even_in_t():
    assert is_even(p.Cosine(T=2.0).times(20))


def test_log_snr_is_cut_where_it_is_infinite():
    times = p.Straight().times(30, spacing.log_snr)
    low, high = spacing.LOG_SNR_RANGE
    inner = p.Straight().log_snr(times[1:-1])
    assert float(inner[-1]) == pytest.approx(high) and high == pytest.approx(-2 * math.log(0.002))
    assert float(inner[0]) == pytest.approx(low + (high - low) / 29)


def test_a_name_gives_the_function_of_that_name():
    assert spacing.named("uniform") is spacing.uniform
    assert spacing.named("karras") == spacing.Karras()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [0, -3])
def test_a_grid_without_steps_is_refused(name, n):
    with pytest.raises(OrnsteinError, match="at least 1 step"):
        p.VP().times(n, spacing.named(name))


def test_an_unknown_name_is_refused_with_a_guess():
    with pytest.raises(UnknownNameError, match=r"unknown spacing 'karas': choose one of .* Did you mean 'karras'\?"):
        spacing.named("karas")
