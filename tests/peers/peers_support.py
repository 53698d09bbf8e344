"""What the tests against other libraries share: one exact model, the same random numbers, and
k-diffusion's samplers alone."""

import importlib
import importlib.util
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.processes.reverse import Posterior, Reverse
from ornstein.core.random.noise import Noise, NormalStream
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.method import Method, Step
from ornstein.reference.targets import GaussianMixture

F32, F64 = torch.float32, torch.float64


def model(sde: LinearSDE) -> Posterior:
    """The exact posterior of a mixture in three dimensions, at the scale of an image's pixels."""
    means = torch.tensor([[-1.0, 0.25, 0.4], [0.7, -0.7, -0.3], [0.5, 0.9, 0.1]], dtype=F64)
    stds = torch.tensor([[0.2, 0.4, 0.3], [0.3, 0.15, 0.5], [0.25, 0.25, 0.4]], dtype=F64)
    return GaussianMixture(means, stds, torch.tensor([0.3, 0.4, 0.3], dtype=F64)).posterior(sde)


def standard(dtype: torch.dtype) -> Tensor:
    """Start numbers ``(8, 3)``."""
    return Noise(1).normal((8, 3), F64).to(dtype)


@dataclass(frozen=True)
class Point:
    """A posterior taken for a point mass, as every library does that has no standard deviation."""

    posterior: Posterior

    @property
    def sde(self) -> LinearSDE:
        return self.posterior.sde

    def __call__(self, x: Tensor, t: Tensor | float) -> Gaussian:
        return Gaussian(self.posterior(x, t).mean, torch.zeros((), dtype=x.dtype))


@dataclass
class OneGenerator(NormalStream):
    """All draws from one generator, one after the other."""

    generator: torch.Generator = field(default_factory=torch.Generator)

    def _draw(self, fill: Any) -> Tensor:
        return fill(torch.empty(self.shape, dtype=self.dtype), generator=self.generator)


@dataclass(frozen=True)
class Drawn:
    """The numbers that ``torch.randn(x.shape)`` gives a peer whose generator has this seed."""

    seed: int = 0

    def fold(self, *keys: int) -> "Drawn":
        return self

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def stream_like(self, x: Tensor) -> NormalStream:
        return OneGenerator(tuple(x.shape), x.dtype, "cpu", Noise(0), generator=self.generator())


@dataclass(frozen=True)
class StartedBy:
    """A multistep method whose first step is replaced by that of another method, as PNDM starts."""

    rest: Method
    first: Method
    order: int = 1

    def noisy(self, sde: Any) -> bool:
        return self.rest.noisy(sde)

    def start(self, sde: Any, times: Tensor) -> Any:
        return 0, self.rest.start(sde, times)

    def step(
        self, sde: Reverse, x: Tensor, t: Tensor, s: Tensor, stream: NormalStream, memory: Any
    ) -> Step:
        index, inner = memory
        step = self.rest.step(sde, x, t, s, stream, inner)
        if index == 0:
            step = self.first.step(
                sde, x, t, s, stream, self.first.start(sde, torch.stack([t, s]))
            )._replace(memory=step.memory)
        return step._replace(memory=(index + 1, step.memory))


def levels(sde: LinearSDE, ratios: Tensor) -> Tensor:
    """Times at which ``sigma / alpha`` has these values."""
    return sde.time(-2 * ratios.double().log())


def ours(
    posterior: Posterior, x: Tensor, times: Tensor, method: Method, eta: float = 0.0
) -> Tensor:
    """A run with the numbers of a peer's generator."""
    return simulate(Reverse(posterior, eta), x, times, method, Drawn())


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the largest entry; infinite where it is no number."""
    gap = float((a.double() - b.double()).abs().max() / b.double().abs().max())
    return gap if gap == gap else float("inf")


def k_diffusion() -> Any:
    """Its module of samplers; the package itself imports torchvision and much else that no sampler
    needs."""
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("k-diffusion is not installed", allow_module_level=True)
    package, utils = ModuleType("k_diffusion"), ModuleType("k_diffusion.utils")
    package.__path__ = list(spec.submodule_search_locations)
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utils}
    return importlib.import_module("k_diffusion.sampling")
