"""The manifest of a run: a JSON file with everything that is needed to repeat the run."""

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
    """Return the version of an installed package, or "none"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def options(command: Any) -> dict[str, Any]:
    """Return the options of a command, a dataclass, as JSON takes them."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(command).items()
    }


@dataclass
class Manifest:
    """The options, versions, device and wall time of one run, to be written at its end.

    Args:
        command: the command that ran, such as "sample".
        options: everything that was asked for, the seed among it.
        started: when, in seconds since 1970.
    """

    command: str
    options: dict[str, Any]
    started: float = field(default_factory=time.time)

    def write(
        self, folder: Path, results: dict[str, Any], device: torch.device | str = "cpu"
    ) -> Path:
        """Write ``manifest-<command>.json`` into a folder and return its path.

        Args:
            folder: the run folder.
            results: what came out, as JSON takes it.
            device: on which the model computed.

        Raises:
            CheckpointError: if the file cannot be written.
        """
        path = folder / f"manifest-{self.command}.json"
        write_config(
            path,
            {
                "command": self.command,
                "options": self.options,
                "results": results,
                "seconds": round(time.time() - self.started, 2),
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
                "device": str(device),
                "threads": torch.get_num_threads(),
                "python": platform.python_version(),
                "platform": platform.system(),
                "versions": {
                    name: _version(name) for name in ("ornstein", "torch", "numpy", "safetensors")
                },
            },
        )
        return path
