"""Objectives of densities: the control variate has no mean, and path losses vanish at the exact
posterior on any paths."""

import pytest
import torch

import ornstein as orn
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError
from ornstein.models.denoiser import LOG_SNR_KNOTS
from ornstein.training.denoising import DenoisingObjective
from ornstein.training.noise_levels import UniformLogSNR
from ornstein.training.path_objectives import (
    PathObjective,
    ReplayBuffer,
    TargetScoreMatching,
    adjoint_matching,
    control_table,
)

pytestmark = pytest.mark.usefixtures("seeded_weights")
SDE = orn.VP()


def mixture(std):
    return orn.targets.GaussianMixture(
        torch.tensor([[-0.8, 0.2], [0.9, -0.3]]),
        torch.full((2, 2), std),
        torch.tensor([0.45, 0.55]),
    )


def scores(law, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(law.log_prob(x).sum(), x)[0]


class Recorder(orn.Denoiser):
    """The exact posterior as a denoiser, which keeps what it was asked."""

    def __init__(self, law):
        super().__init__(orn.MLP(law.dim, 4, 1), SDE, orn.parametrisations.edm, 1.0, (law.dim,))
        self.exact = law.posterior(SDE)

    def forward(self, x, t, cond=None):
        self.x, self.t = x, t
        return self.exact(x, t)


@pytest.mark.parametrize("std", [0.25, 0.6])
@pytest.mark.parametrize("which", ["table", "adjoint"])
def test_the_aim_has_the_posterior_mean(std, which):
    """``E[(x_0 + c u - D(x_t)) h(x_t)] = 0`` for h = 1, x_t, sin(3 x_t), within 4 standard errors,
    at n = 20000 and three levels."""
    law, n = mixture(std), 20000
    x0 = law.sample(n, seed=1)
    control = (
        control_table(SDE, x0, scores(law, x0), Noise(3)) if which == "table" else adjoint_matching
    )
    for level in (-2.0, 0.5, 4.0):
        seen = {}
        denoiser = Recorder(law)
        objective = TargetScoreMatching(
            DenoisingObjective(
                x0, batch=n, times=lambda sde, u, level=level: sde.time(torch.full_like(u, level))
            ),
            scores(law, x0),
            control,
        )
        batches = objective.batches

        def spy(denoiser, k, aim, batches=batches, seen=seen):
            def keep(x, z, t):
                seen["aim"] = aim(x, z, t)
                return seen["aim"]

            return batches(denoiser, k, keep)

        object.__setattr__(objective, "batches", _Spied(batches, spy))
        objective(denoiser, 0)
        off = seen["aim"] - denoiser.exact(denoiser.x, denoiser.t).mean
        for h in (torch.ones_like(off), denoiser.x, torch.sin(3 * denoiser.x)):
            product = (off * h).double()
            assert bool((product.mean(0).abs() < 4 * product.std(0) / n**0.5).all())


class _Spied:
    """`DenoisingObjective` with its call watched."""

    def __init__(self, batches, call):
        self.indices, self.call = batches.indices, call

    def __call__(self, *args):
        return self.call(*args)


def test_a_gaussian_is_regressed_without_variance():
    """Standard normal particles: the table is 1 where the level matters, and the aim is the
    posterior mean itself."""
    x0 = Noise(0).normal((5000, 3))
    table = control_table(SDE, x0, -x0, Noise(1))
    inside = (LOG_SNR_KNOTS > -6) & (LOG_SNR_KNOTS < 6)
    assert float((table.values[inside] - 1).abs().max()) < 0.1
    law = orn.targets.Normal(torch.zeros(3), torch.ones(3))
    plain = DenoisingObjective(x0, batch=5000, times=UniformLogSNR(-4, 4))
    noisy, _ = plain(Recorder(law), 0)
    quiet, _ = TargetScoreMatching(plain, -x0, lambda log_snr: torch.ones_like(log_snr))(
        Recorder(law), 0
    )
    assert float(quiet.mean()) < 1e-9
    assert float(noisy.mean()) > 0.1


def test_the_table_lowers_the_loss_of_the_exact_posterior():
    """What is left at the exact posterior is the variance of the aim: lower than denoising's, for
    narrow and wide components."""
    for std in (0.1, 0.6):
        law = mixture(std)
        x0 = law.sample(20000, seed=1)
        plain = DenoisingObjective(x0, batch=20000, times=UniformLogSNR(-6, 8))
        objective = TargetScoreMatching(
            plain, scores(law, x0), control_table(SDE, x0, scores(law, x0), Noise(0))
        )
        a, b = (
            float(plain(Recorder(law), 0)[0].mean()),
            float(objective(Recorder(law), 0)[0].mean()),
        )
        assert b < (0.9 if std > 0.5 else 1.0) * a


@pytest.mark.parametrize("share, widen", [(0.0, 1.0), (0.0, 1.3), (1.0, 1.0), (0.5, 1.2)])
def test_path_losses_vanish_at_the_exact_posterior_on_any_paths(share, widen):
    """Steps fine enough that log w is nearly constant: a log-variance below 0.01, whether paths are
    drawn, widened or noised."""
    law = mixture(0.6)
    posterior, times = law.posterior(SDE), SDE.times(160)
    buffer = ReplayBuffer(law.sample(500, seed=2) * 1.2, torch.zeros(500))
    loss, none = PathObjective(
        lambda x: law.log_prob(x) + 3,
        times,
        batch=400,
        replay_fraction=share,
        buffer=buffer,
        widen=widen,
    )(posterior, 0)
    assert none is None and len(loss) == 400
    assert float(loss.mean()) < 0.01


def test_a_buffer_is_drawn_from_in_proportion():
    """Weights 1 : 3, n = 20000, within 4 standard errors; joined sets keep their weight per
    particle, and the oldest are forgotten."""
    buffer = ReplayBuffer(
        torch.tensor([[0.0], [1.0]]),
        torch.tensor([0.0, 3.0]).log().nan_to_num(neginf=-50.0) + torch.tensor([0.0, 0.0]),
    )
    assert float(buffer.draw(100, Noise(0)).mean()) == 1.0
    buffer = ReplayBuffer(torch.tensor([[0.0], [1.0]]), torch.tensor([1.0, 3.0]).log() + 700)
    assert float(buffer.draw(20000, Noise(0)).mean()) == pytest.approx(
        0.75, abs=4 * (0.75 * 0.25 / 20000) ** 0.5
    )
    more = buffer.joined(torch.full((2, 1), 5.0), torch.zeros(2), max_size=10)
    share = float((more.draw(20000, Noise(1)) == 5).float().mean())
    assert share == pytest.approx(0.5, abs=4 * 0.5 / 20000**0.5)
    assert len(buffer.joined(torch.full((2, 1), 5.0), torch.zeros(2), max_size=3).x) == 3


def test_bad_input():
    with pytest.raises(OrnsteinError, match="only with a buffer"):
        PathObjective(lambda x: x[:, 0], SDE.times(4), replay_fraction=0.5)
