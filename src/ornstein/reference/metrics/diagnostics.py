"""Do samples cover every mode of a known mixture, and can a classifier tell them from the truth?"""

__all__ = ["ModeWeights", "c2st", "mode_coverage", "mode_weights"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.numerics.estimate import Estimate
from ornstein.errors import DataError
from ornstein.reference.common import rows


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
