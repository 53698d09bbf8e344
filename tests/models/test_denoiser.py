"""Every parametrisation with the ideal network is the exact posterior; the standard deviation is
measured right."""

import copy
import math

import pytest
import torch
from torch import nn

import ornstein as orn
from ornstein.core.numerics.gaussian import per_sample
from ornstein.errors import OrnsteinError, UnknownNameError
from ornstein.models.denoiser import LOG_SNR_KNOTS
from ornstein.models.parametrisations import PARAMETRISATIONS, parametrisation

pytestmark = pytest.mark.usefixtures("seeded_weights")

DOUBLE = torch.float64
PROCESSES = {
    "VP": orn.VP(0.1, 12.0),
    "EDM": orn.EDM(20.0),
    "RectifiedFlow": orn.RectifiedFlow(),
    "Cosine": orn.Cosine(T=2.0),
    "SubVP": orn.SubVP(),
    "VE": orn.VE(0.02, 10.0),
    "OU": orn.OU(1.5, 2.0),
    "Bridge": orn.Bridge(1.3, T=2.0),
}
SILENT = ("RectifiedFlow", "Cosine", "Bridge")  # no signal at T
ALL = [(name, param) for name in PROCESSES for param in PARAMETRISATIONS]
DEFINED = [
    (name, param) for name, param in ALL if not (name in SILENT and param in ("eps", "score"))
]


def mixture():
    means = torch.tensor([[-1.5, 0.3], [1.2, -0.8], [0.5, 1.4]], dtype=DOUBLE)
    stds = torch.tensor([[0.4, 0.9], [0.7, 0.3], [0.2, 0.5]], dtype=DOUBLE)
    return orn.targets.GaussianMixture(means, stds, torch.tensor([0.3, 0.5, 0.2]))


class Ideal(nn.Module):
    """What the network has to say, each parametrisation by its definition in the literature, from
    the exact posterior.

    It sees what a network sees: its own input, of unit variance, and ``c = -lambda / 8``.
    """

    def __init__(self, target, sde, param, d):
        super().__init__()
        self.posterior, self.sde, self.param, self.d = target.posterior(sde), sde, param, d

    def forward(self, x, c, cond=None):
        log_snr = -8 * c
        t = torch.where(
            log_snr >= 30, 0.0, torch.where(log_snr <= -30, self.sde.T, self.sde.time(log_snr))
        )
        t = t.expand(len(x))
        alpha, sigma = (per_sample(k, x) for k in (self.sde.alpha(t), self.sde.sigma(t)))
        x_t = x * (alpha**2 * self.d**2 + sigma**2).sqrt()
        mean = self.posterior(x_t, t).mean
        if self.param == "x0":
            return mean
        norm = torch.hypot(alpha, sigma)
        noise_free = sigma == 0
        safe = torch.where(noise_free, 1.0, sigma)
        eps = torch.where(noise_free, 0.0, (x_t - alpha * mean) / safe)
        if self.param == "eps":
            return eps
        if self.param == "score":
            with torch.enable_grad():
                y = x_t.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(
                    self.posterior.log_prob(y, t.clamp(min=1e-9)).sum(), y
                )
            return sigma * gradient
        if self.param == "v":
            silent = norm == 0  # the pinned end, where cos = 0 and sin = 1
            cos, sin = (
                torch.where(silent, end, k / torch.where(silent, 1.0, norm))
                for end, k in ((0.0, alpha), (1.0, sigma))
            )
            return cos * eps - sin * mean
        ratio2 = sigma**2 / alpha**2  # edm: Karras et al. 2022, table 1, on x_t / alpha
        skip, out = (
            self.d**2 / (ratio2 + self.d**2),
            (ratio2 / (ratio2 + self.d**2)).sqrt() * self.d,
        )
        value = (mean - skip * x_t / alpha) / torch.where(noise_free, 1.0, out)
        return torch.where(alpha == 0, mean / self.d, torch.where(noise_free, 0.0, value))


def grid(sde):
    return sde.T * torch.tensor([0.0, 1e-3, 0.05, 0.3, 0.7, 0.98, 1.0], dtype=DOUBLE)


def noised(target, sde, t, n=64):
    x = target.sample(n, seed=3, dtype=DOUBLE)
    return sde.marginal(x, t).draw(orn.Noise(5).normal(x.shape, DOUBLE))


@pytest.mark.parametrize(("process", "param"), DEFINED)
def test_ideal_net_gives_the_exact_posterior_mean(process, param):
    """To 1e-6 of its size at every time, both ends included; data std 0.7, which is not that of the
    data."""
    sde, target = PROCESSES[process], mixture()
    denoiser = orn.Denoiser(Ideal(target, sde, param, 0.7), sde, PARAMETRISATIONS[param], 0.7, (2,))
    for t in grid(sde):
        x_t = noised(target, sde, t)
        torch.testing.assert_close(
            denoiser(x_t, t).mean, target.posterior(sde)(x_t, t).mean, rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize(("process", "param"), DEFINED)
def test_times_per_sample_equal_scalar_times(process, param):
    sde, target = PROCESSES[process], mixture()
    denoiser = orn.Denoiser(Ideal(target, sde, param, 0.7), sde, PARAMETRISATIONS[param], 0.7, (2,))
    times = grid(sde)
    x = torch.cat([noised(target, sde, t, 1) for t in times])
    together = denoiser(x, times)
    for i, t in enumerate(times):
        alone = denoiser(x[i : i + 1], t)
        torch.testing.assert_close(together.mean[i : i + 1], alone.mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            together.std[i], alone.std.expand(1, 1)[0], rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("process", SILENT)
@pytest.mark.parametrize("param", ["eps", "score"])
def test_eps_and_score_are_refused_without_terminal_signal(process, param):
    with pytest.raises(OrnsteinError, match=rf"param={param} with {process}.*parametrisations\.v"):
        orn.Denoiser(nn.Identity(), PROCESSES[process], PARAMETRISATIONS[param])


@pytest.mark.parametrize("process", PROCESSES)
def test_edm_with_a_zero_net_is_the_posterior_of_a_centred_gaussian(process):
    """Mean and standard deviation of ``x_0 | x_t`` for data N(0, d^2), by Bayes' rule."""
    sde, d = PROCESSES[process], 1.7
    denoiser = orn.Denoiser(orn.MLP(2, 8, 1).double(), sde, orn.parametrisations.edm, d, (2,))
    exact = orn.targets.GaussianMixture(
        torch.zeros(1, 2), torch.full((1, 2), d), torch.ones(1)
    ).posterior(sde)
    for t in grid(sde):
        x_t = noised(mixture(), sde, t)
        law, truth = denoiser(x_t, t), exact(x_t, t)
        torch.testing.assert_close(law.mean, truth.mean, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(law.std.expand_as(x_t), truth.std, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("process", PROCESSES)
def test_network_input_has_unit_variance(process):
    """For data of standard deviation d the input's is 1 at every time but a pinned end, where x is
    0."""
    sde, d, seen = PROCESSES[process], 2.5, []

    class Spy(nn.Module):
        def forward(self, x, c, cond=None):
            seen.append(x)
            return torch.zeros_like(x)

    denoiser = orn.Denoiser(Spy(), sde, orn.parametrisations.v, d, (1,))
    for t in grid(sde)[:-1]:
        size = torch.hypot(sde.alpha(t) * d, sde.sigma(t)).reshape(
            1, 1
        )  # a point one standard deviation out
        denoiser(size, t)
        torch.testing.assert_close(seen[-1], torch.ones(1, 1, dtype=DOUBLE))


@pytest.mark.parametrize("param", PARAMETRISATIONS)
def test_networks_in_float32_stay_finite_and_keep_the_data_at_time_zero(param):
    """At t = 0 the posterior is the point itself; with x0 the network must say so, all others
    cannot fail."""
    sde = orn.VP() if param in ("eps", "score") else orn.Cosine()
    denoiser = orn.Denoiser(orn.MLP(3, 16, 1), sde, PARAMETRISATIONS[param], 0.5, (3,))
    x = orn.Noise(0).normal((5, 3))
    for t in (0.0, sde.T):
        law = denoiser(x, t)
        assert (
            bool(torch.isfinite(law.mean).all())
            and law.mean.dtype == torch.float32 == law.std.dtype
        )
    if param != "x0":
        torch.testing.assert_close(denoiser(x, 0.0).mean, x)


def test_bad_arguments_are_refused():
    with pytest.raises(OrnsteinError, match="data_std=0"):
        orn.Denoiser(orn.MLP(2, 8, 1), orn.VP(), data_std=0.0)
    with pytest.raises(UnknownNameError, match="score"):
        parametrisation("scores")


def test_calibration_recovers_the_exact_posterior_std():
    """``sqrt(E Var(x_0 | x_t))`` of a 1-d mixture at seven knots against quadrature, within 4
    standard errors; n = 20000, seed 0."""
    sde, n = orn.VP(), 20000
    target = orn.targets.GaussianMixture(
        torch.tensor([[-1.0], [1.5]]), torch.tensor([[0.3], [0.6]]), torch.tensor([0.4, 0.6])
    )  # fmt: skip
    exact = target.posterior(sde)
    denoiser = orn.Denoiser(
        Ideal(target, sde, "edm", 1.0), sde, orn.parametrisations.edm, 1.0, (1,)
    )
    x0 = target.sample(n, seed=0, dtype=DOUBLE)
    orn.calibrate(denoiser, x0, orn.Noise(0))
    assert denoiser.std_table.shape == (len(LOG_SNR_KNOTS), 1)
    line = torch.linspace(-9, 9, 4001, dtype=DOUBLE)[:, None]
    for k in (6, 14, 20, 26, 32, 38, 46):
        t = sde.time(LOG_SNR_KNOTS[k])
        density = exact.log_prob(line, t).exp()
        law = exact(line, t)
        variance = float((density * law.std[:, 0] ** 2).sum() / density.sum())
        x_t = sde.marginal(x0, t).draw(orn.Noise(11).fold(k).normal(x0.shape, DOUBLE))
        spread = float((exact(x_t, t).mean - x0).square().std()) / math.sqrt(n)
        assert abs(float(denoiser(x_t[:1], t).std) ** 2 - variance) < 4 * spread


def test_std_table_interpolates_in_log_snr_and_is_flat_outside():
    """The tabulated ratio is linear between knots, constant beyond them, and multiplies the
    Gaussian's std element by element."""
    sde = orn.VP(0.01, 30.0)
    denoiser = orn.Denoiser(orn.MLP(2, 8, 1).double(), sde, orn.parametrisations.edm, 1.0, (2,))
    base = denoiser(torch.zeros(1, 2, dtype=DOUBLE), sde.time(torch.tensor(0.125))).std
    denoiser.std_table = (LOG_SNR_KNOTS.double()[:, None] / 10 + 2) * torch.tensor(
        [1.0, 3.0], dtype=DOUBLE
    )
    x = torch.zeros(1, 2, dtype=DOUBLE)
    std = denoiser(x, sde.time(torch.tensor(0.125))).std
    torch.testing.assert_close(std / base, torch.tensor([2.0125, 6.0375], dtype=DOUBLE))
    t = torch.tensor([float(sde.time(torch.tensor(v))) for v in (0.125, -14.0)], dtype=DOUBLE)
    both = denoiser(x.expand(2, 2), t).std
    torch.testing.assert_close(both[0], std)
    sin = (1 + sde.log_snr(t[1]).exp()).rsqrt()
    torch.testing.assert_close(both[1] / sin, torch.tensor([0.8, 2.4], dtype=DOUBLE))


@pytest.mark.parametrize("state", [torch.float32, DOUBLE], ids=["float32", "float64"])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("net", ["MLP", "UNet"])
@pytest.mark.usefixtures("seeded_weights")
def test_state_and_weights_may_have_different_dtypes(net, weights, state):
    """20 steps of the ODE from the same noise: as far from the float64 network's end as rounding of
    2^-24 or 2^-8 explains."""
    event = (3,) if net == "MLP" else (1, 8, 8)
    made = orn.MLP(event, 32, 2) if net == "MLP" else orn.UNet(1, 32, (1, 2), 1, attention=())
    with torch.no_grad():
        for k, parameter in enumerate(made.parameters()):  # a network that is not zero at the start
            if parameter.ndim > 1:
                parameter.copy_(orn.Noise(k).normal(parameter.shape) / parameter[0].numel() ** 0.5)
    x_T = orn.Noise(99).normal((16, *event), DOUBLE)
    exact = orn.sample(
        orn.Denoiser(
            copy.deepcopy(made).double(), orn.Cosine(), orn.parametrisations.edm, 0.5, event
        ),
        16,
        x_T=x_T,
    )
    found = orn.sample(
        orn.Denoiser(made.to(weights), orn.Cosine(), orn.parametrisations.edm, 0.5, event),
        16,
        x_T=x_T.to(state),
    )
    assert found.dtype == state
    allowed = 1e-4 if weights == torch.float32 else 0.1
    assert float((found.double() - exact).square().mean().sqrt()) < allowed * float(exact.std())
    if weights == torch.bfloat16:
        assert not torch.equal(found.double(), exact)
