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
from ornstein.core import clock, divergence, spacing, supports
from ornstein.core.adjoint import Checkpointed
from ornstein.core.brownian import BrownianPath, Correlated, PathValued, Pinned, foster_area, stochastic_area
from ornstein.core.calculus import (
    OfPath,
    adjoint,
    by_parts,
    check_adapted,
    covariation,
    generator,
    ito,
    ito_formula,
    ito_isometry,
    ito_process,
    quadratic_variation,
    stratonovich,
    symbolic,
    theta_integral,
    time_change,
    to_ito,
    to_stratonovich,
    wiener_integral,
)
from ornstein.core.estimate import Discretisation
from ornstein.core.events import FirstPassage
from ornstein.core.expectation import Antithetic, Expectation, Multilevel, Plain, Sobol, expectation
from ornstein.core.gaussian import Gaussian
from ornstein.core.integrate import solve
from ornstein.core.linear import LinearSDE
from ornstein.core.methods import (
    BAOAB,
    OBABO,
    SRK,
    UBU,
    Adams,
    Adaptive,
    Ancestral,
    Churn,
    Down,
    EulerHeun,
    EulerMaruyama,
    ExponentialEuler,
    Hamiltonian,
    Heun,
    ImplicitEuler,
    Kinetic,
    LogODE,
    Metropolis,
    Milstein,
    Multistep,
    Noising,
    PredictorCorrector,
    Repeat,
    ReversibleHeun,
    RungeKutta,
    Semilinear,
    Singlestep,
    StepDoubling,
    StratonovichHeun,
    StratonovichMidpoint,
    Tabulated,
    TamedEuler,
    Underdamped,
    WeakSecond,
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
from ornstein.core.reversible import Reversible
from ornstein.core.sde import SDE, Langevin, Reverse
from ornstein.core.solve import Evaluations, KernelKL, LogWeight, Step, Trajectory, simulate
from ornstein.exact import heat, laws, metrics, targets
from ornstein.exact.displacement import fit_diffusion, mean_squared_displacement
from ornstein.exact.grid.axes import Absorbing, Axis, Grid, Periodic, Reflecting
from ornstein.exact.grid.backward import KolmogorovBackward, committor, mean_first_passage
from ornstein.exact.grid.control import HJB, Control
from ornstein.exact.grid.flux_limited import FluxLimited
from ornstein.exact.grid.fokker_planck import FokkerPlanck
from ornstein.exact.grid.girsanov import Accumulate, Girsanov
from ornstein.exact.grid.uniformisation import Uniformisation
from ornstein.exact.walk import RandomWalk
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
from ornstein.learn.density.average import Average, Particles
from ornstein.learn.density.estimate import LogZ, disagreement, log_z
from ornstein.learn.density.learned.draws import Draws, resampled_draws, weighted_draws
from ornstein.learn.density.paths.losses import log_variance, reverse_kl, score_function, sub_trajectory, trajectory_balance
from ornstein.learn.density.paths.measure import (
    PathMeasure,
    Start,
    annealed_paths,
    denoising_paths,
    kinetic_paths,
    langevin_paths,
    log_weights,
)
from ornstein.learn.density.paths.objectives import PathLoss, Replay, ScoreRegression
from ornstein.learn.density.paths.particles import resampled, twist
from ornstein.learn.density.pipeline import Budget, sample_density
from ornstein.learn.density.problem import Density, as_density
from ornstein.learn.density.result import DensityResult, Stage
from ornstein.learn.density.ways.foreign import from_numpy
from ornstein.learn.density.ways.jax import from_jax
from ornstein.learn.density.ways.numpyro import from_numpyro
from ornstein.learn.density.ways.pymc import from_pymc
from ornstein.learn.density.ways.stan import from_stan
from ornstein.learn.dequantise import Bits, Noised, Truncated, Uniform, log_probability
from ornstein.learn.diffusion_model import DiffusionModel, load
from ornstein.learn.flow import LogLikelihood, log_likelihood
from ornstein.learn.likelihood import Bound, elbo
from ornstein.learn.sampling import Sampler, sample
from ornstein.learn.schedule import MonotoneLogSNR, Schedule
from ornstein.learn.terminal import Terminal
from ornstein.learn.train import Training, train
from ornstein.learn.tune import Tuned, tune
from ornstein.model.bend import Bend
from ornstein.model.codec import Codec, Levels
from ornstein.model.denoiser import Denoiser, Parametrisation, edm, eps, score, v, x0
from ornstein.model.guidance import guide
from ornstein.nets.anchored import Anchored, Factored
from ornstein.nets.mlp import MLP
from ornstein.nets.unet import UNet

__all__ = [
    "BAOAB",
    "EDM",
    "HJB",
    "MLP",
    "OBABO",
    "OU",
    "SDE",
    "SRK",
    "UBU",
    "VE",
    "VP",
    "Absorbing",
    "Accumulate",
    "Adams",
    "Adaptive",
    "Ancestral",
    "Anchored",
    "Annealed",
    "Antithetic",
    "Average",
    "Axis",
    "Bend",
    "Bits",
    "Bound",
    "Bracket",
    "Bridge",
    "BrownianPath",
    "Budget",
    "Checkpointed",
    "Churn",
    "Codec",
    "Control",
    "Correlated",
    "Cosine",
    "Damped",
    "Denoiser",
    "Denoising",
    "Density",
    "DensityResult",
    "DiffusionModel",
    "DiscreteVP",
    "Discretisation",
    "Down",
    "Draws",
    "EulerHeun",
    "EulerMaruyama",
    "Evaluations",
    "Expectation",
    "ExponentialEuler",
    "Factored",
    "FirstPassage",
    "FluxLimited",
    "FokkerPlanck",
    "FromCoefficients",
    "FromLogSNR",
    "Gaussian",
    "Girsanov",
    "Grid",
    "Hamiltonian",
    "Heun",
    "ImplicitEuler",
    "KernelKL",
    "Kinetic",
    "KolmogorovBackward",
    "Langevin",
    "Levels",
    "LinearSDE",
    "LogLikelihood",
    "LogNormal",
    "LogODE",
    "LogWeight",
    "LogZ",
    "LogitNormal",
    "Metropolis",
    "Milstein",
    "MonotoneLogSNR",
    "Multilevel",
    "Multistep",
    "Noise",
    "Noised",
    "Noising",
    "OfPath",
    "Parametrisation",
    "Particles",
    "PathLoss",
    "PathMeasure",
    "PathValued",
    "Periodic",
    "Pinned",
    "Plain",
    "PredictorCorrector",
    "Proposal",
    "RandomWalk",
    "Recipe",
    "Reflecting",
    "Repeat",
    "Replay",
    "Reverse",
    "Reversible",
    "ReversibleHeun",
    "RungeKutta",
    "Sampler",
    "Schedule",
    "ScoreRegression",
    "Semilinear",
    "Singlestep",
    "Sobol",
    "Stage",
    "Start",
    "Step",
    "StepDoubling",
    "Straight",
    "StratonovichHeun",
    "StratonovichMidpoint",
    "SubVP",
    "Tabulated",
    "TamedEuler",
    "Terminal",
    "Training",
    "Trajectory",
    "Truncated",
    "Tuned",
    "UNet",
    "Underdamped",
    "Uniform",
    "UniformLogSNR",
    "UniformTime",
    "Uniformisation",
    "WeakSecond",
    "adjoint",
    "annealed_paths",
    "as_density",
    "bracket",
    "by_parts",
    "calibrate",
    "check_adapted",
    "clock",
    "committor",
    "continuous_elbo",
    "covariation",
    "denoising_loss",
    "denoising_paths",
    "disagreement",
    "divergence",
    "edm",
    "edm_weight",
    "elbo",
    "eps",
    "errors",
    "expectation",
    "fit",
    "fit_diffusion",
    "foster_area",
    "from_jax",
    "from_numpy",
    "from_numpyro",
    "from_pymc",
    "from_stan",
    "generator",
    "guide",
    "heat",
    "ito",
    "ito_formula",
    "ito_isometry",
    "ito_process",
    "kinetic_paths",
    "langevin_paths",
    "laws",
    "likelihood_weight",
    "load",
    "log_likelihood",
    "log_probability",
    "log_variance",
    "log_weights",
    "log_z",
    "mean_first_passage",
    "mean_squared_displacement",
    "metrics",
    "min_snr",
    "quadratic_variation",
    "resampled",
    "resampled_draws",
    "reverse_kl",
    "sample",
    "sample_density",
    "score",
    "score_function",
    "simulate",
    "snr_weight",
    "solve",
    "spacing",
    "stochastic_area",
    "stratified",
    "stratonovich",
    "sub_trajectory",
    "supports",
    "symbolic",
    "targets",
    "theta_integral",
    "time_change",
    "to_ito",
    "to_stratonovich",
    "train",
    "trajectory_balance",
    "tune",
    "twist",
    "unit_weight",
    "v",
    "weighted_draws",
    "weights",
    "wiener_integral",
    "x0",
]  # fmt: skip
