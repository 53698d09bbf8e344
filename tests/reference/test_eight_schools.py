"""Eight schools: the closed forms against a brute-force integration of `log_prob` itself over all
ten dimensions."""

import math

import pytest
import torch
from scipy.integrate import quad

from ornstein.reference.targets.eight_schools import EightSchools

DOUBLE = torch.float64


@pytest.fixture(scope="module")
def brute():
    """log Z, means and deviations of the parameters on a grid in (mu, log tau), each eta_j
    integrated on its own line.

    Given mu and tau, log_prob is a sum over j, so the 8-fold integral is a product of 8 sums;
    E[theta_j] needs one.
    """
    target, eta = EightSchools(), torch.linspace(-9, 9, 73, dtype=DOUBLE)
    mu, log_tau = (
        torch.linspace(-22, 32, 55, dtype=DOUBLE),
        torch.linspace(-18, 6, 121, dtype=DOUBLE),
    )
    base = torch.cat([torch.cartesian_prod(mu, log_tau), torch.zeros(55 * 121, 8, dtype=DOUBLE)], 1)
    origin = target.log_prob(base)
    log_mass, moments = origin.clone(), [base[:, 0], base[:, 1].exp()]
    squares = [m**2 for m in moments]
    for j in range(8):
        z = base.repeat_interleave(73, 0)
        z[:, 2 + j] = eta.repeat(len(base))
        ratio = (target.log_prob(z).reshape(-1, 73) - origin[:, None]).exp() * (eta[1] - eta[0])
        theta = target.parameters(z)[:, 2 + j].reshape(-1, 73)
        log_mass += ratio.sum(1).log()
        moments.append((ratio * theta).sum(1) / ratio.sum(1))
        squares.append((ratio * theta**2).sum(1) / ratio.sum(1))
    weight = log_mass.softmax(0)
    mean, square = (
        torch.stack([(weight * v).sum() for v in values]) for values in (moments, squares)
    )
    cell = float((mu[1] - mu[0]) * (log_tau[1] - log_tau[0]))
    return float(log_mass.logsumexp(0)) + math.log(cell), mean, (square - mean**2).sqrt()


def test_log_z_of_the_ten_dimensional_density(brute):
    assert EightSchools().log_z == pytest.approx(brute[0], abs=1e-6)
    assert EightSchools().log_z == pytest.approx(-31.311348, abs=2e-6)  # as published


def test_moments_of_the_parameters(brute):
    torch.testing.assert_close(EightSchools().exact_mean, brute[1], rtol=0, atol=2e-5)
    torch.testing.assert_close(EightSchools().exact_std, brute[2], rtol=0, atol=2e-4)


def test_tau_by_adaptive_quadrature():
    """log Z, mean and deviation of tau by scipy, integrating the marginal likelihood over tau
    itself."""
    target = EightSchools()

    def density(tau, power=0):
        v = [s**2 + tau**2 for s in target.s]
        precision = 1 / 25 + sum(1 / x for x in v)
        shift = sum(y / x for y, x in zip(target.y, v, strict=True))
        log = (
            -sum(y**2 / x + math.log(2 * math.pi * x) for y, x in zip(target.y, v, strict=True)) / 2
        )
        log += -math.log(25 * precision) / 2 + shift**2 / precision / 2
        return tau**power * 2 / (5 * math.pi * (1 + (tau / 5) ** 2)) * math.exp(log + 31)

    def integral(power):
        pieces = ((0, 20), (20, math.inf))
        return sum(quad(density, *ends, (power,), epsabs=0, epsrel=1e-12)[0] for ends in pieces)

    z, first, second = (integral(power) for power in range(3))
    assert target.log_z == pytest.approx(math.log(z) - 31, abs=1e-10)
    assert float(target.exact_mean[1]) == pytest.approx(first / z, abs=1e-9)
    assert float(target.exact_std[1]) == pytest.approx(
        math.sqrt(second / z - (first / z) ** 2), abs=1e-8
    )


def test_samples_have_the_exact_moments():
    """Means, second and cross moments with tau within 4 standard errors, seed 0, n = 50000."""
    target, n = EightSchools(), 50000
    values = target.parameters(target.sample(n, seed=0, dtype=DOUBLE)) - target.exact_mean
    square = values.square()
    assert bool((values.mean(0).abs() < 4 * target.exact_std / n**0.5).all())
    assert bool(((square.mean(0) - target.exact_std**2).abs() < 4 * square.std(0) / n**0.5).all())


def test_names_and_parameters():
    """``theta = mu + tau eta`` in the order of the names; the exact results cannot be overwritten
    by accident."""
    target = EightSchools()
    assert target.names[:3] == ("mu", "tau", "theta[1]") and len(target.names) == target.dim
    z = torch.tensor([[1.0, math.log(2.0), 0.0, 1, 2, 3, 4, 5, 6, -7]], dtype=DOUBLE)
    torch.testing.assert_close(
        target.parameters(z), torch.tensor([[1, 2, 1, 3, 5, 7, 9, 11, 13, -13]], dtype=DOUBLE)
    )
    target.exact_mean.zero_()
    assert float(target.exact_mean[0]) > 4


def test_far_tails_stay_in_float32():
    """At log tau = 60, tau^2 overflows float32; the prior tends to ``log(10 / pi) - log tau``
    there."""
    z = torch.zeros(2, 10)
    z[:, 1] = torch.tensor([60.0, -60.0])
    rest = float(EightSchools().log_prob(torch.zeros(1, 10, dtype=DOUBLE)))
    at_one = math.log(2 / (5 * math.pi) / (1 + 1 / 25))
    expected = [
        rest - at_one + math.log(10 / math.pi) - 60,
        rest - at_one + math.log(2 / (5 * math.pi)) - 60,
    ]
    torch.testing.assert_close(
        EightSchools().log_prob(z), torch.tensor(expected), rtol=1e-5, atol=0
    )
