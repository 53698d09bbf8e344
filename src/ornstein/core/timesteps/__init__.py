"""Time grids of samplers (`spacing`), and the clocks in which multistep methods interpolate."""

__all__ = [
    "clock",
    "spacing",
]

from ornstein.core.timesteps import clock, spacing
