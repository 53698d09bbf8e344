"""Recipes: for each kind of data a network, a process and a training that work, as plain objects to
copy and change.

A recipe says how many dimensions of an event are space (0 for tables and points, 1 for sequences, 2
for images, 3 for volumes) and carries the result it is expected to reach.
"""

__all__ = ["RECIPES", "Recipe", "recipe"]

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.schedules import Cosine
from ornstein.errors import DataError, UnknownNameError
from ornstein.models.parametrisations import Parametrisation, edm
from ornstein.nets.mlp import MLP
from ornstein.nets.unet import UNet
from ornstein.training.datasets.read import Samples
from ornstein.training.denoising import Weight
from ornstein.training.loop import TrainingConfig
from ornstein.training.noise_levels import LogNormal, TimeLaw

MakeNet = Callable[[tuple[int, ...], int], nn.Module]


@dataclass(frozen=True)
class Recipe:
    """Everything `fit` needs besides the data.

    Args:
        dims: dimensions of space in an event.
        net: ``(event shape, number of labels) -> network``.
        training: the optimiser's side.
        batch: samples per step.
        sde: the process.
        param: what the network predicts.
        times: law of the training times.
        weight: of the loss; None is that of unit error of the network's output. For the likelihood:
            a `LearnedNoiseLevels` and its weight.
        drop_label: probability of hiding a label in training.
        held_out: fraction of the samples that is kept for the calibration of the posterior's
            standard deviation.
        expected: what it reaches on which data, for people.
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


def _unet(
    width: int,
    multipliers: tuple[int, ...],
    blocks: int,
    attention: tuple[int, ...],
    dims: int = 2,
    dropout: float = 0.1,
) -> MakeNet:

    def make(event: tuple[int, ...], labels: int) -> nn.Module:
        return UNet(
            event[0],
            width,
            multipliers,
            blocks,
            attention,
            labels=labels,
            dropout=dropout,
            dims=dims,
        )

    return make


def _mlp(width: int, depth: int, dropout: float = 0.0) -> MakeNet:
    return lambda event, labels: MLP(
        event, width=width, depth=depth, labels=labels, dropout=dropout
    )


RECIPES: dict[str, Recipe] = {
    "points": Recipe(0, _mlp(128, 3), TrainingConfig(steps=3000, rate=2e-3), batch=512),
    "table": Recipe(0, _mlp(256, 3, dropout=0.1), TrainingConfig(steps=3000, rate=1e-3), batch=256),
    "digits": Recipe(
        2,
        _unet(32, (1, 2), 1, attention=(), dropout=0.05),
        TrainingConfig(steps=1100, rate=3e-3),
        batch=64,
        expected="8 x 8 digits of scikit-learn: two-sample test <= 0.60, sliced W2 <= 1.5 x its floor (./run demo)",
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
    """The recipe of a name; "auto" chooses by the shape and number of the samples.

    Raises:
        UnknownNameError: for an unknown name.
        DataError: if the samples do not have the recipe's dimensions.
    """
    event = tuple(samples.x.shape[1:])
    if name == "auto":
        name = _choose(event, len(samples.x))
    if isinstance(name, str):
        if name not in RECIPES:
            raise UnknownNameError("recipe", name, [*RECIPES, "auto"])
        name = RECIPES[name]
    if name.dims and len(event) not in (name.dims, name.dims + 1):
        raise DataError(
            f"events of shape {event} for a recipe with {name.dims} dimensions of space: pass (n,"
            " channels, *size) or (n, *size)"
        )
    return name


def _choose(event: tuple[int, ...], n: int) -> str:
    if len(event) == 1:
        return "points" if event[0] <= 3 else "table"
    if len(event) == 4:
        return "volumes"
    return "digits" if max(event) <= 16 else "images"
