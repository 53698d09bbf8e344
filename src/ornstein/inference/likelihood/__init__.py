"""Log-likelihoods of a posterior: probability flow, evidence bounds, dequantisation."""

__all__ = [
    "Bound",
    "LogLikelihood",
    "NoiseLevelProposal",
    "TerminalGaussian",
    "TwoSidedBound",
    "continuous_elbo",
    "dequantise",
    "elbo",
    "log_likelihood",
    "trace",
    "two_sided_bound",
]

from ornstein.inference.likelihood import dequantise, trace
from ornstein.inference.likelihood.continuous_elbo import NoiseLevelProposal, continuous_elbo
from ornstein.inference.likelihood.elbo import Bound, elbo
from ornstein.inference.likelihood.probability_flow import LogLikelihood, log_likelihood
from ornstein.inference.likelihood.terminal import TerminalGaussian
from ornstein.inference.likelihood.two_sided import TwoSidedBound, two_sided_bound
