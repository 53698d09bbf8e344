"""diffusers' schedulers are our methods: the same model, grid and random numbers give the same end
point.

A scheduler that computes its levels in float64 is met to 1e-12; one that rounds something to
float32 on the way, to 1e-5. Not among our methods are: the second difference of third-order
DPM-Solver++, multistep and singlestep, which lacks a factor 2 (or is weighted otherwise than its
stages), PNDM with Runge-Kutta steps, and the churn of the Euler schedulers, which evaluate before
they add the noise. Grids that end with a level twice, where higher orders are 0 / 0, are left out.
"""

import math
from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple

import pytest
import torch
from peers_support import F32, F64, Drawn, Point, StartedBy, distance, model, ours
from torch import Tensor

pytest.importorskip("diffusers")

from peers_diffusers import CHAIN, Run, angular, begin, chain, edm, preserving, scaled, straight

from ornstein.core import processes as p
from ornstein.core.methods import (
    Ancestral,
    AncestralStep,
    EulerMaruyama,
    Heun,
    Multistep,
    Singlestep,
)
from ornstein.core.methods.exponential_weights import even, exact, middle, middle_bh1
from ornstein.core.processes.reverse import Posterior
from ornstein.core.simulation.method import Method
from ornstein.core.timesteps.clock import Index, Ratio

INF = math.inf
MODELS = {
    driver: model(sde)
    for driver, sde in {
        chain: CHAIN,
        scaled: CHAIN,
        preserving: CHAIN,
        edm: p.EDM(),
        straight: p.RectifiedFlow(),
        angular: p.Cosine(),
    }.items()
}
TRAPEZOID, DPM2 = Singlestep((1.0,), INF, Ratio(), exact), Singlestep((0.5,), INF)
GRIDS: list[dict[str, Any]] = [{}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}]


class Case(NamedTuple):
    """A scheduler, what it is made with, and the method that it is."""

    drive: Callable[..., Run]
    name: str
    config: dict[str, Any]
    method: Method
    eta: float = 0.0
    options: dict[str, Any] = {}  # noqa: RUF012  # of its step
    rounded: bool = False
    dtypes: tuple[torch.dtype, ...] = (F32, F64)
    every: int = 1

    def __str__(self) -> str:
        return "-".join(
            [
                self.name,
                *(f"{k}={v}" for k, v in self.config.items() if not callable(v)),
                f"eta={self.eta:g}",
            ]
        )


def tau(value: float) -> Callable[[Any], Tensor]:
    """A constant, as `SASolverScheduler` wants it."""
    return lambda t: torch.tensor(value, dtype=F64)


def discrete() -> list[Case]:
    """Levels that are training steps."""
    ddim: dict[str, Any] = {"clip_sample": False}
    out = [
        Case(
            chain,
            "DDPMScheduler",
            {**ddim, "prediction_type": kind, "timestep_spacing": "trailing"},
            Ancestral(),
            1.0,
            rounded=True,
        )
        for kind in ("epsilon", "sample", "v_prediction")
    ]
    for spacing in ("leading", "trailing"):
        config = {**ddim, "timestep_spacing": spacing}
        out += [
            Case(chain, "DDIMScheduler", config, Ancestral(), eta, {"eta": eta})
            for eta in (0.0, 0.5, 1.0)
        ]
        out.append(
            Case(
                chain, "DDIMScheduler", {**config, "prediction_type": "v_prediction"}, Multistep(1)
            )
        )
        plms = StartedBy(Multistep(4, INF, Index(), even), TRAPEZOID)
        pndm = {"skip_prk_steps": True, "set_alpha_to_one": True, "timestep_spacing": spacing}
        out.append(Case(chain, "PNDMScheduler", pndm, plms))
    betas = torch.linspace(1.45, 0, 21).sin().tolist()
    return [
        *out,
        Case(angular, "IPNDMScheduler", {"trained_betas": betas}, Multistep(4, INF, Index(), even)),
    ]


def of_k_diffusion() -> list[Case]:
    """Levels that are noise-to-signal ratios, states without a signal factor."""
    out = [
        Case(
            scaled,
            "EulerAncestralDiscreteScheduler",
            {},
            AncestralStep(Ancestral()),
            1.0,
            rounded=True,
            dtypes=(F32,),
        )
    ]
    for grid in GRIDS:
        velocity = {**grid, "prediction_type": "v_prediction"}
        out += [
            Case(scaled, "EulerDiscreteScheduler", grid, Multistep(1, INF), rounded=True),
            Case(scaled, "EulerDiscreteScheduler", velocity, Ancestral(), rounded=True),
            Case(scaled, "HeunDiscreteScheduler", grid, TRAPEZOID),
            Case(scaled, "LMSDiscreteScheduler", grid, Multistep(4, INF, Ratio()), rounded=True),
            Case(scaled, "KDPM2DiscreteScheduler", grid, DPM2, rounded=True),
            Case(
                scaled,
                "KDPM2AncestralDiscreteScheduler",
                grid,
                AncestralStep(DPM2),
                1.0,
                rounded=True,
            ),
        ]
    return out


def dpm_solvers() -> list[Case]:
    """DPM-Solver and DPM-Solver++, their SDE versions, of one or many steps; on the grids of VP and
    of EDM."""
    out = []
    for kind, weights in (("midpoint", middle), ("heun", exact)):
        for order in (1, 2):
            config, method = (
                {"solver_order": order, "solver_type": kind},
                Multistep(order, weights=weights, last=1),
            )
            noise = Multistep(order, INF, weights=weights, last=1)
            for name, eta in (("dpmsolver", 0.0), ("sde-dpmsolver", 1.0)):
                to_min = {**config, "algorithm_type": name, "final_sigmas_type": "sigma_min"}
                dtypes = (F32,) if eta else (F32, F64)
                out.append(
                    Case(
                        preserving,
                        "DPMSolverMultistepScheduler",
                        to_min,
                        noise,
                        eta,
                        rounded=True,
                        dtypes=dtypes,
                    )
                )
            for grid in GRIDS:
                for name, eta in (("dpmsolver++", 0.0), ("sde-dpmsolver++", 1.0)):
                    at = {**config, **grid, "algorithm_type": name}
                    dtypes = (F32,) if eta else (F32, F64)
                    out.append(
                        Case(
                            preserving,
                            "DPMSolverMultistepScheduler",
                            at,
                            method,
                            eta,
                            rounded=True,
                            dtypes=dtypes,
                        )
                    )
            for schedule in ("karras", "exponential"):
                for name, eta in (("dpmsolver++", 0.0), ("sde-dpmsolver++", 1.0)):
                    at = {**config, "sigma_schedule": schedule, "algorithm_type": name}
                    out.append(Case(edm, "EDMDPMSolverMultistepScheduler", at, method, eta))
        single = {
            "solver_order": 2,
            "solver_type": kind,
            "use_exponential_sigmas": True,
            "lower_order_final": True,
        }
        out.append(
            Case(
                preserving,
                "DPMSolverSinglestepScheduler",
                single,
                Singlestep((0.5,), weights=weights),
                rounded=True,
                every=2,
            )
        )
    return out


def correctors() -> list[Case]:
    """UniPC, DEIS and SA-Solver."""
    out = []
    for order in (1, 2, 3):
        for kind, weights in (("bh1", middle_bh1), ("bh2", middle)):
            for clean in (True, False):
                config = {
                    "solver_order": order,
                    "solver_type": kind,
                    "predict_x0": clean,
                    "final_sigmas_type": "sigma_min",
                }
                method = Multistep(
                    order, 0.0 if clean else INF, weights=weights, corrector=order, last=1
                )
                out.append(Case(preserving, "UniPCMultistepScheduler", config, method))
        for grid in GRIDS:
            method = Multistep(order, weights=middle, corrector=order, last=1)
            out.append(
                Case(
                    preserving,
                    "UniPCMultistepScheduler",
                    {"solver_order": order, "solver_type": "bh2", **grid},
                    method,
                )
            )
        out.append(
            Case(
                preserving,
                "DEISMultistepScheduler",
                {"solver_order": order},
                Multistep(order, INF, last=1),
            )
        )
        for corrector in (1, 2):
            for eta in (0.0, 0.6, 1.0):
                config = {
                    "predictor_order": order,
                    "corrector_order": corrector + 1,
                    "tau_func": tau(eta),
                }
                method = Multistep(order, weights=middle_bh1, corrector=corrector, last=1)
                out.append(Case(preserving, "SASolverScheduler", config, method, eta))
    return out


def others() -> list[Case]:
    """Euler's and Heun's methods of EDM and of flow matching."""
    out = [
        Case(edm, "EDMEulerScheduler", {"sigma_schedule": schedule}, Ancestral(), rounded=True)
        for schedule in ("karras", "exponential")
    ]
    for shift in (1.0, 3.0):
        for method in (Ancestral(), EulerMaruyama()):
            out.append(
                Case(
                    straight,
                    "FlowMatchEulerDiscreteScheduler",
                    {"shift": shift},
                    method,
                    rounded=True,
                )
            )
        out.append(
            Case(straight, "FlowMatchHeunDiscreteScheduler", {"shift": shift}, Heun(), rounded=True)
        )
    return out


CASES = [
    pytest.param(case, dtype, id=f"{case}-{str(dtype)[6:]}")
    for case in [*discrete(), *of_k_diffusion(), *dpm_solvers(), *correctors(), *others()]
    for dtype in case.dtypes
]


@pytest.mark.parametrize(("case", "dtype"), CASES)
def test_a_scheduler_is_a_method(case: Case, dtype: torch.dtype):
    posterior: Posterior = MODELS[case.drive]
    scheduler = begin(case.name, 20 if case.drive in (chain, angular) else 13, dtype, **case.config)
    options = dict(case.options)
    if "generator" in signature(scheduler.step).parameters:
        options["generator"] = Drawn().generator()
    run = case.drive(scheduler, posterior, dtype, **options)
    times = torch.cat([run.times[:-1][:: case.every], run.times[-1:]])
    gap = distance(ours(Point(posterior), run.start, times, case.method, case.eta), run.end)
    assert gap < (2e-5 if dtype == F32 else 1e-5 if case.rounded else 1e-12)
