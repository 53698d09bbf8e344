"""What a start law knows, as a model that needs no training: exact posteriors in coordinates that
suit them.

The kernels of a diffusion are products over coordinates, and so is the standard deviation of a
posterior. A law is therefore seen in coordinates in which it is, or its components are, as round as
can be: whitened, straightened by a triangular map, or with the mean covariance W of a mixture's
components made a multiple of I, ``x = m + c W^(1/2) z``.
"""

__all__ = ["untrained"]

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ornstein.core.numerics.multivariate_normal import Normal
from ornstein.core.processes.schedules import VP
from ornstein.density.proposals.mixture import DefensiveMixture, Mixture
from ornstein.density.proposals.triangular import Product, Triangular, fit_triangular
from ornstein.density.smc.tempered_smc import StartLaw
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.models.analytic_networks import MixtureNetwork, ProductNetwork
from ornstein.models.codecs.affine import Codec
from ornstein.models.denoiser import Denoiser
from ornstein.models.parametrisations import edm

_FITTED = 8192  # particles to which a map is fitted, at most
_ANCHORS = 2e5  # numbers in the axes of a mixture, at most


def untrained(law: StartLaw, x: Tensor) -> Iterator[DiffusionModel]:
    """Models that know what a start law knows, without a network: each the exact posterior of a law
    of z.

    That is the Gaussian components of its mixture, made round; the coordinates of its triangular
    part; and N(0, I), for particles x ``(n, d)``, float64, straightened by a map like that, or
    whitened by their moments.
    """
    d, parts = x.shape[1], law.laws if isinstance(law, DefensiveMixture) else (law,)
    normal = _normal(parts, x)
    for part in parts:
        if (
            isinstance(part, Mixture)
            and 1 < len(part.weights) <= _ANCHORS / d**2
            and (gaussian := part.gaussian()) is not None
        ):
            codec = _round(gaussian, normal)
            yield _model(codec, _anchored(gaussian, codec))
    for part in [part for part in parts if isinstance(part, Triangular)][:1]:
        yield _model(part.bend, _factored(part.base))
        yield _model(fit_triangular(x[:_FITTED], part.bend.order).bend, ProductNetwork(d))
    yield _model(Codec(normal.mean, normal.factor), ProductNetwork(d))


def _model(codec: Codec, net: ProductNetwork | MixtureNetwork) -> DiffusionModel:
    denoiser = Denoiser(net, VP(), edm, 1.0, (net.event,))
    return DiffusionModel(denoiser.eval(), codec, info={"learned_from": "density"})


def _normal(parts: Sequence[StartLaw], x: Tensor) -> Normal:
    """The Gaussian with the moments of the particles; where these are too few, the heaviest
    Gaussian component of the law."""
    if len(x) < 10 * x.shape[1]:
        for part in parts:
            if isinstance(part, Mixture) and (gaussian := part.gaussian()) is not None:
                k = int(gaussian.weights.argmax())
                return Normal(gaussian.means[k], gaussian.factors[k])
    return Normal.fit(x)


def _round(mixture: Mixture, whole: Normal) -> Codec:
    """Coordinates in which the components are round on average, since the kernels are, and the
    whole of mean variance 1."""
    share = mixture.weights / mixture.weights.sum()
    factor = torch.linalg.cholesky(
        torch.einsum("k,kij,klj->il", share, mixture.factors, mixture.factors)
    )
    reach = torch.linalg.solve_triangular(factor, whole.factor, upper=False).square().sum() / len(
        factor
    )
    return Codec(whole.mean, factor * reach.sqrt())


def _factored(product: Product) -> ProductNetwork:
    """The network on a product."""
    d, k = product.means.shape
    return ProductNetwork(
        d,
        k,
        product=(
            product.weights.mT.float(),
            product.means.mT.float(),
            product.stds.mT.square().float(),
        ),
    )


def _anchored(mixture: Mixture, codec: Codec) -> MixtureNetwork:
    """The network on a mixture, seen in the coordinates of an affine codec."""
    factors = torch.linalg.solve_triangular(codec.factor, mixture.factors, upper=False)
    variances, axes = torch.linalg.eigh(factors @ factors.mT)
    parts = (
        mixture.weights / mixture.weights.sum(),
        codec.encode(mixture.means),
        variances.clamp(min=1e-8),
        axes,
    )
    k, d = mixture.means.shape
    return MixtureNetwork(
        d, k, mixture=(parts[0].float(), parts[1].float(), parts[2].float(), parts[3].float())
    )
