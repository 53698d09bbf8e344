"""Sample from an unnormalised log-density and estimate its normalising constant."""

__all__ = [
    "Budget",
    "ConsistencyTest",
    "Density",
    "DensityResult",
    "LogZ",
    "PosteriorMean",
    "Progress",
    "WeightedDraws",
    "WeightedSample",
    "as_density",
    "consistency_test",
    "draw_smc",
    "draw_weighted",
    "from_jax",
    "from_numpy",
    "from_numpyro",
    "from_pymc",
    "from_stan",
    "log_z",
    "sample_density",
    "supports",
]

from ornstein.core.random.weighted_sample import WeightedSample
from ornstein.density.as_density import as_density
from ornstein.density.consistency import ConsistencyTest, consistency_test
from ornstein.density.constraints import supports
from ornstein.density.density import Density
from ornstein.density.expectations import PosteriorMean
from ornstein.density.interop.jax import from_jax
from ornstein.density.interop.numpy import from_numpy
from ornstein.density.interop.numpyro import from_numpyro
from ornstein.density.interop.pymc import from_pymc
from ornstein.density.interop.stan import from_stan
from ornstein.density.learned.weighted_draws import WeightedDraws, draw_smc, draw_weighted
from ornstein.density.log_z import LogZ, log_z
from ornstein.density.options import Budget
from ornstein.density.result import DensityResult, Progress
from ornstein.density.sample_density import sample_density
