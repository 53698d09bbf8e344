"""What the benchmarks share: the memory of a process, and where tables go."""

__all__ = ["megabytes_above", "publish"]

from collections.abc import Callable
from pathlib import Path


def publish(text: str, folder: Path) -> None:
    """Print a text and write it to ``table.md`` in the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(text)
    print(text)


def megabytes_above() -> Callable[[], float]:
    """A function that tells how far the resident size of this process has risen since now, at its
    highest, in MB. Linux alone tells."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    return lambda: (_resident("VmHWM") - before) / 1e6


def _resident(field: str) -> int:
    """A line of the process's status, in bytes."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) << 10
