"""Losses on the log-weights of paths: functions of ``log w`` that are least where the weights are constant."""

__all__ = ["log_variance", "reverse_kl", "trajectory_balance"]

from jaxtyping import Float
from torch import Tensor

from ornstein.learn.density.estimate import several


def reverse_kl(log_w: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """``-log w``: its mean is KL(generated paths || noised target paths) - log Z. Needs weights with ``through_path=True``."""
    return -log_w


def log_variance(log_w: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """``n / (n - 1) (log w - mean)^2``: its mean is the variance of log w, 0 exactly at the optimum. Richter et al. 2020, eq. 36.

    Needs ``through_path=False``: the law of the paths is not to be differentiated.
    """
    n = several(log_w)
    return (log_w - log_w.mean()).square() * (n / (n - 1))


def trajectory_balance(log_w: Float[Tensor, " n"], log_z: Tensor) -> Float[Tensor, " n"]:
    """``(log w - log_z)^2`` with a learned scalar ``log_z``. Malkin et al. 2022, eq. 14. Needs ``through_path=False``."""
    return (log_w - log_z).square()
