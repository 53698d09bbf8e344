"""The log-likelihood of a diffusion model by its probability-flow ODE, with its error.

The flow carries a sample to noise, and the density with it: ``log p(x_0) = log p_T(x_T) + int
div``, a continuous normalising flow. For data ``N(0, d^2)`` the flow is a scaling, whatever the
process. In the coordinates in which that scaling is the identity,

    z = x / (alpha sqrt(u)),   u = r^2 + d^2,   r = sigma / alpha = c tan(phi),

only ``F = D - d^2 / u x / alpha`` is left of the posterior mean D, and with ``s, k = sin(phi),
cos(phi)``,

    dz / dphi = -F / (s sqrt(c^2 s^2 + d^2 k^2)),
    log p(x_0) = log p_z(z_T) + int div dphi - dim log(alpha_0 d),                               (1)

smooth at both ends of time, also where alpha is 0. An error e of (z, int div) at phi moves the
result by

    e_div + grad log p_z(z, phi) . e_z,     grad log p_z = sqrt(u) F / r^2 - z,                  (2)

because the remaining flow only transports the density: so the solver controls, and adds up,
errors of the log-likelihood itself. Chen et al. 2018; Grathwohl et al. 2019; Song et al. 2021,
section 4.3. The law at T is the subject of `ornstein.inference.likelihood.terminal`.
"""

__all__ = ["LogLikelihood", "log_likelihood"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.methods.adams import Adams, Errors
from ornstein.core.numerics.checks import require_finite
from ornstein.core.numerics.estimate import Estimate
from ornstein.core.processes.linear import Time, as_time
from ornstein.core.processes.reverse import Posterior
from ornstein.core.processes.sde import SDE
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.errors import OrnsteinError
from ornstein.inference.likelihood.elbo import require_start_density
from ornstein.inference.likelihood.terminal import TerminalGaussian, terminal
from ornstein.inference.likelihood.trace import Divergence, Exact, Hutchinson
from ornstein.inference.sampling.samplers import DENSE_RATIO, data_std

# Dimensions up to which the divergence is exact by default: one backward pass for each.
_EXACT_DIVERGENCE_UP_TO = 64
# Angle, in units of the last one, at which the slope at the data is taken, where (1) is 0/0.
_DATA_ANGLE = 1e-4
# Sine of the angle below which the score is taken to grow no more: the score of an exact posterior
# does not, that of a network grows like 1 / s.
_SCORE_CAP_ANGLE = 0.05
# Tolerance of the comparison run in units of ``tol``; its error is about as many times larger.
_COARSE_TOLERANCE = 20.0
# Fraction of the distance between the two runs that is reported; the error falls with the
# tolerance, about as many times as the tolerance does.
_DISTANCE_FRACTION = 0.2
# Fraction of the summed local errors that is reported with it: under a network, which is rough,
# they add up to about the error.
_LOCAL_ERROR_FRACTION = 0.5
_MISMATCH = 1  # key of the noise for the correction of the law at T


@dataclass(frozen=True, eq=False, kw_only=True)
class LogLikelihood(Estimate):
    """The log-density of each sample in nats, with every part of its error.

    ``value`` is ``(b,)``; ``stderr``, ``(b,)``, is the standard error from random probes, 0 with
    the exact divergence. ``interval`` covers all parts of the error, ``value -+ 1.96 error``.
    ``cost`` counts evaluations of the posterior per sample.

    Args:
        discretisation: ``(b,)``, size of the error of the steps, in nats.
        terminal: ``(b,)``, size of what is left of the error of taking the law at T to be Gaussian,
            after a correction, in nats.
        prior_gap: ``KL(law at T || start law of the samplers)`` in nats: the loss of their
            samples, and the mean error of a likelihood that takes the start law for the law at T.
        x_T: ``(b, *event)``, the noise that the flow connects with each sample.
        passes: backward passes per sample that the divergence took.

    Example:
        >>> target = orn.targets.gmm9()
        >>> result = orn.log_likelihood(target.posterior(orn.VP()), target.sample(4), tol=1e-2)
        >>> value, stderr = result
        >>> value.shape, result.error.shape
        (torch.Size([4]), torch.Size([4]))
    """

    discretisation: Tensor
    terminal: Tensor
    prior_gap: float
    x_T: Tensor
    passes: int

    @property
    def error(self) -> Tensor:
        """The root of the sum of squares of the three errors, in nats, ``(b,)``."""
        return (self.stderr.square() + self.discretisation.square() + self.terminal.square()).sqrt()

    def _total_error(self) -> Tensor:
        """The error that the interval covers, which consists of all parts."""
        return self.error

    @staticmethod
    def joined(parts: "Sequence[LogLikelihood]", order: Tensor) -> "LogLikelihood":
        """Join the results of batches into one result, with samples in a given order.

        Args:
            parts: results of batches.
            order: ``(b,)``; sample i of the joint result is number ``order[i]`` of all samples.

        Returns:
            Tensors of all samples, the largest ``cost`` and ``passes``, the mean ``prior_gap``.
        """
        names = ("value", "stderr", "discretisation", "terminal", "x_T")
        value, stderr, discretisation, terminal_error, x_T = (
            torch.cat([getattr(part, name) for part in parts])[order] for name in names
        )
        return LogLikelihood(
            value,
            stderr,
            cost=max(part.cost for part in parts),
            discretisation=discretisation,
            terminal=terminal_error,
            prior_gap=sum(part.prior_gap * len(part.value) for part in parts) / len(order),
            x_T=x_T,
            passes=max(part.passes for part in parts),
        )


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
    """Compute ``log p(x)`` under the probability flow of a posterior, with its error.

    Args:
        posterior: a `Denoiser`, an exact posterior, or a guided one; what it is conditioned on must
            be the same for all samples.
        x: samples ``(b, *event)`` in the posterior's own space.
        tol: error allowed per step, nats per dimension, for every sample of the batch.
        divergence: `Exact`, `Hutchinson` or `HutchPlusPlus`; by default exact up to 64 dimensions,
            else 16 probes.
        seed: an integer or a `Noise`, for the probes. Sample i has probes of its own, whatever the
            batch.
        refine: run also at 20 times the tolerance, about half as many evaluations more: the
            discretisation reported is then a fifth of the change and half of the local errors.
            Without, it is the sum of the local errors, weighted with the score that the posterior
            implies: ten times the error where the posterior is smooth, a half of it where a network
            is rough.
        start: the law at T; by default the Gaussian with the moments that the posterior has there.
            ``TerminalGaussian.prior(sde, dim, var)`` is that of samplers that start from the prior.
        at: time of x: the density is then ``log p_at(x)``, that of data with noise of this time.

    Raises:
        OrnsteinError: for a process that is pinned, values that are not finite, or a tolerance that
            cannot be met.

    Example:
        >>> target = orn.targets.gmm9()
        >>> x = target.sample(4)
        >>> result = orn.log_likelihood(target.posterior(orn.VP()), x, tol=1e-3)
        >>> bool(((result.value - target.log_prob(x)).abs() < 0.05).all())
        True
    """
    sde = posterior.sde
    dim = x[0].numel() if x.ndim and len(x) else 0
    require_start_density(sde)
    require_finite(positive=True, tol=tol)
    require_finite(at=at)
    if dim == 0 or not bool(torch.isfinite(x).all()):
        raise OrnsteinError(
            f"x of shape {tuple(x.shape)} has {int((~x.isfinite()).sum())} values that are not"
            " finite: pass one or more samples of finite numbers"
        )
    if not 0 <= at < sde.T:
        raise OrnsteinError(
            f"log_likelihood(at={at}): a time of {type(sde).__name__}, from 0 to below T={sde.T:g}"
        )
    rule = divergence or (Exact() if dim <= _EXACT_DIVERGENCE_UP_TO else Hutchinson())
    if not isinstance(rule, Divergence):
        raise OrnsteinError(f"divergence={divergence!r}: pass a rule, such as trace.Exact()")
    noise = Noise.of(seed)
    flow = _Flow(posterior, x, at, rule, rule.directions(x, noise))
    with torch.no_grad():
        law = start or terminal(posterior, x)
        state, local_errors = flow.run(tol * dim)
        value, discretisation = flow.log_prob(state, law), local_errors
        if refine:
            coarse, _ = flow.run(_COARSE_TOLERANCE * tol * dim)
            distance = (flow.log_prob(coarse, law) - value).abs()
            discretisation = _DISTANCE_FRACTION * distance + _LOCAL_ERROR_FRACTION * local_errors
        x_T = flow.end(state)
        mismatch, mismatch_error, mismatch_cost = law.mismatch(
            posterior, x_T.to(x), noise.fold(_MISMATCH)
        )
    return LogLikelihood(
        (value + mismatch).to(x),
        rule.stderr(state[:, dim:], dim).to(x),
        cost=flow.calls + mismatch_cost,
        discretisation=discretisation.to(x),
        terminal=mismatch_error.to(x),
        prior_gap=law.prior_gap,
        x_T=x_T.to(x),
        passes=flow.calls * rule.passes(dim),
    )


class _Flow:
    """The probability flow (1) of a batch as an ODE in the angle, with state ``(b, dim + m)``.

    The state is z, followed by m estimates of the integral of the divergence.
    """

    def __init__(
        self, posterior: Posterior, x: Tensor, at: float, rule: Divergence, directions: Tensor
    ) -> None:
        self.posterior = posterior
        self.x = x
        self.rule = rule
        self.directions = directions.flatten(2).double()
        self.calls = 0
        self.sde = posterior.sde
        self.d = data_std(posterior)
        self.dim = x[0].numel()
        self.c = DENSE_RATIO * self.d
        self.scales = [float(self._scale(as_time(t))) for t in (at, self.sde.T)]
        self.first, self.last = (
            math.atan2(float(self.sde.sigma(t)), self.c * float(self.sde.alpha(t)))
            for t in (at, self.sde.T)
        )

    def run(self, tol: float) -> tuple[Tensor, Tensor]:
        """Solve the ODE, and return the state at T and the estimated error of the result."""
        z = (self.x.double() / self.scales[0]).flatten(1)
        errors = Errors()
        state = torch.cat([z, z.new_zeros(len(z), self.rule.estimates(self.dim))], 1)
        times = torch.tensor([self.first, self.last], dtype=torch.float64)
        end = simulate(
            SDE(self.drift),
            state,
            times,
            Adams(tol, error_parts=self.effect_of_error),
            watch=[errors],
        )
        return end, errors.value

    def drift(self, state: Tensor, phi: Time) -> Tensor:
        """Return the slope (1) of z and minus its divergence, near the data at a small angle."""
        angle = max(float(phi), _DATA_ANGLE * self.last)
        s, k = math.sin(angle), math.cos(angle)
        self.calls += 1
        root = math.hypot(self.c * s, self.d * k)
        t = self.sde.time(torch.tensor(-2 * math.log(self.c * s / k), dtype=torch.float64))
        scale = float(self._scale(t))

        def mean(z: Tensor) -> Tensor:
            x = (scale * z).to(self.x).reshape(self.x.shape)
            return self.posterior(x, t).mean.flatten(1).double()

        z = state[:, : self.dim]
        kappa = self.d**2 * k / root
        value, traces = self.rule(mean, z, self.directions)
        return torch.cat([value - kappa * z, traces - kappa * self.dim], 1) / (-s * root)  # (1)

    def effect_of_error(self, error: Tensor, state: Tensor, slope: Tensor, phi: float) -> Tensor:
        """Return the two parts (2) by which an error of the state changes the result.

        Nearly without noise the score of a network is the derivative of no density, so the angle
        is bounded from below.
        """
        s, k = max(math.sin(phi), _SCORE_CAP_ANGLE), math.cos(phi)
        u = self.c**2 * s**2 + self.d**2 * k**2
        score = slope[:, : self.dim] * (-u * k / (self.c**2 * s)) - state[:, : self.dim]
        return torch.stack(
            [error[:, self.dim :].mean(1), (score * error[:, : self.dim]).sum(1)], 1
        )  # (2)

    def end(self, state: Tensor) -> Tensor:
        """Return the states ``x_T`` at the end of time, from the coordinates z."""
        return (self.scales[1] * state[:, : self.dim]).reshape(self.x.shape)

    def log_prob(self, state: Tensor, law: TerminalGaussian) -> Tensor:
        """Return the log-density (1), from the state at T and the Gaussian law there."""
        change = self.dim * (math.log(self.scales[1]) - math.log(self.scales[0]))
        return law.log_prob(self.end(state)) + state[:, self.dim :].mean(1) + change  # (1)

    def _scale(self, t: Tensor) -> Tensor:
        """Return the standard deviation ``alpha sqrt(u)`` of x at time t for Gaussian data."""
        return torch.hypot(self.d * self.sde.alpha(t), self.sde.sigma(t))
