"""What is wrong with a density: mass that runs away, heavy tails, jumps, missing gradients.

Along a ray ``x + R v`` a density decays like a power if ``d log rho / d log R`` tends to a
constant,

    rho(x + R v) ~ R^slope,                                                                      (1)

which a tube around the ray can only hold if the slope is below -1. Across an interval of length h
the trapezoid rule ``h (g(x) + g(x + h)) / 2`` of the gradient g misses the change of a smooth
function by O(h^3), that of a jump by the jump.
"""

__all__ = ["Finding", "findings"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity, value_and_gradient
from ornstein.core.random.noise import Noise

_DECADES = 8  # of the rays


class Finding(NamedTuple):
    """A reason for care: a code for programs and a message for people."""

    code: str
    message: str


def findings(target: LogDensity, x: Float[Tensor, "n d"], noise: Noise) -> list[Finding]:
    """Look at a density from particles that are where its mass is believed to be.

    Codes: ``improper``, ``heavy-tails``, ``discontinuous``, ``no-gradient``, ``coarse`` (values so
    large that they carry no digits).

    Args:
        target: log rho; finite at most rows of x.
        x: particles, at least two.
        noise: source of randomness.
    """
    found = [_tails(target, x, noise.fold(0)), *_smoothness(target, x, noise.fold(1))]
    return [finding for finding in found if finding is not None]


def _tails(target: LogDensity, x: Tensor, noise: Noise) -> Finding | None:
    """The flattest ray by (1): along axes, principal directions of the particles and random
    ones."""
    d, centre = x.shape[1], x.median(0).values
    spread = (
        (x.quantile(0.9, 0) - x.quantile(0.1, 0)).clamp(min=1e-300)
        if len(x) <= 100000
        else x.std(0)
    )
    axes = torch.eye(d, dtype=x.dtype)[:64] * spread
    random = noise.normal((32, d), x.dtype) * spread
    rays = torch.cat([axes, random])
    if 1 < d <= 200:
        _, vectors = torch.linalg.eigh(torch.cov((x / spread).mT))
        rays = torch.cat([rays, vectors.mT[-8:] * spread])
    rays = torch.cat([rays, -rays])
    radii = 10.0 ** torch.arange(_DECADES, dtype=x.dtype)
    with torch.no_grad():
        points = centre + radii[:, None, None] * rays
        value = target(points.reshape(-1, d)).reshape(len(radii), len(rays))
    slopes = (value[1:] - value[:-1]) / math.log(10)
    last = torch.where(slopes.isnan(), -torch.inf, slopes)[-3:]
    flat = last.amin(
        0
    )  # a power goes on for three decades; a ray that is nearly perpendicular to a ridge climbs it in one of them
    worst = int(flat.argmax())
    slope = float(flat[worst])
    axis = int((rays[worst] / spread).abs().argmax())
    if slope > -1.02:
        return Finding(
            "improper",
            f"log_prob does not decay along a ray (mostly coordinate {axis}): its mass is infinite"
            " there, log Z does not exist; give that parameter a proper prior or bounds",
        )
    if slope > -20:
        return Finding(
            "heavy-tails",
            f"log_prob decays like the power {slope:.1f} of the distance (mostly coordinate"
            f" {axis}): moments above {max(-slope - 1, 0):.0f} do not exist and errors are larger"
            " than they look; reparametrise, e.g. by arcsinh",
        )
    return None


def _smoothness(
    target: LogDensity, x: Tensor, noise: Noise, pairs: int = 64, pieces: int = 32
) -> list[Finding]:
    """Jumps on segments between particles, by halving the intervals that the trapezoid rule misses
    most."""
    order = noise.uniform((len(x),), torch.float64).argsort()
    a, b = x[order[: len(x) // 2][:pairs]], x[order[len(x) // 2 :][:pairs]]
    a, b = a[: len(b)], b[: len(a)]
    t = torch.linspace(0, 1, pieces + 1, dtype=x.dtype)[:, None, None]
    nodes = a + t * (b - a)
    value, gradient = value_and_gradient(target, nodes.reshape(-1, x.shape[1]))
    value, gradient = value.reshape(nodes.shape[:2]), gradient.reshape(nodes.shape)
    out = list[Finding]()
    finite = value[value.isfinite()]
    if len(finite) and float(finite.std(correction=0)) > 0 and not bool(gradient.any()):
        return [
            Finding(
                "no-gradient",
                "the gradient of log_prob is zero everywhere: is it detached, or computed outside"
                " torch?",
            )
        ]
    if len(finite) and float(finite.abs().max()) > 1e12:
        size = float(finite.abs().max())
        out.append(
            Finding(
                "coarse",
                f"log_prob is of size {size:.0e}: float64 keeps few digits of differences; subtract"
                " a constant",
            )
        )
    low, high = nodes[:-1].flatten(0, 1), nodes[1:].flatten(0, 1)
    miss, change = _miss(target, low, high)
    usable = (change.isfinite() & miss.isfinite()).nonzero()[:, 0]
    worst = usable[miss[usable].argsort(descending=True)[:32]]
    if not len(worst):
        return out
    low, high, first = low[worst], high[worst], miss[worst]
    for _ in range(8):
        middle = (low + high) / 2
        left, right = _miss(target, low, middle)[0], _miss(target, middle, high)[0]
        take = (left > right)[:, None]
        low, high, last = (
            torch.where(take, low, middle),
            torch.where(take, middle, high),
            torch.maximum(left, right),
        )
    jumps = (last > 0.5 * first) & (first > 0.05) & last.isfinite()
    if bool(jumps.any()):
        jump = float(last[jumps].max())
        out.append(
            Finding(
                "discontinuous",
                f"log_prob jumps by {jump:.3g} nats where gradients do not see it: check it there",
            )
        )
    return out


def _miss(target: LogDensity, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """By how much the trapezoid rule misses the change between two points, and the change."""
    (start, slope), (end, other) = value_and_gradient(target, low), value_and_gradient(target, high)
    change = end - start
    return (change - ((slope + other) * (high - low)).sum(1) / 2).abs(), change
