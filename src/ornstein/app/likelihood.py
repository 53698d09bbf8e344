"""The command ``ornstein likelihood``: log-likelihoods of data under a model, with errors.

Two laws belong to one model: that of the probability flow, whose density is computed, and that of
the sampler with noise, which the lower bound (ELBO) belongs to. They agree where the denoiser is an
exact posterior mean; a bound above the density shows that it is not.
"""

__all__ = ["LikelihoodCommand"]

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

from ornstein.app.files import claim_folder, writing
from ornstein.app.imports import ConditionValues, Imports, made
from ornstein.app.options import arguments, condition_values, takes
from ornstein.app.scores import Scores
from ornstein.core.random.noise import Noise
from ornstein.core.timesteps import spacing as spacings
from ornstein.errors import DataError, OrnsteinError
from ornstein.inference.checkpoint import write_atomically, write_config
from ornstein.inference.diffusion_model import DiffusionModel, load
from ornstein.inference.likelihood.elbo import elbo
from ornstein.inference.likelihood.probability_flow import log_likelihood
from ornstein.inference.likelihood.trace import Divergence, Exact, Hutchinson
from ornstein.inference.manifest import Manifest, options
from ornstein.training.datasets.read import read

_Labels = int | tuple[int, ...] | Tensor | None


@dataclass(frozen=True)
@takes(DiffusionModel.log_likelihood, see=log_likelihood)
@takes(DiffusionModel.elbo, prefix="elbo_", without=("seed", "label", "conditions"), see=elbo)
class LikelihoodCommand:
    """Compute the log-likelihood of data under a model, with its error, and a lower bound."""

    model: tyro.conf.Positional[Path]
    """A run folder."""
    data: str
    """What `train` takes: a folder of pictures, an .npy, .npz or .csv file, or a bundled set."""
    n: int | None = None
    """The first n samples; by default all."""
    divergence: Annotated[
        Literal["exact"] | int | None,
        tyro.conf.arg(
            aliases=["--probes"],
            help="exact, or the number of random directions to estimate the divergence from; by"
            " default exact up to 64 dimensions, else 16.",
        ),
    ] = None
    seed: int = 0
    """Of the random directions and of the bound."""
    label: Literal["data"] | int | tuple[int, ...] | None = None
    """A class for all samples, one per sample, or "data" for those that the data come with."""
    batch: int = 256
    """Samples at a time."""
    elbo_spacing: Annotated[
        str | None,
        tyro.conf.arg(help=f"Grid of the bound: {', '.join(spacings.names)}; or module:name."),
    ] = None
    conditions: ConditionValues = None
    imports: Imports = ()
    out: Path | None = None
    """Where to write; by default likelihood/ in the run folder."""

    def run(self) -> None:
        """Print the summary; write likelihood.csv, summary.json, likelihood.png and a manifest."""
        manifest = Manifest("likelihood", options(self))
        began = time.monotonic()
        model = load(self.model)
        x, labels = self._samples(model)
        rule = self._divergence()
        folder = claim_folder(self.out or self.model / "likelihood")
        scores = self._scores(model, x, labels, rule)
        summary = scores.summary() | {"seconds": round(time.monotonic() - began, 2)}
        write_atomically(folder / "likelihood.csv", scores.table().encode())
        write_config(folder / "summary.json", summary)
        print("\n".join(scores.lines()))
        print(f"numbers: {folder / 'likelihood.csv'}\nsummary: {folder / 'summary.json'}")
        try:
            with writing(folder / "likelihood.png"):
                print(f"picture: {scores.picture(folder / 'likelihood.png')}")
        except ImportError:
            print("picture: none, it needs matplotlib: pip install 'ornstein[plots]'")
        manifest.write(folder, summary, model.device)

    def _divergence(self) -> Divergence | None:
        """Return the rule for the divergence, the trace of the Jacobian."""
        if isinstance(self.divergence, int):
            return Hutchinson(self.divergence)
        return Exact() if self.divergence == "exact" else None

    def _scores(
        self, model: DiffusionModel, x: Tensor, labels: _Labels, rule: Divergence | None
    ) -> Scores:
        """Compute log-densities of all samples, and their bounds batch by batch."""
        if self.batch < 1:
            raise OrnsteinError(f"--batch {self.batch}: at least 1")
        conditions = model.conditions(labels, condition_values(self.conditions))
        spacing = None if self.elbo_spacing is None else made(self.elbo_spacing, spacings.named)
        keywords = arguments(self, DiffusionModel.elbo, "elbo_", spacing=spacing)
        bounds = []
        for first in range(0, len(x), self.batch):
            rows = slice(first, first + self.batch)
            batch_keywords = {
                "seed": Noise(self.seed).shift(first),
                "conditions": dict(conditions.take(rows)),
            }
            bounds.append(model.elbo(x[rows], **keywords | batch_keywords))
        keywords = arguments(
            self,
            DiffusionModel.log_likelihood,
            divergence=rule,
            label=None,
            conditions=dict(conditions),
            callback=_Report(len(x), self.batch),
        )
        return Scores(
            model.log_likelihood(x, **keywords),
            torch.cat([b.value for b in bounds]),
            torch.cat([b.stderr for b in bounds]),
            math.prod(model.event_shape),
            model.codec.levels is not None,
        )

    def _samples(self, model: DiffusionModel) -> tuple[Tensor, _Labels]:
        """Return the samples with labels, if they have the model's shape and levels."""
        if self.n is not None and self.n < 2:
            raise OrnsteinError(f"n={self.n}: at least 2, for a mean with its error")
        data = read(self.data)
        x = data.x[: self.n]
        model.encode(x[:1])  # refuses another shape
        levels = model.codec.levels
        if levels is not None:
            off = int((levels.nearest(x) != x).flatten(1).any(1).sum())
            if off:
                last = levels.low + levels.step * (levels.count - 1)
                raise DataError(
                    f"{self.data}: {off} of {len(x)} samples hold values that are none of this"
                    f" model's, {levels.low:g} to {last:g} in steps of {levels.step:g}: scale and"
                    " round them as its training data were"
                )
        if self.label != "data":
            return x, self.label
        if data.labels is None:
            raise DataError(f"--label data: {self.data} comes without labels; pass whole numbers")
        return x, data.labels[: self.n]


class _Report:
    """A callback that prints a line after each batch, where there are several."""

    def __init__(self, n: int, batch: int) -> None:
        self.n = n
        self.batch = batch
        self.began = time.monotonic()

    def __call__(self, done: int) -> None:
        if self.n > self.batch:
            print(
                f"likelihood: {done} of {self.n} samples, {time.monotonic() - self.began:.0f} s",
                file=sys.stderr,
                flush=True,
            )
