"""Log-likelihoods of other libraries by the probability flow, for one posterior that is known
exactly and costs all the same.

In every process the flow carries data x to noise, and ``log p(x) = log p_T(x_T) + int div dt``;
each peer has its own time, its own start law and its own estimate of the divergence. `by_hand` is
the loop that one writes with torchdiffeq alone.
"""

__all__ = ["Denoiser", "by_hand", "flow_matching", "k_diffusion"]

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import ornstein as orn

# on the straight path, below it the velocity is taken to be what it is there: at 0 it is 0 / 0
CLOSE = 1e-5
STEEP = 0.1, 20.0  # beta_min and beta_max of VP
ENDS = {"RectifiedFlow": (0.0, 1.0), "VP": (1e-7, 1.0), "EDM": (3e-5, 80.0)}
"""Times from data to noise; VP's usual 1e-5 alone is an error of 2e-3 where the data are as narrow
as 0.05."""


@dataclass(eq=False)
class Denoiser:
    """``E[x_0 | alpha x_0 + sigma z = x]`` of a mixture with one width per component, which counts
    its calls.

    Args:
        target: the mixture; of its widths, the first coordinate's count.
        passes: backward passes, counted only while ``watched``, because the count takes time.
    """

    target: orn.targets.GaussianMixture
    watched: bool = False
    calls: int = 0
    passes: int = 0

    def __post_init__(self) -> None:
        self.means, self.var = self.target.means, self.target.stds[:, 0].square()
        self.bias, self.squares = self.target.weights.log(), self.means.square().sum(1)

    def __call__(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """``(b, d) -> (b, d)``, float64."""
        self.calls += 1
        u = alpha**2 * self.var + sigma**2
        square = (
            x.square().sum(1, keepdim=True)
            - 2 * alpha * (x @ self.means.T)
            + alpha**2 * self.squares
        )
        p = (self.bias - square / (2 * u) - x.shape[1] / 2 * u.log()).softmax(1) / u
        mean = sigma**2 * (p @ self.means) + alpha * x * (p @ self.var)[:, None]
        if self.watched and mean.requires_grad:
            mean.register_hook(self._passed)
        return mean

    def _passed(self, gradient: Tensor) -> None:
        self.passes += 1


def normal(x: Tensor, std: float = 1.0) -> Tensor:
    """``log N(x; 0, std^2 I)``."""
    return -(x / std).square().sum(1) / 2 - x.shape[1] * math.log(std * math.sqrt(2 * math.pi))


def straight(denoise: Denoiser, x: Tensor, t: float) -> Tensor:
    """Velocity of ``x_t = (1 - t) x_0 + t z``."""
    t = max(t, CLOSE)
    return (x - denoise(x, 1 - t, t)) / t


def _vp(denoise: Denoiser, x: Tensor, t: float) -> Tensor:
    low, high = STEEP
    integral = t * (low + (high - low) * t / 2)
    alpha, var = math.exp(-integral / 2), -math.expm1(-integral)
    return (
        -(low + (high - low) * t) / 2 * (x + (alpha * denoise(x, alpha, math.sqrt(var)) - x) / var)
    )


def _edm(denoise: Denoiser, x: Tensor, t: float) -> Tensor:
    return (x - denoise(x, 1.0, t)) / t


_VELOCITIES: dict[str, Callable[[Denoiser, Tensor, float], Tensor]] = {
    "RectifiedFlow": straight,
    "VP": _vp,
    "EDM": _edm,
}


def by_hand(
    denoise: Denoiser, x: Tensor, process: str, tol: float, method: str = "dopri5"
) -> Tensor:
    """torchdiffeq on the flow of a process, the trace by one backward pass for each dimension.

    The start law is N(0, I), and for EDM ``N(0, sigma_max^2 + variance of the data)``.
    """
    odeint = importlib.import_module("torchdiffeq").odeint
    velocity, (first, last) = _VELOCITIES[process], ENDS[process]

    def field(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            y = state[0].detach().requires_grad_()
            v = velocity(denoise, y, float(t))
            rows = [
                torch.autograd.grad(v[:, i].sum(), y, retain_graph=True)[0][:, i]
                for i in range(y.shape[1])
            ]
        return v.detach(), torch.stack(rows).sum(0)

    times = torch.tensor([first, last], dtype=torch.float64)
    y, change = odeint(field, (x, x.new_zeros(len(x))), times, rtol=tol, atol=tol, method=method)
    std = (
        math.sqrt(last**2 + float(denoise.target.std.square().mean())) if process == "EDM" else 1.0
    )
    return normal(y[-1], std) + change[-1]


def flow_matching(
    denoise: Denoiser,
    x: Tensor,
    exact: bool = True,
    tol: float = 1e-5,
    step: float | None = None,
    method: str = "dopri5",
) -> Tensor:
    """flow_matching's ``ODESolver.compute_likelihood`` on the straight path, from its time 1 to its
    time 0.

    Args:
        denoise: the posterior mean.
        x: samples.
        exact: the trace by a backward pass for each dimension; else Hutchinson's estimate from one
            probe.
        tol: of dopri5, relative and absolute.
        step: of the other methods.
        method: of torchdiffeq.
    """
    solver = importlib.import_module("flow_matching.solver").ODESolver(
        velocity_model=lambda x, t: -straight(denoise, x, 1 - float(t))
    )
    grid, before = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.get_default_dtype()
    settings: dict[str, Any] = {
        "step_size": step,
        "method": method,
        "atol": tol,
        "rtol": tol,
        "time_grid": grid,
    }
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)  # in which its probe is drawn
    try:
        return solver.compute_likelihood(x, normal, exact_divergence=exact, **settings)[1].detach()
    finally:
        torch.set_default_dtype(before)


def k_diffusion(denoise: Denoiser, x: Tensor, tol: float) -> Tensor:
    """k-diffusion's ``log_likelihood``: dopri5 in sigma, one probe, and the start law ``N(0,
    sigma_max^2)``."""
    sampling = importlib.import_module("benchmarks.peers.k_diffusion_")._sampling()
    torch.manual_seed(0)
    return sampling.log_likelihood(
        lambda y, sigma: denoise(y, 1.0, float(sigma[0])), x, *ENDS["EDM"], atol=tol, rtol=tol
    )[0]
