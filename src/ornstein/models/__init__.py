"""Networks become posteriors: parametrisations, the denoiser, codecs and guidance."""

__all__ = [
    "Denoiser",
    "MixtureNetwork",
    "ProductNetwork",
    "codecs",
    "guidance",
    "parametrisations",
]

from ornstein.models import codecs, guidance, parametrisations
from ornstein.models.analytic_networks import MixtureNetwork, ProductNetwork
from ornstein.models.denoiser import Denoiser
