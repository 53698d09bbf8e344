"""What targets and metrics share: the checks on what comes in, the source of random numbers, and
what goes out."""

__all__ = ["polar", "require_batch", "root", "rows", "source", "table"]

from importlib.resources import files

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.linear import LinearSDE, Time, as_time
from ornstein.core.random.noise import Noise
from ornstein.errors import DataError, OrnsteinError

# keeps the numbers of exact samples apart from those of Noise(seed) used for paths and starts
_KEY = 0x65786163


def source(seed: int, purpose: int) -> Noise:
    """The random numbers of one ingredient of a sample: independent between purposes, prefix-stable
    in the sample."""
    return Noise(seed).fold(_KEY, purpose)


def require_batch(x: Tensor, dim: int, owner: str) -> None:
    """Raise `OrnsteinError` unless ``x`` is ``(b, dim)``: a wrong last dimension would broadcast
    without a word."""
    if x.ndim != 2 or x.shape[1] != dim:
        raise OrnsteinError(
            f"{owner} lives in dimension {dim}: pass x of shape (b, {dim}), got {tuple(x.shape)}"
        )


def rows(x: Tensor, name: str, least: int = 1) -> Float[Tensor, "n d"]:
    """Samples ``(n, *event)`` as float64 rows ``(n, d)``; numbers ``(n,)`` become ``(n, 1)``.

    Raises:
        DataError: if there are fewer than ``least`` samples, or NaN or infinite entries.
    """
    if x.ndim == 0 or len(x) < least:
        raise DataError(
            f"{name} has shape {tuple(x.shape)}: at least {least} samples are needed, one per row"
        )
    flat = x.detach().double().reshape(len(x), -1)
    bad = ~torch.isfinite(flat).all(1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise DataError(
            f"{name} has NaN or infinite entries in {int(bad.sum())} of {len(x)} rows (the first is"
            f" row {first}): find out where they come from, or drop these rows and report how many"
        )
    return flat


def polar(sde: LinearSDE, t: Time, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``a``, ``s^2`` and ``y = c x`` of `LinearSDE.polar`, shaped to meet the batch x, and ``log
    c``.

    Times are taken in float64, which costs nothing, so that after rounding a time has the same
    coefficients in every
    batch: the vectorised sigmoid differs from the scalar one in the last bit. ``log c`` is ``+inf``
    at a pinned end, where the law is a point mass.
    """
    a, s, c = sde.polar(as_time(t).double())
    return (
        per_sample(a, x),
        per_sample(s, x).square(),
        per_sample(c, x) * x,
        torch.where(c > 0, c.log(), torch.inf),
    )


def root(x: Tensor) -> Tensor:
    """``sqrt(x)`` for ``x >= 0``, with the derivative 0 at 0 instead of infinity, which would
    become NaN behind it."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def table(name: str, skip: int = 0) -> Float[Tensor, "n d"]:
    """The numbers of a data file of this package, ``exact/data/<name>``: ``(n, d)`` in float64,
    without the first ``skip`` lines.

    Quotes around a number are taken off.
    """
    text = (
        files("ornstein.reference")
        .joinpath("data", name)
        .read_text(encoding="utf-8")
        .replace('"', "")
    )
    return torch.from_numpy(np.loadtxt(text.splitlines(), delimiter=",", skiprows=skip, ndmin=2))
