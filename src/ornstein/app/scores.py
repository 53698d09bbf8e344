"""The report of ``ornstein likelihood``: log-densities and bounds as table, summary and words.

Of one sample x, log p(x) is the density under the probability flow and b(x) the lower bound
(ELBO) of the sampler with noise, both in nats. Of quantised data b(x) bounds the log-probability of
the discrete values, whose cost in bits per dimension is -b(x) / (d ln 2); of other data it bounds
log p(x), and the mean of log p(x) - b(x) shows how far the denoiser is from a posterior mean.
"""

__all__ = ["Number", "Scores"]

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ornstein.app.pictures import save_likelihood
from ornstein.inference.likelihood.probability_flow import LogLikelihood


class Number(NamedTuple):
    """A mean over samples and its standard error."""

    mean: float
    stderr: float

    @staticmethod
    def of(x: Tensor) -> "Number":
        """Return the mean of values ``(n,)`` with the standard error ``std / sqrt(n)``."""
        return Number(float(x.double().mean()), float(x.double().std() / math.sqrt(len(x))))

    def __str__(self) -> str:
        digits = 4
        if 0 < self.stderr < math.inf:
            digits = max(0, min(6, 1 - math.floor(math.log10(self.stderr))))
        return f"{self.mean:.{digits}f} +- {self.stderr:.{digits}f}"


@dataclass(frozen=True)
class Scores:
    """The log-densities of samples with lower bounds on them, in nats.

    Args:
        log_likelihood: of the probability flow, with its errors.
        elbo, elbo_stderr: lower bounds and their standard errors, ``(n,)``.
        dim: number of elements of one sample.
        quantised: whether the bound is on the probability of the discrete values.
    """

    log_likelihood: LogLikelihood
    elbo: Tensor
    elbo_stderr: Tensor
    dim: int
    quantised: bool

    @property
    def bits(self) -> Tensor:
        """The cost ``-elbo / (dim ln 2)`` in bits per dimension, ``(n,)``."""
        return -self.elbo / (self.dim * math.log(2))

    @property
    def gap(self) -> Number:
        """The mean of log-density minus bound over samples, without meaning for quantised data."""
        return Number.of(self.log_likelihood.value - self.elbo)

    def table(self) -> str:
        """Return one row per sample as CSV with 9 digits, which are all that a float32 has."""
        flow = self.log_likelihood
        columns = {
            "log_prob": flow.value,
            "stderr": flow.stderr,
            "discretisation": flow.discretisation,
            "terminal": flow.terminal,
            "error": flow.error,
            "elbo": self.elbo,
            "elbo_stderr": self.elbo_stderr,
        } | ({"elbo_bits_per_dim": self.bits} if self.quantised else {})
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", *columns])
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        for i, row in enumerate(rows):
            writer.writerow([i, *(f"{value:.9g}" for value in row)])
        return file.getvalue()

    def summary(self) -> dict[str, Any]:
        """Return means with standard errors, and the computing cost, as JSON takes them."""
        flow = self.log_likelihood
        means = {
            "log_prob": flow.value,
            "log_prob_per_dim": flow.value / self.dim,
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
                name: float(getattr(flow, name).mean())
                for name in ("stderr", "discretisation", "terminal", "error")
            },
            "prior_gap": flow.prior_gap,
            "evaluations": flow.cost,
            "passes": flow.passes,
        }

    def lines(self) -> list[str]:
        """Return the summary in words, one line each."""
        flow = self.log_likelihood
        log_prob = Number.of(flow.value)
        errors = {"probes": flow.stderr, "steps": flow.discretisation, "end": flow.terminal}
        parts = ", ".join(f"{name} {float(error.mean()):.2g}" for name, error in errors.items())
        return [
            f"{len(self.elbo)} samples of {self.dim} dimensions; nats per sample, means with their"
            " standard error over samples",
            f"log p     = {log_prob}   the density under the flow; per dimension"
            f" {Number.of(flow.value / self.dim)}",
            f"  of one sample the error is {float(flow.error.mean()):.2g} on average: {parts}",
            *(self._bits_lines() if self.quantised else self._bound_lines(log_prob)),
            f"prior gap = {flow.prior_gap:.2g}   what samplers lose that start from the prior",
            f"cost      = {flow.cost} evaluations and {flow.passes} backward passes per sample",
        ]

    def _bits_lines(self) -> list[str]:
        """Return the line on the bound on the probability of quantised data."""
        return [
            f"bound     = {Number.of(self.elbo)}   on the log-probability of the discrete values:"
            f" {Number.of(self.bits)} bits per dimension",
            "  a probability, where log p above is a density at the values: the two are not to be"
            " compared",
        ]

    def _bound_lines(self, log_prob: Number) -> list[str]:
        """Return the lines on the bound on the density, and on whether density exceeds bound."""
        elbo = Number.of(self.elbo)
        lines = [f"bound     = {elbo}", f"log p - bound = {self.gap}   sample by sample"]
        flow = self.log_likelihood
        numerical_error = float((flow.discretisation + flow.terminal).mean())
        if self.gap.mean >= 0:
            return [*lines, f"{elbo} (bound) <= log p = {log_prob}"]
        if self.gap.mean > -3 * self.gap.stderr - numerical_error:
            return [*lines, f"{elbo} (bound) and log p = {log_prob} agree within their errors"]
        return [
            *lines,
            f"{elbo} (bound) > log p = {log_prob}",
            "  the bound is of the sampler with noise, log p of the flow: they part where the"
            " denoiser is no exact posterior",
        ]

    def picture(self, path: Path) -> Path:
        """Draw histograms of log-densities and bounds as a PNG file and return its path."""
        unit = self.dim * (math.log(2) if self.quantised else 1.0)
        bound = self.bits if self.quantised else self.elbo / unit
        noise = float(self.elbo_stderr.mean()) / unit
        log_prob = self.log_likelihood.value / self.dim
        return save_likelihood(path, log_prob, bound, noise, self.quantised)
