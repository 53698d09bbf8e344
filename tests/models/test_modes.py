"""Gradient modes and default types of the caller: caches hold nothing that a mode made."""

import pytest
import torch

import ornstein as orn
from ornstein.errors import OrnsteinError

pytestmark = pytest.mark.usefixtures("seeded_weights")


def model(key):
    denoiser = orn.Denoiser(orn.MLP(2, 8, 1), orn.VP(0.1, 17.0 + key / 1000))
    return orn.DiffusionModel(denoiser, orn.codecs.Codec(torch.zeros(2), torch.ones(2)))


X = orn.Noise(0).normal((3, 2))
CALLS = {
    "sample": lambda m: m.sample(3, 4),
    "elbo": lambda m: m.elbo(X, 5),
    "log_likelihood": lambda m: m.log_likelihood(X, 1e-1),
    "tune": lambda m: m.tune(3, n=8, iterations=1),
}
METHODS = ["auto", "unipc", "deis", "sde-dpm++2m", "predictor-corrector", "heun", "euler"]


@pytest.mark.parametrize("first", CALLS)
def test_a_call_under_inference_mode_leaves_every_later_call_alone(first):
    own = model(sorted(CALLS).index(first))
    with torch.inference_mode():
        CALLS[first](own)
    for call in CALLS.values():
        call(own)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_flow_through_grids_that_inference_mode_has_seen(method):
    own = model(100 + METHODS.index(method))
    with torch.inference_mode():
        orn.sample(own.denoiser, 3, 4, method)
    x_T = orn.Noise(1).normal((3, 2)).requires_grad_()
    orn.sample(own.denoiser, 3, 4, method, x_T=x_T).sum().backward()
    assert bool((x_T.grad != 0).all())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_fit_and_train_work_in_any_gradient_mode(mode):
    """The same weights as outside it."""
    x = orn.Noise(2).normal((60, 2))
    labels = torch.arange(60) % 2
    outside = orn.fit(x, labels=labels, steps=3, progress=False)
    with mode():
        inside = orn.fit(x.clone(), labels=labels.clone(), steps=3, progress=False)
    assert torch.equal(inside.sample(3, 4, label=1), outside.sample(3, 4, label=1))
    with mode():
        orn.train(inside, orn.DenoisingObjective(x, 8), orn.TrainingConfig(steps=1))


def test_a_network_made_under_inference_mode_cannot_be_trained():
    with torch.inference_mode():
        own = model(200)
    with pytest.raises(OrnsteinError, match="inference_mode"):
        orn.train(own, orn.DenoisingObjective(X, 8), orn.TrainingConfig(steps=1))


def test_fit_works_with_another_default_type():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        own = orn.fit(X.repeat(5, 1) + 0.0, steps=3, progress=False)
        assert own.sample(3, 4).shape == (3, 2)
    finally:
        torch.set_default_dtype(before)
