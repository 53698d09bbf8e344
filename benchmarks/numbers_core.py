"""Calls of the core: processes, time grids, noise, Brownian paths and samplers."""

import math
from typing import Any

import torch
from torch import Tensor

import ornstein as orn
from benchmarks.numbers_registry import F64, Numbers, call, mixture


def chain(steps: int = 100) -> orn.DiscreteVP:
    """A discrete process with linearly rising variances."""
    return orn.DiscreteVP(torch.linspace(1e-4, 0.02, steps, dtype=F64).mul(10).tolist())


def processes() -> dict[str, orn.LinearSDE]:
    """One process of each kind."""
    return {
        "VP": orn.VP(),
        "VE": orn.VE(),
        "EDM": orn.EDM(),
        "Cosine": orn.Cosine(),
        "Straight": orn.RectifiedFlow(),
        "SubVP": orn.SubVP(),
        "OU": orn.OU(1.5, 0.8, 2.0),
        "Bridge": orn.Bridge(1.2),
        "Damped": orn.processes.Damped(lambda t: 0.5 + t),
        "DiscreteVP": chain(),
        "FromLogSNR": orn.processes.FromLogSNR(lambda t: 2 * (torch.log1p(-t) - t.log())),
        "FromCoefficients": orn.processes.FromCoefficients(
            lambda t: -0.5 - t, lambda t: 1 + 0.5 * t
        ),
    }


@call("read the coefficients of every process")
def coefficients() -> Numbers:
    """Evaluate the functions of time of each process at seven times, and its own grid."""
    found: Numbers = {}
    for name, sde in processes().items():
        t = sde.T * torch.linspace(0.05, 0.95, 7, dtype=F64)
        for what in ("alpha", "sigma", "log_snr", "f", "g2"):
            found[f"{name} {what}"] = getattr(sde, what)(t)
        found[f"{name} times"] = sde.times(12)
        found[f"{name} time of log_snr"] = sde.time(sde.log_snr(t))
        found[f"{name} tau"] = sde.tau(t[2], t[4])
    return found


@call("lay out times with every spacing")
def spacings() -> Numbers:
    """Make grids of a continuous and of a discrete process."""
    grid = orn.spacing
    table = grid.Table([50.0, 10.0, 2.0, 0.5, 0.1, 0.01])
    aligned = grid.Aligned.measured(
        mixture().posterior(orn.VP()), mixture().sample(64, seed=3), orn.Noise(4), knots=17
    )
    rules = {
        "uniform": grid.uniform,
        "quadratic": grid.quadratic,
        "cosine": grid.cosine,
        "log_snr": grid.log_snr,
        "Power": grid.Power(3.0),
        "Lu": grid.Lu(),
        "Karras": grid.Karras(),
        "Exponential": grid.Exponential(),
        "Polyexponential": grid.Polyexponential(),
        "Beta": grid.Beta(),
        "Balanced": grid.Balanced(),
        "Table": table,
        "Shifted": grid.Shifted(grid.uniform),
        "Aligned": aligned,
    }
    found: Numbers = {name: rule(orn.VP(), 15) for name, rule in rules.items()}
    for name in ("trailing", "leading", "linspace", "karras", "beta", "lu"):
        found[f"discrete {name}"] = grid.named(name)(chain(), 15)
    return found


@call("draw from transitions and posteriors of the processes")
def transitions() -> Numbers:
    """Take means and deviations of the Gaussian kernels, and exact paths through the times."""
    x = orn.Noise(1).normal((8, 2))
    x0 = mixture().sample(8, seed=2)
    found: Numbers = {}
    for name, sde in processes().items():
        s, t = 0.3 * sde.T, 0.7 * sde.T
        law = {
            "marginal": sde.marginal(x0, t),
            "transition": sde.transition(x, s, t),
            "posterior": sde.posterior(x, x0, s, t),
            "half posterior": sde.posterior(x, x0, s, t, 0.5),
            "prior": sde.prior((8, 2)),
        }
        for what, gaussian in law.items():
            found[f"{name} {what} mean"] = gaussian.mean
            found[f"{name} {what} std"] = gaussian.std
        ts = sde.T * torch.tensor([0.0, 0.2, 0.6, 0.9], dtype=F64)
        found[f"{name} exact samples"] = orn.sample_exact(sde, x0, ts, seed=5)
    return found


@call("draw noise that belongs to samples")
def noise() -> Numbers:
    """Draw normal and uniform numbers in both precisions, of several sources and shapes."""
    stream = orn.Noise(3).stream((6, 2), F64)
    t, s = torch.tensor(0.2), torch.tensor(0.7)
    return {
        "normal": orn.Noise(0).normal((100, 3)),
        "double": orn.Noise(0).normal((100, 3), F64),
        "uniform": orn.Noise(1).uniform((50, 2, 2)),
        "folded": orn.Noise(1).fold(7, 8).normal((9, 2)),
        "shifted": orn.Noise(1).shift(5).normal((9, 2)),
        "many blocks": orn.Noise(2).normal((3, 40000)).sum(1),
        "increment": stream.increment(t, s),
        "area": stream.area(t, s),
        "stratified": orn.noise_levels.stratified(16, orn.Noise(2)),
    }


@call("read values, areas and bridges of Brownian paths")
def brownian() -> Numbers:
    """Ask paths with and without a grid, and motions that are made of them."""
    grid = torch.linspace(0, 1, 11, dtype=F64)
    path = orn.BrownianPath((20, 2), seed=7, cells=grid, dtype=F64, order=3)
    free = orn.BrownianPath((20, 2), seed=8, order=2)
    rough = orn.BrownianPath((20, 2), seed=9, tol=1e-3)
    pinned = orn.random.BrownianBridgePath(path, end=1.0, start=-0.5)
    both = orn.random.Correlated.of(path, torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=F64))
    valued = orn.calculus.StochasticProcess(lambda omega: orn.BrownianPath((5,), seed=omega))
    area = orn.Noise(1).normal((20, 2))
    z = orn.Noise(2).normal((20, 2, 2))
    return {
        "value": path(0.7),
        "between the cells": path(0.33),
        "increment": path(0.2, 0.5),
        "levy area": path.levy_area(0.2, 0.4),
        "second levy area": path.levy_area(0.2, 0.4, 2),
        "stochastic area": orn.random.stochastic_area(path, 0.2, 0.4),
        "stochastic area in pieces": orn.random.stochastic_area(path, 0.2, 0.4, 4),
        "foster area": orn.random.foster_area(free(0.1, 0.4), area, 0.3, z),
        "free value": free(0.37),
        "free levy area": free.levy_area(0.11, 0.52),
        "rough increment": rough(0.12, 0.47),
        "pinned value": pinned(0.4),
        "pinned levy area": pinned.levy_area(0.1, 0.3),
        "correlated increment": both(0.1, 0.8),
        "path-valued": valued.map(lambda x, t: (0.2 * x - 0.02 * t).exp())(7)(0.5),
    }


def sampled(method: Any, eta: float = 0.0, steps: int = 10) -> Numbers:
    """Carry fixed noise to samples of the mixture with a method, in single and double precision.

    Args:
        method: any sampler of the library.
        eta: how much noise the reversed process has.
        steps: of the grid.
    """
    found: Numbers = {}
    for name, dtype in (("single", torch.float32), ("double", F64)):
        cost = orn.Evaluations()
        posterior = mixture().posterior(orn.VP())
        x_T = orn.Noise(11).normal((32, 2), dtype)
        times = orn.spacing.log_snr(posterior.sde, steps)
        reverse = orn.Reverse(posterior, eta)
        x = orn.simulate(reverse, x_T, times, method, orn.Noise(12), watch=[cost])
        found[f"{name} eta={eta}"] = x
        found[f"{name} eta={eta} evaluations"] = cost.count
    return found


@call("sample points with Ancestral")
def ancestral() -> Numbers:
    """Run DDPM, DDIM and what is between them, and the noising process."""
    x = mixture().sample(32, seed=4)
    noised = orn.simulate(
        orn.VP(), x, orn.VP().times(5).flip(0), orn.methods.ForwardTransition(), orn.Noise(1)
    )
    method = orn.Ancestral()
    parts = [sampled(method, eta) for eta in (0.0, 0.5, 1.0)]
    return {"noised": noised, **parts[0], **parts[1], **parts[2]}


@call("sample points with Multistep(2)")
def multistep_2() -> Numbers:
    """Run the second-order method, also with noise, a corrector, and on a Brownian path."""
    posterior = mixture().posterior(orn.VP())
    start = orn.Noise(0).normal((16, 2))
    path = orn.BrownianPath((16, 2), t1=posterior.sde.T, seed=1)
    on_path = orn.sample(posterior, 16, 10, orn.Multistep(2), path, x_T=start, eta=1.0)
    corrected = orn.Multistep(2, weights=orn.methods.exponential_weights.middle, corrector=2)
    found = {f"corrected {key}": value for key, value in sampled(corrected).items()}
    method = orn.Multistep(2)
    return {"on a path": on_path, **found, **sampled(method), **sampled(method, 1.0)}


@call("sample points with Multistep(3)")
def multistep_3() -> Numbers:
    """Run the third-order method, also of the noise, and on other clocks."""
    found: Numbers = {**sampled(orn.Multistep(3)), **sampled(orn.Multistep(3), 1.0)}
    others = {
        "DEIS": orn.Multistep(3, math.inf),
        "LMS": orn.Multistep(3, math.inf, orn.clock.Ratio()),
        "PNDM": orn.Multistep(3, math.inf, orn.clock.Index(), orn.methods.exponential_weights.even),
        "velocity": orn.Multistep(3, 1.5, orn.clock.Asinh(0.5)),
    }
    for name, method in others.items():
        found.update({f"{name} {key}": value for key, value in sampled(method).items()})
    return found


@call("sample points with Adams")
def adams() -> Numbers:
    """Follow the flow of the reversed process, as an equation, with two tolerances."""
    posterior = mixture().posterior(orn.VP())
    reverse = orn.Reverse(posterior, 0.0)
    flow = orn.SDE(reverse.drift)
    times = torch.tensor([1.0, 0.5, 0.01], dtype=F64)
    found: Numbers = {}
    for dtype in (torch.float32, F64):
        for tol in (1e-3, 1e-5):
            cost = orn.Evaluations()
            x_T: Tensor = orn.Noise(11).normal((32, 2), dtype)
            key = f"{dtype} tol={tol}"
            found[key] = orn.simulate(flow, x_T, times, orn.methods.Adams(tol=tol), watch=[cost])
            found[f"{key} evaluations"] = cost.count
    return found


@call("sample points with Singlestep")
def singlestep() -> Numbers:
    """Run DPM-Solver++(2S), DPM-Solver-3 and EDM's method."""
    third = orn.methods.Singlestep(
        (1 / 3, 2 / 3), math.inf, weights=orn.methods.exponential_weights.exact
    )
    edm = orn.methods.Singlestep(
        (1.0,), 0.0, orn.clock.Ratio(), orn.methods.exponential_weights.exact
    )
    found: Numbers = {**sampled(orn.methods.Singlestep()), **sampled(orn.methods.Singlestep(), 1.0)}
    found.update({f"third {key}": value for key, value in sampled(third).items()})
    found.update({f"EDM {key}": value for key, value in sampled(edm).items()})
    return found


@call("sample points with Heun, RungeKutta and Adaptive")
def runge_kutta() -> Numbers:
    """Run the methods of a tableau, with steps of fixed and of adapted length."""
    methods = {
        "Heun": orn.Heun(),
        "RungeKutta": orn.RungeKutta(orn.Adaptive().tableau),
        "Adaptive": orn.Adaptive(rtol=1e-4, atol=1e-4),
    }
    parts = {name: sampled(method) for name, method in methods.items()}
    return {f"{name} {key}": value for name, part in parts.items() for key, value in part.items()}


@call("sample points with Churn, Down and Repeat")
def with_noise() -> Numbers:
    """Run the methods that add noise around another one."""
    churn = orn.methods.Churn(orn.methods.Singlestep(), amount=4.0, low=0.0, noise=1.007)
    cases = {
        "Churn": (churn, 0.0),
        "Down": (orn.methods.AncestralStep(orn.methods.Singlestep()), 1.0),
        "Down Ancestral": (orn.methods.AncestralStep(), 1.0),
        "Repeat": (orn.methods.RePaint(orn.Ancestral(), 2), 1.0),
    }
    found: Numbers = {}
    for name, (method, eta) in cases.items():
        found.update({f"{name} {key}": x for key, x in sampled(method, eta).items()})
    return found


@call("sample points with PredictorCorrector")
def predictor_corrector() -> Numbers:
    """Run predictors with Langevin corrections."""
    double = sampled(orn.methods.PredictorCorrector(orn.Multistep(2), 2, 0.1))
    plain = sampled(orn.methods.PredictorCorrector(), 1.0)
    return {**plain, **{f"Multistep {key}": value for key, value in double.items()}}


@call("sample points with Tabulated")
def tabulated() -> Numbers:
    """Run a table of weights on its own grid."""
    posterior = mixture().posterior(orn.RectifiedFlow())
    weights = ((0.4,), (0.1, 0.5), (0.0, 0.2, 0.6))
    table = orn.methods.TabulatedMultistep((math.inf, 2.0, 0.5, 0.0), weights, 1.6, (0.5, 0.7, 0.9))
    found: Numbers = {}
    for dtype in (torch.float32, F64):
        x_T: Tensor = orn.Noise(2).normal((32, 2), dtype)
        times = table.spacing(posterior.sde, 3)
        found[str(dtype)] = orn.simulate(orn.Reverse(posterior, 0.0), x_T, times, table)
    return found


@call("sample points with the automatic method")
def automatic() -> Numbers:
    """Sample without naming a method, with an estimate of the error of the steps."""
    error = orn.solvers.Discretisation()
    posterior = mixture().posterior(orn.Cosine())
    x = orn.sample(posterior, 64, steps=8, seed=3, watch=[error])
    more = orn.sample(posterior, 32, steps="auto", tol=0.1, seed=4)
    kept = orn.sample(orn.targets.Empirical(x).posterior(orn.VP()), 16, steps=6, seed=1)
    return {"x": x, "rms": error.rms(), "steps found": more, "of data": kept}
