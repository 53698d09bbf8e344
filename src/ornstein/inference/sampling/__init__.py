"""Draw from a posterior: the default sampler, and samplers tuned to a model."""

__all__ = [
    "Sampler",
    "Tuned",
    "sample",
    "tune",
]

from ornstein.inference.sampling.sample import sample
from ornstein.inference.sampling.samplers import Sampler
from ornstein.inference.sampling.tune import Tuned, tune
