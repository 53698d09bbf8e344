"""First passages and maxima: scipy's laws, reflection, draws against the laws, pieces against the
whole."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import ornstein as orn
from ornstein.calculus.laws import (
    BridgeMaximum,
    Brownian,
    BrownianMaximum,
    BrownianPassage,
    GeometricBrownian,
    OUPassage,
)
from ornstein.core.processes.reference import OU
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError

F64 = torch.float64
BRIDGE = BridgeMaximum(0.1, 0.5, 2.0, 1.3)
PASSAGES = [
    BrownianPassage(2.0, 0.8, 1.3),
    BrownianPassage(1.0),
    BrownianPassage(0.7, -0.5, 2.0),
    OUPassage(0.9, 1.5, 2.0),
]
MAXIMA = [BrownianMaximum(2.0, -0.4, 1.3), BrownianMaximum(2.0, 0.9), BRIDGE]


def uniform(samples: torch.Tensor, cdf) -> float:
    """p-value of Kolmogorov and Smirnov."""
    return stats.kstest(
        samples.double().flatten().numpy(), lambda v: cdf(torch.from_numpy(np.asarray(v))).numpy()
    ).pvalue


def test_brownian_passage_is_inverse_gaussian():
    law, t = Brownian(0.8, 1.3).passage(2.0), torch.tensor([0.1, 1.0, 3.0, 20.0], dtype=F64)
    exact = stats.invgauss(law.mean / (2.0 / 1.3) ** 2, scale=(2.0 / 1.3) ** 2)
    np.testing.assert_allclose(law.cdf(t).numpy(), exact.cdf(t.numpy()), rtol=1e-11)
    np.testing.assert_allclose(law.log_prob(t).numpy(), exact.logpdf(t.numpy()), rtol=1e-11)
    assert (law.mean, law.var) == (pytest.approx(exact.mean()), pytest.approx(exact.var()))


@pytest.mark.parametrize("law", PASSAGES, ids=repr)
def test_passage_times_are_drawn_from_their_law(law):
    """Kolmogorov-Smirnov over those that arrive of 20 000; the others are as many as there should
    be; seed 1."""
    times, ever = law.sample(20_000, seed=1), getattr(law, "probability", 1.0)
    assert torch.equal(times[:7], law.sample(7, seed=1))
    arrived = torch.isfinite(times)
    assert abs(float(arrived.double().mean()) - ever) <= 4 * math.sqrt(ever * (1 - ever) / 20_000)
    assert uniform(times[arrived], lambda t: law.cdf(t) / ever) > 1e-3


@pytest.mark.parametrize("law", PASSAGES + MAXIMA, ids=repr)
def test_densities_are_derivatives(law):
    t = torch.tensor([0.55, 1.0, 2.5], dtype=F64, requires_grad=True)
    slope = torch.autograd.grad(law.cdf(t).sum(), t)[0]
    assert torch.allclose(law.log_prob(t.detach()).exp(), slope, rtol=1e-10)


def test_the_way_to_the_mean_by_reflection():
    """P(T > t) = P(X_t > 0) - P(X_t < 0) for a symmetric process from x > 0; the transition is that
    of `OU`."""
    for t in (0.01, 0.5, 4.0):
        kernel = OU(1.5, 2.0).transition(torch.tensor([0.9], dtype=F64), 0.0, t)
        stays = 2 * stats.norm.cdf(float(kernel.mean / kernel.std)) - 1
        assert float(OUPassage(0.9, 1.5, 2.0).cdf(torch.tensor(t, dtype=F64))) == pytest.approx(
            1 - stays, rel=1e-12
        )


def test_late_and_early_times_do_not_overflow():
    law, t = OUPassage(0.9, 1.5, 2.0), torch.tensor([1e-8, 1e3], dtype=F64)
    assert torch.equal(law.cdf(t), torch.tensor([0.0, 1.0], dtype=F64))
    assert float(law.log_prob(t)[1]) == pytest.approx(
        math.log(3 * 0.9 / 2 * math.sqrt(3 / (2 * math.pi))) - 1500, abs=1e-9
    )
    assert float(BrownianPassage(50.0, 20.0).cdf(torch.tensor(2.5, dtype=F64))) == pytest.approx(
        0.5, abs=0.1
    )  # e^2000 times 0


def test_known_special_cases():
    m = torch.tensor([0.2, 1.0, 3.0], dtype=F64)
    for law, known in (
        (BrownianMaximum(2.0), stats.halfnorm(scale=math.sqrt(2))),
        (BridgeMaximum(duration=3.0), stats.rayleigh(scale=math.sqrt(3) / 2)),
        (BrownianPassage(1.5), stats.levy(scale=1.5**2)),
    ):
        np.testing.assert_allclose(law.cdf(m).numpy(), known.cdf(m.numpy()), rtol=1e-12)
    up, down = Brownian(0.5).passage(1.0), Brownian(0.5).passage(-1.0)
    assert (up.probability, down.probability) == (1.0, pytest.approx(math.exp(-1)))
    assert GeometricBrownian(0.0, 0.5).passage(1.0, 3.0).probability == pytest.approx(
        1 / 3
    )  # a martingale: optional stopping


def test_a_maximum_is_the_highest_of_its_pieces():
    """Between 6 exact points of 20 000 paths the bridges' maxima; against the law of the whole, and
    its draws; seed 4."""
    process, ts = Brownian(-0.4, 1.3), torch.tensor([0.0, 0.1, 0.5, 0.9, 1.6, 2.0], dtype=F64)
    x = orn.sample_exact(process, torch.zeros(20_000, 1, dtype=F64), ts, seed=4)[..., 0]
    u = Noise(5).uniform((20_000, 5), F64)
    gaps, h = x.diff(dim=0), ts.diff()[:, None]
    highest = (
        (x[1:] + x[:-1] + (gaps.square() - 2 * 1.69 * h * torch.log1p(-u.T)).sqrt()) / 2
    ).amax(0)
    law = process.maximum(2.0)
    assert uniform(highest, law.cdf) > 1e-3
    drawn = law.sample(20_000, seed=6)
    assert uniform(drawn[:, 0], law.cdf) > 1e-3
    assert stats.kstest(drawn[:, 1].numpy(), stats.norm(-0.8, 1.3 * math.sqrt(2)).cdf).pvalue > 1e-3
    assert uniform(BRIDGE.sample(20_000, 7), BRIDGE.cdf) > 1e-3


def test_a_level_is_away_from_the_start():
    with pytest.raises(OrnsteinError, match="distance=0"):
        Brownian().passage(0.0)
    with pytest.raises(OrnsteinError, match="both must be positive"):
        GeometricBrownian().passage(1.0, -1.0)
