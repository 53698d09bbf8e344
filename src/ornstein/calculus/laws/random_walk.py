"""A random walk on a lattice: exact laws, counts of many walkers, and the limit equation.

Sites are ``x_i = i delta``, i an integer; in each step of duration tau a walker goes left with
probability p, right with q, and stays with ``s = 1 - p - q``. The concentration c, the law of one
walker, obeys

    c_i(k+1) = q c_{i-1}(k) + p c_{i+1}(k) + s c_i(k)                                            (1)
             = c_i + (p - q)/2 (c_{i+1} - c_{i-1}) + (p + q)/2 (c_{i+1} - 2 c_i + c_{i-1}),

a drift part and a diffusion part. One step has mean ``delta (q - p)`` and variance ``delta^2 (p + q
- (q - p)^2)``. If the steps come at random times, at rate 1/tau, then ``tau c' =`` the same two
parts (the master equation), and the variance per step is ``delta^2 (p + q)``. For small delta and
tau both become

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
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.calculus.laws.heat import kernel
from ornstein.calculus.laws.lattice_law import two_sided_law
from ornstein.calculus.laws.walker_counts import evolve_counts, multinomial_counts
from ornstein.core.numerics.checks import require_positive
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError

_ROUNDING = 1e-15  # of p + q: what is left for staying by rounding is no probability


@dataclass(frozen=True)
class RandomWalk:
    """A random walk on a lattice: left with probability p, right with q, else it stays.

    Sites are ``delta`` apart, and a step lasts ``tau``.

    Args:
        p, q: probabilities of a step to the left and to the right, ``0 < p + q <= 1``.
        delta: distance between sites, in units of length.
        tau: duration of a step, in units of time (its mean, in continuous time).

    Raises:
        OrnsteinError: if these are no probabilities, or a scale is not positive.

    Example:
        >>> walk = orn.RandomWalk(p=0.2, q=0.3)
        >>> law = walk.law(1000)
        >>> law.shape, abs(float(law @ walk.sites(1000)) - 1000 * walk.mean_step) < 1e-9
        (torch.Size([2001]), True)
    """

    p: float
    q: float
    delta: float = 1.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        if not (self.p >= 0 and self.q >= 0 and 0 < self.p + self.q <= 1 + _ROUNDING):
            raise OrnsteinError(
                f"RandomWalk(p={self.p}, q={self.q}): needs p, q >= 0 and 0 < p + q <= 1; 1 - p - q"
                " is for staying"
            )
        require_positive(self, "delta", "tau")

    @classmethod
    def towards(
        cls, diffusion: float, velocity: float = 0.0, delta: float = 0.1, move: float = 1 / 3
    ) -> "RandomWalk":
        """Return the walk that approximates a given diffusion constant and velocity.

        It has ``tau = delta^2 move / (2 D)``, ``p + q = move`` and ``q - p = v tau / delta``. Its
        law is off by O(delta^2). Without drift ``move = 1/3`` is the best choice: then the fourth
        cumulants agree as well, and the law is off by O(delta^4).

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
        excess = velocity * tau / delta  # q - p
        if abs(excess) > move:
            raise OrnsteinError(
                f"velocity={velocity} at delta={delta}: needs |v| delta <= 2 D = {2 * diffusion};"
                " make delta smaller"
            )
        return cls((move - excess) / 2, (move + excess) / 2, delta, tau)

    @property
    def stay(self) -> float:
        """The probability ``1 - p - q`` of staying; a remainder from rounding is 0."""
        stay = 1 - self.p - self.q
        return stay if stay > _ROUNDING else 0.0

    @property
    def mean_step(self) -> float:
        """The mean displacement per step, ``delta (q - p)``."""
        return self.delta * (self.q - self.p)

    @property
    def var_step(self) -> float:
        """The variance per step in discrete time, ``delta^2 (p + q - (q - p)^2)``."""
        return self.delta**2 * (self.p + self.q - (self.q - self.p) ** 2)

    @property
    def velocity(self) -> float:
        """The velocity ``v = delta (q - p) / tau``, length per time."""
        return self.mean_step / self.tau  # (2)

    @property
    def diffusion(self) -> float:
        """The diffusion constant ``D = delta^2 (p + q) / (2 tau)``, length^2 per time.

        For p = q = 1/2 it is Einstein's ``delta^2 / (2 tau)``.
        """
        return self.delta**2 * (self.p + self.q) / (2 * self.tau)  # (2)

    def sites(self, reach: int) -> Float[Tensor, " n"]:
        """Return the positions ``-reach delta ... reach delta`` of the sites, float64.

        They are those of `law` for ``reach = steps``, and those of `law_at`.
        """
        return self.delta * torch.arange(-reach, reach + 1, dtype=torch.float64)

    def mean_squared_displacement(self, steps: int) -> float:
        """Return ``E[X_k^2] = (k mean_step)^2 + k var_step`` after k steps from the origin."""
        return (steps * self.mean_step) ** 2 + steps * self.var_step

    def parts(
        self, c: Float[Tensor, "*batch n"]
    ) -> tuple[Float[Tensor, "*batch m"], Float[Tensor, "*batch m"]]:
        """Return the changes of a concentration in one step, by drift and by diffusion.

        They are ``(p - q)/2 (c_{i+1} - c_{i-1})`` and ``(p + q)/2 (c_{i+1} - 2 c_i + c_{i-1})``;
        their sum over `tau` is the right-hand side of the master equation.

        Args:
            c: concentrations on n neighbouring sites, ``(*batch, n)``.
        """
        left, centre, right = _neighbours(c)
        drift = (self.p - self.q) / 2 * (right - left)
        spread = (self.p + self.q) / 2 * (right - 2 * centre + left)
        return drift, spread  # (1)

    def step(self, c: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """Return a concentration one step later, ``q c_{i-1} + p c_{i+1} + s c_i``, on n + 2 sites.

        Args:
            c: concentrations on n neighbouring sites, ``(*batch, n)``.
        """
        left, centre, right = _neighbours(c)
        return self.q * left + self.p * right + self.stay * centre  # (1)

    def law(self, steps: int) -> Float[Tensor, " n"]:
        """Return the probabilities of the sites ``-k .. k`` after k steps, ``(2 k + 1,)``.

        Each has the relative accuracy of a product of k numbers, about 1e-13, in the tails too; k =
        1e6 takes about a second. Float64.

        Args:
            steps: k, at least 0.
        """
        if steps < 0:
            raise OrnsteinError(f"the law after {steps} steps: must be at least 0")
        k = steps

        def coefficients(outward: float, inward: float, j: Tensor) -> tuple[Tensor, Tensor]:
            divisor = outward * (k - j + 1)
            return self.stay * j / divisor, inward * (k + j + 1) / divisor  # (3)

        return two_sided_law(k, self.p, self.q, coefficients)

    def law_at(self, t: float, reach: int | None = None) -> Float[Tensor, " n"]:
        """Return the probabilities of the sites ``-reach .. reach`` at time t in continuous time.

        They solve the master equation. Steps come as a Poisson process of rate 1/tau, so jumps to
        either side are independent Poisson numbers and X is their difference (Skellam's law). As
        accurate as `law`.

        Args:
            t: time, at least 0.
            reach: sites on each side; by default the sites beyond have a probability below 1e-30.
                At least that many are needed.
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

        def coefficients(outward: float, inward: float, j: Tensor) -> tuple[Tensor, Tensor]:
            return j / outward, torch.full_like(j, inward) / outward

        return two_sided_law(reach, a, b, coefficients)

    def distance_to_limit(self, steps: int) -> float:
        """Return the distance ``sum_i |c_i - h K(x_i)|``, at most 2, of the law from its limit.

        K is the heat kernel at ``t = k tau`` and h the spacing, delta, or 2 delta if nobody stays,
        for then only every other site can be reached.

        Args:
            steps: k, at least 1.
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
        """Return the covariance ``n (diag c - c c^T)`` of the counts of n walkers after k steps.

        Their mean is ``n law(k)``: the law of the counts is multinomial.
        """
        c = self.law(steps)
        return n * (c.diag() - c[:, None] * c)

    def counts(
        self, n: int, steps: int, seed: int | Noise = 0, replicas: int = 1
    ) -> Int[Tensor, "r m"]:
        """Draw how many of n independent walkers are at each site after k steps.

        The draw from the multinomial law is exact, and its cost does not depend on n.

        Args:
            n: number of walkers, at most 2^53.
            steps: k.
            seed: an integer or a `Noise`; row r depends on the seed and r only.
            replicas: number of independent experiments, the rows.
        """
        return multinomial_counts(self.law(steps), n, seed, replicas)

    def evolve(
        self, counts: Int[Tensor, "r n"], steps: int, seed: int | Noise = 0
    ) -> Int[Tensor, "r m"]:
        """Move counts of walkers on n neighbouring sites k steps, to n + 2 k sites.

        All walkers move, but none is simulated by itself: 1e8 walkers cost two binomial numbers for
        each site. Use a new seed to continue from what was returned.

        Args:
            counts: non-negative whole numbers; rows are independent experiments.
            steps: k.
            seed: an integer or a `Noise`; row r depends on the seed, on r and on what the row
                holds.
        """
        return evolve_counts(counts, steps, self.p, self.q, seed)


def _neighbours(c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``c_{i-1}, c_i, c_{i+1}`` on n + 2 sites, 0 outside the n given sites."""
    left, centre, right = (torch.nn.functional.pad(c, (2 - i, i)) for i in (0, 1, 2))
    return left, centre, right
