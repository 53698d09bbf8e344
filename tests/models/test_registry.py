"""Run folders name registered classes only, old ones load, and hostile ones cost nothing."""

import json
import pickle
import resource
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import ornstein as orn
from ornstein.errors import CheckpointError, OrnsteinError
from ornstein.models import registry

pytestmark = pytest.mark.usefixtures("seeded_weights")


def model(net=None, sde=None):
    denoiser = orn.Denoiser(net or orn.MLP(2, 8, 1, labels=3), sde or orn.VP(0.2, 9.0))
    return orn.DiffusionModel(denoiser, orn.codecs.Codec(torch.zeros(2), torch.ones(2)))


def edited(folder, change):
    """A run folder with a changed configuration."""
    model().save(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(change(config)))
    return folder


def test_a_folder_of_the_first_format_loads(tmp_path):
    """Short names, and the label table under its old name."""
    own = model()
    own.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for part in ("sde", "net"):
        config[part]["name"] = config[part].pop("class").split(":")[1]
    config["codec"].pop("class")
    config["format"] = 1
    tensors, _ = orn.inference.checkpoint.load_tensors(tmp_path / "model.safetensors")
    old = {name.replace("inputs.0.", "labels."): t for name, t in tensors.items()}
    assert "denoiser.net.embedding.labels.table.weight" in old
    orn.inference.checkpoint.save_tensors(tmp_path / "model.safetensors", old)
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = orn.load(tmp_path)
    assert torch.equal(again.sample(4, 3, label=1), own.sample(4, 3, label=1))


def test_a_triangular_codec_of_the_first_format_loads(tmp_path):
    codec = orn.codecs.TriangularCodec(
        torch.zeros(2),
        torch.ones(2),
        torch.tensor([1, 0]),
        0.1 * torch.ones(2, 5).tril(),
        0.1 * torch.ones(2, 3).tril(),
        torch.tensor([[-3.0, -3.0], [3.0, 3.0]]),
    )
    own = orn.DiffusionModel(orn.Denoiser(orn.MLP(2, 8, 1), orn.VP()), codec)
    own.save(tmp_path)
    assert torch.equal(orn.load(tmp_path).sample(4, 3), own.sample(4, 3))
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"format": 1, "codec": {"kind": "bend"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert torch.equal(orn.load(tmp_path).sample(4, 3), own.sample(4, 3))


HOSTILE = {
    "dropout": lambda c: {**c, "net": {**c["net"], "dropout": 2}},
    "depth": lambda c: {**c, "net": {**c["net"], "depth": 100_000}},
    "width": lambda c: {**c, "net": {**c["net"], "width": 30_000}},
    "labels": lambda c: {**c, "net": {**c["net"], "labels": 10**9}},
    "heads": lambda c: {**c, "net": {"class": "ornstein.nets:UNet", "channels": 1, "heads": 0}},
    "names": lambda c: {**c, "names": 5},
    "info": lambda c: {**c, "info": []},
    "event of -2": lambda c: {**c, "event_shape": [-2]},
    "event of 3": lambda c: {**c, "event_shape": [3]},
    "large event": lambda c: {**c, "event_shape": [10**6, 10**6]},
    "data_std of 1e300": lambda c: {**c, "data_std": 1e300},
    "data_std of nan": lambda c: {**c, "data_std": float("nan")},
    "data_std in words": lambda c: {**c, "data_std": "one"},
    "param": lambda c: {**c, "param": "w"},
    "a class of torch": lambda c: {**c, "net": {"class": "torch.nn:Linear"}},
    "a process for a network": lambda c: {**c, "net": {"class": "ornstein.core.processes:VP"}},
    "no class": lambda c: {**c, "sde": {}},
    "a list": lambda c: {**c, "sde": []},
    "codec": lambda c: {**c, "codec": {"class": "ornstein.models.codecs:Codec", "levels": 3}},
    "tuned": lambda c: {**c, "tuned": {"x": {}}},
    "an unwanted argument": lambda c: {**c, "sde": {**c["sde"], "speed": 1}},
    "an absurd process": lambda c: {**c, "sde": {**c["sde"], "beta_min": -1.0}},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_configuration_is_refused(name, tmp_path):
    """A `CheckpointError`, within 200 MB of memory beyond what the process has had."""
    folder = edited(tmp_path, HOSTILE[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError):
        orn.load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("table", [torch.ones(1), torch.ones(53, 3), -torch.ones(53, 2)])
def test_a_table_of_standard_deviations_that_does_not_fit_is_refused(table, tmp_path):
    own = model()
    own.denoiser.std_table = table
    with pytest.raises(CheckpointError, match="std_table"):
        orn.load(own.save(tmp_path))


def test_a_folder_that_is_not_there_is_called_so(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        orn.load(tmp_path / "nope")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        orn.load(tmp_path)


class Plain(nn.Module):
    """A network without a configuration."""

    def forward(self, x, c, cond=None):
        return x


def test_a_network_without_a_configuration_is_told_what_to_add(tmp_path):
    with pytest.raises(OrnsteinError, match=r"Plain.*config"):
        orn.DiffusionModel(
            orn.Denoiser(Plain(), orn.VP(), event_shape=(2,)),
            orn.codecs.Codec(torch.zeros(2), torch.ones(2)),
        ).save(tmp_path)


@orn.register
class Tied(nn.Module):
    """A network that uses the same layer twice."""

    def __init__(self):
        super().__init__()
        self.config = {}
        self.first = self.second = nn.Linear(2, 2)

    def forward(self, x, c, cond=None):
        return self.second(self.first(x))


def test_a_network_with_shared_weights_is_saved_and_trained(tmp_path):
    denoiser = orn.Denoiser(Tied(), orn.VP(), event_shape=(2,))
    own = orn.DiffusionModel(denoiser, orn.codecs.Codec(torch.zeros(2), torch.ones(2)))
    objective = orn.DenoisingObjective(orn.Noise(0).normal((20, 2)), 8)
    trained = orn.train(own, objective, orn.TrainingConfig(steps=2), tmp_path)
    again = orn.load(tmp_path)
    assert torch.equal(again.sample(4, 3), trained.sample(4, 3))
    assert again.denoiser.net.first is again.denoiser.net.second


def test_only_classes_are_registered_and_names_have_a_form():
    with pytest.raises(OrnsteinError, match="pass a class"):
        orn.register(orn.VP())
    for name in ("mypackage", "mypackage:", ":Net"):
        with pytest.raises(OrnsteinError, match=r"package\.module:Class"):
            orn.allow(name)
    orn.allow("no_such_package_of_ours:Net")
    with pytest.raises(CheckpointError, match="cannot be imported"):
        registry.build({"class": "no_such_package_of_ours:Net"}, nn.Module)


@dataclass(frozen=True)
class Unregistered(orn.VP):
    """A process that nobody has registered."""


def test_a_process_is_saved_at_once_and_loaded_once_it_is_registered(tmp_path):
    own = model(sde=Unregistered(0.3))
    own.save(tmp_path)
    with pytest.raises(CheckpointError, match=r"orn\.register"):
        orn.load(tmp_path)
    assert orn.register(Unregistered) is Unregistered
    assert torch.equal(orn.load(tmp_path).sample(3, 3), own.sample(3, 3))


def test_configurations_of_both_formats_are_compared():
    new = registry.configuration(orn.VP(0.2))
    old = {"name": "VP", "beta_min": 0.2, "beta_max": 20.0, "T": 1.0}
    assert registry.same(old, new) and not registry.same({**old, "T": 2.0}, new)
    assert registry.same([1], [1]) and not registry.same(None, new)


@pytest.mark.parametrize("param", sorted(orn.models.parametrisations.PARAMETRISATIONS))
def test_a_model_crosses_a_process(param):
    """Pickled and back, samples are equal to the bit."""
    own = model()
    own.denoiser.param = orn.models.parametrisations.PARAMETRISATIONS[param]
    again = pickle.loads(pickle.dumps(own.given(label=1)))
    assert torch.equal(again.sample(3, 3), own.sample(3, 3, label=1))
    assert pickle.loads(pickle.dumps(orn.training.RECIPES["images"])) is not None


def test_the_event_shape_is_that_of_the_network():
    assert orn.Denoiser(orn.MLP(3), orn.VP()).event_shape == (3,)
    assert orn.Denoiser(orn.MLP((2, 4)), orn.VP()).event_shape == (2, 4)
    assert orn.Denoiser(orn.UNet(1, 8), orn.VP()).event_shape is None
    target = orn.targets.Normal(torch.zeros(3), torch.ones(3))
    denoiser = orn.Denoiser(orn.MLP(3, 8, 1), orn.VP(), orn.parametrisations.edm)
    log_w = orn.log_weights(denoiser, target.log_prob, orn.VP().times(8), 64, orn.Noise(0))
    assert log_w.shape == (64,)
    with pytest.raises(OrnsteinError, match=r"\(4,\).*\(3,\)"):
        orn.Denoiser(orn.MLP(3), orn.VP(), event_shape=(4,))


def test_a_posterior_of_a_user_has_defaults_for_what_samplers_ask():
    from ornstein.models.posterior import PosteriorBase, attributes

    class Mine(PosteriorBase):
        sde, event_shape = orn.VP(), (3,)

        def __call__(self, x, t):
            return orn.Gaussian(0 * x, torch.ones(()))

    class Least:
        sde = orn.VP()

        def __call__(self, x, t):
            return orn.Gaussian(0 * x, torch.ones(()))

    assert orn.sample(Mine(), 4, 3).shape == (4, 3)
    assert attributes(Least()) == (None, 1.0, torch.float32, torch.device("cpu"))
    assert orn.sample(Least(), 4, 3, shape=(2,)).shape == (4, 2)


def test_a_model_is_told_on_one_screen():
    own = orn.DiffusionModel(
        model().denoiser,
        model().codec,
        ("height", "<weight>"),
        {"samples": 7, "seed": 3},
    ).given(label=2)
    lines = repr(own).splitlines()
    words = ["DiffusionModel", "(2,)", "height", "VP(", "MLP with", "Label(classes=3)", "label=2"]
    assert len(lines) <= 20 and all(any(word in line for line in lines) for word in words)
    assert max(map(len, lines)) <= 101 and "samples=7" in repr(own)
    assert own._repr_html_().startswith("<table>") and "&lt;weight&gt;" in own._repr_html_()


def test_a_manifest_tells_the_device(tmp_path):
    from ornstein.inference.manifest import Manifest

    own = model()
    path = Manifest("sample", {"seed": 3}).write(tmp_path, {}, own.device)
    assert json.loads(path.read_text())["device"] == "cpu"
    path = Manifest("sample", {"seed": 3}).write(tmp_path, {}, own.denoiser.to("meta").device)
    assert json.loads(path.read_text())["device"] == "meta"
