"""Learn a diffusion model of a density, importance-sample along it, and test what it misses."""
