"""Turn a fitted proposal into diffusion models that are exact for it and need no training.

Exploration and tempering end with a normalised proposal: a mixture of Gaussians, a triangular map
of a product, or both. The denoiser of such a law is known in closed form, and it is the starting
point of `ornstein.density.learned.train`. The kernels of a diffusion are products over coordinates,
and so is the standard deviation of a posterior. A law is therefore expressed in coordinates in
which it is, or its components are, as close to round as possible: whitened, mapped to the base law
by a triangular map, or with the mean covariance W of a mixture's components made a multiple of I,

    x = m + c W^(1/2) z.                                                                         (1)
"""

__all__ = ["analytic_models"]

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.processes.schedules import VP
from ornstein.density.proposals.mixture import DefensiveMixture, Mixture
from ornstein.density.proposals.triangular import Product, Triangular, fit_triangular
from ornstein.density.smc.particles import StartLaw
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.models.analytic_networks import MixtureNetwork, ProductNetwork
from ornstein.models.codecs.affine import Codec
from ornstein.models.denoiser import Denoiser
from ornstein.models.parametrisations import edm

_MAP_PARTICLES = 8192  # largest number of particles to which a triangular map is fitted
_MIXTURE_NUMBERS = 2e5  # largest number of entries in the axes of all components of a mixture
_MOMENT_PARTICLES = 10  # particles per dimension that a covariance needs
_SMALLEST_VARIANCE = 1e-8  # smallest relative variance of a component: the log is in float32


def analytic_models(law: StartLaw, x: Tensor) -> Iterator[DiffusionModel]:
    """Yield models that are exact for parts of a law, each in coordinates that suit the part.

    They are: the mixture of Gaussians among its parts, in coordinates where components are round on
    average; the product behind its triangular part; and N(0, I), for particles that are mapped to
    it by a newly fitted triangular map, or whitened by their moments.

    Args:
        law: a fitted proposal, normalised.
        x: particles of the target, ``(n, d)``, float64.
    """
    d = x.shape[1]
    parts = law.laws if isinstance(law, DefensiveMixture) else (law,)
    normal = _normal(parts, x)
    for part in parts:
        if (
            isinstance(part, Mixture)
            and 1 < len(part.weights) <= _MIXTURE_NUMBERS / d**2
            and (gaussian := part.gaussian()) is not None
        ):
            codec = _round_coordinates(gaussian, normal)
            yield _model(codec, _mixture_network(gaussian, codec))
    for part in [part for part in parts if isinstance(part, Triangular)][:1]:
        yield _model(part.codec, _product_network(part.base))
        refitted = fit_triangular(x[:_MAP_PARTICLES], part.codec.order)
        yield _model(refitted.codec, ProductNetwork(d))
    yield _model(Codec(normal.mean, normal.factor), ProductNetwork(d))


def _model(codec: Codec, net: ProductNetwork | MixtureNetwork) -> DiffusionModel:
    """Make a `DiffusionModel` of an analytic network, in the coordinates of a codec."""
    denoiser = Denoiser(net, VP(), edm, 1.0, (net.event,))
    return DiffusionModel(denoiser.eval(), codec, info={"learned_from": "density"})


def _normal(parts: Sequence[StartLaw], x: Tensor) -> Normal:
    """Return the Gaussian that has the mean and covariance of the particles.

    Where the particles are too few, the heaviest Gaussian component of the proposal stands in.
    """
    if len(x) < _MOMENT_PARTICLES * x.shape[1]:
        for part in parts:
            if isinstance(part, Mixture) and (gaussian := part.gaussian()) is not None:
                k = int(gaussian.weights.argmax())
                return Normal(gaussian.means[k], gaussian.factors[k])
    return Normal.fit(x)


def _round_coordinates(mixture: Mixture, whole: Normal) -> Codec:
    """Return an affine map (1) after which a mixture's components are round on average.

    In these coordinates the whole distribution has mean variance 1.
    """
    weights = mixture.weights / mixture.weights.sum()
    within = torch.einsum("k,kij,klj->il", weights, mixture.factors, mixture.factors)
    factor = torch.linalg.cholesky(within)
    relative = torch.linalg.solve_triangular(factor, whole.factor, upper=False)
    variance = relative.square().sum() / len(factor)
    return Codec(whole.mean, factor * variance.sqrt())  # (1)


def _product_network(product: Product) -> ProductNetwork:
    """Return the network that is exact for independent coordinates with Gaussian mixtures."""
    d, k = product.means.shape
    parts = (product.weights, product.means, product.stds.square())
    weights, means, variances = (part.mT.float() for part in parts)
    return ProductNetwork(d, k, product=(weights, means, variances))


def _mixture_network(mixture: Mixture, codec: Codec) -> MixtureNetwork:
    """Return the network that is exact for a mixture in the coordinates of an affine codec."""
    factors = torch.linalg.solve_triangular(codec.factor, mixture.factors, upper=False)
    variances, axes = torch.linalg.eigh(factors @ factors.mT)
    parts = (
        (mixture.weights / mixture.weights.sum()).float(),
        codec.encode(mixture.means).float(),
        variances.clamp(min=_SMALLEST_VARIANCE).float(),
        axes.float(),
    )
    k, d = mixture.means.shape
    return MixtureNetwork(d, k, mixture=parts)
