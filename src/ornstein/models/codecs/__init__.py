"""Codecs: invertible maps between the user's data and what the network sees."""

__all__ = [
    "Codec",
    "Levels",
    "TriangularCodec",
]

from ornstein.models.codecs.affine import Codec, Levels
from ornstein.models.codecs.triangular import TriangularCodec
