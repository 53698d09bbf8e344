"""Seeds and blocks of random numbers: how the numbers of a sample are addressed.

`ornstein.core.random.noise` draws samples in blocks, each with a generator of its own. The seed of
a generator is a hash of integers, and the place of a sample within the blocks depends on the shape
of one sample only.
"""

__all__ = ["Layout", "as_shape", "layout", "mix", "named_key", "scaled"]

from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import blake2b
from math import prod
from operator import index
from typing import Any, NamedTuple

from torch import Tensor

from ornstein.errors import OrnsteinError

_BLOCK = 1 << 16  # numbers of one generator, at most, unless one sample has more
_LANES = 16  # torch fills a tensor in independent groups of so many normal numbers
_MASK = (1 << 64) - 1


@lru_cache(maxsize=4096)
def mix(*words: int) -> int:
    """Return a hash of integers, of 64 bits (splitmix64 finaliser, chained)."""
    state = 0
    for word in words:
        state = (state ^ (word & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


@lru_cache(maxsize=256)
def named_key(name: str) -> int:
    """Return an integer for the name of a purpose, the same in every Python process."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


class Layout(NamedTuple):
    """The place of the numbers of consecutive samples in blocks of random numbers.

    Attributes:
        blocks: the blocks that are drawn.
        length: numbers in a block.
        drawn: numbers that are drawn of all blocks.
        offset: index of the first number of the samples among them.
    """

    blocks: range
    length: int
    drawn: int
    offset: int


@lru_cache(maxsize=256)
def layout(shape: tuple[int, ...], start: int, whole: bool) -> Layout:
    """Return where the numbers of the samples ``start, start + 1, ...`` lie in the blocks.

    A block has a power of two of samples, which depends on the event shape alone.
    """
    event = prod(shape[1:])
    size = 1 << (max(1, _BLOCK // max(event, 1)).bit_length() - 1)
    first, last = start // size, max(start + shape[0] - 1, start) // size
    length = size * event
    tail = (
        length
        if whole
        else min(length, -(-(start + shape[0] - last * size) * event // _LANES) * _LANES)
    )
    return Layout(
        range(first, last + 1),
        length,
        (last - first) * length + tail,
        (start - first * size) * event,
    )


def scaled(std: float) -> Callable[..., Tensor]:
    """Return a function that fills a tensor with normal numbers of this standard deviation.

    They are those of ``Tensor.normal_`` times std, bit by bit, without another pass.
    """
    return partial(Tensor.normal_, std=std)


def as_shape(shape: Any) -> tuple[int, ...]:
    """Return a shape ``(b, *event)`` as a tuple.

    Raises:
        OrnsteinError: for what is no sequence of integers, or an empty one.
    """
    try:
        sizes = tuple(index(size) for size in shape)
    except TypeError:
        sizes = ()
    if not sizes or min(sizes) < 0:
        raise OrnsteinError(
            f"shape={shape!r}: pass a tuple of integers whose first counts samples, such as (100,"
            " 2), or (1,) for a single number"
        )
    return sizes
