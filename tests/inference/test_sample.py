"""`orn.sample` and `DiffusionModel.sample`: the laws, bit-equality whatever the batch, what is
honoured and what refused."""

import pytest
import torch
from inference_problems import mixture, random_model

import ornstein as orn
from ornstein.errors import OrnsteinError, UnknownNameError

pytestmark = pytest.mark.usefixtures("seeded_weights")

DOUBLE = torch.float64
METHODS = ["auto", "multistep", "ancestral", "ddim", "heun", "euler", "predictor-corrector"]


@pytest.mark.parametrize("method", METHODS)
def test_every_named_method_draws_from_the_exact_posterior(method):
    """Means and second moments of a mixture within 4 standard errors, n = 2000, seed 0; enough
    steps to keep the bias below that."""
    target, n = mixture(), 2000
    steps = {"heun": 40, "euler": 250, "ddim": 250, "ancestral": 150}.get(method, 80)
    x = orn.sample(target.posterior(orn.VP()), n, steps, method).double()
    second = (target.weights[:, None] * (target.stds**2 + target.means**2)).sum(0)
    assert bool(((x.mean(0) - target.mean).abs() < 4 * x.std(0) / n**0.5).all())
    assert bool(((x.square().mean(0) - second).abs() < 4 * x.square().std(0) / n**0.5).all())
    value, stderr = orn.metrics.sliced_w2(x.float(), target.sample(n, seed=1))
    assert value < 4 * stderr + 0.05


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_is_the_same_to_the_bit_in_batches_of_1_7_and_64(method):
    posterior = mixture().posterior(orn.VP())
    x = orn.sample(posterior, 64, 8, method, seed=3)
    assert torch.equal(orn.sample(posterior, 7, 8, method, seed=3), x[:7])
    assert torch.equal(orn.sample(posterior, 1, 8, method, seed=3), x[:1])
    alone = torch.cat([orn.sample(posterior, 1, 8, method, orn.Noise(3).shift(i)) for i in (5, 40)])
    assert torch.equal(alone, x[[5, 40]])
    assert not torch.equal(orn.sample(posterior, 7, 8, method, seed=4), x[:7])


@pytest.mark.parametrize("method", ["multistep", "ancestral"])
def test_batches_of_a_model_do_not_change_its_samples(method):
    """Matrix products of another size may round differently: equal to 1e-5 for networks."""
    model = random_model()
    whole = model.sample(70, 8, method)
    for batch in (1, 7, 64):
        torch.testing.assert_close(
            model.sample(70, 8, method, batch=batch), whole, rtol=1e-5, atol=1e-5
        )


def test_labels_per_sample_follow_their_samples_through_batches():
    model = random_model(labels=3)
    label = torch.arange(20) % 3
    whole = model.sample(20, 6, label=label)
    torch.testing.assert_close(
        model.sample(20, 6, label=label, batch=7), whole, rtol=1e-5, atol=1e-5
    )
    for k in range(3):
        torch.testing.assert_close(
            model.sample(20, 6, label=k)[k::3], whole[k::3], rtol=1e-5, atol=1e-5
        )


def test_model_samples_are_decoded_draws_of_its_posterior():
    model = random_model()
    z = orn.sample(model.denoiser, 9, 6, seed=2)
    torch.testing.assert_close(
        model.sample(9, 6, seed=2), z * torch.tensor([2.0, 0.5]) + torch.tensor([5.0, -2.0])
    )


def test_start_is_honoured_and_gradients_reach_it():
    """On Gaussian data the flow is linear: ``dx_0 / dx_T = s / sqrt(alpha^2 s^2 + sigma^2)``, by
    autodiff through the solver."""
    sde, s = orn.VP(0.1, 8.0), 0.6
    posterior = orn.targets.Normal(
        torch.zeros(1, dtype=DOUBLE), torch.full((1,), s, dtype=DOUBLE)
    ).posterior(sde)
    x_T = torch.tensor([[0.7], [-1.3]], dtype=DOUBLE, requires_grad=True)
    x = orn.sample(posterior, 2, 300, x_T=x_T)
    factor = s / (sde.alpha(1.0) ** 2 * s**2 + sde.sigma(1.0) ** 2).sqrt()
    torch.testing.assert_close(x.detach(), factor * x_T.detach(), rtol=4e-4, atol=0)
    (gradient,) = torch.autograd.grad(x.sum(), x_T)
    torch.testing.assert_close(gradient, factor.expand(2, 1), rtol=4e-4, atol=0)
    assert not orn.sample(posterior, 2, 3, x_T=x_T.detach()).requires_grad


def test_default_start_is_the_law_of_the_end_of_the_process():
    """``N(0, alpha_T^2 d^2 + sigma_T^2)`` with the denoiser's d: variance within 4 standard errors,
    n = 20000."""
    sde, d = orn.VP(0.1, 1.0), 3.0
    watch = orn.Trajectory()
    orn.sample(
        orn.Denoiser(orn.MLP(1, 8, 1), sde, orn.parametrisations.edm, d, (1,)),
        20000,
        1,
        watch=[watch],
    )
    var = float(sde.alpha(1.0) ** 2 * d**2 + sde.sigma(1.0) ** 2)
    assert abs(float(watch.states[0].var()) - var) < 4 * var * (2 / 20000) ** 0.5


def test_steps_eta_and_spacing_are_what_was_asked_for():
    posterior, watch = mixture().posterior(orn.VP()), orn.Trajectory()
    noise = orn.Noise(0)
    ours = orn.sample(
        posterior, 4, 7, orn.Ancestral(), eta=0.5, spacing=orn.spacing.quadratic, watch=[watch]
    )
    x_T = watch.states[0]
    times = orn.VP().times(7, orn.spacing.quadratic)
    assert torch.equal(
        orn.simulate(orn.Reverse(posterior, 0.5), x_T, times, orn.Ancestral(), noise), ours
    )
    assert torch.equal(torch.stack(watch.times), times)
    with_object = orn.sample(posterior, 4, 7, orn.Sampler(orn.Heun(), 0.0))
    assert torch.equal(with_object, orn.sample(posterior, 4, 7, "heun"))
    assert torch.equal(
        orn.sample(posterior, 4, 7, orn.Ancestral()), orn.sample(posterior, 4, 7, "ancestral")
    )


class Shapeless:
    """A posterior that does not know its event shape."""

    sde = orn.VP()

    def __call__(self, x, t):
        return orn.Gaussian(x, torch.ones(()))


def test_what_cannot_be_drawn_is_refused_with_the_reason():
    posterior, model = mixture().posterior(orn.VP()), random_model(labels=3)
    with pytest.raises(UnknownNameError, match="Did you mean 'ancestral'"):
        orn.sample(posterior, 4, method="ancestrl")
    with pytest.raises(OrnsteinError, match=r"x_T holds 3 states for n=4"):
        orn.sample(posterior, 4, x_T=torch.zeros(3, 2))
    with pytest.raises(OrnsteinError, match="n=0"):
        orn.sample(posterior, 0)
    with pytest.raises(OrnsteinError, match="n=0"):
        model.sample(0)
    with pytest.raises(OrnsteinError, match="steps=0"):
        orn.sample(posterior, 4, steps=0)
    with pytest.raises(OrnsteinError, match="event shape"):
        orn.sample(Shapeless(), 4)
    with pytest.raises(OrnsteinError, match="labels are 0 to 2"):
        model.sample(4, label=3)
    with pytest.raises(OrnsteinError, match="labels are 0 to 2"):
        model.sample(4, label=-1)
    with pytest.raises(OrnsteinError, match="2 classes for"):
        model.sample(4, label=[0, 1])
    with pytest.raises(OrnsteinError, match=r"guidance=2.*label"):
        model.sample(4, guidance=2.0)
    with pytest.raises(OrnsteinError, match="trained without"):
        random_model().sample(4, label=0)


def test_a_label_that_is_no_whole_number_is_refused():
    """Nothing is silently rounded."""
    with pytest.raises(OrnsteinError, match="label"):
        random_model(labels=3).sample(4, label=torch.tensor(1.5))
