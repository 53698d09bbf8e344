"""Use of a trained model: sampling, likelihoods, saving and loading."""

__all__ = [
    "DiffusionModel",
    "likelihood",
    "load",
    "sampling",
]

from ornstein.inference import likelihood, sampling
from ornstein.inference.diffusion_model import DiffusionModel, load
