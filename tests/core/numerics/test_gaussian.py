"""The Gaussian against torch.distributions."""

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from ornstein.core.numerics.gaussian import Gaussian, per_sample, sum_event
from ornstein.core.random.noise import Noise

F64 = torch.float64
SHAPES = [(5,), (5, 3), (5, 2, 3, 4)]


def numbers(shape, seed: int) -> torch.Tensor:
    return Noise(seed).normal(shape, F64)


def oracle(gaussian: Gaussian) -> Normal | Independent:
    normal = Normal(gaussian.mean, gaussian.std.expand_as(gaussian.mean))
    return Independent(normal, gaussian.mean.ndim - 1)


def stds(shape) -> list[torch.Tensor]:
    """One for everything, one per sample, one per entry."""
    return [
        torch.tensor(0.7, dtype=F64),
        numbers((shape[0], *[1] * (len(shape) - 1)), 5).exp(),
        numbers(shape, 6).exp(),
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("which", [0, 1, 2])
class TestAgainstTorchDistributions:
    def test_log_prob(self, shape, which):
        ours = Gaussian(numbers(shape, 1), stds(shape)[which])
        x = numbers(shape, 2)
        assert ours.log_prob(x).shape == shape[:1]
        assert torch.allclose(ours.log_prob(x), oracle(ours).log_prob(x), rtol=1e-12)

    @pytest.mark.parametrize("other", [0, 1, 2])
    def test_kl(self, shape, which, other):
        ours = Gaussian(numbers(shape, 1), stds(shape)[which])
        theirs = Gaussian(numbers(shape, 2), 1.3 * stds(shape)[other])
        assert torch.allclose(
            ours.kl(theirs), kl_divergence(oracle(ours), oracle(theirs)), rtol=1e-10
        )

    def test_draw_is_mean_plus_std_times_z(self, shape, which):
        ours, z = Gaussian(numbers(shape, 1), stds(shape)[which]), numbers(shape, 3)
        torch.testing.assert_close(
            ours.draw(z), ours.mean + stds(shape)[which] * z, rtol=1e-14, atol=1e-14
        )
        assert torch.allclose(
            ours.log_prob(ours.draw(z)), oracle(ours).log_prob(ours.draw(z)), rtol=1e-12
        )


def test_kl_of_a_gaussian_with_itself_is_0():
    ours = Gaussian(numbers((5, 3), 1), numbers((5, 3), 2).exp())
    assert not ours.kl(ours).any()


def test_log_prob_differentiates_to_the_score():
    ours, x = (
        Gaussian(numbers((5, 3), 1), torch.tensor(0.6, dtype=F64)),
        numbers((5, 3), 2).requires_grad_(),
    )
    (score,) = torch.autograd.grad(ours.log_prob(x).sum(), x)
    assert torch.allclose(score, (ours.mean - x) / 0.36, rtol=1e-12)


def test_a_scalar_of_time_does_not_promote_the_batch():
    x = torch.ones(4, 3, 2)
    assert (per_sample(torch.tensor(2.0, dtype=F64), x) * x).dtype == torch.float32
    rows = per_sample(torch.arange(4, dtype=F64), x) * x
    assert rows.dtype == torch.float32
    assert torch.equal(rows[:, 1, 1], torch.arange(4.0))


def test_sum_event_keeps_the_batch():
    x = numbers((5, 2, 3), 0)
    assert torch.allclose(sum_event(x), x.sum((1, 2)), rtol=1e-14)
    assert torch.equal(sum_event(x[:, 0, 0]), x[:, 0, 0])
