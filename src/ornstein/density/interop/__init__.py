"""Log-densities from NumPy, JAX, PyMC, NumPyro and Stan; draws to ArviZ, pandas and npz files.

No optional package is imported before a function that needs it is called.
"""
