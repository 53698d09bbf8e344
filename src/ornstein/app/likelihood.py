"""``ornstein likelihood``: how likely a model finds data, each number with its error.

Two laws belong to one model: that of the probability flow, whose density is computed, and that of
the sampler with noise, which the bound is of. They agree where the denoiser is an exact posterior;
a bound above the density says that it is none.
"""

__all__ = ["Likelihood", "Number", "Scores"]

import csv
import io
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro
from torch import Tensor

from ornstein.app.pictures import save_likelihood
from ornstein.core.random.noise import Noise
from ornstein.errors import DataError, OrnsteinError
from ornstein.inference.checkpoint import write_atomically, write_config
from ornstein.inference.diffusion_model import DiffusionModel, load
from ornstein.inference.likelihood.probability_flow import LogLikelihood
from ornstein.inference.likelihood.trace import Hutchinson
from ornstein.inference.manifest import Manifest, options
from ornstein.training.datasets.read import read

BATCH = 256


class Number(NamedTuple):
    """A mean over samples and its standard error."""

    mean: float
    stderr: float

    @staticmethod
    def of(x: Tensor) -> "Number":
        """Of ``(n,)``."""
        return Number(float(x.double().mean()), float(x.double().std() / math.sqrt(len(x))))

    def __str__(self) -> str:
        digits = (
            max(0, min(6, 1 - math.floor(math.log10(self.stderr))))
            if 0 < self.stderr < math.inf
            else 4
        )
        return f"{self.mean:.{digits}f} +- {self.stderr:.{digits}f}"


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood of data under a model in a run folder, each sample with its errors, and the
    bound beside it."""

    model: tyro.conf.Positional[Path]
    """A run folder."""
    data: str
    """What `train` takes: a folder of pictures, an .npy, .npz or .csv file, or a bundled set.
    Labels are not used."""
    n: int | None = None
    """The first n samples; by default all."""
    tol: float = 1e-4
    """Error allowed per step, nats per dimension."""
    probes: int | None = None
    """Random directions for the divergence; by default exact up to 64 dimensions, else 16."""
    elbo_steps: int = 100
    """Size of the grid of the bound."""
    seed: int = 0
    """Of the probes and of the bound."""
    out: Path | None = None
    """Where to write; by default likelihood/ in the run folder."""

    def run(self) -> None:
        """Print the summary, and write likelihood.csv, summary.json, likelihood.png and the
        manifest."""
        manifest, folder, began = (
            Manifest("likelihood", options(self)),
            self.out or self.model / "likelihood",
            time.monotonic(),
        )
        model, rule = load(self.model), None if self.probes is None else Hutchinson(self.probes)
        x = self._samples(model)
        folder.mkdir(parents=True, exist_ok=True)
        bound = [
            model.elbo(part, self.elbo_steps, Noise(self.seed).shift(BATCH * k))
            for k, part in enumerate(x.split(BATCH))
        ]
        elbo, stderr = torch.cat([b.value for b in bound]), torch.cat([b.stderr for b in bound])
        done = model.log_likelihood(
            x, self.tol, rule, self.seed, batch=BATCH, report=_Report(len(x))
        )
        scores = Scores(
            done, elbo, stderr, math.prod(model.event_shape), model.codec.levels is not None
        )
        summary = scores.summary() | {"seconds": round(time.monotonic() - began, 2)}
        write_atomically(folder / "likelihood.csv", scores.table().encode())
        write_config(folder / "summary.json", summary)
        print(
            "\n".join(
                [
                    *scores.lines(),
                    f"numbers: {folder / 'likelihood.csv'}\nsummary: {folder / 'summary.json'}",
                ]
            )
        )
        try:
            print(f"picture: {scores.picture(folder / 'likelihood.png')}")
        except ImportError:
            print("picture: none, it needs matplotlib: pip install 'ornstein[plots]'")
        manifest.write(folder, summary)

    def _samples(self, model: DiffusionModel) -> Tensor:
        """The samples, if the model can have an opinion on them."""
        if self.n is not None and self.n < 2:
            raise OrnsteinError(f"n={self.n}: at least 2, for a mean with its error")
        x, levels = read(self.data).x[: self.n], model.codec.levels
        model.encode(x[:1])  # refuses another shape
        if levels is not None:
            off = int((levels.nearest(x) != x).flatten(1).any(1).sum())
            if off:
                last = levels.low + levels.step * (levels.count - 1)
                raise DataError(
                    f"{self.data}: {off} of {len(x)} samples hold values that are none of this"
                    f" model's, {levels.low:g} to {last:g} in steps of {levels.step:g}: scale and"
                    " round them as its training data were"
                )
        return x


class _Report:
    """A line on the terminal after each batch, where there are several."""

    def __init__(self, n: int) -> None:
        self.n, self.began = n, time.monotonic()

    def __call__(self, done: int) -> None:
        if self.n > BATCH:
            print(
                f"likelihood: {done} of {self.n} samples, {time.monotonic() - self.began:.0f} s",
                file=sys.stderr,
                flush=True,
            )


@dataclass(frozen=True)
class Scores:
    """Log-densities of samples and their bounds, in nats.

    Args:
        found: of the flow.
        elbo, elbo_stderr: ``(n,)``.
        dim: of a sample.
        quantised: whether the bound is on the probability of the discrete values.
    """

    found: LogLikelihood
    elbo: Tensor
    elbo_stderr: Tensor
    dim: int
    quantised: bool

    @property
    def bits(self) -> Tensor:
        """The bound in bits per dimension, ``(n,)``: a cost."""
        return -self.elbo / (self.dim * math.log(2))

    @property
    def gap(self) -> Number:
        """Log-density less bound, sample by sample; no number for quantised data."""
        return Number.of(self.found.value - self.elbo)

    def table(self) -> str:
        """One row per sample, as CSV with 9 digits, which are all that a float32 has."""
        found = self.found
        columns = {
            "log_prob": found.value,
            "stderr": found.stderr,
            "discretisation": found.discretisation,
            "terminal": found.terminal,
            "error": found.error,
            "elbo": self.elbo,
            "elbo_stderr": self.elbo_stderr,
        } | ({"elbo_bits_per_dim": self.bits} if self.quantised else {})
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", *columns])
        for i, row in enumerate(
            zip(*(column.tolist() for column in columns.values()), strict=True)
        ):
            writer.writerow([i, *(f"{value:.9g}" for value in row)])
        return file.getvalue()

    def summary(self) -> dict[str, Any]:
        """Means with their standard errors, and what was spent."""
        found = self.found
        means = {
            "log_prob": found.value,
            "log_prob_per_dim": found.value / self.dim,
            "elbo": self.elbo,
        }
        if self.quantised:
            means["elbo_bits_per_dim"] = self.bits
        return {
            "samples": len(self.elbo),
            "dimensions": self.dim,
            "elbo_is_of": "probability" if self.quantised else "density",
            **{name: Number.of(values)._asdict() for name, values in means.items()},
            **({} if self.quantised else {"log_prob_minus_elbo": self.gap._asdict()}),
            "mean_error": {
                name: float(getattr(found, name).mean())
                for name in ("stderr", "discretisation", "terminal", "error")
            },
            "prior_gap": found.prior_gap,
            "evaluations": found.evaluations,
            "passes": found.passes,
        }

    def lines(self) -> list[str]:
        """The summary in words."""
        found, log_prob, elbo, dim = (
            self.found,
            Number.of(self.found.value),
            Number.of(self.elbo),
            self.dim,
        )
        parts = ", ".join(f"{name} {float(part.mean()):.2g}" for name, part in (
            ("probes", found.stderr), ("steps", found.discretisation), ("end", found.terminal)
        ))  # fmt: skip
        lines = [
            (
                f"{len(self.elbo)} samples of {dim} dimensions; nats per sample, means with their"
                " standard error over samples"
            ),
            (
                f"log p     = {log_prob}   the density under the flow; per dimension"
                f" {Number.of(found.value / dim)}"
            ),
            f"  of one sample the error is {float(found.error.mean()):.2g} on average: {parts}",
        ]
        if self.quantised:
            lines += [
                (
                    f"bound     = {elbo}   on the log-probability of the discrete values:"
                    f" {Number.of(self.bits)} bits per dimension"
                ),
                (
                    "  a probability, where log p above is a density at the values: the two are not"
                    " to be compared"
                ),
            ]
        else:
            lines += [
                f"bound     = {elbo}",
                f"log p - bound = {self.gap}   sample by sample",
                *self._bracket(log_prob, elbo),
            ]
        return [
            *lines,
            f"prior gap = {found.prior_gap:.2g}   what samplers lose that start from the prior",
            (
                f"cost      = {found.evaluations} evaluations and {found.passes} backward passes"
                " per sample"
            ),
        ]

    def _bracket(self, log_prob: Number, elbo: Number) -> list[str]:
        gap, numerics = self.gap, float((self.found.discretisation + self.found.terminal).mean())
        if gap.mean >= 0:
            return [f"{elbo} (bound) <= log p = {log_prob}"]
        if gap.mean > -3 * gap.stderr - numerics:
            return [f"{elbo} (bound) and log p = {log_prob} agree within their errors"]
        return [
            f"{elbo} (bound) > log p = {log_prob}",
            (
                "  the bound is of the sampler with noise, log p of the flow: they part where the"
                " denoiser is no exact posterior"
            ),
        ]

    def picture(self, path: Path) -> Path:
        """Histograms of both as a PNG file."""
        unit = self.dim * (math.log(2) if self.quantised else 1.0)
        bound, noise = (
            (self.bits if self.quantised else self.elbo / unit),
            float(self.elbo_stderr.mean()) / unit,
        )
        return save_likelihood(path, self.found.value / self.dim, bound, noise, self.quantised)
