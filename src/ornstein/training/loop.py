"""The training loop, from an objective to a trained model, for samples and for densities.

An objective maps the number of a step to losses; everything random in step k comes from
``Noise(seed).fold(k)``, so a training that was interrupted and resumed takes the same steps as one
that was not. ``training.safetensors`` holds the state to resume from; ``model.safetensors`` in the
same folder holds the averaged weights, with which samples are drawn.
"""

__all__ = ["Objective", "TrainingConfig", "TrainingProgress", "minimise", "train"]

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.random.noise import Noise
from ornstein.errors import DataError
from ornstein.inference import checkpoint
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.models.denoiser import Denoiser
from ornstein.training.progress import LossLog, TrainingProgress
from ornstein.training.state import TrainingConfig, TrainingState

_LOG_EVERY = 100  # steps between two lines of the log
_DROPOUT = -5  # key of the random numbers for dropout


@runtime_checkable
class Objective(Protocol):
    """An objective to minimise: the losses of each step, with their log-SNR where they have one."""

    def __call__(self, denoiser: Denoiser, k: int) -> tuple[Tensor, Tensor | None]:
        """Return ``(losses, log_snr)`` of step k, both ``(batch,)``.

        They are a function of the weights and of k alone.
        """
        ...


@renamed_arguments(report="callback")
def train(
    model: DiffusionModel,
    objective: Objective,
    training: TrainingConfig,
    out: str | Path | None = None,
    callback: Callable[[TrainingProgress], None] | None = None,
) -> DiffusionModel:
    """Train a model's denoiser in place, by minimising an objective over the weights.

    Args:
        model: the model to train.
        objective: the losses of each step.
        training: settings of the optimiser.
        out: run folder for checkpoints and ``log.jsonl``; if it holds a training of this model,
            that is resumed.
        callback: called after every step.

    Returns:
        The model with averaged weights.

    Raises:
        OrnsteinError: if the network has no parameters.
        DataError: if the loss is not finite.
        CheckpointError: if a checkpoint cannot be written or read; the last one is intact.
        KeyboardInterrupt: on Ctrl-C, at the end of the step and after a checkpoint.

    Example:
        >>> denoiser = orn.Denoiser(orn.MLP(2, 16, 1), orn.VP())
        >>> model = orn.DiffusionModel(denoiser, orn.codecs.Codec(torch.zeros(2), torch.ones(2)))
        >>> objective = orn.DenoisingObjective(torch.randn(50, 2), batch=8)
        >>> orn.train(model, objective, orn.TrainingConfig(steps=3)).sample(4, steps=2).shape
        torch.Size([4, 2])
    """
    folder = None if out is None else checkpoint.folder_path(out)
    trained = minimise(model, objective, training, folder, callback)
    if folder is not None:
        trained.save(folder)
    return trained


@torch.inference_mode(False)
@torch.enable_grad()
def minimise(
    model: DiffusionModel,
    objective: Objective,
    training: TrainingConfig,
    out: Path | None = None,
    callback: Callable[[TrainingProgress], None] | None = None,
) -> DiffusionModel:
    """Minimise an objective as `train` does, without saving the model at the end.

    The caller has more to add to the model.

    The state of the training is written, from which a second call continues.
    """
    state = TrainingState.start(model.denoiser, training)
    if out is not None and (out / "training.safetensors").exists():
        state.load(out)
    log = LossLog()
    began = time.monotonic()
    saved = began
    with _interruptible() as interrupted:
        for k in range(state.step, training.steps):
            losses, log_snr, loss = _step(state, objective, k, training)
            log.add(losses, log_snr)
            if callback is not None:
                callback(TrainingProgress(state.step, training.steps, loss))
            if out is not None:
                if state.step % _LOG_EVERY == 0 or state.step == training.steps:
                    log.write(out, state.step, time.monotonic() - began)
                if interrupted.is_set() or time.monotonic() - saved > training.save_every:
                    state.save(out)  # first the training, to resume from, then the model
                    replace(model, denoiser=state.average).save(out)
                    saved = time.monotonic()
            if interrupted.is_set():
                raise KeyboardInterrupt
        if out is not None:
            state.save(out)
    return replace(model, denoiser=state.average)


def _step(
    state: TrainingState, objective: Objective, k: int, training: TrainingConfig
) -> tuple[Tensor, Tensor | None, float]:
    """Take one training step, and return its losses, their log-SNR and their mean."""
    with _seeded(training.seed, k):
        losses, log_snr = objective(state.denoiser, k)
        loss = losses.mean()
        if not bool(torch.isfinite(loss)):
            raise DataError(
                f"loss {float(loss.detach())} at step {k}: lower the rate ({training.rate})"
                " or rescale"
            )
        state.update(loss, training)
    return losses, log_snr, float(loss.detach())


@contextmanager
def _seeded(seed: int, k: int) -> Iterator[None]:
    """Seed torch's global generator, from which dropout draws, by the number of the step."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(Noise(seed).fold(_DROPOUT, k).generator().initial_seed())
        yield


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets, so that no step is cut in half.

    The second Ctrl-C interrupts at once.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handler(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous_handler = signal.signal(signal.SIGINT, handler)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous_handler)
