"""Likelihoods of a diffusion model: batches with conditions, in the user's units.

The probability flow and the evidence bound are those of `ornstein.inference.likelihood` in the
model's space; the codec adds the volume of its map,

    log p(x) = log p(z) - log |det dx/dz|.
"""

__all__ = ["LikelihoodModel"]

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ornstein.core.numerics.checks import require_integers
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.random.noise import Noise
from ornstein.core.timesteps.spacing import Spacing
from ornstein.errors import OrnsteinError
from ornstein.inference.bound_model import BoundModel, Given, Labels
from ornstein.inference.likelihood.dequantise import DiscreteLogProb, Noised, discrete_log_prob
from ornstein.inference.likelihood.elbo import Bound, elbo
from ornstein.inference.likelihood.probability_flow import LogLikelihood, log_likelihood
from ornstein.inference.likelihood.trace import Divergence
from ornstein.models.conditions import Conditions, Label


class LikelihoodModel(BoundModel):
    """The part of a `DiffusionModel` that computes likelihoods and bounds on them."""

    @renamed_arguments(report="callback")
    def log_likelihood(
        self,
        x: Tensor | np.ndarray,
        tol: float = 1e-4,
        divergence: Divergence | None = None,
        seed: int = 0,
        refine: bool = True,
        label: Labels = None,
        batch: int = 256,
        callback: Callable[[int], None] | None = None,
        conditions: Given = None,
    ) -> LogLikelihood:
        """Compute ``log p(x)`` of the probability flow in nats, each sample with its error.

        It is a density in the user's units. For quantised data too it is a density, at the points
        themselves, and no probability of a level: a model that has learned the levels well is large
        there and small between them, without limit.

        Args:
            x: samples as the user has them.
            tol, divergence, refine: see `ornstein.log_likelihood`.
            seed: of the probes; sample i has its own, which depend on its place among those with
                its conditions.
            label: a class for all, or one per sample, for the conditional likelihood.
            batch: samples at a time. A batch shares its steps: sample i changes with it by about
                its error.
            callback: called after each batch with the number of samples that are done.
            conditions: values of conditions by name, for all or one per sample. Samples of
                different values do not share their steps.

        Returns:
            The parts of all batches: ``evaluations`` and ``passes`` their largest, ``prior_gap``
            the mean over samples, ``x_T`` in the model's space.
        """
        require_integers(1, batch=batch)
        z = self.encode(x)
        parts = []
        places = []
        done = 0
        for group, place in self.conditions(label, conditions).groups(len(z)):
            posterior, noise = self.bind(group), _probes(Noise(seed), group)
            for first in range(0, len(place), batch):
                rows = place[first : first + batch]
                own = noise.shift(first)
                parts.append(log_likelihood(posterior, z[rows], tol, divergence, own, refine))
                places.append(rows)
                done += len(rows)
                if callback is not None:
                    callback(done)
        joined = LogLikelihood.joined(parts, torch.cat(places).argsort())
        return joined.shifted(-self.codec.log_det(z))

    def elbo(
        self,
        x: Tensor | np.ndarray,
        steps: int = 100,
        seed: int | Noise = 0,
        repeats: int = 2,
        label: Labels = None,
        spacing: Spacing | str | None = None,
        conditions: Given = None,
    ) -> Bound:
        """Compute a lower bound on ``log p(x)`` in nats, each sample with its error.

        The bound is on the discrete probability for quantised data, else on the density.

        Args:
            x: samples as the user has them.
            steps, repeats, seed, spacing: see `ornstein.elbo`.
            label: a class for all, or one per sample, for the conditional likelihood.
            conditions: values of conditions by name, for all or one per sample.
        """
        z, posterior = self.encode(x), self.posterior(label, None, conditions)
        bound = elbo(posterior, z, steps, seed, repeats, self.levels, spacing=spacing)
        if self.codec.levels is not None:
            return bound
        log_det = self.codec.log_det(z)
        return replace(bound.shifted(-log_det), reconstruction=bound.reconstruction + log_det)

    def discrete_log_prob(
        self,
        x: Tensor | np.ndarray,
        tol: float = 1e-3,
        divergence: Divergence | None = None,
        draws: int = 1,
        seed: int = 0,
        label: int | None = None,
        part: float = 1 / 3,
        conditions: Given = None,
    ) -> DiscreteLogProb:
        """Compute ``log P(x)`` of quantised data by the probability flow, in nats.

        It is comparable with `elbo`, where `log_likelihood` is a density.

        Args:
            x: samples as the user has them, with values that are levels.
            tol, divergence: see `ornstein.log_likelihood`.
            draws: of the small noise that separates the levels, see `dequantise.Noised`.
            seed: of that noise and of the probes.
            label: a class for all samples, for the conditional probability.
            part: that noise in units of the distance of levels.
            conditions: values of conditions by name, for all samples.

        Raises:
            OrnsteinError: for a model of data that are not quantised, or values that are no levels.
        """
        if self.levels is None:
            raise OrnsteinError(
                "discrete_log_prob of a model whose data are not quantised: its density is"
                " log_likelihood(x)"
            )
        posterior = self.posterior(label, None, conditions)
        t = Noised.time(self.denoiser.sde, self.levels, part)

        def density(x_t: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
            flow = log_likelihood(posterior, x_t, tol, divergence, noise, at=t)
            return flow.value, flow.error

        return discrete_log_prob(
            density, self.encode(x), self.levels, Noised(posterior, t), draws, seed
        )


def _probes(noise: Noise, cond: Conditions) -> Noise:
    """Return the random numbers of the divergence for samples with the same conditions."""
    if not cond:
        return noise
    if set(cond) == {"label"} and isinstance(cond.kinds["label"], Label):
        return noise.fold(int(cond["label"]))
    return noise.fold(*(f"{name}={value.tolist()}" for name, value in sorted(cond.items())))
