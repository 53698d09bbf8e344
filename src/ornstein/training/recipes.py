"""Recipes: a network, a process and training settings for each kind of data.

A recipe is a plain object to copy and change (`dataclasses.replace`). It says how many dimensions
of an event are space (0 for tables and points, 1 for sequences, 2 for images, 3 for volumes) and
carries the result it is expected to reach.
"""

__all__ = ["RECIPES", "MakeNet", "Recipe", "recipe"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from ornstein.core.numerics.checks import require_finite, require_integers
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.schedules import Cosine
from ornstein.errors import DataError, OrnsteinError, UnknownNameError
from ornstein.models.parametrisations import Parametrisation, edm
from ornstein.nets.conditions import Condition
from ornstein.nets.mlp import MLP
from ornstein.nets.unet import UNet
from ornstein.training.datasets.samples import Samples
from ornstein.training.denoising import Weight
from ornstein.training.loop import TrainingConfig
from ornstein.training.noise_levels import LogNormal, TimeLaw

MakeNet = Callable[[tuple[int, ...], Mapping[str, Condition]], nn.Module]
"""``(event shape, conditions) -> network``; MLP and UNet take the conditions as they are."""

_MAX_POINT_DIM = 3  # largest dimension of events that are points of space, not rows of a table
_MAX_SMALL_SIZE = 16  # largest width, in pixels, of pictures for the recipe "digits"


_KINDS: dict[str, type] = {
    "training": TrainingConfig,
    "sde": LinearSDE,
    "param": Parametrisation,
    "drop": Mapping,
}  # of the fields of a recipe


@dataclass(frozen=True)
class Recipe:
    """Everything that `fit` needs besides the data.

    Args:
        dims: dimensions of space in an event.
        net: ``(event shape, conditions) -> network``, with conditions as declared by the data.
        training: the optimiser's side.
        batch: samples per step.
        sde: the process.
        param: what the network predicts.
        times: law of the training times.
        weight: of the loss; None is that of unit error of the network's output. For the likelihood:
            a `LearnedNoiseLevels` and its weight.
        drop_label: probability of replacing a condition by its null value in training.
        held_out: fraction of the samples that is held out for the calibration of the posterior's
            standard deviation.
        expected: what it reaches on which data, for people.
        drop: probabilities like ``drop_label`` by the name of a condition.

    Example:
        >>> import dataclasses
        >>> recipe = orn.training.RECIPES["points"]
        >>> dataclasses.replace(recipe, batch=64).batch
        64
    """

    dims: int
    net: MakeNet
    training: TrainingConfig
    batch: int = 128
    sde: LinearSDE = field(default_factory=Cosine)
    param: Parametrisation = edm
    times: TimeLaw = field(default_factory=lambda: LogNormal(-0.6, 1.4))
    weight: Weight | None = None
    drop_label: float = 0.1
    held_out: float = 0.05
    expected: str = ""
    drop: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_integers(0, dims=self.dims)
        require_integers(1, batch=self.batch)
        require_finite(held_out=self.held_out)
        if not 0 <= self.held_out < 1:
            raise OrnsteinError(f"Recipe(held_out={self.held_out}): a fraction, usually 0.05")
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise OrnsteinError(f"Recipe({name}={value!r}): pass a {kind.__name__}")


def _make_unet(
    event: tuple[int, ...], conditions: Mapping[str, Condition], **arguments: Any
) -> nn.Module:
    """Make a U-Net for an event, channels first."""
    return UNet(event[0], conditions=conditions, **arguments)


def _make_mlp(
    event: tuple[int, ...], conditions: Mapping[str, Condition], **arguments: Any
) -> nn.Module:
    """Make an MLP for an event of any shape."""
    return MLP(event, conditions=conditions, **arguments)


def _unet(
    width: int,
    multipliers: tuple[int, ...],
    blocks: int,
    attention: tuple[int, ...],
    dims: int = 2,
    dropout: float = 0.1,
) -> MakeNet:
    """Return a function that makes U-Nets, and that can be pickled."""
    return partial(
        _make_unet,
        width=width,
        multipliers=multipliers,
        blocks=blocks,
        attention=attention,
        dims=dims,
        dropout=dropout,
    )


def _mlp(width: int, depth: int, dropout: float = 0.0) -> MakeNet:
    """Return a function that makes MLPs, and that can be pickled."""
    return partial(_make_mlp, width=width, depth=depth, dropout=dropout)


RECIPES: dict[str, Recipe] = {
    "points": Recipe(0, _mlp(128, 3), TrainingConfig(steps=3000, rate=2e-3), batch=512),
    "table": Recipe(0, _mlp(256, 3, dropout=0.1), TrainingConfig(steps=3000, rate=1e-3), batch=256),
    "digits": Recipe(
        2,
        _unet(32, (1, 2), 1, attention=(), dropout=0.05),
        TrainingConfig(steps=1100, rate=3e-3),
        batch=64,
        expected="8 x 8 digits of scikit-learn: two-sample test <= 0.60, sliced W2 <= 1.5 x its"
        " floor (./run demo)",
    ),
    "images": Recipe(
        2,
        _unet(64, (1, 2, 2), 2, (1, 2)),
        TrainingConfig(steps=20000, rate=5e-4, warmup=500),
        batch=128,
    ),
    "sequences": Recipe(
        1, _unet(64, (1, 2, 2), 2, (2,), dims=1), TrainingConfig(steps=5000, rate=1e-3), batch=128
    ),
    "volumes": Recipe(
        3, _unet(32, (1, 2, 2), 1, (2,), dims=3), TrainingConfig(steps=5000, rate=1e-3), batch=32
    ),
}
"""The recipes by name."""


def recipe(name: str | Recipe, samples: Samples) -> Recipe:
    """Return the recipe of a name; "auto" chooses by the shape of the samples.

    Args:
        name: a name, or a recipe, which is checked.
        samples: the data.

    Raises:
        UnknownNameError: for an unknown name.
        DataError: if the samples do not have the recipe's dimensions.
    """
    event = tuple(samples.x.shape[1:])
    if name == "auto":
        name = _choose(event)
    if isinstance(name, str):
        if name not in RECIPES:
            raise UnknownNameError("recipe", name, [*RECIPES, "auto"])
        name = RECIPES[name]
    if not isinstance(name, Recipe):
        raise OrnsteinError(f"recipe={name!r}: pass a name, such as 'auto', or an orn.Recipe")
    if name.dims and len(event) not in (name.dims, name.dims + 1):
        raise DataError(
            f"events of shape {event} for a recipe with {name.dims} dimensions of space: pass (n,"
            " channels, *size) or (n, *size)"
        )
    return name


def _choose(event: tuple[int, ...]) -> str:
    """Return the name of the recipe for an event shape."""
    if len(event) == 1:
        return "points" if event[0] <= _MAX_POINT_DIM else "table"
    if len(event) == 4:
        return "volumes"
    return "digits" if max(event) <= _MAX_SMALL_SIZE else "images"
