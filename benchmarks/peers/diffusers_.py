"""The schedulers of diffusers that add no noise, on the grids they offer, driven as their pipelines
drive them.

The model gets the level that the scheduler works with, not the training step it is rounded to,
and answers in the scheduler's own parametrisation: a better network than any. Training schedules:
linear betas (VP) and squared cosine; EDM; straight.
"""

__all__ = ["COLUMNS"]

import logging
from functools import partial
from typing import Any

import diffusers.schedulers as schedulers
from torch import Tensor

from benchmarks.peers import Column, Counted, column

logging.getLogger("diffusers").setLevel(logging.ERROR)

_BETAS: dict[str, dict[str, Any]] = {
    "vp": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}
_INFINITE = 1e7  # a level at which no signal is left


def _begin(name: str, config: dict[str, Any], n: int) -> Any:
    scheduler = getattr(schedulers, name)(**config)
    scheduler.set_timesteps(n)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    return scheduler


def _scaled(denoiser: Counted, n: int, name: str, config: dict[str, Any]) -> tuple[Tensor, float]:
    """Schedulers whose state is ``x_0 + sigma z``, and whose models predict the noise."""
    scheduler = _begin(name, config, n)
    y = denoiser.start(float(scheduler.sigmas[0]))
    for i, t in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(y, t)
        inner = name == "KDPM2DiscreteScheduler" and not scheduler.state_in_first_order
        sigma = float((scheduler.sigmas_interpol if inner else scheduler.sigmas)[i])
        y = scheduler.step((y - denoiser(y, sigma)) / sigma, t, y).prev_sample.double()
    return y, float(scheduler.sigmas[-1])


def _edm(denoiser: Counted, n: int, name: str, config: dict[str, Any]) -> tuple[Tensor, float]:
    """Schedulers whose state is ``x_0 + sigma z``, and which precondition the network
    themselves."""
    scheduler = _begin(name, config, n)
    y, width = denoiser.start(float(scheduler.sigmas[0])), scheduler.config.sigma_data
    for sigma, t in zip(scheduler.sigmas.double().tolist(), scheduler.timesteps, strict=False):
        scheduler.scale_model_input(y, t)
        total = sigma**2 + width**2
        raw = (denoiser(y, sigma) - width**2 / total * y) * (total**0.5 / (sigma * width))
        y = scheduler.step(raw, t, y).prev_sample.double()
    return y, float(scheduler.sigmas[-1])


def _preserving(
    denoiser: Counted, n: int, name: str, config: dict[str, Any]
) -> tuple[Tensor, float]:
    """Schedulers with states ``alpha x_0 + sigma z`` whose models predict the clean point."""
    scheduler = _begin(name, {**config, "prediction_type": "sample"}, n)
    flow = bool(config.get("use_flow_sigmas"))
    sigmas = scheduler.sigmas.double()
    alphas = 1 - sigmas if flow else (1 + sigmas.square()).rsqrt()
    levels = (sigmas / alphas if flow else sigmas).tolist()
    x = alphas[0] * denoiser.start(levels[0])
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(denoiser(x / alphas[i], levels[i]), t, x).prev_sample.double()
    return x / alphas[-1], levels[-1]


def _discrete(denoiser: Counted, n: int, name: str, config: dict[str, Any]) -> tuple[Tensor, float]:
    """Schedulers whose levels are training steps."""
    scheduler = _begin(name, config, n)
    squares = scheduler.alphas_cumprod.double()
    alphas, levels = squares.sqrt(), ((1 - squares) / squares).sqrt().tolist()
    first = int(scheduler.timesteps[0])
    x = alphas[first] * denoiser.start(levels[first])
    for t in scheduler.timesteps:
        y, level = x / alphas[t], levels[int(t)]
        clean = denoiser(y, level)
        output = clean if config.get("prediction_type") == "sample" else (y - clean) / level
        x = scheduler.step(output, t, x).prev_sample.double()
    return x, 0.0


def _straight(denoiser: Counted, n: int, name: str, config: dict[str, Any]) -> tuple[Tensor, float]:
    """Schedulers of flow matching: state ``(1 - s) x_0 + s z``, models that predict ``z - x_0``."""
    scheduler = _begin(name, config, n)
    low = 1 / (1 + _INFINITE)
    sigmas = scheduler.sigmas.double().clamp(max=1 - low).tolist()
    x = denoiser.start(sigmas[0] / (1 - sigmas[0])) * (1 - sigmas[0])
    for s, t in zip(sigmas, scheduler.timesteps, strict=False):
        x = scheduler.step((x - denoiser(x / (1 - s), s / (1 - s))) / s, t, x).prev_sample.double()
    return x, 0.0


def _angular(denoiser: Counted, n: int, name: str, config: dict[str, Any]) -> tuple[Tensor, float]:
    """IPNDM: the state is ``cos x_0 + sin z``, and its model predicts ``cos z - sin x_0``."""
    scheduler = _begin(name, config, n)
    sines, cosines = scheduler.betas.double(), scheduler.alphas.double().clamp(min=1 / _INFINITE)
    x = denoiser.start(float(sines[0] / cosines[0])) * cosines[0]
    for sine, cosine, t in zip(sines, cosines, scheduler.timesteps, strict=False):
        clean = denoiser(x / cosine, float(sine / cosine))
        x = scheduler.step(
            cosine * (x - cosine * clean) / sine - sine * clean, t, x
        ).prev_sample.double()
    return x, 0.0


def _columns() -> dict[str, Column]:
    out: dict[str, Column] = {}

    def add(
        solve: Any, label: str, name: str, calls: int = 1, least: int = 1, **config: Any
    ) -> None:
        out[f"diffusers {label}"] = column(partial(solve, name=name, config=config), calls, least)

    scale: list[tuple[str, dict[str, Any]]] = [
        (grid, {f"use_{grid}_sigmas": True}) for grid in ("karras", "exponential", "beta")
    ]
    spaced = [
        ("linspace", {"timestep_spacing": "linspace"}),
        ("trailing", {"timestep_spacing": "trailing"}),
        *scale,
    ]
    vp = _BETAS["vp"]

    for where, betas in _BETAS.items():
        for spacing in ("leading", "trailing"):
            common: dict[str, Any] = {**betas, "timestep_spacing": spacing}
            add(
                _discrete,
                f"DDIM {where} {spacing}",
                "DDIMScheduler",
                clip_sample=False,
                prediction_type="sample",
                **common,
            )
            for mode, least in (("PLMS", 1), ("PNDM", 4)):
                config: dict[str, Any] = {
                    "skip_prk_steps": mode == "PLMS",
                    "set_alpha_to_one": True,
                    **common,
                }
                add(_discrete, f"{mode} {where} {spacing}", "PNDMScheduler", least=least, **config)

    for label, name, calls in (
        ("Euler", "Euler", 1),
        ("LMS", "LMS", 1),
        ("Heun", "Heun", 2),
        ("KDPM2", "KDPM2", 2),
    ):
        for grid, config in spaced:
            add(_scaled, f"{label} vp {grid}", f"{name}DiscreteScheduler", calls, **vp, **config)

    solvers: dict[str, tuple[str, dict[str, Any]]] = {}
    for order in (1, 2, 3):
        solvers[f"DPM++{order}M"] = ("DPMSolverMultistepScheduler", {"solver_order": order})
        solvers[f"DPM{order}M"] = (
            "DPMSolverMultistepScheduler",
            {"solver_order": order, "algorithm_type": "dpmsolver"},
        )
        if order > 1:
            solvers[f"DPM++{order}S"] = (
                "DPMSolverSinglestepScheduler",
                {"solver_order": order, "lower_order_final": True},
            )
            solvers[f"DPM{order}S"] = (
                "DPMSolverSinglestepScheduler",
                {"solver_order": order, "algorithm_type": "dpmsolver", "lower_order_final": True},
            )
            solvers[f"DEIS{order}"] = ("DEISMultistepScheduler", {"solver_order": order})
            for kind in ("bh1", "bh2"):
                solvers[f"UniPC{order} {kind}"] = (
                    "UniPCMultistepScheduler",
                    {"solver_order": order, "solver_type": kind},
                )
    solvers["DPM++2M heun"] = (
        "DPMSolverMultistepScheduler",
        {"solver_order": 2, "solver_type": "heun"},
    )

    for label, (name, config) in solvers.items():
        noise = config.get("algorithm_type") == "dpmsolver"
        for grid, choice in [
            *spaced,
            ("flow", {"use_flow_sigmas": True}),
            ("lu", {"use_lu_lambdas": True}),
        ]:
            single, multi = name.startswith("DPMSolverSingle"), name.startswith("DPMSolverMulti")
            if (grid == "lu" and not multi) or (single and grid == "trailing"):
                continue
            if single and grid == "linspace":
                choice = {}
            for end in ("zero", "sigma_min"):
                # left out: what the scheduler refuses, what is NaN (bh1 to zero), and grids of flow
                # that stop at a high level
                if end == "zero" and (
                    noise or name.startswith("DEIS") or config.get("solver_type") == "bh1"
                ):
                    continue
                if end == "sigma_min" and grid == "flow" and name.startswith(("DEIS", "UniPC")):
                    continue
                final: dict[str, Any] = (
                    {} if name.startswith("DEIS") else {"final_sigmas_type": end}
                )
                if multi and end == "sigma_min":
                    final["euler_at_final"] = (
                        True  # some grids end with a level twice, where higher orders are 0 / 0
                    )
                add(
                    _preserving,
                    f"{label} vp {grid} to {end}",
                    name,
                    **vp,
                    **config,
                    **choice,
                    **final,
                )
    for label in ("DPM++2M", "DPM++3M", "UniPC2 bh2", "UniPC3 bh2"):
        name, config = solvers[label]
        add(_preserving, f"{label} cosine linspace to zero", name, **_BETAS["cosine"], **config)

    for schedule in ("karras", "exponential"):
        for end in ("zero", "sigma_min"):
            ends: dict[str, Any] = {"sigma_schedule": schedule, "final_sigmas_type": end}
            add(_edm, f"EDMEuler {schedule} to {end}", "EDMEulerScheduler", **ends)
            ends["euler_at_final"] = end == "sigma_min"
            for order in (1, 2, 3):
                add(
                    _edm,
                    f"EDMDPM++{order}M {schedule} to {end}",
                    "EDMDPMSolverMultistepScheduler",
                    solver_order=order,
                    **ends,
                )

    for shift in (1.0, 3.0):
        add(
            _straight,
            f"FlowMatchHeun shift={shift:g}",
            "FlowMatchHeunDiscreteScheduler",
            2,
            shift=shift,
        )
        add(
            _straight,
            f"FlowMatchEuler shift={shift:g}",
            "FlowMatchEulerDiscreteScheduler",
            shift=shift,
        )
        for grid, choice in scale:
            add(
                _straight,
                f"FlowMatchEuler shift={shift:g} {grid}",
                "FlowMatchEulerDiscreteScheduler",
                shift=shift,
                **choice,
            )
    add(_angular, "IPNDM", "IPNDMScheduler")
    return out


COLUMNS: dict[str, Column] = _columns()
