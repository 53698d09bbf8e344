"""Time grids: where a sampler steps (`spacing`), and the clocks that multistep methods interpolate in."""

__all__ = [
    "clock",
    "spacing",
]

from ornstein.core.timesteps import clock, spacing
