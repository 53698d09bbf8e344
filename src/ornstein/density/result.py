"""The result of `sample_density`: samples, log Z, diagnostics, and methods that draw more."""

__all__ = ["DensityResult", "Progress"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ornstein.core.numerics.deprecated import warn_renamed
from ornstein.core.random.noise import Noise
from ornstein.core.random.weighted_sample import WeightedSample
from ornstein.density.density import Density
from ornstein.density.diagnostics import DensityWarning
from ornstein.density.expectations import PosteriorMean, average
from ornstein.density.interop.export import save_npz, to_inference_data, to_pandas
from ornstein.density.learned.coverage import Coverage
from ornstein.density.learned.weighted_draws import WeightedDraws, draw_smc, draw_weighted
from ornstein.density.log_z import LogZ
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.training.loop import TrainingProgress


class Progress(NamedTuple):
    """The state of a run of `sample_density`, as its ``callback`` receives it.

    Attributes:
        name: the stage that was just finished: "planned", "tempered", "learning" (after every
            optimiser step), "importance-sampled".
        log_z: the present estimate of log Z, with its standard error and effective sample size.
        evaluations: evaluations of the log-density so far.
        step: the state of the training, while learning; else None.
    """

    name: str
    log_z: LogZ
    evaluations: int
    step: TrainingProgress | None = None

    def line(self) -> str:
        """Describe the state in one line of words and numbers."""
        done = f" {self.step.step} of {self.step.steps}" if self.step else ""
        error = f" +- {self.log_z.stderr:.3f}" if math.isfinite(self.log_z.stderr) else ""
        estimate = f"log Z = {self.log_z.value:.3f}{error}, ESS {self.log_z.ess:.0f}"
        return f"{self.name}{done}: {estimate}, {self.evaluations} evaluations"


@dataclass(frozen=True, eq=False)
class DensityResult:
    """Samples of a density, an estimate of log Z, diagnostics, and a model that draws more.

    Attributes:
        samples: ``(n, d)``, equally weighted, in unconstrained coordinates.
        parameters: the same samples by the user's names and in the user's space, ``(n, *shape)``
            each.
        log_z_estimate: the estimate of log Z in nats, with standard error, 95 % interval, lower
            bound, effective sample size and cost.
        eubo: upper bound on log Z in expectation, nats, of the frozen diffusion, as far as the
            particles are exact samples.
        k_hat: Pareto shape of the diffusion's weights; above 0.7 a small number of them carries the
            estimate.
        cess: conditional effective sample size of each tempering step, as a fraction; of the single
            step where nothing was tempered.
        acceptance: mean acceptance probability of the moves at each tempering step; empty where
            nothing was moved.
        gradients: points at which the gradient of the log-density was evaluated.
        seconds: wall time.
        warnings: reasons not to trust the numbers, each with a ``code`` and a ``message``; empty if
            there are none.
        sampler: a model that draws more samples without evaluating the density (approximate:
            without weights).
        estimates: log Z by "tempering", from independent runs, and by "diffusion", from fresh paths
            of the frozen model. The two are uncorrelated.
        fused: whether the diffusion takes part in ``log_z`` and ``samples``; if not, its weights
            are not to be trusted.
        coverage: the result of the probe for missing mass.
        density: the density that was sampled.
        particles: the weighted particles behind ``samples``, unconstrained: of tempering and, if
            ``fused``, of the diffusion.

    Example:
        >>> log_prob = lambda x: -x.square().sum(1) / 2
        >>> r = orn.sample_density(log_prob, dim=2, n=64, particles=64, stderr=0.1)
        >>> r.samples.shape
        torch.Size([64, 2])
        >>> r.log_z_interval[0] < r.log_z < r.log_z_interval[1]
        True
    """

    samples: Tensor
    parameters: dict[str, Tensor]
    log_z_estimate: LogZ
    eubo: float
    k_hat: float
    cess: list[float]
    acceptance: list[float]
    gradients: int
    seconds: float
    warnings: list[DensityWarning]
    sampler: DiffusionModel
    estimates: dict[str, LogZ]
    fused: bool
    coverage: Coverage
    density: Density
    particles: tuple[WeightedSample, ...]

    @property
    def log_z(self) -> float:
        """The estimate of log Z, in nats."""
        return float(self.log_z_estimate.value)

    @property
    def log_z_stderr(self) -> float:
        """The standard error of log Z, in nats."""
        return float(self.log_z_estimate.stderr)

    @property
    def log_z_interval(self) -> tuple[float, float]:
        """The ends of the 95 % interval of log Z, in nats."""
        return self.log_z_estimate.interval

    @property
    def elbo(self) -> float:
        """The lower bound on log Z in expectation that the frozen diffusion gives, in nats."""
        return self.log_z_estimate.elbo

    @property
    def ess(self) -> float:
        """The effective sample size of the weighted particles behind the samples."""
        return self.log_z_estimate.ess

    @property
    def evaluations(self) -> int:
        """The number of points at which the log-density was evaluated, with gradient or without."""
        return self.log_z_estimate.cost

    def average(self, f: Callable[[dict[str, Tensor]], Tensor]) -> PosteriorMean:
        """Estimate ``E[f]`` under the density with its standard error, from all weighted particles.

        This is more accurate than the mean over ``samples``.

        Args:
            f: of named parameters, ``(m, *shape)`` each, such as ``parameters``, to ``(m, *any)``.

        Raises:
            OrnsteinError: if f does not return a row for each particle.
        """
        return average(self.particles, lambda x: f(self.density.constrain(x)))

    def draw_weighted(self, n: int, seed: int | Noise = 0) -> WeightedDraws:
        """Draw n ends of independent paths of the sampler, with their exact importance weights.

        These evaluations are not counted in ``evaluations``. See `ornstein.draw_weighted`.

        Args:
            n: number of draws, at least 2.
            seed: of everything random.
        """
        return draw_weighted(self.sampler, self.density, n, seed)

    def draw_smc(self, n: int, seed: int | Noise = 0) -> WeightedDraws:
        """Draw n particles by sequential Monte Carlo with the sampler, with their weights.

        It suits samplers whose weights are uneven. See `ornstein.draw_smc`.

        Args:
            n: number of particles, at least 32.
            seed: of everything random.
        """
        return draw_smc(self.sampler, self.density, n, seed)

    def weighted(self, n: int, seed: int | Noise = 0) -> WeightedDraws:
        """Draw weighted points by the old name of `DensityResult.draw_weighted`, with a warning."""
        warn_renamed("DensityResult.weighted", "DensityResult.draw_weighted")
        return self.draw_weighted(n, seed)

    def resampled(self, n: int, seed: int | Noise = 0) -> WeightedDraws:
        """Draw weighted particles by the old name of `DensityResult.draw_smc`, with a warning."""
        warn_renamed("DensityResult.resampled", "DensityResult.draw_smc")
        return self.draw_smc(n, seed)

    @property
    def notes(self) -> dict[str, Any]:
        """The numbers that are saved and exported together with the draws."""
        return {
            "log_z": self.log_z,
            "log_z_stderr": self.log_z_stderr,
            "log_z_lower": self.log_z_interval[0],
            "log_z_upper": self.log_z_interval[1],
            "ess": self.ess,
            "evaluations": self.evaluations,
            "gradients": self.gradients,
            "warnings": "; ".join(warning.message for warning in self.warnings),
        }

    def to_inference_data(self) -> Any:
        """Return the draws as ArviZ ``InferenceData``, with log Z and its error as attributes.

        Raises:
            OrnsteinError: if ArviZ is not installed.
        """
        return to_inference_data(
            self.parameters, self.notes, self.density.axes, self.density.labels
        )

    def to_pandas(self) -> Any:
        """Return the draws as a pandas ``DataFrame``, one column for each number.

        Raises:
            OrnsteinError: if pandas is not installed.
        """
        return to_pandas(self.parameters, self.notes)

    def save(self, path: str | Path) -> None:
        """Write the draws and the numbers to an ``.npz`` file, which `load_npz` reads.

        Args:
            path: of the file.
        """
        save_npz(path, self.parameters, self.notes)

    def _rows(self) -> dict[str, str]:
        """Return the names and values that ``repr`` shows of a result."""
        low, high = self.log_z_interval
        value = f"{self.log_z:.4f} +- {self.log_z_stderr:.4f}"
        n, dim = self.samples.shape
        return {
            "samples": f"{n} in {dim} dimensions ({', '.join(self.parameters)})",
            "log Z": f"{value}, 95 % in [{low:.4f}, {high:.4f}]",
            "effective sample size": f"{self.ess:.0f}",
            "Pareto k-hat of the diffusion": f"{self.k_hat:.2f}",
            "estimates": ", ".join(
                f"{name} {estimate.value:.4f} +- {estimate.stderr:.4f}"
                for name, estimate in self.estimates.items()
            ),
            "cost": f"{self.evaluations} evaluations, {self.gradients} gradients,"
            f" {self.seconds:.1f} s",
            "warnings": "\n".join(f"{w.code}: {w.message}" for w in self.warnings) or "none",
        }

    def __repr__(self) -> str:
        rows = self._rows().items()
        lines = (f"  {name}: {text.replace(chr(10), chr(10) + '    ')}" for name, text in rows)
        return "\n".join(["DensityResult", *lines])

    def _repr_html_(self) -> str:
        """Return the rows of ``repr`` as an HTML table, for notebooks."""
        rows = (
            f"<tr><th style='text-align: left'>{escape(name)}</th>"
            f"<td style='text-align: left'>{escape(text).replace(chr(10), '<br>')}</td></tr>"
            for name, text in self._rows().items()
        )
        return f"<table>{''.join(rows)}</table>"
