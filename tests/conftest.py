"""What every test runs under: annotations checked at run time, one thread, and a guard on global
state."""

import importlib
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

_OWN = random.Random(0)
with patch.multiple(random, getrandbits=_OWN.getrandbits, randint=_OWN.randint):
    # these two draw from the global generator: entries of lists to check, link ids
    import beartype  # noqa: F401
    import rich.style  # noqa: F401

# Annotations, tensor shapes included, are checked at each call; an int passes for a float. Left out
# are modules that accept more than their annotations say.
UNCHECKED = {"ornstein.training.denoising", "ornstein.training.noise_levels"}
SRC = Path(__file__).parents[1] / "src"
MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts)
    for path in (SRC / "ornstein").rglob("[!_]*.py")
}
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook(sorted(MODULES - UNCHECKED), CHECKER)  # before ornstein is imported

with patch.multiple(random, getrandbits=_OWN.getrandbits, randint=_OWN.randint):
    for _module in sorted(MODULES):  # a first import inside a test would count as its doing
        importlib.import_module(_module)

from ornstein.core.random import noise  # noqa: E402  # after the hook

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--other-seeds",
        type=int,
        default=0,
        metavar="K",
        help="run every test on other random numbers: series K instead of 0. A statistical test"
        " that states its tolerance in standard errors passes on nearly every series",
    )


def pytest_configure(config: pytest.Config) -> None:
    """With ``--other-seeds K`` every `Noise` draws from generators of their own for this K."""
    series = config.getoption("--other-seeds")
    if not series:
        return
    original = noise.Noise.generator

    def generator(self: noise.Noise, *args: Any, **kwargs: Any) -> torch.Generator:
        key = self.key ^ series * 0x9E3779B97F4A7C15
        return original(replace(self, key=key), *args, **kwargs)

    noise.Noise.generator = generator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of modules that start processes: these draw series 0 whatever the option."""
    starts = {path: "subprocess" in path.read_text() for path in {item.path for item in items}}
    for item in items:
        if starts[item.path]:
            item.add_marker("processes")


def _global_state() -> dict[str, object]:
    return {
        "torch's random numbers": torch.get_rng_state().numpy().tobytes(),
        "NumPy's random numbers": (
            np.random.get_state()[1].tobytes() + bytes(str(np.random.get_state()[2:]), "ascii")
        ),
        "Python's random numbers": random.getstate(),
        "the default dtype": torch.get_default_dtype(),
        "the number of threads": torch.get_num_threads(),
        "the gradient mode": torch.is_grad_enabled(),
    }


@pytest.fixture(autouse=True)
def global_state_is_left_alone() -> Iterator[None]:
    """Fails a test that changes what other code could notice, and puts it back."""
    before, numpy_state = _global_state(), np.random.get_state()
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    yield
    changed = [name for name, value in _global_state().items() if value != before[name]]
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)
    random.setstate(python_state)
    torch.set_default_dtype(before["the default dtype"])
    torch.set_num_threads(before["the number of threads"])
    torch.set_grad_enabled(before["the gradient mode"])
    if changed:
        pytest.fail(
            f"the test changed {', '.join(changed)}: draw from orn.Noise or a torch.Generator,"
            " restore the rest"
        )


@pytest.fixture
def seeded_weights() -> Iterator[None]:
    """Networks draw their first weights from torch's global generator: seed 0 of it, and Python's
    too, put back afterwards.

    (The command line's parser draws from Python's: it cleans its cache one time in ten.)
    """
    state = random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    random.setstate(state)
