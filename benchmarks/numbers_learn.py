"""Calls that learn or judge: likelihoods, path measures, trained models and densities."""

import copy
from functools import lru_cache

import torch
from torch import Tensor

import ornstein as orn
from benchmarks.numbers_registry import F64, Numbers, call, mixture, plain_log_prob

LOG_Z = 1.3


def shifted_log_prob(x: Tensor) -> Tensor:
    """The log-density of the mixture with a known normaliser, whose logarithm is LOG_Z."""
    return mixture().log_prob(x) + LOG_Z


def bound_parts(name: str, bound: orn.Bound) -> Numbers:
    """The numbers of a bound on a log-likelihood."""
    parts = ("value", "stderr", "prior", "diffusion", "reconstruction", "evaluations")
    return {f"{name} {part}": getattr(bound, part) for part in parts}


def likelihood_parts(name: str, found: orn.LogLikelihood) -> Numbers:
    """The numbers of a log-likelihood by the flow."""
    parts = (
        "value", "stderr", "discretisation", "terminal", "prior_gap", "x_T", "evaluations", "passes"
    )  # fmt: skip
    return {f"{name} {part}": getattr(found, part) for part in parts}


@call("find log-likelihoods by the flow")
def flow() -> Numbers:
    """Integrate the density along the flow, with each rule for the divergence."""
    x = mixture().sample(8, seed=0)
    rules = {
        "Exact": orn.likelihood.trace.Exact(),
        "Hutchinson": orn.likelihood.trace.Hutchinson(2),
        "HutchPlusPlus": orn.likelihood.trace.HutchPlusPlus(2, 1),
    }
    found: Numbers = {}
    for name, rule in rules.items():
        posterior = mixture().posterior(orn.VP())
        got = orn.log_likelihood(posterior, x, tol=1e-3, divergence=rule)
        found.update(likelihood_parts(name, got))
    start = orn.likelihood.TerminalGaussian.prior(orn.VP(), 2, 1.5)
    plain = orn.log_likelihood(
        mixture().posterior(orn.VP()), x.double(), tol=1e-3, refine=False, start=start
    )
    return {**found, **likelihood_parts("from a prior", plain), "prior": start.log_prob(x)}


@call("bound log-likelihoods from below and above")
def bounds() -> Numbers:
    """Take the discrete and the continuous bound, and the bracket of both sides."""
    posterior = mixture().posterior(orn.VP())
    x = mixture().sample(16, seed=0)
    where = orn.likelihood.NoiseLevelProposal.fit(posterior, mixture().sample(64, seed=1))
    levels = orn.codecs.Levels(-8.0, 0.5, 33)
    both = orn.likelihood.two_sided_bound(posterior, x, steps=16, paths=8)
    found: Numbers = {
        **bound_parts("discrete", orn.elbo(posterior, x, steps=20)),
        **bound_parts("levels", orn.elbo(posterior, levels.nearest(x), steps=20, levels=levels)),
        **bound_parts(
            "continuous", orn.likelihood.continuous_elbo(posterior, x, draws=8, repeats=2)
        ),
        **bound_parts(
            "fitted", orn.likelihood.continuous_elbo(posterior, x, draws=8, proposal=where)
        ),
    }
    for part in ("lower", "middle", "upper", "lower_stderr", "upper_stderr", "ess"):
        found[f"bracket {part}"] = getattr(both, part)
    return found


@call("find probabilities of quantised data")
def quantised() -> Numbers:
    """Spread levels in three ways and ask a density for the mass of their cells."""
    posterior = mixture().posterior(orn.VP())
    levels = orn.codecs.Levels(-8.0, 0.5, 33)
    x = levels.nearest(mixture().sample(8, seed=0))
    t = orn.dequantise.Noised.time(orn.VP(), levels)

    def exact(y: Tensor, noise: orn.Noise) -> tuple[Tensor, Tensor]:
        return mixture().log_prob(y), torch.zeros(len(y))

    def noisy(y: Tensor, noise: orn.Noise) -> tuple[Tensor, Tensor]:
        got = orn.log_likelihood(posterior, y, tol=1e-2, seed=noise, at=t, refine=False)
        return got.value, got.error

    rules = {
        "Uniform": (exact, orn.dequantise.Uniform()),
        "Truncated": (exact, orn.dequantise.Truncated(0.3)),
        "Noised": (noisy, orn.dequantise.Noised(posterior, t)),
    }
    found: Numbers = {"time": t}
    for name, (density, rule) in rules.items():
        bits = orn.dequantise.discrete_log_prob(density, x, levels, rule, draws=2)
        mean, stderr = bits.bits_per_dim(2)
        found[name] = bits.value
        found[f"{name} tighter"] = bits.tighter
        found[f"{name} bits"] = mean
        found[f"{name} bits stderr"] = stderr
        found[f"{name} error"] = bits.error
    return found


@call("weigh denoising paths and take their losses")
def denoising() -> Numbers:
    """Draw paths of an exact posterior of another law, and every loss of their weights."""
    sde = orn.VP()
    wrong = orn.targets.GaussianMixture(torch.zeros(1, 2), torch.full((1, 2), 2.0), torch.ones(1))
    times = sde.times(16)
    posterior = wrong.posterior(sde)
    log_w = orn.log_weights(posterior, shifted_log_prob, times, n=256, noise=orn.Noise(2))
    level = orn.paths.lookahead(posterior, shifted_log_prob)
    measure = orn.paths.denoising_paths(posterior, shifted_log_prob, times, level=level)
    moved = orn.paths.particle_filter(measure, 256, orn.Noise(5), 8, 0.7)
    estimate = orn.log_z(log_w)
    ratios = log_w.reshape(4, 64)
    flows = torch.linspace(0, 1, 5, dtype=log_w.dtype)[:, None].expand(5, 64)
    return {
        "log_w": log_w,
        "back": measure.back(mixture().sample(64, seed=1), orn.Noise(3)),
        "resampled": moved.log_w,
        "resampled x": moved.x,
        "log_z": estimate.value,
        "stderr": estimate.stderr,
        "elbo": estimate.elbo,
        "ess": estimate.ess,
        "low": estimate.interval[0],
        "chi": orn.density.consistency_test([estimate, orn.log_z(moved.log_w)])[0],
        "reverse_kl": orn.paths.reverse_kl(log_w),
        "log_variance": orn.paths.log_variance(log_w),
        "score_function": orn.paths.score_function(log_w),
        "trajectory_balance": orn.paths.trajectory_balance(log_w, torch.tensor(0.4)),
        "sub_trajectory": orn.paths.sub_trajectory(ratios, flows),
    }


@call("weigh annealed, kinetic and Langevin paths")
def annealed() -> Numbers:
    """Draw the paths of AIS, UHA, ULA, MCD and CMCD, forwards and backwards."""
    start = orn.paths.GaussianStart(
        orn.Gaussian(torch.zeros(2, dtype=F64), torch.tensor(1.5, dtype=F64))
    )
    levels = torch.linspace(1, 0, 9, dtype=F64)
    target = shifted_log_prob
    factor = torch.eye(2, dtype=F64)

    def control(x: Tensor, t: Tensor) -> Tensor:
        return 0.3 * torch.sin(2 * x) - 0.2 * x * t

    measures = {
        "ULA": orn.paths.langevin_paths(start, target, levels, 0.1),
        "CMCD": orn.paths.langevin_paths(start, target, levels, 0.1, control),
        "MCD": orn.paths.langevin_paths(start, target, levels, 0.1, None, control),
        "UHA": orn.paths.kinetic_paths(
            start, target, levels, orn.mcmc.UnderdampedLangevin(0.4, 0.7, 2)
        ),
        "AIS": orn.paths.annealed_paths(start, target, levels, orn.mcmc.MALA(0.7, factor, 2)),
        "HAIS": orn.paths.annealed_paths(start, target, levels, orn.mcmc.HMC(0.5, factor, 3)),
    }
    ends = mixture().sample(32, seed=3).double()
    found: Numbers = {}
    for name, measure in measures.items():
        paths = measure.draw(64, orn.Noise(1))
        found[f"{name} x"] = paths.x
        found[f"{name} log_w"] = paths.log_w
        if name != "UHA":  # its ends have momenta too
            found[f"{name} back"] = measure.back(ends, orn.Noise(2))
    return found


@call("draw training levels and take denoising losses")
def losses() -> Numbers:
    """Take the loss of an untrained network at times of every law, with every weight."""
    sde = orn.VP()
    u = orn.noise_levels.stratified(16, orn.Noise(1))
    x0 = mixture().sample(16, seed=2)
    denoiser = orn.Denoiser(orn.MLP(2, 16, 1), sde, data_std=1.7)
    schedule = orn.training.LearnedNoiseLevels.fit(
        mixture().posterior(sde), x0, -8.0, 8.0, steps=10, batch=16
    )
    laws = {
        "UniformTime": orn.noise_levels.UniformTime(),
        "UniformLogSNR": orn.noise_levels.UniformLogSNR(),
        "LogNormal": orn.noise_levels.LogNormal(),
        "LogitNormal": orn.noise_levels.LogitNormal(),
        "Schedule": schedule,
    }
    weights = {
        "unit": orn.training.unit_weight,
        "snr": orn.training.snr_weight,
        "likelihood": orn.training.likelihood_weight,
        "min_snr": orn.training.min_snr(),
        "edm": orn.training.edm_weight(),
        "schedule": schedule.weight,
    }
    found: Numbers = {f"times {name}": law(sde, u) for name, law in laws.items()}
    t = orn.noise_levels.UniformTime()(sde, u).clamp(1e-3)
    for name, weight in weights.items():
        found[name] = orn.training.denoising_loss(denoiser, x0, t, orn.Noise(3), weight)
    return found


@lru_cache(maxsize=1)
def _trained() -> orn.DiffusionModel:
    x = orn.targets.named("gmm9").sample(400, seed=1)
    return orn.fit(x, recipe="points", steps=20, progress=False)


def trained() -> orn.DiffusionModel:
    """A copy of a model that was trained on points for twenty steps."""
    return copy.deepcopy(_trained())


@call("train a model of points and ask it")
def training() -> Numbers:
    """Fit, sample, and find the likelihood and its bound."""
    model = trained()
    x = orn.targets.named("gmm9").sample(16, seed=5)
    weights = torch.cat([p.flatten() for p in model.denoiser.parameters()])
    return {
        "weights": weights,
        "encoded": model.encode(x),
        "samples": model.sample(32, steps=8, seed=0),
        "samples with noise": model.sample(32, steps=8, method=orn.Ancestral(), seed=0, eta=1.0),
        **likelihood_parts("flow", model.log_likelihood(x[:4], tol=1e-2)),
        **bound_parts("elbo", model.elbo(x, steps=10)),
    }


@call("guide, calibrate and tune samplers")
def improvements() -> Numbers:
    """Change a trained model in three ways, and tune a sampler to an exact posterior."""
    model = trained()
    x = orn.Noise(1).normal((8, 2))
    t = torch.tensor(0.4, dtype=F64)
    data = model.encode(orn.targets.named("gmm9").sample(64, seed=5))
    weak = orn.targets.Normal(torch.zeros(2), torch.ones(2)).posterior(model.denoiser.sde)
    guided = orn.guide(model.denoiser, weak, 2.0)(x, t)
    orn.calibrate(model.denoiser, data, orn.Noise(2))
    posterior = mixture().posterior(orn.VP())
    tuned = orn.tune(posterior, steps=4, n=64, iterations=2, seconds=1e6)
    samples = orn.sample(posterior, 32, steps=4, method=tuned)
    return {
        "guided mean": guided.mean,
        "guided std": guided.std,
        "std table": model.denoiser.std_table,
        "calibrated std": model.denoiser(x, t).std,
        "tuned error": tuned.error.value,
        "error before": tuned.before.value,
        "tuned samples": samples,
    }


def density_parts(r: orn.DensityResult) -> Numbers:
    """The numbers of a run of `sample_density`, and of draws that follow it."""
    more = r.draw_weighted(64, seed=1)
    mean = r.average(lambda p: torch.cat([x.reshape(len(x), -1) for x in p.values()], 1))
    found: Numbers = {
        "samples": r.samples,
        "more x": more.x,
        "more log_w": more.log_w,
        "more log_z": more.log_z.value,
        "average": mean.value,
        "average stderr": mean.stderr,
        "from the sampler": r.sampler.sample(16, steps=6, seed=2),
    }
    parts = (
        "log_z", "log_z_stderr", "elbo", "eubo", "ess", "k_hat", "evaluations", "gradients", "fused"
    )  # fmt: skip
    for name in parts:
        found[name] = getattr(r, name)
    for name, estimate in r.estimates.items():
        found[f"log_z by {name}"] = estimate.value
    found.update({f"parameter {name}": value for name, value in r.parameters.items()})
    return found


@call("sample the density of nine Gaussians")
def density_gmm9() -> Numbers:
    """Run the whole pipeline on a mixture that it should find at once."""
    target = orn.targets.named("gmm9")
    r = orn.sample_density(target, seed=0, n=256, training_steps=1, particles=256, stderr=0.05)
    draws = orn.draw_weighted(r.sampler, target.log_prob, 64, seed=3)
    return {**density_parts(r), "weighted": draws.log_w, "weighted x": draws.x}


@call("sample the density of eight schools")
def density_schools() -> Numbers:
    """Run the whole pipeline on a posterior with named, constrained parameters."""
    target = orn.as_density(orn.targets.named("eight-schools"))
    r = orn.sample_density(target, seed=0, n=128, training_steps=1, particles=256, stderr=0.05)
    return density_parts(r)


@call("sample the density of a plain function")
def density_plain() -> Numbers:
    """Run the whole pipeline, with a little training, on a function of tensors."""
    r = orn.sample_density(
        plain_log_prob, dim=2, seed=0, n=256, training_steps=3, particles=256, stderr=0.05
    )
    return {**density_parts(r), "resampled": r.draw_smc(64, seed=5).x}
