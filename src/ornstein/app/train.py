"""The command ``ornstein train``: train a model of samples, or resume a training."""

__all__ = ["TrainCommand"]

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from ornstein.app.imports import Imports, made
from ornstein.app.options import arguments, condition_values, takes
from ornstein.errors import DataError
from ornstein.inference.manifest import Manifest, options
from ornstein.training.fit import fit
from ornstein.training.recipes import RECIPES


@dataclass(frozen=True)
@takes(fit)
class TrainCommand:
    """Train a model of samples, or resume a training that was interrupted in the same folder."""

    data: str
    """A folder of pictures, an .npy, .npz or .csv file, or the name of a bundled set."""
    out: Path
    """The run folder: checkpoints, log and model."""
    recipe: Annotated[
        str, tyro.conf.arg(help=f"One of auto, {', '.join(RECIPES)}; or module:name of a Recipe.")
    ] = "auto"
    labels: Path | None = None
    """A file of classes, .npy or text, one per sample; by default those of the data."""
    conditions: Annotated[
        tuple[str, ...] | None,
        tyro.conf.arg(
            aliases=["--condition"],
            help="More to condition on, name=rows.npy each: (n,) classes or (n, dim) numbers.",
        ),
    ] = None
    imports: Imports = ()
    progress: bool = True
    """Show the progress on the terminal."""

    def run(self) -> None:
        """Train and write the run folder with a manifest."""
        manifest = Manifest("train", options(self))
        recipe = made(self.recipe, str)
        labels = None if self.labels is None else read_labels(self.labels)
        try:
            conditions = condition_values(self.conditions) or None
            resolved = {"labels": labels, "conditions": conditions, "recipe": recipe}
            model = fit(**arguments(self, fit, **resolved))
        except KeyboardInterrupt:
            print(
                f"\nstopped; the last checkpoint is in {self.out}: the same command resumes from"
                " there",
                file=sys.stderr,
            )
            raise
        manifest.write(self.out, {"info": model.info}, model.device)
        print(f"model: {self.out}\nnext:  ornstein sample {self.out}")


def read_labels(path: Path) -> np.ndarray:
    """Read whole numbers ``(n,)`` from an .npy file or from a text file with one on each line.

    Raises:
        DataError: if the file cannot be read or holds something else.
    """
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        return np.loadtxt(path, dtype=np.int64, ndmin=1)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"--labels {path}: {error}; needed is one whole number per sample, in an .npy or a text"
            " file"
        ) from error
