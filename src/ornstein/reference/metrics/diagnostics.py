"""Mode coverage and classifier two-sample tests, for errors that distances between samples miss.

A sampler that loses a mode of small weight moves every distance little; counting samples near each
centre of a known mixture shows the loss. And a classifier that separates the samples from exact
ones shows that they differ, whatever the difference is.
"""

__all__ = ["c2st", "mode_coverage", "mode_weights"]

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.checks import require_integers
from ornstein.core.numerics.deprecated import renamed_arguments
from ornstein.core.numerics.estimate import Estimate
from ornstein.errors import DataError
from ornstein.reference.common import paired_rows


def mode_weights(
    samples: Float[Tensor, "n *event"], centres: Float[Tensor, "k *shape"]
) -> Estimate:
    """The fraction of samples nearest to each centre, with its standard error, ``(k,)`` each.

    The error is ``sqrt(p (1 - p) / n)`` at ``p = (count + 1/2) / (n + 1)``: the offset makes the
    error of a mode without samples positive.

    Args:
        samples: ``(n, *event)``; events are flattened.
        centres: of the modes, ``(k, *event)``.

    Raises:
        DataError: for NaN, infinite or no rows, or rows of different length.

    Example:
        >>> mixture = orn.targets.gmm9()
        >>> fractions, stderr = orn.metrics.mode_weights(mixture.sample(90), mixture.means)
        >>> fractions.shape
        torch.Size([9])
    """
    x, c = paired_rows(samples, centres, ("samples", "centres"))
    count = torch.cdist(x, c).argmin(1).bincount(minlength=len(c)).double()
    p = (count + 0.5) / (len(x) + 1)
    return Estimate(count / len(x), (p * (1 - p) / len(x)).sqrt())


@renamed_arguments(share="fraction")
def mode_coverage(
    samples: Float[Tensor, "n *event"],
    centres: Float[Tensor, "k *shape"],
    weights: Float[Tensor, " k"] | None = None,
    fraction: float = 0.1,
) -> Estimate:
    """The fraction of modes that get at least a given part of their expected samples, in [0, 1].

    The standard error counts how likely each mode is on the other side of that limit, ``sqrt(sum_k
    q_k (1 - q_k)) / k`` with ``q_k = Phi((p_k - fraction w_k) / stderr_k)``.

    Args:
        samples: ``(n, *event)``; events are flattened.
        centres: of the modes, ``(k, *event)``.
        weights: the true weight of each mode, ``(k,)``; equal by default.
        fraction: the fraction of its due samples with which a mode counts as covered.

    Raises:
        DataError: for NaN, infinite or no rows, rows of different length, or weights that do not
            match the centres.

    Example:
        >>> mixture = orn.targets.gmm9()
        >>> orn.metrics.mode_coverage(mixture.sample(900), mixture.means).value
        1.0
    """
    fractions, stderr = mode_weights(samples, centres)
    due = torch.ones_like(fractions) if weights is None else weights.to(fractions)
    if due.shape != fractions.shape or not bool((due > 0).all()):
        raise DataError(
            f"weights must be positive, one for each of {len(fractions)} centres, got"
            f" {tuple(due.shape)}"
        )
    margin = fractions - fraction * due / due.sum()
    q = torch.special.ndtr(margin / stderr)
    return Estimate(
        float((margin >= 0).double().mean()), float((q * (1 - q)).sum().sqrt()) / len(q)
    )


def c2st(
    a: Float[Tensor, "n *event"], b: Float[Tensor, "m *shape"], folds: int = 5, seed: int = 0
) -> Estimate:
    """The classifier two-sample test: the accuracy of telling a from b, from 0.5 to 1.

    0.5 means that the classifier cannot tell them apart, 1 that it always can. The out-of-fold
    balanced accuracy of a random forest (100 trees) or of a logistic regression, whichever is
    higher, on standardised features. Lopez-Paz and Oquab 2017. The standard error is binomial,
    ``sqrt(p_a (1 - p_a) / n + p_b (1 - p_b) / m) / 2`` with the accuracy p on each side; taking the
    higher of two lifts the value by about half of it under equality.

    Args:
        a: samples ``(n, *event)``; events are flattened.
        b: samples ``(m, *event)`` of the law to compare with.
        folds: of the cross-validation, at least 2.
        seed: of the folds and the forest.

    Raises:
        DataError: for NaN, infinite or fewer than ``folds`` rows, or rows of different length.
        ImportError: without scikit-learn.

    Example:
        >>> accuracy = orn.metrics.c2st(torch.zeros(20, 1), torch.ones(20, 1), folds=2)
        >>> accuracy.value
        1.0
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError("c2st needs scikit-learn: pip install 'ornstein[metrics]'") from error

    require_integers(2, folds=folds)
    a, b = paired_rows(a, b, at_least=folds)
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
