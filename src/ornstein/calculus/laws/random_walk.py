"""A random walk on a lattice: its exact laws, the counts of many walkers, and the equation that it
becomes.

Sites are ``x_i = i delta``, i an integer; in each step of duration tau a walker goes left with
probability p, right with q, and stays with ``s = 1 - p - q``. The concentration c, the law of one
walker, obeys

    c_i(k+1) = q c_{i-1}(k) + p c_{i+1}(k) + s c_i(k)                                            (1)
             = c_i + (p - q)/2 (c_{i+1} - c_{i-1}) + (p + q)/2 (c_{i+1} - 2 c_i + c_{i-1}),

a part that drifts and a part that spreads. One step has mean ``delta (q - p)`` and variance
``delta^2 (p + q - (q - p)^2)``. If the steps come at random times, at rate 1/tau, then ``tau c' =
`` the same two parts (the master equation), and the variance per step is ``delta^2 (p + q)``. For
small delta and tau both become

    d_t c = -v d_x c + D d_xx c,    v = delta (q - p) / tau,    D = delta^2 (p + q) / (2 tau).   (2)

The law after k steps is the k-th power of ``p/z + s + q z``, whose logarithmic derivative gives
``P_j = P(X_k = j delta)`` from far out towards the origin by sums of positive numbers, which lose
no digits:

    q (k - j + 1) P_{j-1} = s j P_j + p (k + j + 1) P_{j+1},    j = k .. 1,                      (3)

and the same to the left, with p and q exchanged. With ``a = p t / tau``, ``b = q t / tau`` the
limit of k p and k q, it is that of the master equation, ``b P_{j-1} = j P_j + a P_{j+1}``, solved
by Bessel functions (Skellam 1946). Einstein 1905; Van Kampen 1981.
"""

__all__ = ["RandomWalk"]

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.calculus.laws.heat import kernel
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError

_KEY = 0x77616C6B  # keeps the counts of walkers apart from other uses of a seed
_SCALE = 2.0**300


@dataclass(frozen=True)
class RandomWalk:
    """Left with probability p, right with q, stay with ``1 - p - q``; sites ``delta`` apart, a step
    lasts ``tau``.

    Args:
        p, q: probabilities of a step to the left and to the right, ``0 < p + q <= 1``.
        delta: distance between sites, in units of length.
        tau: duration of a step, in units of time (its mean, in continuous time).

    Raises:
        OrnsteinError: if these are no probabilities, or a scale is not positive.
    """

    p: float
    q: float
    delta: float = 1.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        if not (self.p >= 0 and self.q >= 0 and 0 < self.p + self.q <= 1 + 1e-15):
            raise OrnsteinError(
                f"RandomWalk(p={self.p}, q={self.q}): needs p, q >= 0 and 0 < p + q <= 1; the rest"
                " is for staying"
            )
        if not (self.delta > 0 and self.tau > 0):
            raise OrnsteinError(
                f"RandomWalk(delta={self.delta}, tau={self.tau}): the spacing and the duration must"
                " be positive"
            )

    @classmethod
    def towards(
        cls, diffusion: float, velocity: float = 0.0, delta: float = 0.1, move: float = 1 / 3
    ) -> "RandomWalk":
        """The walk of spacing delta with the limit (2): ``tau = delta^2 move / (2 D)``, ``p + q =
        move``, ``q - p = v tau / delta``.

        Its law is off by O(delta^2). Without drift a third of the steps moving is the best choice:
        then the fourth cumulants agree as well, and it is off by O(delta^4).

        Args:
            diffusion: D, length^2 per time.
            velocity: v, length per time.
            delta: spacing.
            move: probability of not staying.

        Raises:
            OrnsteinError: if the drift needs more steps than there are.
        """
        if not diffusion > 0:
            raise OrnsteinError(f"RandomWalk.towards(diffusion={diffusion}): must be positive")
        tau = delta**2 * move / (2 * diffusion)
        lean = velocity * tau / delta
        if abs(lean) > move:
            raise OrnsteinError(
                f"velocity={velocity} at delta={delta}: needs |v| delta <= 2 D = {2 * diffusion};"
                " make delta smaller"
            )
        return cls((move - lean) / 2, (move + lean) / 2, delta, tau)

    @property
    def stay(self) -> float:
        """Probability ``1 - p - q`` of staying; what is left by rounding is 0."""
        rest = 1 - self.p - self.q
        return rest if rest > 1e-15 else 0.0

    @property
    def mean_step(self) -> float:
        """Mean displacement per step, ``delta (q - p)``."""
        return self.delta * (self.q - self.p)

    @property
    def var_step(self) -> float:
        """Variance per step in discrete time, ``delta^2 (p + q - (q - p)^2)``."""
        return self.delta**2 * (self.p + self.q - (self.q - self.p) ** 2)

    @property
    def velocity(self) -> float:
        """Drift ``v = delta (q - p) / tau``, length per time."""
        return self.mean_step / self.tau  # (2)

    @property
    def diffusion(self) -> float:
        """Diffusion constant ``D = delta^2 (p + q) / (2 tau)``, length^2 per time: ``delta^2 / (2
        tau)`` for p = q = 1/2 (Einstein)."""
        return self.delta**2 * (self.p + self.q) / (2 * self.tau)  # (2)

    def sites(self, reach: int) -> Float[Tensor, " n"]:
        """Positions ``-reach delta ... reach delta``, float64: of `law` (reach = steps) and
        `law_at`."""
        return self.delta * torch.arange(-reach, reach + 1, dtype=torch.float64)

    def mean_squared_displacement(self, steps: int) -> float:
        """``E[X_k^2] = (k mean_step)^2 + k var_step`` after k steps from the origin."""
        return (steps * self.mean_step) ** 2 + steps * self.var_step

    def parts(
        self, c: Float[Tensor, "*batch n"]
    ) -> tuple[Float[Tensor, "*batch m"], Float[Tensor, "*batch m"]]:
        """What one step adds to a concentration: the part that drifts and the part that spreads
        (1), on n + 2 sites.

        Their sum over `tau` is the right side of the master equation.
        """
        left, here, right = (
            torch.nn.functional.pad(c, (2 - i, i)) for i in (0, 1, 2)
        )  # c_{i-1}, c_i, c_{i+1}
        return (self.p - self.q) / 2 * (right - left), (self.p + self.q) / 2 * (
            right - 2 * here + left
        )  # (1)

    def step(self, c: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """The recurrence (1): a concentration on n neighbouring sites one step later, on n + 2."""
        left, here, right = (torch.nn.functional.pad(c, (2 - i, i)) for i in (0, 1, 2))
        return self.q * left + self.p * right + self.stay * here  # (1)

    def law(self, steps: int) -> Float[Tensor, " n"]:
        """Probabilities of the sites ``-k .. k`` after k steps from the origin, float64, ``(2 k +
        1,)``; about a second for k = 1e6.

        By (3): each has the relative accuracy of a product of k numbers, about 1e-13, in the tails
        too.
        """
        if steps < 0:
            raise OrnsteinError(f"the law after {steps} steps: must be at least 0")
        k, s = steps, self.stay

        def weights(out: float, back: float, j: Tensor) -> tuple[Tensor, Tensor]:
            return s * j / (out * (k - j + 1)), back * (k + j + 1) / (out * (k - j + 1))  # (3)

        return _both_sides(k, self.p, self.q, weights)

    def law_at(self, t: float, reach: int | None = None) -> Float[Tensor, " n"]:
        """Probabilities of the sites ``-reach .. reach`` at time t in continuous time: the solution
        of the master equation.

        Steps come as a Poisson process of rate 1/tau, so jumps to either side are independent
        Poisson numbers and X is their difference (Skellam's law). By the limit of (3), accurate as
        `law`.

        Args:
            t: time, at least 0.
            reach: sites on each side; by default what lies beyond has a probability below 1e-30. At
                least that many are needed.
        """
        if not 0 <= t < math.inf:
            raise OrnsteinError(f"the law at t={t}: must be finite and at least 0")
        a, b = self.p * t / self.tau, self.q * t / self.tau
        needed = math.ceil(abs(b - a) + 12 * math.sqrt(a + b) + 40) if t else 0
        reach = needed if reach is None else reach
        if reach < needed:
            raise OrnsteinError(
                f"reach={reach}: at least {needed} sites hold the walkers at t={t}; take these and"
                " cut them"
            )
        return _both_sides(
            reach, a, b, lambda out, back, j: (j / out, torch.full_like(j, back) / out)
        )

    def distance_to_limit(self, steps: int) -> float:
        """``sum_i |c_i - h K(x_i)|``, at most 2: how far the law after k steps is from the kernel
        of (2) at ``t = k tau``.

        h is delta, or 2 delta if nobody stays, for then only every other site can be reached.
        """
        if steps < 1:
            raise OrnsteinError(
                f"the distance after {steps} steps: a point has no density; take at least 1 step"
            )
        stride = 1 if self.stay > 0 else 2
        x = self.sites(steps)[::stride]
        density = kernel(x, steps * self.tau, self.diffusion, self.velocity)
        return float((self.law(steps)[::stride] - stride * self.delta * density).abs().sum())

    def count_covariance(self, n: int, steps: int) -> Float[Tensor, "m m"]:
        """Covariance of the counts of n walkers after k steps, ``n (diag c - c c^T)``; their mean
        is ``n law(k)``. Multinomial law."""
        c = self.law(steps)
        return n * (c.diag() - c[:, None] * c)

    def counts(self, n: int, steps: int, seed: int = 0, replicas: int = 1) -> Int[Tensor, "r m"]:
        """How many of n independent walkers are at each of the sites ``-k .. k`` after k steps: an
        exact draw from the multinomial law.

        The sites are halved again and again; the share of a half is binomial. The cost does not
        depend on n.

        Args:
            n: number of walkers, at most 2^53.
            steps: k.
            seed: row r depends on the seed and r only.
            replicas: number of independent experiments, the rows.
        """
        _require_count(n)
        depth = (2 * steps).bit_length()
        levels = [torch.nn.functional.pad(self.law(steps), (0, (1 << depth) - 2 * steps - 1))]
        while len(levels[-1]) > 1:
            levels.append(levels[-1].reshape(-1, 2).sum(1))
        shares = [
            torch.where(mass > 0, low[::2] / mass, 0.0)
            for low, mass in zip(levels[-2::-1], levels[:0:-1], strict=True)
        ]

        def split(generator: torch.Generator) -> Tensor:
            number = torch.full((1,), float(n), dtype=torch.float64)
            for share in shares:
                left = torch.binomial(number, share, generator=generator)
                number = torch.stack([left, number - left], 1).flatten()
            return number[: 2 * steps + 1].long()

        source = Noise(seed).fold(_KEY)
        return torch.stack([split(source.generator(r)) for r in range(replicas)])

    def evolve(self, counts: Int[Tensor, "r n"], steps: int, seed: int = 0) -> Int[Tensor, "r m"]:
        """Carry counts of walkers on n neighbouring sites k steps on, to n + 2 k sites: all walkers
        move, none is followed.

        Of those at a site, binomial numbers go right and left. 1e8 walkers cost as much as the
        sites that they are on, two binomial numbers for each. Use a new seed to go on from what was
        returned.

        Args:
            counts: non-negative whole numbers; rows are independent experiments.
            steps: k.
            seed: row r depends on the seed, on r and on what the row holds.
        """
        if bool((counts < 0).any()):
            raise OrnsteinError(f"counts of {int(counts.min())} walkers: must be at least 0")
        left_of_rest = min(self.p / (1 - self.q), 1.0) if self.q < 1 else 0.0
        right, left = (
            torch.tensor(self.q, dtype=torch.float64),
            torch.tensor(left_of_rest, dtype=torch.float64),
        )

        def run(number: Tensor, generator: torch.Generator) -> Tensor:
            for _ in range(steps):
                to_right = torch.binomial(number, right.expand_as(number), generator=generator)
                to_left = torch.binomial(
                    number - to_right, left.expand_as(number), generator=generator
                )
                moved = torch.nn.functional.pad(number - to_right - to_left, (1, 1))
                moved[2:] += to_right
                moved[:-2] += to_left
                number = moved
            return number.long()

        source = Noise(seed).fold(_KEY, 1)
        return torch.stack([run(row.double(), source.generator(r)) for r, row in enumerate(counts)])


def _require_count(n: int) -> None:
    if not 0 <= n <= 1 << 53:
        raise OrnsteinError(f"{n} walkers: from 0 to 2^53 can be counted")


def _inwards(top: int, weights: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """``P_0 .. P_top`` up to a common factor from ``P_{j-1} = x_j P_j + y_j P_{j+1}``, as mantissas
    and powers of 2^300."""
    values, powers = [1.0], [0]
    above, here, power = 0.0, 1.0, 0
    for x, y in zip(
        *(w.tolist() for w in weights(torch.arange(top, 0, -1, dtype=torch.float64))), strict=True
    ):
        above, here = here, x * here + y * above
        largest = max(above, here)
        if largest > _SCALE:
            above, here, power = above / _SCALE, here / _SCALE, power + 1
        elif largest < 1 / _SCALE:
            above, here, power = above * _SCALE, here * _SCALE, power - 1
        values.append(here)
        powers.append(power)
    values.reverse()
    powers.reverse()
    return torch.tensor(values, dtype=torch.float64), torch.tensor(powers, dtype=torch.float64)


def _both_sides(
    top: int, p: float, q: float, weights: Callable[[float, float, Tensor], tuple[Tensor, Tensor]]
) -> Tensor:
    """The law on ``-top .. top`` from ``weights(out, back, j)`` of one side, where ``out`` leads
    away from the origin.

    The sides agree on P_0, or, where that is 0, on ``q P_{-1} = p P_1``. There is nothing on a side
    that no step leads to.
    """
    low, low_power = _inwards(top if p else 0, lambda j: weights(p, q, j))
    high, high_power = _inwards(top if q else 0, lambda j: weights(q, p, j))
    if p and q:
        at = 0 if low[0] > 0 else 1
        high, high_power = high * low[at] / high[at], high_power + low_power[at] - high_power[at]
        high = high * (q / p) if at else high
    values = torch.cat([low.flip(0), high[1:]] if p else [high])
    powers = torch.cat([low_power.flip(0), high_power[1:]] if p else [high_power])
    values, powers = (
        torch.nn.functional.pad(v, (0 if p else top, 0 if q else top)) for v in (values, powers)
    )
    powers = powers - powers[(values.log() / math.log(_SCALE) + powers).argmax()]
    law = (values.log() + powers * math.log(_SCALE)).exp()
    return law / law.sum()
