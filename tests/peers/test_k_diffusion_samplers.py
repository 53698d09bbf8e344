"""k-diffusion's samplers are our methods: the same model, grid and random numbers give the same end
point.

Its state is ours on `EDM`, whose time is the noise level. Its eta of "ancestral" samplers is ours,
that of "sde" samplers our square. Not among our methods is ``sample_dpmpp_sde`` with noise (it
draws within a step too). ``sample_dpmpp_3m_sde`` leaves the factor 2 out of ``D'' = 2 D[t, t',
t'']``, which costs it the third order: only its first two steps are those of ours.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from peers_support import F32, F64, Drawn, distance, k_diffusion, model, ours, standard
from torch import Tensor

from ornstein.core import processes as p
from ornstein.core.methods import Ancestral, AncestralStep, Churn, Heun, Multistep, Singlestep
from ornstein.core.methods.exponential_weights import exact, middle
from ornstein.core.simulation.method import Method
from ornstein.core.timesteps.clock import Ratio

K = k_diffusion()
MODEL = model(p.EDM())
INF = math.inf
GRIDS: dict[str, Tensor] = {
    "karras": K.get_sigmas_karras(12, 0.02, 40.0),
    "exponential": K.get_sigmas_exponential(12, 0.05, 30.0),
    "polyexponential": K.get_sigmas_polyexponential(12, 0.03, 50.0, rho=1.3),
    "karras to min": K.get_sigmas_karras(13, 0.02, 40.0)[:-1],
}
TOLERANCE = {F32: 1e-5, F64: 1e-12}
DPM2 = Singlestep((0.5,), INF, weights=middle)

FLOWS: list[tuple[str, dict[str, Any], Method]] = [
    ("euler", {}, Ancestral()),
    ("euler", {}, Multistep(1, INF)),
    ("heun", {}, Heun()),
    ("heun", {}, Singlestep((1.0,), INF, Ratio(), exact)),
    ("dpm_2", {}, DPM2),
    *(("lms", {"order": order}, Multistep(order, INF, Ratio())) for order in (1, 2, 3, 4)),
    ("dpmpp_2m", {}, Multistep(2, weights=middle)),
    ("dpmpp_sde", {"eta": 0.0, "noise_sampler": lambda t, s: 0.0}, Singlestep()),
]
CHURNED: list[tuple[str, Method]] = [("euler", Ancestral()), ("heun", Heun()), ("dpm_2", DPM2)]
NOISY: list[tuple[str, dict[str, Any], Method, Callable[[float], float]]] = [
    ("euler_ancestral", {}, AncestralStep(Ancestral()), float),
    ("dpm_2_ancestral", {}, AncestralStep(DPM2), float),
    ("dpmpp_2s_ancestral", {}, AncestralStep(Singlestep()), float),
    ("dpmpp_2m_sde", {"solver_type": "midpoint"}, Multistep(2, weights=middle), math.sqrt),
    ("dpmpp_2m_sde", {"solver_type": "heun"}, Multistep(2), math.sqrt),
]

each_grid = pytest.mark.parametrize("grid", GRIDS)
each_dtype = pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    return MODEL(x, sigma[0]).mean


def gap(
    name: str,
    options: dict[str, Any],
    sigmas: Tensor,
    dtype: torch.dtype,
    method: Method,
    eta: float = 0.0,
) -> float:
    """Distance between the two end points."""
    x = standard(dtype) * float(sigmas[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Drawn().seed)
        end = getattr(K, f"sample_{name}")(denoise, x, sigmas.to(dtype), disable=True, **options)
    return distance(ours(MODEL, x, sigmas.double(), method, eta), end)


@each_grid
@each_dtype
@pytest.mark.parametrize(("name", "options", "method"), FLOWS, ids=repr)
def test_without_noise(name, options, method, grid, dtype):
    assert gap(name, options, GRIDS[grid], dtype, method) < TOLERANCE[dtype]


@each_grid
@each_dtype
@pytest.mark.parametrize(("name", "inner"), CHURNED, ids=repr)
def test_with_churn(name, inner, grid, dtype):
    method = Churn(inner, amount=4.0, low=0.0, high=INF, noise=1.007)
    assert (
        gap(name, {"s_churn": 4.0, "s_noise": 1.007}, GRIDS[grid], dtype, method) < TOLERANCE[dtype]
    )


@each_grid
@each_dtype
@pytest.mark.parametrize("eta", [0.0, 0.49, 1.0])
@pytest.mark.parametrize(("name", "options", "method", "to_ours"), NOISY, ids=repr)
def test_with_noise(name, options, method, to_ours, eta, grid, dtype):
    generator = Drawn().generator()

    def draw(t: Tensor, s: Tensor) -> Tensor:
        return torch.randn(standard(dtype).shape, generator=generator, dtype=dtype)

    options = {**options, "eta": eta, "noise_sampler": draw}
    assert gap(name, options, GRIDS[grid], dtype, method, to_ours(eta)) < TOLERANCE[dtype]


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_first_two_steps_of_the_third_order_method(eta):
    generator = Drawn().generator()

    def draw(t: Tensor, s: Tensor) -> Tensor:
        return torch.randn(standard(F64).shape, generator=generator, dtype=F64)

    sigmas = GRIDS["karras"][:3]
    assert (
        gap("dpmpp_3m_sde", {"eta": eta, "noise_sampler": draw}, sigmas, F64, Multistep(3), eta)
        < TOLERANCE[F64]
    )


@pytest.mark.parametrize(
    ("order", "method"),
    [(1, Ancestral()), (2, DPM2), (3, Singlestep((1 / 3, 2 / 3), INF, weights=exact))],
    ids=repr,
)
def test_the_steps_of_dpm_fast_and_adaptive(order, method):
    solver, sigmas = K.DPMSolver(denoise, {}), GRIDS["karras to min"].double()
    x = start = standard(F64) * sigmas[0]
    for t, s in pairwise(-sigmas.log()):
        x, _ = getattr(solver, f"dpm_solver_{order}_step")(x, t, s)
    assert distance(ours(MODEL, start, sigmas, method), x) < TOLERANCE[F64]
