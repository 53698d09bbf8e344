"""Calls with exact answers: laws, heat, walks, equations on grids, targets, metrics; networks."""

import math
from typing import Any

import torch
from torch import Tensor

import ornstein as orn
from benchmarks.numbers_registry import F64, Numbers, call, mixture


@call("draw from exact laws and take their densities")
def laws() -> Numbers:
    """Take paths, transition densities and entropies of the exactly solvable processes."""
    rate = torch.tensor([[1.0, 2.0], [-2.0, 1.0]])
    pair = orn.laws.MultivariateOU(rate, torch.tensor([1.0, 0.5]))
    spring = orn.laws.underdamped_ou(stiffness=4.0, friction=4.0)
    ts = torch.tensor([0.0, 0.1, 0.5, 0.9], dtype=F64)
    cases: dict[str, tuple[Any, Tensor]] = {
        "CIR": (orn.laws.CIR(1.2, 0.8, 0.6), torch.full((16, 1), 0.7)),
        "GeometricBrownian": (orn.laws.GeometricBrownian(0.1, 0.4), torch.ones(16, 1)),
        "BrownianBridge": (orn.laws.BrownianBridge(0.5, 1.2), torch.zeros(16, 1)),
        "Brownian": (orn.laws.Brownian(0.3, 1.2), torch.zeros(16, 1)),
        "MultivariateOU": (pair, torch.zeros(16, 2)),
        "underdamped_ou": (spring, torch.ones(16, 2)),
    }
    found: Numbers = {}
    for name, (law, start) in cases.items():
        paths = orn.sample_exact(law, start, ts, seed=3)
        found[f"{name} paths"] = paths
        found[f"{name} log_prob"] = law.transition(start, 0.0, 0.5).log_prob(paths[2])
        found[f"{name} drift"] = law.drift(paths[2], 0.5)
        found[f"{name} diffusion"] = law.diffusion(paths[2], 0.5)
    found["MultivariateOU covariance"] = pair.covariance(0.3)
    found["MultivariateOU stationary"] = pair.stationary().cov
    found["MultivariateOU entropy"] = pair.entropy(0.3)
    found["CIR entropy"] = orn.laws.CIR(1.2, 0.8, 0.6).entropy(0.5, 0.7)
    free_paths = orn.sample_exact(orn.laws.Brownian(0.3, 1.2), torch.zeros(16, 1), ts, seed=3)
    walkers = free_paths[..., 0].T
    moved = orn.calculus.mean_squared_displacement(walkers[:, 1:], 0.4, [1, 2])
    fitted = orn.calculus.estimate_diffusion_constant(walkers[:, 1:], 0.4)
    found.update({"moved": moved.value, "moved stderr": moved.stderr})
    return {**found, "fitted": fitted.diffusion.value, "fitted velocity": fitted.velocity.value}


@call("take the laws of passages and maxima")
def passages() -> Numbers:
    """Take distribution functions, densities and draws of first passages and of maxima."""
    at = torch.linspace(0.2, 4.0, 9, dtype=F64)
    brownian = orn.laws.Brownian(0.3, 1.2)
    cases: dict[str, Any] = {
        "passage": brownian.passage(2.0),
        "OU passage": orn.laws.OUPassage(1.0, 1.5, 2.0),
        "maximum": brownian.maximum(1.0),
        "bridge maximum": orn.laws.BrownianBridge(0.5, 1.2).maximum(),
        "geometric passage": orn.laws.GeometricBrownian(0.3, 0.4).passage(1.0, 2.0),
    }
    found: Numbers = {}
    for name, law in cases.items():
        found[f"{name} cdf"] = law.cdf(at)
        found[f"{name} log_prob"] = law.log_prob(at)
        found[f"{name} sample"] = law.sample(32, seed=1)
    first = cases["passage"]
    return {**found, "mean": first.mean, "var": first.var, "probability": first.probability}


@call("follow heat and a random walk")
def heat() -> Numbers:
    """Take densities between walls, on a ring, and of walkers on a lattice."""
    y = torch.linspace(0, 1, 21, dtype=F64)
    box = orn.calculus.heat.Reflected(0.5, 0.0, 1.0, velocity=1.0)
    ring = orn.calculus.heat.Ring(0.5, 0.0, 1.0, velocity=0.3)
    gone = orn.calculus.heat.Killed(0.5, 0.0, 1.0)
    walk = orn.RandomWalk(0.2, 0.3, delta=1.0, tau=1.0)
    fine = orn.RandomWalk.towards(diffusion=0.5, velocity=1.0, delta=0.1)
    start = torch.tensor([[10**6]])
    return {
        "kernel": orn.calculus.heat.kernel(4 * y - 2, 0.3, 0.5, 1.0),
        "reflected": box.density(y, 0.2, 0.3),
        "stationary": box.stationary(y),
        "ring": ring.density(y, 0.2, 0.3),
        "ring evolved": ring.evolve(y[:-1], 0.01),
        "killed": gone.density(y, 0.2, 0.3),
        "survival": gone.survival(0.2, 0.3),
        "exit time": gone.mean_exit_time(0.3),
        "law": walk.law(100),
        "law at": walk.law_at(20.0),
        "walkers": walk.evolve(start, steps=50, seed=0),
        "counts": walk.counts(10**6, steps=50, seed=0),
        "covariance": walk.count_covariance(100, 20),
        "diffusion": walk.diffusion,
        "velocity": walk.velocity,
        "displacement": walk.mean_squared_displacement(30),
        "to the limit": fine.distance_to_limit(50),
    }


def normal(mean: float, var: float) -> Any:
    """The density of a normal law on the points of a grid."""
    scale = math.sqrt(2 * math.pi * var)
    return lambda x: (-(x[:, 0] - mean).square() / (2 * var)).exp() / scale


def free() -> orn.SDE:
    """Brownian motion."""
    return orn.SDE(lambda x, t: torch.zeros_like(x), lambda x, t: torch.ones(()))


@call("move densities on grids by FokkerPlanck")
def fokker_planck() -> Numbers:
    """Solve on a line with three kinds of ends, and in the plane, with both ways to step."""
    line = orn.Grid(orn.Axis(-6, 6, 200))
    ts = torch.tensor([0.0, 0.5, 1.0], dtype=F64)
    start = line.density(normal(1.5, 0.09))
    process = orn.OU(1.0, 1.0)
    end = orn.pde.Absorbing()
    strip = orn.Grid(orn.Axis(-1, 1, 100, lower=end, upper=end))
    ring = orn.Grid(orn.Axis(-1, 1, 100, lower=orn.pde.Periodic(), upper=orn.pde.Periodic()))
    plane = orn.Grid(orn.Axis(-5, 5, 40), orn.Axis(-5, 5, 40))
    noise = torch.tensor([[1.0, 0.0], [0.5, 0.8]])
    tilted = orn.laws.MultivariateOU(torch.eye(2), noise)
    rest = orn.FokkerPlanck(tilted, plane).stationary()
    lost = orn.FokkerPlanck(free(), strip).solve(strip.density(normal(0.0, 0.01)), ts)
    coarse = orn.pde.Uniformisation(1e-8)
    limited = orn.FokkerPlanck(process, line, orn.pde.FluxLimited())
    time_dependent = orn.FokkerPlanck(orn.VP(), line)
    return {
        "default": orn.FokkerPlanck(process, line).solve(start, ts),
        "Uniformisation": orn.FokkerPlanck(process, line, coarse).solve(start, ts),
        "FluxLimited": limited.solve(start, torch.linspace(0, 1, 11, dtype=F64)),
        "VP": time_dependent.solve(start, torch.linspace(0, 0.5, 6, dtype=F64)),
        "absorbed": lost,
        "survival": strip.integrate(lost),
        "ring": orn.FokkerPlanck(free(), ring).solve(ring.density(normal(0.0, 0.01)), ts),
        "stationary": rest,
        "covariance": plane.covariance(rest),
        "mean": plane.mean(rest),
    }


@call("solve for expectations, hitting and control on grids")
def backward() -> Numbers:
    """Solve Kolmogorov's and the HJB equation, and weigh controlled paths by Girsanov."""
    grid = orn.Grid(orn.Axis(-6, 6, 200))
    end = orn.pde.Absorbing()
    double = orn.SDE(lambda x, t: 4 * x * (1 - x.square()), lambda x, t: torch.ones(()))
    between = orn.Grid(orn.Axis(-1, 1, 100, end, end))
    one_end = orn.Grid(orn.Axis(-3, 1, 100, orn.pde.Reflecting(), end))
    chance = orn.pde.committor(double, between, lambda x: x[:, 0] <= -1, lambda x: x[:, 0] >= 1)
    ts = torch.linspace(0, 1, 11, dtype=F64)
    equation = orn.KolmogorovBackward(free(), grid, potential=lambda x, t: x[:, 0].square() / 2)
    control = orn.HJB(free(), grid).solve(grid.evaluate(lambda x: x[:, 0].square()), ts)
    driven = orn.SDE(lambda x, t: control(x, t), free().diffusion)
    ratio = orn.calculus.Girsanov(free())
    spent = orn.calculus.Accumulate(lambda x, t: control(x, t).square()[:, 0] / 2)
    times = torch.linspace(0, 1, 26, dtype=F64)
    method = orn.EulerMaruyama()
    x = orn.simulate(driven, torch.ones(64, 1), times, method, orn.Noise(0), watch=[ratio, spent])
    return {
        "backward": equation.solve(torch.ones(200, dtype=F64), ts[[0, -1]]),
        "committor": chance,
        "passage time": orn.pde.mean_first_passage(double, one_end),
        "value": control.value,
        "control": control.u,
        "controlled x": x,
        "Girsanov": ratio.value,
        "Accumulate": spent.value,
    }


@call("evaluate and sample every named target")
def targets() -> Numbers:
    """Take log-densities, gradients, normalisers and samples of all targets."""
    found: Numbers = {}
    for name in orn.targets.names:
        target = orn.targets.named(name)
        x = orn.Noise(1).normal((8, target.dim)).requires_grad_()
        value = target.log_prob(x)
        found[name] = value
        found[f"{name} gradient"] = torch.autograd.grad(value.sum(), x)[0]
        found[f"{name} double"] = target.log_prob(x.detach().double())
        found[f"{name} log_z"] = target.log_z
        if hasattr(target, "sample"):
            found[f"{name} samples"] = target.sample(16, seed=2)
    schools = orn.as_density(orn.targets.EightSchools())
    z = orn.Noise(0).normal((4, schools.dim))
    named = schools.constrain(z)
    found.update({f"schools {key}": value for key, value in named.items()})
    dirichlet = orn.as_density(torch.distributions.Dirichlet(torch.tensor([2.0, 3, 4])))
    found["Dirichlet"] = dirichlet(z[:, :2])
    mine = orn.Density.of(
        lambda a, b: -a.square() - b.square().sum(),
        a=orn.supports.positive(), b=orn.supports.simplex(3),
    )  # fmt: skip
    w = orn.Noise(4).normal((4, mine.dim))
    found["own parameters"] = mine(w)
    return {**found, "own parameters back": mine.unconstrain(mine.constrain(w))}


@call("measure samples with every metric")
def metrics() -> Numbers:
    """Compare two sets of samples of the mixture, and judge weights."""
    a, b = mixture().sample(200, seed=1), mixture().sample(200, seed=2) + 0.2
    log_w = orn.Noise(3).normal((300,)) * 1.5
    metric = orn.metrics
    centres = mixture().means
    measures = {
        "sliced_w2": metric.sliced_w2(a, b),
        "mmd": metric.mmd(a, b),
        "mmd of width 1": metric.mmd(a, b, 1.0),
        "energy_distance": metric.energy_distance(a, b),
        "c2st": metric.c2st(a, b),
        "floor": metric.floor(metric.sliced_w2, a, 50),
        "mode_weights": metric.mode_weights(a, centres),
        "mode_coverage": metric.mode_coverage(a, centres),
    }
    found: Numbers = {"ess": metric.ess(log_w), "pareto_k": metric.pareto_k(log_w)}
    found["nearest_distance"] = metric.nearest_distance(a, b)
    for name, estimate in measures.items():
        found[f"{name} value"] = estimate.value
        found[f"{name} stderr"] = estimate.stderr
    return found


@call("evaluate networks with seeded weights")
def networks() -> Numbers:
    """Run the MLP and U-Nets of one and two dimensions, forwards and backwards, and a denoiser."""
    nets: dict[str, tuple[torch.nn.Module, tuple[int, ...]]] = {
        "MLP": (orn.MLP((3, 4), 32, 2, labels=4), (3, 4)),
        "UNet 1-d": (orn.UNet(2, 8, (1, 2), 1, labels=4, heads=2, dims=1), (2, 9)),
        "UNet 2-d": (orn.UNet(1, 8, (1, 2, 2), 1, attention=(0, 2), labels=4), (1, 7, 11)),
        "Anchored": (orn.models.MixtureNetwork(2, 3, 16), (2,)),
        "Factored": (orn.models.ProductNetwork(2, 3, 16), (2,)),
    }
    found: Numbers = {}
    for k, (name, (net, event)) in enumerate(nets.items()):
        with torch.no_grad():
            for i, p in enumerate(net.parameters()):  # outputs start at zero
                p.add_(0.1 * orn.Noise(k).fold(i).normal((*p.shape, 1))[..., 0])
        x = orn.Noise(9).normal((6, *event)).requires_grad_()
        cond = {"label": torch.tensor([0, 1, 2, 3, 4, 4])} if event != (2,) else None
        y = net(x, torch.linspace(-4, 4, 6), cond)
        found[name] = y
        found[f"{name} gradient"] = torch.autograd.grad(y.square().sum(), x)[0]
    for param in (
        orn.parametrisations.edm,
        orn.parametrisations.eps,
        orn.parametrisations.score,
        orn.parametrisations.v,
        orn.parametrisations.x0,
    ):
        denoiser = orn.Denoiser(nets["MLP"][0], orn.VP(), param, 1.5)
        law = denoiser(orn.Noise(8).normal((4, 3, 4)), 0.5)
        found[f"{param.name} mean"] = law.mean
        found[f"{param.name} std"] = law.std
    return found
