"""The data of which everything is known, and the grid that holds them at all times."""

__all__ = ["GAUSSIAN", "GRID", "TWO_MODES"]

import torch

from ornstein.calculus.pde.grid import Axis, Grid
from ornstein.reference.targets.mixtures import GaussianMixture, Normal

TWO_MODES = GaussianMixture(
    torch.tensor([[-1.0], [1.2]]), torch.tensor([[0.4], [0.5]]), torch.tensor([0.4, 0.6])
)
"""Two Gaussians, the usual data."""
GAUSSIAN = Normal(torch.tensor([0.0]), torch.tensor([0.6]))
"""One Gaussian, for which every step is exact."""
GRID = Grid(Axis(-6, 6, 400))
"""Cells of width 0.03."""
