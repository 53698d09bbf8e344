"""What `orn.sample_density` hands back, and the warnings that go with it."""

__all__ = ["DensityResult", "Progress", "Warning", "found_warnings"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ornstein.density.counted import CountedLogDensity
from ornstein.density.density import Density
from ornstein.density.expectations import Particles, PosteriorMean, average
from ornstein.density.interop.export import save_npz, to_inference_data, to_pandas
from ornstein.density.learned.coverage import Coverage
from ornstein.density.learned.importance import Weighed
from ornstein.density.learned.weighted_draws import WeightedDraws, draw_smc, draw_weighted
from ornstein.density.log_z import LogZ, consistency_test
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.models.codecs.affine import Codec
from ornstein.training.loop import TrainingProgress


class Warning(NamedTuple):
    """A reason not to trust a result: a code for programs and a message for people."""

    code: str
    message: str


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        name: of what was just done: "planned", "tempered", "learning" (after every step),
            "weighed".
        log_z: the present estimate of log Z, with its standard error and effective sample size.
        evaluations: of the log-density so far.
        step: of the training, while learning.
    """

    name: str
    log_z: LogZ
    evaluations: int
    step: TrainingProgress | None = None

    def line(self) -> str:
        """For people."""
        done = f" {self.step.step} of {self.step.steps}" if self.step else ""
        error = f" +- {self.log_z.stderr:.3f}" if math.isfinite(self.log_z.stderr) else ""
        found = f"log Z = {self.log_z.value:.3f}{error}, ESS {self.log_z.ess:.0f}"
        return f"{self.name}{done}: {found}, {self.evaluations} evaluations"


@dataclass(frozen=True)
class DensityResult:
    """What `sample_density` returns.

    Attributes:
        samples: ``(n, d)``, equally weighted, unconstrained.
        parameters: the same by the user's names and in the user's space, ``(n, *shape)`` each.
        log_z, log_z_stderr, log_z_interval: estimate in nats, standard error, 95 % interval.
        elbo: lower bound on log Z in expectation, nats: of the frozen diffusion.
        eubo: upper bound on log Z in expectation, nats, of the frozen diffusion, as far as the
            particles are exact samples.
        ess: effective sample size by the weights of the particles and paths behind ``samples``.
        k_hat: Pareto shape of the diffusion's weights; above 0.7 a few of them carry it.
        cess: conditional effective sample size of each rung of the ladder, as a fraction; of the
            one step where there was no ladder.
        acceptance: mean acceptance probability of the moves at each rung; empty where nothing was
            moved.
        evaluations: points at which the log-density was evaluated, with or without gradient.
        gradients: points at which its gradient was.
        seconds: wall time.
        warnings: reasons not to trust the numbers; empty if there are none.
        sampler: a model that draws more samples without touching the density (approximate: without
            the weights).
        estimates: log Z by "tempering", the frozen islands, and by "diffusion", the frozen model,
            which is learned from their particles but whose paths are fresh, so that the two are
            uncorrelated; fused in ``log_z``.
        fused: whether the diffusion takes part in ``log_z`` and ``samples``; if not, few of its
            paths count, or they know nothing of places where particles of the target are.
        coverage: what the probe for missing mass found.
        density: what was sampled.
        particles: behind ``samples``, weighted, unconstrained: of the frozen islands and, if
            ``fused``, of the frozen model.
    """

    samples: Tensor
    parameters: dict[str, Tensor]
    log_z: float
    log_z_stderr: float
    log_z_interval: tuple[float, float]
    elbo: float
    eubo: float
    ess: float
    k_hat: float
    cess: list[float]
    acceptance: list[float]
    evaluations: int
    gradients: int
    seconds: float
    warnings: list[Warning]
    sampler: DiffusionModel
    estimates: dict[str, LogZ]
    fused: bool
    coverage: Coverage
    density: Density
    particles: tuple[Particles, ...]

    def average(self, f: Callable[[dict[str, Tensor]], Tensor]) -> PosteriorMean:
        """``E[f]`` under the density with its standard error, from all weighted particles: nearer
        than the mean over ``samples``.

        Args:
            f: of named parameters, ``(m, *shape)`` each, such as `parameters`, to ``(m, *any)``.

        Raises:
            OrnsteinError: if f does not return a row for each particle.
        """
        return average(self.particles, lambda x: f(self.density.constrain(x)))

    def weighted(self, n: int, seed: int = 0) -> WeightedDraws:
        """n more draws of the sampler with their exact weights: `draw_weighted`, not counted in
        ``evaluations``."""
        return draw_weighted(self.sampler, self.density, n, seed)

    def resampled(self, n: int, seed: int = 0) -> WeightedDraws:
        """The same by particles that are resampled on the way: `draw_smc`, for samplers
        whose weights are uneven."""
        return draw_smc(self.sampler, self.density, n, seed)

    @property
    def notes(self) -> dict[str, Any]:
        """The numbers that travel with the draws."""
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
        """The draws as ArviZ ``InferenceData``, log Z and its error among the attributes. Needs
        ArviZ."""
        return to_inference_data(
            self.parameters, self.notes, self.density.axes, self.density.labels
        )

    def to_pandas(self) -> Any:
        """The draws as a ``DataFrame``. Needs pandas."""
        return to_pandas(self.parameters, self.notes)

    def save(self, path: str | Path) -> None:
        """Write the draws and the numbers to an ``.npz``; `load_npz` reads it."""
        save_npz(path, self.parameters, self.notes)


def found_warnings(
    estimates: dict[str, LogZ],
    fused: LogZ,
    ess: float,
    paths: Weighed,
    n: int,
    ledger: CountedLogDensity,
    coverage: Coverage,
    codec: Codec,
) -> list[Warning]:
    """What the diagnostics say, in words."""
    tempering, diffusion = estimates["tempering"], estimates["diffusion"]
    errors = tempering.stderr, diffusion.stderr
    apart = (
        all(0 < error < math.inf for error in errors)
        and consistency_test([tempering, diffusion]).p_value < 1e-4
    )
    where = None if coverage.where is None else codec.decode(coverage.where[None])[0]
    checks = {
        "heavy-weights": (
            paths.k_hat > 0.7,
            (
                f"Pareto k = {paths.k_hat:.2f} > 0.7: a few paths of the learned sampler carry its"
                f" estimate{'' if paths.good else ', which is left out of log Z'}; its own samples"
                " are rough. Give it more particles and steps, or reparametrise heavy tails"
            ),
        ),
        "wide-interval": (
            fused.stderr > 0.2,
            (
                f"the standard error of log Z is {fused.stderr:.2g} nats: raise n and particles, or"
                " the budget"
            ),
        ),
        "low-ess": (
            ess < 0.05 * n,
            (
                f"effective sample size {ess:.0f} of {n}: samples repeat; raise particles, or the"
                " budget"
            ),
        ),
        "disagreement": (
            paths.k_hat <= 0.7 and apart and abs(tempering.value - diffusion.value) > 0.05,
            (
                f"tempering found log Z = {tempering.value:.2f}, the learned sampler"
                f" {diffusion.value:.2f}: one of them misses a mode; set start_std to the reach of"
                " the density"
            ),
        ),
        "missing-mass": (coverage.warned, coverage.sentence(where)),
        "bad-values": (
            ledger.bad > 0,
            (
                f"log_prob was NaN or +inf at {ledger.bad} of {ledger.values} points, taken as zero"
                " density: check it there"
            ),
        ),
    }
    return [Warning(code, message) for code, (found, message) in checks.items() if found]
