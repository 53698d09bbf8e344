"""Path measures: importance weights of whole paths between a simple law and a target density.

Every sampler of densities in this library is one: a start law, kernels that generate, kernels that
go back, and a target. Kernels F carry ``x_T ~ pi`` over a grid of times down to ``x_0``, kernels B
carry it back. For a target rho with normaliser Z

    log w = log rho(x_0) - log pi(x_T) + sum_k [log B(x_{k+1} | x_k) - log F(x_k | x_{k+1})]     (1)

has ``E_F[w] = Z`` exactly, for any kernels and any number of steps, because all of them are
normalised; on paths that B draws from ``x_0 ~ rho / Z`` it has ``E_B[1 / w] = 1 / Z``. So

    E_F[log w]  <=  log Z  <=  E_B[log w],                                                       (2)

the evidence bounds from below (ELBO) and above (EUBO), equal where all weights are equal.

    made by          F                           B                            in the literature
    denoising_paths  kernels of a posterior      transitions of its process   DIS, DDS, PIS
    annealed_paths   moves that leave a level    the same moves reversed      AIS, SMC
                     invariant
    langevin_paths   Langevin steps, control u   Langevin steps, control -v   ULA, MCD, CMCD
    kinetic_paths    leapfrog steps, momenta     their inverse                UHA
                     partly redrawn

DIS is over `VP`, DDS over `OU`, PIS over a bridge; (u, v) is (0, 0) for ULA, (0, v) for MCD, (u, u)
for CMCD and (u, v) for bridges. Neal 2001; Berner et al. 2022; Vargas et al. 2023 (DDS) and 2024
(CMCD); Doucet et al. 2022 (MCD); Richter and Berner 2024 (bridges).
"""

__all__ = ["GaussianStart", "Law", "Moves", "PathMeasure"]

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import LogDensity
from ornstein.core.numerics.gaussian import Gaussian, Point
from ornstein.core.paths.kernels import Kernels
from ornstein.core.processes.linear import Time
from ornstein.core.random.noise import Noise
from ornstein.core.random.weighted_sample import WeightedSample
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.method import Kernel, Method
from ornstein.core.simulation.watchers import Evaluations, LogWeight
from ornstein.errors import OrnsteinError


@runtime_checkable
class Law(Protocol):
    """A start law: a normalised density that can be sampled."""

    def draw(self, n: int, noise: Noise) -> Tensor:
        """Return n independent draws, ``(n, *event)``."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of points ``(n, *event)`` in nats, ``(n,)``."""
        ...


@dataclass(frozen=True)
class GaussianStart:
    """A Gaussian, or a single point, as the start law of a path measure.

    Args:
        law: a `Gaussian` or a `Point` whose mean has the shape of an event.
    """

    law: Gaussian | Point

    def draw(self, n: int, noise: Noise) -> Tensor:
        """Return n independent draws, ``(n, *event)``."""
        return self.law.draw(noise.normal((n, *self.law.mean.shape), self.law.mean.dtype))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of points ``(n, *event)`` in nats, ``(n,)``."""
        return self.law.log_prob(x)


@dataclass(frozen=True)
class Moves:
    """Markov chain moves as kernels, which compute the log-ratio of both directions themselves.

    Args:
        sde: what the method is run on, such as a `GeometricPath`.
        method: one that returns `Step.log_ratio`, such as `MALA`.
    """

    sde: Any
    method: Method


@dataclass(frozen=True)
class PathMeasure:
    """Kernels forward and backward between a start law and a target: a sampler of paths.

    Args:
        start: pi.
        target: rho, unnormalised.
        times: from T down to 0, 1-D.
        forward: F, a function ``(x, t, s) -> Gaussian`` or `Moves`.
        backward: B, a function ``(x, s, t) -> Gaussian``, or the same `Moves`.
        level: ``(x, t) -> (n,)``, unnormalised densities between pi and rho, for resampling on the
            way; None if there are none.
        through_path: whether gradients flow through the states, as `reverse_kl` needs; if not, only
            through the kernels' densities.
        widen: see `off_path`.
    """

    start: Law
    target: LogDensity
    times: Float[Tensor, " k"]
    forward: Kernel | Moves
    backward: Kernel | Moves
    level: Callable[[Tensor, Time], Tensor] | None = None
    through_path: bool = True
    widen: float = 1.0

    def off_path(self, widen: float = 1.0) -> "PathMeasure":
        """Return the measure for losses without gradients through the states, from widened kernels.

        The kernels' standard deviation is multiplied by ``widen``. For losses that may be taken on
        any paths; ``E[w] = Z`` holds for ``widen=1`` alone.
        """
        return replace(self, through_path=False, widen=widen)

    def draw(self, n: int, noise: Noise) -> WeightedSample:
        """Draw n paths forward and return their ends with log-weights, whose mean weight is Z.

        Returns:
            States at time 0, ``(n, *event)``, with ``log rho(x_0) - log pi(x_T) + sum_k [log B -
            log F]``; the cost is the number of calls of the posterior or score per path, without
            the density at the end.
        """
        x_T = self.start.draw(n, noise)
        x_0, ratio, evaluations = self.carry(x_T, self.times, noise)
        log_w = self.target(x_0) - self.start.log_prob(x_T) + ratio  # (1)
        return WeightedSample(x_0, log_w, cost=evaluations)

    def back(self, x_0: Float[Tensor, "n *event"], noise: Noise) -> Float[Tensor, " n"]:
        """Return the log-weights ``(n,)`` of paths drawn backward from given ends.

        For exact samples of the target their mean bounds log Z from above.
        """
        x_T, ratio, _ = self._run(self.backward, self.forward, x_0, self.times.flip(0), noise)
        return self.target(x_0) - self.start.log_prob(x_T) - ratio  # (1)

    def carry(
        self, x: Float[Tensor, "n *event"], times: Tensor, noise: Noise
    ) -> tuple[Tensor, Tensor, int]:
        """Simulate states forward over a piece of the path, with their log-ratio.

        Returns:
            The states at its end, ``sum [log B - log F]`` over it, ``(n,)``, and the evaluations.
        """
        return self._run(self.forward, self.backward, x, times, noise)

    def _run(
        self, kernels: Kernel | Moves, other: Kernel | Moves, x: Tensor, times: Tensor, noise: Noise
    ) -> tuple[Tensor, Tensor, int]:  # fmt: skip
        """Simulate the kernels of one direction, and sum the log-ratio of the other direction."""
        cost = Evaluations()
        if isinstance(kernels, Moves):
            weight = LogWeight()
            x = simulate(kernels.sde, x, times, kernels.method, noise, [weight, cost])
        else:
            if isinstance(other, Moves):
                raise OrnsteinError(
                    "a path measure with Moves in one direction needs the same Moves in the other"
                )
            weight = LogWeight(other)
            method = Kernels(kernels, self.through_path, self.widen)
            x = simulate(None, x, times, method, noise, [weight, cost])
        return x, weight.value, cost.count
