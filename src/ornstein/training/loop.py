"""The trainer: one straight line from an objective to a trained model, for samples and for
densities.

An objective maps the number of a step to losses; everything random in step k comes from
``Noise(seed).fold(k)``, so a run that was interrupted and resumed takes the same steps as one that
was not. ``training.safetensors`` holds the weights, their average and the optimiser's moments;
``model.safetensors`` beside it holds the averaged weights, which is what samples are drawn with.
"""

__all__ = ["Objective", "TrainingConfig", "TrainingProgress", "train"]

import copy
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ornstein.core.random.noise import Noise
from ornstein.errors import CheckpointError, DataError, OrnsteinError
from ornstein.inference import checkpoint
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.models.denoiser import Denoiser

LEVELS = torch.linspace(-8, 8, 9)  # edges of the log-SNR bins in which the loss is reported


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Args:
        steps: optimiser steps.
        rate: peak learning rate of AdamW; cosine decay to 0 after ``warmup`` steps.
        warmup: steps of linear warm-up.
        decay: weight decay.
        clip: largest gradient norm.
        ema: decay of the average of the weights per step (warmed up as ``(k + 1) / (k + 10)``).
        seed: of the networks' own randomness (dropout); that of the data is the objective's.
        save_every: seconds between checkpoints.
    """

    steps: int = 2000
    rate: float = 2e-3
    warmup: int = 100
    decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    save_every: float = 60.0

    def __post_init__(self) -> None:
        for name in ("steps", "rate"):
            if not getattr(self, name) > 0:
                raise OrnsteinError(
                    f"TrainingConfig({name}={getattr(self, name)}): must be positive"
                )
        if not 0 <= self.ema < 1:
            raise OrnsteinError(f"TrainingConfig(ema={self.ema}): in [0, 1), usually 0.999")


@runtime_checkable
class Objective(Protocol):
    """What to minimise: the losses of step k and, where they belong to noise levels, their
    log-SNR."""

    def __call__(self, denoiser: Denoiser, k: int) -> tuple[Tensor, Tensor | None]:
        """``(losses, log_snr)``, both ``(batch,)``; a function of the weights and k alone."""
        ...


class TrainingProgress(NamedTuple):
    """What the trainer reports after a step."""

    step: int
    steps: int
    loss: float


@dataclass
class _State:
    """What a checkpoint of the training holds."""

    denoiser: Denoiser
    average: Denoiser
    optimiser: torch.optim.Optimizer
    step: int = 0

    def tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for name, p in self.denoiser.net.named_parameters():
            tensors[f"net.{name}"] = p
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in self.optimiser.state[p]:
                    tensors[f"{moment}.{name}"] = self.optimiser.state[p][moment]
        tensors.update({f"average.{name}": p for name, p in self.average.net.named_parameters()})
        return tensors

    def save(self, folder: Path) -> None:
        checkpoint.save_tensors(
            folder / "training.safetensors", self.tensors(), {"step": str(self.step)}
        )

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Go back to where a checkpoint was; CheckpointError if it is of another model."""
        tensors, metadata = checkpoint.load_tensors(folder / "training.safetensors")
        try:
            self.step = int(metadata["step"])
            for name, p in self.denoiser.net.named_parameters():
                p.copy_(tensors[f"net.{name}"])
                if self.step:
                    moments = {
                        m: tensors[f"{m}.{name}"].to(p.device) for m in ("exp_avg", "exp_avg_sq")
                    }
                    self.optimiser.state[p] = {"step": torch.tensor(float(self.step)), **moments}
            for name, p in self.average.net.named_parameters():
                p.copy_(tensors[f"average.{name}"])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{folder} holds the training of another model ({error}): choose another folder"
            ) from error


def train(
    model: DiffusionModel,
    objective: Objective,
    training: TrainingConfig,
    out: Path | None = None,
    report: Callable[[TrainingProgress], None] = lambda progress: None,
) -> DiffusionModel:
    """Minimise the objective over the weights of the model's denoiser; the result has the averaged
    weights.

    Args:
        model: its denoiser is trained in place.
        objective: the losses of each step.
        training: how.
        out: run folder for checkpoints and ``log.jsonl``; if it holds a training of this model,
            that is resumed.
        report: called after every step.

    Raises:
        OrnsteinError: if the network has no parameters.
        DataError: if the loss is not finite.
        CheckpointError: if a checkpoint cannot be written or read; the last one is intact.
        KeyboardInterrupt: on Ctrl-C, at the end of the step and after a checkpoint.
    """
    if next(model.denoiser.parameters(), None) is None:
        kind = type(model.denoiser.net).__name__
        raise OrnsteinError(
            f"a {kind} without parameters has nothing to train: give it a network (width=64, or"
            " .equip(64))"
        )
    state = _start(model, training)
    if out is not None and (out / "training.safetensors").exists():
        state.load(out)
    levels, clock = _ByLevel(), time.monotonic()
    saved = clock
    with _interruptible() as interrupted:
        for k in range(state.step, training.steps):
            with _seeded(training.seed, k):
                losses, log_snr = objective(state.denoiser, k)
                loss = losses.mean()
                if not bool(torch.isfinite(loss)):
                    raise DataError(
                        f"loss {float(loss.detach())} at step {k}: lower the rate ({training.rate})"
                        " or rescale"
                    )
                _update(state, loss, training)
            levels.add(losses, log_snr)
            report(TrainingProgress(state.step, training.steps, float(loss.detach())))
            if out is not None and (state.step % 100 == 0 or state.step == training.steps):
                _log(
                    out,
                    {
                        "step": state.step,
                        "seconds": round(time.monotonic() - clock, 2),
                        **levels.flush(),
                    },
                )
            if out is not None and (
                interrupted.is_set() or time.monotonic() - saved > training.save_every
            ):
                _save(model, state, out)
                saved = time.monotonic()
            if interrupted.is_set():
                raise KeyboardInterrupt
        if out is not None:
            _save(model, state, out)
    return replace(model, denoiser=state.average)


def _start(model: DiffusionModel, training: TrainingConfig) -> _State:
    denoiser = model.denoiser.train().requires_grad_(True)
    average = copy.deepcopy(denoiser).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(
        denoiser.parameters(), training.rate, betas=(0.9, 0.99), weight_decay=training.decay
    )
    return _State(denoiser, average, optimiser)


def _save(model: DiffusionModel, state: _State, out: Path) -> None:
    """The training, to resume from, then the model, to sample from."""
    state.save(out)
    replace(model, denoiser=state.average).save(out)


def _update(state: _State, loss: Tensor, training: TrainingConfig) -> None:
    """One step of AdamW and of the running average."""
    k = state.step
    decay = (1 + math.cos(math.pi * k / training.steps)) / 2
    for group in state.optimiser.param_groups:
        group["lr"] = training.rate * min(1.0, (k + 1) / max(training.warmup, 1)) * decay
    state.optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(state.denoiser.parameters(), training.clip)
    state.optimiser.step()
    beta = min(training.ema, (k + 1) / (k + 10))
    with torch.no_grad():
        torch._foreach_lerp_(
            list(state.average.parameters()), list(state.denoiser.parameters()), 1 - beta
        )
    state.step = k + 1


class _ByLevel:
    """Mean loss, overall and in bins of the log-SNR, since the last flush."""

    def __init__(self) -> None:
        self._sums, self._counts = torch.zeros(len(LEVELS) + 1), torch.zeros(len(LEVELS) + 1)

    def add(self, losses: Tensor, log_snr: Tensor | None) -> None:
        levels = torch.zeros(len(losses)) if log_snr is None else log_snr.float().cpu()
        bins = torch.bucketize(levels, LEVELS)
        self._sums.index_add_(0, bins, losses.detach().float().cpu())
        self._counts.index_add_(0, bins, torch.ones_like(levels))

    def flush(self) -> dict[str, Any]:
        means = self._sums / self._counts.clamp(min=1)
        overall = float(self._sums.sum() / self._counts.sum().clamp(min=1))
        self._sums.zero_(), self._counts.zero_()
        return {
            "loss": overall,
            "log_snr_edges": LEVELS.tolist(),
            "loss_by_log_snr": [round(v, 6) for v in means.tolist()],
        }


def _log(out: Path, row: dict[str, Any]) -> None:
    """Append a line of JSON to the run's log."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise CheckpointError(
            f"could not write {out / 'log.jsonl'}: {error.strerror}; free space, then resume"
        ) from error


@contextmanager
def _seeded(seed: int, k: int) -> Iterator[None]:
    """Torch's global generator, from which dropout draws, as a function of the step; afterwards as
    it was before."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(Noise(seed).fold(-5, k).generator().initial_seed())
        yield


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that no step is cut in half; the second interrupts at
    once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handler(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
