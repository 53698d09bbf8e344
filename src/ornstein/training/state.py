"""The state of a training: weights, their running average and the optimiser's moments.

One step of AdamW moves the weights w, and the average a follows them,

    a <- beta a + (1 - beta) w,    beta = min(ema, (k + 1) / (k + 10)) at step k,                (1)

so that the average is not dominated by the initial weights. ``training.safetensors`` holds all of
it, to resume from.
"""

__all__ = ["TrainingConfig", "TrainingState"]

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ornstein.core.numerics.checks import require_finite, require_integers, require_positive
from ornstein.errors import CheckpointError, OrnsteinError
from ornstein.inference import checkpoint, run_folder
from ornstein.models.denoiser import Denoiser

_BETAS = (0.9, 0.99)  # averaging coefficients of AdamW
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of the optimiser and of the checkpoints of a training.

    Args:
        steps: optimiser steps.
        rate: peak learning rate of AdamW; cosine decay to 0 after ``warmup`` steps.
        warmup: steps of linear warm-up.
        decay: weight decay.
        clip: largest gradient norm.
        ema: decay of the average of the weights per step (warmed up as ``(k + 1) / (k + 10)``).
        seed: of the networks' own randomness (dropout); that of the data is the objective's.
        save_every: seconds between checkpoints.

    Raises:
        OrnsteinError: for a number outside its range, such as an ema outside [0, 1).

    Example:
        >>> orn.TrainingConfig(steps=500).rate
        0.002
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
        require_integers(1, steps=self.steps)
        require_integers(0, warmup=self.warmup)
        require_positive(self, "rate", usual="usually 1e-4 to 3e-3")
        require_finite(decay=self.decay, ema=self.ema)
        if not self.decay >= 0:
            raise OrnsteinError(f"TrainingConfig(decay={self.decay}): at least 0, usually 0.01")
        if not 0 <= self.ema < 1:
            raise OrnsteinError(f"TrainingConfig(ema={self.ema}): in [0, 1), usually 0.999")
        if not (self.clip > 0 and self.save_every >= 0):  # both may be infinite
            raise OrnsteinError(
                f"TrainingConfig(clip={self.clip}, save_every={self.save_every}): positive numbers"
            )


@dataclass
class TrainingState:
    """The state of a training: everything that a step changes and a checkpoint stores.

    Args:
        denoiser: the posterior in training.
        average: the same with averaged weights.
        optimiser: AdamW on the weights of ``denoiser``.
        step: number of steps that are done.
    """

    denoiser: Denoiser
    average: Denoiser
    optimiser: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def start(cls, denoiser: Denoiser, config: TrainingConfig) -> "TrainingState":
        """Return the state before the first step; the denoiser is trained in place.

        Raises:
            OrnsteinError: if the network has no parameters, or was made under inference mode.
        """
        kind = type(denoiser.net).__name__
        if next(denoiser.parameters(), None) is None:
            raise OrnsteinError(
                f"a {kind} without parameters has nothing to train: give it a network (width=64, or"
                " .add_network(64))"
            )
        if any(p.is_inference() for p in denoiser.parameters()):
            raise OrnsteinError(
                f"this {kind} was made under torch.inference_mode() and can never be trained: make"
                " it outside"
            )
        denoiser = denoiser.train().requires_grad_(True)
        average = copy.deepcopy(denoiser).eval().requires_grad_(False)
        optimiser = torch.optim.AdamW(
            denoiser.parameters(), config.rate, betas=_BETAS, weight_decay=config.decay
        )
        return cls(denoiser, average, optimiser)

    def update(self, loss: Tensor, config: TrainingConfig) -> None:
        """Take one step of AdamW, and update the running average of the weights."""
        k = self.step
        decay = (1 + math.cos(math.pi * k / config.steps)) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate * min(1.0, (k + 1) / max(config.warmup, 1)) * decay
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.denoiser.parameters(), config.clip)
        self.optimiser.step()
        beta = min(config.ema, (k + 1) / (k + 10))
        with torch.no_grad():
            average, weights = self.average.parameters(), self.denoiser.parameters()
            torch._foreach_lerp_(list(average), list(weights), 1 - beta)  # (1)
        self.step = k + 1

    def save(self, folder: Path) -> None:
        """Write the state to ``training.safetensors`` in a folder, atomically.

        Raises:
            CheckpointError: if it cannot be written; the old file is then intact.
        """
        metadata = {"step": str(self.step), "format": str(run_folder.FORMAT)}
        checkpoint.save_tensors(folder / "training.safetensors", self._tensors(), metadata)

    def _tensors(self) -> dict[str, Tensor]:
        """Return the weights, their average and the optimiser's moments, by name."""
        tensors: dict[str, Tensor] = {}
        for name, p in self.denoiser.net.named_parameters():
            tensors[f"net.{name}"] = p
            for moment in _MOMENTS:
                if moment in self.optimiser.state[p]:
                    tensors[f"{moment}.{name}"] = self.optimiser.state[p][moment]
        tensors.update({f"average.{name}": p for name, p in self.average.net.named_parameters()})
        return tensors

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Restore the state that `save` wrote to ``training.safetensors``.

        Raises:
            CheckpointError: if the file cannot be read, or is of another model.
        """
        tensors, metadata = checkpoint.load_tensors(folder / "training.safetensors")
        if "format" not in metadata:
            tensors = run_folder.rename_old(tensors)
        try:
            self.step = int(metadata["step"])
            for name, p in self.denoiser.net.named_parameters():
                p.copy_(tensors[f"net.{name}"])
                if self.step:
                    moments = {m: tensors[f"{m}.{name}"].to(p.device) for m in _MOMENTS}
                    step = torch.tensor(float(self.step), dtype=torch.float32)
                    self.optimiser.state[p] = {"step": step, **moments}
            for name, p in self.average.net.named_parameters():
                p.copy_(tensors[f"average.{name}"])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{folder} holds the training of another model ({error}): choose another folder"
            ) from error
