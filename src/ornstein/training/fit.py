"""From data to a trained model in one call."""

__all__ = ["fit"]

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ornstein.core.random.noise import Noise
from ornstein.errors import CheckpointError, DataError
from ornstein.inference import checkpoint
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.models.denoiser import Denoiser
from ornstein.training.calibrate import calibrate
from ornstein.training.datasets.read import Samples, read
from ornstein.training.denoising import DenoisingObjective
from ornstein.training.loop import TrainingProgress, train
from ornstein.training.recipes import Recipe, recipe


def fit(
    data: Any,
    recipe: str | Recipe = "auto",
    out: str | Path | None = None,
    labels: Any = None,
    steps: int | None = None,
    seed: int = 0,
    progress: bool | Callable[[TrainingProgress], None] = True,
) -> DiffusionModel:
    """Train a diffusion model of the data.

    Args:
        data: array, tensor, ``(x, labels)``, torch data set, folder of pictures, .npy, .npz or .csv
            file, or a bundled name such as "digits".
        recipe: auto, points, table, digits, images, sequences, volumes, or a `Recipe`.
        out: run folder for checkpoints, log and model. A training that was interrupted there is
            resumed.
        labels: classes to condition on, ``(n,)`` whole numbers from 0.
        steps: optimiser steps, instead of the recipe's.
        seed: of everything random, the initial weights included.
        progress: a bar on the terminal, nothing, or a function that is called after every step.

    Raises:
        DataError: for data that cannot be learned from.
        CheckpointError: if ``out`` cannot be written or holds a training on other data or of
            another model.
        KeyboardInterrupt: on Ctrl-C, after a checkpoint.
    """
    samples = read(data, labels)
    chosen = _recipe(recipe, samples)
    training = replace(
        chosen.training, seed=seed, steps=chosen.training.steps if steps is None else steps
    )
    model = _untrained(samples, chosen, seed)
    folder = None if out is None else Path(out)
    if folder is not None:
        _claim(folder, model)
    x, classes = model.codec.encode(samples.x), samples.labels
    order = Noise(seed).fold(1).uniform((len(x),), torch.float64).argsort()
    held = max(1, math.ceil(chosen.held_out * len(x)))
    if len(x) - held < 1:
        raise DataError(
            f"{len(x)} samples: too few to keep some back; at least 2, usually 100 or more"
        )
    kept, rest = order[:held], order[held:]
    objective = DenoisingObjective(
        x[rest],
        chosen.batch,
        None if classes is None else classes[rest],
        chosen.drop_label,
        chosen.times,
        chosen.weight,
        seed,
    )
    with _bar(progress) as report:
        model = train(model, objective, training, folder, report)
    cond = None if classes is None else {"label": classes[kept][:1024]}
    calibrate(
        model.denoiser, x[kept][:1024], Noise(seed).fold(2), cond, repeats=max(1, 256 // held)
    )
    if folder is not None:
        model.save(folder)
    return model


_recipe = recipe  # `fit` has an argument of the same name


def _untrained(samples: Samples, chosen: Recipe, seed: int) -> DiffusionModel:
    """The model at the start of training: initial weights from the seed, the global generator left
    as it was."""
    codec = samples.codec(chosen.dims)
    z = codec.encode(samples.x)
    event = tuple(z.shape[1:])
    number = 0 if samples.labels is None else int(samples.labels.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = chosen.net(event, number)
    denoiser = Denoiser(net, chosen.sde, chosen.param, float(z.std()), event)
    digest = hashlib.sha256(samples.x.contiguous().numpy().tobytes())
    digest.update(b"" if samples.labels is None else samples.labels.numpy().tobytes())
    info = {
        "samples": len(samples.x),
        "data_sha256": digest.hexdigest()[:16],
        "seed": seed,
        "expected": chosen.expected,
    }
    return DiffusionModel(denoiser, codec, samples.names, info)


def _claim(folder: Path, model: DiffusionModel) -> None:
    """Make sure that the folder can be written and holds nothing else than this training."""
    if not (folder / "config.json").exists():
        model.save(folder)
        return
    found, mine = (
        checkpoint.read_config(folder / "config.json"),
        json.loads(json.dumps(model.config())),
    )
    for key in ("sde", "net", "param", "event_shape"):
        if found.get(key) != mine[key]:
            raise CheckpointError(
                f"{folder} holds a run with {key}={found.get(key)}, this one has {mine[key]}:"
                " choose another folder"
            )
    for key, what in (("data_sha256", "other data or labels"), ("seed", "another seed")):
        if found.get("info", {}).get(key) != mine["info"][key]:
            raise CheckpointError(f"{folder} holds a run with {what}: choose another folder")


@contextmanager
def _bar(
    progress: bool | Callable[[TrainingProgress], None],
) -> Iterator[Callable[[TrainingProgress], None]]:
    """A progress bar on the terminal, plain lines elsewhere, or the caller's own function."""
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
        smooth = now.loss if math.isnan(smooth) else 0.98 * smooth + 0.02 * now.loss
        bar.update(task, completed=now.step, total=now.steps, loss=smooth)
        if progress and not console.is_terminal and now.step % max(1, now.steps // 10) == 0:
            console.print(
                f"training: step {now.step} of {now.steps}, loss {smooth:.4f}", highlight=False
            )

    with bars.Progress(
        *columns, console=console, disable=not (progress and console.is_terminal)
    ) as bar:
        task = bar.add_task("training", total=None, loss=smooth)
        yield report
