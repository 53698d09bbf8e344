"""Distances between two sets of samples, with the standard error of finite samples.

They judge a sampler against exact samples or held-out data. ``a = (a_1..a_n)`` from P, ``b =
(b_1..b_m)`` from Q, independent rows. A distance T(P, Q) with the influence functions ``phi`` in P
and ``psi`` in Q is estimated with the variance

    var T  ~  var phi(a_i) / n + var psi(b_j) / m.                                               (1)

At P = Q these functions vanish and (1) with them, while an estimate of a Wasserstein distance stays
positive: report with it the same number between two samples of one law (`floor`). All arithmetic is
in float64.
"""

__all__ = ["energy_distance", "floor", "mmd", "nearest_distance", "sliced_w2"]

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pdist

from ornstein.core.numerics.checks import require_integers
from ornstein.core.numerics.estimate import Estimate
from ornstein.errors import DataError
from ornstein.reference.common import paired_rows, source

_BLOCK = 1 << 22  # entries of a block of a distance matrix
_DIRECTIONS = 0x7377  # key of the random directions of `sliced_w2`
_SPLITS = 0x666C  # key of the random splits of `floor`
_BANDWIDTH_SAMPLES = 1000  # largest number of samples of each set for the median distance
_CANDIDATES = 4  # nearest rows by matrix product, whose distances are then taken exactly


def sliced_w2(
    a: Float[Tensor, "n *event"],
    b: Float[Tensor, "m *shape"],
    projections: int = 256,
    seed: int = 0,
) -> Estimate:
    """The sliced Wasserstein distance ``SW2 = sqrt( E_theta W2^2(theta.a, theta.b) )``.

    theta is uniform on the unit sphere; the distance is in the units of the data. Each
    one-dimensional W2 is exact, ``int_0^1 (F_a^-1 - F_b^-1)^2 du``, also for n != m. In one
    dimension there is a single projection and the value is W2 itself. Bonneel et al. 2015.

    The standard error has both sources: the samples by (1), with the Kantorovich potentials
    averaged over projections as influence functions (del Barrio and Loubes 2019; Manole et al.
    2022), and the spread over projections.

    Args:
        a: samples ``(n, *event)``; events are flattened.
        b: samples ``(m, *event)`` of the law to compare with.
        projections: number of random directions.
        seed: of the directions.

    Raises:
        DataError: for NaN, infinite or too few rows, or rows of different length.

    Example:
        >>> orn.metrics.sliced_w2(torch.zeros(8, 1), torch.ones(8, 1)).value
        1.0
    """
    require_integers(1, projections=projections)
    a, b = paired_rows(a, b, at_least=2)
    n, m, d = len(a), len(b), a.shape[1]
    if d == 1:
        theta = a.new_ones(1, 1)
    else:
        theta = source(seed, _DIRECTIONS).normal((projections, d), torch.float64).to(a)
        theta = theta / theta.norm(dim=1, keepdim=True)
    step = max(1, _BLOCK // (n + m))
    phi, psi, costs = a.new_zeros(n), b.new_zeros(m), []
    for directions in theta.split(step):
        cost, left, right = _transport(directions @ a.mT, directions @ b.mT)
        costs.append(cost)
        phi, psi = phi + left / len(theta), psi + right / len(theta)
    cost = torch.cat(costs)
    squared = float(cost.mean())
    var = float(phi.var() / n + psi.var() / m)  # (1)
    if len(theta) > 1:
        var += float(cost.var()) / len(theta)
    value = math.sqrt(squared)
    return Estimate(value, math.sqrt(var) / (2 * value) if value > 0 else 0.0)


def _transport(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The squared W2 of each row ``(c, n)``, ``(c, m)``, and the Kantorovich potentials, summed.

    The potentials are in the order of the samples.
    """
    n, m = a.shape[1], b.shape[1]
    (a, order_a), (b, order_b) = a.sort(1), b.sort(1)
    ends = (
        torch.cat([m * torch.arange(1, n + 1), n * torch.arange(1, m + 1)]).unique().to(a.device)
    )  # times 1 / (nm)
    mass = ends.diff(prepend=ends.new_zeros(1)).to(a) / (n * m)
    i, j = (ends - 1) // m, (ends - 1) // n
    cost = (mass * (a[:, i] - b[:, j]).square()).sum(1)
    phi = _potential(a, n * torch.zeros_like(a).index_add(1, i, mass * b[:, j]))
    psi = _potential(b, m * torch.zeros_like(b).index_add(1, j, mass * a[:, i]))
    unsorted = (
        torch.zeros_like(a).scatter(1, order_a, phi),
        torch.zeros_like(b).scatter(1, order_b, psi),
    )
    return cost, unsorted[0].sum(0), unsorted[1].sum(0)


def _potential(x: Tensor, image: Tensor) -> Tensor:
    """The Kantorovich potential ``int^x 2 (u - T(u)) du`` at sorted points with images T."""
    slope = x - image
    rise = (slope[:, 1:] + slope[:, :-1]) * x.diff(dim=1)
    return torch.cat([torch.zeros_like(x[:, :1]), rise.cumsum(1)], 1)


def _kernel_means(
    a: Tensor, b: Tensor, kernel: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The row means and the column means of ``kernel(|a_i - b_j|)``, in blocks."""
    means, total = [], b.new_zeros(len(b))
    for block in a.split(max(1, _BLOCK // len(b))):
        values = kernel(torch.cdist(block, b))
        means.append(values.mean(1))
        total = total + values.sum(0)
    return torch.cat(means), total / len(a)


def _discrepancy(a: Tensor, b: Tensor, kernel: Callable[[Tensor], Tensor]) -> Estimate:
    """The unbiased ``E k(a, a') + E k(b, b') - 2 E k(a, b)`` and its error (1)."""
    n, m = len(a), len(b)
    itself = float(kernel(a.new_zeros(1)))
    within_a = (_kernel_means(a, a, kernel)[0] * n - itself) / (n - 1)
    within_b = (_kernel_means(b, b, kernel)[0] * m - itself) / (m - 1)
    across_a, across_b = _kernel_means(a, b, kernel)
    value = within_a.mean() + within_b.mean() - 2 * across_a.mean()
    var = 4 * (within_a - across_a).var() / n + 4 * (within_b - across_b).var() / m  # (1)
    return Estimate(float(value), math.sqrt(float(var)))


def mmd(
    a: Float[Tensor, "n *event"], b: Float[Tensor, "m *shape"], bandwidth: float | None = None
) -> Estimate:
    """The unbiased squared maximum mean discrepancy with a Gaussian kernel; may be negative.

    The kernel is ``k(x, y) = exp(-|x - y|^2 / (2 h^2))``. ``MMD^2 = E k(a, a') + E k(b, b') - 2 E
    k(a, b)``, pairs of different samples only. Gretton et al. 2012, eq. 3. The standard error (1)
    is right when the laws differ and up to sqrt(2) too large when they do not.

    Args:
        a: samples ``(n, *event)``; events are flattened.
        b: samples ``(m, *event)`` of the law to compare with.
        bandwidth: h; by default the median distance within the first 1000 of a and the first 1000
            of b taken together.

    Raises:
        DataError: for NaN, infinite or too few rows, or rows of different length.

    Example:
        >>> value, stderr = orn.metrics.mmd(torch.zeros(8, 1), torch.ones(8, 1), bandwidth=1.0)
        >>> value > 0
        True
    """
    a, b = paired_rows(a, b, at_least=2)
    h = (
        float(pdist(torch.cat([a[:_BANDWIDTH_SAMPLES], b[:_BANDWIDTH_SAMPLES]])).median())
        if bandwidth is None
        else bandwidth
    )
    if not h > 0:
        raise DataError(
            f"the bandwidth of the kernel is {h}: most samples coincide, pass a positive bandwidth"
        )
    return _discrepancy(a, b, lambda r: (-r.square() / (2 * h**2)).exp())


def energy_distance(a: Float[Tensor, "n *event"], b: Float[Tensor, "m *shape"]) -> Estimate:
    """The unbiased energy distance ``2 E|a - b| - E|a - a'| - E|b - b'|``; may be negative.

    It is in the units of the data, and the true distance is zero if and only if the laws agree. It
    is the squared MMD of the kernel ``-|x - y|``, and has its standard error. Szekely and Rizzo
    2013 (scipy's function of this name is the square root of a biased estimate).

    Args:
        a: samples ``(n, *event)``; events are flattened.
        b: samples ``(m, *event)`` of the law to compare with.

    Raises:
        DataError: for NaN, infinite or too few rows, or rows of different length.

    Example:
        >>> orn.metrics.energy_distance(torch.zeros(8, 1), torch.ones(8, 1)).value
        2.0
    """
    a, b = paired_rows(a, b, at_least=2)
    return _discrepancy(a, b, lambda r: -r)


def nearest_distance(
    a: Float[Tensor, "n *event"], b: Float[Tensor, "m *shape"]
) -> Float[Tensor, " n"]:
    """The Euclidean distance of each row of a to its nearest row in b, 0 for a copy.

    Four candidates come from a matrix product, their distances from differences, so a copy has
    distance 0 exactly.

    Args:
        a: samples ``(n, *event)``; events are flattened.
        b: samples ``(m, *event)``, such as the training data.

    Returns:
        ``(n,)``, float64, in the units of the data.

    Raises:
        DataError: for NaN or infinite rows, none, or rows of different length.

    Example:
        >>> orn.metrics.nearest_distance(torch.zeros(1, 2), torch.eye(2))
        tensor([1.], dtype=torch.float64)
    """
    a, b = paired_rows(a, b)
    center = b.mean(0)
    half = (b - center).square().sum(1) / 2
    distances = []
    for block in a.split(max(1, _BLOCK // max(b.shape))):
        near = (
            (half - (block - center) @ (b - center).mT)
            .topk(min(_CANDIDATES, len(b)), largest=False)
            .indices
        )
        exact = torch.stack([(block - b[k]).norm(dim=1) for k in near.unbind(1)])
        distances.append(exact.amin(0))
    return torch.cat(distances)


def floor(
    metric: Callable[[Tensor, Tensor], Estimate],
    real: Float[Tensor, "n *event"],
    n: int,
    seed: int = 0,
    repeats: int = 8,
) -> Estimate:
    """The mean of a metric between two samples of one distribution, the best value to expect.

    Random disjoint pairs of size n are taken from ``real``. A sampler whose distance is near the
    floor cannot be distinguished from the law by this metric.

    Args:
        metric: any of the distances, ``(a, b) -> Estimate``.
        real: samples of the law, at least ``2 n``.
        n: size of the samples that are to be judged.
        seed: of the splits.
        repeats: number of splits, at least 2; the standard error is over them.

    Raises:
        DataError: if there are fewer than ``2 n`` samples.

    Example:
        >>> real = orn.targets.gmm9().sample(100)
        >>> orn.metrics.floor(orn.metrics.energy_distance, real, n=20).stderr > 0
        True
    """
    require_integers(1, n=n)
    require_integers(2, repeats=repeats)
    if len(real) < 2 * n:
        raise DataError(
            f"a floor at n={n} needs 2 n = {2 * n} samples and 2 splits, got {len(real)} and"
            f" {repeats}"
        )
    values = []
    for k in range(repeats):
        order = (
            source(seed, _SPLITS)
            .fold(k)
            .uniform((len(real),), torch.float64)
            .argsort()
            .to(real.device)
        )
        values.append(metric(real[order[:n]], real[order[n : 2 * n]]).value)
    spread = torch.tensor(values, dtype=torch.float64)
    return Estimate(float(spread.mean()), float(spread.std()) / math.sqrt(repeats))
