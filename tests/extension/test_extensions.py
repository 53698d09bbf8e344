"""One new file outside the library each: a sampler, a process, a target, a loss, a network, a kind
of data, a condition and a metric train, save, load in a fresh process, and sample on the command
line."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.errors import CheckpointError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from plugins import condition, data_kind, loss, metric, process, sampler  # noqa: E402
from plugins import network as networks  # noqa: E402

pytestmark = pytest.mark.usefixtures("seeded_weights")

X = torch.tensor([3.0, -1.0]) + torch.tensor([1.0, 0.2]) * orn.Noise(0).normal((80, 2))


def recipe(**changes):
    small = {"training": orn.TrainingConfig(steps=4, warmup=2), "batch": 16, "held_out": 0.5}
    net = lambda event, conditions: orn.MLP(event, 8, 1, conditions=conditions)  # noqa: E731
    return replace(orn.training.RECIPES["points"], **{"net": net, **small, **changes})


def run(*command):
    """Run Python with the plugins' folder as the current one."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=HERE, capture_output=True, text=True, check=False
    )
    return done


def sampled_on_the_command_line(folder, module, *options):
    """The samples that a fresh process draws, which imports the plugin first."""
    command = ["-m", "ornstein.app.cli", "sample", folder, "--n", 5, "--steps", 4]
    imports = ["--import", module] if module else []
    done = run(*command, *imports, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return torch.from_numpy(np.load(folder / "samples" / "samples.npy"))


PARTS = {
    "process": ("plugins.process", {"sde": process.Squared(2.5)}, {}),
    "network": ("plugins.network", {"net": networks.make}, {}),
    "condition": (
        "plugins.condition",
        {},
        {"conditions": {"angle": (condition.Angle(), torch.linspace(0, 360, 80))}},
    ),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_model_trains_saves_loads_and_samples_elsewhere(part, tmp_path):
    """The samples of a fresh process that imports the module are equal to the bit."""
    module, changes, options = PARTS[part]
    model = orn.fit(X, recipe(**changes), tmp_path, progress=False, **options)
    given = ["--condition", "angle=30"] if part == "condition" else []
    own = model.given(angle=30.0) if part == "condition" else model
    found = sampled_on_the_command_line(tmp_path, module, *given)
    assert torch.equal(found, own.sample(5, 4))


ALLOWED_LATER = """
import ornstein as orn
try:
    orn.load({folder!r})
except orn.errors.CheckpointError as error:
    assert 'orn.allow("plugins.process:Squared")' in str(error), error
    orn.allow("plugins.process:Squared")
    print(orn.load({folder!r}).sample(5, 4).shape)
"""


def test_a_class_that_a_program_has_not_registered_is_refused_with_the_call_that_allows_it(
    tmp_path,
):
    orn.fit(X, recipe(sde=process.Squared(2.5)), tmp_path, progress=False)
    done = run("-c", ALLOWED_LATER.format(folder=str(tmp_path)))
    assert done.stdout.strip() == "torch.Size([5, 2])", done.stderr


def test_a_resumed_training_of_parts_of_a_user_is_the_same(tmp_path):
    changes = {"sde": process.Squared(2.5), "net": networks.make}
    first, again = (orn.fit(X, recipe(**changes), tmp_path, progress=False) for _ in range(2))
    assert torch.equal(first.sample(5, 4), again.sample(5, 4))


def test_a_kind_of_data_is_read_learned_and_decoded_by_its_codec(tmp_path):
    """Positive numbers stay positive, also in a fresh process; the density has the codec's
    volume."""
    file = tmp_path / "rates.positive"
    x = (0.5 * orn.Noise(1).normal((60, 2))).exp()
    file.write_text("\n".join(f"{a} {b}" for a, b in x.tolist()))
    model = orn.fit(file, recipe(), tmp_path / "run", progress=False)
    found = sampled_on_the_command_line(tmp_path / "run", "plugins.data_kind")
    assert torch.equal(found, model.sample(5, 4)) and float(found.min()) > 0
    assert isinstance(model.codec, data_kind.LogCodec)
    plain = orn.log_likelihood(model.denoiser, model.encode(x[:3]), tol=1e-2)
    volume = x[:3].log().sum(1) + model.codec.factor.log().sum()
    torch.testing.assert_close(
        model.log_likelihood(x[:3], tol=1e-2).value, plain.value - volume, rtol=1e-4, atol=1e-4
    )


def test_a_sampler_of_a_user_is_a_method(tmp_path):
    """A subclass is its base; a method written out is DDIM within rounding, and the same on the
    command line."""
    model = orn.fit(X, recipe(sde=orn.VP()), tmp_path, progress=False)
    assert torch.equal(
        model.sample(5, 4, sampler.MyEuler()), model.sample(5, 4, orn.EulerMaruyama())
    )
    own = sampler.draw(tmp_path, 5, 4)
    typed = ["--method", "plugins.sampler:Implied", "--eta", 0]
    assert torch.equal(sampled_on_the_command_line(tmp_path, None, *typed), own)
    torch.testing.assert_close(own, model.sample(5, 4, "ddim"), rtol=1e-4, atol=1e-4)


def test_a_loss_of_a_user_trains_and_its_model_needs_no_import(tmp_path):
    model = orn.fit(X, recipe(), progress=False)
    before = torch.cat([p.flatten() for p in model.denoiser.parameters()]).clone()
    objective = loss.Robust(model.encode(X))
    model = orn.train(model, objective, orn.TrainingConfig(steps=3), tmp_path)
    after = torch.cat([p.flatten() for p in model.denoiser.parameters()])
    assert not torch.equal(before, after)
    assert torch.equal(sampled_on_the_command_line(tmp_path, None), model.sample(5, 4))


def test_a_target_of_a_user_is_a_density(tmp_path):
    """On the command line: log Z of the Gaussian, ``log(3 2 pi 2)``, within four standard errors;
    its sampler is a model like any other."""
    command = ["-m", "ornstein.app.cli", "density", "plugins.target:log_prob", "--dim", 2]
    done = run(*command, "--out", tmp_path, "--n", 500, "--stderr", 0.02)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "manifest-density.json").read_text())["results"]
    truth = math.log(3 * 2 * 2 * math.pi)
    assert abs(results["log_z"] - truth) < 4 * max(results["log_z_stderr"], 1e-6)
    assert orn.load(tmp_path).sample(5, 4).shape == (5, 2)


def test_a_metric_of_a_user_takes_samples_and_gives_an_estimate():
    """Two halves of one normal sample: a distance within four standard errors of 0."""
    value, stderr = metric.mean_distance(*orn.Noise(3).normal((400, 2)).chunk(2))
    assert 0 <= value < 4 * stderr


def test_a_class_that_the_file_names_is_not_enough(tmp_path):
    """What a file says is never imported: a module with a side effect stays unimported."""
    model = orn.fit(X, recipe(), tmp_path, progress=False)
    model.save(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace("ornstein.nets:MLP", "antigravity:MLP"))
    with pytest.raises(CheckpointError, match=r'orn\.allow\("antigravity:MLP"\)'):
        orn.load(tmp_path)
    assert "antigravity" not in sys.modules
