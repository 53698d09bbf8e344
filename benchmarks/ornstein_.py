"""The library's own samplers as columns: the fixed rule on four processes, tuned samplers, and a
few named methods."""

__all__ = ["COLUMNS", "TUNED", "tuned"]

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

import ornstein as orn
from benchmarks.peers import Counted
from benchmarks.problems import PROBLEMS, ExactPosterior, Problem

FAR = 1e6  # a noise-to-signal ratio as good as infinity: the flow from there on is a scaling

PROCESSES: dict[str, orn.LinearSDE] = {
    "EDM": orn.EDM(80.0),
    "VP": orn.VP(),
    "cosine": orn.Cosine(),
    "straight": orn.RectifiedFlow(),
}


class _Asked:
    """A posterior that counts its calls."""

    def __init__(self, posterior: ExactPosterior) -> None:
        self.posterior, self.sde, self.data_std, self.event_shape, self.calls = (
            posterior, posterior.sde, posterior.data_std, posterior.event_shape, 0,
        )  # fmt: skip

    def __call__(self, x: Tensor, t: Tensor | float) -> orn.Gaussian:
        self.calls += 1
        return self.posterior(x, t)


def _start(problem: Problem, y: Tensor, sde: orn.LinearSDE) -> Tensor:
    """The state at T of the path that passes through y at a ratio of 80."""
    ratio = float((-sde.log_snr(sde.T) / 2).exp())
    at = min(ratio, FAR)
    scale = float(sde.sigma(sde.T)) / at if ratio > FAR else float(sde.alpha(sde.T))
    return Counted(problem, y).start(at) * scale


def _column(
    sampler: Callable[[Problem, int], str | orn.Sampler], sde: orn.LinearSDE, calls: int = 1
) -> Callable:  # type: ignore[type-arg]
    def run(problem: Problem, y: Tensor, evaluations: int) -> tuple[Tensor, float] | None:
        if evaluations // calls < 1:
            return None
        posterior, steps = _Asked(problem.posterior(sde)), evaluations // calls
        end = orn.sample(
            posterior, len(y), steps, sampler(problem, steps), x_T=_start(problem, y, sde)
        )
        assert posterior.calls <= evaluations, f"{posterior.calls} calls of {evaluations}"
        return end, 0.0

    return run


@cache
def tuned(name: str, steps: int) -> orn.sampling.Tuned:
    """A sampler fitted to a problem, on noise of its own: float64, as the errors are."""
    problem = PROBLEMS[name]()
    noise = 2048 if problem.dim == 2 else 1024
    return orn.tune(
        problem.posterior(PROCESSES["EDM"]), steps, seed=12345, n=noise, dtype=torch.float64
    )


COLUMNS = {
    f"ornstein auto {name}": _column(lambda problem, steps: "auto", sde)
    for name, sde in PROCESSES.items()
}
TUNED = {
    "ornstein tuned EDM": _column(
        lambda problem, steps: tuned(problem.name, steps), PROCESSES["EDM"]
    )
}
