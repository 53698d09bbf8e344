"""The particles of tempered sequential Monte Carlo: their weights, resampling and moves.

Tempered sequential Monte Carlo (`ornstein.density.smc.tempered_smc`) moves several independent
groups of n particles through the densities ``gamma_t`` of `ornstein.core.mcmc.geometric_path`, from
the start density (t = 1) to the target (t = 0). `ParticleSystem` holds their states and has the
three operations of the method: weight, resample, move. With the normalised weights W of one group,
a step of the temperature from t to s multiplies them by

    w = gamma_s(x) / gamma_t(x),    log Z = sum over steps of log sum_i W_i w_i,                 (1)

and its conditional effective sample size (Zhou, Johansen and Aston 2016) is

    CESS = n (sum_i W_i w_i)^2 / sum_i W_i w_i^2.                                                (2)
"""

__all__ = ["ParticleSystem", "SMCSample", "StartLaw"]

import math
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.mcmc.geometric_path import GeometricPath, LogDensity, PointEvaluation
from ornstein.core.mcmc.hmc import HMC, HMCState
from ornstein.core.numerics.importance import log_ess, systematic_indices
from ornstein.core.paths.measure import Law
from ornstein.core.random.noise import Noise
from ornstein.core.random.weighted_sample import WeightedSample
from ornstein.density.log_z import LogZ, log_z_of_runs
from ornstein.density.smc.short_chains import chain_moves

_START = 0  # key of the random numbers of the start distribution


@runtime_checkable
class StartLaw(Law, Protocol):
    """A normalised distribution that can be drawn and evaluated and that has components."""

    def residual(self, x: Tensor) -> Tensor:
        """Return x minus the centre of the component it most likely belongs to, ``(n, d)``."""
        ...


@dataclass(frozen=True, eq=False)
class SMCSample(WeightedSample):
    """Weighted particles at the target, in independent groups, with log Z and diagnostics.

    Args:
        log_z: log Z from all groups together, with the error from their spread.
        run_log_z: ``(k,)``, log Z of each of the k groups.
        levels: temperatures that were visited, from 1 to 0.
        cess: conditional effective sample size of each step, as a fraction of n.
        acceptance: mean acceptance probability of the moves at each temperature.
    """

    log_z: LogZ = field(kw_only=True)
    run_log_z: Float[Tensor, " k"] = field(kw_only=True)
    levels: list[float] = field(kw_only=True)
    cess: list[float] = field(kw_only=True)
    acceptance: list[float] = field(kw_only=True)

    @classmethod
    def of_runs(
        cls,
        x: Tensor,
        log_w: Float[Tensor, "k n"],
        run_log_z: Float[Tensor, " k"],
        cost: int,
        levels: list[float],
        cess: list[float] | None = None,
        acceptance: list[float] | None = None,
    ) -> "SMCSample":
        """Gather k groups of n particles, whose mean weights are their estimates of Z.

        Without ``cess`` the whole way was one step, and its effective fraction is taken.
        """
        log_z = log_z_of_runs(run_log_z, log_w.flatten())
        return cls(
            x,
            log_w.flatten(),
            len(run_log_z),
            cost,
            log_z=log_z,
            run_log_z=run_log_z,
            levels=levels,
            cess=[log_z.ess / log_w.numel()] if cess is None else cess,
            acceptance=acceptance or [],
        )


@dataclass
class ParticleSystem:
    """The state of tempered sequential Monte Carlo: k independent groups of n particles.

    Args:
        path: the densities between start and target.
        x: ``(k n, d)``, the particles, one group after another.
        local: evaluations of start and target density at x.
        log_w: ``(k, n)``, logarithms of the weights W, normalised within each group.
        log_z: ``(k,)``, log Z of each group so far.
        cost: evaluations of the target that the particles took.
        levels: temperatures that were visited.
        cess: (2) of each step as a fraction of n, mean over the groups.
        acceptance: mean acceptance probability at each temperature.
    """

    path: GeometricPath
    x: Tensor
    local: PointEvaluation
    log_w: Tensor
    log_z: Tensor
    cost: int
    levels: list[float] = field(default_factory=lambda: [1.0])
    cess: list[float] = field(default_factory=list)
    acceptance: list[float] = field(default_factory=list)

    @classmethod
    def start(
        cls, target: LogDensity, law: StartLaw, n: int, runs: int, noise: Noise
    ) -> "ParticleSystem":
        """Draw the particles of all groups from the start distribution, with even weights."""
        x = torch.cat([law.draw(n, noise.fold(_START, k)) for k in range(runs)])
        path = GeometricPath(law.log_prob, target)
        even = torch.full((runs, n), -math.log(n), dtype=torch.float64)
        log_z = torch.zeros(runs, dtype=torch.float64)
        return cls(path, x, path.local(x), even, log_z, len(x))

    @property
    def level(self) -> float:
        """The present temperature t, between 1 (start distribution) and 0 (target)."""
        return self.levels[-1]

    @property
    def potential(self) -> Float[Tensor, "k n"]:
        """The log-ratio ``log rho - log pi`` of target and start law; -inf outside the support."""
        slope = self.local.potential.double()
        return torch.where(slope.isnan(), -torch.inf, slope).reshape(self.log_w.shape)

    def cess_at(self, level: float) -> float:
        """Return the CESS of a step to a temperature (conditional effective sample size) over n."""
        return self._step_to(level)[2]

    def reweight(self, level: float) -> None:
        """Step to a temperature: multiply the weights by ``gamma_s / gamma_t``."""
        log_w, log_mean, cess = self._step_to(level)
        alive = log_mean[:, None] > -torch.inf
        self.log_w = torch.where(alive, log_w - log_mean[:, None], self.log_w)
        self.log_z = self.log_z + log_mean  # (1)
        self.cess.append(cess)
        self.levels.append(level)

    def _step_to(self, level: float) -> tuple[Tensor, Tensor, float]:
        """Return new log-weights, their log-sum for each group, and the mean of CESS (2) over n."""
        increment = (self.level - level) * self.potential
        log_w = self.log_w + increment
        log_mean = log_w.logsumexp(1)
        log_square = (self.log_w + 2 * increment).logsumexp(1)
        cess = (2 * log_mean - log_square).exp().nan_to_num(0.0).mean()  # (2)
        return log_w, log_mean, float(cess)

    def resample(self, noise: Noise) -> None:
        """Resample the groups whose effective sample size is below n / 2."""
        k, n = self.log_w.shape
        uneven = log_ess(self.log_w, 1) < math.log(n / 2)
        if not bool(uneven.any()):
            return
        index = torch.arange(k * n).reshape(k, n)
        offset = noise.uniform((k, 1), torch.float64)
        chosen = systematic_indices(self.log_w.exp(), n, offset) + index[:, :1]
        index = torch.where(uneven[:, None], chosen, index).flatten()
        self.log_w = torch.where(uneven[:, None], -math.log(n), self.log_w)
        self.x = self.x[index]
        self.local = self.local.take(index)

    def move(self, kernel: HMC, noise: Noise) -> HMCState:
        """Apply one step of the kernel at the present temperature."""
        kernel = replace(kernel, initial=self.local)
        self.x, moved = chain_moves(self.path, self.level, self.x, kernel, noise)
        self.local = moved.local
        self.cost += len(self.x) * kernel.moves * kernel.leaps
        return moved

    def sample(self) -> SMCSample:
        """Return the particles with unnormalised weights, whose group means estimate Z."""
        log_w = self.log_w + self.log_z[:, None] + math.log(self.log_w.shape[1])
        return SMCSample.of_runs(
            self.x, log_w, self.log_z, self.cost, self.levels, self.cess, self.acceptance
        )
