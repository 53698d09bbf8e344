"""Values of conditions that belong to samples: checked, expanded, selected and grouped by name.

`ornstein.nets.conditions` declares what a condition is; this file holds given values. It is used
where samples meet a conditional model: in `DiffusionModel` (a value for all samples, or one for
each), in training (rows of a batch) and in likelihoods (samples of one value share their steps).
"""

__all__ = ["Condition", "Conditions", "Label", "Vector"]

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ornstein.errors import OrnsteinError
from ornstein.nets.conditions import Condition, Label, Vector


@dataclass(frozen=True)
class Conditions(Mapping[str, Tensor]):
    """Checked values of named conditions: one value for all samples, or one row per sample.

    Args:
        kinds: the declarations, by name.
        values: for some of the names, tensors of shape ``shape`` or ``(n, *shape)``.

    Example:
        >>> kinds = {"label": orn.conditions.Label(3)}
        >>> orn.conditions.Conditions.of(kinds, {"label": 2}).rows(2)["label"]
        tensor([2, 2])
    """

    kinds: Mapping[str, Condition]
    values: Mapping[str, Tensor]  # type: ignore[assignment]

    @classmethod
    def of(cls, kinds: Mapping[str, Condition], given: Mapping[str, Any]) -> "Conditions":
        """Check the names and the values of conditions that a user gives.

        Raises:
            OrnsteinError: for a name that is not declared, or a value that its kind refuses.
        """
        if not isinstance(given, Mapping):
            raise OrnsteinError(f"conditions={given!r}: pass a dictionary, such as {{'age': 40}}")
        unknown = [name for name in given if name not in kinds]
        if unknown:
            takes = list(kinds) or "no conditions: it was trained without"
            raise OrnsteinError(f"condition {unknown}: the network takes {takes}")
        values = {}
        for name, value in given.items():
            try:
                values[name] = kinds[name].collate(value)
            except (TypeError, ValueError, RuntimeError) as error:
                raise OrnsteinError(f"{name}={value}: {error}") from error
        return cls(kinds, values)

    def __getitem__(self, name: str) -> Tensor:
        return self.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, n: int, like: Tensor | None = None) -> "Conditions":
        """Expand all conditions to one row per sample, for n samples.

        Args:
            n: number of samples.
            like: a tensor on the device that the rows move to; by default they stay.

        Raises:
            OrnsteinError: if a condition has a number of rows that is not n.
        """
        for name, value in self.values.items():
            if self._has_rows(name) and len(value) != n:
                raise OrnsteinError(
                    f"{name} holds {len(value)} {self.kinds[name].plural} for {n} samples: give"
                    " one, or one per sample"
                )
        return self._map(
            lambda name, v: (v if like is None else v.to(like.device)).expand(
                n, *self.kinds[name].shape
            )
        )

    def take(self, index: Int[Tensor, " k"] | slice) -> "Conditions":
        """Select the rows of some samples; a value for all samples stays as it is."""
        return self._map(lambda name, v: v[index] if self._has_rows(name) else v)

    def cycle(self, n: int) -> "Conditions":
        """Repeat the rows in turn to n rows; a value for all samples stays as it is."""
        return self._map(lambda name, v: v[torch.arange(n) % len(v)] if self._has_rows(name) else v)

    def groups(self, n: int) -> "list[tuple[Conditions, Tensor]]":
        """Return the distinct values among n samples, each with the indices of its samples."""
        if not self.values:
            return [(self, torch.arange(n))]
        rows = self.rows(n)
        columns = [v.reshape(n, -1).double() for v in rows.values.values()]
        _, member = torch.cat(columns, 1).unique(dim=0, return_inverse=True)
        places = [(member == k).nonzero().flatten() for k in range(int(member.max()) + 1)]
        return [(rows._map(lambda name, v, i=int(p[0]): v[i]), p) for p in places]

    def _has_rows(self, name: str) -> bool:
        """Return whether a condition has one row per sample instead of one value."""
        return self.values[name].ndim > len(self.kinds[name].shape)

    def _map(self, change: Callable[..., Tensor]) -> "Conditions":
        """Return the conditions with each value changed by a function of name and value."""
        return Conditions(self.kinds, {name: change(name, v) for name, v in self.values.items()})
