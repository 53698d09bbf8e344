"""The trainer: a function of its seed, resumable to the bit, averaged by its formula; run folders
that survive what happens."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.errors import CheckpointError, DataError, OrnsteinError
from ornstein.inference import checkpoint

pytestmark = pytest.mark.usefixtures("seeded_weights")


def fresh_model(width=16, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = orn.MLP(2, width=width, depth=1)
    denoiser = orn.Denoiser(net, orn.Cosine(), orn.parametrisations.edm, 1.0, (2,))
    return orn.DiffusionModel(
        denoiser, orn.codecs.Codec(torch.zeros(2), torch.ones(2)), ("a", "b"), {"made": "here"}
    )


def objective(seed=0):
    x = orn.Noise(8).normal((64, 2)) * torch.tensor([1.0, 0.3])
    return orn.DenoisingObjective(x, batch=16, seed=seed)


SIX = orn.TrainingConfig(steps=6, rate=1e-2, warmup=2, ema=0.9)


def weights(model):
    return torch.cat([p.flatten() for p in model.denoiser.net.parameters()])


def interrupt_at(step):
    """A report that presses Ctrl-C after a step."""
    return lambda now: os.kill(os.getpid(), signal.SIGINT) if now.step == step else None


def stop_after(step, out, training=SIX):
    with pytest.raises(KeyboardInterrupt):
        orn.train(fresh_model(), objective(), training, out, interrupt_at(step))


def test_same_seed_same_weights():
    first, second = (orn.train(fresh_model(), objective(), SIX) for _ in range(2))
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(orn.train(fresh_model(), objective(1), SIX)))


@pytest.mark.parametrize("step", [1, 3, 5])
def test_interrupted_and_resumed_equals_uninterrupted_to_the_bit(tmp_path, step):
    whole = orn.train(fresh_model(), objective(), SIX)
    stop_after(step, tmp_path)
    resumed = orn.train(
        fresh_model(seed=5), objective(), SIX, tmp_path
    )  # other first weights: all comes from the folder
    assert torch.equal(weights(resumed), weights(whole))
    assert torch.equal(orn.load(tmp_path).sample(5, 4), resumed.sample(5, 4))


def test_after_an_interruption_the_folder_loads_and_holds_the_average(tmp_path):
    handler = signal.getsignal(signal.SIGINT)  # ignored where the tests run in a shell's background
    stop_after(3, tmp_path)
    three = orn.train(fresh_model(), objective(), SIX, report=lambda now: None)
    loaded = orn.load(tmp_path)
    tensors, metadata = checkpoint.load_tensors(tmp_path / "training.safetensors")
    assert metadata["step"] == "3"
    average = torch.cat(
        [tensors[f"average.{name}"].flatten() for name, _ in loaded.denoiser.net.named_parameters()]
    )
    assert torch.equal(weights(loaded), average) and not torch.equal(
        weights(loaded), weights(three)
    )
    assert (
        loaded.names == ("a", "b")
        and loaded.info == {"made": "here"}
        and loaded.denoiser.sde == orn.Cosine()
    )
    assert signal.getsignal(signal.SIGINT) is handler


def test_average_follows_its_formula():
    """``a_k+1 = b a_k + (1 - b) w_k+1`` with ``b = min(ema, (k + 1) / (k + 10))``, from the weights
    after each step."""
    model, seen = fresh_model(), []
    start = weights(model).detach().clone()
    result = orn.train(
        model, objective(), SIX, report=lambda now: seen.append(weights(model).detach().clone())
    )
    average = start.double()
    for k, w in enumerate(seen):
        b = min(0.9, (k + 1) / (k + 10))
        average = b * average + (1 - b) * w.double()
    torch.testing.assert_close(weights(result).double(), average, rtol=1e-5, atol=1e-7)


def test_first_step_is_adamw_with_clipping_and_warm_up():
    """After one step: ``w (1 - lr decay) - lr g / (|g| + eps)``, lr half the rate at step 1 of 2
    warm-up steps (Adam's first step does not see the clipping)."""
    model = fresh_model()
    before = weights(model).detach().clone()
    losses, _ = objective()(model.denoiser, 0)
    gradients = torch.autograd.grad(losses.mean(), list(model.denoiser.net.parameters()))
    g = torch.cat([v.flatten() for v in gradients])
    g = g * min(1.0, 1e-3 / float(g.norm()))
    once = Once(model)
    orn.train(
        model,
        objective(),
        orn.TrainingConfig(steps=2, rate=1e-2, warmup=2, clip=1e-3, decay=0.1),
        report=once,
    )
    lr = 1e-2 / 2
    expected = before * (1 - lr * 0.1) - lr * g / (g.abs() + 1e-8)
    torch.testing.assert_close(once.first, expected, rtol=1e-4, atol=1e-6)


class Once:
    """Keeps the weights after the first step."""

    def __init__(self, model):
        self.model, self.first = model, None

    def __call__(self, now):
        if now.step == 1:
            self.first = weights(self.model).detach().clone()


def test_training_learns_the_posterior_mean_of_gaussian_data():
    """150 steps bring the loss on N(0, 0.3^2) data, denoised as if it were N(0, 1), from its closed
    form near the Bayes risk."""
    x = 0.3 * orn.Noise(0).normal((2000, 2))
    goal = orn.DenoisingObjective(
        x, batch=128, times=orn.noise_levels.UniformLogSNR(-2, 2), weight=orn.training.unit_weight
    )
    result = orn.train(
        fresh_model(), goal, orn.TrainingConfig(steps=150, rate=1e-2, warmup=10, ema=0.9)
    )
    losses, log_snr = goal(result.denoiser, 5000)
    bayes = 1 / (1 / 0.09 + log_snr.exp())
    naive_gain = (log_snr.exp() / (1 + log_snr.exp())).double()
    naive = (1 - naive_gain) ** 2 * 0.09 + naive_gain**2 / log_snr.exp()
    excess = float((losses.double() - bayes).mean())
    assert float((naive - bayes).mean()) > 0.1 and excess < 0.02


def test_log_holds_the_loss_by_noise_level(tmp_path):
    """Means of the losses of all steps in bins of the log-SNR, recomputed by hand from the
    objective."""
    model, goal, losses, levels = fresh_model(), objective(), [], []

    def recording(denoiser, k):
        loss, log_snr = goal(denoiser, k)
        losses.append(loss.detach().double())
        levels.append(log_snr)
        return loss, log_snr

    orn.train(model, recording, SIX, tmp_path)
    (row,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    loss, level = torch.cat(losses), torch.cat(levels)
    assert row["step"] == 6 and row["loss"] == pytest.approx(float(loss.mean()), rel=1e-5)
    edges = [-math.inf, *row["log_snr_edges"], math.inf]
    assert len(row["loss_by_log_snr"]) == len(edges) - 1
    for value, low, high in zip(row["loss_by_log_snr"], edges, edges[1:], strict=False):
        inside = (level > low) & (level <= high)
        assert value == pytest.approx(
            float(loss[inside].mean()) if bool(inside.any()) else 0.0, abs=2e-6
        )


def test_a_loss_that_is_not_finite_stops_the_training():
    def broken(denoiser, k):
        loss, log_snr = objective()(denoiser, k)
        return loss * (math.nan if k == 2 else 1), log_snr

    with pytest.raises(DataError, match=r"nan at step 2.*rate"):
        orn.train(fresh_model(), broken, SIX)


def test_bad_training_arguments_are_refused():
    for wrong in ({"steps": 0}, {"rate": -1.0}, {"ema": 1.0}):
        with pytest.raises(OrnsteinError, match=next(iter(wrong))):
            orn.TrainingConfig(**wrong)


# -------------------------------------------------------------------------------------- run folders


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
from test_training import *
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
