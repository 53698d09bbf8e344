"""Time grids against the arrays of diffusers and k-diffusion, 1e-6 relative.

diffusers computes its levels from products of 1000 factors in float32, in which ``1 - alpha^2`` of
the first steps has four digits; it is given the same products in float64, so that what is compared
is the grid. k-diffusion runs in float64 for the same reason.
"""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from peers_support import k_diffusion
from torch import Tensor

from ornstein.core import processes as p
from ornstein.core.processes.linear import LinearSDE
from ornstein.core.timesteps import spacing
from ornstein.core.timesteps.spacing import Spacing

F64 = torch.float64
STEPS = [2, 7, 10, 48, 250]
CONFIGS = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "scaled": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}


def scheduler(name: str, **config: Any) -> Any:
    schedulers = pytest.importorskip("diffusers.schedulers", reason="compares with diffusers")
    made = getattr(schedulers, name)(**config)
    if hasattr(made, "betas"):
        made.alphas_cumprod = (1 - made.betas.double()).cumprod(0)
    return made


def ratios(sde: LinearSDE, times: Tensor) -> Tensor:
    """``sigma / alpha``."""
    return (-sde.log_snr(times) / 2).exp()


def assert_equal(ours: Tensor, theirs: Any, rtol: float = 1e-6) -> None:
    theirs = torch.as_tensor(np.asarray(theirs), dtype=F64)
    assert ours.shape == theirs.shape
    error = float(((ours - theirs).abs() / theirs.abs().clamp(min=1e-300)).max())
    assert error <= rtol, f"{ours[:5].tolist()} ... and {theirs[:5].tolist()} ..."


@pytest.mark.parametrize("betas", CONFIGS)
@pytest.mark.parametrize("n", STEPS)
class TestStepsOfAChain:
    @pytest.mark.parametrize(
        ("kind", "offset", "ours"),
        [
            ("trailing", 0, spacing.trailing),
            ("leading", 0, spacing.Leading()),
            ("leading", 1, spacing.Leading(offset=1)),
            ("linspace", 0, spacing.Linspace()),
        ],
    )
    @pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "PNDMScheduler"])
    def test_of_ddim(self, name, kind, offset, ours, betas, n):
        config = {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
        peer = scheduler(
            name, timestep_spacing=kind, steps_offset=offset, **CONFIGS[betas], **config
        )
        peer.set_timesteps(n)
        sde, steps = (
            p.DiscreteVP(peer.betas.double().tolist()),
            peer.timesteps.unique().flip(0),
        )  # PLMS visits its second step twice
        assert_equal(sde.times(n, ours)[:-1], (steps + 1) / 1000)
        assert_equal(sde.alpha(sde.times(n, ours)[:-1]).square(), peer.alphas_cumprod[steps])

    @pytest.mark.parametrize(
        ("kind", "offset", "ours"),
        [
            ("trailing", 0, spacing.trailing),
            ("leading", 0, spacing.Leading()),
            ("leading", 1, spacing.Leading(offset=1)),
            ("linspace", 0, spacing.Linspace(rounded=False)),
        ],
    )
    @pytest.mark.parametrize(
        "name", ["EulerDiscreteScheduler", "LMSDiscreteScheduler", "HeunDiscreteScheduler"]
    )
    def test_of_euler(self, name, kind, offset, ours, betas, n):
        peer = scheduler(name, timestep_spacing=kind, steps_offset=offset, **CONFIGS[betas])
        peer.set_timesteps(n)
        sigmas = peer.sigmas[
            torch.cat([torch.tensor([True]), peer.sigmas.diff() != 0])
        ]  # Heun's second stages repeat a level
        sde = p.DiscreteVP(peer.betas.double().tolist())
        coarse = (
            kind == "linspace" and betas == "cosine"
        )  # its steps are rounded to float32 where each changes sigma by a quarter
        assert_equal(ratios(sde, sde.times(n, ours)), sigmas, rtol=1e-5 if coarse else 1e-6)

    @pytest.mark.parametrize(
        ("kind", "offset", "ours"),
        [
            ("trailing", 0, spacing.trailing),
            ("leading", 0, spacing.Leading(drop_last=True)),
            ("leading", 1, spacing.Leading(offset=1, drop_last=True)),
            ("linspace", 0, spacing.Linspace(drop_last=True)),
        ],
    )
    @pytest.mark.parametrize(
        "name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"]
    )
    def test_of_dpm_solver(self, name, kind, offset, ours, betas, n):
        config = {"final_sigmas_type": "zero"} if name != "DEISMultistepScheduler" else {}
        peer = scheduler(
            name, timestep_spacing=kind, steps_offset=offset, **CONFIGS[betas], **config
        )
        peer.set_timesteps(n)
        sde = p.DiscreteVP(peer.betas.double().tolist())
        last = n if name == "DEISMultistepScheduler" else n + 1  # DEIS stops at its first step
        assert_equal(ratios(sde, sde.times(n, ours))[:last], peer.sigmas[:last])
        assert_equal(sde.times(n, ours)[:-1], (peer.timesteps + 1) / 1000)


@pytest.mark.parametrize("betas", CONFIGS)
@pytest.mark.parametrize("n", STEPS)
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            (f"{name}Scheduler", kind)
            for name in ("DPMSolverMultistep", "EulerDiscrete")
            for kind in ("karras", "exponential", "beta")
        ),
        ("DPMSolverMultistepScheduler", "lu"),
    ],
)
def test_levels_of_diffusers(name, kind, betas, n):
    option = "use_lu_lambdas" if kind == "lu" else f"use_{kind}_sigmas"
    peer = scheduler(name, timestep_spacing="linspace", **{option: True}, **CONFIGS[betas])
    peer.set_timesteps(n)
    sde = p.DiscreteVP(peer.betas.double().tolist())
    first = float(ratios(sde, torch.tensor(1 / 1000, dtype=F64)))
    grids: dict[str, list[Spacing]] = {
        "karras": [spacing.Karras(sigma_min=first)],
        "exponential": [spacing.Exponential(sigma_min=first)],
        "beta": [spacing.Beta(sigma_min=first)],
        "lu": [spacing.Lu(t_min=1 / 1000), spacing.Exponential(sigma_min=first)],
    }
    for grid in grids[kind]:
        assert_equal(ratios(sde, sde.times(n, grid)), peer.sigmas)


@pytest.mark.parametrize("n", STEPS)
@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
class TestShift:
    def test_of_flow_matching(self, n, shift):
        """Its smallest level is shifted twice: once when it is made, once with the others."""
        peer = scheduler("FlowMatchEulerDiscreteScheduler", shift=shift)
        peer.set_timesteps(n)
        t_min = shift / 1000 / (1 + (shift - 1) / 1000)
        grid = spacing.Shifted(spacing.Power(1.0, t_min), shift)
        assert_equal(p.RectifiedFlow().times(n, grid), peer.sigmas)

    def test_of_flow_matching_as_pipelines_call_it(self, n, shift):
        peer = scheduler("FlowMatchEulerDiscreteScheduler", shift=shift)
        peer.set_timesteps(sigmas=np.linspace(1.0, 1 / n, n))
        assert_equal(
            p.RectifiedFlow().times(n, spacing.Shifted(spacing.uniform, shift)), peer.sigmas
        )

    def test_of_flow_matching_that_depends_on_the_resolution(self, n, shift):
        peer = scheduler("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True)
        peer.set_timesteps(sigmas=np.linspace(1.0, 1 / n, n), mu=np.log(shift))
        assert_equal(
            p.RectifiedFlow().times(n, spacing.Shifted(spacing.uniform, shift)), peer.sigmas
        )


def test_published_tables_are_taken_as_they_are():
    tables = pytest.importorskip(
        "diffusers.schedulers", reason="compares with diffusers"
    ).AysSchedules
    for name in ("StableDiffusionSigmas", "StableDiffusionXLSigmas", "StableDiffusionVideoSigmas"):
        sde = p.EDM(tables[name][0])
        assert_equal(sde.times(10, spacing.Table(tables[name])), tables[name])


@pytest.mark.parametrize("n", STEPS)
@pytest.mark.parametrize(
    ("name", "options", "grid"),
    [
        ("karras", {"rho": 7.0}, spacing.Karras()),
        ("karras", {"rho": 2.0}, spacing.Karras(rho=2.0)),
        ("exponential", {}, spacing.Exponential()),
        ("polyexponential", {"rho": 1.0}, spacing.Polyexponential(rho=1.0)),
        ("polyexponential", {"rho": 1.5}, spacing.Polyexponential(rho=1.5)),
    ],
)
def test_levels_of_k_diffusion(name, options, grid, n):
    theirs = _in_float64(f"get_sigmas_{name}", n, 0.002, 80.0, **options)
    assert_equal(p.EDM(80.0).times(n, grid), theirs)


@pytest.mark.parametrize("n", STEPS)
def test_levels_of_the_vp_grid_of_k_diffusion(n):
    sde = p.VP(0.1, 20.0)
    assert_equal(
        ratios(sde, sde.times(n, spacing.Power(1.0, t_min=1e-3))), _in_float64("get_sigmas_vp", n)
    )


def _in_float64(name: str, *args: Any, **options: Any) -> Tensor:
    sampling: Any = sys.modules.get("k_diffusion.sampling") or k_diffusion()
    torch.set_default_dtype(F64)
    try:
        return getattr(sampling, name)(*args, **options)
    finally:
        torch.set_default_dtype(torch.float32)
