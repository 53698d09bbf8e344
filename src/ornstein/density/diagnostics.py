"""Reasons not to trust a run of `sample_density`: of the density, and of the finished estimates.

`density_diagnostics` looks at the log-density itself before anything is reported: mass that runs
away, heavy tails, jumps, missing gradients. Along a ray ``x + R v`` a density decays like a power
if ``d log rho / d log R`` tends to a constant,

    rho(x + R v) ~ R^slope,                                                                      (1)

whose mass in a tube around the ray is finite only if the slope is below -1. Across an interval of
length h the trapezoid rule ``h (g(x) + g(x + h)) / 2`` of the gradient g misses the change of a
smooth function by O(h^3), that of a jump by the jump. `run_diagnostics` judges the estimates that
came out of a run.
"""

__all__ = ["DensityWarning", "density_diagnostics", "run_diagnostics"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity, value_and_gradient
from ornstein.core.random.noise import Noise
from ornstein.density.consistency import consistency_test
from ornstein.density.counted import CountedLogDensity
from ornstein.density.learned.coverage import Coverage
from ornstein.density.learned.importance import DiffusionEstimate
from ornstein.density.log_z import LogZ
from ornstein.models.codecs.affine import Codec

_DECADES = 8  # distances on a ray, in powers of ten of the particles' spread
_AXES = 64  # largest number of coordinate axes among the rays
_RANDOM_RAYS = 32  # number of rays in random directions
_PRINCIPAL_RAYS = 8  # number of principal directions, those of largest variance, among the rays
_PRINCIPAL_DIM = 200  # largest dimension in which principal directions are computed
_QUANTILE_POINTS = 100_000  # largest number of particles whose spread is computed from quantiles
_LAST_DECADES = 3  # decades over which a power law must persist, as a nearly flat ridge does not
_IMPROPER_SLOPE = -1.02  # slope of log rho in log R above which the mass is infinite
_HEAVY_SLOPE = -20.0  # slope above which moments that people use do not exist
_COARSE = 1e12  # nats: above this size differences of float64 values have too few digits
_HALVINGS = 8  # halvings of an interval in the search for a jump
_SUSPECTS = 32  # largest number of intervals that are searched for a jump
_SMALL_JUMP = 0.05  # nats: a jump below this size does not matter
_K_HAT = 0.7  # Pareto shape above which averages cannot be trusted
_WIDE_ERROR = 0.2  # nats: standard error of log Z from which on a warning is due
_LOW_ESS = 0.05  # effective samples per sample below which a warning is due
_DISAGREEMENT_P = 1e-4  # p-value of the consistency test below which estimates disagree
_DISAGREEMENT = 0.05  # nats: difference between estimates that matters


class DensityWarning(NamedTuple):
    """A reason not to trust a result: a code for programs and a message for people."""

    code: str
    message: str


def density_diagnostics(
    target: LogDensity, x: Float[Tensor, "n d"], noise: Noise
) -> list[DensityWarning]:
    """Look for defects of a log-density, from particles that lie where its mass is.

    Codes: ``improper``, ``heavy-tails``, ``discontinuous``, ``no-gradient``, ``coarse`` (values so
    large that they carry no digits).

    Args:
        target: the log-density ``(n, d) -> (n,)``, in nats; finite at most rows of x.
        x: particles, at least two.
        noise: source of randomness.
    """
    tails = _tails(target, x, noise.fold(0))
    return ([tails] if tails else []) + _smoothness(target, x, noise.fold(1))


def _tails(target: LogDensity, x: Tensor, noise: Noise) -> DensityWarning | None:
    """Return a warning if the log-density decays slowly on any ray, judged by its slope (1)."""
    d = x.shape[1]
    spread = (
        (x.quantile(0.9, 0) - x.quantile(0.1, 0)).clamp(min=1e-300)
        if len(x) <= _QUANTILE_POINTS
        else x.std(0)
    )
    rays = _rays(x, spread, noise)
    radii = 10.0 ** torch.arange(_DECADES, dtype=x.dtype)
    with torch.no_grad():
        points = x.median(0).values + radii[:, None, None] * rays
        value = target(points.reshape(-1, d)).reshape(len(radii), len(rays))
    slopes = (value[1:] - value[:-1]) / math.log(10)  # (1)
    slopes = torch.where(slopes.isnan(), -torch.inf, slopes)[-_LAST_DECADES:].amin(0)
    flattest = int(slopes.argmax())
    slope = float(slopes[flattest])
    axis = int((rays[flattest] / spread).abs().argmax())
    if slope > _IMPROPER_SLOPE:
        return DensityWarning(
            "improper",
            f"log_prob does not decay on a ray (mostly coordinate {axis}): its mass is infinite"
            " there, log Z does not exist; give that parameter a proper prior or bounds",
        )
    if slope > _HEAVY_SLOPE:
        return DensityWarning(
            "heavy-tails",
            f"log_prob decays like the power {slope:.1f} of the distance (mostly coordinate"
            f" {axis}): moments above {max(-slope - 1, 0):.0f} do not exist and errors are larger"
            " than they look; reparametrise, e.g. by arcsinh",
        )
    return None


def _rays(x: Tensor, spread: Tensor, noise: Noise) -> Tensor:
    """Return directions ``(r, d)``: axes, random and principal directions, and their opposites."""
    d = x.shape[1]
    axes = torch.eye(d, dtype=x.dtype)[:_AXES] * spread
    rays = torch.cat([axes, noise.normal((_RANDOM_RAYS, d), x.dtype) * spread])
    if 1 < d <= _PRINCIPAL_DIM:
        _, vectors = torch.linalg.eigh(torch.cov((x / spread).mT))
        rays = torch.cat([rays, vectors.mT[-_PRINCIPAL_RAYS:] * spread])
    return torch.cat([rays, -rays])


def _smoothness(
    target: LogDensity, x: Tensor, noise: Noise, pairs: int = 64, pieces: int = 32
) -> list[DensityWarning]:
    """Return warnings of defects that values and gradients on segments between particles show."""
    order = noise.uniform((len(x),), torch.float64).argsort()
    a = x[order[: len(x) // 2][:pairs]]
    b = x[order[len(x) // 2 :][:pairs]][: len(a)]
    a = a[: len(b)]
    t = torch.linspace(0, 1, pieces + 1, dtype=x.dtype)[:, None, None]
    nodes = a + t * (b - a)
    value, gradient = value_and_gradient(target, nodes.reshape(-1, x.shape[1]))
    finite = value[value.isfinite()]
    if len(finite) and float(finite.std(correction=0)) > 0 and not bool(gradient.any()):
        return [
            DensityWarning(
                "no-gradient",
                "the gradient of log_prob is zero everywhere: is it detached, or computed outside"
                " torch?",
            )
        ]
    warnings = list[DensityWarning]()
    if len(finite) and float(finite.abs().max()) > _COARSE:
        warnings.append(
            DensityWarning(
                "coarse",
                f"log_prob is of size {float(finite.abs().max()):.0e}: float64 keeps few digits of"
                " differences; subtract a constant",
            )
        )
    jump = _largest_jump(target, nodes[:-1].flatten(0, 1), nodes[1:].flatten(0, 1))
    if jump:
        warnings.append(
            DensityWarning(
                "discontinuous",
                f"log_prob jumps by {jump:.3g} nats where gradients do not see it: check it there",
            )
        )
    return warnings


def _largest_jump(target: LogDensity, low: Tensor, high: Tensor) -> float:
    """Return the largest jump of the log-density inside intervals, in nats, or 0.

    A jump is what the trapezoid rule still misses after halvings that follow the larger error.
    """
    miss, change = _trapezoid_error(target, low, high)
    usable = (change.isfinite() & miss.isfinite()).nonzero()[:, 0]
    worst = usable[miss[usable].argsort(descending=True)[:_SUSPECTS]]
    if not len(worst):
        return 0.0
    low, high, initial = low[worst], high[worst], miss[worst]
    remaining = initial
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        left = _trapezoid_error(target, low, middle)[0]
        right = _trapezoid_error(target, middle, high)[0]
        go_left = (left > right)[:, None]
        low = torch.where(go_left, low, middle)
        high = torch.where(go_left, middle, high)
        remaining = torch.maximum(left, right)
    jumps = (remaining > 0.5 * initial) & (initial > _SMALL_JUMP) & remaining.isfinite()
    return float(remaining[jumps].max()) if bool(jumps.any()) else 0.0


def _trapezoid_error(target: LogDensity, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return by how much the trapezoid rule misses the change from low to high, and the change."""
    start, start_slope = value_and_gradient(target, low)
    end, end_slope = value_and_gradient(target, high)
    change = end - start
    return (change - ((start_slope + end_slope) * (high - low)).sum(1) / 2).abs(), change


def run_diagnostics(
    total: LogZ,
    tempering: LogZ,
    diffusion: DiffusionEstimate,
    n: int,
    target: CountedLogDensity,
    coverage: Coverage,
    codec: Codec,
) -> list[DensityWarning]:
    """Judge the estimates of a finished run, and list what speaks against them.

    Codes: ``heavy-weights``, ``wide-interval``, ``low-ess``, ``disagreement``, ``missing-mass``,
    ``bad-values``.

    Args:
        total: the reported estimate, with the effective sample size behind the samples.
        tempering: the estimate by tempered Monte Carlo.
        diffusion: the estimate by the learned diffusion.
        n: samples that are returned.
        target: the log-density with its counts.
        coverage: what the probe for missing mass reports.
        codec: the map from the coordinates of the diffusion to those of the density.
    """
    z = diffusion.log_z
    differ = (
        all(0 < estimate.stderr < math.inf for estimate in (tempering, z))
        and consistency_test([tempering, z]).p_value < _DISAGREEMENT_P
        and abs(tempering.value - z.value) > _DISAGREEMENT
    )
    where = None if coverage.where is None else codec.decode(coverage.where[None])[0]
    checks = {
        "heavy-weights": (
            diffusion.k_hat > _K_HAT,
            f"Pareto k = {diffusion.k_hat:.2f} > 0.7: a few paths of the learned sampler carry its"
            f" estimate{'' if diffusion.good else ', which is left out of log Z'}; its own samples"
            " are rough. Give it more particles and steps, or reparametrise heavy tails",
        ),
        "wide-interval": (
            total.stderr > _WIDE_ERROR,
            f"the standard error of log Z is {total.stderr:.2g} nats: raise n and particles, or"
            " the budget",
        ),
        "low-ess": (
            total.ess < _LOW_ESS * n,
            f"effective sample size {total.ess:.0f} of {n}: samples repeat; raise particles, or the"
            " budget",
        ),
        "disagreement": (
            diffusion.k_hat <= _K_HAT and differ,
            f"tempering found log Z = {tempering.value:.2f}, the learned sampler {z.value:.2f}: one"
            " of them misses a mode; set start_std to the reach of the density",
        ),
        "missing-mass": (coverage.warned, coverage.sentence(where)),
        "bad-values": (
            target.bad > 0,
            f"log_prob was NaN or +inf at {target.bad} of {target.values} points, taken as zero"
            " density: check it there",
        ),
    }
    return [DensityWarning(code, message) for code, (holds, message) in checks.items() if holds]
