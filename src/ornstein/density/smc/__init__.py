"""Tempered sequential Monte Carlo: search for modes, temper from a mixture, fit a proposal."""
