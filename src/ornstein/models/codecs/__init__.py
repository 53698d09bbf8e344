"""Codecs: invertible maps between the user's data and the inputs of the network."""

__all__ = [
    "Codec",
    "Levels",
    "TriangularCodec",
]

from ornstein.models.codecs.affine import Codec, Levels
from ornstein.models.codecs.triangular import TriangularCodec
