"""ornstein samples from a distribution by reversing a diffusion: from samples, or from an unnormalised density.

    model = orn.fit(data)                          # samples -> a model
    x = model.sample(64)

    r = orn.sample_density(log_prob, dim=10)       # log-density -> samples, log Z and its interval
    r.samples, r.log_z, r.log_z_interval

Both run over one core: a linear SDE is two functions of time, a model is a posterior of the clean point, a step is a Gaussian
kernel, and one loop draws from kernels while watchers look on.
"""

__version__ = "0.1.0"

from ornstein import errors
from ornstein.app.fit import fit
from ornstein.app.recipes import Recipe
from ornstein.core import clock, divergence, spacing
from ornstein.core.brownian import BrownianPath
from ornstein.core.estimate import Discretisation
from ornstein.core.gaussian import Gaussian
from ornstein.core.linear import LinearSDE
from ornstein.core.methods import (
    SRK,
    Adams,
    Adaptive,
    Ancestral,
    Churn,
    Down,
    EulerMaruyama,
    Heun,
    Metropolis,
    Multistep,
    Noising,
    PredictorCorrector,
    Repeat,
    RungeKutta,
    Singlestep,
    Tabulated,
    weights,
)
from ornstein.core.methods.annealed import Annealed
from ornstein.core.noise import Noise
from ornstein.core.processes import (
    EDM,
    OU,
    VE,
    VP,
    Bridge,
    Cosine,
    Damped,
    DiscreteVP,
    FromCoefficients,
    FromLogSNR,
    Straight,
    SubVP,
)
from ornstein.core.sde import SDE, Langevin, Reverse
from ornstein.core.solve import Evaluations, KernelKL, LogWeight, Step, Trajectory, simulate
from ornstein.exact import metrics, targets
from ornstein.learn.bracket import Bracket, bracket
from ornstein.learn.calibrate import calibrate
from ornstein.learn.continuous import Proposal, continuous_elbo
from ornstein.learn.data import (
    Denoising,
    LogitNormal,
    LogNormal,
    UniformLogSNR,
    UniformTime,
    denoising_loss,
    edm_weight,
    likelihood_weight,
    min_snr,
    snr_weight,
    stratified,
    unit_weight,
)
from ornstein.learn.density import (
    log_variance,
    log_weights,
    log_z,
    reverse_kl,
    trajectory_balance,
    weighted_samples,
)
from ornstein.learn.dequantise import Bits, Noised, Truncated, Uniform, log_probability
from ornstein.learn.diffusion_model import DiffusionModel, load
from ornstein.learn.flow import LogLikelihood, log_likelihood
from ornstein.learn.likelihood import Bound, elbo
from ornstein.learn.sample_density import DensityResult, sample_density
from ornstein.learn.sampling import Sampler, sample
from ornstein.learn.schedule import MonotoneLogSNR, Schedule
from ornstein.learn.terminal import Terminal
from ornstein.learn.train import Training, train
from ornstein.learn.tune import Tuned, tune
from ornstein.model.codec import Codec, Levels
from ornstein.model.denoiser import Denoiser, Parametrisation, edm, eps, score, v, x0
from ornstein.model.guidance import guide
from ornstein.nets.mlp import MLP
from ornstein.nets.unet import UNet

__all__ = [
    "EDM",
    "MLP",
    "OU",
    "SDE",
    "SRK",
    "VE",
    "VP",
    "Adams",
    "Adaptive",
    "Ancestral",
    "Annealed",
    "Bits",
    "Bound",
    "Bracket",
    "Bridge",
    "BrownianPath",
    "Churn",
    "Codec",
    "Cosine",
    "Damped",
    "Denoiser",
    "Denoising",
    "DensityResult",
    "DiffusionModel",
    "DiscreteVP",
    "Discretisation",
    "Down",
    "EulerMaruyama",
    "Evaluations",
    "FromCoefficients",
    "FromLogSNR",
    "Gaussian",
    "Heun",
    "KernelKL",
    "Langevin",
    "Levels",
    "LinearSDE",
    "LogLikelihood",
    "LogNormal",
    "LogWeight",
    "LogitNormal",
    "Metropolis",
    "MonotoneLogSNR",
    "Multistep",
    "Noise",
    "Noised",
    "Noising",
    "Parametrisation",
    "PredictorCorrector",
    "Proposal",
    "Recipe",
    "Repeat",
    "Reverse",
    "RungeKutta",
    "Sampler",
    "Schedule",
    "Singlestep",
    "Step",
    "Straight",
    "SubVP",
    "Tabulated",
    "Terminal",
    "Training",
    "Trajectory",
    "Truncated",
    "Tuned",
    "UNet",
    "Uniform",
    "UniformLogSNR",
    "UniformTime",
    "bracket",
    "calibrate",
    "clock",
    "continuous_elbo",
    "denoising_loss",
    "divergence",
    "edm",
    "edm_weight",
    "elbo",
    "eps",
    "errors",
    "fit",
    "guide",
    "likelihood_weight",
    "load",
    "log_likelihood",
    "log_probability",
    "log_variance",
    "log_weights",
    "log_z",
    "metrics",
    "min_snr",
    "reverse_kl",
    "sample",
    "sample_density",
    "score",
    "simulate",
    "snr_weight",
    "spacing",
    "stratified",
    "targets",
    "train",
    "trajectory_balance",
    "tune",
    "unit_weight",
    "v",
    "weighted_samples",
    "weights",
    "x0",
]  # fmt: skip
