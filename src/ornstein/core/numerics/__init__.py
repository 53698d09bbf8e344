"""Numerical building blocks that know nothing of processes: Gaussians, importance weights, checks."""
