"""Profiles of path weights and the agreement of seeds."""

import math

import pytest
import torch
from scipy.stats import chi2

import ornstein as orn
from ornstein.errors import OrnsteinError
from ornstein.learn.density.estimate import LogZ
from ornstein.learn.density.warnings import StepWeights, cess_profile, disagreement

DOUBLE = torch.float64


def estimate(value, stderr):
    return LogZ(value, stderr, (value - 2 * stderr, value + 2 * stderr), value, 1.0)


def test_step_weights_add_up_to_the_log_weight():
    target = orn.targets.named("gmm9")
    sde, posterior = orn.VP(), target.posterior(orn.VP())
    x = target.sample(40)
    watchers = [cls(lambda new, s, t: sde.posterior(new, posterior(new, s), t, s)) for cls in (StepWeights, orn.LogWeight)]
    orn.simulate(sde, x, sde.times(7).flip(0), orn.Noising(), orn.Noise(0), watchers)
    assert watchers[0].stacked().shape == (7, 40)
    torch.testing.assert_close(watchers[0].stacked().sum(0), watchers[1].value)
    torch.testing.assert_close(watchers[0].value, watchers[1].value)


def test_profile_is_its_formula():
    log_u = orn.Noise(0).normal((3, 50), DOUBLE)
    u, profile = log_u.exp(), cess_profile(log_u + 800)
    w = torch.ones(50, dtype=DOUBLE)
    for k in range(3):
        w = w / w.sum()
        assert float(profile[k]) == pytest.approx(float((w * u[k]).sum() ** 2 / (w * u[k] ** 2).sum()), rel=1e-12)
        w = w * u[k]
    assert float(cess_profile(log_u[:1])[0]) == pytest.approx(orn.metrics.ess(log_u[0]) / 50)


def test_profile_points_at_the_step_that_hurts():
    """Log-normal increments: ``CESS = exp(-s^2)`` of the step, whatever came before; 4 standard errors of 1 %, n = 40000."""
    s = torch.tensor([0.1, 0.2, 0.9, 0.1], dtype=DOUBLE)
    profile = cess_profile(s[:, None] * orn.Noise(1).normal((4, 40000), DOUBLE))
    torch.testing.assert_close(profile, (-s.square()).exp(), rtol=0.04, atol=0)
    assert int(profile.argmin()) == 2
    assert torch.equal(cess_profile(torch.zeros(2, 5)), torch.ones(2, dtype=DOUBLE))
    weights = torch.tensor([[0.0, -torch.inf], [0.0, 0.0]])
    torch.testing.assert_close(cess_profile(weights), torch.tensor([0.5, 1.0], dtype=DOUBLE))


@pytest.mark.parametrize("bad", [[[0.0]], [[0.0, math.nan]], [[0.0, math.inf]], [[-math.inf, 0.0], [0.0, -math.inf]]])
def test_profile_refuses_what_is_no_weight(bad):
    with pytest.raises(OrnsteinError, match=r"at least two|leave the support"):
        cess_profile(torch.tensor(bad))


def test_disagreement_is_a_chi_squared_test():
    values, errors = [1.0, 1.2, 0.7], [0.1, 0.2, 0.1]
    found = disagreement([estimate(v, e) for v, e in zip(values, errors, strict=True)])
    precision = [1 / e**2 for e in errors]
    mean = sum(p * v for p, v in zip(precision, values, strict=True)) / sum(precision)
    q = sum(p * (v - mean) ** 2 for p, v in zip(precision, values, strict=True))
    assert found.mean == pytest.approx(mean) and found.stderr == pytest.approx(sum(precision) ** -0.5)
    assert found.birge == pytest.approx(math.sqrt(q / 2)) and found.p_value == pytest.approx(chi2.sf(q, 2))


def test_honest_errors_agree_at_their_level():
    """Of 1000 sets of five, a tenth have p < 0.1, within 4 standard errors; with errors half as large, most do."""
    z = orn.Noise(2).normal((1000, 5), DOUBLE)
    for factor, low, high in ((1.0, 0.062, 0.138), (0.5, 0.5, 1.0)):
        small = sum(disagreement([estimate(float(v), factor) for v in row]).p_value < 0.1 for row in z) / 1000
        assert low < small < high


def test_disagreement_needs_two_errors():
    for estimates in ([estimate(0.0, 1.0)], [estimate(0.0, 0.0), estimate(1.0, 1.0)]):
        with pytest.raises(OrnsteinError, match="two or more"):
            disagreement(estimates)
