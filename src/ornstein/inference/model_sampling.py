"""Sampling from a diffusion model: batches with conditions, decoded to the user's space."""

__all__ = ["SamplingModel"]

from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from ornstein.core.numerics.checks import require_finite, require_integers
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.method import Method
from ornstein.core.timesteps.spacing import Spacing, as_spacing
from ornstein.errors import OrnsteinError
from ornstein.inference.bound_model import BoundModel, Given, Labels
from ornstein.inference.sampling.sample import (
    STEP_TEST_SAMPLES,
    sample,
    start_states,
    steps_for,
)
from ornstein.inference.sampling.samplers import Sampler, sampler
from ornstein.inference.sampling.tune import tune

_Model = TypeVar("_Model", bound="SamplingModel")


class SamplingModel(BoundModel):
    """The part of a `DiffusionModel` that draws samples and fits samplers."""

    def sample(
        self,
        n: int,
        steps: int | Literal["auto"] = 20,
        method: str | Method | Sampler = "auto",
        seed: int = 0,
        label: Labels = None,
        guidance: float | None = None,
        eta: float | None = None,
        spacing: Spacing | str | None = None,
        batch: int = 1024,
        tol: float | None = None,
        conditions: Given = None,
    ) -> Tensor:
        """Draw n samples in the user's units and layout, ``(n, *event)``.

        Args:
            n: number of samples.
            steps, method, eta, spacing: see `ornstein.sample`; "auto" is the sampler tuned for so
                many steps if there is one.
            seed: sample i depends on the seed and i alone.
            label: a class for all, or one per sample.
            guidance: scale of classifier-free guidance; 1 or None is none.
            batch: samples at a time.
            tol: with ``steps="auto"``, the error allowed: root mean square per element, in units of
                the data's standard deviation.
            conditions: values of conditions by name, for all or one per sample.
        """
        require_integers(1, n=n, batch=batch)
        if steps != "auto":
            require_integers(1, steps=steps)
        if guidance is not None:
            require_finite(guidance=guidance)
        if spacing is not None:
            spacing = as_spacing(spacing)
        if method == "auto" and steps in self.tuned and eta is None and spacing is None:
            method = self.tuned[steps]
        if (steps == "auto") != (tol is not None):
            raise OrnsteinError(
                f"steps={steps!r} with tol={tol}: a tolerance and steps='auto' go together"
            )
        cond = self.conditions(label, conditions)
        noise = Noise(seed)
        parts = []
        cond.rows(n)  # refuses another number of rows
        with torch.no_grad():
            if tol is not None:
                base_sampler = sampler(method, self.denoiser)
                eta = base_sampler.eta if eta is None else eta
                spacing_function = base_sampler.spacing if spacing is None else as_spacing(spacing)
                method = replace(base_sampler, spacing=spacing_function, eta=eta)
                test_posterior = self.bind(cond.cycle(STEP_TEST_SAMPLES), guidance)
                own = noise.fold(STEP_TEST_SAMPLES)
                start = start_states(test_posterior, STEP_TEST_SAMPLES, None, own)
                steps = steps_for(test_posterior, tol * self.denoiser.data_std, method, start).steps
            for first in range(0, n, batch):
                size = min(batch, n - first)
                posterior = self.bind(cond.take(slice(first, first + size)), guidance)
                own = noise.shift(first)
                z = sample(posterior, size, steps, method, own, eta=eta, spacing=spacing)
                parts.append(self.codec.decode(z))
        return torch.cat(parts)

    def tune(
        self: _Model,
        steps: int = 10,
        label: int | None = None,
        guidance: float | None = None,
        conditions: Given = None,
        **options: Any,
    ) -> _Model:
        """Return this model with a sampler fitted for a number of steps.

        Sampling with ``method="auto"`` then uses the fitted sampler.

        Args:
            steps: number of steps to tune for.
            label: the class to fit it on, by default the unconditional model.
            guidance: scale of classifier-free guidance to fit under.
            conditions: values of conditions by name.
            options: of `ornstein.tune`: seed, n, iterations, seconds, order, callback.

        Returns:
            A model that shares the denoiser: ``model.tuned[steps].error`` against ``.before`` says
            what was gained.
        """
        sampler = tune(self.posterior(label, guidance, conditions), steps, **options)
        return replace(self, tuned={**self.tuned, steps: sampler})
