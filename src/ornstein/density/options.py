"""Check the arguments of `sample_density`, limit what a run may spend, and track its progress."""

__all__ = ["Budget", "Options", "Run"]

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from torch import Tensor

from ornstein.core.numerics.checks import require_finite, require_integers
from ornstein.core.random.noise import Noise
from ornstein.density.counted import CountedLogDensity
from ornstein.density.density import Density
from ornstein.density.log_z import LogZ
from ornstein.density.result import Progress
from ornstein.density.smc.strategy import MIN_RUNS
from ornstein.errors import OrnsteinError
from ornstein.training.loop import TrainingProgress

_MAX_SCALE = 1e100  # its square and inverse square are finite in double precision
_MIN_PARTICLES = 20  # smallest number of particles to explore with: fewer give no usable covariance


@dataclass(frozen=True)
class Budget:
    """A limit on the wall time and the density evaluations that `sample_density` may spend.

    The strategy (exploration, tempering, fits) is made in any case; what is left of the budget then
    limits the numbers of particles and of training steps, to at least 32 and 1. With a limit on
    seconds that binds, results depend on the machine; without one they depend on the seed alone.

    Args:
        seconds: of wall time.
        evaluations: of the log-density, before the search for missing mass.

    Raises:
        OrnsteinError: for a limit that is not a positive number.

    Example:
        >>> orn.Budget(seconds=60).evaluations
        inf
    """

    seconds: float = math.inf
    evaluations: float = math.inf

    def __post_init__(self) -> None:
        if not (_is_positive(self.seconds) and _is_positive(self.evaluations)):
            raise OrnsteinError(
                f"Budget(seconds={self.seconds}, evaluations={self.evaluations}): both positive"
                " numbers; leave one away"
            )


@dataclass(frozen=True)
class Options:
    """The checked arguments of `sample_density` that determine how much is computed.

    The fields are described there; a budget in seconds is turned into a `Budget`.
    """

    n: int
    stderr: float
    particles: int | None
    training_steps: int
    start_mean: float | Tensor
    start_std: float | None
    budget: Budget

    @classmethod
    def checked(
        cls,
        n: Any,
        stderr: Any,
        particles: Any,
        training_steps: Any,
        start_mean: Any,
        start_std: Any,
        budget: Any,
    ) -> "Options":
        """Check the arguments that a user passed, which may have any type.

        Raises:
            OrnsteinError: for a value that is out of range or of the wrong type.
        """
        require_integers(2 * MIN_RUNS, n=n)
        require_integers(1, training_steps=training_steps)
        if particles is not None:
            require_integers(_MIN_PARTICLES, particles=particles)
        for name, value in (("start_std", start_std), ("stderr", stderr)):
            if value is None and name == "start_std":
                continue
            usable = _is_positive(value) and value >= 1 / _MAX_SCALE
            if not usable or _MAX_SCALE < value < math.inf:
                raise OrnsteinError(
                    f"sample_density({name}={value!r}): must be a positive number of a size between"
                    f" {1 / _MAX_SCALE:g} and {_MAX_SCALE:g}; leave it away for the default"
                )
        if isinstance(start_mean, Tensor):
            start_mean = start_mean.detach().clone()
        else:
            require_finite(start_mean=start_mean)
        budget = budget if isinstance(budget, Budget) else Budget(_seconds(budget))
        return cls(n, stderr, particles, training_steps, start_mean, start_std, budget)


def _seconds(budget: Any) -> float:
    """Return a budget that is a number as seconds, and raise for anything else."""
    if not isinstance(budget, Real):
        raise OrnsteinError(
            f"sample_density(budget={budget!r}): pass seconds, or an orn.Budget(seconds=...,"
            " evaluations=...)"
        )
    return float(budget)


def _is_positive(value: Any) -> bool:
    """Return whether a value is a number above 0, inf included."""
    return isinstance(value, Real) and not isinstance(value, bool) and float(value) > 0


@dataclass
class Run:
    """The state of a run of `sample_density`: its density with counted calls, clock and callback.

    Args:
        density: what is sampled.
        options: how much to do.
        noise: the source of everything random.
        callback: called after every stage; None for no one.
        start: time at which the run began, seconds of `time.monotonic`.
    """

    density: Density
    options: Options
    noise: Noise
    callback: Callable[[Progress], None] | None
    start: float = field(default_factory=time.monotonic)
    target: CountedLogDensity = field(init=False)

    def __post_init__(self) -> None:
        density = self.density
        self.target = CountedLogDensity(density.log_prob, density.dim, values=density.trials)

    def seconds_left(self) -> float:
        """Return how many seconds of the budget of wall time are left."""
        return max(0.0, self.options.budget.seconds - (time.monotonic() - self.start))

    def report(self, name: str, log_z: LogZ, step: TrainingProgress | None = None) -> None:
        """Call the user's callback after a stage, or after a step of the training."""
        if self.callback is not None:
            self.callback(Progress(name, log_z, self.target.values, step))
