"""Proposals for importance sampling: mixtures, triangular maps, their fit and adaptive repair."""
