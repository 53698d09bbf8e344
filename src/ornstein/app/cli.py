"""The command line: ``ornstein train | sample | likelihood | density | verify``. Strings are
resolved here and nowhere deeper.

Every verb writes a manifest beside its results. Errors that ornstein raises on purpose end with
their message and status 2; Ctrl-C ends with status 130 after a checkpoint.
"""

__all__ = ["Density", "Likelihood", "Sample", "Train", "Verify", "main"]

import importlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from torch import Tensor

from ornstein.app.likelihood import Likelihood
from ornstein.app.pictures import save_grid
from ornstein.app.verify.command import Verify
from ornstein.core.timesteps import spacing as spacings
from ornstein.density.result import DensityResult
from ornstein.density.sample_density import sample_density
from ornstein.errors import OrnsteinError
from ornstein.inference.diffusion_model import load
from ornstein.inference.manifest import Manifest, options
from ornstein.reference import targets
from ornstein.training.fit import fit


@dataclass(frozen=True)
class Train:
    """Train a model of samples, or go on with a training that was interrupted in the same
    folder."""

    data: str
    """A folder of pictures, an .npy, .npz or .csv file, or a bundled set: digits, wine, iris,
    diabetes, breast_cancer."""
    out: Path
    """The run folder."""
    recipe: str = "auto"
    """auto, points, table, digits, images, sequences or volumes."""
    steps: int | None = None
    """Optimiser steps, instead of the recipe's."""
    seed: int = 0
    """Of everything random."""

    def run(self) -> None:
        """Train, and write the run folder."""
        manifest = Manifest("train", options(self))
        try:
            model = fit(
                self.data, recipe=self.recipe, out=self.out, steps=self.steps, seed=self.seed
            )
        except KeyboardInterrupt:
            print(
                f"\nstopped; the last checkpoint is in {self.out}: the same command goes on from"
                " there",
                file=sys.stderr,
            )
            raise
        manifest.write(self.out, {"info": model.info})
        print(f"model: {self.out}\nnext:  ornstein sample {self.out}")


@dataclass(frozen=True)
class Sample:
    """Draw from a model in a run folder."""

    model: tyro.conf.Positional[Path]
    """A run folder."""
    n: int = 64
    """How many samples."""
    steps: int = 20
    """Network evaluations per sample, about."""
    method: str = "auto"
    """auto, dpm++2m, sde-dpm++2m, unipc, deis, ancestral, ddim, heun, euler or
    predictor-corrector."""
    spacing: str = "cosine"
    """cosine, karras, log_snr, lu, quadratic or uniform."""
    seed: int = 0
    """Sample i depends on the seed and i alone."""
    label: int | None = None
    """A class, for a model that has classes."""
    guidance: float | None = None
    """Scale of classifier-free guidance."""
    out: Path | None = None
    """Where to write; by default samples/ in the run folder."""

    def run(self) -> None:
        """Sample, and write samples.npy, a picture where there is one, and the manifest."""
        manifest, folder = Manifest("sample", options(self)), self.out or self.model / "samples"
        model = load(self.model)
        x = model.sample(
            self.n,
            self.steps,
            self.method,
            self.seed,
            self.label,
            self.guidance,
            spacing=spacings.named(self.spacing),
        )
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "samples.npy", x.numpy())
        print(f"samples: {folder / 'samples.npy'}  {tuple(x.shape)}")
        if x.ndim in (3, 4):
            print(f"picture: {save_grid(folder / 'samples.png', x)}")
        manifest.write(folder, {"shape": list(x.shape), "steps": self.steps})


@dataclass(frozen=True)
class Density:
    """Draw from an unnormalised log-density and estimate log Z."""

    target: tyro.conf.Positional[str]
    """A named target (eight-schools, funnel, gmm9 ...) or module:function, (b, d) -> (b,) on
    tensors."""
    out: Path
    """The run folder."""
    dim: int | None = None
    """Dimension, for module:function."""
    n: int = 8192
    """Samples."""
    stderr: float = 0.004
    """Standard error of log Z to aim at."""
    start_std: float | None = None
    """How far the density reaches; by default found."""
    budget: float = math.inf
    """Seconds to spend, roughly; a limit that binds makes results depend on the machine."""
    seed: int = 0
    """Of everything random."""

    def run(self) -> None:
        """Sample, print the summary, and write samples.npy, the sampler as a run folder, and the
        manifest."""
        from rich.console import Console

        manifest = Manifest("density", options(self))
        log_prob, dim, describe = self._target()
        with Console(stderr=True).status("exploring") as status:
            result = sample_density(
                log_prob,
                dim,
                self.seed,
                self.n,
                self.stderr,
                start_std=self.start_std,
                budget=self.budget,
                report=lambda stage: status.update(stage.line()),
            )
        result.sampler.save(self.out)
        np.save(self.out / "samples.npy", result.samples.numpy())
        low, high = result.log_z_interval
        print(
            f"log Z = {result.log_z:.4f} +- {result.log_z_stderr:.4f}   95 % interval [{low:.4f},"
            f" {high:.4f}]"
        )
        print(
            f"ESS {result.ess:.0f}, Pareto k {result.k_hat:.2f}, {result.evaluations} evaluations,"
            f" {result.gradients} gradients"
        )
        for warning in result.warnings:
            print(f"warning ({warning.code}): {warning.message}")
        for name, mean, std in describe(result.samples):
            print(f"{name:>12}  mean {mean:9.4f}  sd {std:8.4f}")
        manifest.write(self.out, _numbers(result))
        print(f"samples: {self.out / 'samples.npy'}\nmore:    ornstein sample {self.out}")

    def _target(
        self,
    ) -> tuple[Callable[[Tensor], Tensor], int, Callable[[Tensor], list[tuple[str, float, float]]]]:
        if ":" not in self.target:
            target = targets.named(self.target)
            names = getattr(target, "names", None) or tuple(
                f"x[{i + 1}]" for i in range(target.dim)
            )
            own = getattr(target, "parameters", lambda z: z)
            return target.log_prob, target.dim, lambda x: _summary(own(x), names)
        if self.dim is None:
            raise OrnsteinError(f"{self.target}: pass --dim, the number of its parameters")
        module, _, function = self.target.partition(":")
        sys.path.insert(0, "")
        try:
            log_prob = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise OrnsteinError(
                f"{self.target}: {error}. Name a module that python can import from here, then its"
                " function"
            ) from error
        names = tuple(f"x[{i + 1}]" for i in range(self.dim))
        return log_prob, self.dim, lambda x: _summary(x, names)


def _summary(x: Tensor, names: tuple[str, ...]) -> list[tuple[str, float, float]]:
    return [
        (name, float(m), float(s)) for name, m, s in zip(names, x.mean(0), x.std(0), strict=True)
    ]


def _numbers(result: DensityResult) -> dict[str, Any]:
    keys = "log_z", "log_z_stderr", "elbo", "ess", "k_hat", "evaluations", "gradients", "seconds"
    rows: dict[str, Any] = {key: getattr(result, key) for key in keys}
    return rows | {
        "log_z_interval": list(result.log_z_interval),
        "warnings": [w._asdict() for w in result.warnings],
    }


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``ornstein``."""
    verbs: dict[str, Any] = {
        "train": Train,
        "sample": Sample,
        "likelihood": Likelihood,
        "density": Density,
        "verify": Verify,
    }
    try:
        command = tyro.extras.subcommand_cli_from_dict(verbs, args=arguments, prog="ornstein")
        command.run()
    except OrnsteinError as error:
        print(f"ornstein: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(
            f"ornstein: could not write {error.filename}: {error.strerror}; free space or choose"
            " another folder",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
