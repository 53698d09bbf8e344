"""The guards of `conftest.py` do fail what they should."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from ornstein.reference.targets import GaussianMixture

pytestmark = pytest.mark.timeout(900)  # starts a process

GUILTY = """
import random
import numpy as np
import torch

def test_torch(): torch.manual_seed(0)
def test_numpy(): np.random.rand()
def test_python(): random.random()
def test_dtype(): torch.set_default_dtype(torch.float64)
def test_threads(): torch.set_num_threads(2)
def test_gradients(): torch.set_grad_enabled(False)
def test_innocent():
    torch.Generator().manual_seed(0), np.random.default_rng(0), random.Random(0)
    with torch.no_grad():
        assert torch.zeros(1).dtype == torch.float32 and torch.get_num_threads() == 1
    assert torch.is_grad_enabled()
"""


def test_a_test_that_changes_global_state_fails_and_the_next_one_does_not_notice(tmp_path):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_guilty.py").write_text(GUILTY)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    output = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    ).stdout
    assert "7 passed" in output and "6 errors" in output
    for state in (
        "torch's random numbers",
        "NumPy's random numbers",
        "Python's random numbers",
        "the default dtype",
        "the number of threads",
        "the gradient mode",
    ):
        assert f"the test changed {state}" in output


def test_shapes_that_contradict_the_annotations_are_refused():
    with pytest.raises(TypeCheckError):
        GaussianMixture(torch.zeros(2, 3), torch.ones(2, 2), torch.ones(2))
