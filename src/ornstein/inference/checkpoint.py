"""Files of a run folder: JSON and safetensors, written atomically and never unpickled.

Every file is written next to its place, flushed to the disk, and moved there in one step: a reader
sees the old file or the new one, never half of one, also after a crash or on a full disk. What the
files of a model hold is defined in `ornstein.inference.run_folder`.
"""

__all__ = [
    "folder_path",
    "load_tensors",
    "read_config",
    "save_tensors",
    "write_atomically",
    "write_config",
]

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ornstein.errors import CheckpointError


def folder_path(folder: Any) -> Path:
    """Return the path of a run folder; empty text is refused, as it would mean the current folder.

    Raises:
        CheckpointError: for empty text, or an object that is no path.
    """
    if not isinstance(folder, str | Path) or not str(folder).strip():
        raise CheckpointError(f"run folder {folder!r}: pass the path of a folder, such as 'runs/x'")
    return Path(folder)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by new content in one step, so that no reader sees a part.

    Args:
        path: the file; its folder is made where it is missing.
        content: all bytes of the file.

    Raises:
        CheckpointError: if it cannot be written; the old file is then intact.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"could not write {path} ({len(content)} bytes): {error.strerror or error}. What was"
            " there before is intact; free space or fix permissions, then resume"
        ) from error


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named tensors and string metadata to a safetensors file, atomically.

    Args:
        path: the file.
        tensors: by name; they are copied to the CPU.
        metadata: pairs of strings.

    Raises:
        CheckpointError: if it cannot be written; the old file is then intact.
    """
    copies: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        copy = tensor.detach().cpu().contiguous()
        storage = copy.untyped_storage().data_ptr()
        copies[name] = copy.clone() if storage in storages else copy  # layers may share weights
        storages.add(storage)
    write_atomically(path, save(copies, dict(metadata or {})))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the named tensors and the metadata of a safetensors file.

    Raises:
        CheckpointError: if the file is missing, truncated or not in the safetensors format.
    """
    content = _read(path)
    try:
        tensors = load(content)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} is truncated or no safetensors file ({len(content)} bytes: {error}): restore"
            " it from a copy, or train again"
        ) from error
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return tensors, header.get("__metadata__", {})


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, indented for people to read.

    Raises:
        CheckpointError: if it cannot be written; the old file is then intact.
    """
    write_atomically(path, (json.dumps(config, indent=2) + "\n").encode())


def read_config(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file.

    Raises:
        CheckpointError: if the file is missing or no JSON object.
    """
    try:
        config = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no JSON ({error}): restore it from a copy, or train again"
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{path} holds a {type(config).__name__}, not an object: is this a run folder of"
            " ornstein?"
        )
    return config


def _read(path: Path) -> bytes:
    """Return the bytes of a file, or raise `CheckpointError`."""
    if not path.parent.is_dir():
        raise CheckpointError(f"{path.parent}: there is no such folder")
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"could not read {path}: {error.strerror or error}. Is {path.parent} a run folder?"
        ) from error
