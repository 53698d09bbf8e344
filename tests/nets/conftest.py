"""Networks draw their first weights from torch's global generator: here it is seeded for each test, and put back after it."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded_weights() -> Iterator[None]:
    """Every test starts from seed 0 of the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
