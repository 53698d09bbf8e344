"""The log-likelihood of a model by its probability flow, with what is wrong with it.

The flow carries a sample to noise, and the density with it: ``log p(x_0) = log p_T(x_T) + int
div``. For data ``N(0, d^2)`` the flow is a scaling, whatever the process; in the coordinates in
which that is nothing,

    z = x / (alpha sqrt(u)),   u = r^2 + d^2,   r = sigma / alpha = c tan(phi),

only ``F = D - d^2 / u x / alpha`` is left of the posterior mean D, and with ``s, k = sin(phi),
cos(phi)``,

    dz / dphi = -F / (s sqrt(c^2 s^2 + d^2 k^2)),      log p(x_0) = log p_z(z_T) + int div dphi - dim log(alpha_0 d),  (1)

smooth at both ends of time, also where alpha is 0. An error e of (z, int div) at phi moves the
result by

    e_div + grad log p_z(z, phi) . e_z,     grad log p_z = sqrt(u) F / r^2 - z,                  (2)

because the rest of the flow only transports the density: so the solver controls, and adds up,
errors of the result itself. Chen et al. 2018; Grathwohl et al. 2019; Song et al. 2021, section 4.3.
What the start law leaves is `ornstein.inference.likelihood.terminal`.
"""

__all__ = ["LogLikelihood", "log_likelihood"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.methods.adams import Adams, Errors
from ornstein.core.processes.linear import Time, as_time
from ornstein.core.processes.reverse import Posterior
from ornstein.core.processes.sde import SDE
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.errors import OrnsteinError
from ornstein.inference.likelihood.terminal import TerminalGaussian, terminal
from ornstein.inference.likelihood.trace import Divergence, Exact, Hutchinson
from ornstein.inference.sampling.sample import data_std

DENSE = 0.36  # c in units of d: steps are densest where the noise-to-signal ratio is a third of d, as in `automatic`
EXACT_UP_TO = 64  # dimensions
CLEAN = 1e-4  # of the last angle, where the slope at the data is taken
TRUSTED = 0.05  # sin(phi) below which the score is taken to grow no more: an exact one does not, a network's like 1 / s
COARSER = 20.0  # times the tolerance, for the run that a result is compared with
# of the distance of the two runs that is reported; the error falls with the tolerance, 20 times
SAFETY = 0.2
FLOOR = 0.5  # of the local errors that is reported with it: under a network, which is rough, they add up to about the error


@dataclass(frozen=True)
class LogLikelihood:
    """Log-density of each sample in nats, and its parts of error.

    Attributes:
        value: ``(b,)``.
        stderr: ``(b,)``, standard error from random probes; 0 with the exact divergence.
        discretisation: ``(b,)``, size of the error of the steps.
        terminal: ``(b,)``, size of what is left of the error of taking the law at T to be Gaussian,
            after a correction.
        prior_gap: ``KL(law at T || start law of the samplers)``, nats; what their samples lose, and
            a likelihood that takes the start law for the law at T is wrong by, on average.
        x_T: ``(b, *event)``, the noise that the flow connects with each sample.
        evaluations: of the posterior, per sample.
        passes: backward passes per sample that the divergence took.
    """

    value: Tensor
    stderr: Tensor
    discretisation: Tensor
    terminal: Tensor
    prior_gap: float
    x_T: Tensor
    evaluations: int
    passes: int

    @property
    def error(self) -> Tensor:
        """All parts together, ``(b,)``: ``sqrt(stderr^2 + discretisation^2 + terminal^2)``."""
        return (self.stderr.square() + self.discretisation.square() + self.terminal.square()).sqrt()

    @staticmethod
    def joined(parts: "Sequence[LogLikelihood]", order: Tensor) -> "LogLikelihood":
        """Batches as one, sample i the ``order[i]``-th of all; the largest ``evaluations`` and
        ``passes``, the mean ``prior_gap``."""
        names = ("value", "stderr", "discretisation", "terminal", "x_T")
        tensors = {
            name: torch.cat([getattr(part, name) for part in parts])[order] for name in names
        }
        gap = sum(part.prior_gap * len(part.value) for part in parts) / len(order)
        evaluations, passes = (
            max(part.evaluations for part in parts),
            max(part.passes for part in parts),
        )
        return LogLikelihood(**tensors, prior_gap=gap, evaluations=evaluations, passes=passes)


def log_likelihood(
    posterior: Posterior,
    x: Float[Tensor, "b *event"],
    tol: float = 1e-4,
    divergence: Divergence | None = None,
    seed: int | Noise = 0,
    refine: bool = True,
    start: TerminalGaussian | None = None,
    at: float = 0.0,
) -> LogLikelihood:
    """``log p(x)`` under the probability flow of a posterior, each sample with its error.

    Args:
        posterior: a `Denoiser`, an exact posterior, or a guided one; what it is conditioned on must
            be the same for all samples.
        x: samples in the posterior's own space.
        tol: error allowed per step, nats per dimension, for every sample of the batch.
        divergence: `Exact`, `Hutchinson` or `HutchPlusPlus`; by default exact up to 64 dimensions,
            else 16 probes.
        seed: an integer or a `Noise`, for the probes. Sample i has probes of its own, whatever the
            batch.
        refine: run also at 20 times the tolerance, about half as many evaluations more: the
            discretisation reported is then a fifth of the change and half of the local errors.
            Without, it is the sum of the local errors, weighed with the score that the posterior
            implies: ten times the error where the posterior is smooth, a half of it where a network
                is rough.
        start: the law at T; by default the Gaussian with the moments that the posterior has there.
            ``TerminalGaussian.prior(sde, dim, var)`` is that of samplers which start from the prior.
        at: time of x: the density is then ``log p_at(x)``, that of the noised data.

    Raises:
        OrnsteinError: for a process that is pinned, values that are not finite, or a tolerance that
            cannot be met.
    """
    sde, dim = posterior.sde, x[0].numel()
    if sde.pinned:
        raise OrnsteinError(
            f"{type(sde).__name__} ends in one point: a likelihood needs a process with a start"
            " density, such as VP"
        )
    if not bool(torch.isfinite(x).all()) or not tol > 0:
        bad = int((~x.isfinite()).sum())
        raise OrnsteinError(
            f"log_likelihood(tol={tol}) of {bad} values that are not finite: a positive tol, and"
            " finite x"
        )
    if not 0 <= at < sde.T:
        raise OrnsteinError(
            f"log_likelihood(at={at}): a time of {type(sde).__name__}, from 0 to below T={sde.T:g}"
        )
    rule = divergence or (Exact() if dim <= EXACT_UP_TO else Hutchinson())
    noise = seed if isinstance(seed, Noise) else Noise(seed)
    flow = _Flow(posterior, x, at, rule, rule.directions(x, noise))
    with torch.no_grad():
        law = start or terminal(posterior, x)
        state, error = flow.run(tol * dim)
        value, discretisation = flow.log_prob(state, law), error
        if refine:
            coarse, _ = flow.run(COARSER * tol * dim)
            discretisation = SAFETY * (flow.log_prob(coarse, law) - value).abs() + FLOOR * error
        x_T = flow.end(state)
        bent, unsure, asked = law.mismatch(posterior, x_T.to(x), noise.fold(1))
    stderr = rule.stderr(state[:, dim:], dim)
    value, stderr, discretisation, unsure = (
        part.to(x) for part in (value + bent, stderr, discretisation, unsure)
    )
    passes = flow.calls * rule.passes(dim)
    return LogLikelihood(
        value, stderr, discretisation, unsure, law.prior_gap, x_T.to(x), flow.calls + asked, passes
    )


class _Flow:
    """The flow (1) of a batch as an ODE in the angle: the state is ``(b, dim + m)``, z and m
    estimates of the integral."""

    def __init__(
        self, posterior: Posterior, x: Tensor, at: float, rule: Divergence, directions: Tensor
    ) -> None:
        self.posterior, self.x, self.rule, self.directions, self.calls = (
            posterior,
            x,
            rule,
            directions.flatten(2).double(),
            0,
        )
        self.sde, self.d, self.dim = posterior.sde, data_std(posterior), x[0].numel()
        self.c = DENSE * self.d
        self.scales = [float(self._scale(as_time(t))) for t in (at, self.sde.T)]
        self.first, self.last = (
            math.atan2(float(self.sde.sigma(t)), self.c * float(self.sde.alpha(t)))
            for t in (at, self.sde.T)
        )

    def run(self, tol: float) -> tuple[Tensor, Tensor]:
        """The state at T, and the estimate of the error that the steps have made in the result."""
        z, errors = (self.x.double() / self.scales[0]).flatten(1), Errors()
        state = torch.cat([z, z.new_zeros(len(z), self.rule.estimates(self.dim))], 1)
        times = torch.tensor([self.first, self.last], dtype=torch.float64)
        end = simulate(SDE(self.drift), state, times, Adams(tol, weigh=self.weigh), watch=[errors])
        return end, errors.value

    def drift(self, state: Tensor, phi: Time) -> Tensor:
        """(1), and minus its divergence; at the data, where that is 0/0, what they are at a very
        small angle."""
        angle = max(float(phi), CLEAN * self.last)
        s, k = math.sin(angle), math.cos(angle)
        self.calls += 1
        root = math.hypot(self.c * s, self.d * k)
        t = self.sde.time(torch.tensor(-2 * math.log(self.c * s / k), dtype=torch.float64))
        scale = float(self._scale(t))

        def mean(z: Tensor) -> Tensor:
            return (
                self.posterior((scale * z).to(self.x).reshape(self.x.shape), t)
                .mean.flatten(1)
                .double()
            )

        z, kappa = state[:, : self.dim], self.d**2 * k / root
        value, traces = self.rule(mean, z, self.directions)
        return torch.cat([value - kappa * z, traces - kappa * self.dim], 1) / (-s * root)  # (1)

    def weigh(self, error: Tensor, state: Tensor, slope: Tensor, phi: float) -> Tensor:
        """(2), the two parts apart, with F from the slope; nearly without noise a network's score
        is no derivative of anything."""
        s, k = max(math.sin(phi), TRUSTED), math.cos(phi)
        u = self.c**2 * s**2 + self.d**2 * k**2
        score = slope[:, : self.dim] * (-u * k / (self.c**2 * s)) - state[:, : self.dim]
        return torch.stack(
            [error[:, self.dim :].mean(1), (score * error[:, : self.dim]).sum(1)], 1
        )  # (2)

    def end(self, state: Tensor) -> Tensor:
        """``x_T``."""
        return (self.scales[1] * state[:, : self.dim]).reshape(self.x.shape)

    def log_prob(self, state: Tensor, law: TerminalGaussian) -> Tensor:
        """The sum of (1)."""
        change = self.dim * (math.log(self.scales[1]) - math.log(self.scales[0]))
        return law.log_prob(self.end(state)) + state[:, self.dim :].mean(1) + change  # (1)

    def _scale(self, t: Tensor) -> Tensor:
        """``alpha sqrt(u)``: standard deviation of x for Gaussian data."""
        return torch.hypot(self.d * self.sde.alpha(t), self.sde.sigma(t))
