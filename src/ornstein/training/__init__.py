"""Learn a posterior from data: objectives, noise levels, recipes and the training loop."""

__all__ = [
    "RECIPES",
    "DataKind",
    "DenoisingObjective",
    "LearnedNoiseLevels",
    "PathObjective",
    "Recipe",
    "ReplayBuffer",
    "Samples",
    "TargetScoreMatching",
    "TrainingConfig",
    "calibrate",
    "denoising_loss",
    "edm_weight",
    "fit",
    "likelihood_weight",
    "min_snr",
    "noise_levels",
    "snr_weight",
    "train",
    "unit_weight",
]

from ornstein.training import noise_levels
from ornstein.training.calibrate import calibrate
from ornstein.training.datasets import DataKind, Samples
from ornstein.training.denoising import (
    DenoisingObjective,
    denoising_loss,
    edm_weight,
    likelihood_weight,
    min_snr,
    snr_weight,
    unit_weight,
)
from ornstein.training.fit import fit
from ornstein.training.learned_noise_levels import LearnedNoiseLevels
from ornstein.training.loop import TrainingConfig, train
from ornstein.training.path_objectives import PathObjective, ReplayBuffer, TargetScoreMatching
from ornstein.training.recipes import RECIPES, Recipe
