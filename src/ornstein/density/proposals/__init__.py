"""Proposal distributions for importance sampling: mixtures, triangular maps, and their adaptive repair."""
