"""A log-likelihood between two estimates that err to opposite sides.

Noising paths k = 1, ..., K from x have weights ``w_k = p(path, x) / q(path | x)`` under the
generating kernels, with ``E[w] = p(x)`` for any posterior and any grid. Then, with equality where
all weights are equal,

    E_q[log w] <= log p(x) <= E_{p(path | x)}[log w],                                            (1)

the evidence bounds from below and from above. The upper expectation is over paths as the model
would have them given x: for an exact posterior they are the noising paths themselves; otherwise the
weights correct for it, ``sum_k w_k log w_k / sum_k w_k``, which falls short of the upper bound
while K is small against the spread of the weights.
"""

__all__ = ["TwoSidedBound", "two_sided_bound"]

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.paths.measure import denoising_paths
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.core.timesteps.spacing import Spacing
from ornstein.errors import OrnsteinError
from ornstein.inference.likelihood.probability_flow import LogLikelihood
from ornstein.inference.sampling.sample import data_std


@dataclass(frozen=True)
class TwoSidedBound:
    """Estimates of ``log p(x)`` in nats, each ``(b,)``: lower and upper (1), the log of the mean
    weight between them.

    Attributes:
        lower, middle, upper: the three estimates.
        lower_stderr, upper_stderr: their standard errors over paths; of the upper one by the delta
            method.
        ess: effective number of paths, ``(sum w)^2 / sum w^2``: below about 10 the upper estimate
            is too low to mean anything.
        flow: the likelihood by the probability flow, if it was handed in.
        evaluations: of the posterior, per sample.
    """

    lower: Tensor
    middle: Tensor
    upper: Tensor
    lower_stderr: Tensor
    upper_stderr: Tensor
    ess: Tensor
    flow: LogLikelihood | None
    evaluations: int

    def line(self) -> str:
        """Means over the samples, in one line with their widths."""
        found = self.flow.value if self.flow is not None else self.middle
        error = (
            self.flow.error
            if self.flow is not None
            else (self.upper_stderr.square() + self.lower_stderr.square()).sqrt()
        )
        low, mid, high = (float(v.double().mean()) for v in (self.lower, found, self.upper))
        wrong = float(error.double().square().mean().sqrt())
        return (
            f"{low:.4f} <= log p = {mid:.4f} +- {wrong:.1g} <= {high:.4f}   (widths {mid - low:.2g}"
            f" and {high - mid:.2g} nats)"
        )


def two_sided_bound(
    posterior: Posterior,
    x: Float[Tensor, "b *event"],
    steps: int = 64,
    paths: int = 32,
    seed: int | Noise = 0,
    spacing: Spacing | None = None,
    flow: LogLikelihood | None = None,
) -> TwoSidedBound:
    """The bracket (1) for each sample, from the chain of ``steps`` kernels.

    The chain starts from the samplers' start law and generates what `Ancestral` generates: where
    the posterior is not exact that is not quite the law of the probability flow, so the flow's
    likelihood may lie outside by what the model is inconsistent.

    Args:
        posterior: the model.
        x: samples in its own space.
        steps: of the chain.
        paths: for each sample, at least 2.
        seed: an integer or a `Noise`.
        spacing: where to put the steps.
        flow: a result of `log_likelihood` on the same x, to stand between.
    """
    if steps < 2 or paths < 2:
        raise OrnsteinError(f"two_sided_bound(steps={steps}, paths={paths}): both at least 2")
    sde, noise = posterior.sde, seed if isinstance(seed, Noise) else Noise(seed)
    measure = denoising_paths(
        posterior,
        lambda end: torch.zeros(()),
        sde.times(steps, spacing),
        data_std(posterior) ** 2,
        like=x,
    )
    with torch.no_grad():
        weights = [-measure.back(x, noise.fold(k)).double() for k in range(paths)]
    log_w = torch.stack(weights)
    share = log_w.softmax(0)
    upper = (share * log_w).sum(0)
    return TwoSidedBound(
        lower=log_w.mean(0).to(x),
        middle=(log_w.logsumexp(0) - math.log(paths)).to(x),
        upper=upper.to(x),
        lower_stderr=(log_w.std(0) / math.sqrt(paths)).to(x),
        upper_stderr=(share.square() * (log_w - upper).square()).sum(0).sqrt().to(x),
        ess=(1 / share.square().sum(0)).to(x),
        flow=flow,
        evaluations=steps * paths,
    )
