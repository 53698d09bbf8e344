"""Conditions: the inputs y of a conditional model p(x | y), such as a class, a position or an age.

A network takes conditions as a mapping ``name -> tensor`` with one row per sample. Each name is
declared by a `Condition`, which says what a value looks like, how values of a user are checked, how
a value enters the network, and which *null* value stands for "not given". Training replaces values
by the null value at random (classifier-free guidance, Ho and Salimans 2022), so that one network is
both the conditional and the unconditional model. A network keeps its declarations in
``net.conditions``; `ornstein.fit` makes them from the data.
"""

__all__ = ["Condition", "Label", "Vector", "declare", "declared_config"]

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ornstein.errors import OrnsteinError


class Condition(ABC):
    """A kind of condition: its shape, its null value, its check, and its layer in a network.

    A new kind is a frozen dataclass that derives from this class; `ornstein.register` lets run
    folders name it.

    Example:
        >>> orn.conditions.Vector(2).shape
        (2,)
    """

    plural: ClassVar[str] = "values"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one value, the empty tuple for a number."""
        return ()

    @abstractmethod
    def null(self) -> Tensor:
        """Return the value of shape ``shape`` that stands for a condition that is not given."""

    @abstractmethod
    def collate(self, values: Any) -> Tensor:
        """Check values and return a tensor: ``shape`` for all samples, else ``(n, *shape)``.

        Raises:
            OrnsteinError: for values that this condition cannot have.
        """

    @abstractmethod
    def embedding(self, width: int) -> nn.Module:
        """Return the layer that maps rows of values to features of the network.

        Args:
            width: number of features; the layer maps ``(b, *shape)``, null values among them, to
                ``(b, width)``.
        """


@dataclass(frozen=True)
class Label(Condition):
    """A class: a whole number from 0 to ``classes - 1``, with a learned vector for each.

    Args:
        classes: number of classes; the null value is one class more, ``classes`` itself.

    Example:
        >>> orn.conditions.Label(3).null()
        tensor(3)
    """

    classes: int
    plural = "classes"

    def __post_init__(self) -> None:
        if not isinstance(self.classes, int) or self.classes < 1:
            raise OrnsteinError(f"Label(classes={self.classes!r}): a whole number, at least 1")

    def null(self) -> Int[Tensor, ""]:
        return torch.tensor(self.classes)

    def collate(self, values: Any) -> Int[Tensor, "*n"]:
        classes = torch.as_tensor(values)
        fractional = classes.is_floating_point() and bool((classes != classes.round()).any())
        if classes.is_complex() or fractional:
            raise OrnsteinError("labels are whole numbers")
        classes = classes.long()
        if classes.ndim > 1 or bool(((classes < 0) | (classes >= self.classes)).any()):
            raise OrnsteinError(f"this model's labels are 0 to {self.classes - 1}")
        return classes

    def embedding(self, width: int) -> nn.Module:
        return _LabelEmbedding(self.classes, width)


class _LabelEmbedding(nn.Module):
    """The layer of a `Label`: a learned row for each class, and one for the null value."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, label: Int[Tensor, " b"]) -> Float[Tensor, "b width"]:
        return self.table(label)


_MAX_DEVIATIONS = 1e6  # standard deviations from the mean, beyond which a network overflows
_MAX_ROUNDING = 1e-2  # standard deviations that a value may change by in single precision


@dataclass(frozen=True)
class Vector(Condition):
    """A vector of real numbers, such as a position or an age, which a network sees standardised.

    Args:
        dim: number of its entries.
        mean, std: per entry, or one number for all; the network sees ``(value - mean) / std``.

    Example:
        >>> orn.conditions.Vector(2).collate([0.2, 0.4])
        tensor([0.2000, 0.4000])
    """

    dim: int
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.dim, int) or self.dim < 1:
            raise OrnsteinError(f"Vector(dim={self.dim!r}): a whole number, at least 1")
        for name in ("mean", "std"):
            value = getattr(self, name)
            value = tuple(map(float, value)) if isinstance(value, list | tuple) else float(value)
            numbers = torch.tensor(value)
            wrong = numbers.numel() not in (1, self.dim) or not bool(numbers.isfinite().all())
            if wrong or (name == "std" and not bool((numbers > 0).all())):
                raise OrnsteinError(
                    f"Vector({name}={value}): {self.dim} finite numbers, or one; std positive"
                )
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, values: Float[Tensor, "n dim"]) -> "Vector":
        """Declare a vector condition with the mean and standard deviation of given rows."""
        x = values.double()
        std = x.std(0)
        std = torch.where(std > 0, std, torch.ones_like(std))
        return cls(x.shape[1], tuple(x.mean(0).tolist()), tuple(std.tolist()))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one value, ``(dim,)``."""
        return (self.dim,)

    def null(self) -> Float[Tensor, " dim"]:
        return torch.full((self.dim,), torch.nan, dtype=torch.float32)

    def collate(self, values: Any) -> Float[Tensor, "*n dim"]:
        given = torch.as_tensor(values)
        if isinstance(values, float | list | tuple) and given.is_floating_point():
            given = torch.as_tensor(values, dtype=torch.float64)
        if given.is_complex():
            raise OrnsteinError(
                f"dtype {given.dtype}: pass real and imaginary parts as two entries"
            )
        x = given.to(torch.float32)
        if self.dim == 1 and (x.ndim == 0 or (x.ndim == 1 and len(x) != 1)):
            x = x[..., None]
        if x.ndim not in (1, 2) or x.shape[-1] != self.dim or not bool(x.isfinite().all()):
            raise OrnsteinError(
                f"shape {tuple(x.shape)}: pass {self.dim} finite numbers, or (n, {self.dim})"
            )
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        if bool(((x - mean).abs() > _MAX_DEVIATIONS * std).any()):
            raise OrnsteinError(
                f"it is more than {_MAX_DEVIATIONS:g} standard deviations ({self.std}) away from"
                f" the mean {self.mean} of the training data"
            )
        if bool(((x.double() - given.double().reshape(x.shape)).abs() > _MAX_ROUNDING * std).any()):
            raise OrnsteinError(
                f"its digits are lost in float32: they vary by {self.std} about {self.mean};"
                " subtract an offset"
            )
        return x

    def embedding(self, width: int) -> nn.Module:
        return _VectorEmbedding(self, width)


class _VectorEmbedding(nn.Module):
    """The layer of a `Vector`: two linear layers, and a learned vector for rows with NaN."""

    mean: Tensor
    std: Tensor

    def __init__(self, kind: Vector, width: int) -> None:
        super().__init__()
        for name in ("mean", "std"):
            value = torch.tensor(getattr(kind, name), dtype=torch.float32).expand(kind.dim).clone()
            self.register_buffer(name, value, persistent=False)
        self.layers = nn.Sequential(nn.Linear(kind.dim, width), nn.SiLU(), nn.Linear(width, width))
        self.none = nn.Parameter(torch.zeros(width))

    def forward(self, value: Float[Tensor, "b dim"]) -> Float[Tensor, "b width"]:
        missing = value.isnan().any(1, keepdim=True)
        standard = (value.nan_to_num() - self.mean) / self.std
        features = self.layers(standard.to(self.none.dtype))
        return torch.where(missing, self.none, features)


def declare(
    labels: int | Mapping[str, Condition], conditions: Mapping[str, Condition] | None
) -> dict[str, Condition]:
    """Merge the two ways to declare the conditions of a network; classes come first.

    Args:
        labels: number of classes of the condition "label", 0 for none; or a mapping like the next.
        conditions: declarations by name.
    """
    declared: dict[str, Condition] = {}
    if isinstance(labels, Mapping):
        declared |= labels
    elif labels:
        declared["label"] = Label(labels)
    declared |= conditions or {}
    for name, kind in declared.items():
        if not isinstance(kind, Condition):
            raise OrnsteinError(
                f"conditions={{{name!r}: {kind!r}}}: a Condition, such as orn.conditions.Vector(2)"
            )
    first = {k: v for k, v in declared.items() if k == "label" and type(v) is Label}
    return first | declared


def declared_config(declared: Mapping[str, Condition]) -> dict[str, Any]:
    """Return the arguments ``labels`` and, where needed, ``conditions`` that give a declaration."""
    label = declared.get("label")
    if type(label) is not Label:
        return {"labels": 0, **({"conditions": dict(declared)} if declared else {})}
    others = {name: kind for name, kind in declared.items() if name != "label"}
    return {"labels": label.classes, **({"conditions": others} if others else {})}
