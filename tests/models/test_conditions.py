"""Conditions: classes and vectors through network, loss, sampling, likelihood and run folder."""

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.errors import CheckpointError, DataError, OrnsteinError
from ornstein.inference import checkpoint
from ornstein.models.conditions import Conditions
from ornstein.models.denoiser import LOG_SNR_KNOTS
from ornstein.training.denoising import denoising_loss

pytestmark = pytest.mark.usefixtures("seeded_weights")

KINDS = {"label": orn.conditions.Label(3), "position": orn.conditions.Vector(2)}


def perturbed(net):
    """A network that is not zero at the start, so that conditions change its output."""
    with torch.no_grad():
        for k, parameter in enumerate(net.parameters()):
            parameter.add_(0.2 * orn.Noise(k).normal((*parameter.shape, 1))[..., 0])
    return net.requires_grad_(False).eval()


def conditional():
    """A model of points with a class and a position."""
    denoiser = orn.Denoiser(perturbed(orn.MLP(2, 16, 1, conditions=KINDS)), orn.Cosine())
    return orn.DiffusionModel(denoiser, orn.codecs.Codec(torch.zeros(2), torch.ones(2)))


NETS = {
    "MLP": (lambda: orn.MLP(2, 16, 1, conditions=KINDS), (2,)),
    "UNet": (lambda: orn.UNet(1, 8, (1, 2), 1, conditions=KINDS), (1, 5, 6)),
}


@pytest.mark.parametrize("name", NETS)
def test_a_condition_that_is_not_given_is_its_null_value_and_each_one_counts(name):
    make, event = NETS[name]
    net, x, c = perturbed(make()), orn.Noise(0).normal((3, *event)), torch.tensor([0.1, 0.5, 1.0])
    full = {"label": torch.tensor([0, 1, 2]), "position": orn.Noise(1).normal((3, 2))}
    null = {name: kind.null().expand(3, *kind.shape) for name, kind in KINDS.items()}
    assert torch.equal(net(x, c), net(x, c, null))
    for key in full:
        alone = net(x, c, {key: full[key]})
        assert torch.equal(alone, net(x, c, {**null, key: full[key]}))
        assert bool(((alone - net(x, c)).flatten(1).abs().amax(1) > 1e-4).all())
    again = type(net)(**net.config).eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x, c, full), net(x, c, full))


def test_values_are_checked_by_name_kind_and_number():
    for given, words in [
        ({"colour": 1}, r"\['colour'\].*\['label', 'position'\]"),
        ({"label": 3}, "0 to 2"),
        ({"label": 0.5}, "whole numbers"),
        ({"position": [1.0]}, "2 finite numbers"),
        ({"position": [math.nan, 0.0]}, "2 finite numbers"),
        ({"position": "here"}, "position=here"),
    ]:
        with pytest.raises(OrnsteinError, match=words):
            Conditions.of(KINDS, given)
    with pytest.raises(OrnsteinError, match="2 values for 3 samples"):
        Conditions.of(KINDS, {"position": torch.zeros(2, 2)}).rows(3)
    for wrong in (0, -1):
        with pytest.raises(OrnsteinError, match="at least 1"):
            orn.conditions.Label(wrong)
        with pytest.raises(OrnsteinError, match="at least 1"):
            orn.conditions.Vector(wrong)
    with pytest.raises(OrnsteinError, match="std positive"):
        orn.conditions.Vector(2, 0.0, (1.0, 0.0))


def test_one_dimensional_vectors_are_given_as_numbers():
    age = orn.conditions.Vector(1)
    assert age.collate(40).tolist() == [40.0] and age.collate([1.0, 2.0]).shape == (2, 1)


def test_vectors_are_standardised_by_the_training_data():
    """Mean and standard deviation of each entry; a constant entry keeps the scale 1."""
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    kind = orn.conditions.Vector.of(x)
    assert kind == orn.conditions.Vector(2, (2.0, 5.0), (math.sqrt(2), 1.0))


def test_each_condition_is_dropped_with_its_own_probability():
    """Within 4 standard errors over 40 batches of 250; independently of each other."""
    seen = []

    class Spy(torch.nn.Module):
        conditions = KINDS

        def forward(self, x, c, cond=None):
            seen.append((cond["label"] == 3, cond["position"].isnan().all(1)))
            return torch.zeros_like(x)

    denoiser = orn.Denoiser(Spy(), orn.Cosine())
    values = {"label": torch.arange(90) % 3, "position": torch.rand(90, 2)}
    objective = orn.DenoisingObjective(
        torch.zeros(90, 2), 250, drop_label=0.3, drop={"position": 0.1}, conditions=values
    )
    for k in range(40):
        objective(denoiser, k)
    label, position = (torch.cat(part).double() for part in zip(*seen, strict=True))
    for hidden, p in ((label, 0.3), (position, 0.1), (label * position, 0.03)):
        assert abs(float(hidden.mean()) - p) < 4 * (p * (1 - p) / 10000) ** 0.5


def test_rows_of_a_batch_keep_their_conditions():
    """The loss of a batch is that of its rows with their own conditions."""
    model = conditional()
    x, position = orn.Noise(2).normal((6, 2)), orn.Noise(3).normal((6, 2))
    objective = orn.DenoisingObjective(x, 4, drop_label=0.0, conditions={"position": position})
    index, t = objective.indices(0), None
    losses, log_snr = objective(model.denoiser, 0)
    t = model.denoiser.sde.time(log_snr.double())
    expected = denoising_loss(
        model.denoiser,
        x[index],
        t,
        orn.Noise(0).fold(0).fold(3),
        orn.training.edm_weight(1.0),
        {"position": position[index]},
    )
    torch.testing.assert_close(losses, expected.to(losses), rtol=1e-4, atol=1e-5)


def test_given_is_itself_a_model_and_keywords_are_the_same():
    model = conditional()
    x = orn.Noise(5).normal((4, 2))
    bound = model.given(label=1, position=[0.2, 0.4])
    both = {"label": 1, "position": [0.2, 0.4]}
    step = model.given(label=1)
    assert torch.equal(bound.sample(5, 4), model.sample(5, 4, conditions=both))
    assert torch.equal(
        bound.sample(5, 4), model.sample(5, 4, label=1, conditions={"position": [0.2, 0.4]})
    )
    assert torch.equal(bound.sample(5, 4), step.given(position=[0.2, 0.4]).sample(5, 4))
    assert torch.equal(bound.elbo(x, 4).value, model.elbo(x, 4, conditions=both).value)
    first, second = bound.log_likelihood(x, 1e-1), model.log_likelihood(x, 1e-1, conditions=both)
    assert torch.equal(first.value, second.value)
    assert not torch.allclose(bound.sample(5, 4), model.sample(5, 4))
    assert torch.equal(bound.sample(5, 4, label=2), model.given(**both).sample(5, 4, label=2))


def test_a_vector_per_sample_follows_its_sample_through_batches_and_likelihoods():
    model = conditional()
    position = orn.Noise(7).normal((5, 2))
    position[3] = position[1]
    whole = model.sample(5, 4, conditions={"position": position}, batch=2)
    for i in range(5):
        alone = model.sample(5, 4, conditions={"position": position[i]})[i]
        torch.testing.assert_close(whole[i], alone, rtol=1e-5, atol=1e-5)
    x = orn.Noise(8).normal((5, 2))
    found = model.log_likelihood(x, 1e-2, conditions={"position": position})
    for i in range(5):
        one = orn.log_likelihood(model.denoiser.given(position=position[i]), x[i : i + 1], 1e-2)
        assert abs(float(found.value[i] - one.value)) <= float(found.error[i] + one.error) + 0.02


def test_guidance_moves_away_from_the_model_with_null_conditions():
    model, x, t = conditional(), orn.Noise(9).normal((3, 2)), 0.4
    given = model.posterior(conditions={"position": [0.5, -1.0]})
    guided = model.posterior(conditions={"position": [0.5, -1.0]}, guidance=2.5)
    weak, strong = model.denoiser(x, t).mean, given(x, t).mean
    torch.testing.assert_close(guided(x, t).mean, weak + 2.5 * (strong - weak))
    with pytest.raises(OrnsteinError, match="guidance"):
        model.sample(2, 2, guidance=2.0)


def test_calibration_repeats_conditions_of_any_shape():
    """Three repeats of the samples with their vectors are one pass over the repeated rows."""
    x, position = orn.Noise(1).normal((10, 2)), orn.Noise(2).normal((10, 2))
    first = conditional().denoiser
    second = copy.deepcopy(first)
    orn.calibrate(first, x, orn.Noise(0), {"position": position}, repeats=3)
    orn.calibrate(second, x.repeat(3, 1), orn.Noise(0), {"position": position.repeat(3, 1)})
    assert torch.equal(first.std_table, second.std_table)


def test_calibration_in_batches_is_calibration_at_once():
    """Events so large that 20 samples are two batches: the table by its formula, all at once."""
    sde, x = orn.VP(), 0.5 * orn.Noise(1).normal((20, 20000))
    net = orn.models.ProductNetwork(20000)
    denoiser = orn.Denoiser(net, sde, orn.parametrisations.edm)
    orn.calibrate(denoiser, x, orn.Noise(0))
    table = denoiser.std_table
    denoiser.std_table = torch.zeros(0)
    for k in (0, 26, 52):
        t = sde.time(LOG_SNR_KNOTS[k])
        law = denoiser(sde.marginal(x, t).draw(orn.Noise(0).fold(k).normal(x.shape)), t)
        error = (law.mean - x).square().sum(0)
        variance = (error + error.mean() / 20) / 21
        expected = (variance.sqrt() / law.std.expand_as(x)[0]).clamp(min=1e-3)
        torch.testing.assert_close(table[k], expected, rtol=1e-4, atol=1e-6)


FRESH = """
import sys, numpy, torch, ornstein
torch.set_num_threads(1)
model = ornstein.load(sys.argv[1])
numpy.save(sys.argv[1] + "/x.npy", model.sample(9, 5, conditions={"position": [0.2, 0.4]}).numpy())
"""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A model of ``x = 4 y - 2 + 0.3 z`` in the plane given y, and its run folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    y = orn.Noise(0).uniform((3000, 2))
    x = 4 * y - 2 + 0.3 * orn.Noise(1).normal((3000, 2))
    recipe = orn.training.Recipe(
        0,
        lambda event, conditions: orn.MLP(event, 64, 2, conditions=conditions),
        orn.TrainingConfig(steps=400, rate=4e-3, warmup=20, ema=0.98),
        batch=256,
    )
    return orn.fit(x, recipe, folder, conditions={"position": y}, progress=False), folder


def test_samples_follow_a_vector(fitted):
    """At three positions the mean of 1000 samples is ``4 y - 2`` within 0.1 (a third of the noise;
    the standard error is 0.01, the rest is the network's), the spread 0.3 within 0.05."""
    model, _ = fitted
    for y in ([0.2, 0.4], [0.5, 0.5], [0.8, 0.1]):
        x = model.given(position=y).sample(1000, 16)
        truth = 4 * torch.tensor(y) - 2
        assert float((x.mean(0) - truth).abs().max()) < 0.1
        assert float((x.std(0) - 0.3).abs().max()) < 0.05


def test_the_likelihood_is_that_of_the_vector(fitted):
    """The mean log-density of 20 points given their own vector is that of N(4 y - 2, 0.3^2) within
    0.15 nats, and far below for another vector."""
    model, _ = fitted
    truth = torch.distributions.Normal(torch.tensor([-1.2, -0.4]), 0.3)
    x = truth.mean + 0.3 * orn.Noise(4).normal((20, 2))
    mine = model.given(position=[0.2, 0.4]).log_likelihood(x, 1e-2).value.mean()
    other = model.given(position=[0.5, 0.5]).log_likelihood(x, 1e-2).value.mean()
    assert abs(float(mine - truth.log_prob(x).sum(1).mean())) < 0.15
    assert float(mine - other) > 2


def test_a_model_with_a_vector_is_bit_equal_in_a_fresh_process_and_on_the_command_line(fitted):
    model, folder = fitted
    subprocess.run([sys.executable, "-c", FRESH, str(folder)], check=True)
    own = model.sample(9, 5, conditions={"position": [0.2, 0.4]})
    assert torch.equal(torch.from_numpy(np.load(folder / "x.npy")), own)
    command = [sys.executable, "-m", "ornstein.app.cli", "sample", str(folder), "--n", "9"]
    command += ["--steps", "5", "--condition", "position=0.2,0.4"]
    subprocess.run(command, check=True, capture_output=True)
    assert torch.equal(torch.from_numpy(np.load(folder / "samples" / "samples.npy")), own)


def test_a_bound_model_is_saved_with_what_is_bound(tmp_path):
    bound = conditional().given(position=[0.2, 0.4])
    again = orn.load(bound.save(tmp_path))
    assert torch.equal(again.sample(4, 3), bound.sample(4, 3))
    assert again.bound["position"].tolist() == bound.bound["position"].tolist()


@pytest.mark.parametrize("name, value", [("other", [1.0]), ("position", [1.0, 2.0, 3.0])])
def test_bound_values_that_the_network_does_not_take_are_refused_at_the_load(tmp_path, name, value):
    folder = conditional().given(position=[0.2, 0.4]).save(tmp_path)
    tensors, _ = checkpoint.load_tensors(folder / "model.safetensors")
    checkpoint.save_tensors(
        folder / "model.safetensors", tensors | {f"given.{name}": torch.tensor(value)}
    )
    with pytest.raises(CheckpointError, match=name):
        orn.load(folder)


def test_conditions_that_do_not_fit_the_samples_are_refused():
    x = torch.randn(10, 2)
    for conditions, words in [
        ({"position": torch.zeros(9, 2)}, "10 samples"),
        ({"position": torch.full((10, 2), math.nan)}, "10 samples"),
        ({"position": ["a"] * 10}, "no numbers"),
        ({"label": torch.arange(10) - 1}, "from 0"),
        ({"y": (orn.conditions.Label(2), torch.arange(10))}, "0 to 1"),
    ]:
        with pytest.raises(DataError, match=words):
            orn.fit(x, conditions=conditions, steps=1, progress=False)
