"""Draw from a posterior: the default sampler, and samplers tuned to a model."""

__all__ = [
    "Sampler",
    "Tuned",
    "sample",
    "tune",
]

from ornstein.inference.sampling.sample import Sampler, sample
from ornstein.inference.sampling.tune import Tuned, tune
