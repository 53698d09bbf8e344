"""Names of the previous release still work for one release, each with a `DeprecationWarning`."""

import pickle
from dataclasses import is_dataclass, replace

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.core.mcmc.geometric_path import PointEvaluation
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.errors import OrnsteinError

BROWNIAN = orn.SDE(lambda x, t: -x, lambda x, t: torch.ones_like(x), noise="additive")
GRID = orn.pde.Grid(orn.pde.Axis(-2.0, 2.0, 16))
CELLS = torch.ones(16, dtype=torch.float64) / 4
TIMES = torch.tensor([0.0, 0.1], dtype=torch.float64)

EVALUATED = PointEvaluation(torch.ones(3), torch.ones(3), torch.ones(3, 2), torch.ones(3, 2))


def mean_error(error, x, slope, t):
    """A part of the error for `Adams`."""
    return error.flatten(1).mean(1, keepdim=True)


def remainder(x, t):
    """A part of a drift for `Semilinear`."""
    return x.sin()


def posterior():
    """The exact posterior of a mixture, and its target."""
    mixture = orn.targets.gmm9()
    return mixture.posterior(orn.VP()), mixture


def bridge_particles(**keywords):
    """Particles along the paths of an exact posterior."""
    exact, mixture = posterior()
    times = torch.linspace(1.0, 0.0, 9, dtype=torch.float64)
    level = orn.paths.lookahead(exact, mixture.log_prob)
    measure = orn.paths.denoising_paths(exact, mixture.log_prob, times, level=level)
    return orn.paths.particle_filter(measure, 8, orn.Noise(0), **keywords)


def looked_ahead(**keywords):
    """The value of `lookahead` where the target has no mass."""
    exact, mixture = posterior()
    level = orn.paths.lookahead(exact, lambda x: torch.full((len(x),), -torch.inf), **keywords)
    return level(mixture.sample(3), torch.tensor(0.5))


def tuned(**keywords):
    """The lines that tuning a sampler reports."""
    lines = []
    keywords = dict.fromkeys(keywords, lines.append)
    orn.tune(posterior()[0], steps=3, n=4, iterations=0, seconds=0.0, **keywords)
    return len(lines)


def covered(**keywords):
    """The fraction of modes that are covered."""
    mixture = orn.targets.gmm9()
    return orn.metrics.mode_coverage(mixture.sample(50), mixture.means, **keywords)


def hjb(times):
    """The value function of a control problem."""
    return orn.pde.HJB(BROWNIAN, GRID).solve(CELLS, **times).value


def joined(**keywords):
    """A replay buffer with new particles."""
    x = torch.arange(3.0)[:, None]
    buffer = orn.training.ReplayBuffer(x, torch.zeros(3))
    return buffer.joined(x + 1, torch.zeros(3), **keywords).x


def sub_trajectory(**keywords):
    """The loss of a path of two steps."""
    return orn.paths.sub_trajectory(torch.ones(2, 3), torch.arange(9.0).reshape(3, 3), **keywords)


def solution(**keywords):
    """A path of an equation."""
    return orn.solve(BROWNIAN, torch.zeros(2, 1), **keywords)


def hmc(**keywords):
    """The evaluations with which a chain begins."""
    return orn.mcmc.HMC(0.1, torch.eye(2), **keywords).initial.target


def small_sampler():
    """A sampler that generates normal samples."""
    denoiser = orn.Denoiser(
        orn.models.ProductNetwork(2), orn.VP(), orn.parametrisations.edm, 1.0, (2,)
    )
    return orn.DiffusionModel(denoiser, orn.codecs.Codec(torch.zeros(2), torch.eye(2)))


def normal(x):
    """An unnormalised log-density."""
    return -x.square().sum(1) / 2


def smc_draws(**keywords):
    """Particles that are drawn along a small sampler."""
    if not keywords.keys() & {"what", "density"}:
        keywords["density"] = normal
    return orn.draw_smc(small_sampler(), n=64, **keywords)


def trained(**keywords):
    """The number of steps that a training reports."""
    seen = []
    objective = orn.DenoisingObjective(torch.zeros(8, 2), batch=2)
    with torch.random.fork_rng(devices=[]):
        denoiser = orn.Denoiser(orn.MLP(2, 4, 1), orn.VP())
    model = orn.DiffusionModel(denoiser, orn.codecs.Codec(torch.zeros(2), torch.ones(2)))
    keywords = dict.fromkeys(keywords, seen.append)
    orn.train(model, objective, orn.TrainingConfig(steps=2), **keywords)
    return len(seen)


def counted(**keywords):
    """The numbers of samples that a likelihood reports."""
    seen = []
    keywords = dict.fromkeys(keywords, seen.append)
    small_sampler().log_likelihood(torch.zeros(3, 2), tol=0.1, batch=2, **keywords)
    return seen


def replayed(**keywords):
    """The fraction of paths that are noised from a buffer."""
    buffer = orn.training.ReplayBuffer(torch.zeros(3, 1), torch.zeros(3))
    objective = orn.training.PathObjective(normal, TIMES, buffer=buffer, **keywords)
    return objective.replay_fraction


RENAMED = {
    "solve": (solution, "ts", "times", TIMES),
    "FokkerPlanck.solve": (
        lambda **k: orn.pde.FokkerPlanck(BROWNIAN, GRID).solve(CELLS, **k), "ts", "times", TIMES,
    ),
    "KolmogorovBackward.solve": (
        lambda **k: orn.pde.KolmogorovBackward(BROWNIAN, GRID).solve(CELLS, **k),
        "ts", "times", TIMES,
    ),
    "HJB.solve": (lambda **k: hjb(k), "ts", "times", TIMES),
    "Adaptive.first": (orn.Adaptive, "first", "initial_step", 0.01),
    "Adaptive.most": (orn.Adaptive, "most", "max_steps", 7),
    "ImplicitEuler": (orn.methods.ImplicitEuler, "most", "max_iterations", 3),
    "Adams.weigh": (orn.methods.Adams, "weigh", "error_parts", mean_error),
    "Adams.first": (orn.methods.Adams, "first", "initial_step", 0.01),
    "Adams.most": (orn.methods.Adams, "most", "max_evaluations", 50),
    "AdaptiveSDE": (
        lambda **k: orn.methods.AdaptiveSDE(orn.methods.SRK(), **k), "deepest", "max_halvings", 5,
    ),
    "Semilinear": (
        lambda **k: orn.methods.Semilinear(-1.0, diffusion_fn=remainder, **k).drift(CELLS, 0.0),
        "rest", "remainder", remainder,
    ),
    "particle_filter": (bridge_particles, "keep", "ess_fraction", 0.9),
    "lookahead": (looked_ahead, "least", "outside", -3.0),
    "sub_trajectory": (sub_trajectory, "keep", "decay", 0.5),
    "HMC": (hmc, "known", "initial", EVALUATED),
    "tune": (tuned, "progress", "callback", None),
    "mode_coverage": (covered, "share", "fraction", 0.5),
    "ReplayBuffer.joined": (joined, "most", "max_size", 4),
    "PathObjective": (replayed, "share", "replay_fraction", 0.5),
    "train": (trained, "report", "callback", None),
    "log_likelihood": (counted, "report", "callback", None),
    "draw_smc.what": (smc_draws, "what", "density", normal),
    "draw_smc.islands": (smc_draws, "islands", "independent_groups", 4),
    "draw_weighted": (
        lambda **k: orn.draw_weighted(small_sampler(), n=8, **k), "what", "density", normal,
    ),
    "as_density": (
        lambda **k: orn.as_density(**k)(torch.zeros(2, 1)),
        "what", "log_prob", torch.distributions.Gamma(2.0, 1.0),
    ),
}  # fmt: skip


def same(a, b):
    """Whether two results agree, tensors bit by bit."""
    if hasattr(a, "log_w"):
        return torch.equal(a.x, b.x) and torch.equal(a.log_w, b.log_w)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(np.all(a == b))


@pytest.mark.parametrize("name", RENAMED)
def test_a_keyword_of_the_previous_release_works_and_warns(name):
    call, old, new, value = RENAMED[name]
    with pytest.warns(DeprecationWarning, match=f"{old}= is now {new}="):
        result = call(**{old: value})
    assert same(result, call(**{new: value}))


@pytest.mark.parametrize("name", RENAMED)
def test_both_names_are_an_error(name):
    call, old, new, value = RENAMED[name]
    with pytest.raises(OrnsteinError, match="pass one of the two"):
        call(**{old: value, new: value})


METHODS = {
    "Adaptive": (orn.Adaptive(max_steps=7), {"max_steps": 8}),
    "ImplicitEuler": (orn.methods.ImplicitEuler(max_iterations=3), {"max_iterations": 4}),
    "Adams": (orn.methods.Adams(max_evaluations=9), {"error_parts": mean_error}),
    "AdaptiveSDE": (orn.methods.AdaptiveSDE(orn.methods.SRK()), {"max_halvings": 4}),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_dataclasses_stay_dataclasses(name):
    """They are pickled, copied with changes and compared like any other."""
    method, changes = METHODS[name]
    assert is_dataclass(method)
    assert pickle.loads(pickle.dumps(method)) == method
    assert replace(method) == method
    assert replace(method, **changes) != method
    assert hash(replace(method)) == hash(method)


def test_the_order_of_positions_is_unchanged():
    assert orn.Adaptive(orn.Adaptive().tableau, 1e-3, 1e-4, 0.01, 7) == orn.Adaptive(
        rtol=1e-3, atol=1e-4, initial_step=0.01, max_steps=7
    )


def test_beside_is_independent_noise():
    path = orn.BrownianPath(shape=(2, 1), seed=3)
    with pytest.warns(DeprecationWarning, match="independent_noise"):
        noise = path.beside()
    assert torch.equal(noise.normal((2, 1)), path.independent_noise().normal((2, 1)))


def test_a_function_keeps_its_name():
    @renamed_arguments(old="new")
    def double(new: int) -> int:
        """Return twice the number."""
        return 2 * new

    assert double.__name__ == "double"
    assert double(3) == double(new=3) == 6
