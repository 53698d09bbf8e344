"""Pictures of what the checks compute: paths, densities, schedules, convergence, verdicts."""

__all__ = ["PICTURES", "draw", "strong_errors"]

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.app.verify.check import Row
from ornstein.app.verify.problems import TWO_MODES
from ornstein.calculus import ito_process
from ornstein.calculus.laws import GeometricBrownian
from ornstein.calculus.laws.heat import kernel
from ornstein.calculus.laws.random_walk import RandomWalk
from ornstein.calculus.pde.fokker_planck import FokkerPlanck
from ornstein.calculus.pde.grid import Axis, Grid
from ornstein.core.methods import SRK, EulerMaruyama, Milstein
from ornstein.core.processes import VP, Cosine
from ornstein.core.processes.reference import OU
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random import BrownianPath
from ornstein.core.simulation.method import Method
from ornstein.core.solvers.exact import sample_exact
from ornstein.core.solvers.solve import solve
from ornstein.reference.targets.mixtures import Normal


def _times(n: int) -> Float[Tensor, " n"]:
    """Return n + 1 equidistant times from 0 to 1."""
    return torch.linspace(0, 1, n + 1, dtype=torch.float64)


def strong_errors(method: Method, steps: Sequence[int], n: int, seed: int) -> Float[Tensor, " k"]:
    """Return the strong error ``E |X_1 - exact|`` of a method for each number of steps.

    The equation is ``dX = X / 2 dt + 4/5 X dB``, whose solution is exact; all numbers of steps use
    the same n paths.

    Args:
        method: the solver.
        steps: numbers of steps, each a divisor of the largest.
        n: number of paths.
        seed: seed of the paths.
    """
    path = BrownianPath((n,), seed=seed, cells=_times(max(steps)), dtype=torch.float64, order=2)
    exact = ((0.5 - 0.8**2 / 2) + 0.8 * path(1.0)).exp()
    start = torch.ones(n, dtype=torch.float64)
    ends = [
        solve(GeometricBrownian(0.5, 0.8), start, _times(k), method, seed=path)[-1] for k in steps
    ]
    return torch.stack([(end - exact).abs().mean() for end in ends])


def path_picture(figure: Any) -> None:
    """Draw Brownian motion, the two integrals of B dB, and an Ornstein-Uhlenbeck process.

    Each process is drawn within two standard deviations of its law.
    """
    t = _times(400)
    n = 40
    b = ito_process(1.0, BrownianPath((n,), seed=1, cells=t, dtype=torch.float64), t)
    ou = OU(3.0, 1.0)
    x = sample_exact(ou, torch.full((n, 1), 1.5, dtype=torch.float64), t, seed=2)[..., 0]
    left, middle, right = figure.subplots(1, 3)
    for ax, values, mean, std, title in (
        (left, b, 0 * t, t.sqrt(), "Brownian motion, $\\pm 2\\sqrt{t}$"),
        (right, x, 1.5 * ou.alpha(t), ou.sigma(t), "Ornstein-Uhlenbeck, mean $\\pm$ 2 sd"),
    ):
        ax.plot(t, values, color="tab:blue", linewidth=0.5, alpha=0.5)
        ax.plot(t, torch.stack([mean - 2 * std, mean + 2 * std], 1), color="black", linewidth=1.2)
        ax.set_title(title)
    one = b[:, :1]
    middle.plot(t, ito_process(b, b, t)[:, 0], label="Ito's sum $\\int B\\,dB$", color="tab:blue")
    middle.plot(
        t, (one.square() - t[:, None]) / 2, "--", label="$(B^2 - t)/2$", color="black", linewidth=1
    )
    middle.plot(t, one.square() / 2, label="$B^2/2$, Stratonovich", color="tab:orange")
    middle.set_title("one path, two integrals")
    middle.legend()
    for ax in (left, middle, right):
        ax.set_xlabel("t")


def densities(figure: Any) -> None:
    """Draw a walk with its limit, and densities that become noise and data again."""
    left, middle, right = figure.subplots(1, 3)
    limit = RandomWalk.towards(0.5, 0.4, delta=0.25)
    k = round(1 / limit.tau)
    x = limit.sites(k)
    left.bar(
        x.numpy(),
        (limit.law(k) / limit.delta).numpy(),
        limit.delta * 0.9,
        color="tab:blue",
        alpha=0.5,
        label=f"walk, {k} steps",
    )
    fine = torch.linspace(-3, 4, 300)
    left.plot(
        fine, kernel(fine, 1.0, limit.diffusion, limit.velocity), color="black", label="heat kernel"
    )
    left.set_xlim(-3, 4)
    left.set_title("random walk and its limit")
    sde = VP(0.1, 8.0)
    grid = Grid(Axis(-4, 4, 400))
    times = _times(100)
    posterior = TWO_MODES.posterior(sde)
    forward = FokkerPlanck(sde, grid).solve(
        grid.density(lambda y: TWO_MODES.log_prob(y).exp()), times
    )
    start = grid.density(lambda y: posterior.log_prob(y, 1.0).exp())
    backward = FokkerPlanck(Reverse(posterior), grid).solve(start, times.flip(0))
    middle.imshow(
        forward.T.numpy(), origin="lower", extent=(0, 1, -4, 4), aspect="auto", cmap="Blues"
    )
    middle.set_title("$p_t$ by Fokker-Planck, data to noise")
    middle.set_xlabel("t")
    right.plot(
        grid.centres[:, 0],
        backward[-1],
        color="tab:blue",
        linewidth=3,
        alpha=0.5,
        label="reverse equation, end",
    )
    right.plot(grid.centres[:, 0], start, color="tab:gray", label="start, $p_T$")
    right.plot(grid.centres[:, 0], forward[0], "--", color="black", linewidth=1, label="data")
    right.set_title("noise to data")
    for ax in (left, right):
        ax.set_ylim(0, 1.3 * ax.get_ylim()[1])  # room for the legend
        ax.set_xlabel("x")
        ax.legend()


def schedules(figure: Any) -> None:
    """Draw alpha and beta of two schedules, with paths from four points."""
    t = torch.linspace(0, 1, 200, dtype=torch.float64)
    for ax, name, sde in zip(
        figure.subplots(1, 2, sharey=True), ("linear", "cosine"), (VP(), Cosine()), strict=True
    ):
        path = sample_exact(
            sde, torch.tensor([[-1.5], [-0.5], [0.5], [1.5]], dtype=torch.float64), t, seed=3
        )
        ax.plot(t, path[..., 0], color="tab:gray", linewidth=0.5)
        ax.plot(t, sde.alpha(t), color="tab:blue", label="$\\alpha_t$")
        ax.plot(t, sde.sigma(t), color="tab:orange", label="$\\beta_t$")
        ax.set_title(f"{name} schedule, $Y_t = \\alpha_t Y_0 + \\beta_t N$")
        ax.set_xlabel("t")
        ax.legend()


def _error_line(ax: Any, x: Sequence[float], y: Tensor, name: str, order: float) -> None:
    """Draw errors over step sizes, and a line of the order through the last error."""
    (drawn,) = ax.loglog(x, y, "o", label=f"{name}, order {order:g}", base=2)
    ax.loglog(
        x,
        float(y[-1]) * (torch.tensor(x) / x[-1]) ** order,
        "--",
        color=drawn.get_color(),
        linewidth=1,
        base=2,
    )


def convergence(figure: Any) -> None:
    """Draw the strong orders of solvers and the orders of the density and of the walk.

    The density converges in the width of its cells, the walk in delta.
    """
    left, middle, right = figure.subplots(1, 3)
    steps = (16, 32, 64, 128, 256)
    for method, order in ((EulerMaruyama(), 0.5), (Milstein(), 1.0), (SRK(), 1.5)):
        _error_line(
            left,
            [1 / k for k in steps],
            strong_errors(method, steps, 1000, 0),
            type(method).__name__,
            order,
        )
    left.set_title("geometric Brownian motion: error on a path")
    left.set_xlabel("step")
    _error_line(
        middle,
        [8 / n for n in (50, 100, 200, 400)],
        torch.stack([_density_error(n) for n in (50, 100, 200, 400)]),
        "L1 error",
        2,
    )
    middle.set_title("Fokker-Planck of Ornstein-Uhlenbeck")
    middle.set_xlabel("cell")
    for velocity, order in ((0.4, 2), (0.0, 4)):
        walks = [RandomWalk.towards(0.5, velocity, delta) for delta in (0.4, 0.2, 0.1, 0.05)]
        distances = torch.tensor([walk.distance_to_limit(round(1 / walk.tau)) for walk in walks])
        _error_line(right, [walk.delta for walk in walks], distances, f"drift {velocity:g}", order)
    right.set_title("distance of a walk to the heat kernel")
    right.set_xlabel("$\\delta$")
    for ax in (left, middle, right):
        ax.legend()


def _density_error(n: int) -> Tensor:
    """Return the L1 error of the Ornstein-Uhlenbeck density on n cells at t = 1."""
    sde = OU(1.0, 1.0)
    start = Normal(torch.tensor([1.5]), torch.tensor([0.3]))
    grid = Grid(Axis(-4, 4, n))
    p0 = grid.evaluate(lambda x: start.log_prob(x).exp())
    p1 = FokkerPlanck(sde, grid).solve(p0 / grid.integrate(p0), torch.tensor([0.0, 1.0]))[-1]
    exact = grid.evaluate(lambda x: start.posterior(sde).log_prob(x, 1.0).exp())
    return grid.integrate((p1 - exact).abs())


def verdicts(figure: Any, rows: Sequence[Row]) -> None:
    """Draw the error over the tolerance of each check; left of the line a check passes."""
    ax = figure.subplots()
    ratio = [
        max(row[2].error / row[2].tolerance, 1e-12) if row[2].tolerance else math.inf
        for row in rows
    ]
    shown = [min(r, 1e6) if math.isfinite(r) else 1e6 for r in ratio]
    colours = ["tab:blue" if row[2].passed else "tab:red" for row in rows]
    ax.barh(
        range(len(rows)), [math.log10(r) + 12 for r in shown], left=-12, color=colours, height=0.7
    )
    ax.axvline(0, color="black", linewidth=1)
    names = [
        f"{check.document} {check.name}{'' if claim == 'right' else ' (broken)'}"
        for check, claim, _ in rows
    ]
    ax.set_yticks(range(len(rows)), names)
    ax.tick_params(axis="y", labelsize=6)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("log10 of error / tolerance")


PICTURES: dict[str, tuple[Callable[[Any], None], tuple[float, float]]] = {
    "paths": (path_picture, (13, 4)),
    "densities": (densities, (13, 4)),
    "schedules": (schedules, (9, 4)),
    "convergence": (convergence, (13, 4)),
}
"""By the name of the file: what draws it, and its size in inches."""


def draw(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Draw all pictures as PNG files and return their paths.

    Args:
        folder: where the files go; made if need be.
        rows: checks, which claim was measured ("right" or "wrong"), and the outcomes, for the
            picture of the verdicts.

    Raises:
        ImportError: without matplotlib.
    """
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    sizes = PICTURES | {
        "verdicts": (lambda figure: verdicts(figure, rows), (7, 1.2 + 0.12 * len(rows)))
    }
    for name, (fill, size) in sizes.items():
        figure = Figure(figsize=size, layout="constrained")
        fill(figure)
        figure.savefig(folder / f"{name}.png", dpi=110)
    return [folder / f"{name}.png" for name in sizes]
