"""The command line as it is used: real processes, manifests that reproduce, errors in one line,
Ctrl-C that loses nothing."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.app.cli import main

pytestmark = pytest.mark.usefixtures("seeded_weights")

VERB = [sys.executable, "-m", "ornstein.app.cli"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*arguments, cwd=None):
    return subprocess.run(
        [*VERB, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT
    )


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """A file of points with a model trained on it for three steps, by the command."""
    folder = tmp_path_factory.mktemp("points")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(400, 2)))
    done = run(
        "train", "--data", folder / "x.npy", "--out", folder / "run", "--steps", 3, "--seed", 5
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_train_writes_a_model_and_its_manifest(points):
    assert orn.load(points / "run").event_shape == (2,)
    manifest = json.loads((points / "run" / "manifest-train.json").read_text())
    assert manifest["command"] == "train" and manifest["seconds"] > 0
    expected = {
        "data": str(points / "x.npy"),
        "out": str(points / "run"),
        "recipe": "auto",
        "steps": 3,
        "seed": 5,
    }
    assert manifest["options"] == expected
    assert (
        manifest["versions"]["torch"] == torch.__version__
        and manifest["versions"]["ornstein"] == orn.__version__
    )
    assert {"started", "device", "threads", "python", "platform", "results"} <= set(manifest)
    assert manifest["results"]["info"]["samples"] == 400


def test_options_of_a_sample_manifest_reproduce_the_samples(points, tmp_path):
    """The files of two runs are equal to the bit, and equal what the library draws."""
    options = ["--n", 5, "--steps", 4, "--method", "ancestral", "--spacing", "karras", "--seed", 9]
    done = run("sample", points / "run", *options, "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "a" / "manifest-sample.json").read_text())
    given = manifest["options"] | {"out": str(tmp_path / "b")}
    again = [
        given.pop("model"),
        *(x for k, v in given.items() if v is not None for x in (f"--{k}", v)),
    ]
    main(["sample", *map(str, again)])
    first, second = np.load(tmp_path / "a" / "samples.npy"), np.load(tmp_path / "b" / "samples.npy")
    library = orn.load(points / "run").sample(5, 4, "ancestral", 9, spacing=orn.spacing.Karras())
    assert np.array_equal(first, second) and np.array_equal(first, library.numpy())


def test_density_reports_log_z_and_leaves_a_sampler(tmp_path):
    """A density from the user's own module, in the current folder: Z = 2 pi e, printed and written
    alike."""
    (tmp_path / "mine.py").write_text("def log_prob(x):\n    return 1 - x.square().sum(1) / 2\n")
    done = run("density", "mine:log_prob", "--dim", 2, "--n", 500, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "manifest-density.json").read_text())["results"]
    assert abs(results["log_z"] - 1 - np.log(2 * np.pi)) < 4 * results["log_z_stderr"] + 1e-4
    assert f"log Z = {results['log_z']:.4f}" in done.stdout and "x[2]" in done.stdout
    assert np.load(tmp_path / "run" / "samples.npy").shape == (500, 2)
    assert orn.load(tmp_path / "run").sample(3, 4).shape == (3, 2)


@pytest.mark.parametrize(
    ("arguments", "guess"),
    [
        (["sample", "{run}", "--method", "ancestrl"], "Did you mean 'ancestral'"),
        (["sample", "{run}", "--spacing", "karas"], "Did you mean 'karras'"),
        (["sample", "{run}", "--label", "1"], "trained without"),
        (["sample", "{run}", "--n", "0"], "n=0"),
        (["sample", "{run}-not"], "config.json"),
        (["density", "funel", "--out", "{run}-d"], "Did you mean 'funnel'"),
        (["density", "math:sqrt", "--out", "{run}-d"], "--dim"),
        (["density", "no_such_module:f", "--dim", "2", "--out", "{run}-d"], "no_such_module"),
        (["train", "--data", "no-such-file", "--out", "{run}-t"], "no such file"),
        (
            ["train", "--data", "iris", "--recipe", "tabel", "--out", "{run}-t"],
            "Did you mean 'table'",
        ),
        (["train", "--data", "iris", "--steps", "0", "--out", "{run}-t"], "steps=0"),
    ],
)
def test_mistakes_end_with_status_2_and_one_line(points, capsys, arguments, guess):
    with pytest.raises(SystemExit) as stop:
        main([a.format(run=points / "run") for a in arguments])
    error = capsys.readouterr().err
    assert (
        stop.value.code == 2
        and error.startswith("ornstein: ")
        and guess in error
        and "Traceback" not in error
    )
    assert len(error.strip().splitlines()) == 1


def test_a_mistake_in_a_real_process_shows_no_traceback(points):
    done = run("sample", points / "run", "--method", "heuns")
    assert (
        done.returncode == 2
        and "Did you mean 'heun'" in done.stderr
        and "Traceback" not in done.stderr
    )


@pytest.mark.parametrize("verb", ["sample", "density"])
def test_results_that_cannot_be_written_are_a_mistake_too(points, tmp_path, capsys, verb):
    """The place of the folder is taken by a file."""
    (tmp_path / "taken").write_text("")
    arguments = (
        ["sample", str(points / "run"), "--n", "2", "--steps", "2"]
        if verb == "sample"
        else ["density", "banana", "--n", "64"]
    )
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--out", str(tmp_path / "taken")])
    assert stop.value.code == 2 and "taken" in capsys.readouterr().err


def test_ctrl_c_in_training_keeps_a_checkpoint_and_the_same_command_goes_on(points, tmp_path):
    """Status 130, a hint, a folder that loads; the resumed run ends where an undisturbed one
    does."""
    command = ["train", "--data", points / "x.npy", "--out", tmp_path / "run", "--steps", 60]
    process = subprocess.Popen(
        [*VERB, *map(str, command)], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    for line in process.stderr:
        if "step 6 of" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    assert (
        process.wait(60) == 130 and "the same command goes on" in rest and "Traceback" not in rest
    )
    assert orn.load(tmp_path / "run").sample(2, 2).shape == (2, 2)
    main([*map(str, command)])
    main([*map(str, command[:4]), str(tmp_path / "whole"), "--steps", "60"])
    ours, theirs = (orn.load(tmp_path / name).sample(4, 4) for name in ("run", "whole"))
    assert torch.equal(ours, theirs)
