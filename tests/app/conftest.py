"""Run folders that several tests of the command line read."""

import numpy as np
import pytest
from commands import run_process


@pytest.fixture(scope="session")
def points(tmp_path_factory):
    """A folder with ``x.npy``, 400 points, and ``run``, a model trained on them for three steps."""
    folder = tmp_path_factory.mktemp("points")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(400, 2)))
    done = run_process(
        "train", "--data", folder / "x.npy", "--out", folder / "run", "--steps", 3, "--seed", 5
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """A folder with ``run``, a model of points of two classes."""
    folder = tmp_path_factory.mktemp("labelled")
    np.save(folder / "x.npy", np.random.default_rng(1).normal(size=(100, 2)))
    np.savetxt(folder / "labels.txt", np.arange(100) % 2, "%d")
    data = ["--data", folder / "x.npy", "--labels", folder / "labels.txt"]
    done = run_process("train", *data, "--out", folder / "run", "--steps", 3, "--no-progress")
    assert done.returncode == 0 and not done.stderr, done.stderr
    return folder
