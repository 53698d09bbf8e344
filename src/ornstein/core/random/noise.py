"""Random numbers that belong to samples, not to batches.

Sample i must be the same whatever the batch size, the order or the number of processes. Drawing one
generator per sample would be slow, drawing one per batch would be wrong; so samples are drawn in
*blocks* of a size that depends on the event shape only. Block k of draw n has a generator of its
own, seeded by

    seed(n, k) = mix(seed, key) + c (n + [2^32 / golden ratio] k)   (mod 2^32),                  (1)

where two are alike only if draws times blocks between them are above 1.6e9. On a CPU the first
numbers of a generator do not depend on how many follow, in groups of 16, so that only what is
needed of the last block is drawn; elsewhere blocks are drawn whole. Randomness enters the library
through a `Noise` only.
"""

__all__ = ["Noise", "NoiseSource", "NoiseStream", "NormalStream"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import blake2b
from math import prod
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.gaussian import per_sample
from ornstein.errors import OrnsteinError

_BLOCK = 1 << 16  # numbers of one generator, at most, unless one sample has more
_LANES = 16  # torch fills a tensor in groups of so many normal numbers, which do not depend on how many groups follow
_MASK = (1 << 64) - 1


@lru_cache(maxsize=4096)
def _mix(*words: int) -> int:
    """Hash integers to 64 bits (splitmix64 finaliser, chained)."""
    state = 0
    for word in words:
        state = (state ^ (word & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


@lru_cache(maxsize=256)
def _named_key(name: str) -> int:
    """An integer for the name of a purpose, the same in every process."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


class _Layout(NamedTuple):
    """Where the numbers of some samples lie: in which blocks, of what length, how much is drawn,
    and where in it they begin."""

    blocks: range
    length: int
    drawn: int
    first: int


@lru_cache(maxsize=256)
def _layout(shape: tuple[int, ...], start: int, whole: bool) -> _Layout:
    """Of samples ``start, start + 1, ...``; a block holds a power of two of them, which depends on
    the event shape alone."""
    event = prod(shape[1:])
    size = 1 << (max(1, _BLOCK // max(event, 1)).bit_length() - 1)
    first, last = start // size, max(start + shape[0] - 1, start) // size
    length = size * event
    tail = (
        length
        if whole
        else min(length, -(-(start + shape[0] - last * size) * event // _LANES) * _LANES)
    )
    return _Layout(
        range(first, last + 1),
        length,
        (last - first) * length + tail,
        (start - first * size) * event,
    )


def scaled(std: float) -> Callable[..., Tensor]:
    """Fills a tensor with ``N(0, std^2)``: the numbers of ``Tensor.normal_`` times std, bit by bit,
    without another pass."""
    return partial(Tensor.normal_, std=std)


@dataclass(frozen=True)
class Noise:
    """A source of standard normal and uniform numbers, addressed by sample.

    Args:
        seed: any integer.
        start: index of the first sample: ``Noise(7, start=64)`` draws what samples 64, 65, ... of
            ``Noise(7)`` get.
        key: names an independent source; use `fold` rather than setting it.
    """

    seed: int
    start: int = 0
    key: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int):
            raise OrnsteinError(
                f"seed={self.seed!r} is a {type(self.seed).__name__}: a seed is an integer, such as"
                " 0, or an orn.Noise"
            )

    @classmethod
    def of(cls, seed: "int | Noise") -> "Noise":
        """The source that a ``seed`` argument stands for: a `Noise` is taken as it is.

        Raises:
            OrnsteinError: if it is neither an integer nor a `Noise`.

        Example:
            >>> orn.Noise.of(3) == orn.Noise.of(orn.Noise(3))
            True
        """
        return seed if isinstance(seed, Noise) else cls(seed)

    def fold(self, *keys: int | str) -> "Noise":
        """An independent source, for another purpose or another training step.

        ``fold(a, b) == fold(a).fold(b)``.

        Args:
            keys: integers, or the name of a purpose: ``noise.fold("start", k)``.
        """
        key = self.key
        for k in keys:
            key = _mix(key, _named_key(k) if isinstance(k, str) else k)
        return Noise(self.seed, self.start, key)

    def shift(self, n: int) -> "Noise":
        """The source whose sample 0 is this one's sample ``n``."""
        return replace(self, start=self.start + n)

    def generator(
        self, block: int = 0, device: torch.device | str = "cpu", draw: int = 0
    ) -> torch.Generator:
        """The generator of one block of one draw, seeded by (1)."""
        seed = (
            _mix(self.seed, self.key) + 0x85EBCA6B * (draw + 0x9E3779B9 * block)
        ) & 0xFFFFFFFF  # (1)
        return torch.Generator(device).manual_seed(seed)

    def fill(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device | str,
        how: Callable[..., Tensor],
        draw: int = 0,
    ) -> Tensor:
        """One draw: a new tensor, filled block by block by ``Tensor.normal_`` or
        ``Tensor.uniform_``."""
        if prod(shape) == 0:
            return torch.empty(shape, dtype=dtype, device=device)
        blocks, length, drawn, first = _layout(shape, self.start, str(device) != "cpu")
        flat = torch.empty(drawn, dtype=dtype, device=device)
        for block, part in zip(
            blocks, flat.split(length) if len(blocks) > 1 else (flat,), strict=True
        ):
            how(part, generator=self.generator(block, device, draw))
        size = prod(shape)
        return (flat if size == drawn else flat[first : first + size]).view(shape)

    def stream(
        self, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> "NormalStream":
        """Successive draws for one batch of ``shape = (b, *event)``."""
        return NormalStream(tuple(shape), dtype, device, self)

    def stream_like(self, x: Tensor) -> "NormalStream":
        """`stream` with the shape, dtype and device of ``x``."""
        return self.stream(x.shape, x.dtype, x.device)

    def normal(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> Tensor:
        """Standard normal numbers of ``shape = (b, *event)``; the same at every call."""
        return self.stream(shape, dtype, device).normal()

    def uniform(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> Tensor:
        """Uniform numbers on ``[0, 1)`` of ``shape = (b, *event)``; the same at every call."""
        return self.stream(shape, dtype, device).uniform()


@runtime_checkable
class NoiseSource(Protocol):
    """Where a run gets its random numbers from: a `Noise`, or a `BrownianPath`."""

    def fold(self, *keys: int) -> "NoiseSource":
        """An independent source, where there is one."""
        ...

    def stream_like(self, x: Tensor) -> "NoiseStream":
        """A `NormalStream`, or what draws like one."""
        ...


@runtime_checkable
class NoiseStream(Protocol):
    """What a method draws from in the course of one run: a `NormalStream`, or the stream of a
    `BrownianPath`."""

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


@dataclass
class NormalStream:
    """Successive draws for one batch: the k-th is named by k. Make one per run, inside the run.

    Args:
        shape: ``(b, *event)``.
        dtype, device: of the numbers.
        noise: where they come from.
        count: draws so far.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device | str
    noise: Noise
    count: int = 0

    def normal(self) -> Float[Tensor, "b *event"]:
        """The next standard normal numbers."""
        return self._draw(Tensor.normal_)

    def uniform(self) -> Float[Tensor, "b *event"]:
        """The next uniform numbers on ``[0, 1)``."""
        return self._draw(Tensor.uniform_)

    def between(self, t: Tensor, s: Tensor) -> Float[Tensor, "b *event"]:
        """Standard normal numbers that drive the step from t to s: fresh here; of a `BrownianPath`,
        its increment over the root."""
        return self.normal()

    def increment(self, t: Tensor, s: Tensor) -> Float[Tensor, "b *event"]:
        """A Brownian increment over the interval from t to s: ``N(0, |s - t|)`` in every entry."""
        return self._scaled((s - t).abs().sqrt())

    def area(self, t: Tensor, s: Tensor) -> Float[Tensor, "b *event"]:
        """A space-time Levy area H over the interval from t to s: ``N(0, |s - t| / 12)``,
        independent of its increment."""
        return self._scaled(((s - t).abs() / 12).sqrt())

    def _scaled(self, std: Tensor) -> Tensor:
        if std.ndim or std.requires_grad:
            z = self.normal()
            return per_sample(std, z) * z
        return self._draw(scaled(std.item()))

    def _draw(self, fill: Callable[..., Tensor]) -> Tensor:
        found = self.noise.fill(self.shape, self.dtype, self.device, fill, draw=self.count)
        self.count += 1
        return found
