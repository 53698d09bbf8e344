"""Fitting a sampler to a model: the grid and the linear multistep weights that bring it closest to the model's own trajectories.

Every linear sampler of n evaluations is a point in one small space: n - 1 levels, n factors and a triangle of weights (eq. 1 of
`ornstein.core.methods.tabulated`). With x*(z) the end of an accurate solution from noise z, and x(z; theta) the sampler's,

    minimise  E rho(|x(z; theta) - x*(z)|^2),      rho(e) = (e + delta)^(p/2),                                (1)

by Gauss-Newton steps with reweighting: the residual is nearly linear in theta, so that some ten steps suffice where a gradient
method takes hundreds. p < 2 and delta, a fraction of the median error, keep the few points that fall to another mode from
deciding alone. Fitting starts from the best of a few fixed samplers; what is kept is the iterate that is best on noise that was not
fitted to, and what is reported is its error on noise that neither step has seen.

Related: bespoke solvers (Shaul et al. 2024), DPM-Solver-v3 (Zheng et al. 2023), LD3 (Tong et al. 2025), S4S (Frankel et al. 2025).
"""

__all__ = ["Tuned", "tune"]

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.core.methods.exponential import Past
from ornstein.core.methods.tabulated import Tabulated, tabulate
from ornstein.core.noise import Draws, Noise
from ornstein.core.sde import Posterior, Reverse
from ornstein.core.solve import Method, Step, Watcher, simulate
from ornstein.errors import OrnsteinError
from ornstein.exact.distances import Estimate
from ornstein.learn.sampling import Sampler, automatic, start_states

STARTS = tuple(product((0.36, 0.5, 0.7, 1.0, 1.4), (0.15, 0.3), (1.0, 1.3)))  # for `automatic`; the first is that of "auto"
SEARCHES = 3  # of them from which searches start
POWERS = (1.0, 2.0, 1.5)  # p of (1)
JACOBIAN = 256  # samples whose derivatives are taken, at least
UNKNOWN = Estimate(math.nan, math.nan)
PATIENCE = 4  # iterations without a better error on held-out noise, after which a search ends
REFERENCE = 100  # steps of the accurate solution, at least; ten times those of the sampler if that is more


@dataclass(frozen=True)
class Tuned(Sampler):
    """A sampler for one model and one number of steps: pass it as ``method``.

    Attributes:
        error: root mean square distance per coordinate to the accurate solution from the same noise, on held-out noise.
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
        if not isinstance(self.method, Tabulated):
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
        table = Tabulated(ratios, tuple(map(tuple, config["weights"])), config["data_std"], tuple(config["keep"]))
        error, before = Estimate(*config["error"]), Estimate(*config["before"])
        return Tuned(table, 0.0, table.spacing, error, before, config["evaluations"], config["seconds"])


def _silent(line: str) -> None:
    """Progress that nobody asked for."""


def tune(
    posterior: Posterior, steps: int = 10, seed: int | Noise = 0, n: int = 1024, iterations: int = 20,
    seconds: float = 60.0, shape: Sequence[int] | None = None, order: int | None = None,
    dtype: torch.dtype | None = None, progress: Callable[[str], None] = _silent,
) -> Tuned:  # fmt: skip
    """Fit a sampler of ``steps`` evaluations to a posterior; never worse on held-out noise than ``method="auto"``.

    Args:
        posterior: a `Denoiser`, an exact posterior, or a guided one.
        steps: evaluations of the sampler, at least 2.
        seed: an integer or a `Noise`; noise for fitting, choosing and reporting is drawn from it.
        n: samples for fitting and for choosing, half of it for the report; more for data of low dimension, where each says less.
        iterations: Gauss-Newton steps of each search, each about ``2.5 steps`` runs of the sampler on some 256 samples.
        seconds: no new search and no new iteration starts after this time.
        shape: event shape, for a posterior that does not know its own.
        order: evaluations that a step may use, which is what the sampler holds in memory; by default 5 up to 8 steps, else 4.
        dtype: of the states; by default that of the posterior's parameters, else float32.
        progress: called with a line per search.

    Returns:
        A `Sampler` with the error before and after: ``orn.sample(posterior, 64, steps, method=tuned)``.

    Raises:
        OrnsteinError: if steps or n are out of range.
    """
    order = order or (5 if steps <= 8 else 4)
    if steps < 2 or n < 2 or not 1 <= order <= 6:
        raise OrnsteinError(f"tune(steps={steps}, n={n}, order={order}): at least 2, at least 2, 1 to 6")
    began, noise = time.monotonic(), seed if isinstance(seed, Noise) else Noise(seed)
    with torch.no_grad():
        fitting, choosing, reporting = (_batch(posterior, m, shape, noise.fold(k), steps, dtype) for k, m in enumerate((n, n, n // 2)))
        fixed = automatic(posterior)
        fit, theta = _search(posterior, steps, order, fitting, choosing, _Limits(iterations, began + seconds, progress, noise.fold(3)))
        before, after = (_runs(posterior, steps, s, choosing) for s in (fixed, _sampler(fit, theta)))
        best = _sampler(fit, theta) if _rms(choosing, after) < _rms(choosing, before) else fixed
        error, known = (_report(reporting, _runs(posterior, steps, s, reporting)) for s in (best, fixed))
    cost = fit.spent[0] + 3 * _accurate(steps) + 4 * steps
    return Tuned(best.method, 0.0, best.spacing, error, known, cost, time.monotonic() - began)


@dataclass(frozen=True)
class _Batch:
    """Noise and the ends of the accurate solution from it."""

    x_T: Tensor
    end: Tensor

    def errors(self, found: Tensor) -> Tensor:
        """Mean square error of each sample, ``(b,)``."""
        return (found - self.end).square().flatten(1).mean(1)


@dataclass
class _Fit:
    """The search over theta: the logs of the n - 1 inner levels, n factors a, then the weights b, row by row."""

    posterior: Posterior
    table: Tabulated
    spent: list[int]  # evaluations, counted over all searches

    def __post_init__(self) -> None:
        flat = [b for row in self.table.weights for b in row]
        self.steps = len(self.table.weights)
        levels = torch.tensor(self.table.ratios[1:-1], dtype=torch.float64).log()
        self.start = torch.cat([levels, torch.ones_like(levels[:1]).expand(self.steps), torch.tensor(flat, dtype=torch.float64)])
        rows = [k for k, row in enumerate(self.table.weights) for _ in row]
        self.first = [*range(self.steps - 1), *range(self.steps), *rows]  # the first step that each parameter changes

    def sane(self, theta: Tensor) -> bool:
        """Whether the levels fall."""
        ratios = [math.inf, *theta[: self.steps - 1].tolist(), -math.inf]
        return all(a > b for a, b in pairwise(ratios)) and bool(theta.isfinite().all()) and math.exp(ratios[1]) < self.table.ratios[0]

    def found(self, theta: Tensor) -> Tabulated:
        """theta as a method."""
        sizes = [self.steps - 1, self.steps, *map(len, self.table.weights)]
        levels, keep, *weights = (tuple(part.tolist()) for part in theta.split(sizes))
        inner = tuple(math.exp(level) for level in levels)
        return replace(self.table, ratios=(self.table.ratios[0], *inner, self.table.ratios[-1]), keep=keep, weights=tuple(weights))

    def run(self, theta: Tensor, x_T: Tensor, watch: Sequence[Watcher] = (), since: int = 0, memory: Past | None = None) -> Tensor:
        """The end of the sampler theta from ``x_T``, or from a state and memory on the way."""
        table = self.found(theta)
        times, reverse = table.spacing(self.posterior.sde, self.steps), Reverse(self.posterior, 0.0)
        self.spent[0] += self.steps - since
        if memory is None:
            return simulate(reverse, x_T, times, table, watch=watch)
        rows = table.start(reverse, times).rows
        return simulate(reverse, x_T, times[since:], _Onward(table, Past(rows, since, memory.residuals)))

    def jacobian(self, theta: Tensor, x_T: Tensor) -> tuple[Tensor, Tensor]:
        """``x(theta)`` and ``dx / dtheta``, ``(b d, p)``, by differences: theta is perturbed, the steps before are not run again.

        Differences need nothing of a posterior but its values, and cost one run where forward mode costs two to three.
        """
        states: list[tuple[Tensor, Past]] = [(x_T, Past(()))]
        base = self.run(theta, x_T, [lambda t, s, x, step: states.append((step.x, step.memory))])
        h, columns = torch.finfo(x_T.dtype).eps ** 0.5, []
        for p, since in enumerate(self.first):
            moved = theta.clone()
            moved[p] += h
            x, memory = states[since]
            columns.append(((self.run(moved, x, since=since, memory=memory) - base) / h).flatten())
        return base, torch.stack(columns, 1)


@dataclass(frozen=True)
class _Onward(Method):
    """A method taken up in the middle of its run."""

    method: Method
    memory: Past
    order: int = 0

    def noisy(self, sde: Any) -> bool:
        return False

    def start(self, sde: Any, times: Tensor) -> Past:
        return self.memory

    def step(self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: Draws, memory: Any) -> Step:
        return self.method.step(sde, x, t, s, stream, memory)


class _Limits(NamedTuple):
    """How long a search may take."""

    iterations: int
    until: float
    progress: Callable[[str], None]
    noise: Noise

    def over(self) -> bool:
        return time.monotonic() > self.until


def _search(
    posterior: Posterior, steps: int, order: int, fitting: _Batch, choosing: _Batch, limits: _Limits
) -> tuple[_Fit, Tensor]:  # fmt: skip
    """Gauss-Newton runs with every power from every start, the most promising first, while there is time.

    The problem has many local minima; which start and power lead to a good one cannot be known beforehand.
    """
    spent = [0]
    fits = [_Fit(posterior, _table(posterior, steps, start, order), spent) for start in STARTS]
    ranked = sorted((_rms(choosing, fit.run(fit.start, choosing.x_T)), k) for k, fit in enumerate(fits))
    best = (ranked[0][0], fits[ranked[0][1]], fits[ranked[0][1]].start)
    fits = [fits[k] for _, k in ranked[:SEARCHES]]
    for power in POWERS:
        for fit in fits:
            if limits.over():
                break
            error, theta = _gauss_newton(fit, fitting, choosing, power, limits)
            limits.progress(f"power {power}: held-out error {error:.3g}")
            best = min(best, (error, fit, theta), key=lambda found: found[0])
    return best[1], best[2]


def _gauss_newton(fit: _Fit, fitting: _Batch, choosing: _Batch, power: float, limits: _Limits) -> tuple[float, Tensor]:
    """Levenberg-Marquardt on (1), from the fit's start; the iterate that is best on the batch for choosing, and its error."""
    theta, damping, stale = fit.start, 1e-2, 0
    best = (_rms(choosing, fit.run(theta, choosing.x_T)), theta)
    for k in range(limits.iterations):
        if limits.over():
            break
        squares = fitting.errors(fit.run(theta, fitting.x_T)).double()
        loss = _Robust(0.3 * float(squares.median()), power)
        few, weights = _pick(squares, loss.weight(squares), len(theta), fitting.end[0].numel(), limits.noise.fold(k))
        found, jacobian = fit.jacobian(theta, fitting.x_T[few])
        jacobian, residual = jacobian.double(), (found - fitting.end[few]).double().flatten()
        weighted = jacobian * weights.repeat_interleave(found[0].numel())[:, None]
        normal, gradient = weighted.mT @ jacobian, weighted.mT @ residual
        scale, before = (normal.diagonal() + 1e-9 * normal.diagonal().mean()).diag(), loss(squares)
        for _ in range(8):
            candidate = theta - torch.linalg.solve(normal + damping * scale, gradient)
            if fit.sane(candidate) and loss(fitting.errors(fit.run(candidate, fitting.x_T)).double()) < before:
                break
            damping *= 5
        else:
            break
        theta, damping = candidate, max(damping / 4, 1e-7)
        held_out = _rms(choosing, fit.run(theta, choosing.x_T))
        best, stale = min(best, (held_out, theta), key=lambda pair: pair[0]), 0 if held_out < best[0] else stale + 1
        if stale == PATIENCE:
            break
    return best


def _pick(squares: Tensor, weights: Tensor, parameters: int, dim: int, noise: Noise) -> tuple[Tensor, Tensor]:
    """Samples whose derivatives are taken, with their weights: at random, the more probable the more they matter.

    A derivative costs as many runs as there are parameters, an error one; so most samples only judge.
    """
    matter = squares * weights
    probability = matter / matter.sum() + 1 / len(squares)
    size = min(len(squares), max(JACOBIAN, 10 * parameters // dim))
    race = noise.uniform((len(squares),), torch.float64).clamp(min=1e-12).log() / probability.cpu()
    few = race.topk(size).indices
    chance = (size * probability[few] / 2).clamp(max=1)
    return few, weights[few] / chance


@dataclass(frozen=True)
class _Robust:
    """rho of (1) as a mean over samples, and the weight of each in a least-squares step: the derivative of rho."""

    delta: float
    power: float

    def __call__(self, squares: Tensor) -> float:
        value = float(((squares + self.delta) ** (self.power / 2)).mean())
        return value if math.isfinite(value) else math.inf

    def weight(self, squares: Tensor) -> Tensor:
        return (squares + self.delta) ** (self.power / 2 - 1)


def _accurate(steps: int) -> int:
    return max(REFERENCE, 10 * steps)


def _batch(
    posterior: Posterior, n: int, shape: Sequence[int] | None, noise: Noise, steps: int, dtype: torch.dtype | None
) -> _Batch:  # fmt: skip
    x_T = start_states(posterior, n, shape, noise)
    x_T = x_T if dtype is None else x_T.to(dtype)
    accurate = automatic(posterior)
    times = posterior.sde.times(_accurate(steps), accurate.spacing)
    return _Batch(x_T, simulate(Reverse(posterior, 0.0), x_T, times, accurate.method))


def _table(posterior: Posterior, steps: int, start: tuple[float, ...], order: int) -> Tabulated:
    """The fixed rule with other constants, as a table with room for ``order`` weights in each row."""
    chosen = automatic(posterior, *start)
    table = tabulate(chosen.method, Reverse(posterior, 0.0), posterior.sde.times(steps, chosen.spacing))  # type: ignore[arg-type]
    rows = [row + (0.0,) * (min(order, k + 1) - len(row)) for k, row in enumerate(table.weights)]
    return replace(table, weights=tuple(row[:order] for row in rows))


def _sampler(fit: _Fit, theta: Tensor) -> Sampler:
    found = fit.found(theta)
    return Sampler(found, 0.0, found.spacing)


def _runs(posterior: Posterior, steps: int, sampler: Sampler, batch: _Batch) -> Tensor:
    return simulate(Reverse(posterior, 0.0), batch.x_T, posterior.sde.times(steps, sampler.spacing), sampler.method)


def _rms(batch: _Batch, found: Tensor) -> float:
    value = float(batch.errors(found).mean().sqrt())
    return value if value == value else float("inf")


def _report(batch: _Batch, found: Tensor) -> Estimate:
    """Root mean square and, by the delta method, its standard error over samples."""
    squares = batch.errors(found).double()
    value = float(squares.mean().sqrt())
    return Estimate(value, float(squares.std() / len(squares) ** 0.5 / (2 * value)) if value else 0.0)

