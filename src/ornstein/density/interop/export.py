"""Export draws to ArviZ, pandas and ``.npz`` files, and read them back.

All functions take named parameters ``{name: (n, *shape)}``, n equally weighted draws, and
attributes: numbers and texts that belong to them, such as log Z and its standard error.
"""

__all__ = ["load_npz", "save_npz", "to_inference_data", "to_pandas"]

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.density.interop.numpy import require
from ornstein.errors import DataError, OrnsteinError

_ATTRIBUTES = "attributes (json)"


def to_inference_data(
    parameters: Mapping[str, Tensor],
    attributes: Mapping[str, Any] | None = None,
    axes: Mapping[str, tuple[str, ...]] | None = None,
    labels: Mapping[str, tuple[Any, ...]] | None = None,
) -> Any:
    """Return draws as an ArviZ ``InferenceData`` with one chain in the group ``posterior``.

    From ArviZ 1.0 on it is a ``DataTree``.

    Args:
        parameters: ``{name: (n, *shape)}``.
        attributes: numbers and texts that the group carries; None values are left out.
        axes: names of the axes of parameters.
        labels: names of the positions on named axes.

    Raises:
        OrnsteinError: if ArviZ is missing, or the draws differ in number.
    """
    arviz = require("arviz", "arviz")
    draws = {name: value[None] for name, value in _arrays(parameters).items()}
    notes = {name: value for name, value in (attributes or {}).items() if value is not None}
    dims = {name: list(names) for name, names in (axes or {}).items() if name in draws}
    used = {name for names in dims.values() for name in names}
    coords = {name: list(values) for name, values in (labels or {}).items() if name in used}
    if int(arviz.__version__.split(".")[0]) >= 1:
        tree = arviz.from_dict({"posterior": draws}, dims=dims, coords=coords)
        tree["posterior"].attrs.update(notes)
        return tree
    data = arviz.from_dict(posterior=draws, dims=dims, coords=coords)
    data.posterior.attrs.update(notes)
    return data


def to_pandas(parameters: Mapping[str, Tensor], attributes: Mapping[str, Any] | None = None) -> Any:
    """Return draws as a ``DataFrame`` of n rows with one column for every number.

    The columns are named ``mu``, ``theta[0]``, ``L[0, 1]``.

    Args:
        parameters: ``{name: (n, *shape)}``.
        attributes: what ``DataFrame.attrs`` holds.

    Raises:
        OrnsteinError: if pandas is missing, or the draws differ in number.
    """
    pandas = require("pandas", "arviz")
    columns = {}
    for name, value in _arrays(parameters).items():
        for index, column in zip(
            np.ndindex(*value.shape[1:]), value.reshape(len(value), -1).T, strict=True
        ):
            columns[f"{name}[{', '.join(map(str, index))}]" if index else name] = column
    frame = pandas.DataFrame(columns)
    frame.attrs.update(attributes or {})
    return frame


def save_npz(
    path: str | Path, parameters: Mapping[str, Tensor], attributes: Mapping[str, Any] | None = None
) -> None:
    """Write draws as a compressed ``.npz`` file with one array for each parameter.

    Args:
        path: the file.
        parameters: ``{name: (n, *shape)}``.
        attributes: stored as JSON, NaN and infinity included.

    Raises:
        OrnsteinError: if the draws differ in number.
    """
    if _ATTRIBUTES in parameters:
        raise OrnsteinError(f"{_ATTRIBUTES!r} cannot be the name of a parameter")
    arrays = {**_arrays(parameters), _ATTRIBUTES: np.array(json.dumps(dict(attributes or {})))}
    # np.savez reserves some names for its own arguments
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(value, order="C"), allow_pickle=False)


def load_npz(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the parameters and the attributes that `save_npz` wrote.

    Raises:
        DataError: if there is no such file, or something else wrote it.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no file of draws: {error}") from error
    if _ATTRIBUTES not in arrays:
        raise DataError(
            f"{path} holds {sorted(arrays)[:5]}, and no attributes: orn's save_npz did not write it"
        )
    attributes: dict[str, Any] = json.loads(str(arrays.pop(_ATTRIBUTES)))
    return {name: torch.from_numpy(value) for name, value in arrays.items()}, attributes


def _arrays(parameters: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return the draws as NumPy arrays, and check that all parameters have equally many."""
    arrays = {name: value.detach().cpu().numpy() for name, value in parameters.items()}
    if len({len(value) for value in arrays.values()}) != 1:
        raise OrnsteinError(
            "parameters need equally many draws, got"
            f" { ({name: len(value) for name, value in arrays.items()}) }"
        )
    return arrays
