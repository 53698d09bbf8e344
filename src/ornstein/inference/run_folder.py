"""The format of a run folder: ``config.json`` for the parts, ``model.safetensors`` for tensors.

Parts are objects of registered classes (see `ornstein.models.registry`). A configuration is checked
before anything large is allocated: a network is first made without memory, on torch's meta device,
and the shapes of its parameters are compared with those in the file.
"""

__all__ = ["configuration", "read", "rename_old", "tensors"]

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.core.methods import TabulatedMultistep
from ornstein.core.processes.linear import LinearSDE
from ornstein.errors import CheckpointError
from ornstein.inference import checkpoint
from ornstein.inference.bound_model import BoundModel
from ornstein.inference.sampling.tune import Tuned
from ornstein.models import registry
from ornstein.models.codecs.affine import Codec
from ornstein.models.codecs.triangular import TriangularCodec
from ornstein.models.conditions import Conditions
from ornstein.models.denoiser import LOG_SNR_KNOTS, Denoiser
from ornstein.models.parametrisations import parametrisation

FORMAT = 2
"""Of configurations that are written; 1 named classes without their modules."""

_MAX_EVENT = 2**28  # numbers in an event, 1 GiB in float32: more is a damaged configuration
_RENAMED = {"embedding.labels.": "embedding.inputs.0."}  # new names of tensors, since format 1


def configuration(model: BoundModel) -> dict[str, Any]:
    """Return everything of a model that is not a tensor, as JSON takes it.

    Raises:
        OrnsteinError: for a part without a configuration (see `registry.configuration`).
    """
    denoiser = model.denoiser
    return {
        "format": FORMAT,
        "sde": registry.configuration(denoiser.sde),
        "net": registry.configuration(denoiser.net),
        "param": denoiser.param.name,
        "data_std": denoiser.data_std,
        "event_shape": list(model.event_shape),
        "codec": registry.configuration(model.codec),
        "names": list(model.names),
        "info": model.info,
        "tuned": {
            str(steps): sampler.config()
            for steps, sampler in model.tuned.items()
            if isinstance(sampler.method, TabulatedMultistep)
        },
    }


def tensors(model: BoundModel) -> dict[str, Tensor]:
    """Return all tensors of a model by name, including the tensors of bound conditions."""
    modules = {"denoiser": model.denoiser, "codec": model.codec}
    states = {part: module.state_dict() for part, module in modules.items()}
    states["given"] = dict(model.bound)
    return {f"{part}.{name}": t for part, state in states.items() for name, t in state.items()}


def read(folder: Path) -> dict[str, Any]:
    """Return the arguments of the `DiffusionModel` in a run folder, on the CPU.

    Raises:
        CheckpointError: if the folder or a file is missing, truncated, from a newer version, names
            a class that is not registered, or does not fit the configuration.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder")
    config = checkpoint.read_config(folder / "config.json")
    if config.get("format") not in (1, FORMAT):
        raise CheckpointError(
            f"{folder / 'config.json'} has format {config.get('format')!r}, this version reads 1"
            f" and {FORMAT}: upgrade ornstein"
        )
    values, _ = checkpoint.load_tensors(folder / "model.safetensors")
    try:
        return _parts(config, rename_old(values) if config["format"] == 1 else values)
    except Exception as error:  # a damaged or hostile configuration raises anything
        if isinstance(error, CheckpointError):
            raise CheckpointError(f"{folder}: {error}") from error
        raise CheckpointError(
            f"{folder}: config.json and model.safetensors do not fit together"
            f" ({type(error).__name__}: {error})"
        ) from error


def rename_old(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of release 0.1 under the names that they have today."""
    renamed = dict(values)
    for old, new in _RENAMED.items():
        renamed = {name.replace(old, new): t for name, t in renamed.items()}
    return renamed


def _parts(config: Mapping[str, Any], values: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of a `DiffusionModel` from a configuration, each checked."""
    event, names, info = config["event_shape"], config["names"], config["info"]
    if not isinstance(event, list) or not all(type(n) is int and n > 0 for n in event):
        raise CheckpointError(f"event_shape={event!r:.80}: a list of whole numbers, at least 1")
    if math.prod(event) > _MAX_EVENT:
        raise CheckpointError(f"event_shape={event!r:.80}: at most {_MAX_EVENT} numbers")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"names={names!r:.80}: a list of strings")
    if not isinstance(info, dict):
        raise CheckpointError(f"info={info!r:.80}: an object")
    part = {
        kind: {k.removeprefix(kind): v for k, v in values.items() if k.startswith(kind)}
        for kind in ("denoiser.", "codec.", "given.")
    }
    denoiser = Denoiser(
        _network(config["net"], part["denoiser."]),
        registry.build(config["sde"], LinearSDE),
        parametrisation(config["param"]),
        config["data_std"],
        tuple(event),
    )
    denoiser.std_table = _std_table(part["denoiser."]["std_table"], event)
    denoiser.load_state_dict(part["denoiser."])
    return {
        "denoiser": denoiser.eval().requires_grad_(False),
        "codec": _codec(config["codec"], part["codec."], event),
        "names": tuple(names),
        "info": info,
        "tuned": {int(k): Tuned.build(v) for k, v in config.get("tuned", {}).items()},
        "bound": dict(Conditions.of(denoiser.conditions, part["given."])),
    }


def _network(config: Any, state: Mapping[str, Tensor]) -> nn.Module:
    """Make the network of a configuration, if its parameters have the shapes of the file."""
    cls, arguments = registry.lookup(config, nn.Module)
    with torch.random.fork_rng(devices=[]):  # initial weights come from the global generator
        try:
            with torch.device("meta"):
                shapes = {f"net.{k}": v.shape for k, v in cls(**arguments).state_dict().items()}
        except (NotImplementedError, RuntimeError):  # a network that cannot be made without memory
            if registry.is_own(cls):
                raise
            return cls(**arguments)
        saved_shapes = {k: v.shape for k, v in state.items() if k.startswith("net.")}
        wrong = [k for k in {**shapes, **saved_shapes} if shapes.get(k) != saved_shapes.get(k)]
        if wrong:
            raise CheckpointError(
                "config.json and model.safetensors do not fit together: they disagree on"
                f" {len(wrong)} tensors of the network, such as {wrong[0]}"
            )
        return cls(**arguments)


def _std_table(table: Tensor, event: list[int]) -> Tensor:
    """Return the table of posterior standard deviations: empty, or one row for each knot."""
    if table.numel() == 0:
        return table
    rows, *shape = table.shape
    fits = rows == len(LOG_SNR_KNOTS) and _broadcasts(shape, event)
    if not fits or not bool((table.isfinite() & (table > 0)).all()):
        raise CheckpointError(
            f"std_table of shape {tuple(table.shape)}: {len(LOG_SNR_KNOTS)} rows of positive"
            f" numbers that broadcast to {tuple(event)}"
        )
    return table


def _broadcasts(shape: Sequence[int], event: list[int]) -> bool:
    """Return whether a tensor of a shape broadcasts to an event without enlarging the event."""
    ends = zip(reversed(shape), reversed(event), strict=False)
    return len(shape) <= len(event) and all(size in (1, n) for size, n in ends)


def _codec(config: Mapping[str, Any], state: Mapping[str, Tensor], event: list[int]) -> Codec:
    """Make the codec from a configuration and its tensors."""
    if config.get("kind") == "bend":  # format 1
        return TriangularCodec.from_config({}, state)
    cls, arguments = registry.lookup(config, Codec) if "class" in config else (Codec, dict(config))
    codec: Codec = cls.from_config(arguments, state)  # type: ignore[attr-defined]
    if cls is Codec:
        for name, tensor in state.items():
            if not bool(tensor.isfinite().all()):
                raise CheckpointError(f"the codec's {name} holds NaN or infinite numbers")
            matrix = name == "factor" and list(tensor.shape) == event * 2
            if not matrix and not _broadcasts(tensor.shape, event):
                raise CheckpointError(f"the codec's {name} of shape {tuple(tensor.shape)}")
    return codec
