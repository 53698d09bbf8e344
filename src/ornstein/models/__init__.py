"""Models: networks as posteriors, with parametrisations, codecs, conditions and guidance."""

__all__ = [
    "Denoiser",
    "MixtureNetwork",
    "PosteriorBase",
    "ProductNetwork",
    "codecs",
    "conditions",
    "guidance",
    "parametrisations",
    "registry",
]

from ornstein.models import codecs, conditions, guidance, parametrisations, registry
from ornstein.models.analytic_networks import MixtureNetwork, ProductNetwork
from ornstein.models.denoiser import Denoiser
from ornstein.models.posterior import PosteriorBase
