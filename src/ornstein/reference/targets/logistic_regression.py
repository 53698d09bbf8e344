"""Bayesian logistic regression on two public data sets: unimodal posteriors in d = 25 and 61.

They are standard targets of samplers. With ``n`` rows ``x_i`` of the design with labels ``y_i`` in
{-1, +1}, coefficients w, prior ``w ~ N(0, s^2 I)``:

    log rho(w) = sum_i log sigmoid(y_i x_i.w) - |w|^2 / (2 s^2) - d/2 log(2 pi s^2),             (1)

prior and likelihood both normalised, so that Z is the evidence. It has no closed form: `log_z` was
estimated once, by importance sampling from a mixture of the Laplace approximation and a
multivariate Student-t around the mode, and is stored with its standard error. How features are
scaled changes Z; each function here says how.
"""

__all__ = ["LogisticRegression", "german_credit", "sonar"]

import math
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from ornstein.core.numerics.checks import require_finite
from ornstein.core.numerics.gaussian import LOG_2PI
from ornstein.errors import OrnsteinError
from ornstein.reference.common import require_batch, table


@dataclass(frozen=True, eq=False)
class LogisticRegression:
    """The posterior of the coefficients w of a Bayesian logistic regression.

    ``log rho(w) = sum_i log sigmoid(y_i x_i.w) + log N(w; 0, s^2 I)``.

    Args:
        design: ``(n, d)``, one row per observation, a column of ones for an intercept.
        labels: ``(n,)``, -1 or +1.
        prior_std: s, in the units of w.
        log_z: the evidence in nats, if known.
        log_z_stderr: its standard error.

    Raises:
        OrnsteinError: for shapes that do not fit, labels other than -1 and +1, or a prior that is
            no law.

    Example:
        >>> design, labels = torch.ones(3, 1), torch.tensor([1.0, 1.0, -1.0])
        >>> orn.targets.LogisticRegression(design, labels).log_prob(torch.zeros(5, 1)).shape
        torch.Size([5])
    """

    design: Float[Tensor, "n d"]
    labels: Float[Tensor, " n"]
    prior_std: float = 1.0
    log_z: float = math.nan
    log_z_stderr: float = math.nan

    def __post_init__(self) -> None:
        design, labels = self.design.double(), self.labels.double()
        if (
            design.ndim != 2
            or labels.shape != design.shape[:1]
            or not bool(design.isfinite().all())
        ):
            raise OrnsteinError(
                "a design (n, d) of finite numbers with labels (n,) is needed, got"
                f" {tuple(design.shape)} and {tuple(labels.shape)}"
            )
        if not bool((labels.abs() == 1).all()):
            raise OrnsteinError(
                f"labels must be -1 or +1, got {labels.unique()[:5].tolist()}: map 0 and 1 by 2"
                " y - 1"
            )
        require_finite(positive=True, prior_std=self.prior_std)
        object.__setattr__(self, "design", design)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "_signed", {torch.float64: labels[:, None] * design})

    @property
    def dim(self) -> int:
        """The number d of coefficients."""
        return self.design.shape[1]

    def log_prob(self, w: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The unnormalised log-density at points ``(b, d)``, in nats, in the dtype of w.

        It takes one matrix product, and one more for the gradient.
        """
        require_batch(w, self.dim, "this posterior")
        margins = w @ self._rows(w).mT
        prior = -w.square().sum(1) / (2 * self.prior_std**2) - self.dim / 2 * (
            LOG_2PI + 2 * math.log(self.prior_std)
        )
        return logsigmoid(margins).sum(1) + prior  # (1)

    def probability(
        self, w: Float[Tensor, "b d"], rows: Float[Tensor, "m d"]
    ) -> Float[Tensor, "b m"]:
        """The probability ``P(y = +1 | row, w)`` for each w and each row of a design, ``(b, m)``.

        Args:
            w: draws of the coefficients, ``(b, d)``.
            rows: of a design, ``(m, d)``.
        """
        require_batch(w, self.dim, "this posterior")
        return (w @ rows.to(w).mT).sigmoid()

    def _rows(self, like: Tensor) -> Tensor:
        """The signed rows ``y_i x_i`` of the design, cached for each dtype and device."""
        cache: dict[object, Tensor] = self._signed  # type: ignore[attr-defined]
        key = like.dtype if like.device.type == "cpu" else (like.dtype, like.device)
        if key not in cache:
            cache[key] = cache[torch.float64].to(like)
        return cache[key]


def _with_intercept(features: Tensor) -> Tensor:
    """The design with a first column of ones added."""
    return torch.cat([torch.ones(len(features), 1, dtype=features.dtype), features], 1)


@cache
def sonar() -> LogisticRegression:
    """The Sonar data, mines against rocks, as a logistic regression with d = 61.

    The intercept comes first, the features are standardised (population sd), ``w ~ N(0, I)``.
    Gorman and Sejnowski 1988; as a target for samplers Geffner and Domke 2021, Vargas et al. 2023
    (DDS).

    Example:
        >>> orn.targets.sonar().dim
        61
    """
    rows = table("sonar.csv")
    x, y = rows[:, :-1], rows[:, -1]
    return LogisticRegression(
        _with_intercept((x - x.mean(0)) / x.std(0, correction=0)), y, 1.0, -108.3845, 0.001
    )


@cache
def german_credit() -> LogisticRegression:
    """The German credit data, good against bad, as a logistic regression with d = 25.

    The intercept comes first, the features are divided by their population sd and not centred, ``w
    ~ N(0, 10^2 I)``. The label +1 stands for class 2, bad credit; the evidence is the same either
    way. Prior and likelihood are both normalised: without the prior's constant log Z is 80 nats
    higher. Hofmann 1994; Neal 2001 and Chopin and Ridgway 2017 use other scalings.

    Example:
        >>> orn.targets.german_credit().dim
        25
    """
    rows = table("german-credit.csv")
    x, y = rows[:, :-1], 2 * rows[:, -1] - 3
    return LogisticRegression(
        _with_intercept(x / x.std(0, correction=0)), y, 10.0, -585.0972, 0.0007
    )
