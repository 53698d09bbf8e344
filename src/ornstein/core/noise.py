"""Random numbers that belong to samples, not to batches.

Sample i must be the same whatever the batch size, the order or the number of processes. Drawing one generator per sample
would be slow, drawing one per batch would be wrong; so samples are drawn in *blocks* of a size that depends on the event
shape only. Block k has a generator of its own, seeded by

    seed(k) = mix(seed, key) + k * 0x9E3779B1   (mod 2^32),                                                  (1)

which is injective in k, and is always drawn whole, then sliced. Randomness enters the library through a `Noise` only.
"""

__all__ = ["Draws", "Noise", "Source", "Stream"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.gaussian import per_sample

_BLOCK = 1 << 16  # numbers per block: about 0.4 ms to draw, so that one sample of a small event costs little more
_MASK = (1 << 64) - 1


def _mix(*words: int) -> int:
    """Hash integers to 64 bits (splitmix64 finaliser, chained)."""
    state = 0
    for word in words:
        state = (state ^ (word & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def _block_size(event: Sequence[int]) -> int:
    """Samples per block: a power of two that depends on the event shape alone."""
    size = max(1, min(4096, _BLOCK // max(prod(event), 1)))
    return 1 << (size.bit_length() - 1)


@dataclass(frozen=True)
class Noise:
    """A source of standard normal and uniform numbers, addressed by sample.

    Args:
        seed: any integer.
        start: index of the first sample: ``Noise(7, start=64)`` draws what samples 64, 65, ... of ``Noise(7)`` get.
        key: names an independent source; use `fold` rather than setting it.
    """

    seed: int
    start: int = 0
    key: int = 0

    def fold(self, *keys: int) -> "Noise":
        """An independent source, for another purpose or another training step. ``fold(a, b) == fold(a).fold(b)``."""
        key = self.key
        for k in keys:
            key = _mix(key, k)
        return replace(self, key=key)

    def shift(self, n: int) -> "Noise":
        """The source whose sample 0 is this one's sample ``n``."""
        return replace(self, start=self.start + n)

    def generator(self, block: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
        """The generator of one block, seeded by (1)."""
        seed = (_mix(self.seed, self.key) + block * 0x9E3779B1) & 0xFFFFFFFF  # (1)
        return torch.Generator(device).manual_seed(seed)

    def stream(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu") -> "Stream":
        """Successive draws for one batch of ``shape = (b, *event)``."""
        size = _block_size(shape[1:])
        first, last = self.start // size, max(self.start + shape[0] - 1, self.start) // size
        generators = tuple(self.generator(block, device) for block in range(first, last + 1))
        return Stream(tuple(shape), dtype, size, self.start - first * size, generators)

    def stream_like(self, x: Tensor) -> "Stream":
        """`stream` with the shape, dtype and device of ``x``."""
        return self.stream(x.shape, x.dtype, x.device)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
        """Standard normal numbers of ``shape = (b, *event)``; the same at every call."""
        return self.stream(shape, dtype, device).normal()

    def uniform(self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
        """Uniform numbers on ``[0, 1)`` of ``shape = (b, *event)``; the same at every call."""
        return self.stream(shape, dtype, device).uniform()


@runtime_checkable
class Source(Protocol):
    """Where a run gets its random numbers from: a `Noise`, or a `BrownianPath`."""

    def fold(self, *keys: int) -> "Source":
        """An independent source, where there is one."""
        ...

    def stream_like(self, x: Tensor) -> "Draws":
        """A `Stream`, or what draws like one."""
        ...


@runtime_checkable
class Draws(Protocol):
    """What a method draws from in the course of one run: a `Stream`, or the stream of a `BrownianPath`."""

    def normal(self) -> Tensor:
        """The next standard normal numbers."""
        ...

    def uniform(self) -> Tensor:
        """The next uniform numbers on ``[0, 1)``."""
        ...

    def between(self, t: Tensor, s: Tensor) -> Tensor:
        """Standard normal numbers that drive the step from t to s."""
        ...

    def increment(self, t: Tensor, s: Tensor) -> Tensor:
        """A Brownian increment over the interval from t to s."""
        ...

    def area(self, t: Tensor, s: Tensor) -> Tensor:
        """A space-time Levy area over the interval from t to s."""
        ...


class Stream(NamedTuple):
    """Successive draws for one batch. Its generators advance: make one per run, inside the run."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    block: int
    offset: int
    generators: tuple[torch.Generator, ...]

    def normal(self) -> Float[Tensor, "b *event"]:
        """The next standard normal numbers."""
        return self._draw(Tensor.normal_)

    def uniform(self) -> Float[Tensor, "b *event"]:
        """The next uniform numbers on ``[0, 1)``."""
        return self._draw(Tensor.uniform_)

    def between(self, t: Tensor, s: Tensor) -> Float[Tensor, "b *event"]:
        """Standard normal numbers that drive the step from t to s: fresh here; of a `BrownianPath`, its increment over the root."""
        return self.normal()

    def increment(self, t: Tensor, s: Tensor) -> Float[Tensor, "b *event"]:
        """A Brownian increment over the interval from t to s: ``N(0, |s - t|)`` in every entry."""
        z = self.between(t, s)
        return per_sample((s - t).abs().sqrt(), z) * z

    def area(self, t: Tensor, s: Tensor) -> Float[Tensor, "b *event"]:
        """A space-time Levy area H over the interval from t to s: ``N(0, |s - t| / 12)``, independent of its increment."""
        z = self.normal()
        return per_sample(((s - t).abs() / 12).sqrt(), z) * z

    def _draw(self, fill: Callable[..., Tensor]) -> Tensor:
        whole = (len(self.generators) * self.block, *self.shape[1:])
        joined = torch.empty(whole, dtype=self.dtype, device=self.generators[0].device)
        for part, generator in zip(joined.split(self.block), self.generators, strict=True):
            fill(part, generator=generator)
        return joined[self.offset : self.offset + self.shape[0]]
