"""Fit a sampler to a model: a time grid and multistep weights, learned from accurate trajectories.

For few evaluations no fixed sampler is best for every model. Every linear sampler of n evaluations
is a point in one small space: n - 1 levels, n factors and a triangle of weights (eq. 1 of
`ornstein.core.methods.tabulated`). With x*(z) the end of an accurate solution from noise z, and
x(z; theta) the sampler's,

    minimise  E rho(|x(z; theta) - x*(z)|^2),      rho(e) = (e + delta)^(p/2),                   (1)

by Gauss-Newton steps with reweighting: the residual is nearly linear in theta, so that some ten
steps suffice where a gradient method takes hundreds. p < 2 and delta, a fraction of the median
error, keep a small number of points that end in another mode from deciding alone. Fitting starts
from the best of several fixed samplers. The result is the iterate that is best on noise that was
not fitted to, if its error there is below that of the default sampler by more than a standard
error; its reported error is measured on noise that neither step has seen.

Related: bespoke solvers (Shaul et al. 2024), DPM-Solver-v3 (Zheng et al. 2023), LD3 (Tong et al.
2025), S4S (Frankel et al. 2025).
"""

__all__ = ["Tuned", "tune"]

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ornstein.core.methods.tabulated import TabulatedMultistep
from ornstein.core.numerics.checks import require_integers
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.numerics.estimate import Estimate
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.errors import OrnsteinError
from ornstein.inference.sampling.gauss_newton import SearchLimits, search
from ornstein.inference.sampling.multistep_family import (
    ReferenceSolutions,
)
from ornstein.inference.sampling.sample import start_states
from ornstein.inference.sampling.samplers import Sampler, default_sampler

_NOT_MEASURED = Estimate(math.nan, math.nan)
# Steps of the accurate solution, or ten times those of the sampler if that is more.
_MIN_ACCURATE_STEPS = 100
_MAX_ORDER = 6  # largest order of a multistep method
_CHOICE_OF_SAMPLES = 3  # key of the noise that chooses samples for derivatives; 0, 1, 2 are batches


@dataclass(frozen=True)
class Tuned(Sampler):
    """A sampler fitted to one model and one number of steps: pass it as ``method`` to `sample`.

    Args:
        error: root mean square distance per coordinate to the accurate solution from the same
            noise, on held-out noise.
        before: the same for ``method="auto"`` without tuning.
        evaluations: of the posterior, per sample, that tuning took.
        seconds: wall time that tuning took.
    """

    error: Estimate = field(default=_NOT_MEASURED)
    before: Estimate = field(default=_NOT_MEASURED)
    evaluations: int = 0
    seconds: float = 0.0

    def config(self) -> dict[str, Any]:
        """Return the configuration from which `build` makes the sampler, as JSON.

        Infinity is written as None.

        Raises:
            OrnsteinError: if no tuned sampler was better than the default, which has no table.
        """
        if not isinstance(self.method, TabulatedMultistep):
            raise OrnsteinError("this sampler is the fixed rule: there is nothing to save")
        first, *others = self.method.ratios
        return {
            "ratios": [first if math.isfinite(first) else None, *others],
            "weights": [list(row) for row in self.method.weights],
            "keep": list(self.method.keep),
            "data_std": self.method.data_std,
            "error": list(self.error),
            "before": list(self.before),
            "evaluations": self.evaluations,
            "seconds": self.seconds,
        }

    @staticmethod
    def build(config: dict[str, Any]) -> "Tuned":
        """Make the sampler that a configuration of `config` describes.

        Args:
            config: what `config` returned, also after a round trip through JSON.
        """
        ratios = tuple(math.inf if r is None else r for r in config["ratios"])
        table = TabulatedMultistep(
            ratios, tuple(map(tuple, config["weights"])), config["data_std"], tuple(config["keep"])
        )
        return Tuned(
            table,
            0.0,
            table.spacing,
            Estimate(*config["error"]),
            Estimate(*config["before"]),
            config["evaluations"],
            config["seconds"],
        )


def _ignore(line: str) -> None:
    """Ignore a line of progress; the default callback."""


@renamed_arguments(progress="callback")
def tune(
    posterior: Posterior,
    steps: int = 10,
    seed: int | Noise = 0,
    n: int = 1024,
    iterations: int = 20,
    seconds: float = 60.0,
    shape: Sequence[int] | None = None,
    order: int | None = None,
    dtype: torch.dtype | None = None,
    callback: Callable[[str], None] = _ignore,
) -> Tuned:
    """Fit a sampler of ``steps`` evaluations to a posterior, starting from ``method="auto"``.

    On the noise that chooses the sampler the error is never above that of ``method="auto"``.

    Args:
        posterior: a `Denoiser`, an exact posterior, or a guided one.
        steps: evaluations of the sampler, at least 2.
        seed: an integer or a `Noise`; noise for fitting, choosing and reporting is drawn from it.
        n: samples for fitting and for choosing, half of it for the report; more for data of low
            dimension, where each says less.
        iterations: Gauss-Newton steps of each search, each about ``2.5 steps`` runs of the sampler
            on about 256 samples.
        seconds: no new search and no new iteration starts after this time.
        shape: event shape, for a posterior that does not know its own.
        order: evaluations that a step may use, which is what the sampler holds in memory; by
            default 5 up to 8 steps, else 4.
        dtype: of the states; by default that of the posterior's parameters, else float32.
        callback: called with a line of text after each search.

    Returns:
        A `Sampler` with the error before and after: ``orn.sample(posterior, 64, steps,
        method=tuned)``.

    Raises:
        OrnsteinError: if steps, n, iterations or order are of the wrong kind or out of range.

    Example:
        >>> posterior = orn.targets.gmm9().posterior(orn.VP())
        >>> tuned = orn.tune(posterior, steps=4, n=16, iterations=1, seconds=0.0)
        >>> orn.sample(posterior, 5, 4, tuned).shape
        torch.Size([5, 2])
    """
    require_integers(2, steps=steps, n=n)
    require_integers(0, iterations=iterations)
    if order is None:
        order = 5 if steps <= 8 else 4
    require_integers(1, order=order)
    if order > _MAX_ORDER:
        raise OrnsteinError(f"tune(order={order}): from 1 to {_MAX_ORDER}, usually 4 or 5")
    began = time.monotonic()
    noise = Noise.of(seed)
    with torch.no_grad():
        fitting, choosing, reporting = (
            _solutions(posterior, m, shape, noise.fold(k), steps, dtype)
            for k, m in enumerate((n, n, n // 2))
        )
        fixed = default_sampler(posterior)
        limits = SearchLimits(iterations, began + seconds, callback, noise.fold(_CHOICE_OF_SAMPLES))
        family, theta = search(posterior, steps, order, fitting, choosing, limits)
        method = family.method(theta)
        fitted = Sampler(method, 0.0, method.spacing)
        before, after = (_run(posterior, steps, s, choosing) for s in (fixed, fitted))
        gains = choosing.errors(before) - choosing.errors(after)
        best = fitted if _is_clearly_positive(gains) else fixed
        error, error_before = (
            _rms_error(reporting, _run(posterior, steps, s, reporting)) for s in (best, fixed)
        )
    evaluations = family.evaluations[0] + 3 * _accurate_steps(steps) + 4 * steps
    elapsed = time.monotonic() - began
    return Tuned(best.method, 0.0, best.spacing, error, error_before, evaluations, elapsed)


def _accurate_steps(steps: int) -> int:
    """Return the number of steps of the accurate solutions to which a sampler is compared."""
    return max(_MIN_ACCURATE_STEPS, 10 * steps)


def _solutions(
    posterior: Posterior,
    n: int,
    shape: Sequence[int] | None,
    noise: Noise,
    steps: int,
    dtype: torch.dtype | None,
) -> ReferenceSolutions:
    """Compute accurate solutions by many steps of the default sampler, with their start states."""
    x_T = start_states(posterior, n, shape, noise)
    x_T = x_T if dtype is None else x_T.to(dtype)
    accurate = default_sampler(posterior)
    times = posterior.sde.times(_accurate_steps(steps), accurate.spacing)
    x_0 = simulate(Reverse(posterior, 0.0), x_T, times, accurate.method)
    return ReferenceSolutions(x_T, x_0)


def _run(
    posterior: Posterior, steps: int, sampler: Sampler, solutions: ReferenceSolutions
) -> Tensor:
    """Return the samples of a sampler from the start states of reference solutions."""
    times = posterior.sde.times(steps, sampler.spacing)
    return simulate(Reverse(posterior, 0.0), solutions.x_T, times, sampler.method)


def _is_clearly_positive(gains: Tensor) -> bool:
    """Return whether the mean is positive by more than its standard error.

    On small batches a small number of points that end in another mode would decide otherwise.
    """
    gains = gains.double()
    return float(gains.mean()) > float(gains.std()) / len(gains) ** 0.5


def _rms_error(solutions: ReferenceSolutions, x: Tensor) -> Estimate:
    """Return the root mean square error, and its standard error by the delta method."""
    squares = solutions.errors(x).double()
    value = float(squares.mean().sqrt())
    stderr = float(squares.std() / len(squares) ** 0.5 / (2 * value)) if value else 0.0
    return Estimate(value, stderr)
