"""ornstein samples from a distribution by reversing a diffusion: from samples, or from an
unnormalised density.

    model = orn.fit(data)                          # samples -> a model
    x = model.sample(64)

    r = orn.sample_density(log_prob, dim=10)       # log-density -> samples, log Z and its interval
    r.samples, r.log_z, r.log_z_interval

Both run over one core: a linear SDE is two functions of time, a model is a posterior of the clean
point, a step is a Gaussian kernel, and one loop draws from kernels while watchers look on.
"""

__version__ = "0.1.0"

from ornstein import errors
from ornstein.calculus import laws
from ornstein.calculus.integrals import (
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
from ornstein.calculus.integrals.girsanov import Accumulate, Girsanov
from ornstein.calculus.integrals.process import PathValued
from ornstein.calculus.laws import heat
from ornstein.calculus.laws.displacement import fit_diffusion, mean_squared_displacement
from ornstein.calculus.laws.random_walk import RandomWalk
from ornstein.calculus.montecarlo import (
    Antithetic,
    Expectation,
    Multilevel,
    Plain,
    Sobol,
    expectation,
)
from ornstein.calculus.pde.flux_limited import FluxLimited
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.calculus.pde.grid import Absorbing, Axis, Grid, Periodic, Reflecting
from ornstein.calculus.pde.hjb import HJB, Control
from ornstein.calculus.pde.kolmogorov_backward import (
    KolmogorovBackward,
    committor,
    mean_first_passage,
)
from ornstein.calculus.pde.uniformisation import Uniformisation
from ornstein.core.mcmc.geometric_path import Annealed
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
)
from ornstein.core.methods import exponential_weights as weights
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.paths.losses import (
    log_variance,
    reverse_kl,
    score_function,
    sub_trajectory,
    trajectory_balance,
)
from ornstein.core.paths.measure import (
    PathMeasure,
    Start,
    annealed_paths,
    denoising_paths,
    kinetic_paths,
    langevin_paths,
    log_weights,
)
from ornstein.core.paths.particles import resampled, twist
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.schedules import (
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
from ornstein.core.processes.sde import SDE, Langevin, Reverse
from ornstein.core.random import BrownianPath, Correlated, Pinned, foster_area, stochastic_area
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import (
    Evaluations,
    KernelKL,
    LogWeight,
    Step,
    Trajectory,
    simulate,
)
from ornstein.core.solve.checkpointed import Checkpointed
from ornstein.core.solve.error_estimate import Discretisation
from ornstein.core.solve.exact import sample_exact
from ornstein.core.solve.first_passage import FirstPassage
from ornstein.core.solve.reversible import Reversible
from ornstein.core.solve.solve import solve
from ornstein.core.timesteps import clock, spacing
from ornstein.density.as_density import as_density
from ornstein.density.constraints import supports
from ornstein.density.density import Density
from ornstein.density.expectations import Average, Particles
from ornstein.density.interop.jax import from_jax
from ornstein.density.interop.numpy import from_numpy
from ornstein.density.interop.numpyro import from_numpyro
from ornstein.density.interop.pymc import from_pymc
from ornstein.density.interop.stan import from_stan
from ornstein.density.learned.weighted_draws import Draws, resampled_draws, weighted_draws
from ornstein.density.log_z import LogZ, disagreement, log_z
from ornstein.density.result import DensityResult, Stage
from ornstein.density.sample_density import Budget, sample_density
from ornstein.inference.diffusion_model import DiffusionModel, load
from ornstein.inference.likelihood import trace as divergence
from ornstein.inference.likelihood.continuous_elbo import Proposal, continuous_elbo
from ornstein.inference.likelihood.dequantise import (
    Bits,
    Noised,
    Truncated,
    Uniform,
    log_probability,
)
from ornstein.inference.likelihood.elbo import Bound, elbo
from ornstein.inference.likelihood.probability_flow import LogLikelihood, log_likelihood
from ornstein.inference.likelihood.terminal import Terminal
from ornstein.inference.likelihood.two_sided import Bracket, bracket
from ornstein.inference.sampling.sample import Sampler, sample
from ornstein.inference.sampling.tune import Tuned, tune
from ornstein.models.analytic_networks import Anchored, Factored
from ornstein.models.codecs.affine import Codec, Levels
from ornstein.models.codecs.triangular import Bend
from ornstein.models.denoiser import Denoiser, Parametrisation, edm, eps, score, v, x0
from ornstein.models.guidance.classifier_free import guide
from ornstein.nets.mlp import MLP
from ornstein.nets.unet import UNet
from ornstein.reference import metrics, targets
from ornstein.training.calibrate import calibrate
from ornstein.training.denoising import (
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
from ornstein.training.fit import fit
from ornstein.training.learned_noise_levels import MonotoneLogSNR, Schedule
from ornstein.training.loop import Training, train
from ornstein.training.path_objectives import PathLoss, Replay, ScoreRegression
from ornstein.training.recipes import Recipe

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
    "sample_exact",
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
