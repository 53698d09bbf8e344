"""The command ``ornstein density``: samples and log Z of a target or of a user's log-density."""

__all__ = ["DensityCommand"]

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from ornstein.app.files import check_memory, claim_folder, save_array
from ornstein.app.imports import import_object
from ornstein.app.options import arguments, takes
from ornstein.density.options import Budget
from ornstein.density.result import DensityResult
from ornstein.density.sample_density import sample_density
from ornstein.errors import OrnsteinError
from ornstein.inference.manifest import Manifest, options
from ornstein.reference import targets

_PARTICLES = 4096  # smallest number of particles of the exploration
_DOUBLE = 8  # bytes of one number
_SUMMARY_ROWS = 100  # largest number of parameters that are printed; the file has all


@dataclass(frozen=True)
@takes(sample_density)
class DensityCommand:
    """Draw from an unnormalised log-density and estimate its normalising constant Z."""

    target: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(
            help="module:name of a log-density, (b, d) -> (b,) on tensors, or of an orn.Density;"
            f" or a named target: {', '.join(targets.names)}."
        ),
    ]
    out: Path
    """The run folder."""
    dim: int | None = None
    """Number of coordinates, for a function, which does not tell it."""
    n: int = 8192
    """Samples to return."""
    particles: int | None = None
    """Particles of the exploration; by default 4096 or more, by the dimension."""
    start_mean: float | tuple[float, ...] = 0.0
    """Where the density roughly lies: one number, or one per dimension."""
    budget: float = math.inf
    """Seconds to spend, roughly; a limit that binds makes results depend on the machine."""
    evaluations: float = math.inf
    """Evaluations of the log-density to spend, roughly."""
    overwrite: bool = False
    """Replace a model that is in the run folder."""

    def run(self) -> None:
        """Sample, print the summary, and write samples.npy, the sampler and the manifest."""
        from rich.console import Console

        manifest = Manifest("density", options(self))
        density = self._target()
        claim_folder(self.out)
        with Console(stderr=True).status("exploring") as status:
            keywords = arguments(
                self,
                sample_density,
                start_mean=_number_or_tensor(self.start_mean),
                budget=Budget(self.budget, self.evaluations),
                callback=lambda stage: status.update(stage.line()),
            )
            result = sample_density(density, **keywords)
        result.sampler.save(self.out)
        samples = save_array(self.out / "samples.npy", result.samples)
        print("\n".join(_lines(result)))
        manifest.write(self.out, _numbers(result), result.sampler.device)
        print(f"samples: {samples}\nmore:    ornstein sample {self.out}")

    def _target(self) -> Any:
        """Return the density to sample, after the checks that need no computation."""
        if (self.out / "config.json").exists() and not self.overwrite:
            raise OrnsteinError(
                f"--out {self.out}: this folder holds a model; choose another folder, or pass"
                " --overwrite to replace the model"
            )
        density = import_object(self.target) if ":" in self.target else targets.named(self.target)
        dim = getattr(density, "dim", self.dim)
        if not isinstance(dim, int):
            raise OrnsteinError(
                f"{self.target}: pass --dim, the number of coordinates that the function takes"
            )
        points = max(self.n, self.particles or _PARTICLES, dim)  # dim of them: a covariance
        check_memory(f"{points} points of dimension {dim}", float(points) * dim, _DOUBLE)
        return density


def _number_or_tensor(value: float | tuple[float, ...]) -> float | Tensor:
    """Return one number as it is, and several as a tensor."""
    return torch.tensor(value) if isinstance(value, tuple) else value


def _lines(result: DensityResult) -> Iterator[str]:
    """Return the summary as lines: log Z, effective sample size, warnings, moments."""
    low, high = result.log_z_interval
    yield (
        f"log Z = {result.log_z:.4f} +- {result.log_z_stderr:.4f}   95 % interval [{low:.4f},"
        f" {high:.4f}]"
    )
    yield (
        f"ESS {result.ess:.0f}, Pareto k {result.k_hat:.2f}, {result.evaluations} evaluations,"
        f" {result.gradients} gradients"
    )
    for warning in result.warnings:
        yield f"warning ({warning.code}): {warning.message}"
    rows = [row for name, x in result.parameters.items() for row in _moments(name, x)]
    for name, mean, std in rows[:_SUMMARY_ROWS]:
        yield f"{name:>12}  mean {mean:9.4f}  sd {std:8.4f}"
    if len(rows) > _SUMMARY_ROWS:
        yield f"{len(rows) - _SUMMARY_ROWS} more parameters are in samples.npy"


def _moments(name: str, x: Tensor) -> Iterator[tuple[str, float, float]]:
    """Return name, mean and standard deviation of each element of a parameter, counted from 1."""
    columns = x.flatten(1) if x.ndim > 1 else x[:, None]
    for i, (mean, std) in enumerate(zip(columns.mean(0), columns.std(0), strict=True), 1):
        yield name if x.ndim == 1 else f"{name}[{i}]", float(mean), float(std)


def _numbers(result: DensityResult) -> dict[str, Any]:
    """Return the numbers of the result as JSON takes them."""
    keys = "log_z", "log_z_stderr", "elbo", "ess", "k_hat", "evaluations", "gradients", "seconds"
    return {
        **{key: getattr(result, key) for key in keys},
        "log_z_interval": list(result.log_z_interval),
        "warnings": [w._asdict() for w in result.warnings],
    }
