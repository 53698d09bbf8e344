"""Run folders that survive what happens: truncation, other files, full disks, hostile pickles."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from training_problems import SIX, fresh_model, objective, stop_after, weights

import ornstein as orn
from ornstein.errors import CheckpointError, OrnsteinError
from ornstein.inference import checkpoint

pytestmark = pytest.mark.usefixtures("seeded_weights")


def test_samples_of_a_loaded_model_are_bit_equal_in_a_fresh_process(tmp_path):
    model = orn.train(fresh_model(), objective(), SIX, tmp_path)
    code = (
        "import sys, torch, numpy, ornstein; torch.set_num_threads(1); "
        "numpy.save(sys.argv[1] + '/x.npy', ornstein.load(sys.argv[1]).sample(9, 5).numpy())"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert torch.equal(torch.from_numpy(np.load(tmp_path / "x.npy")), model.sample(9, 5))


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "config.json"])
@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path, name, keep):
    stop_after(3, tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(
        content[: keep if isinstance(keep, int) else int(keep * len(content)) - 3]
    )
    with pytest.raises(CheckpointError, match=name):
        (
            orn.train(fresh_model(), objective(), SIX, tmp_path)
            if name.startswith("training")
            else orn.load(tmp_path)
        )


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_missing_file_is_named(tmp_path, name):
    fresh_model().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        orn.load(tmp_path)


def test_files_that_do_not_fit_together_are_refused(tmp_path):
    fresh_model(width=16).save(tmp_path / "a")
    fresh_model(width=32).save(tmp_path / "b")
    (tmp_path / "a" / "model.safetensors").replace(tmp_path / "b" / "model.safetensors")
    with pytest.raises(CheckpointError, match="do not fit together"):
        orn.load(tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    for wrong in (
        {"format": 99},
        {"sde": {"name": "Nonsense"}},
        {"codec": None},
        {"data_std": -1.0},
        {"param": "w"},
        {"net": []},
        {"codec": {"levels": 0}},
        {"codec": {"levels": [0.0, 0.0, 3]}},
        {"codec": {"layout": "x"}},
    ):
        (tmp_path / "b" / "config.json").write_text(json.dumps(config | wrong))
        with pytest.raises(OrnsteinError):
            orn.load(tmp_path / "b")


def test_a_training_of_another_model_is_refused(tmp_path):
    orn.train(fresh_model(), objective(), SIX, tmp_path)
    with pytest.raises(CheckpointError, match="another model"):
        orn.train(fresh_model(width=32), objective(), SIX, tmp_path)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    """A pickle in the place of each file is refused without being run."""
    import pickle

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    fresh_model().save(tmp_path)
    for name in ("model.safetensors", "config.json"):
        good = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(CheckpointError, match=name):
            orn.load(tmp_path)
        (tmp_path / name).write_bytes(good)
    assert not (tmp_path / "exploded").exists()
    for module in ("checkpoint.py", "run_folder.py", "diffusion_model.py"):
        source = (Path(checkpoint.__file__).parent / module).read_text()
        assert "torch.load" not in source and "pickle.load" not in source


FULL_DISK = """
import resource, signal, sys, torch
sys.path.insert(0, {here!r})
from training_problems import *
from pathlib import Path
from ornstein.errors import CheckpointError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
try:
    train = orn.TrainingConfig(steps=6, rate=1e-2, warmup=2, ema=0.9, save_every=0.0)
    orn.train(fresh_model(), objective(), train, Path({out!r}))
except CheckpointError as error:
    print("refused:", error)
"""


def test_a_full_disk_leaves_the_last_checkpoint_and_training_resumes(tmp_path):
    """A real refusal of the operating system (file size limit) in the middle of a write: a
    `CheckpointError` that names the file, no temporary file, the old checkpoint intact; with room
    again the result is that of an undisturbed run."""
    whole = orn.train(fresh_model(), objective(), SIX)
    stop_after(3, tmp_path)
    before = {
        f.name: f.read_bytes()
        for f in tmp_path.iterdir()
        if "safetensors" in f.name or f.name == "config.json"
    }
    code = FULL_DISK.format(here=str(Path(__file__).parent), out=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused:") and "training.safetensors" in done.stdout, (
        done.stdout + done.stderr
    )
    assert {f.name for f in tmp_path.iterdir()} <= {*before, "log.jsonl"}
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())
    assert orn.load(tmp_path).sample(3, 2).shape == (3, 2)
    assert torch.equal(
        weights(orn.train(fresh_model(), objective(), SIX, tmp_path)), weights(whole)
    )


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(tmp_path):
    """Where a folder should be there is a file."""
    (tmp_path / "run").write_text("")
    with pytest.raises(CheckpointError, match="run"):
        fresh_model().save(tmp_path / "run")
    with pytest.raises(CheckpointError, match="run"):
        orn.load(tmp_path / "run")


def test_every_saveable_process_and_network_comes_back(tmp_path):
    processes = [
        orn.VP(0.2, 9.0),
        orn.SubVP(),
        orn.VE(0.02, 30.0),
        orn.EDM(50.0),
        orn.Cosine(T=2.0),
        orn.RectifiedFlow(),
        orn.OU(1.5, 2.0),
        orn.Bridge(1.3),
        orn.DiscreteVP((0.1, 0.2, 0.3)),
    ]
    for i, sde in enumerate(processes):
        net = (
            orn.UNet(1, width=8, heads=2, dims=1, labels=2)
            if i % 2
            else orn.MLP((1, 4), width=8, depth=1, labels=2)
        )
        denoiser = orn.Denoiser(
            net.requires_grad_(False), sde, orn.parametrisations.v, 0.7, (1, 4)
        ).eval()
        denoiser.std_table = torch.rand(53, 1, 4)
        codec = orn.codecs.Codec(
            torch.tensor(1.0), torch.tensor(2.0), orn.codecs.Levels(-1.0, 0.5, 5), "add_channel"
        )
        orn.DiffusionModel(denoiser, codec).save(tmp_path)
        again = orn.load(tmp_path)
        x = orn.Noise(0).normal((3, 1, 4))
        ours, theirs = denoiser(x, 0.3 * sde.T), again.denoiser(x, 0.3 * sde.T)
        assert (
            again.denoiser.sde == sde
            and again.codec.levels == codec.levels
            and again.codec.layout == codec.layout
        )
        assert torch.equal(ours.mean, theirs.mean) and torch.equal(ours.std, theirs.std)
    with pytest.raises(OrnsteinError, match="made of functions"):
        denoiser = orn.Denoiser(
            orn.MLP(2, 8, 1),
            orn.processes.Damped(lambda u: 1 + u),
            orn.parametrisations.edm,
            1.0,
            (2,),
        )
        orn.DiffusionModel(denoiser, orn.codecs.Codec(torch.zeros(2), torch.ones(2))).save(tmp_path)
