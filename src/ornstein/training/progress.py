"""Progress of a training: a record after every step, a progress bar, and a log of the losses."""

__all__ = ["LossLog", "TrainingProgress", "progress_bar"]

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.errors import CheckpointError, OrnsteinError

_EDGES = torch.linspace(-8, 8, 9, dtype=torch.float32)  # edges of the log-SNR bins of mean losses
_SMOOTHING = 0.98  # smoothing of the loss on the bar: the mean of about 50 steps
_LINES = 10  # lines that a training prints where there is no terminal for a bar


class TrainingProgress(NamedTuple):
    """The state of a training after a step, as a callback receives it.

    Attributes:
        step: number of steps that are done.
        steps: number of steps of the training.
        loss: mean loss of the step.
    """

    step: int
    steps: int
    loss: float


class LossLog:
    """A log of mean losses in a run folder, overall and in bins of the log-SNR."""

    def __init__(self) -> None:
        self._sums = torch.zeros(len(_EDGES) + 1, dtype=torch.float32)
        self._counts = torch.zeros_like(self._sums)

    def add(self, losses: Tensor, log_snr: Tensor | None) -> None:
        """Add the losses of a step, and their log-SNR where they belong to noise levels."""
        levels = losses.new_zeros(len(losses)) if log_snr is None else log_snr
        bins = (levels.detach().float().cpu()[:, None] > _EDGES).sum(1)  # edges below each level
        values = losses.detach().float().cpu()
        self._sums.index_add_(0, bins, values)
        self._counts.index_add_(0, bins, torch.ones_like(values))

    def write(self, folder: Path, step: int, seconds: float) -> None:
        """Append the means since the last line to ``log.jsonl``.

        Raises:
            CheckpointError: if the file cannot be written.
        """
        means = self._sums / self._counts.clamp(min=1)
        row: dict[str, Any] = {
            "step": step,
            "seconds": round(seconds, 2),
            "loss": float(self._sums.sum() / self._counts.sum().clamp(min=1)),
            "log_snr_edges": _EDGES.tolist(),
            "loss_by_log_snr": [round(mean, 6) for mean in means.tolist()],
        }
        self._sums.zero_()
        self._counts.zero_()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise CheckpointError(
                f"could not write {folder / 'log.jsonl'}: {error.strerror}; free space, then resume"
            ) from error


@contextmanager
def progress_bar(
    progress: bool | Callable[[TrainingProgress], None],
) -> Iterator[Callable[[TrainingProgress], None]]:
    """Yield a callback that shows a progress bar, prints plain lines, or is the user's.

    Args:
        progress: True for a bar, False for nothing, or a function that is called after every step.
    """
    if not (isinstance(progress, bool) or callable(progress)):
        raise OrnsteinError(f"progress={progress!r}: pass True, False, or a function")
    if not isinstance(progress, bool):
        yield progress
        return
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        bars.TextColumn("training"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("loss {task.fields[loss]:.4f}"),
        bars.TimeRemainingColumn(),
    )
    smooth = math.nan

    def report(now: TrainingProgress) -> None:
        nonlocal smooth
        previous = now.loss if math.isnan(smooth) else smooth
        smooth = _SMOOTHING * previous + (1 - _SMOOTHING) * now.loss
        bar.update(task, completed=now.step, total=now.steps, loss=smooth)
        if progress and not console.is_terminal and now.step % max(1, now.steps // _LINES) == 0:
            console.print(
                f"training: step {now.step} of {now.steps}, loss {smooth:.4f}", highlight=False
            )

    shown = progress and console.is_terminal
    with bars.Progress(*columns, console=console, disable=not shown) as bar:
        task = bar.add_task("training", total=None, loss=smooth)
        yield report
