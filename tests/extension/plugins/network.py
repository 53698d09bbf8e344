"""A network of a user, with a constructor's argument in ``config``."""

import torch
from torch import nn

import ornstein as orn


@orn.register
class Shallow(nn.Module):
    """Two layers on ``[x, c]``."""

    def __init__(self, dim, width=16):
        super().__init__()
        self.config = {"dim": dim, "width": width}
        self.layers = nn.Sequential(nn.Linear(dim + 1, width), nn.Tanh(), nn.Linear(width, dim))

    def forward(self, x, c, cond=None):
        return self.layers(torch.cat([x, c.expand(len(x))[:, None]], 1))


def make(event, conditions):
    """The network of an event shape, for a recipe."""
    return Shallow(event[0])
