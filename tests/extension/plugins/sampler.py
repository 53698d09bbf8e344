"""Samplers of a user: a subclass of a method, and a method written out."""

from dataclasses import dataclass

import ornstein as orn


@dataclass(frozen=True)
class MyEuler(orn.EulerMaruyama):
    """Euler and Maruyama's method under another name."""


@dataclass(frozen=True)
class Implied(orn.simulation.Method):
    """The step of DDIM: the posterior mean is the clean point, the rest is the noise."""

    order = 1

    def noisy(self, sde):
        return False

    def step(self, sde, x, t, s, stream, memory):
        process, mean = sde.process, sde.posterior(x, t).mean
        noise = (x - process.alpha(t) * mean) / process.sigma(t)
        return orn.simulation.Step((process.alpha(s) * mean + process.sigma(s) * noise).to(x.dtype))


def draw(folder, n, steps):
    """Samples of the model in a run folder by the method that is written out."""
    return orn.load(folder).sample(n, steps, Implied(), eta=0.0)
