"""A lower and an upper bound on the log-likelihood, by importance sampling of noising paths.

Noising paths k = 1, ..., K from x have weights ``w_k = p(path, x) / q(path | x)`` under the
generating kernels, with ``E[w] = p(x)`` for any posterior and any grid. Then, with equality where
all weights are equal,

    E_q[log w] <= log p(x) <= E_{p(path | x)}[log w],                                            (1)

the evidence bounds from below (ELBO) and from above (EUBO). The upper expectation is over the
model's own paths given x: for an exact posterior they are the noising paths themselves; otherwise
the weights correct for it, ``sum_k w_k log w_k / sum_k w_k``, which is below the upper bound while
K is small against the spread of the weights.
"""

__all__ = ["TwoSidedBound", "two_sided_bound"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.checks import require_integers
from ornstein.core.numerics.estimate import NORMAL_QUANTILE, Estimate
from ornstein.core.numerics.importance import log_ess
from ornstein.core.paths.denoising import denoising_paths
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.core.timesteps.spacing import Spacing, as_spacing
from ornstein.inference.likelihood.probability_flow import LogLikelihood
from ornstein.inference.sampling.samplers import data_std


@dataclass(frozen=True, eq=False, kw_only=True)
class TwoSidedBound(Estimate):
    """An estimate of ``log p(x)`` in nats between a lower and an upper bound, each ``(b,)``.

    ``value`` is the log of the mean weight, ``stderr`` its standard error by the delta method, and
    ``interval`` goes from 1.96 standard errors below ``lower`` to as many above ``upper``. ``cost``
    counts evaluations of the posterior per sample.

    Args:
        lower: the evidence lower bound ``E_q[log w]``.
        upper: the evidence upper bound, ``sum w log w / sum w``.
        lower_stderr: standard error of the lower bound over paths.
        upper_stderr: standard error of the upper bound over paths, by the delta method.
        ess: effective number of paths, ``(sum w)^2 / sum w^2``: below about 10 the upper bound
            is estimated too low to be used.
        flow: the likelihood by the probability flow, if it was passed.
    """

    lower: Tensor
    upper: Tensor
    lower_stderr: Tensor
    upper_stderr: Tensor
    ess: Tensor
    flow: LogLikelihood | None = None

    @property
    def middle(self) -> Tensor:
        """The log of the mean weight ``log 1/K sum_k w_k``, between both bounds, ``(b,)``."""
        return self.value

    def line(self) -> str:
        """Describe the means over the samples in one line, with the widths on both sides."""
        if self.flow is None:
            value, error = self.value, torch.hypot(self.upper_stderr, self.lower_stderr)
        else:
            value, error = self.flow.value, self.flow.error
        low, mid, high = (float(v.double().mean()) for v in (self.lower, value, self.upper))
        rms_error = float(error.double().square().mean().sqrt())
        return (
            f"{low:.4f} <= log p = {mid:.4f} +- {rms_error:.1g} <= {high:.4f}   (widths"
            f" {mid - low:.2g} and {high - mid:.2g} nats)"
        )


def two_sided_bound(
    posterior: Posterior,
    x: Float[Tensor, "b *event"],
    steps: int = 64,
    paths: int = 32,
    seed: int | Noise = 0,
    spacing: Spacing | str | None = None,
    flow: LogLikelihood | None = None,
) -> TwoSidedBound:
    """Bound ``log p(x)`` of each sample from below and above, by the chain of ``steps`` kernels.

    With weights w of noising paths, ``E_q[log w] <= log p(x) <= E_{p(path | x)}[log w]``. The chain
    starts from the samplers' start law and generates what `Ancestral` generates: where the
    posterior is not exact that is not quite the law of the probability flow, so the flow's
    likelihood may lie outside the bounds by the inconsistency of the model.

    Args:
        posterior: the model.
        x: samples ``(b, *event)`` in the space of the model.
        steps: of the chain, at least 2.
        paths: for each sample, at least 2.
        seed: an integer or a `Noise`.
        spacing: where to put the steps, a member of `ornstein.spacing` or its name.
        flow: a result of `log_likelihood` on the same x, to compare with the bounds.

    Raises:
        OrnsteinError: for fewer than 2 steps or paths.

    Example:
        >>> target = orn.targets.gmm9()
        >>> bounds = orn.two_sided_bound(target.posterior(orn.VP()), target.sample(4), steps=8)
        >>> bool((bounds.lower <= bounds.upper).all()), bounds.cost
        (True, 256)
    """
    require_integers(2, steps=steps, paths=paths)
    sde = posterior.sde
    noise = Noise.of(seed)
    measure = denoising_paths(
        posterior,
        lambda end: torch.zeros(()),
        sde.times(steps, None if spacing is None else as_spacing(spacing)),
        data_std(posterior) ** 2,
        like=x,
    )
    with torch.no_grad():
        log_w = torch.stack([-measure.back(x, noise.fold(k)).double() for k in range(paths)])
    normalised = log_w.softmax(0)
    ess = log_ess(log_w, 0).exp()
    lower = log_w.mean(0)
    lower_stderr = log_w.std(0) / math.sqrt(paths)
    upper = (normalised * log_w).sum(0)
    upper_stderr = (normalised.square() * (log_w - upper).square()).sum(0).sqrt()
    low, high = lower - NORMAL_QUANTILE * lower_stderr, upper + NORMAL_QUANTILE * upper_stderr
    return TwoSidedBound(
        (log_w.logsumexp(0) - math.log(paths)).to(x),
        (1 / ess - 1 / paths).clamp(min=0).sqrt().to(x),
        (low.to(x), high.to(x)),
        steps * paths,
        lower=lower.to(x),
        upper=upper.to(x),
        lower_stderr=lower_stderr.to(x),
        upper_stderr=upper_stderr.to(x),
        ess=ess.to(x),
        flow=flow,
    )
