"""Common parts of targets and metrics: checks of arguments, random numbers, and data files."""

__all__ = ["paired_rows", "polar", "require_batch", "root", "rows", "source", "table"]

from importlib.resources import files

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.linear import LinearSDE, Time, as_time
from ornstein.core.random.noise import Noise
from ornstein.errors import DataError, OrnsteinError

# separates the numbers of exact samples from those of Noise(seed) used for paths and starts
_KEY = 0x65786163


def source(seed: int | Noise, purpose: int) -> Noise:
    """The source of random numbers of one ingredient of a sample, independent between ingredients.

    Args:
        seed: an integer or a `Noise`.
        purpose: a key, one for each ingredient.
    """
    return Noise.of(seed).fold(_KEY, purpose)


def require_batch(x: Tensor, dim: int, owner: str) -> None:
    """Raise `OrnsteinError` unless ``x`` has the shape ``(b, dim)``.

    Other shapes would broadcast silently.
    """
    if x.ndim != 2 or x.shape[1] != dim:
        raise OrnsteinError(
            f"{owner} lives in dimension {dim}: pass x of shape (b, {dim}), got {tuple(x.shape)}"
        )


def rows(x: Tensor, name: str, at_least: int = 1) -> Float[Tensor, "n d"]:
    """Convert samples ``(n, *event)`` to float64 rows ``(n, d)``; numbers ``(n,)`` to ``(n, 1)``.

    Args:
        x: the samples.
        name: of the argument, for the message.
        at_least: number of samples that are needed.

    Raises:
        DataError: if there are fewer than ``at_least`` samples, or NaN or infinite entries.
    """
    if x.ndim == 0 or len(x) < at_least:
        raise DataError(
            f"{name} has shape {tuple(x.shape)}: at least {at_least} samples are needed, one per"
            " row"
        )
    flat = x.detach().double().reshape(len(x), -1)
    bad = ~torch.isfinite(flat).all(1)
    if bool(bad.any()):
        raise DataError(
            f"{name} has NaN or infinite entries in {int(bad.sum())} of {len(x)} rows (the first is"
            f" row {int(bad.nonzero()[0])}): find out where they come from, or drop these rows and"
            " report how many"
        )
    return flat


def paired_rows(
    a: Tensor, b: Tensor, names: tuple[str, str] = ("a", "b"), at_least: int = 1
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Convert two sets of samples to float64 rows of one space, on the device of the first.

    Args:
        a, b: the samples.
        names: of the two arguments, for the message.
        at_least: number of samples that are needed of each.

    Raises:
        DataError: for too few, NaN or infinite rows, or rows of different length.
    """
    first, second = rows(a, names[0], at_least), rows(b, names[1], at_least)
    if first.shape[1] != second.shape[1]:
        raise DataError(
            f"{names[0]} has {first.shape[1]} numbers per sample and {names[1]} has"
            f" {second.shape[1]}: they must live in one space"
        )
    return first, second.to(first.device)


def polar(sde: LinearSDE, t: Time, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The coefficients ``a`` and ``s^2`` of `LinearSDE.polar`, with ``y = c x`` and ``log c``.

    All but ``log c`` are shaped to multiply the batch x. Times are taken in float64, which costs
    nothing, so that after rounding a time has the same coefficients in every batch: the vectorised
    sigmoid differs from the scalar one in the last bit. ``log c`` is ``+inf`` at a pinned end,
    where the law is a point mass.

    Args:
        sde: the process.
        t: a time, or ``(b,)`` times.
        x: states ``(b, *event)``.
    """
    a, s, c = sde.polar(as_time(t).double())
    return (
        per_sample(a, x),
        per_sample(s, x).square(),
        per_sample(c, x) * x,
        torch.where(c > 0, c.log(), torch.inf),
    )


def root(x: Tensor) -> Tensor:
    """The square root of ``x >= 0``, with the derivative 0 instead of infinity at 0."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def table(name: str, skip: int = 0) -> Float[Tensor, "n d"]:
    """The numbers of a data file of this package, ``reference/data/<name>``, ``(n, d)``, float64.

    Args:
        name: of the file; quotes around a number are ignored.
        skip: number of lines to skip at the beginning.
    """
    text = (
        files("ornstein.reference")
        .joinpath("data", name)
        .read_text(encoding="utf-8")
        .replace('"', "")
    )
    return torch.from_numpy(np.loadtxt(text.splitlines(), delimiter=",", skiprows=skip, ndmin=2))
