"""A sampler of a user: Euler's method, by a subclass and by a method written out."""

from dataclasses import dataclass

import ornstein as orn


@dataclass(frozen=True)
class MyEuler(orn.EulerMaruyama):
    """Euler and Maruyama's method under another name."""
