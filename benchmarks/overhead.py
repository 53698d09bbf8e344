"""What a sampler costs beside its network: microseconds per evaluation on one core, at a state of
(16, 3, 32, 32) in float32.

    python -m benchmarks.overhead

The network is a stub that returns the same tensor, so that all the time is the sampler's. Every row
is a whole run of 20 evaluations from noise to data, grid and coefficients included, as a user calls
it; rows are timed in turn, in processor time, and the smallest of several rounds is shown: it is
what the machine can do when nothing interferes.
"""

__all__ = ["main"]

import importlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import ornstein as orn
from ornstein.core.timesteps.clock import Log

SHAPE, STEPS, ROUNDS, RUNS = (16, 3, 32, 32), 20, 12, 10
Run = Callable[[], Any]


class Stub:
    """A posterior that knows the answer."""

    event_shape, data_std = SHAPE[1:], 0.5

    def __init__(self, sde: orn.LinearSDE, answer: Tensor) -> None:
        self.sde, self.answer = sde, orn.Gaussian(answer, torch.ones(()))

    def __call__(self, x: Tensor, t: Any) -> orn.Gaussian:
        return self.answer


class Constant(nn.Module):
    """A network that knows the answer."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, c: Tensor, cond: Any) -> Tensor:
        return self.answer


def by_hand(x: Tensor, answer: Tensor) -> Run:
    """The loop one would write: DDIM with the coefficients as floats."""
    sde = orn.VP()
    times = sde.times(STEPS, orn.spacing.Balanced(0.18))
    keep = (sde.sigma(times[1:]) / sde.sigma(times[:-1])).tolist()
    gain = (sde.alpha(times[1:]) - torch.tensor(keep) * sde.alpha(times[:-1])).tolist()

    def run() -> Tensor:
        y = x
        for a, b in zip(keep, gain, strict=True):
            y = (y * a).add_(answer, alpha=b)
        return y

    return run


def ours(x: Tensor, answer: Tensor) -> dict[str, Run]:
    """The library's samplers, by their public function."""
    sde = orn.VP()
    stub, denoiser = (
        Stub(sde, answer),
        orn.Denoiser(Constant(answer), sde, data_std=0.5, event_shape=SHAPE[1:]),
    )
    ode = {
        "DDIM (Multistep 1)": orn.Multistep(1),
        "DPM++2M (Multistep 2)": orn.Multistep(2),
        "DPM++3M (Multistep 3)": orn.Multistep(3),
        "AB4 in v (Multistep 4)": orn.Multistep(4, 0.5, Log()),
        "auto": "auto",
        "UniPC2": orn.Multistep(2, corrector=2),
        "DPM++2S": orn.methods.Singlestep(),
    }

    def run(method: Any, posterior: Any = stub, seed: Any = 0, **options: Any) -> Run:
        steps = STEPS // 2 if isinstance(method, orn.methods.Singlestep) else STEPS
        return lambda: orn.sample(
            posterior,
            len(x),
            steps,
            method,
            seed,
            x_T=x,
            spacing=orn.spacing.Balanced(0.18),
            **options,
        )

    path = orn.BrownianPath(
        SHAPE, 0.0, sde.T, 0, cells=sde.times(STEPS, orn.spacing.Balanced(0.18))
    )
    rows = {f"ornstein {name}": run(method) for name, method in ode.items()}
    rows["ornstein auto, with Denoiser's preconditioning"] = run("auto", denoiser)
    rows["ornstein SDE 2M, fresh noise"] = run(orn.Multistep(2), eta=1.0)
    rows["ornstein SDE 2M, Brownian path"] = run(orn.Multistep(2), seed=path, eta=1.0)
    rows["random numbers alone (torch.randn)"] = lambda: [torch.randn(SHAPE) for _ in range(STEPS)]
    return rows


def diffusers_rows(x: Tensor, answer: Tensor) -> dict[str, Run]:
    """Schedulers of diffusers, driven as their pipelines drive them."""
    schedulers = importlib.import_module("diffusers.schedulers")

    def run(name: str, **config: Any) -> Run:
        scheduler = getattr(schedulers, name)(**config)

        def go() -> Tensor:
            scheduler.set_timesteps(STEPS)
            y = x
            for t in scheduler.timesteps[:STEPS]:
                if hasattr(scheduler, "scale_model_input"):
                    scheduler.scale_model_input(y, t)
                y = scheduler.step(answer, t, y).prev_sample
            return y

        return go

    names = (
        "DDIM",
        "DPMSolverMultistep",
        "UniPCMultistep",
        "DEISMultistep",
        "EulerDiscrete",
        "HeunDiscrete",
        "LMSDiscrete",
        "FlowMatchEulerDiscrete",
    )
    return {f"diffusers {name}": run(f"{name}Scheduler") for name in names}


def k_diffusion_rows(x: Tensor, answer: Tensor) -> dict[str, Run]:
    """Functions of k-diffusion."""
    sampling = importlib.import_module("benchmarks.peers.k_diffusion_")._sampling()
    sigmas = sampling.get_sigmas_karras(STEPS, 0.002, 80.0)

    def run(name: str) -> Run:
        return lambda: getattr(sampling, name)(
            lambda y, sigma: answer, 80 * x, sigmas, disable=True
        )

    return {
        f"k-diffusion {name}": run(name)
        for name in ("sample_euler", "sample_lms", "sample_dpmpp_2m", "sample_dpmpp_2m_sde")
    }


def flow_matching_rows(x: Tensor, answer: Tensor) -> dict[str, Run]:
    """The fixed-step solver of flow_matching."""
    solver = importlib.import_module("flow_matching.solver").ODESolver(
        velocity_model=lambda x, t: answer
    )
    grid = torch.linspace(0, 1, STEPS + 1)
    return {
        "flow_matching euler": lambda: solver.sample(
            x_init=x, step_size=None, method="euler", time_grid=grid
        )
    }


def azula_rows(x: Tensor, answer: Tensor) -> dict[str, Run]:
    """Samplers of azula."""
    noise, sample = importlib.import_module("azula.noise"), importlib.import_module("azula.sample")
    denoise = importlib.import_module("azula.denoise")
    schedule = noise.VPSchedule()

    class Known(denoise.Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, y: Tensor, t: Tensor, **kwargs: Any) -> Any:
            return denoise.DiracPosterior(mean=answer)

    found = {}
    for name in ("DDIMSampler", "vABSampler"):
        sampler = getattr(sample, name)(Known(), steps=STEPS, silent=True)
        found[f"azula {name}"] = lambda sampler=sampler: sampler(x)
    return found


def main() -> None:
    """Time all rows in turn and print the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    x, answer = torch.randn(SHAPE), 0.5 * torch.randn(SHAPE)
    rows: dict[str, Run] = {"a loop by hand, DDIM": by_hand(x, answer), **ours(x, answer)}
    peers = {
        "diffusers": diffusers_rows,
        "k-diffusion": k_diffusion_rows,
        "flow_matching": flow_matching_rows,
        "azula": azula_rows,
    }
    for name, more in peers.items():
        try:
            rows |= more(x, answer)
        except Exception as error:
            print(f"left out: {name} ({type(error).__name__}: {error})")
    best = dict.fromkeys(rows, float("inf"))
    with torch.no_grad():
        for name in list(rows):
            try:
                rows[name]()
            except Exception as error:
                print(f"left out: {name} ({type(error).__name__}: {error})")
                del rows[name], best[name]
        for _ in range(ROUNDS):
            for name, row in rows.items():
                runs = 1 if best[name] > 2e-3 and best[name] != float("inf") else RUNS
                began = time.process_time()
                for _ in range(runs):
                    row()
                best[name] = min(best[name], (time.process_time() - began) / runs / STEPS)
    print("| sampler | us per evaluation |\n|---|---|")
    for name, seconds in best.items():
        print(f"| {name} | {seconds * 1e6:.0f} |")


if __name__ == "__main__":
    main()
