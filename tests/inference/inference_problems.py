"""What the tests of inference share: a mixture, a model with random weights, and runs by hand."""

import torch

import ornstein as orn
from ornstein.inference.sampling.sample import start_states

F64 = torch.float64


def mixture(scale: float = 1.0) -> orn.targets.GaussianMixture:
    """Two Gaussians in the plane with different widths and weights."""
    means = torch.tensor([[-1.2, 0.5], [0.8, -0.4]], dtype=F64)
    stds = torch.tensor([[0.4, 0.7], [0.5, 0.3]], dtype=F64)
    return orn.targets.GaussianMixture(scale * means, scale * stds, torch.tensor([0.4, 0.6]))


def random_model(
    sde: orn.LinearSDE | None = None, data_std: float = 1.0, **options: int
) -> orn.DiffusionModel:
    """A model whose network has random weights, so that its samples depend on everything."""
    net = orn.MLP(2, 32, 2, **options).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    process = sde or orn.Cosine()
    denoiser = orn.Denoiser(net, process, orn.parametrisations.edm, data_std, (2,))
    codec = orn.codecs.Codec(torch.tensor([5.0, -2.0]), torch.tensor([2.0, 0.5]))
    return orn.DiffusionModel(denoiser, codec)


def starts(posterior, n: int, seed: int) -> torch.Tensor:
    """Start states in float64."""
    return start_states(posterior, n, None, orn.Noise(seed)).double()


def run(posterior, x_T: torch.Tensor, steps: int, sampler: orn.Sampler) -> torch.Tensor:
    """The samples of a sampler from given states."""
    times = posterior.sde.times(steps, sampler.spacing)
    return orn.simulate(orn.Reverse(posterior, 0.0), x_T, times, sampler.method)
