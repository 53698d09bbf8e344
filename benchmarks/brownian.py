"""What a consistent Brownian path costs: ours and the peers', beside independent increments of the
same library.

    python -m benchmarks.brownian

Every row walks over [0, 1] in steps of a grid and adds the increments up, in float32, in one
thread; the sum is checked against its law, N(0, 1). "There and back" walks down the same grid
again, as an adjoint does; its sum is 0, and its steps are counted twice. Times are of the
processor, rows are timed in turn, and the smallest of several rounds is shown: it is what the
machine can do when nothing interferes. A ratio is to independent increments drawn by the same
library's generator, ``torch.randn``, or ``jax.random.normal`` in a jitted loop. The peers are
installed by ``pip install diffrax torchsde``; what is not installed is left out.
"""

__all__ = ["Options", "main"]

import importlib
import math
import os
import random
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

import ornstein as orn

Walk = Callable[[int], Any]
"""A seed to the sum of all increments."""
TORCH, JAX = "torch.randn alone", "jax.random.normal alone, jitted"


@dataclass(frozen=True)
class Options:
    """What to run."""

    steps: int = 200
    rounds: int = 2
    """Every row is walked so many times, and once before."""
    peers: bool = True
    long: bool = True
    """Also 1e6 steps to T = 20."""
    out: Path = Path("benchmarks/results/brownian")


@dataclass
class Cell:
    """One row: what it costs, and how far the sum is from its law, in standard errors of mean and
    variance."""

    floor: str
    seconds: float = math.inf
    off: float = 0.0


def grids(steps: int) -> dict[str, torch.Tensor]:
    """Equal steps; between 0.7 and 1.3 of their mean, at times in float32; and as they are halved
    and doubled, from 1/2 to 2 of it."""
    gaps = 0.7 + 0.6 * torch.rand(
        steps, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    uneven = (
        torch.cat([torch.zeros(1, dtype=torch.float64), gaps.cumsum(0) / gaps.sum()])
        .float()
        .double()
    )
    uneven[-1] = 1.0
    level, at, halved, rng = round(math.log2(steps)), 0, [0.0], random.Random(0)
    while at < 4 << level:  # in units of a quarter of the mean step
        at += max(k for k in (2, 4, 8) if at % k == 0 and (k == 2 or rng.random() < 0.6))
        halved.append(min(at / (4 << level), 1.0))
    equal = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return {"equal": equal, "uneven": uneven, "halved": torch.tensor(halved, dtype=torch.float64)}


def alone(shape: tuple[int, ...], steps: int) -> Walk:
    """Independent increments of torch."""

    def walk(seed: int) -> torch.Tensor:
        generator, total = torch.Generator().manual_seed(seed), torch.zeros(shape)
        for _ in range(steps):
            total += torch.randn(shape, generator=generator).mul_(steps**-0.5)
        return total

    return walk


def back(times: list[float]) -> list[tuple[float, float]]:
    """The steps down a grid."""
    return list(pairwise(times[::-1]))


def ours(shape: tuple[int, ...], grid: torch.Tensor, returns: bool = False, **options: Any) -> Walk:
    """A `BrownianPath`, made anew for each walk."""
    times = grid.tolist()

    def walk(seed: int) -> torch.Tensor:
        path, total = orn.BrownianPath(shape, seed=seed, **options), torch.zeros(shape)
        for t, s in [*pairwise(times), *(back(times) if returns else [])]:
            total += path.increment(t, s)
        return total

    return walk


def fresh(shape: tuple[int, ...], steps: int) -> Walk:
    """Independent increments by blocks of samples, as a `Noise` draws them."""

    def walk(seed: int) -> torch.Tensor:
        stream, total = orn.Noise(seed).stream(shape, torch.float32), torch.zeros(shape)
        for _ in range(steps):
            total += stream.normal().mul_(steps**-0.5)
        return total

    return walk


def torchsde_walk(
    shape: tuple[int, ...], grid: torch.Tensor, returns: bool = False, **options: Any
) -> Walk:
    """torchsde's BrownianInterval."""
    interval, times = importlib.import_module("torchsde").BrownianInterval, grid.tolist()

    def walk(seed: int) -> torch.Tensor:
        path, total = (
            interval(0.0, 1.0, size=shape, dtype=torch.float32, entropy=seed, **options),
            torch.zeros(shape),
        )
        for t, s in pairwise(times):
            total += path(t, s)
        for t, s in back(times) if returns else []:
            total -= path(s, t)
        return total

    return walk


def jax_walk(shape: tuple[int, ...], grid: torch.Tensor, tol: float | None) -> Walk:
    """diffrax's VirtualBrownianTree in a scan over the grid, or with ``tol=None`` independent
    increments of jax."""
    jax, diffrax = importlib.import_module("jax"), importlib.import_module("diffrax")
    times = jax.numpy.asarray(grid.float().numpy())

    def walk(key: Any) -> Any:
        if tol is None:
            size = jax.numpy.float32((len(grid) - 1) ** -0.5)
            keys = jax.random.split(key, len(grid) - 1)
            step, along = (
                (lambda total, k: (total + size * jax.random.normal(k, shape), None)),
                keys,
            )
        else:
            path = diffrax.VirtualBrownianTree(0.0, 1.0, tol, shape, key)
            step, along = (
                (lambda total, ends: (total + path.evaluate(*ends), None)),
                (times[:-1], times[1:]),
            )
        return jax.lax.scan(step, jax.numpy.zeros(shape), along)[0]

    compiled = jax.jit(walk)
    return lambda seed: compiled(jax.random.key(seed)).block_until_ready()


def off_law(x: torch.Tensor, variance: float) -> float:
    """How far mean and variance of a sample are from N(0, variance), in standard errors; of
    rounding, for a variance of 0."""
    if variance == 0:
        return float(x.abs().max()) / (1e3 * torch.finfo(torch.float32).eps)
    return max(
        abs(float(x.mean())) * len(x) ** 0.5,
        abs(float(x.square().mean()) - 1) * (len(x) / 2) ** 0.5,
    )


def rows(shape: tuple[int, ...], options: Options) -> dict[str, tuple[str, Walk]]:
    """Names, floors and walks."""
    n, grid = options.steps, grids(options.steps)
    shortest = float(grid["uneven"].diff().min())
    found: dict[str, tuple[str, Walk]] = {
        TORCH: (TORCH, alone(shape, n)),
        "ornstein Noise, independent": (TORCH, fresh(shape, n)),
        "ornstein, declared": (TORCH, ours(shape, grid["uneven"], cells=grid["uneven"])),
        "ornstein, undeclared, equal steps, tol = step": (
            TORCH,
            ours(shape, grid["equal"], tol=1 / n),
        ),
        "ornstein, undeclared, steps halved and doubled, exact": (
            TORCH,
            ours(shape, grid["halved"]),
        ),
        "ornstein, undeclared, uneven steps, tol = shortest": (
            TORCH,
            ours(shape, grid["uneven"], tol=shortest),
        ),
        "ornstein, the same, there and back": (
            TORCH,
            ours(shape, grid["uneven"], True, tol=shortest),
        ),
        "ornstein, the same with H (order 2)": (
            TORCH,
            ours(shape, grid["uneven"], tol=shortest, order=2),
        ),
        "ornstein, undeclared, uneven steps, exact": (TORCH, ours(shape, grid["uneven"])),
    }
    if not options.peers:
        return found
    builders: dict[str, tuple[str, Callable[[], Walk]]] = {
        "torchsde BrownianInterval": (TORCH, lambda: torchsde_walk(shape, grid["uneven"])),
        "torchsde BrownianInterval, told dt": (
            TORCH,
            lambda: torchsde_walk(shape, grid["equal"], dt=1 / n),
        ),
        "torchsde BrownianInterval, there and back": (
            TORCH,
            lambda: torchsde_walk(shape, grid["uneven"], True),
        ),
        JAX: (JAX, lambda: jax_walk(shape, grid["equal"], None)),
        "diffrax VirtualBrownianTree, tol = shortest, jitted": (
            JAX,
            lambda: jax_walk(shape, grid["uneven"], shortest),
        ),
    }
    for name, (floor, build) in builders.items():
        try:
            found[name] = floor, build()
        except ImportError as problem:
            print(f"left out: {name} ({problem})", file=sys.stderr)
    return found


def measure(shape: tuple[int, ...], options: Options) -> dict[str, Cell]:
    """Check the law of every row, then time all in turn."""
    found = rows(shape, options)
    cells = {name: Cell(floor) for name, (floor, _) in found.items()}
    for k in range(options.rounds + 1):
        for name, (_, walk) in found.items():
            began = time.process_time()
            total = walk(k)
            seconds, cell = time.process_time() - began, cells[name]
            cell.seconds = min(cell.seconds, seconds)
            if k == 0:
                cell.off = off_law(
                    torch.from_numpy(np.array(total)).double().flatten(),
                    0.0 if "back" in name else 1.0,
                )
    return cells


def table(shape: tuple[int, ...], cells: dict[str, Cell], options: Options) -> str:
    """Cost per step, per number, and against the floor."""
    lines = [
        (
            "| path | us per step | ns per number | x independent increments | off N(0, 1),"
            " standard errors |"
        ),
        "|---|" + "---:|" * 4,
    ]
    for name, cell in cells.items():
        steps = (
            len(grids(options.steps)["halved"]) - 1
            if "halved" in name
            else options.steps * (2 if "back" in name else 1)
        )
        step = cell.seconds / steps
        ratio = step / (cells[cell.floor].seconds / options.steps)
        lines.append(
            f"| {name} | {step * 1e6:.0f} | {step * 1e9 / math.prod(shape):.1f} | {ratio:.2f} |"
            f" {cell.off:.1f} |"
        )
    return "\n".join(lines)


def long(peers: bool, cap: float = 60.0) -> str:
    """1e6 steps to T = 20 of one path, as far as they come in ``cap`` processor seconds."""
    n, end = 1_000_000, 20.0
    times = [end * k / n for k in range(n + 1)]

    def walk(build: Callable[[], Any]) -> str:
        done, total = 0, torch.zeros(1)
        try:
            began, path = time.process_time(), build()
            for t, s in pairwise(times):
                total += path(t, s)
                done += 1
                if time.process_time() - began > cap:
                    break
            spent = time.process_time() - began
            return f"{done} steps in {spent:.0f} s, {spent / done * 1e6:.0f} us each"
        except (RecursionError, ImportError) as problem:
            return f"{type(problem).__name__} after {done} steps"

    lines = ["### 1e6 steps to T = 20, one sample", "", "| path | |", "|---|---|"]
    lines.append(
        f"| ornstein, declared | {walk(lambda: orn.BrownianPath((1,), t1=end, cells=times))} |"
    )
    lines.append(
        "| ornstein, undeclared, tol = step |"
        f" {walk(lambda: orn.BrownianPath((1,), t1=end, tol=end / n))} |"
    )
    if peers:
        told = walk(
            lambda: importlib.import_module("torchsde").BrownianInterval(0.0, end, size=(1,))
        )
        lines.append(f"| torchsde BrownianInterval | {told} |")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Run, and write ``table.md``."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    parts = []
    for shape in ((100_000,), (10_000, 10), (1,)):
        cells = measure(shape, options)
        parts.append(
            f"### Shape {shape}, {options.steps} steps, float32\n\n{table(shape, cells, options)}"
        )
    if options.long:
        parts.append(long(options.peers))
    options.out.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(parts) + "\n"
    (options.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
