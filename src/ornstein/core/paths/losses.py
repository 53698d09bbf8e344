"""Losses on the log-weights of paths, to train kernels that generate a target density.

A loss is smallest where the weights are constant, that is where the kernels generate the target.
With ``log w = a - log F`` up to what does not depend on the parameters, and F the generating
kernels,

    KL(F || target paths) - log Z = -E_F[log w],        its gradient = E_F[log w  grad log w]    (1)

with the states fixed in the second form, as in all losses here but `reverse_kl`. Those that
are squares of differences are zero exactly at the optimum, and may be taken on any paths: those
that the model draws, or those that B draws from a buffer of good ends (`PathMeasure.back`), where
-log w is unbounded but the squares are not.
"""

__all__ = ["log_variance", "reverse_kl", "score_function", "sub_trajectory", "trajectory_balance"]

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.numerics.importance import require_two
from ornstein.errors import OrnsteinError


def reverse_kl(log_w: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``-log w``, whose mean is the reverse KL divergence of paths minus log Z.

    KL(generated paths || target paths), the target paths being those that the backward kernels draw
    from the target. Needs weights with ``through_path=True``.
    """
    return -log_w


def score_function(log_w: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return a loss whose gradient is the score-function estimate of the gradient of reverse KL.

    The gradient is ``(log w - mean of the others) grad log w`` (REINFORCE, Williams 1992); the
    value of the loss has no meaning. It is unbiased, for densities without a gradient, where only
    the kernels F that generate are learned and B is not. Needs ``through_path=False``.
    """
    n = require_two(log_w)
    reward = log_w.detach()
    return (reward - reward.mean()) * (n / (n - 1)) * log_w  # (1)


def log_variance(log_w: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``n / (n - 1) (log w - mean)^2``, whose mean is the variance of log w.

    The loss is 0 exactly at the optimum. Richter et al. 2020, eq. 36. Needs ``through_path=False``:
    the law of the paths is not to be differentiated.
    """
    n = require_two(log_w)
    return (log_w - log_w.mean()).square() * (n / (n - 1))


def trajectory_balance(log_w: Float[Tensor, " n"], log_z: Tensor) -> Float[Tensor, " n"]:
    """Return the trajectory balance loss ``(log w - log_z)^2`` with a learned scalar ``log_z``.

    Malkin et al. 2022, eq. 14. Needs ``through_path=False``.
    """
    return (log_w - log_z).square()


@renamed_arguments(keep="decay")
def sub_trajectory(
    ratios: Float[Tensor, "k n"], flows: Float[Tensor, "k+1 n"], decay: float = 0.9
) -> Float[Tensor, " n"]:  # fmt: skip
    """Return the sub-trajectory balance loss, which asks for balance over all pieces of a path.

    From step i to step j > i it is

        (log flow_j - log flow_i + sum_{i <= l < j} [log B_l - log F_l])^2,

    averaged with weights ``decay^(j - i)``. Madan et al. 2023, eq. 8 and 9. With ends alone it is
    `trajectory_balance`.

    Args:
        ratios: ``log B - log F`` of each step, in the order of the path.
        flows: learned log-densities of the state before each step, and log rho at the end; the
            first is log Z + log pi.
        decay: in (0, 1]; short pieces have more weight.

    Raises:
        OrnsteinError: if the numbers of steps do not agree, or decay is not in (0, 1].
    """
    steps = len(ratios)
    if len(flows) != steps + 1 or not 0 < decay <= 1:
        raise OrnsteinError(
            f"sub_trajectory: {steps} ratios need {steps + 1} flows, got {len(flows)};"
            f" decay={decay} must be in (0, 1]"
        )
    total = torch.cat([torch.zeros_like(ratios[:1]), ratios.cumsum(0)]) + flows
    gaps = total[None] - total[:, None]  # from i (rows) to j
    index = torch.arange(steps + 1, device=ratios.device)
    length = (index[None] - index[:, None]).to(ratios)
    weight = torch.where(length > 0, decay**length, 0.0)
    return (weight[..., None] * gaps.square()).sum((0, 1)) / weight.sum()
