"""Numerical building blocks without processes: Gaussians, importance weights, roots, tables."""
