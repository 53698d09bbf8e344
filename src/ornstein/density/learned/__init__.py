"""Learn a diffusion model of a density, importance-sample with it, and test what it misses."""
