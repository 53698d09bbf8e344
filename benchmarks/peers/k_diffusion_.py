"""k-diffusion's deterministic samplers on its own grids: EDM coordinates, sigma from 80 to 0.002
and then to 0.

Only its module of samplers is loaded: the package imports torchvision and much else when it is
imported, of which the samplers need one function that adds dimensions.
"""

__all__ = ["COLUMNS"]

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from typing import Any

from torch import Tensor

from benchmarks.peers import SIGMA_MAX, Column, Counted, column

SIGMA_MIN = 0.002


@cache
def _sampling() -> Any:
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(
            "k_diffusion is not installed: pip install --no-deps k-diffusion", name="k_diffusion"
        )
    package, utils = ModuleType("k_diffusion"), ModuleType("k_diffusion.utils")
    package.__path__ = list(spec.submodule_search_locations)
    append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]  # noqa: E731
    utils.append_dims = append_dims  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utils}
    return importlib.import_module("k_diffusion.sampling")


_K = _sampling()

_GRIDS: dict[str, Callable[[int], Tensor]] = {
    "karras": lambda n: _K.get_sigmas_karras(n, SIGMA_MIN, SIGMA_MAX),
    "exponential": lambda n: _K.get_sigmas_exponential(n, SIGMA_MIN, SIGMA_MAX),
    "polyexponential": lambda n: _K.get_sigmas_polyexponential(n, SIGMA_MIN, SIGMA_MAX, rho=1.5),
    "vp": lambda n: _K.get_sigmas_vp(n),
}

_METHODS: dict[str, tuple[Callable[..., Tensor], int]] = {
    "euler": (_K.sample_euler, 1),
    "heun": (_K.sample_heun, 2),
    "dpm_2": (_K.sample_dpm_2, 2),
    "lms 2": (partial(_K.sample_lms, order=2), 1),
    "lms 4": (_K.sample_lms, 1),
    "dpmpp_2m": (_K.sample_dpmpp_2m, 1),
    "dpmpp_2m heun": (
        partial(_K.sample_dpmpp_2m_sde, eta=0.0, noise_sampler=object(), solver_type="heun"),
        1,
    ),
    "dpmpp_3m": (partial(_K.sample_dpmpp_3m_sde, eta=0.0, noise_sampler=object()), 1),
    "dpmpp_2s": (partial(_K.sample_dpmpp_2s_ancestral, eta=0.0, s_noise=0.0), 2),
}


def _model(denoiser: Counted) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda y, sigma: denoiser(y, float(sigma[0]))


def _solve(
    denoiser: Counted,
    n: int,
    method: Callable[..., Tensor],
    grid: Callable[[int], Tensor],
    to_zero: bool,
) -> tuple[Tensor, float]:
    sigmas = grid(n).double() if to_zero else grid(n + 1)[:-1].double()
    return method(_model(denoiser), denoiser.start(float(sigmas[0])), sigmas, disable=True), float(
        sigmas[-1]
    )


def _fast(denoiser: Counted, n: int) -> tuple[Tensor, float]:
    return _K.sample_dpm_fast(
        _model(denoiser), denoiser.start(SIGMA_MAX), SIGMA_MIN, SIGMA_MAX, n, disable=True
    ), SIGMA_MIN


def _columns() -> dict[str, Column]:
    out: dict[str, Column] = {"k-diffusion dpm_fast": column(_fast, least=3)}
    for name, (method, calls) in _METHODS.items():
        for where, grid in _GRIDS.items():
            solve = partial(_solve, method=method, grid=grid)
            out[f"k-diffusion {name} {where}"] = column(partial(solve, to_zero=True), calls)
            if where != "vp" or calls > 1 or "lms" not in name:
                out[f"k-diffusion {name} {where} to min"] = column(
                    partial(solve, to_zero=False), calls
                )
    return out


COLUMNS: dict[str, Column] = _columns()
