"""What an SDE solver costs: path-steps per second and memory of ours, torchsde, diffrax, NumPy and
loops by hand, on three equations.

    python -m benchmarks.sde

Euler-Maruyama on [0, 1] in float32, one thread pinned to one core: ``dX = -X dt + dB`` in one
dimension, ``dX = X / 10 dt + X / 5 dB`` in ten, and a tanh network 2-64-64-2 without biases as
drift with dB in two. A loop by hand works in place and knows its equation; the floor draws the
normal numbers and does nothing else. Times are of the processor, rows run in turn in one process,
and the smallest of several rounds is shown. Memory is the highest resident size of a run above that
before it, in a process of its own for each row, after a run on 16 paths (or after compilation). The
end states of every row are held to the exact mean and second moment of the Euler scheme; of the
network the mean is 0, as it is odd, and the second moment is that of an independent float64 run in
NumPy.

A last table has mean absolute errors at step 1/128 on ``dX = X / 2 dt + 4/5 X dB``, against the
exact solution on the same motion.
Peers: ``pip install diffrax torchsde``; what is not installed is left out. Gradients:
`benchmarks.gradient`.
"""

__all__ = ["Options", "main"]

import importlib
import json
import math
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

import ornstein as orn
from benchmarks.tools import megabytes_above, publish

Run = Callable[[int], Any]
"""A seed to the end states, (paths, dim)."""
FLOOR = "the normal numbers alone"
_RNG = np.random.default_rng(0)
WEIGHTS = [
    (_RNG.standard_normal(size) / size[0] ** 0.5).astype(np.float32)
    for size in ((2, 64), (64, 64), (64, 2))
]


def network(lib: Any, weights: Any) -> Callable[[Any], Any]:
    """The drift of the third equation in any array library."""
    return lambda x: lib.tanh(lib.tanh(x @ weights[0]) @ weights[1]) @ weights[2]


@dataclass(frozen=True)
class Problem:
    """One equation and its size; drift and diffusion as functions of (library, x)."""

    title: str
    paths: int
    dim: int
    steps: int
    start: float
    drift: Callable[[Any, Any], Any]
    diffusion: Callable[[Any, Any], Any]
    additive: bool
    by_hand: Callable[[Tensor, Tensor, float], Tensor]
    """x in place, from normal numbers that may be used up."""
    moments: Callable[[int], tuple[float, float, float]]
    """Mean, second moment and its standard error of the scheme with so many steps."""


def _ou(n: int) -> tuple[float, float, float]:
    keep, h = 1 - 1 / n, 1 / n
    mean = keep**n
    return mean, mean**2 + h * (1 - keep ** (2 * n)) / (1 - keep**2), 0.0


def _gbm(n: int) -> tuple[float, float, float]:
    h = 1 / n
    return (1 + h / 10) ** n, ((1 + h / 10) ** 2 + h / 25) ** n, 0.0


def _mlp(n: int) -> tuple[float, float, float]:
    rng, paths = np.random.default_rng(1), 20_000
    drift, x = network(np, [w.astype(np.float64) for w in WEIGHTS]), np.zeros((paths, 2))
    for _ in range(n):
        x = x + drift(x) / n + n**-0.5 * rng.standard_normal(x.shape)
    each = (x**2).mean(1)
    return 0.0, float(each.mean()), float(each.std() / paths**0.5)


def _weights(lib: Any) -> list[Any]:
    return (
        [torch.from_numpy(w) for w in WEIGHTS]
        if lib is torch
        else [lib.asarray(w) for w in WEIGHTS]
    )


def _net(lib: Any, x: Any) -> Any:
    return network(lib, _weights(lib))(x)


_TORCH_NET = network(torch, _weights(torch))
PROBLEMS = {
    "ou": Problem(
        "Ornstein-Uhlenbeck, d = 1",
        100_000,
        1,
        1000,
        1.0,
        lambda lib, x: -x,
        lambda lib, x: lib.ones_like(x),
        True,
        lambda x, z, h: x.mul_(1 - h).add_(z, alpha=h**0.5),
        _ou,
    ),
    "gbm": Problem(
        "geometric Brownian motion, d = 10",
        10_000,
        10,
        1000,
        1.0,
        lambda lib, x: x * 0.1,
        lambda lib, x: x * 0.2,
        False,
        lambda x, z, h: x.mul_(z.mul_(0.2 * h**0.5).add_(1 + 0.1 * h)),
        _gbm,
    ),
    "mlp": Problem(
        "tanh network 64-64 as drift, d = 2",
        10_000,
        2,
        200,
        0.0,
        _net,
        lambda lib, x: lib.ones_like(x),
        True,
        lambda x, z, h: x.add_(_TORCH_NET(x), alpha=h).add_(z, alpha=h**0.5),
        _mlp,
    ),
}


@dataclass(frozen=True)
class Options:
    """What to run."""

    rounds: int = 3
    quick: bool = False
    """A tenth of the steps."""
    only: tuple[str, ...] = tuple(PROBLEMS)
    out: Path = Path("benchmarks/results/sde")
    memory: str = ""
    """Only print the memory of one row, as "problem/row/steps": what the processes of the rows are
    called with."""


def ours(p: Problem, compiled: bool = False) -> Run:
    """`orn.solve`."""
    drift = _TORCH_NET if p.drift is _net else lambda x: p.drift(torch, x)
    drift = torch.compile(drift) if compiled else drift
    one = torch.ones(())
    diffusion = (lambda x, t: one) if p.additive else (lambda x, t: p.diffusion(torch, x))
    sde = orn.SDE(lambda x, t: drift(x), diffusion, "additive" if p.additive else "diagonal")
    x0 = torch.full((p.paths, p.dim), p.start)
    return lambda seed: orn.solve(sde, x0, [0.0, 1.0], orn.EulerMaruyama(), seed, dt=1 / p.steps)[
        -1
    ]


def loop(p: Problem) -> Run:
    """In place, in torch."""

    def run(seed: int) -> Tensor:
        generator, x = torch.Generator().manual_seed(seed), torch.full((p.paths, p.dim), p.start)
        z = torch.empty_like(x)
        for _ in range(p.steps):
            p.by_hand(x, z.normal_(generator=generator), 1 / p.steps)
        return x

    return run


def compiled_loop(p: Problem) -> Run:
    """The same with the step compiled and the noise drawn outside of it; of additive noise."""
    h = 1 / p.steps
    step = torch.compile(lambda x, z: x + _TORCH_NET(x) * h + z * h**0.5)

    def run(seed: int) -> Tensor:
        generator, x = torch.Generator().manual_seed(seed), torch.full((p.paths, p.dim), p.start)
        z = torch.empty_like(x)
        for _ in range(p.steps):
            x = step(x, z.normal_(generator=generator))
        return x

    return run


def floor(p: Problem) -> Run:
    """The numbers only."""

    def run(seed: int) -> None:
        generator, z = torch.Generator().manual_seed(seed), torch.empty(p.paths, p.dim)
        for _ in range(p.steps):
            z.normal_(generator=generator)

    return run


def numpy_loop(p: Problem) -> Run:
    """In place, in NumPy."""

    def run(seed: int) -> np.ndarray:
        rng, x, h = (
            np.random.default_rng(seed),
            np.full((p.paths, p.dim), p.start, np.float32),
            np.float32(1 / p.steps),
        )
        z, root = np.empty_like(x), np.float32(p.steps**-0.5)
        for _ in range(p.steps):
            rng.standard_normal(out=z, dtype=np.float32)
            z *= root
            if not p.additive:
                z *= p.diffusion(np, x)
            z += p.drift(np, x) * h
            x += z
        return x

    return run


def torchsde_run(p: Problem, told: bool = False) -> Run:
    """`torchsde.sdeint`, with the Brownian interval of its default, or one that is told the
    step."""
    torchsde = importlib.import_module("torchsde")

    f = (lambda t, y: _TORCH_NET(y)) if p.drift is _net else (lambda t, y: p.drift(torch, y))
    equation = SimpleNamespace(
        noise_type="diagonal", sde_type="ito", f=f, g=lambda t, y: p.diffusion(torch, y)
    )

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        x, more = torch.full((p.paths, p.dim), p.start), {}
        if told:
            more["bm"] = torchsde.BrownianInterval(
                0.0, 1.0, size=tuple(x.shape), dtype=x.dtype, entropy=seed, dt=1 / p.steps
            )
        return torchsde.sdeint(
            equation, x, torch.tensor([0.0, 1.0]), method="euler", dt=1 / p.steps, **more
        )[-1]

    return run


def diffrax_run(p: Problem) -> Run:
    """`diffrax.diffeqsolve`, compiled ahead, with independent increments, its fastest."""
    jax, diffrax, lineax = (importlib.import_module(name) for name in ("jax", "diffrax", "lineax"))
    lib, shape = jax.numpy, (p.paths, p.dim)

    def solve(key: Any, x: Any) -> Any:
        path = diffrax.UnsafeBrownianPath(shape, key)
        noise = diffrax.ControlTerm(
            lambda t, y, args: lineax.DiagonalLinearOperator(p.diffusion(lib, y)), path
        )
        terms = diffrax.MultiTerm(diffrax.ODETerm(lambda t, y, args: p.drift(lib, y)), noise)
        return diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),
            0.0,
            1.0,
            1 / p.steps,
            x,
            max_steps=None,
            adjoint=diffrax.ForwardMode(),
            saveat=diffrax.SaveAt(t1=True),
        ).ys[0]

    compiled = jax.jit(solve).lower(jax.random.key(0), lib.full(shape, p.start)).compile()
    return lambda seed: compiled(jax.random.key(seed), lib.full(shape, p.start)).block_until_ready()


ROWS: dict[str, Callable[[Problem], Run]] = {
    FLOOR: floor,
    "torch loop in place": loop,
    "torch loop, step compiled": compiled_loop,
    "ornstein": ours,
    "ornstein, drift compiled": lambda p: ours(p, True),
    "torchsde": torchsde_run,
    "torchsde, told dt": lambda p: torchsde_run(p, True),
    "diffrax, jit": diffrax_run,
    "NumPy loop in place": numpy_loop,
}
COMPILED = ("torch loop, step compiled", "ornstein, drift compiled")


def rows(key: str) -> list[str]:
    """Compilation pays only for the network."""
    return [name for name in ROWS if key == "mlp" or name not in COMPILED]


def off_law(x: Any, law: tuple[float, float, float]) -> float:
    """How far mean and second moment are from those of the scheme, in standard errors; 0 if there
    are no states."""
    if x is None:
        return 0.0
    x, (mean, second, error) = torch.from_numpy(np.array(x)).double(), law
    y, q = x.mean(1), x.square().mean(1)
    n = len(x) ** 0.5
    return max(
        abs(float(y.mean()) - mean) / float(y.std()) * n,
        abs(float(q.mean()) - second) / math.hypot(float(q.std()) / n, error),
    )


def print_memory(key: str, name: str, steps: int) -> None:
    """Megabytes of one run above those before it."""
    p = replace(PROBLEMS[key], steps=steps)
    run, small = (
        ROWS[name](p),
        ROWS[name](replace(p, paths=16, steps=10)) if name not in COMPILED else ROWS[name](p),
    )
    if "jit" not in name:
        small(0)
    megabytes = megabytes_above()
    run(1)
    print(json.dumps(megabytes()))


def memory(key: str, name: str, steps: int) -> float:
    """That of a fresh process; nan where the system does not tell."""
    command = [sys.executable, "-m", "benchmarks.sde", "--memory", f"{key}/{name}/{steps}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else math.nan


def measure(key: str, options: Options) -> str:
    """The table of one problem."""
    p = PROBLEMS[key]
    p, found, best, off = replace(p, steps=p.steps // 10) if options.quick else p, {}, {}, {}
    law = p.moments(p.steps)
    for name in rows(key):
        try:
            found[name] = ROWS[name](p)
            off[name], best[name] = off_law(found[name](0), law), math.inf
        except ImportError as problem:
            found.pop(name, None)
            print(f"left out: {name} ({problem})", file=sys.stderr)
    for k in range(options.rounds):
        for name, run in found.items():
            began = time.process_time()
            run(k + 1)
            best[name] = min(best[name], time.process_time() - began)
    speed = {name: p.paths * p.steps / seconds / 1e6 for name, seconds in best.items()}
    lines = [
        f"### {p.title}: {p.paths} paths, {p.steps} steps (state"
        f" {p.paths * p.dim * 4 / 1e6:.2f} MB)\n",
        "| | M path-steps/s | ornstein is | MB above the start | off the law, standard errors |",
        "|---|" + "---:|" * 4,
    ]
    for name in found:
        told = f"{off[name]:.1f}" + (" WRONG" if off[name] > 5 else "") if name != FLOOR else ""
        ratio = f"{speed['ornstein'] / speed[name]:.2f} x"
        lines.append(
            f"| {name} | {speed[name]:.3g} | {ratio} | {memory(key, name, p.steps):.1f} | {told} |"
        )
    return "\n".join(lines)


def strong_errors(paths: int = 20_000) -> str:
    """Mean absolute errors on one geometric motion, ours and torchsde's."""
    n, a, b = 128, 0.5, 0.8
    x = torch.ones(paths, 1, dtype=torch.float64)
    grid = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    title = "### Mean absolute error at step 1/128 on dX = X / 2 dt + 4/5 X dB\n"
    lines = [title, "| | Euler | Milstein | SRK |", "|---|" + "---:|" * 3]

    def error(end: Tensor, motion: Tensor) -> str:
        each = (end - x * torch.exp((a - b * b / 2) + b * motion)).abs()
        return f"{float(each.mean()):.3g} +- {float(each.std()) / paths**0.5:.1g}"

    path = orn.BrownianPath((paths, 1), seed=0, cells=grid, dtype=torch.float64, order=2)
    sde = orn.SDE(lambda y, t: a * y, lambda y, t: b * y)
    cells = [
        error(orn.solve(sde, x, grid, method, path)[-1], path(1.0))
        for method in (orn.EulerMaruyama(), orn.Milstein(), orn.SRK())
    ]
    lines.append(f"| ornstein | {' | '.join(cells)} |")
    try:
        torchsde = importlib.import_module("torchsde")
    except ImportError:
        return "\n".join(lines)
    equation = SimpleNamespace(
        noise_type="diagonal", sde_type="ito", f=lambda t, y: a * y, g=lambda t, y: b * y
    )
    bm = torchsde.BrownianInterval(
        0.0,
        1.0,
        size=(paths, 1),
        dtype=x.dtype,
        entropy=0,
        dt=1 / n,
        levy_area_approximation="space-time",
    )
    ends = [
        torchsde.sdeint(equation, x, grid[[0, -1]], bm=bm, method=m, dt=1 / n)[-1]
        for m in ("euler", "milstein", "srk")
    ]
    return "\n".join(
        [*lines, f"| torchsde | {' | '.join(error(end, bm(0.0, 1.0)) for end in ends)} |"]
    )


def main(options: Options) -> None:
    """Run, and write ``table.md``."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if options.memory:
        key, name, steps = options.memory.split("/")
        return print_memory(key, name, int(steps))
    parts = [*(measure(key, options) for key in options.only), strong_errors()]
    publish("\n\n".join(parts) + "\n", options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
