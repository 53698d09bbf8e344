"""Reproducible random numbers that belong to samples, not to batches.

All randomness enters the library through a `Noise`. Sample i must be the same whatever the batch
size, the order or the number of processes. One generator per sample would be slow, one per batch
would be wrong; so samples are drawn in
*blocks* of a size that depends on the event shape only. Block k of draw n has a generator of its
own, seeded by

    seed(n, k) = mix(seed, key) + c (n + [2^32 / golden ratio] k)   (mod 2^32),                  (1)

where two are alike only if draws times blocks between them are above 1.6e9. On a CPU the first
numbers of a generator do not depend on how many follow, in groups of 16, so that only what is
needed of the last block is drawn; elsewhere blocks are drawn whole.
"""

__all__ = ["Noise", "NoiseSource", "NoiseStream", "NormalStream"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from numbers import Integral
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.checks import require_integers
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.random.blocks import as_shape, layout, mix, named_key, scaled
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class Noise:
    """A reproducible source of standard normal and uniform numbers, addressed by sample.

    Args:
        seed: any integer.
        start: index of the first sample: ``Noise(7, start=64)`` draws what samples 64, 65, ... of
            ``Noise(7)`` get.
        key: names an independent source; use `fold` rather than setting it.

    Raises:
        OrnsteinError: if the seed is not an integer, or the start not an integer from 0 on.

    Example:
        >>> few, many = orn.Noise(7).normal((3, 2)), orn.Noise(7).normal((100, 2))
        >>> torch.equal(few, many[:3])
        True
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
        require_integers(0, start=self.start)

    @classmethod
    def of(cls, seed: "int | Noise | NoiseSource") -> "Noise":
        """Return the source for a ``seed`` argument: a `Noise` is returned as it is.

        Raises:
            OrnsteinError: if it is neither an integer nor a `Noise`.

        Example:
            >>> orn.Noise.of(3) == orn.Noise.of(orn.Noise(3))
            True
        """
        return seed if isinstance(seed, Noise) else cls(seed)  # type: ignore[arg-type]

    def fold(self, *keys: int | str) -> "Noise":
        """Return an independent source, for another purpose or another training step.

        ``fold(a, b) == fold(a).fold(b)``.

        Args:
            keys: integers, or the name of a purpose: ``noise.fold("start", k)``.
        """
        key = self.key
        for k in keys:
            if not isinstance(k, Integral | str):
                raise OrnsteinError(
                    f"Noise.fold({k!r}): a key is an integer or the name of a purpose, such as"
                    " 'start'"
                )
            key = mix(key, named_key(k) if isinstance(k, str) else int(k))
        return Noise(self.seed, self.start, key)

    def shift(self, n: int) -> "Noise":
        """Return the source whose sample 0 is the sample ``n`` of this source."""
        return replace(self, start=self.start + n)

    def generator(
        self, block: int = 0, device: torch.device | str = "cpu", draw: int = 0
    ) -> torch.Generator:
        """Return the generator of one block of one draw.

        Its seed is ``mix(seed, key) + c (draw + [2^32 / golden ratio] block)`` modulo ``2^32``.
        """
        seed = (
            mix(self.seed, self.key) + 0x85EBCA6B * (draw + 0x9E3779B9 * block)
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
        """Return one draw: a new tensor that is filled block by block.

        Args:
            shape: ``(b, *event)``.
            dtype, device: of the tensor.
            how: ``Tensor.normal_`` or ``Tensor.uniform_``, called with ``generator=``.
            draw: number of the draw; each is independent.
        """
        if prod(shape) == 0:
            return torch.empty(shape, dtype=dtype, device=device)
        blocks, length, drawn, offset = layout(shape, self.start, str(device) != "cpu")
        flat = torch.empty(drawn, dtype=dtype, device=device)
        for block, part in zip(
            blocks, flat.split(length) if len(blocks) > 1 else (flat,), strict=True
        ):
            how(part, generator=self.generator(block, device, draw))
        size = prod(shape)
        return (flat if size == drawn else flat[offset : offset + size]).view(shape)

    def stream(
        self, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> "NormalStream":
        """Return successive draws for one batch of ``shape = (b, *event)``.

        Raises:
            OrnsteinError: for a shape without a first dimension, which counts samples.
        """
        return NormalStream(as_shape(shape), dtype, device, self)

    def stream_like(self, x: Tensor) -> "NormalStream":
        """Return successive draws with the shape, dtype and device of ``x``."""
        return self.stream(x.shape, x.dtype, x.device)

    def normal(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> Tensor:
        """Return standard normal numbers of ``shape = (b, *event)``; the same at every call."""
        return self.stream(shape, dtype, device).normal()

    def uniform(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> Tensor:
        """Return uniform numbers on ``[0, 1)`` of a shape ``(b, *event)``; always the same."""
        return self.stream(shape, dtype, device).uniform()


@runtime_checkable
class NoiseSource(Protocol):
    """The source of random numbers of a run: a `Noise`, or a `BrownianPath`."""

    def fold(self, *keys: int) -> "NoiseSource":
        """Return an independent source; a path returns itself."""
        ...

    def stream_like(self, x: Tensor) -> "NoiseStream":
        """Return a `NormalStream` for this state, or an object that draws like one."""
        ...


@runtime_checkable
class NoiseStream(Protocol):
    """The random numbers of a method during one run, drawn one after another.

    A `NormalStream`, or the stream of a `BrownianPath`.
    """

    def normal(self) -> Tensor:
        """Return the next standard normal numbers, ``(b, *event)``."""
        ...

    def uniform(self) -> Tensor:
        """Return the next uniform numbers on ``[0, 1)``, ``(b, *event)``."""
        ...

    def between(self, t: Tensor, s: Tensor) -> Tensor:
        """Return standard normal numbers that drive the step from t to s."""
        ...

    def increment(self, t: Tensor, s: Tensor) -> Tensor:
        """Return a Brownian increment over the interval from t to s."""
        ...

    def area(self, t: Tensor, s: Tensor) -> Tensor:
        """Return a space-time Levy area over the interval from t to s."""
        ...


@dataclass
class NormalStream:
    """Successive independent draws for one batch, in the order in which they are taken.

    The k-th draw depends on k only. Make one stream per run, inside the run.

    Args:
        shape: ``(b, *event)``.
        dtype, device: of the numbers.
        noise: the source.
        count: draws so far.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device | str
    noise: Noise
    count: int = 0

    def normal(self) -> Float[Tensor, "b *event"]:
        """Return the next standard normal numbers, ``(b, *event)``."""
        return self._draw(Tensor.normal_)

    def uniform(self) -> Float[Tensor, "b *event"]:
        """Return the next uniform numbers on ``[0, 1)``, ``(b, *event)``."""
        return self._draw(Tensor.uniform_)

    def between(self, t: Tensor, s: Tensor) -> Float[Tensor, "b *event"]:
        """Return the next standard normal numbers, which drive the step from t to s.

        The stream of a `BrownianPath` returns its increment over the root of the step's length.
        """
        return self.normal()

    def increment(self, t: Tensor, s: Tensor) -> Float[Tensor, "b *event"]:
        """Return a Brownian increment from t to s, ``N(0, |s - t|)`` in every entry."""
        return self._scaled((s - t).abs().sqrt())

    def area(self, t: Tensor, s: Tensor) -> Float[Tensor, "b *event"]:
        """Return a space-time Levy area H from t to s, ``N(0, |s - t| / 12)`` in every entry.

        It is independent of the increment.
        """
        return self._scaled(((s - t).abs() / 12).sqrt())

    def _scaled(self, std: Tensor) -> Tensor:
        """Return the next normal numbers times a standard deviation."""
        if std.ndim or std.requires_grad:
            z = self.normal()
            return per_sample(std, z) * z
        return self._draw(scaled(std.item()))

    def _draw(self, fill: Callable[..., Tensor]) -> Tensor:
        """Return the next draw of the stream, and advance the count of draws."""
        numbers = self.noise.fill(self.shape, self.dtype, self.device, fill, draw=self.count)
        self.count += 1
        return numbers
