"""A metric of a user: the distance of means, with a standard error."""

import ornstein as orn


def mean_distance(a, b):
    """``|mean a - mean b|`` as an `Estimate`."""
    gap = a.mean(0) - b.mean(0)
    stderr = (a.var(0) / len(a) + b.var(0) / len(b)).sum().sqrt()
    return orn.Estimate(float(gap.norm()), float(stderr))
