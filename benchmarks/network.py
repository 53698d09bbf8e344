"""Accuracy per evaluation on a real network: the digits model of ``./run demo``, ours and the
peers' samplers.

    ./run demo && python -m benchmarks.network --run runs/demo/digits

The same noise starts every sampler. The reference is the network's own probability flow with 400
steps of fourth order, in the network's float32 with a float64 state; a run with another method and
600 evaluations says how accurate it is. Errors are root mean squares per coordinate, in units of
the data in the model's space.
"""

__all__ = ["Options", "main"]

import math
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import tyro
from torch import Tensor

import ornstein as orn
from benchmarks.peers import SIGMA_MAX, Column
from benchmarks.samplers import columns as peer_columns
from ornstein.inference.sampling.samplers import default_sampler

FINE = 400
DEFAULTS = re.compile(
    r"k-diffusion .* karras|edm heun rho=7|flow_matching (euler|midpoint) uniform|diffusers"
    r" ((DDIM|PNDM|PLMS) vp leading"
    r"|(Euler|LMS|Heun|KDPM2) vp linspace|(DPM\+\+2M|UniPC2 bh2) vp linspace to"
    r" zero|EDM(Euler|DPM\+\+2M) karras to zero)"
)
"""What the peers do when nothing is chosen: the scheduler as it is constructed, or the grid that
its documentation uses."""


@dataclass(frozen=True)
class Options:
    """What to run."""

    run: Path = Path("runs/demo/digits")
    """The folder of a trained model."""
    evaluations: tuple[int, ...] = (5, 6, 8, 10, 15, 20, 30, 50)
    tuned: tuple[int, ...] = (5, 6, 8, 10)
    """Numbers of evaluations to tune for."""
    seconds: float = 120.0
    """Time for each tuning."""
    fitted: int = 192
    """Samples to tune on."""
    samples: int = 256
    leaders: int = 60
    """Peers that go on after the first number of evaluations: the best there, and all defaults."""
    peers: tuple[str, ...] = (
        "edm",
        "dpm_solver",
        "diffusers_",
        "k_diffusion_",
        "azula_",
        "flow_matching_",
    )
    only: str = ""
    """Of the peers those whose name this regular expression finds, and all defaults."""
    out: Path = Path("benchmarks/results/network")


class Network:
    """A model in the place of a `benchmarks.problems.Problem`: a denoiser in EDM coordinates, and
    its flow."""

    def __init__(self, model: orn.DiffusionModel, samples: int, seed: int = 0) -> None:
        self.name, self.posterior_of, self.points = "network", model.denoiser, samples
        self.event, self.dim, self.data_std = (
            model.event_shape,
            math.prod(model.event_shape),
            model.denoiser.data_std,
        )
        self.z = orn.Noise(seed).fold(77).normal((samples, *self.event), torch.float64)
        self.levels: dict[float, Tensor] = {}

    @property
    def sde(self) -> orn.LinearSDE:
        """The process that the network was trained on."""
        return self.posterior_of.sde

    def posterior(self, x: Tensor, t: Tensor) -> orn.Gaussian:
        """The network's answer to a float64 state."""
        found = self.posterior_of(x.float(), t)
        return orn.Gaussian(found.mean.double(), found.std.double())

    def denoise(self, y: Tensor, sigma: float) -> Tensor:
        """``E[x_0 | y = x_0 + sigma z]``."""
        t = self.sde.time(torch.tensor(-2 * math.log(max(sigma, 1e-4)), dtype=torch.float64))
        x = (y * self.sde.alpha(t)).reshape(len(y), *self.event)
        return self.posterior(x, t).mean.flatten(1)

    def flow(self, y: Tensor, sigma: float):  # type: ignore[no-untyped-def]
        """The flow from the noise to any level, whatever y: there is one start."""
        return lambda level: self.at(level)[: len(y)]

    @cached_property
    def _path(self) -> orn.Trajectory:
        """The accurate solution, and all states on its way."""
        rule, watch = default_sampler(self.posterior_of), orn.Trajectory()
        with torch.no_grad():
            times = self.sde.times(FINE, rule.spacing)
            orn.simulate(
                orn.Reverse(_Float64(self), 0.0), self.z, times, rule.method, watch=[watch]
            )
        return watch

    def at(self, level: float) -> Tensor:
        """``y`` of the flow at a noise-to-signal ratio: the last state before it, and one step of
        third order."""
        if level not in self.levels:
            end = self.sde.time(torch.tensor(-2 * math.log(level or 1e-300), dtype=torch.float64))
            end = end if level else torch.zeros_like(end)
            k = max(k for k, t in enumerate(self._path.times) if t >= end)
            x, t = self._path.states[k], self._path.times[k]
            if t > end:
                with torch.no_grad():
                    x = orn.simulate(
                        orn.Reverse(_Float64(self), 0.0), x, torch.stack([t, end]), self._third
                    )
            self.levels[level] = (x / self.sde.alpha(end)).flatten(1)
        return self.levels[level]

    @property
    def _third(self) -> orn.methods.Singlestep:
        return orn.methods.Singlestep(
            (1 / 3, 2 / 3), 0.0, weights=default_sampler(self.posterior_of).method.weights
        )  # type: ignore[attr-defined]

    def check(self) -> float:
        """How far another method, with half as many steps of three evaluations, is from the
        reference."""
        times = self.sde.times(FINE // 2, default_sampler(self.posterior_of).spacing)
        x = orn.simulate(orn.Reverse(_Float64(self), 0.0), self.z, times, self._third)
        return float((x.flatten(1) - self.at(0.0)).square().mean().sqrt())


class _Float64:
    """A network as a posterior with a float64 state, which counts its calls."""

    def __init__(self, network: Network) -> None:
        self.network, self.sde, self.data_std, self.event_shape, self.calls = (
            network, network.sde, network.data_std, network.event, 0,
        )  # fmt: skip

    def __call__(self, x: Tensor, t: Tensor) -> orn.Gaussian:
        self.calls += 1
        return self.network.posterior(x, t)


def _error(network: Network, y: Tensor, level: float) -> float:
    value = float((y - network.at(level)).square().mean().sqrt())
    return value if math.isfinite(value) else math.inf


def _ours(network: Network, n: int, method: str | orn.Sampler) -> float:
    posterior = _Float64(network)
    x = orn.sample(posterior, network.points, n, method, x_T=network.z)
    assert posterior.calls <= n
    return _error(network, x.flatten(1), 0.0)


def _peers(network: Network, found: dict[str, Column], n: int) -> dict[str, float]:
    errors = {}
    for name, column in found.items():
        if name.startswith("ornstein"):
            continue
        try:
            end = column(network, network.at(SIGMA_MAX), n)  # type: ignore[arg-type]
        except Exception as error:
            print(f"{name} at {n}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        if end is not None:
            errors[name] = _error(network, end[0], end[1])
    return errors


def main(options: Options) -> None:
    """Run, print and write ``table.md``."""
    torch.set_num_threads(1)
    network = Network(orn.load(options.run), options.samples)
    lines = [
        (
            "| evaluations | best peer as it comes | error | best of all settings | error | auto |"
            " tuned | tuned / as it comes | tuned / best |"
        ),
        "|" + "---|" * 9,
    ]
    with torch.no_grad():
        check = network.check()
        found = {
            k: v
            for k, v in peer_columns(_Peers(options.peers)).items()  # type: ignore[arg-type]
            if not k.startswith("ornstein")
            and (re.search(options.only, k) or DEFAULTS.fullmatch(k))
        }
        for n in options.evaluations:
            peers, auto, tuned = _peers(network, found, n), _ours(network, n, "auto"), math.nan
            ranked = sorted(peers, key=peers.__getitem__)
            found = {
                k: found[k]
                for k in found
                if k in ranked[: options.leaders] or DEFAULTS.fullmatch(k)
            }
            if n in options.tuned:
                result = orn.tune(
                    _Float64(network),
                    n,
                    seed=4321,
                    n=options.fitted,
                    seconds=options.seconds,
                    dtype=torch.float64,
                )
                tuned = _ours(network, n, result)
            best, usual = ([*ranked, "none"][0], [*filter(DEFAULTS.fullmatch, ranked), "none"][0])
            a, b = peers.get(usual, math.nan), peers.get(best, math.nan)
            peer = f"{usual} | {a:.4g} | {best} | {b:.4g}"
            lines.append(
                f"| {n} | {peer} | {auto:.4g} | {tuned:.4g} | {tuned / a:.2f} | {tuned / b:.2f} |"
            )
            print(lines[-1], flush=True)
    lines.append(
        f"\nThe reference differs from that of another method by {check:.2g}. {options.samples}"
        " samples."
    )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    print(lines[-1])


@dataclass(frozen=True)
class _Peers:
    """The part of the options that chooses columns."""

    peers: tuple[str, ...]
    only: str = ""


if __name__ == "__main__":
    main(tyro.cli(Options))
