"""Ways in and out of densities: log-densities from NumPy, JAX, PyMC, NumPyro and Stan; draws to
ArviZ, pandas and npz.

None of these is imported before it is asked for.
"""
