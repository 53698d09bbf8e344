"""Guidance: its fixed points, and the guided flow of two Gaussians in closed form."""

import pytest
import torch
from torch import nn

import ornstein as orn
from ornstein.errors import OrnsteinError

pytestmark = pytest.mark.usefixtures("seeded_weights")

DOUBLE = torch.float64


def normal(mean, std, sde):
    return orn.targets.Normal(
        torch.tensor([mean], dtype=DOUBLE), torch.tensor([std], dtype=DOUBLE)
    ).posterior(sde)


def test_scale_one_is_the_strong_posterior_and_zero_the_weak():
    sde = orn.VP()
    strong, weak = normal(1.0, 0.5, sde), normal(-0.3, 1.2, sde)
    x, t = orn.Noise(0).normal((9, 1), DOUBLE), 0.37
    torch.testing.assert_close(
        orn.guide(strong, weak, 1.0)(x, t).mean, strong(x, t).mean, rtol=1e-14, atol=1e-14
    )
    torch.testing.assert_close(
        orn.guide(strong, weak, 0.0)(x, t).mean, weak(x, t).mean, rtol=0, atol=0
    )
    assert torch.equal(orn.guide(strong, weak, 3.0)(x, t).std, strong(x, t).std)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_guided_flow_of_two_gaussians_of_one_width(scale):
    """The guided score is that of a Gaussian at ``m_0 + w (m_1 - m_0)``: the flow map is affine,
    known exactly."""
    sde, m1, m0, s = orn.VP(0.1, 8.0), 1.2, -0.4, 0.6
    guided = orn.guide(normal(m1, s, sde), normal(m0, s, sde), scale)
    x_T = orn.Noise(1).normal((32, 1), DOUBLE)
    x = orn.sample(guided, 32, steps=400, method="multistep", x_T=x_T)
    centre, (alpha, sigma) = m0 + scale * (m1 - m0), (sde.alpha(1.0), sde.sigma(1.0))
    exact = centre + s * (x_T - alpha * centre) / (alpha**2 * s**2 + sigma**2).sqrt()
    torch.testing.assert_close(x, exact, rtol=0, atol=2e-4)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_guided_flow_of_two_gaussians_of_two_widths(scale):
    """With ``dx = t x [(1 - w) / (s_0^2 + t^2) + w / (s_1^2 + t^2)] dt`` the map is a product of
    powers of the variances."""
    sde, s1, s0 = orn.EDM(10.0), 0.5, 1.5
    guided = orn.guide(normal(0.0, s1, sde), normal(0.0, s0, sde), scale)
    x_T = 10 * orn.Noise(2).normal((16, 1), DOUBLE)
    x = orn.sample(guided, 16, steps=400, method="heun", x_T=x_T, spacing=orn.spacing.cosine)
    factor = (s0**2 / (s0**2 + 100)) ** ((1 - scale) / 2) * (s1**2 / (s1**2 + 100)) ** (scale / 2)
    torch.testing.assert_close(x, factor * x_T, rtol=1e-3, atol=1e-5)


def test_two_processes_are_refused():
    with pytest.raises(OrnsteinError, match=r"one process.*VP.*Cosine"):
        orn.guide(normal(0.0, 1.0, orn.VP()), normal(0.0, 1.0, orn.Cosine()), 2.0)


def trained_like(data_std=1.0, sde=None):
    """A conditional model with perturbed weights."""
    net = orn.MLP(2, 16, 1, labels=3)
    generator = torch.Generator().manual_seed(3)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3, generator=generator)
    denoiser = orn.Denoiser(
        net, sde or orn.Cosine(), orn.parametrisations.edm, data_std, (2,)
    ).requires_grad_(False)
    return orn.DiffusionModel(denoiser, orn.codecs.Codec(torch.zeros(2), torch.ones(2)))


def test_classifier_free_guidance_of_a_model():
    """Scale 1 samples are the conditional ones, scale 0 the unconditional ones, of one seed."""
    model = trained_like()
    conditional, free = model.sample(16, label=1), model.sample(16)
    torch.testing.assert_close(
        model.sample(16, label=1, guidance=1.0), conditional, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(model.sample(16, label=1, guidance=0.0), free, rtol=1e-5, atol=1e-5)
    assert float((conditional - free).abs().max()) > 0.1


def test_guidance_starts_where_its_model_starts():
    """The start law ``N(0, alpha_T^2 d^2 + sigma_T^2)`` is the model's also under guidance, d its
    data_std."""
    model = trained_like(data_std=3.0, sde=orn.VP(0.1, 1.0))
    watch = orn.Trajectory()
    orn.sample(model.posterior(1, 1.0), 8, watch=[watch])
    plain = orn.Trajectory()
    orn.sample(model.posterior(1), 8, watch=[plain])
    assert torch.equal(watch.states[0], plain.states[0])


def test_given_binds_conditions_and_checks_their_names():
    net, generator = (
        orn.MLP(2, 16, 1, labels=3).requires_grad_(False),
        torch.Generator().manual_seed(0),
    )
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    denoiser = orn.Denoiser(net, orn.VP(), orn.parametrisations.edm, 1.0, (2,))
    x, t = orn.Noise(1).normal((4, 2)), torch.tensor(0.4)
    label = torch.tensor([2, 2, 2, 2])
    torch.testing.assert_close(
        denoiser.given(label=2)(x, t).mean, denoiser(x, t, {"label": label}).mean
    )
    mixed = torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(
        denoiser.given(label=mixed)(x, t).mean, denoiser(x, t, {"label": mixed}).mean
    )
    assert not torch.allclose(denoiser.given(label=2)(x, t).mean, denoiser(x, t).mean)
    assert denoiser.given(label=2).event_shape == (2,) and denoiser.given(label=2).sde == orn.VP()
    with pytest.raises(OrnsteinError, match=r"\['lable'\].*\['label'\]"):
        denoiser.given(lable=2)
    with pytest.raises(OrnsteinError, match="no conditions"):
        orn.Denoiser(orn.MLP(2, 8, 1), orn.VP()).given(label=0)


@pytest.mark.parametrize("label", [-1, 4, 99])
def test_given_refuses_a_label_that_the_network_has_not(label):
    """Classes are 0 .. 2, and 3 is the null class of training."""
    denoiser = orn.Denoiser(
        orn.MLP(2, 8, 1, labels=3), orn.VP(), orn.parametrisations.edm, 1.0, (2,)
    )
    with pytest.raises(OrnsteinError, match="label"):
        denoiser.given(label=label)(torch.zeros(2, 2), 0.5)
