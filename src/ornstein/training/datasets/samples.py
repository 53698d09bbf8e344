"""Checked samples of a user, with their conditions, and the interface for further kinds of data.

Data is checked when it is read, once: what cannot be learned from is refused with the reason, and
nothing is silently clipped or dropped.
"""

__all__ = ["DataKind", "Samples", "check_labels"]

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.errors import DataError, OrnsteinError
from ornstein.models.codecs.affine import Codec, Layout, Levels
from ornstein.models.conditions import Condition, Label, Vector

_CHANNELS = (1, 3, 4)  # channels of pictures: grey, colour, colour with transparency
_MAX_LEVELS = 65536  # largest number of levels; whole numbers over a wider range are not quantised


@dataclass(frozen=True)
class Samples:
    """Checked samples in the user's layout, with their conditions.

    A kind of data with a map of its own to the model's space overrides `codec`.

    Args:
        x: ``(n, *event)``, floating point.
        labels: ``(n,)`` integers from 0, or None.
        names: of the columns, where they have names.
        integer: whether every value is a whole number, as in pictures.
        conditions: by name, the declaration of a condition and its values, one row per sample.
    """

    x: Tensor
    labels: Tensor | None = None
    names: tuple[str, ...] = ()
    integer: bool = False
    conditions: Mapping[str, tuple[Condition, Tensor]] = field(default_factory=dict)

    def given(self, conditions: Mapping[str, Any] | None) -> "Samples":
        """Return these samples with conditions, the labels among them.

        Args:
            conditions: by name, values with one row per sample: whole numbers ``(n,)`` are classes,
                others are vectors; or a pair of a `Condition` and such values.

        Raises:
            DataError: for values that do not fit the samples.
        """
        if not isinstance(conditions or {}, Mapping):
            raise DataError(f"conditions={conditions!r:.80}: pass a dictionary, name: values")
        values = dict(conditions or {})
        if wrong := [name for name in values if not (isinstance(name, str) and name.strip())]:
            raise DataError(f"conditions of the names {wrong}: names are text, such as 'age'")
        if self.labels is not None:
            values = {"label": self.labels, **values}
        n = len(self.x)
        return replace(self, conditions={k: _declared(k, v, n) for k, v in values.items()})

    def codec(self, dims: int) -> Codec:
        """Return the map to the model's space.

        Tables (``dims = 0``) have a shift and a scale for each column; others have one of each, and
        the levels of quantised data.

        Args:
            dims: dimensions of space in an event: ``(channels, *size)``, ``(*size)`` or ``(*size,
                channels)`` with ``dims`` sizes.

        Raises:
            DataError: for data without any variation.
        """
        low, high = float(self.x.min()), float(self.x.max())
        if low == high:
            raise DataError(f"every value of the data is {low}: there is nothing to learn")
        if dims == 0:
            std = self.x.std(0)
            return Codec(self.x.mean(0), torch.where(std > 0, std, torch.ones_like(std)))
        quantised = self.integer and high - low < _MAX_LEVELS
        levels = Levels(low, 1.0, round(high - low) + 1) if quantised else None
        shift = torch.tensor((low + high) / 2, dtype=torch.float32)
        factor = torch.tensor((high - low) / 2, dtype=torch.float32)
        return Codec(shift, factor, levels, self._layout(dims))

    def _layout(self, dims: int) -> Layout:
        """Return the layout of the events, judged by their sizes."""
        event = self.x.shape[1:]
        if len(event) == dims:
            return "add_channel"
        last = event[-1] in _CHANNELS and event[0] not in _CHANNELS
        return "channels_last" if last else "same"


def _declared(name: str, values: Any, n: int) -> tuple[Condition, Tensor]:
    """Return the declaration of a condition with its checked values."""
    if isinstance(values, tuple) and len(values) == 2 and isinstance(values[0], Condition):
        kind, values = values
    else:
        kind, values = _declare(name, values, n)
    try:
        rows = kind.collate(values)
    except (OrnsteinError, TypeError, RuntimeError) as error:
        raise DataError(f"condition {name!r}: {error}") from error
    if rows.shape != (n, *kind.shape):
        raise DataError(
            f"condition {name!r} of shape {tuple(rows.shape)} for {n} samples: need"
            f" {(n, *kind.shape)}"
        )
    return kind, rows


def _declare(name: str, values: Any, n: int) -> tuple[Condition, Tensor]:
    """Declare a condition from its values: classes for whole numbers, else a vector."""
    try:
        numbers = torch.as_tensor(values if isinstance(values, Tensor) else np.asarray(values))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"condition {name!r} holds no numbers ({error}): map classes to whole numbers from 0"
        ) from error
    if name == "label" or (numbers.ndim == 1 and not numbers.is_floating_point()):
        labels = check_labels(numbers, n)
        assert labels is not None
        return Label(int(labels.max()) + 1), labels
    fits = numbers.ndim in (1, 2) and len(numbers) == n and numbers.numel() > 0
    if not fits or numbers.is_complex() or not bool(numbers.isfinite().all()):
        raise DataError(
            f"condition {name!r} of shape {tuple(numbers.shape)} for {n} samples: need ({n}, dim)"
            " finite numbers"
        )
    vectors = numbers.reshape(n, -1)
    return Vector.of(vectors), vectors


def check_labels(labels: Any, n: int) -> Tensor | None:
    """Return labels as ``(n,)`` integers, None for none.

    Raises:
        DataError: for labels that are not n whole numbers from 0.
    """
    if labels is None:
        return None
    try:
        classes = torch.as_tensor(np.asarray(labels))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the labels are no numbers ({error}): map the classes to whole numbers from 0"
        ) from error
    fractional = classes.is_floating_point() and bool((classes != classes.round()).any())
    if classes.shape != (n,) or classes.is_complex() or fractional:
        raise DataError(
            f"labels of shape {tuple(classes.shape)} and dtype {classes.dtype} for {n} samples:"
            f" need ({n},) whole numbers from 0"
        )
    if int(classes.min()) < 0:
        raise DataError(f"label {int(classes.min())}: labels are whole numbers from 0")
    return classes.long()


class DataKind(ABC):
    """A further kind of data that `ornstein.fit` can read, asked before the kinds of ornstein.

    A class that derives from this one and is registered by `ornstein.register` is made without
    arguments.
    """

    @abstractmethod
    def accepts(self, data: Any) -> bool:
        """Return whether this kind can read what the user passed."""

    @abstractmethod
    def read(self, data: Any) -> Samples:
        """Read what the user passed, and return the checked samples.

        Raises:
            DataError: for data that cannot be learned from.
        """
