"""Fitting a sampler to a model: the grid and the linear multistep weights that bring it closest to
the model's own trajectories.

Every linear sampler of n evaluations is a point in one small space: n - 1 levels, n factors and a
triangle of weights (eq. 1 of `ornstein.core.methods.tabulated`). With x*(z) the end of an accurate
solution from noise z, and x(z; theta) the sampler's,

    minimise  E rho(|x(z; theta) - x*(z)|^2),      rho(e) = (e + delta)^(p/2),                   (1)

by Gauss-Newton steps with reweighting: the residual is nearly linear in theta, so that some ten
steps suffice where a gradient method takes hundreds. p < 2 and delta, a fraction of the median
error, keep the few points that fall to another mode from deciding alone. Fitting starts from the
best of a few fixed samplers; what is kept is the iterate that is best on noise that was not fitted
to, if it beats the fixed rule there by more than a standard error, and what is reported is its
error on noise that neither step has seen.

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
from ornstein.core.numerics.estimate import Estimate
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.errors import OrnsteinError
from ornstein.inference.sampling.gauss_newton import Batch, Fit, Limits, search
from ornstein.inference.sampling.sample import Sampler, automatic, start_states

UNKNOWN = Estimate(math.nan, math.nan)
REFERENCE = (
    100  # steps of the accurate solution, at least; ten times those of the sampler if that is more
)


@dataclass(frozen=True)
class Tuned(Sampler):
    """A sampler for one model and one number of steps: pass it as ``method``.

    Attributes:
        error: root mean square distance per coordinate to the accurate solution from the same
            noise, on held-out noise.
        before: the same for ``method="auto"`` without tuning.
        evaluations: of the posterior, per sample, that tuning took.
        seconds: wall time that it took.
    """

    error: Estimate = field(default=UNKNOWN)
    before: Estimate = field(default=UNKNOWN)
    evaluations: int = 0
    seconds: float = 0.0

    def config(self) -> dict[str, Any]:
        """What `build` needs, as JSON takes it; infinity as None.

        Raises:
            OrnsteinError: if tuning kept the fixed rule, which has no table.
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
        """The sampler of a `config`."""
        ratios = tuple(math.inf if r is None else r for r in config["ratios"])
        table = TabulatedMultistep(
            ratios, tuple(map(tuple, config["weights"])), config["data_std"], tuple(config["keep"])
        )
        error, before = Estimate(*config["error"]), Estimate(*config["before"])
        return Tuned(
            table, 0.0, table.spacing, error, before, config["evaluations"], config["seconds"]
        )


def _silent(line: str) -> None:
    """Progress that nobody asked for."""


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
    progress: Callable[[str], None] = _silent,
) -> Tuned:
    """Fit a sampler of ``steps`` evaluations to a posterior; never worse on held-out noise than
    ``method="auto"``.

    Args:
        posterior: a `Denoiser`, an exact posterior, or a guided one.
        steps: evaluations of the sampler, at least 2.
        seed: an integer or a `Noise`; noise for fitting, choosing and reporting is drawn from it.
        n: samples for fitting and for choosing, half of it for the report; more for data of low
            dimension, where each says less.
        iterations: Gauss-Newton steps of each search, each about ``2.5 steps`` runs of the sampler
            on some 256 samples.
        seconds: no new search and no new iteration starts after this time.
        shape: event shape, for a posterior that does not know its own.
        order: evaluations that a step may use, which is what the sampler holds in memory; by
            default 5 up to 8 steps, else 4.
        dtype: of the states; by default that of the posterior's parameters, else float32.
        progress: called with a line per search.

    Returns:
        A `Sampler` with the error before and after: ``orn.sample(posterior, 64, steps,
        method=tuned)``.

    Raises:
        OrnsteinError: if steps or n are out of range.
    """
    order = order or (5 if steps <= 8 else 4)
    if steps < 2 or n < 2 or not 1 <= order <= 6:
        raise OrnsteinError(
            f"tune(steps={steps}, n={n}, order={order}): at least 2, at least 2, 1 to 6"
        )
    began, noise = time.monotonic(), seed if isinstance(seed, Noise) else Noise(seed)
    with torch.no_grad():
        fitting, choosing, reporting = (
            _batch(posterior, m, shape, noise.fold(k), steps, dtype)
            for k, m in enumerate((n, n, n // 2))
        )
        fixed = automatic(posterior)
        fit, theta = search(
            posterior,
            steps,
            order,
            fitting,
            choosing,
            Limits(iterations, began + seconds, progress, noise.fold(3)),
        )
        before, after = (
            _runs(posterior, steps, s, choosing) for s in (fixed, _sampler(fit, theta))
        )
        best = (
            _sampler(fit, theta)
            if _surely(choosing.errors(before) - choosing.errors(after))
            else fixed
        )
        error, known = (
            _report(reporting, _runs(posterior, steps, s, reporting)) for s in (best, fixed)
        )
    cost = fit.spent[0] + 3 * _accurate(steps) + 4 * steps
    return Tuned(best.method, 0.0, best.spacing, error, known, cost, time.monotonic() - began)


def _accurate(steps: int) -> int:
    return max(REFERENCE, 10 * steps)


def _batch(
    posterior: Posterior,
    n: int,
    shape: Sequence[int] | None,
    noise: Noise,
    steps: int,
    dtype: torch.dtype | None,
) -> Batch:
    x_T = start_states(posterior, n, shape, noise)
    x_T = x_T if dtype is None else x_T.to(dtype)
    accurate = automatic(posterior)
    times = posterior.sde.times(_accurate(steps), accurate.spacing)
    return Batch(x_T, simulate(Reverse(posterior, 0.0), x_T, times, accurate.method))


def _sampler(fit: Fit, theta: Tensor) -> Sampler:
    found = fit.found(theta)
    return Sampler(found, 0.0, found.spacing)


def _runs(posterior: Posterior, steps: int, sampler: Sampler, batch: Batch) -> Tensor:
    return simulate(
        Reverse(posterior, 0.0),
        batch.x_T,
        posterior.sde.times(steps, sampler.spacing),
        sampler.method,
    )


def _surely(gains: Tensor) -> bool:
    """Whether the mean is positive by more than its standard error: a few points that fall to
    another mode decide on small batches."""
    gains = gains.double()
    return float(gains.mean()) > float(gains.std()) / len(gains) ** 0.5


def _report(batch: Batch, found: Tensor) -> Estimate:
    """Root mean square and, by the delta method, its standard error over samples."""
    squares = batch.errors(found).double()
    value = float(squares.mean().sqrt())
    return Estimate(
        value, float(squares.std() / len(squares) ** 0.5 / (2 * value)) if value else 0.0
    )
