"""What a run was: written beside its results, so that its numbers can be made again."""

__all__ = ["Manifest", "options"]

import platform
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ornstein.inference.checkpoint import write_config


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def options(command: Any) -> dict[str, Any]:
    """The options of a verb, as JSON takes them."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(command).items()
    }


@dataclass
class Manifest:
    """Options, versions, device and cost of one run; `write` it when the run is over.

    Args:
        command: the verb.
        options: everything the run was asked for, the seed among them.
    """

    command: str
    options: dict[str, Any]
    started: float = field(default_factory=time.time)

    def write(self, folder: Path, results: dict[str, Any]) -> Path:
        """Write ``manifest-<command>.json`` into the folder and return its path."""
        path = folder / f"manifest-{self.command}.json"
        write_config(
            path,
            {
                "command": self.command,
                "options": self.options,
                "results": results,
                "seconds": round(time.time() - self.started, 2),
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
                "device": "cpu",
                "threads": torch.get_num_threads(),
                "python": platform.python_version(),
                "platform": platform.system(),
                "versions": {
                    name: _version(name) for name in ("ornstein", "torch", "numpy", "safetensors")
                },
            },
        )
        return path
