"""Train a model from data in one call: `ornstein.fit`.

The way: `read` makes checked samples, a `Recipe` chooses a network and a training, a codec maps the
samples to the model's space, the trainer minimises the denoising loss, and held-out samples
calibrate the standard deviation of the posterior.
"""

__all__ = ["fit"]

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ornstein.core.numerics.checks import require_integers
from ornstein.core.random.noise import Noise
from ornstein.errors import CheckpointError, DataError
from ornstein.inference import checkpoint
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.models import registry
from ornstein.models.codecs.affine import Codec
from ornstein.models.denoiser import Denoiser
from ornstein.training.calibrate import calibrate
from ornstein.training.datasets.read import read
from ornstein.training.datasets.samples import Samples
from ornstein.training.denoising import DenoisingObjective
from ornstein.training.loop import TrainingProgress, minimise
from ornstein.training.progress import progress_bar
from ornstein.training.recipes import Recipe
from ornstein.training.recipes import recipe as find_recipe

_SPLIT, _CALIBRATION = 1, 2  # keys of the random numbers
_MAX_CALIBRATION = 1024  # largest number of samples that calibrate the posterior's std
_MIN_DRAWS = 256  # smallest number of noise draws at each level of the calibration


@torch.inference_mode(False)
@torch.enable_grad()
def fit(
    data: Any,
    recipe: str | Recipe = "auto",
    out: str | Path | None = None,
    labels: Any = None,
    steps: int | None = None,
    seed: int = 0,
    progress: bool | Callable[[TrainingProgress], None] = True,
    conditions: Mapping[str, Any] | None = None,
) -> DiffusionModel:
    """Train a diffusion model of data by a recipe, and return the model.

    Args:
        data: array, tensor, ``(x, labels)``, torch data set, folder of pictures, .npy, .npz or .csv
            file, a bundled name such as "digits", or what a registered kind of data reads.
        recipe: auto, points, table, digits, images, sequences, volumes, or a `Recipe`.
        out: run folder for checkpoints, log and model. A training that was interrupted there is
            resumed.
        labels: classes to condition on, ``(n,)`` whole numbers from 0; the same as
            ``conditions={"label": labels}``.
        steps: optimiser steps, instead of the recipe's.
        seed: of everything random, the initial weights included.
        progress: a bar on the terminal, nothing, or a function that is called after every step.
        conditions: what to condition on, by name, one row per sample: whole numbers ``(n,)`` are
            classes, other numbers ``(n, dim)`` are vectors; or a pair of a `Condition` and values.

    Returns:
        The trained model; with ``out`` it is also in the run folder.

    Raises:
        DataError: for data that cannot be learned from.
        CheckpointError: if ``out`` cannot be written or holds a training on other data or of
            another model.
        KeyboardInterrupt: on Ctrl-C, after a checkpoint.

    Example:
        >>> model = orn.fit(torch.randn(200, 2), steps=2, progress=False)
        >>> model.sample(5, steps=4).shape
        torch.Size([5, 2])
    """
    if steps is not None:
        require_integers(1, steps=steps)
    folder = None if out is None else checkpoint.folder_path(out)
    if labels is not None and "label" in (conditions or {}):
        raise DataError("labels= and conditions={'label': ...} are the same: pass one of the two")
    samples = read(data, labels).given(conditions)
    settings = find_recipe(recipe, samples)
    codec = samples.codec(settings.dims)
    x = codec.encode(samples.x)
    order = Noise(seed).fold(_SPLIT).uniform((len(x),), torch.float64).argsort()
    n_held_out = max(1, math.ceil(settings.held_out * len(x)))
    if len(x) - n_held_out < 1:
        raise DataError(
            f"{len(x)} samples: too few to hold some out; at least 2, usually 100 or more"
        )
    held_out, trained_on = order[:n_held_out][:_MAX_CALIBRATION], order[n_held_out:]
    values = {name: rows for name, (_, rows) in samples.conditions.items()}
    objective = DenoisingObjective(
        x[trained_on],
        settings.batch,
        drop_label=settings.drop_label,
        drop=settings.drop,
        times=settings.times,
        weight=settings.weight,
        seed=seed,
        conditions={name: rows[trained_on] for name, rows in values.items()},
    )
    model = _initial_model(samples, codec, x, settings, seed)
    if folder is not None:
        _claim(folder, model)
    training = replace(
        settings.training, seed=seed, steps=settings.training.steps if steps is None else steps
    )
    with progress_bar(progress) as report:
        model = minimise(model, objective, training, folder, report)
    repeats = max(1, _MIN_DRAWS // n_held_out)
    cond = {name: rows[held_out] for name, rows in values.items()}
    calibrate(model.denoiser, x[held_out], Noise(seed).fold(_CALIBRATION), cond, repeats)
    if folder is not None:
        model.save(folder)
    return model


def _initial_model(
    samples: Samples, codec: Codec, x: Tensor, chosen: Recipe, seed: int
) -> DiffusionModel:
    """Return the model before training, with initial weights that depend on the seed alone."""
    event = tuple(x.shape[1:])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**64)
        net = chosen.net(event, {name: kind for name, (kind, _) in samples.conditions.items()})
    denoiser = Denoiser(net, chosen.sde, chosen.param, float(x.std()), event)
    if missing := sorted(set(samples.conditions) - set(denoiser.conditions)):
        raise DataError(
            f"the data have the conditions {sorted(samples.conditions)}, the recipe's network does"
            f" not take {missing}: pass them on, MLP(event, conditions=conditions)"
        )
    info = {
        "samples": len(samples.x),
        "data_sha256": _digest(samples),
        "seed": seed,
        "expected": chosen.expected,
    }
    return DiffusionModel(denoiser, codec, samples.names, info)


def _digest(samples: Samples) -> str:
    """Return the first digits of a hash of the samples and their conditions."""
    digest = hashlib.sha256(samples.x.contiguous().numpy().data)
    for name, (_, rows) in samples.conditions.items():
        if name != "label":  # whose name release 0.1 did not hash
            digest.update(name.encode())
        digest.update(rows.contiguous().numpy().data)
    return digest.hexdigest()[:16]


def _claim(folder: Path, model: DiffusionModel) -> None:
    """Check that a folder can be written and belongs to this training or to none."""
    if not (folder / "config.json").exists():
        model.save(folder)
        return
    saved = checkpoint.read_config(folder / "config.json")
    config = json.loads(json.dumps(model.config()))
    for key in ("sde", "net", "param", "event_shape"):
        if not registry.same(saved.get(key), config[key]):
            raise CheckpointError(
                f"{folder} holds a run with {key}={saved.get(key)}, this one has {config[key]}:"
                " choose another folder"
            )
    for key, what in (("data_sha256", "other data or labels"), ("seed", "another seed")):
        if saved.get("info", {}).get(key) != config["info"][key]:
            raise CheckpointError(f"{folder} holds a run with {what}: choose another folder")
