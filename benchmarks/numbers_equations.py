"""Calls of the equations: solvers, gradients, first passages, expectations and the calculus."""

from typing import Any

import torch
from torch import Tensor

import ornstein as orn
from benchmarks.numbers_registry import F64, Numbers, call


def growth(calculus: str = "ito") -> orn.SDE:
    """Geometric Brownian motion, entry by entry."""
    return orn.SDE(lambda x, t: 0.5 * x, lambda x, t: 0.8 * x, calculus=calculus)


def restoring(calculus: str = "ito") -> orn.SDE:
    """A linear force with additive noise whose strength depends on time."""
    return orn.SDE(
        lambda x, t: -x, lambda x, t: torch.ones_like(x) * (1 + t), "additive", calculus=calculus
    )


def common(calculus: str = "ito") -> orn.SDE:
    """A nonlinear force, with one Brownian motion for all entries."""
    return orn.SDE(lambda x, t: x - x**3, lambda x, t: 0.3 + 0.5 * x, "scalar", calculus=calculus)


def mixing(calculus: str = "ito") -> orn.SDE:
    """Two Brownian motions that act on both coordinates, and do not commute."""

    def diffusion(x: Tensor, t: Any) -> Tensor:
        return torch.stack([x, 0.3 + 0.7 * x.flip(1)], -1)

    return orn.SDE(lambda x, t: -x, diffusion, "general", calculus=calculus)


def solved(methods: dict[str, Any], equations: dict[str, Any], path: bool = True) -> Numbers:
    """Solve each equation by each method that fits it, from a seed and on a Brownian path.

    Args:
        methods: solvers by name.
        equations: what they solve, by name.
        path: whether to solve on a path with areas too.
    """
    found: Numbers = {}
    start = 1 + 0.1 * orn.Noise(1).normal((16, 2), F64)
    for method_name, method in methods.items():
        for name, sde in equations.items():
            key = f"{method_name} {name}"
            ts = [0.0, 0.25, 0.5]
            try:
                found[key] = orn.solve(sde, start, ts, method, seed=3, dt=1 / 16)
            except orn.errors.OrnsteinError:
                continue  # this method is not for this noise or this calculus
            if path:
                shape = (16, 1) if name == "scalar" else (16, 2)
                b = orn.BrownianPath(shape, seed=2, dtype=F64, order=2)
                found[f"{key} on a path"] = orn.solve(sde, start, ts, method, b, dt=1 / 16)
            found[f"{key} single"] = orn.solve(sde, start.float(), ts, method, seed=3, dt=1 / 16)
    return found


def four(calculus: str) -> dict[str, Any]:
    """An equation for each kind of noise."""
    return {
        "diagonal": growth(calculus),
        "additive": restoring(calculus),
        "scalar": common(calculus),
        "general": mixing(calculus),
    }


@call("solve equations with EulerMaruyama and its relatives")
def euler() -> Numbers:
    """Run explicit, tamed and implicit steps, and exponential ones of a semilinear equation."""
    methods = {
        "EulerMaruyama": orn.EulerMaruyama(),
        "TamedEuler": orn.methods.TamedEuler(),
        "ImplicitEuler": orn.methods.ImplicitEuler(),
    }
    stiff = orn.methods.Semilinear(
        -20.0, lambda x, t: x.sin() + t, lambda x, t: 0.5 * torch.ones_like(x)
    )
    exponential = solved(
        {"ExponentialEuler": orn.methods.ExponentialEuler()}, {"semilinear": stiff}
    )
    chosen = orn.solve(growth(), torch.ones(8, 3), [0.0, 0.5, 1.0], seed=0, dt=0.1)
    return {"chosen by the noise": chosen, **exponential, **solved(methods, four("ito"))}


@call("solve equations with Milstein, SRK, WeakSecond and StepDoubling")
def ito_methods() -> Numbers:
    """Run the methods of higher order in Ito's sense, and let the steps of two follow the path."""
    methods = {
        "Milstein": orn.Milstein(),
        "SRK": orn.SRK(),
        "WeakSecond": orn.methods.PlatenWeak2(),
    }
    found = solved(methods, four("ito"))
    for name in ("Milstein", "SRK"):
        cost = orn.Evaluations()
        path = orn.BrownianPath((16,), seed=2, order=2)
        adaptive = orn.methods.AdaptiveSDE(methods[name], rtol=1e-2)
        start = torch.ones(16)
        x = orn.solve(growth(), start, [0.0, 1.0], adaptive, path, watch=[cost])
        found[f"doubling {name}"] = x
        found[f"doubling {name} evaluations"] = cost.count
    return found


@call("solve equations with LogODE, StratonovichHeun and ReversibleHeun")
def stratonovich_methods() -> Numbers:
    """Run the methods in Stratonovich's sense."""
    methods = {
        "EulerHeun": orn.methods.EulerHeun(),
        "StratonovichHeun": orn.methods.StratonovichHeun(),
        "StratonovichMidpoint": orn.methods.StratonovichMidpoint(),
        "ReversibleHeun": orn.methods.ReversibleHeun(),
        "LogODE": orn.methods.LogODE(),
        "LogODE in pieces": orn.methods.LogODE(pieces=3),
        "Milstein": orn.Milstein(),
    }
    return solved(methods, four("stratonovich"))


@call("solve Langevin dynamics with BAOAB, OBABO and UBU")
def langevin() -> Numbers:
    """Run the splittings of the dynamics with velocities, and Langevin's equation without."""
    well = orn.methods.Underdamped(lambda q: -4 * q * (q * q - 1), friction=1.0)
    start = orn.Noise(1).normal((16, 2, 1))
    found: Numbers = {}
    for method in (orn.methods.BAOAB(), orn.methods.OBABO(), orn.methods.UBU()):
        name = type(method).__name__
        found[name] = orn.solve(well, start, [0.0, 1.0, 3.0], method, dt=0.2)
        found[f"{name} double"] = orn.solve(well, start.double(), [0.0, 2.0], method, dt=0.1)
    overdamped = orn.Langevin(lambda x: -x)
    found["Langevin"] = orn.solve(overdamped, start[:, 0], [0.0, 1.0], orn.SRK(), dt=0.1)
    return found


@call("differentiate solutions with Reversible and Checkpointed")
def gradients() -> Numbers:
    """Take the gradient with respect to a rate by the three ways of going back."""
    ways: dict[str, tuple[Any, Any]] = {
        "plain": (orn.Milstein(), None),
        "Checkpointed": (orn.Milstein(), orn.solvers.Checkpointed()),
        "two segments": (orn.Milstein(), orn.solvers.Checkpointed(2)),
        "Reversible": (orn.methods.ReversibleHeun(), orn.solvers.Reversible()),
    }
    found: Numbers = {}
    for name, (method, gradient) in ways.items():
        rate = torch.nn.Parameter(torch.tensor(0.5, dtype=F64))
        sde = orn.SDE(lambda x, t, r=rate: -r * x, lambda x, t: torch.ones_like(x), "additive")
        path = orn.BrownianPath((32,), dtype=F64)
        options = {} if gradient is None else {"gradient": gradient}
        start = torch.ones(32, dtype=F64)
        end = orn.solve(sde, start, [0.0, 1.0], method, path, dt=1 / 32, **options)[-1]
        end.square().mean().backward()
        found[f"{name} end"] = end
        assert rate.grad is not None
        found[f"{name} gradient"] = rate.grad
    return found


@call("find first passages along a path")
def first_passage() -> Numbers:
    """Record when a level is met, with and without crossings between the steps."""
    sde = orn.SDE(lambda x, t: 0.5 + 0 * x, lambda x, t: torch.ones_like(x), "additive")
    drawn = orn.solvers.FirstPassage(lambda x, t: 1 - x, diffusion=lambda x, t: torch.ones_like(x))
    seen = orn.solvers.FirstPassage(lambda x, t: 1 - x)
    path = orn.Trajectory()
    watch = [drawn, seen, path]
    x = orn.solve(sde, torch.zeros(64), [0.0, 5.0], seed=1, dt=0.25, watch=watch)
    states = torch.stack(path.states)
    return {"x": x, "drawn": drawn.times, "seen": seen.times, "trajectory": states}


@call("estimate expectations with every estimator")
def expectations() -> Numbers:
    """Price an option by plain, antithetic, quasi-random and multilevel sampling."""
    estimators = {
        "Plain": orn.montecarlo.Plain(2048),
        "Antithetic": orn.montecarlo.Antithetic(2048),
        "Sobol": orn.montecarlo.Sobol(256, 8),
        "Multilevel": orn.montecarlo.Multilevel(3e-2),
    }
    found: Numbers = {}
    for name, estimator in estimators.items():
        one = torch.tensor(1.0)
        got = orn.expectation(
            lambda x: (x - 1).clamp(min=0), growth(), one, 1.0, estimator, steps=16, seed=4
        )
        found[name] = got.value
        found[f"{name} stderr"] = got.stderr
        found[f"{name} cost"] = got.cost
    return found


@call("integrate along Brownian paths")
def integrals() -> Numbers:
    """Take Ito's and Stratonovich's integrals, variations, and integrals by parts."""
    grid = torch.linspace(0, 1, 41, dtype=F64)
    b = orn.BrownianPath((50,), seed=1, cells=grid, dtype=F64, order=2)
    other = orn.BrownianPath((50,), seed=2, cells=grid, dtype=F64)
    late = orn.calculus.PathFunctional(lambda path, t: path(t) - path(t / 2))
    return {
        "ito": orn.ito(lambda x, t: 2 * x, b, grid),
        "ito of time": orn.ito(lambda t: t.exp(), b, grid),
        "ito of the path": orn.ito(late, other, [0.0, 0.25, 0.5, 1.0]),
        "stratonovich": orn.stratonovich(lambda x, t: 2 * x, b, grid),
        "theta": orn.calculus.theta_integral(lambda x, t: x * t, b, grid, 0.3),
        "process": orn.calculus.ito_process(lambda x, t: x.cos(), b, grid),
        "quadratic variation": orn.calculus.quadratic_variation(b, grid),
        "covariation": orn.calculus.covariation(b, other, grid),
        "by parts": orn.calculus.by_parts(torch.exp, b, grid),
    }


@call("change the clock of an integral and check the isometry")
def clocks() -> Numbers:
    """Make an integral a Brownian motion again, and compare both sides of Ito's isometry."""
    grid = torch.linspace(0, 1, 41, dtype=F64)
    b = orn.BrownianPath((200,), seed=5, cells=grid, dtype=F64, order=2)
    times = torch.linspace(0, 0.9, 10)
    w = orn.calculus.time_change(lambda x, t: 1.2 + x.sin() / 5, b, grid, times=times)
    isometry = orn.calculus.ito_isometry(lambda x, t: x, b, grid)
    law = orn.calculus.wiener_integral(torch.exp, 0.0, 1.0)
    found: Numbers = {f"isometry {key}": x.value for key, x in isometry._asdict().items()}
    found.update({f"isometry {key}_stderr": x.stderr for key, x in isometry._asdict().items()})
    found.update({"motion": w.motion, "tau": w.tau, "clock": w.clock, "p": w.p_value})
    return {**found, "distance": w.distance, "wiener mean": law.mean, "wiener std": law.std}


@call("apply Ito's formula, the generator and its adjoint")
def formulas() -> Numbers:
    """Differentiate functions of the state, and carry equations from one calculus to the other."""
    x = torch.tensor([0.5, 1.0, 2.0], dtype=F64)
    pairs = torch.tensor([[0.5, 1.0], [2.0, -1.0]], dtype=F64)
    log = orn.ito_formula(lambda x, t: x.log() + t * x, growth())
    density = orn.calculus.adjoint_generator(
        lambda x: (-x.square()).exp(), orn.Langevin(lambda x: -x)
    )
    product = orn.ito_formula(lambda x, t: x.prod(1), mixing())
    grid = torch.linspace(0, 1, 11, dtype=F64)
    a, b = (orn.BrownianPath((8,), seed=seed, cells=grid, dtype=F64) for seed in (1, 2))
    future = orn.calculus.check_adapted(lambda path: lambda t: path(1.0), a, b, grid)
    return {
        "drift": log.drift(x, 0.3),
        "diffusion": log.diffusion(x, 0.3),
        "product drift": product.drift(pairs, 0.0),
        "product diffusion": product.diffusion(pairs, 0.0),
        "generator": orn.calculus.generator(lambda x: x.square(), growth())(x, 0.0),
        "adjoint": density(x, 0.0),
        "to Stratonovich": orn.calculus.to_stratonovich(mixing()).drift(pairs, 0.0),
        "to Ito": orn.calculus.to_ito(mixing("stratonovich")).drift(pairs, 0.0),
        "not adapted": future.change,
    }
