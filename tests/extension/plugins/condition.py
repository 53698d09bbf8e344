"""A condition of a user: an angle in degrees, which enters the network on the circle."""

from dataclasses import dataclass

import torch
from torch import nn

import ornstein as orn


@orn.register
@dataclass(frozen=True)
class Angle(orn.conditions.Condition):
    """Degrees; NaN stands for "not given"."""

    def null(self):
        return torch.tensor(torch.nan)

    def collate(self, values):
        return torch.as_tensor(values, dtype=torch.float32)

    def embedding(self, width):
        return Circle(width)


class Circle(nn.Module):
    """``[cos, sin, given]`` to features."""

    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(3, width)

    def forward(self, degrees):
        given = ~degrees.isnan()
        radians = torch.deg2rad(degrees.nan_to_num())
        point = torch.stack([radians.cos(), radians.sin(), torch.ones_like(radians)], 1)
        return self.layer(point * given[:, None])
