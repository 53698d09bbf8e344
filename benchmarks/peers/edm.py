"""The deterministic sampler of Karras et al. 2022 (EDM, algorithm 1), restated: Euler and
second-order steps in sigma.

    d(y, s) = (y - D(y, s)) / s,    y' = y + (m - s) d,
    y_next = y + h [(1 - 1/2a) d(y, s) + 1/2a d(y', m)],                                         (1)

with ``m = s + a h``, ``h`` the step in sigma: a = 1 is Heun's method, 1/2 the midpoint rule, 2/3
Ralston's. The last step, to 0, is Euler's.
"""

__all__ = ["COLUMNS", "karras"]

from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.peers import SIGMA_MAX, Column, Counted, column


def karras(n: int, low: float = 0.002, high: float = SIGMA_MAX, rho: float = 7.0) -> Tensor:
    """``n`` levels from high to low, uniform in the power 1/rho, then 0 (eq. 5), float64."""
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    levels = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


def _solve(denoiser: Counted, grid: list[float], a: float | None) -> tuple[Tensor, float]:
    y = denoiser.start(grid[0])
    for s, s_next in pairwise(grid):
        h, d = s_next - s, (y - denoiser(y, s)) / s
        if a is None or s_next == 0:
            y = y + h * d
            continue
        m = s + a * h
        y_m = y + a * h * d
        y = y + h * ((1 - 1 / (2 * a)) * d + (y_m - denoiser(y_m, m)) / m / (2 * a))  # (1)
    return y, grid[-1]


def _columns() -> dict[str, Column]:
    out: dict[str, Column] = {}
    for name, a in {"euler": None, "heun": 1.0, "midpoint": 0.5, "ralston": 2 / 3}.items():
        calls = 1 if a is None else 2
        for rho in (3.0, 7.0):

            def to_zero(
                denoiser: Counted, n: int, a: float | None = a, rho: float = rho
            ) -> tuple[Tensor, float]:
                return _solve(denoiser, karras(n, rho=rho).tolist(), a)

            def to_low(
                denoiser: Counted, n: int, a: float | None = a, rho: float = rho
            ) -> tuple[Tensor, float]:
                return _solve(denoiser, karras(n + 1, rho=rho).tolist()[:-1], a)

            out[f"edm {name} rho={rho:g}"] = column(to_zero, calls)
            out[f"edm {name} rho={rho:g} to 0.002"] = column(to_low, calls)
    return out


COLUMNS: dict[str, Column] = _columns()
