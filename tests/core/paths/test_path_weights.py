"""Path weights: ``E[w] = Z`` for any control, constant at the exact one, bounds on both sides,
losses with their gradients."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import ornstein as orn
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import LinearSDE
from ornstein.errors import OrnsteinError

pytestmark = pytest.mark.usefixtures("seeded_weights")

DOUBLE = torch.float64
PROCESSES = {"VP": orn.VP(), "OU": orn.OU(), "Bridge": orn.Bridge(1.2)}
LONG = {
    "VP": orn.VP(),
    "OU": orn.OU(T=5.0),
    "Bridge": orn.Bridge(1.2),
}  # all that end (nearly) without signal


def mixture(d, spread=1.0, std=0.6):
    """Two components along the first axis, centred."""
    means = torch.zeros(2, d)
    means[0, 0], means[1, 0] = -1.5 * spread, 1.0 * spread
    return orn.targets.GaussianMixture(means, torch.full((2, d), std), torch.tensor([0.4, 0.6]))


def untrained(d, sde, std):
    """A denoiser whose network has random weights of the given size; 0 is the zero network."""
    net, generator = (
        orn.MLP(d, width=16, depth=1).requires_grad_(False),
        torch.Generator().manual_seed(1),
    )
    for parameter in net.parameters():
        parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
    return orn.Denoiser(net, sde, orn.parametrisations.edm, 1.0, (d,))


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("d", [1, 10])
@pytest.mark.parametrize("size", [0.0, 0.2])
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_mean_weight_is_z_for_an_untrained_control(process, d, size, steps):
    """Z = e^2; within 4 standard errors, n = 20000, seed 0; the effective size shows that the error
    can be trusted."""
    sde, target = PROCESSES[process], mixture(d, 0.4, 0.8)
    log_w = orn.log_weights(
        untrained(d, sde, size),
        lambda x: target.log_prob(x) + 2,
        sde.times(steps),
        20000,
        orn.Noise(0),
    )
    w = (log_w.double() - 2).exp()
    assert float(w.sum() ** 2 / w.square().sum()) > 0.05 * len(w)
    assert abs(float(w.mean()) - 1) < 4 * float(w.std()) / len(w) ** 0.5


@pytest.mark.parametrize("process", LONG)
@pytest.mark.parametrize("d", [1, 10])
def test_spread_of_log_w_falls_like_one_over_steps_at_the_exact_posterior(process, d):
    """Slope of log sd against log steps at most -0.9 over 8, 16, 32, 64; n = 4000, seed 0."""
    sde, target = LONG[process], mixture(d)
    posterior, var = target.posterior(sde), float(target.std.square().mean())
    steps = torch.tensor([8.0, 16.0, 32.0, 64.0], dtype=DOUBLE)
    spread = [
        float(
            orn.log_weights(
                posterior, target.log_prob, sde.times(int(k)), 4000, orn.Noise(0), var
            ).std()
        )
        for k in steps
    ]
    x, y = steps.log() - steps.log().mean(), torch.tensor(spread, dtype=DOUBLE).log()
    assert float((x * y).sum() / x.square().sum()) <= -0.9
    assert spread[-1] < 0.05


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("steps", [1, 5])
def test_weights_are_constant_at_the_exact_gaussian_control(process, steps):
    """``log w = log Z`` on every path, for any grid, to float32 rounding; the log-variance is 0."""
    sde, s = PROCESSES[process], 1.7
    target = orn.targets.Normal(torch.zeros(3), torch.full((3,), s))
    denoiser = orn.Denoiser(
        orn.MLP(3, 8, 1), sde, orn.parametrisations.edm, s, (3,)
    ).requires_grad_(False)
    for posterior in (target.posterior(sde), denoiser):
        times = sde.times(steps)
        log_w = orn.log_weights(
            posterior, lambda x: target.log_prob(x) + 0.75, times, 200, orn.Noise(1), var=s**2
        )
        torch.testing.assert_close(log_w, torch.full((200,), 0.75), rtol=0, atol=2e-4)
        assert float(orn.paths.log_variance(log_w).mean()) < 1e-8


def reversed_log_w(posterior, target, times, n, noise, var):
    """The log-weights of paths noised from exact samples of the target: the other direction,
    through other code."""
    sde = posterior.sde
    watch = orn.LogWeight(lambda x_t, t, s: sde.posterior(x_t, posterior(x_t, t), s, t))
    x_0 = target.sample(n, seed=9)
    x_T = orn.simulate(sde, x_0, times.flip(0), orn.methods.ForwardTransition(), noise, [watch])
    return target.log_prob(x_0) - sde.prior(x_T.shape, var).log_prob(x_T) - watch.value


@pytest.mark.parametrize("process", ["VP", "OU"])
@pytest.mark.parametrize("size", [None, 0.2])
def test_log_z_lies_between_elbo_and_eubo(process, size):
    """``E_F log w <= log Z <= E_B log w`` and ``E_B 1/w = 1/Z``: 4 standard errors, n = 10000; None
    is the exact posterior, whose bounds are closer to each other than their standard errors."""
    sde, target = PROCESSES[process], mixture(2, 0.4, 0.8)
    posterior = target.posterior(sde) if size is None else untrained(2, sde, size)
    var, times = float(target.std.square().mean()), sde.times(6)
    down = orn.log_weights(posterior, target.log_prob, times, 10000, orn.Noise(0), var).double()
    up = reversed_log_w(posterior, target, times, 10000, orn.Noise(1), var).double()
    assert float(down.mean()) < 4 * float(down.std()) / 100
    assert float(up.mean()) > -4 * float(up.std()) / 100
    assert (
        float(down.mean()) < float(up.mean()) + 4 * float(torch.hypot(down.std(), up.std())) / 100
    )
    inverse = (-up).exp()
    assert abs(float(inverse.mean()) - 1) < 4 * float(inverse.std()) / 100


@dataclass(frozen=True)
class Shifted:
    """The exact posterior of N(0, 1) with its mean off by theta: the path divergence is ``theta^2
    sum_k c_k^2 / (2 var_k)``."""

    sde: LinearSDE
    theta: Tensor
    event_shape = (1,)

    def __call__(self, x, t):
        a, s, k = self.sde.polar(t)
        return Gaussian(
            a * k * x.to(self.theta.dtype) + self.theta, s * torch.ones((), dtype=self.theta.dtype)
        )


def curvature(sde, times):
    """``sum_k c_k^2 / var_k``: the weight of x_0 in each step and the step's variance, by Bayes'
    rule for Gaussians."""
    total = 0.0
    for t, s in pairwise(times.tolist()):
        (a_t, s_t), (a_s, s_s) = ((float(sde.alpha(u)), float(sde.sigma(u))) for u in (t, s))
        ratio = a_t / a_s
        var_new = s_t**2 - ratio**2 * s_s**2  # of x_t given x_s
        var_q = s_s**2 * var_new / s_t**2  # of x_s given x_t and x_0
        c = a_s * var_new / s_t**2
        std0 = s_t / math.hypot(a_t, s_t)
        total += c**2 / (var_q + c**2 * std0**2)
    return total


def gradients(loss, through_path, theta=0.3, batches=64, size=256, sde=PROCESSES["VP"], steps=4):
    """Gradients of the mean loss in theta, one per batch of fresh paths."""
    target, out = orn.targets.Normal(torch.zeros(1), torch.ones(1)), []
    for seed in range(batches):
        parameter = torch.tensor(theta, requires_grad=True)
        log_w = orn.log_weights(
            Shifted(sde, parameter),
            target.log_prob,
            sde.times(steps),
            size,
            orn.Noise(seed),
            through_path=through_path,
        )
        loss(log_w).mean().backward()
        out.append(float(parameter.grad))
    return torch.tensor(out, dtype=DOUBLE)


def test_reverse_kl_and_its_gradient_are_those_of_the_path_divergence():
    """``KL = theta^2 A / 2``, ``dKL/dtheta = theta A``, within 4 standard errors over 64 batches of
    256, seeds 0-63."""
    sde, theta = PROCESSES["VP"], 0.3
    a = curvature(sde, sde.times(4))
    target = orn.targets.Normal(torch.zeros(1), torch.ones(1))
    losses = orn.paths.reverse_kl(
        orn.log_weights(
            Shifted(sde, torch.tensor(theta)), target.log_prob, sde.times(4), 20000, orn.Noise(1)
        )
    ).double()
    assert abs(float(losses.mean()) - theta**2 * a / 2) < 4 * float(losses.std()) / 20000**0.5
    g = gradients(orn.paths.reverse_kl, True)
    assert abs(float(g.mean()) - theta * a) < 4 * float(g.std()) / 8


@pytest.mark.parametrize("name", ["log-variance", "trajectory balance"])
def test_off_path_losses_have_twice_the_gradient_of_the_reverse_kl(name):
    """Richter et al. 2020, proposition 4.3: at the sampling control, whatever the baseline; 4
    standard errors, seeds 0-63."""
    sde, theta = PROCESSES["VP"], 0.3
    losses = {
        "log-variance": orn.paths.log_variance,
        "trajectory balance": lambda w: orn.paths.trajectory_balance(w, torch.tensor(0.4)),
    }
    g = gradients(losses[name], False)
    assert abs(float(g.mean()) - 2 * theta * curvature(sde, sde.times(4))) < 4 * float(g.std()) / 8


def test_off_path_weights_pass_no_gradient_through_the_states():
    """Then ``d log w = -d log F``: of mean zero, where along the path it is ``-theta A``."""
    mean = gradients(lambda w: w, False)
    assert abs(float(mean.mean())) < 4 * float(mean.std()) / 8


def test_gradient_of_the_reverse_kl_is_its_finite_difference():
    """With the same numbers the loss is a smooth function of the weights; float64 network, central
    differences."""
    sde = PROCESSES["OU"]
    target = mixture(1, 0.4, 0.8)
    theta = torch.tensor(0.2, dtype=DOUBLE, requires_grad=True)

    def loss(value):
        return orn.paths.reverse_kl(
            orn.log_weights(Shifted(sde, value), target.log_prob, sde.times(5), 64, orn.Noise(3))
        ).mean()

    (gradient,) = torch.autograd.grad(loss(theta), theta)
    h = 1e-5
    difference = (loss(theta.detach() + h) - loss(theta.detach() - h)) / (2 * h)
    assert float(gradient) == pytest.approx(float(difference), rel=1e-5)


def test_losses_are_their_formulas():
    log_w = torch.tensor([1.0, 3.0, -2.0, 0.5], dtype=DOUBLE)
    assert float(orn.paths.log_variance(log_w).mean()) == pytest.approx(
        float(log_w.var()), abs=1e-12
    )
    torch.testing.assert_close(orn.paths.reverse_kl(log_w), -log_w)
    z = torch.tensor(0.5, requires_grad=True)
    loss = orn.paths.trajectory_balance(log_w, z)
    torch.testing.assert_close(loss, torch.tensor([0.25, 6.25, 6.25, 0.0], dtype=DOUBLE))
    loss.mean().backward()
    assert float(z.grad) == pytest.approx(-2 * float((log_w - 0.5).mean()), abs=1e-6)


def test_paths_are_the_same_in_any_split():
    """Path i depends on the seed and i; evaluations count one per step."""
    sde = PROCESSES["VP"]
    target = mixture(2)
    posterior = target.posterior(sde)
    paths = orn.paths.denoising_paths(posterior, target.log_prob, sde.times(5))
    whole, part = paths.draw(50, orn.Noise(2)), paths.draw(20, orn.Noise(2).shift(30))
    assert (
        torch.equal(whole.x[30:], part.x)
        and torch.equal(whole.log_w[30:], part.log_w)
        and whole.cost == 5
    )


def test_a_posterior_without_event_shape_is_refused():
    with pytest.raises(OrnsteinError, match="event_shape"):
        denoiser = orn.Denoiser(torch.nn.Identity(), orn.VP(), orn.parametrisations.edm)
        orn.log_weights(denoiser, lambda x: x[:, 0], orn.VP().times(2), 4, orn.Noise(0))


# ------------------------------------------------------------------------------------------------
# log Z from weights


def test_log_z_is_the_log_of_the_mean_with_its_delta_error():
    w = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=DOUBLE)
    for shift in (0.0, 900.0, -900.0):
        z = orn.log_z(w.log() + shift)
        se = float(w.std()) / 2 / 3
        assert z.value == pytest.approx(math.log(3) + shift) and z.stderr == pytest.approx(se)
        assert z.interval[1] == pytest.approx(math.log(3) + shift + math.log1p(1.96 * se))
        assert z.interval[0] == pytest.approx(math.log(3) + shift + math.log1p(-1.96 * se))
        assert z.elbo == pytest.approx(float(w.log().mean()) + shift) and z.ess == pytest.approx(
            144 / 50
        )


def test_log_z_interval_covers_at_its_level():
    """Log-normal weights, sd of log w 0.5, n = 500: 2000 intervals cover ``s^2 / 2`` in 95 % within
    4 standard errors."""
    log_w = 0.5 * orn.Noise(0).normal((2000, 500), DOUBLE)
    covered = 0
    for row in log_w:
        low, high = orn.log_z(row).interval
        covered += low <= 0.125 <= high
    assert abs(covered / 2000 - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5


def test_log_z_takes_zero_weights_and_an_interval_open_below():
    z = orn.log_z(torch.tensor([-torch.inf, -torch.inf, 0.0, -torch.inf]))
    assert (
        z.value == pytest.approx(math.log(0.25))
        and z.interval[0] == -math.inf
        and z.ess == pytest.approx(1)
    )


@pytest.mark.parametrize("bad", [[0.0, math.nan], [0.0, math.inf], [-math.inf, -math.inf]])
def test_log_z_refuses_weights_that_are_none(bad):
    with pytest.raises(OrnsteinError, match="check the log-density"):
        orn.log_z(torch.tensor(bad))


def test_one_weight_has_no_standard_error():
    """Neither an interval nor a variance can be had from one path, or none: an error, not NaN."""
    with pytest.raises(OrnsteinError):
        orn.log_z(torch.zeros(1))
    with pytest.raises(OrnsteinError):
        orn.paths.log_variance(torch.zeros(1))
