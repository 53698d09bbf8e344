"""Sample from an unnormalised log-density, and estimate its normalising constant Z.

`sample_density` runs the stages of a call from top to bottom:

1. explore the density and choose a strategy (`ornstein.density.smc.strategy`): a fitted proposal,
   and temperatures if its own draws are not good enough; check the density itself;
2. temper: draw particles by sequential Monte Carlo, or importance-sample the proposal directly, in
   independent runs of the frozen strategy, for a first estimate of log Z;
3. learn a diffusion: take the analytic model of the proposal, or train a network on the particles
   (`ornstein.density.learned.train`), and freeze it;
4. importance-sample with the diffusion (`ornstein.density.learned.importance`), for a second
   estimate of log Z;
5. combine the two estimates and the two sets of particles;
6. diagnose: search for mass that the diffusion misses, and list what speaks against the numbers.

Both estimates have E[w] = Z exactly, whatever the stages before did; each has fresh random numbers.
"""

__all__ = ["Budget", "sample_density"]

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.core.numerics.checks import require_integers
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.random.noise import Noise
from ornstein.core.random.weighted_sample import WeightedSample, resample
from ornstein.density.as_density import as_density
from ornstein.density.consistency import fuse
from ornstein.density.diagnostics import DensityWarning, density_diagnostics, run_diagnostics
from ornstein.density.expectations import log_size_weights
from ornstein.density.learned.coverage import search_missing_mass
from ornstein.density.learned.importance import (
    GOOD_FRACTION,
    DiffusionEstimate,
    PulledBackDensity,
    importance_sample,
)
from ornstein.density.learned.train import analytic_model, choose_path_steps, learn_diffusion
from ornstein.density.log_z import LogZ
from ornstein.density.options import Budget, Options, Run
from ornstein.density.result import DensityResult, Progress
from ornstein.density.smc.particles import SMCSample
from ornstein.density.smc.strategy import EVALUATIONS, MIN_RUNS, SamplingStrategy, choose_strategy
from ornstein.errors import OrnsteinError
from ornstein.inference.diffusion_model import DiffusionModel

_NO_LIMIT = Budget()
_CHECKED_PARTICLES = 512  # particles from which the density itself is checked
_HELD_OUT_PART = 8  # one particle in so many, from the last runs, is not used for training
_TRAINING_PARTICLES = 16384  # largest number of particles to train on
_HELD_OUT_PARTICLES = 1024  # largest number of particles that are not used for training
_PARTICLE_BUDGET = 0.5  # fraction of the remaining budget for the particles of stage 2
_TRAINING_BUDGET = 0.6  # fraction of the seconds that remain then, for the training
_STRATEGY = 1  # keys of independent noise
_TEMPERING = 2
_LEARNING = 3
_DIFFUSION = 4
_SAMPLES = 6
_PROBE = 7
_CHECKED, _CHECKS = 8, 9
_TRAINING_SET, _ANALYTIC, _PATH_STEPS, _NETWORK, _HELD_OUT_SET = 0, 1, 2, 3, 5  # of _LEARNING


@renamed_arguments(what="log_prob", steps="training_steps", report="callback")
def sample_density(
    log_prob: Any,
    dim: int | None = None,
    seed: int | Noise = 0,
    n: int = 8192,
    stderr: float = 0.004,
    particles: int | None = None,
    training_steps: int = 300,
    start_mean: float | Tensor = 0.0,
    start_std: float | None = None,
    budget: Budget | float = _NO_LIMIT,
    callback: Callable[[Progress], None] | None = None,
) -> DensityResult:
    """Draw samples of an unnormalised density, and estimate the log of its integral, log Z.

    Args:
        log_prob: a log-density ``(b, d) -> (b,)`` or ``(d,) -> ()`` on tensors, differentiable, in
            nats, -inf outside the support; or a `Density`, a target, a distribution, a model: see
            `as_density`.
        dim: d, for a callable.
        seed: of everything random.
        n: samples to return, at least 32. The reported numbers come from as many particles, or what
            the budget allows, and as many paths of the diffusion.
        stderr: standard error of log Z to aim at, nats; more particles are taken for it, up to two
            million evaluations or the budget.
        particles: of the exploration, at least 20; None: 4096 or more, by the dimension.
        training_steps: optimiser steps of the diffusion, at most.
        start_mean: where the density roughly lies, a number or ``(d,)``.
        start_std: how far it reaches from there; None searches for the scale.
        budget: what to spend, roughly; a number is seconds.
        callback: called with a `Progress` after every stage, and during training.

    Raises:
        OrnsteinError: if ``log_prob`` returns the wrong shape, is -inf everywhere the exploration
            looks, or has infinite mass; or if an argument is out of range.

    Example:
        >>> r = orn.sample_density(
        ...     lambda x: -x.square().sum(1) / 2, dim=2, n=64, particles=64, stderr=0.1
        ... )
        >>> r.samples.shape
        torch.Size([64, 2])
    """
    if dim is not None:
        require_integers(1, dim=dim)
    with torch.inference_mode(False), torch.enable_grad():
        options = Options.checked(
            n, stderr, particles, training_steps, start_mean, start_std, budget
        )
        run = Run(as_density(log_prob, dim), options, Noise.of(seed), callback)
        strategy = _choose_strategy(run)
        warnings = _check_density(run, strategy)
        tempered = _temper(run, strategy)
        diffusion = _learn_diffusion(run, strategy, tempered)
        estimate = _importance_sample(run, strategy, diffusion)
        log_z, particles_behind = _combine(strategy, tempered, diffusion, estimate)
        diffusion_log_z = estimate.log_z if estimate.log_z.ess else log_z
        coverage = search_missing_mass(
            diffusion.model,
            diffusion.density,
            diffusion_log_z.value,
            diffusion.held_out,
            run.noise.fold(_PROBE),
        )
        warnings += run_diagnostics(
            log_z, tempered.log_z, estimate, n, run.target, coverage, diffusion.model.codec
        )
        samples = _draw_samples(particles_behind, n, run.noise.fold(_SAMPLES))
        return DensityResult(
            samples=samples,
            parameters=run.density.constrain(samples),
            log_z_estimate=replace(log_z, elbo=estimate.log_z.elbo, cost=run.target.values),
            eubo=estimate.upper_bound,
            k_hat=estimate.k_hat,
            cess=tempered.cess,
            acceptance=tempered.acceptance,
            gradients=run.target.gradients,
            seconds=time.monotonic() - run.start,
            warnings=warnings,
            sampler=diffusion.model,
            estimates={"tempering": tempered.log_z, "diffusion": estimate.log_z},
            fused=estimate.good,
            coverage=coverage,
            density=run.density,
            particles=particles_behind,
        )


class _Diffusion(NamedTuple):
    """A frozen diffusion model of the density, with particles that did not train the model.

    Attributes:
        model: the model.
        density: the log-density in the coordinates of the model.
        held_out: equally weighted particles there, ``(m, d)``, on which it was not trained.
    """

    model: DiffusionModel
    density: PulledBackDensity
    held_out: Tensor


def _choose_strategy(run: Run) -> SamplingStrategy:
    """Stage 1: explore the density, and choose a proposal and, if needed, temperatures."""
    options = run.options
    strategy = choose_strategy(
        run.target,
        run.density.dim,
        run.noise.fold(_STRATEGY),
        options.particles,
        options.start_mean,
        options.start_std,
    )
    run.report("planned", strategy.sample.log_z)
    return strategy


def _check_density(run: Run, strategy: SamplingStrategy) -> list[DensityWarning]:
    """Look for defects of the density itself, and raise if its mass is infinite."""
    x = strategy.sample.resample(_CHECKED_PARTICLES, run.noise.fold(_CHECKED))
    warnings = density_diagnostics(run.target, x, run.noise.fold(_CHECKS))
    for warning in warnings:
        if warning.code == "improper":
            raise OrnsteinError(
                f"the density has infinite mass, as far as it was followed: {warning.message}"
            )
    return warnings


def _temper(run: Run, strategy: SamplingStrategy) -> SMCSample:
    """Stage 2: independent runs of the frozen strategy, tempered or direct."""
    options = run.options
    spent = run.target.values
    seconds_per_evaluation = (time.monotonic() - run.start) / max(spent, 1)
    affordable = min(
        EVALUATIONS,
        _PARTICLE_BUDGET * (options.budget.evaluations - spent),
        _PARTICLE_BUDGET * run.seconds_left() / max(seconds_per_evaluation, 1e-9),
    )
    min_count = max(2 * MIN_RUNS, int(min(options.n, affordable / strategy.cost)))
    count = strategy.particles(options.stderr, min_count, affordable)
    tempered = strategy.run(run.target, count, run.noise.fold(_TEMPERING))
    run.report("tempered", tempered.log_z)
    return tempered


def _learn_diffusion(run: Run, strategy: SamplingStrategy, tempered: SMCSample) -> _Diffusion:
    """Stage 3: the analytic model of the proposal, or a network trained on the particles."""
    noise = run.noise.fold(_LEARNING)
    seconds = _TRAINING_BUDGET * run.seconds_left()
    count = min(max(int(tempered.log_z.ess), 64), _TRAINING_PARTICLES)
    split = len(tempered.x) - len(tempered.x) // _HELD_OUT_PART
    x = _equal_particles(tempered, slice(split), count, noise.fold(_TRAINING_SET))
    held_out = _equal_particles(
        tempered,
        slice(split, None),
        min(_HELD_OUT_PARTICLES, count // _HELD_OUT_PART),
        noise.fold(_HELD_OUT_SET),
    )
    model, ess_fraction = analytic_model(strategy.law, run.target, x, noise.fold(_ANALYTIC))
    density = PulledBackDensity(run.target, model.codec)
    z, scores = density.pull(x)
    if ess_fraction < GOOD_FRACTION:
        model = learn_diffusion(
            model,
            density,
            z,
            scores,
            run.options.training_steps,
            seconds,
            noise.fold(_NETWORK),
            lambda step: run.report("learning", tempered.log_z, step),
        )
    choose_path_steps(model, density, noise.fold(_PATH_STEPS))
    return _Diffusion(model, density, model.codec.encode(held_out).float())


def _importance_sample(
    run: Run, strategy: SamplingStrategy, diffusion: _Diffusion
) -> DiffusionEstimate:
    """Stage 4: fresh paths of the frozen diffusion with their importance weights."""
    estimate = importance_sample(
        diffusion.model,
        diffusion.density,
        diffusion.held_out,
        run.options.n,
        strategy.sample.log_z.value,
        run.noise.fold(_DIFFUSION),
    )
    run.report("importance-sampled", estimate.log_z)
    return estimate


def _combine(
    strategy: SamplingStrategy,
    tempered: SMCSample,
    diffusion: _Diffusion,
    estimate: DiffusionEstimate,
) -> tuple[LogZ, tuple[WeightedSample, ...]]:
    """Stage 5: combine the estimates of log Z, and collect the weighted particles for the samples.

    The diffusion takes part where its weights are trusted, by the precisions that were expected
    of both estimates before these were known.
    """
    if not estimate.good:
        return tempered.log_z, (tempered,)
    log_z = fuse(
        [tempered.log_z, estimate.log_z],
        [len(tempered) / max(strategy.variance, 1e-9), estimate.precision],
    )
    x = diffusion.model.codec.decode(estimate.paths.x)
    paths = WeightedSample(x, estimate.paths.log_w, MIN_RUNS)
    return replace(log_z, ess=tempered.log_z.ess + estimate.log_z.ess), (tempered, paths)


def _draw_samples(sets: tuple[WeightedSample, ...], n: int, noise: Noise) -> Tensor:
    """Draw n equally weighted samples from sets of particles, in proportion to effective size."""
    log_w = torch.cat([log_size_weights(particles) for particles in sets])
    return torch.cat([particles.x for particles in sets])[resample(log_w, n, noise)]


def _equal_particles(sample: WeightedSample, part: slice, n: int, noise: Noise) -> Tensor:
    """Resample n equally weighted particles of a part of a sample.

    A part without weight is replaced by the whole sample. Disjoint parts share no run.
    """
    x, log_w = sample.x[part], sample.log_w[part]
    if not bool(log_w.isfinite().any()):
        x, log_w = sample.x, sample.log_w
    return x[resample(log_w, n, noise)].double()
