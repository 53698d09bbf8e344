"""What a sampler must show: weights not too unequal, modes that are all there, samples no
classifier can tell apart.

Notation: log-weights ``log w_i`` of n samples from a proposal. Their mean estimates Z, with a
relative variance that

    ESS = (sum_i w_i)^2 / sum_i w_i^2                                                            (1)

measures only if the variance exists. Whether it does is read off the largest weights: beyond a high
threshold u they follow a generalised Pareto law ``P(w - u > x) = (1 + k x / sigma)^(-1/k)``, which
has moments below 1 / k only.
"""

__all__ = ["ModeWeights", "c2st", "ess", "mode_coverage", "mode_weights", "pareto_k"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.estimate import Estimate
from ornstein.errors import DataError
from ornstein.reference.common import rows


def _weights(log_w: Tensor) -> Tensor:
    """``log_w - max log_w`` in float64."""
    if log_w.ndim != 1 or not len(log_w):
        raise DataError(
            f"log_w has shape {tuple(log_w.shape)}: pass one log-weight per sample, (n,) with n"
            " >= 1"
        )
    if bool(log_w.isnan().any()) or not bool(log_w.max().isfinite()):
        raise DataError(
            f"log_w has {int(log_w.isnan().sum())} NaN among {len(log_w)} and maximum"
            f" {float(log_w.max())}: a weight may be 0 (-inf), but not all, and none may be"
            " infinite; look at log_prob where these samples are"
        )
    return log_w.double() - log_w.max().double()


def ess(log_w: Float[Tensor, " n"]) -> float:
    """Effective sample size (1), between 1 and n; divide by n for the fraction. Kong 1992.

    Args:
        log_w: log-weights; -inf is a weight of 0.

    Raises:
        DataError: for NaN, +inf, or weights that are all 0.
    """
    w = _weights(log_w).exp()
    return float(w.sum().square() / w.square().sum())  # (1)


def pareto_k(log_w: Float[Tensor, " n"]) -> float:
    """Tail index k-hat of the weights: below 0.5 the variance is finite, above 0.7 averages cannot
    be trusted.

    A generalised Pareto law fitted to the ``M = min(n / 5, 3 sqrt(n))`` largest weights by the
    method of Zhang and Stephens 2009, then shrunk towards 0.5 as ``(M k + 5) / (M + 10)``. Vehtari,
    Simpson, Gelman, Yao and Gabry 2024 (PSIS).

    Args:
        log_w: log-weights; -inf is a weight of 0.

    Returns:
        k-hat; ``inf`` if fewer than 5 weights exceed the threshold, which is too few to tell; 0 if
        all are equal.

    Raises:
        DataError: for NaN, +inf, or weights that are all 0.
    """
    logs = _weights(log_w).sort().values
    size = math.ceil(min(len(logs) / 5, 3 * math.sqrt(len(logs))))
    if size >= 5 and float(logs[0]) == 0:
        return 0.0
    w = logs.exp()
    excess = w[-size:] - w[-size - 1] if size >= 5 else w[:0]
    excess = excess[excess > 0]
    if len(excess) < 5:
        return math.inf
    return (len(excess) * _generalised_pareto(excess) + 5) / (len(excess) + 10)


def _generalised_pareto(x: Tensor) -> float:
    """Shape k from sorted positive values: a posterior mean over a grid. Zhang and Stephens
    2009."""
    n = len(x)
    grid = 30 + int(math.sqrt(n))
    quartile = x[int(n / 4 + 0.5) - 1]
    steps = torch.arange(1, grid + 1, dtype=x.dtype, device=x.device)
    theta = 1 / x[-1] + (1 - (grid / (steps - 0.5)).sqrt()) / (3 * quartile)
    k = torch.log1p(-theta[:, None] * x).mean(1)
    log_likelihood = n * ((-theta / k).log() - k - 1)
    theta_hat = (log_likelihood.softmax(0) * theta).sum()
    return float(torch.log1p(-theta_hat * x).mean())


class ModeWeights(NamedTuple):
    """Share of each mode ``(k,)`` and its standard error ``(k,)``, float64."""

    value: Tensor
    stderr: Tensor


def mode_weights(
    samples: Float[Tensor, "n *event"], centres: Float[Tensor, "k *shape"]
) -> ModeWeights:
    """The fraction of samples nearest to each centre, with ``sqrt(p (1 - p) / n)`` at ``p = (count
    + 1/2) / (n + 1)``.

    The offset keeps the error of a mode that was never hit above zero.

    Args:
        samples, centres: events are flattened.

    Raises:
        DataError: for NaN, infinite or no rows, or rows of different length.
    """
    x, c = rows(samples, "samples"), rows(centres, "centres").to(samples.device)
    if x.shape[1] != c.shape[1]:
        raise DataError(
            f"samples have {x.shape[1]} numbers each, centres {c.shape[1]}: they must live in one"
            " space"
        )
    count = torch.cdist(x, c).argmin(1).bincount(minlength=len(c)).double()
    p = (count + 0.5) / (len(x) + 1)
    return ModeWeights(count / len(x), (p * (1 - p) / len(x)).sqrt())


def mode_coverage(
    samples: Float[Tensor, "n *event"],
    centres: Float[Tensor, "k *shape"],
    weights: Float[Tensor, " k"] | None = None,
    share: float = 0.1,
) -> Estimate:
    """The fraction of modes found: those that get at least ``share`` of the samples that are due to
    them; in [0, 1].

    The standard error counts how likely each mode is on the other side of the line, ``sqrt(sum_k
    q_k (1 - q_k)) / k`` with ``q_k = Phi((p_k - share w_k) / stderr_k)``.

    Args:
        samples, centres: events are flattened.
        weights: what is due to each mode; equal by default.
        share: the part of it that counts as found.

    Raises:
        DataError: for NaN, infinite or no rows, rows of different length, or weights that do not
            match the centres.
    """
    found = mode_weights(samples, centres)
    due = torch.ones_like(found.value) if weights is None else weights.to(found.value)
    if due.shape != found.value.shape or not bool((due > 0).all()):
        raise DataError(
            f"weights must be positive, one for each of {len(found.value)} centres, got"
            f" {tuple(due.shape)}"
        )
    margin = found.value - share * due / due.sum()
    q = torch.special.ndtr(margin / found.stderr)
    return Estimate(
        float((margin >= 0).double().mean()), float((q * (1 - q)).sum().sqrt()) / len(q)
    )


def c2st(
    a: Float[Tensor, "n *event"], b: Float[Tensor, "m *shape"], folds: int = 5, seed: int = 0
) -> Estimate:
    """Classifier two-sample test: how well a classifier tells a from b; 0.5 is not at all, 1
    perfectly.

    The out-of-fold balanced accuracy of a random forest (100 trees) or of a logistic regression,
    whichever is higher, on standardised features. Lopez-Paz and Oquab 2017. The standard error is
    binomial, ``sqrt(p_a (1 - p_a) / n + p_b (1 - p_b) / m) / 2`` with the accuracy p on each side;
    taking the higher of two lifts the value by about half of it under equality.

    Args:
        a, b: samples; events are flattened.
        folds: of the cross-validation, at least 2.
        seed: of the folds and the forest.

    Raises:
        DataError: for NaN, infinite or fewer than ``folds`` rows, or rows of different length.
        ImportError: without scikit-learn.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError("c2st needs scikit-learn: pip install 'ornstein[metrics]'") from error

    a, b = rows(a, "a", least=folds), rows(b, "b", least=folds)
    if a.shape[1] != b.shape[1]:
        raise DataError(
            f"a has {a.shape[1]} numbers per sample and b has {b.shape[1]}: they must live in one"
            " space"
        )
    x = torch.cat([a, b]).detach().cpu().numpy()
    label = torch.cat([torch.zeros(len(a)), torch.ones(len(b))]).numpy()
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    scores = []
    for classifier in (
        RandomForestClassifier(class_weight="balanced", random_state=seed),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    ):
        right = (
            cross_val_predict(make_pipeline(StandardScaler(), classifier), x, label, cv=split)
            == label
        )
        p, q = float(right[: len(a)].mean()), float(right[len(a) :].mean())
        scores.append(
            Estimate((p + q) / 2, math.sqrt(p * (1 - p) / len(a) + q * (1 - q) / len(b)) / 2)
        )
    return max(scores, key=lambda score: score.value)
