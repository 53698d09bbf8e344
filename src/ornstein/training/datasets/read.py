"""Readers of data: arrays, torch data sets, folders of pictures, .npy, .npz and .csv files.

`read` turns whatever holds a user's samples into checked `Samples`. Registered kinds of data
(`ornstein.training.datasets.DataKind`) are asked first.
"""

__all__ = ["bundled", "read"]

import csv
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ornstein.errors import DataError, look_up
from ornstein.models import registry
from ornstein.training.datasets.samples import DataKind, Samples, check_labels

_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"}


def read(data: Any, labels: Any = None) -> Samples:
    """Read samples from an array, a tensor, a torch `Dataset`, a file, or a folder of pictures.

    A folder with sub-folders of pictures takes these as classes, in alphabetical order.

    Args:
        data: also ``(x, labels)``, the name of a bundled data set, or what a registered kind takes.
        labels: classes, ``(n,)`` whole numbers from 0.

    Raises:
        DataError: for NaN or infinite values, fewer than two samples, no numbers, or labels that do
            not fit.
    """
    names: tuple[str, ...] = ()
    if isinstance(data, Samples):
        return data
    for kind in registry.registered(DataKind):
        if (reader := kind()).accepts(data):
            samples = reader.read(data)
            return (
                samples
                if labels is None
                else replace(samples, labels=check_labels(labels, len(samples.x)))
            )
    if isinstance(data, str | Path):
        try:
            x, own_labels, names = _from_path(data)
        except DataError:
            raise
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{data} cannot be read ({error}): is it whole, and of the kind that its name says?"
            ) from error
        labels = own_labels if labels is None else labels
    elif isinstance(data, tuple) and len(data) == 2 and labels is None:
        x, labels = data
    elif isinstance(data, Dataset):
        x, labels = _from_dataset(data)
    else:
        x = data
    return _check(x, labels, names)


def _check(x: Any, labels: Any, names: tuple[str, ...]) -> Samples:
    """Check samples and labels, and return them as `Samples` in float32."""
    try:
        values = x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the data is no array of numbers ({error}): pass (n, *event) with one dtype"
        ) from error
    if values.ndim < 2 or len(values) < 2 or values.numel() == 0:
        raise DataError(
            f"data of shape {tuple(values.shape)}: need (n, *event) with at least two samples; a"
            " single column is x[:, None]"
        )
    if values.is_complex():
        raise DataError(f"data of dtype {values.dtype}: pass real and imaginary parts as channels")
    integer = not values.is_floating_point() or bool((values == values.round()).all())
    values = values.detach().to(torch.float32)
    bad = ~torch.isfinite(values).flatten(1).all(1)
    if bool(bad.any()):
        rows = bad.nonzero().flatten()
        raise DataError(
            f"{len(rows)} of {len(values)} samples hold NaN or infinite values (the first is sample"
            f" {int(rows[0])}): drop or impute them"
        )
    return Samples(values, check_labels(labels, len(values)), names, integer)


def _from_dataset(data: Dataset) -> tuple[Any, Any]:
    """Read samples, and labels if there are any, from a torch `Dataset`."""
    items = [data[i] for i in range(len(data))]  # type: ignore[arg-type]
    if not items:
        raise DataError("the data set is empty")
    if not isinstance(items[0], tuple | list):
        items = [(item,) for item in items]
    labels = [int(item[1]) for item in items] if len(items[0]) > 1 else None
    return torch.stack([torch.as_tensor(np.asarray(item[0])) for item in items]), labels


def _from_path(where: str | Path) -> tuple[Any, Any, tuple[str, ...]]:
    """Read samples, labels and column names from a file, a folder, or a bundled data set."""
    path = Path(where)
    if not str(where).strip():  # the path of the current folder
        raise DataError("the name of the data is empty")
    if not path.exists():
        if str(where) in _BUNDLED:
            x, labels = bundled(str(where))
            return x, labels, ()
        raise DataError(
            f"{where}: no such file or folder, and no bundled data set"
            f" ({', '.join(sorted(_BUNDLED))})"
        )
    if path.is_dir():
        return *_from_folder(path), ()
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False), None, ()
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        if "x" not in arrays and len(arrays) != 1:
            raise DataError(
                f"{path} holds {sorted(arrays)}: name the samples 'x' and the labels 'labels'"
            )
        return arrays.get("x", next(iter(arrays.values()))), arrays.get("labels"), ()
    if path.suffix == ".csv":
        return _from_csv(path)
    raise DataError(f"{path}: can read folders of pictures, .npy, .npz and .csv")


def _from_csv(path: Path) -> tuple[Any, None, tuple[str, ...]]:
    """Read samples and column names from a .csv file."""
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise DataError(f"{path} is empty")
    names: tuple[str, ...] = ()
    if not all(_is_number(cell) for cell in rows[0]):
        names, rows = tuple(cell.strip() for cell in rows[0]), rows[1:]
    for i, row in enumerate(rows):
        wrong = [cell for cell in row if not _is_number(cell)]
        if wrong or len(row) != len(rows[0]):
            raise DataError(
                f"{path}, row {i + 1} of the data: {wrong or row} is no row of {len(rows[0])}"
                " numbers"
            )
    return np.array(rows, dtype=np.float64), None, names


def _is_number(cell: str) -> bool:
    """Return whether the text of a cell is a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _from_folder(folder: Path) -> tuple[Any, Any]:
    """Read pictures from a folder, with the sub-folders as classes."""
    from PIL import Image

    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in _PICTURES)
    if not files:
        raise DataError(f"{folder} holds no pictures ({', '.join(sorted(_PICTURES))})")
    pictures = [np.asarray(Image.open(f).convert("RGB")) for f in files]
    shapes = {p.shape for p in pictures}
    if len(shapes) > 1:
        raise DataError(
            f"the pictures in {folder} have {len(shapes)} sizes, such as {sorted(shapes)[:2]}:"
            " resize them to one"
        )
    classes = sorted({f.parent.name for f in files})
    labels = [classes.index(f.parent.name) for f in files] if len(classes) > 1 else None
    return np.stack(pictures), labels


def _sklearn(loader: str) -> tuple[Any, np.ndarray]:
    """Load a bundled data set of scikit-learn, with its labels."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(
            f"the bundled data set {loader!r} comes with scikit-learn: pip install"
            " 'ornstein[metrics]'"
        ) from error
    bunch = getattr(datasets, f"load_{loader}")()
    return bunch, bunch.target


def _digits() -> tuple[np.ndarray, np.ndarray | None]:
    """Load the 8 x 8 pictures of handwritten digits, with their labels."""
    bunch, labels = _sklearn("digits")
    return bunch.images, labels


def _table(name: str) -> Callable[[], tuple[np.ndarray, np.ndarray | None]]:
    """Return a function that loads a bundled table, without labels."""
    return lambda: (_sklearn(name)[0].data, None)


_BUNDLED: dict[str, Callable[[], tuple[np.ndarray, np.ndarray | None]]] = {
    "digits": _digits,
    "breast_cancer": _table("breast_cancer"),
    "diabetes": _table("diabetes"),
    "iris": _table("iris"),
    "wine": _table("wine"),
}


def bundled(name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the samples and the labels, if any, of a data set that comes with scikit-learn.

    Args:
        name: digits (pictures with labels), breast_cancer, diabetes, iris or wine (tables).

    Raises:
        UnknownNameError: for another name.
        DataError: if scikit-learn is not installed.
    """
    return look_up("data set", name, _BUNDLED)()
