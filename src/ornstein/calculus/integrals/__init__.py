"""Stochastic integrals, Ito's formula, Girsanov's theorem, and time changes to Brownian motion.

The public names of these files are those of `ornstein.calculus`.
"""
