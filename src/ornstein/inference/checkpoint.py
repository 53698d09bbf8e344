"""Run folders: ``config.json`` says what the model is, ``model.safetensors`` holds its numbers.
Nothing is ever unpickled: networks and processes are named with their arguments.

Every file is written beside its place, flushed to the disk, and moved there in one step: whoever
reads finds the old file or the new one, never half of one, also after a crash or on a full disk.
"""

__all__ = [
    "load_tensors",
    "net",
    "net_config",
    "process",
    "process_config",
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

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ornstein.core.processes import schedules as processes
from ornstein.core.processes.linear import LinearSDE
from ornstein.errors import CheckpointError, OrnsteinError
from ornstein.models.analytic_networks import MixtureNetwork, ProductNetwork
from ornstein.nets.mlp import MLP
from ornstein.nets.unet import UNet

_NETS: dict[str, type[nn.Module]] = {
    "MixtureNetwork": MixtureNetwork,
    "ProductNetwork": ProductNetwork,
    "MLP": MLP,
    "UNet": UNet,
}


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step.

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
    """Write named tensors, with string metadata, atomically."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(contiguous, dict(metadata or {})))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Named tensors and metadata.

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
    """Write JSON atomically, readable by people."""
    write_atomically(path, (json.dumps(config, indent=2) + "\n").encode())


def read_config(path: Path) -> dict[str, Any]:
    """Read JSON.

    Raises:
        CheckpointError: if the file is missing or no JSON object.
    """
    try:
        config = json.loads(_read(path))
    except ValueError as error:
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
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"could not read {path}: {error.strerror or error}. Is {path.parent} a run folder?"
        ) from error


def net_config(net: nn.Module) -> dict[str, Any]:
    """The name and the arguments of a network.

    Raises:
        OrnsteinError: for a network of your own.
    """
    if type(net).__name__ not in _NETS:
        raise OrnsteinError(
            f"a {type(net).__name__} cannot be saved: networks of ornstein can ({', '.join(_NETS)})"
        )
    return {"name": type(net).__name__, **net.config}  # type: ignore[dict-item]


def process_config(sde: LinearSDE) -> dict[str, Any]:
    """The name and the numbers of a process.

    Raises:
        OrnsteinError: for a process made of functions.
    """
    if any(callable(value) for value in sde.config().values()):
        raise OrnsteinError(
            f"a {type(sde).__name__} is made of functions and cannot be saved: use one made of"
            " numbers"
        )
    return {"name": type(sde).__name__, **sde.config()}


def net(config: Mapping[str, Any]) -> nn.Module:
    """The network of a `net_config`, with any weights."""
    with torch.random.fork_rng(
        devices=[]
    ):  # a network draws its first weights from the global generator
        return _build(_NETS, config)


def process(config: Mapping[str, Any]) -> LinearSDE:
    """The process of a `process_config`."""
    return _build({name: getattr(processes, name) for name in processes.__all__}, config)


def _build(known: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    return known[config["name"]](**{key: value for key, value in config.items() if key != "name"})
