"""Output files and memory limits of a command, checked before the work starts.

A command that computes for an hour and then cannot write loses the hour. So each command claims its
folder first, and every file is replaced in one step.
"""

__all__ = ["check_memory", "claim_folder", "save_array", "writing"]

import io
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import Tensor

from ornstein.errors import OrnsteinError
from ornstein.inference.checkpoint import write_atomically

_GIGABYTE = 1e9  # bytes


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one line that names the file.

    Raises:
        OrnsteinError: if the body fails with an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise OrnsteinError(
            f"could not write {error.filename or path}: {error.strerror or error}; free space or"
            " choose another folder"
        ) from error


def claim_folder(folder: Path) -> Path:
    """Make a folder if it is missing, check that it can be written to, and return it.

    Raises:
        OrnsteinError: if it cannot.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    return folder


def save_array(path: Path, x: Tensor) -> Path:
    """Write a tensor as an .npy file in one step and return the path.

    Raises:
        CheckpointError: if it cannot be written; the old file is then intact.
    """
    content = io.BytesIO()
    np.save(content, x.numpy(), allow_pickle=False)
    write_atomically(path, content.getvalue())
    return path


def check_memory(options: str, numbers: float, size: int = 4) -> None:
    """Raise for a request of more numbers than the memory of this machine can hold.

    Args:
        options: what asked for them, for the message.
        numbers: how many must be in memory at once.
        size: bytes of one number.

    Raises:
        OrnsteinError: if they need more than the physical memory.
    """
    present = _physical_memory()
    if numbers * size > present:
        raise OrnsteinError(
            f"{options}: {numbers * size / _GIGABYTE:.3g} GB are needed at the least, and this"
            f" machine has {present / _GIGABYTE:.3g} GB of memory: ask for less"
        )


def _physical_memory() -> float:
    """Return the bytes of memory, infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf
