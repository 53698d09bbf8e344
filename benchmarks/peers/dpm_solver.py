"""DPM-Solver and DPM-Solver++ (Lu et al. 2022a, 2022b), restated in EDM coordinates, where ``lambda
= -log sigma``.

Both are exponential integrators of the probability flow over ``h = lambda_t - lambda_s``. With
``F`` the clean point (c = -1) or the noise ``(y - D) / sigma`` (c = 1), ``e = expm1(c h) / c h``
and divided differences ``D_1, D_2`` of F in units of h,

    y_t = k y_s + g [-c h e F - (c h e / 2) D_1]                                    (order 2)    (1)
    y_t = k y_s + g [-c h e F + (1 - e) D_1 + (1/2 + c (1 - e) / h) D_2]            (order 3)    (2)

with ``k = sigma_t / sigma_s, g = 1`` for c = -1 and ``k = 1, g = sigma_t`` for c = 1. The
differences come from earlier steps (multistep) or from stages at the fractions 1/2, or 1/3 and 2/3,
of the step (singlestep, where (2) drops D_2). The process is VP with beta from 0.1 to 20, from t =
1 to 0.001; the times are uniform in t, in t^2 or in lambda.
"""

__all__ = ["COLUMNS"]

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.peers import Column, Counted, column

T_END = 1e-3


def _sigma(t: Tensor) -> Tensor:
    """Noise-to-signal ratio of VP linear."""
    return torch.expm1(t * (0.1 + 19.9 * t / 2)).sqrt()


def _uniform(n: int) -> list[float]:
    return _sigma(torch.linspace(1, T_END, n + 1, dtype=torch.float64)).tolist()


def _quadratic(n: int) -> list[float]:
    return _sigma(torch.linspace(1, T_END**0.5, n + 1, dtype=torch.float64).square()).tolist()


def _log_snr(n: int) -> list[float]:
    high, low = _sigma(torch.tensor([1.0, T_END], dtype=torch.float64)).log().tolist()
    return torch.linspace(high, low, n + 1, dtype=torch.float64).exp().tolist()


Grid = Callable[[int], list[float]]
GRIDS: dict[str, Grid] = {"uniform": _uniform, "quadratic": _quadratic, "log-snr": _log_snr}


def _value(denoiser: Counted, y: Tensor, sigma: float, c: int) -> Tensor:
    """F: the clean point or the noise."""
    clean = denoiser(y, sigma)
    return clean if c < 0 else (y - clean) / sigma


def _step(
    y: Tensor,
    s: float,
    t: float,
    c: int,
    value: Tensor,
    d1: Tensor | None = None,
    d2: Tensor | None = None,
) -> Tensor:
    """(1) with ``d1`` alone, (2) with both, the first order without."""
    h = math.log(s / t)
    e = math.expm1(c * h) / (c * h)
    change = -c * h * e * value
    if d1 is not None and d2 is None:
        change = change - c * h * e / 2 * d1  # (1)
    elif d1 is not None and d2 is not None:
        change = change + (1 - e) * d1 + (0.5 + c * (1 - e) / h) * d2  # (2)
    return t / s * y + change if c < 0 else y + t * change


def _multistep(denoiser: Counted, n: int, order: int, c: int, grid: Grid) -> tuple[Tensor, float]:
    levels = grid(n)
    y = denoiser.start(levels[0])
    past: list[Tensor] = []
    for i, (s, t) in enumerate(pairwise(levels)):
        past = [_value(denoiser, y, s, c), *past[: order - 1]]
        used = min(len(past), n - i if n < 10 else order)  # lower orders at the end of short runs
        h = math.log(s / t)
        d1 = d2 = None
        if used > 1:
            r0 = math.log(levels[i - 1] / s) / h
            d1 = (past[0] - past[1]) / r0
        if used > 2 and d1 is not None:
            r1 = math.log(levels[i - 2] / levels[i - 1]) / h
            bend = (d1 - (past[1] - past[2]) / r1) / (r0 + r1)
            d1, d2 = d1 + r0 * bend, bend
        y = _step(y, s, t, c, past[0], d1, d2)
    return y, levels[-1]


def _second(denoiser: Counted, y: Tensor, s: float, t: float, c: int) -> Tensor:
    value, middle = _value(denoiser, y, s, c), math.sqrt(s * t)
    stage = _value(denoiser, _step(y, s, middle, c, value), middle, c)
    return _step(y, s, t, c, value, 2 * (stage - value))


def _third(denoiser: Counted, y: Tensor, s: float, t: float, c: int) -> Tensor:
    value = _value(denoiser, y, s, c)
    near, far = s ** (2 / 3) * t ** (1 / 3), s ** (1 / 3) * t ** (2 / 3)
    zero = torch.zeros_like(value)
    stage = _value(denoiser, _step(y, s, near, c, value), near, c)
    stage = _value(denoiser, _step(y, s, far, c, value, 2 * (stage - value), zero), far, c)
    return _step(y, s, t, c, value, 1.5 * (stage - value), zero)


def _first(denoiser: Counted, y: Tensor, s: float, t: float, c: int) -> Tensor:
    return _step(y, s, t, c, _value(denoiser, y, s, c))


_STEPS = {1: _first, 2: _second, 3: _third}


def _orders(n: int, order: int) -> list[int]:
    """The orders of the steps that spend n evaluations."""
    if order < 3:
        return [order] * (n // order) + [1] * (n % order)
    return [3] * (n // 3 - 1) + [2, 1] if n % 3 == 0 else [3] * (n // 3) + [n % 3]


def _singlestep(denoiser: Counted, n: int, order: int, c: int, grid: Grid) -> tuple[Tensor, float]:
    orders: Sequence[int] = _orders(n, order)
    levels = (
        grid(len(orders))
        if grid is _log_snr
        else [grid(n)[sum(orders[:i])] for i in range(len(orders) + 1)]
    )
    y = denoiser.start(levels[0])
    for s, t, p in zip(levels, levels[1:], orders, strict=False):
        y = _STEPS[p](denoiser, y, s, t, c)
    return y, levels[-1]


def _columns() -> dict[str, Column]:
    out: dict[str, Column] = {}
    for family, c in {"dpm-solver++": -1, "dpm-solver": 1}.items():
        for where, grid in GRIDS.items():
            for order in (1, 2, 3):
                out[f"{family} {order}M {where}"] = column(
                    partial(_multistep, order=order, c=c, grid=grid)
                )
                if order > 1:
                    out[f"{family} {order}S {where}"] = column(
                        partial(_singlestep, order=order, c=c, grid=grid)
                    )
    return out


COLUMNS: dict[str, Column] = _columns()
