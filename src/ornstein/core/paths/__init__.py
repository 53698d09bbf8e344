"""Measures on paths: their weights, losses on these, regressions, and particles along them."""
