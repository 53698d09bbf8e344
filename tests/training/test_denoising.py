"""Learning from samples: weights and time laws are their formulas, the loss has its expectation,
batches are fair."""

import math
from types import SimpleNamespace

import pytest
import torch
from scipy import stats

import ornstein as orn
from ornstein.core.numerics.gaussian import Gaussian

pytestmark = pytest.mark.usefixtures("seeded_weights")

DOUBLE = torch.float64
T = torch.tensor([0.02, 0.1, 0.35, 0.6, 0.95], dtype=DOUBLE)
PROCESSES = {
    "VP": orn.VP(),
    "EDM": orn.EDM(10.0),
    "Cosine": orn.Cosine(),
    "OU": orn.OU(1.3, 2.0),
    "Bridge": orn.Bridge(1.4),
}


def snr(sde, t):
    return sde.alpha(t) ** 2 / sde.sigma(t) ** 2


@pytest.mark.parametrize("name", PROCESSES)
def test_weights_are_their_formulas(name):
    sde = PROCESSES[name]
    t = sde.T * T
    ratio = snr(sde, t)
    torch.testing.assert_close(orn.training.unit_weight(sde, t), torch.ones_like(t))
    torch.testing.assert_close(orn.training.snr_weight(sde, t), ratio)
    torch.testing.assert_close(orn.training.min_snr(3.0)(sde, t), ratio.clamp(max=3.0))
    torch.testing.assert_close(orn.training.edm_weight(0.5)(sde, t), ratio + 4)
    h = 1e-6 * sde.T
    slope = (snr(sde, t + h) - snr(sde, t - h)) / (
        2 * h
    )  # -lambda' e^lambda / 2 = -(e^lambda)' / 2
    torch.testing.assert_close(
        orn.training.likelihood_weight(sde, t), -slope / 2, rtol=1e-6, atol=1e-9
    )


def test_weights_state_the_loss_on_another_quantity():
    """``|eps error|^2 = e^lambda |x_0 error|^2`` and ``|F error|^2 = (e^lambda + 1 / d^2) |x_0
    error|^2``, F of EDM."""
    sde, t, d = orn.VP(), torch.tensor(0.4, dtype=DOUBLE), 0.7
    alpha, sigma, error = sde.alpha(t), sde.sigma(t), 0.3
    assert float(orn.training.snr_weight(sde, t)) * error**2 == pytest.approx(
        float(alpha * error / sigma) ** 2
    )
    ratio = sigma / alpha
    out = ratio * d / (ratio**2 + d**2).sqrt()
    assert float(orn.training.edm_weight(d)(sde, t)) * error**2 == pytest.approx(
        float(error / out) ** 2
    )


@pytest.mark.parametrize("name", PROCESSES)
def test_time_laws_are_quantile_functions_of_the_law_they_name(name):
    sde, u = PROCESSES[name], torch.linspace(0.05, 0.95, 13, dtype=DOUBLE)
    normal = torch.from_numpy(stats.norm.ppf(u.numpy()))
    torch.testing.assert_close(orn.noise_levels.UniformTime()(sde, u), sde.T * u)
    t = orn.noise_levels.UniformLogSNR(-3.0, 4.0)(sde, u)
    torch.testing.assert_close(sde.log_snr(t), -3 + 7 * u, rtol=0, atol=1e-8)
    t = orn.noise_levels.LogNormal(-0.3, 0.8)(sde, u)
    torch.testing.assert_close(
        (sde.sigma(t) / sde.alpha(t)).log(), -0.3 + 0.8 * normal, rtol=0, atol=1e-8
    )
    t = orn.noise_levels.LogitNormal(0.2, 0.9)(sde, u) / sde.T
    torch.testing.assert_close((t / (1 - t)).log(), 0.2 + 0.9 * normal, rtol=0, atol=1e-10)


def test_stratified_has_one_number_per_stratum_in_random_order():
    for n in (1, 7, 128):
        u = orn.noise_levels.stratified(n, orn.Noise(3))
        assert sorted((u * n).floor().long().tolist()) == list(range(n))
    assert (orn.noise_levels.stratified(128, orn.Noise(3)).diff() < 0).any()
    assert torch.equal(
        orn.noise_levels.stratified(64, orn.Noise(3)), orn.noise_levels.stratified(64, orn.Noise(3))
    )


def test_each_stratified_number_is_uniform_and_two_are_exchangeable():
    """Kolmogorov-Smirnov over 2000 seeds, p > 1e-4; ``P(u_0 < u_1)`` is one half within 4 standard
    errors."""
    draws = torch.stack([orn.noise_levels.stratified(8, orn.Noise(seed)) for seed in range(2000)])
    for i in (0, 5):
        assert stats.kstest(draws[:, i].numpy(), "uniform").pvalue > 1e-4
    assert abs(float((draws[:, 0] < draws[:, 1]).double().mean()) - 0.5) < 4 * 0.5 / 2000**0.5
    assert (
        float(draws.mean(1).std()) < 1.05 / (8 * 12**0.5) / 8**0.5
    )  # the sd of a mean of 8 within strata


@pytest.mark.parametrize("name", PROCESSES)
def test_expected_loss_on_gaussian_data(name):
    """Data N(0, s^2), denoiser exact for N(0, d^2): ``w [(1 - k alpha)^2 s^2 + k^2 sigma^2]``,
    within 4 standard errors, n = 40000."""
    sde, s, d, n = PROCESSES[name], 1.4, 0.8, 40000
    denoiser = orn.Denoiser(orn.MLP(2, 8, 1), sde, orn.parametrisations.edm, d, (2,))
    x0 = s * orn.Noise(0).normal((n, 2))
    for t in (sde.T * T[1], sde.T * T[3]):
        loss = (
            orn.training.denoising_loss(
                denoiser, x0, t.expand(n), orn.Noise(1), orn.training.min_snr(2.0)
            )
            .detach()
            .double()
        )
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        k = alpha * d**2 / (alpha**2 * d**2 + sigma**2)
        exact = snr(sde, t).clamp(max=2.0) * ((1 - k * alpha) ** 2 * s**2 + k**2 * sigma**2)
        assert abs(float(loss.mean() - exact)) < 4 * float(loss.std()) / n**0.5


def test_the_posterior_mean_is_a_stationary_point_and_a_minimum():
    """Along any direction ``h(x_t)`` the derivative of the expected loss is 0 within 4 standard
    errors (n = 40000, seed 0), and the loss at distance ``delta`` is higher by ``delta^2 w E h^2``
    (times are spread over the law)."""
    sde, n = orn.VP(), 40000
    target = orn.targets.GaussianMixture(
        torch.tensor([[-1.0], [1.5]]), torch.tensor([[0.3], [0.6]]), torch.ones(2)
    )
    exact, x0 = target.posterior(sde), target.sample(n, dtype=DOUBLE)
    t = orn.noise_levels.UniformLogSNR(-4, 4)(sde, orn.noise_levels.stratified(n, orn.Noise(0)))

    def losses(delta, h):
        def shifted(x, t, cond=None):
            law = exact(x, t)
            return Gaussian(law.mean + delta * h(x), law.std)

        shifted.sde = sde
        return orn.training.denoising_loss(shifted, x0, t, orn.Noise(2), orn.training.unit_weight)

    for h in (torch.ones_like, lambda x: x, lambda x: (3 * x).sin(), lambda x: (x > 0.5).to(x)):
        up, down = losses(0.1, h), losses(-0.1, h)
        slope = (up - down) / 0.2
        assert abs(float(slope.mean())) < 4 * float(slope.std()) / n**0.5
        curvature = (up + down - 2 * losses(0.0, h)) / 0.01
        assert float(curvature.mean()) > 0.1


def test_likelihood_weight_integrates_to_the_diffusion_term_of_the_bound():
    """Gaussian data of variance s^2 and the exact posterior: ``int w err^2 dt = log[(1/s^2 + e^hi)
    / (1/s^2 + e^lo)] / 2`` nats per element between two times, within 4 standard errors, n =
    40000."""
    sde, s, n, first = orn.VP(), 0.7, 40000, 0.02
    denoiser = orn.Denoiser(orn.MLP(3, 8, 1).double(), sde, orn.parametrisations.edm, s, (3,))
    x0 = s * orn.Noise(0).normal((n, 3), DOUBLE)
    u = orn.noise_levels.stratified(n, orn.Noise(1))
    t = first + (1 - first) * u
    nats = (
        (1 - first)
        * 3
        * orn.training.denoising_loss(
            denoiser, x0, t, orn.Noise(2), orn.training.likelihood_weight
        ).detach()
    )
    ratio = (1 / s**2 + snr(sde, first)) / (1 / s**2 + snr(sde, 1.0))
    assert abs(float(nats.mean()) - 3 * float(ratio.log()) / 2) < 4 * float(nats.std()) / n**0.5


class Spy:
    """A denoiser that notes the conditions it is asked with."""

    sde, data_std, net = orn.Cosine(), 1.0, SimpleNamespace(config={"labels": 1000})

    def __init__(self):
        self.labels = []

    def __call__(self, x, t, cond=None):
        self.labels.append(cond["label"])
        return Gaussian(x, torch.ones(()))


@pytest.mark.parametrize(("n", "batch"), [(10, 4), (3, 8), (7, 7), (64, 10)])
def test_batches_show_each_sample_equally_often(n, batch):
    """After k steps the counts differ by at most one, and after ``lcm(n, batch) / batch`` steps
    they are equal."""
    spy = Spy()
    objective = orn.DenoisingObjective(torch.zeros(n, 2), batch, torch.arange(n), drop_label=0.0)
    for k in range(math.lcm(n, batch) // batch):
        objective(spy, k)
        counts = torch.bincount(torch.cat(spy.labels), minlength=n)
        assert int(counts.max() - counts.min()) <= 1
    assert int(counts.max()) == int(counts.min())


def test_objective_is_a_function_of_the_step_alone():
    """In any order, whatever the global generator does."""
    denoiser = orn.Denoiser(
        orn.MLP(2, 8, 1, labels=2), orn.Cosine(), orn.parametrisations.edm, 1.0, (2,)
    )
    objective = orn.DenoisingObjective(
        orn.Noise(0).normal((50, 2)), 16, torch.arange(50) % 2, seed=4
    )
    first = [objective(denoiser, k) for k in (3, 9)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        again = [objective(denoiser, k) for k in (9, 3)][::-1]
    for (loss, level), (loss_2, level_2) in zip(first, again, strict=True):
        assert torch.equal(loss, loss_2) and torch.equal(level, level_2)
    assert not torch.equal(first[0][0], first[1][0])
    other = orn.DenoisingObjective(objective.x0, 16, objective.labels, seed=5)(denoiser, 3)
    assert not torch.equal(other[0], first[0][0])


def test_labels_are_hidden_with_the_stated_probability():
    """Within 4 standard errors of 0.3 over 50 batches of 200; a hidden label is the null class."""
    spy = Spy()
    objective = orn.DenoisingObjective(
        torch.zeros(1000, 1), 200, torch.arange(1000), drop_label=0.3, seed=1
    )
    for k in range(50):
        objective(spy, k)
    hidden = (torch.cat(spy.labels) == 1000).double().mean()
    assert abs(float(hidden) - 0.3) < 4 * (0.3 * 0.7 / 10000) ** 0.5
