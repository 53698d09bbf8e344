"""Integrals along a path, Ito's formula, and the clock on which an integral is a Brownian motion.

The public names of these files are those of `ornstein.calculus`.
"""
