"""What a gradient through an SDE costs: memory and processor time of back-propagation, checkpoints,
reversible steps, and torchsde.

    python -m benchmarks.gradient

The derivative of ``E X_1`` by theta for ``dX = -theta X dt + dB`` from 1: Euler's method with 1000
steps of 2000 paths in 10 dimensions, or the reversible Heun method's, in float32 and one thread,
each row in a process of its own. Memory is the highest resident size above that before, time that
of the processor forwards and back (the smaller of two runs). Every gradient is held, in standard
errors, to that of the equation, ``-exp(-theta)``, and for Euler's method to that of the scheme,
``-(1 - theta h)^(n-1)``.
"""

__all__ = ["Options", "main"]

import importlib
import json
import math
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
import tyro
from torch import Tensor

import ornstein as orn
from benchmarks.tools import megabytes_above, publish
from ornstein.core.simulation.method import Method
from ornstein.core.solvers.checkpointed import Gradient

EULER = orn.EulerMaruyama()
PATHS, DIM, THETA = 2000, 10, 1.0
Run = Callable[[Tensor, int], Tensor]
"""Theta, one for each path, and a number of steps, to the end states."""


@dataclass(frozen=True)
class Options:
    """What to run."""

    steps: int = 1000
    out: Path = Path("benchmarks/results/gradient")
    row: str = ""
    """Only print megabytes, seconds and distance from the exact gradient of one row: what its
    process is called with."""


def ours(gradient: Gradient | None, method: Method = EULER) -> Run:
    """`orn.solve` on a path with the steps as cells."""

    def run(theta: Tensor, n: int) -> Tensor:
        path = orn.BrownianPath(
            (PATHS, DIM), seed=0, cells=torch.linspace(0, 1, n + 1, dtype=torch.float64)
        )
        sde = orn.SDE(lambda x, t: -theta * x, lambda x, t: torch.ones(()), "additive")
        return orn.solve(
            sde, torch.ones(PATHS, DIM), [0.0, 1.0], method, path, dt=1 / n, gradient=gradient
        )[-1]

    return run


def torchsde_run(name: str, sense: str = "ito", **methods: str) -> Run:
    """`sdeint` or `sdeint_adjoint`."""

    def run(theta: Tensor, n: int) -> Tensor:
        torchsde = importlib.import_module("torchsde")

        class Equation(torch.nn.Module):
            noise_type, sde_type = "diagonal", sense

            def __init__(self) -> None:
                super().__init__()
                self.theta = theta

            def f(self, t: Tensor, y: Tensor) -> Tensor:
                return -self.theta * y

            def g(self, t: Tensor, y: Tensor) -> Tensor:
                return torch.ones_like(y)

        bm = torchsde.BrownianInterval(0.0, 1.0, size=(PATHS, DIM), entropy=0, dt=1 / n)
        ts = torch.tensor([0.0, 1.0])
        return getattr(torchsde, name)(
            Equation(),
            torch.ones(PATHS, DIM),
            ts,
            dt=1 / n,
            bm=bm,
            **({"method": "euler"} | methods),
        )[-1]

    return run


ROWS: dict[str, Run] = {
    "ornstein, back-propagation": ours(None),
    "ornstein, Checkpointed()": ours(orn.solvers.Checkpointed()),
    "ornstein, ReversibleHeun, back-propagation": ours(None, orn.methods.ReversibleHeun()),
    "ornstein, ReversibleHeun, Reversible()": ours(
        orn.solvers.Reversible(), orn.methods.ReversibleHeun()
    ),
    "torchsde sdeint": torchsde_run("sdeint"),
    "torchsde sdeint_adjoint": torchsde_run("sdeint_adjoint"),
    "torchsde reversible_heun, its adjoint": torchsde_run(
        "sdeint_adjoint",
        "stratonovich",
        method="reversible_heun",
        adjoint_method="adjoint_reversible_heun",
    ),
}


def measure(run: Run, n: int, reversible: bool) -> SimpleNamespace:
    """One row."""

    def gradient(steps: int) -> Tensor:
        theta = torch.nn.Parameter(torch.full((PATHS, 1), THETA))
        return torch.autograd.grad(run(theta, steps).mean(1).sum(), theta)[0][:, 0].double()

    gradient(10)
    memory, seconds = megabytes_above(), []
    for _ in range(2):
        began = time.process_time()
        found = gradient(n)
        seconds.append(time.process_time() - began)
    exact = -math.exp(-THETA) if reversible else -((1 - THETA / n) ** (n - 1))
    off = abs(float(found.mean()) - exact) / float(found.std()) * math.sqrt(PATHS)
    return SimpleNamespace(mb=memory(), seconds=min(seconds), off=off)


def main(options: Options) -> None:
    """Run, and write ``table.md``."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if options.row:
        return print(
            json.dumps(vars(measure(ROWS[options.row], options.steps, "eversible" in options.row)))
        )
    lines = [
        f"### Gradient through {options.steps} steps of {PATHS} x {DIM} (state"
        f" {PATHS * DIM * 4 / 1e6:.2f} MB)\n",
        "| | MB above the start | s | off the exact gradient, standard errors |",
        "|---|" + "---:|" * 3,
    ]
    for name in ROWS:
        command = [
            sys.executable,
            "-m",
            "benchmarks.gradient",
            "--row",
            name,
            "--steps",
            str(options.steps),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"left out: {name} ({done.stderr.strip().splitlines()[-1]})", file=sys.stderr)
            continue
        row = SimpleNamespace(**json.loads(done.stdout))
        lines.append(f"| {name} | {row.mb:.1f} | {row.seconds:.2f} | {row.off:.2f} |")
    publish("\n".join(lines) + "\n", options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
