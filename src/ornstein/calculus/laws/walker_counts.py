"""Counts of many walkers on a lattice: exact multinomial draws at a cost that does not grow with n.

The counts of n independent walkers at the sites of a lattice are multinomial. A multinomial draw is
a tree of binomial draws: the sites are halved again and again, and the number of walkers in one
half, given that in both, is binomial. In time, the numbers that go right and left from a site are
binomial too. No walker is simulated by itself.
"""

__all__ = ["evolve_counts", "multinomial_counts"]

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError

_WALKERS = 0x77616C6B  # key that separates the counts of walkers from other uses of a seed
_STEPS = 1  # key of the counts that move step by step
_MAX_WALKERS = 1 << 53  # float64 counts up to this number


def multinomial_counts(
    law: Float[Tensor, " m"], n: int, seed: int | Noise, replicas: int
) -> Int[Tensor, "r m"]:
    """Draw how many of n independent walkers are at each site, for several experiments.

    Args:
        law: probabilities of the sites, float64.
        n: number of walkers, at most 2^53.
        seed: row r depends on the seed and r only.
        replicas: number of independent experiments, the rows.

    Raises:
        OrnsteinError: if n is negative or above 2^53.
    """
    if not 0 <= n <= _MAX_WALKERS:
        raise OrnsteinError(f"{n} walkers: from 0 to 2^53 can be counted")
    sites = len(law)
    depth = (sites - 1).bit_length()
    levels = [torch.nn.functional.pad(law, (0, (1 << depth) - sites))]
    while len(levels[-1]) > 1:
        levels.append(levels[-1].reshape(-1, 2).sum(1))
    fractions = [
        torch.where(mass > 0, low[::2] / mass, 0.0)
        for low, mass in zip(levels[-2::-1], levels[:0:-1], strict=True)
    ]

    def split(generator: torch.Generator) -> Tensor:
        number = torch.full((1,), float(n), dtype=torch.float64)
        for fraction in fractions:
            left = torch.binomial(number, fraction, generator=generator)
            number = torch.stack([left, number - left], 1).flatten()
        return number[:sites].long()

    source = Noise.of(seed).fold(_WALKERS)
    return torch.stack([split(source.generator(r)) for r in range(replicas)])


def evolve_counts(
    counts: Int[Tensor, "r n"], steps: int, left: float, right: float, seed: int | Noise
) -> Int[Tensor, "r m"]:
    """Move all walkers a number of steps, from n neighbouring sites to n + 2 steps.

    Of the walkers at a site a binomial number goes right, and of the others a binomial number left.

    Args:
        counts: non-negative whole numbers; rows are independent experiments.
        steps: number of steps.
        left, right: probabilities of a step to either side.
        seed: row r depends on the seed, on r and on what the row holds.

    Raises:
        OrnsteinError: if a count is negative.
    """
    if bool((counts < 0).any()):
        raise OrnsteinError(f"counts of {int(counts.min())} walkers: must be at least 0")
    to_right = torch.tensor(right, dtype=torch.float64)
    left_of_others = min(left / (1 - right), 1.0) if right < 1 else 0.0
    to_left = torch.tensor(left_of_others, dtype=torch.float64)

    def run(number: Tensor, generator: torch.Generator) -> Tensor:
        for _ in range(steps):
            rights = torch.binomial(number, to_right.expand_as(number), generator=generator)
            others = number - rights
            lefts = torch.binomial(others, to_left.expand_as(number), generator=generator)
            moved = torch.nn.functional.pad(others - lefts, (1, 1))
            moved[2:] += rights
            moved[:-2] += lefts
            number = moved
        return number.long()

    source = Noise.of(seed).fold(_WALKERS, _STEPS)
    return torch.stack([run(row.double(), source.generator(r)) for r, row in enumerate(counts)])
