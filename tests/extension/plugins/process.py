"""A linear process of a user: ``alpha = exp(-t^2)``, ``sigma^2 = 1 - alpha^2``."""

from dataclasses import dataclass

import torch

import ornstein as orn


@orn.register
@dataclass(frozen=True)
class Squared(orn.LinearSDE):
    """Noise that comes late."""

    rate: float = 3.0
    T: float = 1.0

    def log_alpha(self, t):
        return -self.rate * t**2

    def log_sigma(self, t):
        return torch.log(-torch.expm1(-2 * self.rate * t**2)) / 2
