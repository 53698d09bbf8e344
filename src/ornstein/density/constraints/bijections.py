"""Smooth maps from R^d onto ordered vectors, simplexes and correlation matrices, exact for huge z.

`ornstein.density.constraints.supports` uses them in place of the maps of `torch.distributions`,
which has no ordered vectors, breaks the stick of a simplex at ``1 - sigmoid(z)`` and takes
``log(1 - sum y^2)`` for correlations: in float32 its log-determinants are 0.006 and 4 nats off at
|z| = 12, and 6 and 10 nats at 20. The maps below stay with logarithms to the end, for a relative
error of 4e-7.

Notation: ``x = f(z)``, and ``log |det df/dz|`` is what the change of variables adds to a
log-density. Where x has more entries than degrees of freedom (K on a simplex), the determinant is
that of the free entries: all but the last of a simplex, those below the diagonal of a Cholesky
factor; `torch.distributions` normalises its densities in the same way. So for the simplex with
``sum_i x_i = 1``, and ``x = softmax(V z)`` with V orthonormal and its columns summing to zero,

    dx/dz = (diag(x) - x x^T) V,       |det| of its first K - 1 rows = sqrt(K) prod_i x_i.       (1)
"""

__all__ = ["CorrelationCholesky", "IsometricLogRatio", "Ordered", "bijection", "ordered_vector"]

import math

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.constraint_registry import ConstraintRegistry
from torch.distributions.transforms import Transform
from torch.nn.functional import pad

from ornstein.errors import OrnsteinError


class _OrderedVector(constraints.Constraint):
    """The constraint ``x_1 < x_2 < ...`` on vectors, which lie on the last axis."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value.diff(dim=-1) > 0).all(-1)


ordered_vector: constraints.Constraint = _OrderedVector()
"""Constraint: vectors that increase strictly on the last axis."""


class _VectorTransform(Transform):
    """The base class of bijections of vectors, which lie on the last axis and keep their length."""

    domain = constraints.real_vector
    bijective = True

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    __hash__ = object.__hash__


class Ordered(_VectorTransform):
    """The map ``x_1 = z_1``, ``x_k = x_{k-1} + exp(z_k)`` onto increasing vectors.

    Its log-determinant is ``sum_{k>1} z_k``. Stan reference manual, section 10.6.
    """

    codomain = ordered_vector

    def _call(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :1], x[..., 1:].exp()], -1).cumsum(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.cat([y[..., :1], y.diff(dim=-1).log()], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the log-determinant ``sum_{k>1} z_k``, ``(..., k) -> (...)``."""
        return x[..., 1:].sum(-1)


class IsometricLogRatio(_VectorTransform):
    """The map onto the simplex by a softmax of coordinates that sum to zero.

    It is symmetric in the K corners of the simplex, and exact in the logarithms.

    With the orthonormal contrasts ``v_k = (1, .., 1, -k, 0, ..) / sqrt(k (k + 1))``, k ones, of the
    vectors that sum to zero,

        log x = log_softmax(sum_k z_k v_k),   log |det| = sum_i log x_i + log(K) / 2.            (2)

    Egozcue et al. 2003; the contrasts are Helmert's.
    """

    codomain = constraints.simplex

    def _call(self, x: Tensor) -> Tensor:
        return self._log_values(x).exp().clamp_min(torch.finfo(x.dtype).tiny)

    def _inverse(self, y: Tensor) -> Tensor:
        logs = y.log()
        k = torch.arange(1, y.shape[-1]).to(y)
        return (logs[..., :-1].cumsum(-1) - k * logs[..., 1:]) / (k * (k + 1)).sqrt()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the log-determinant ``sum_i log x_i + log(K) / 2``, ``(..., K - 1) -> (...)``."""
        return self._log_values(x).sum(-1) + math.log(x.shape[-1] + 1) / 2  # (2)

    def _log_values(self, z: Tensor) -> Tensor:
        """Return ``log x`` for coordinates z, by a log-softmax."""
        k = torch.arange(1, z.shape[-1] + 1).to(z)
        scaled = z / (k * (k + 1)).sqrt()
        ones = scaled.flip(-1).cumsum(-1).flip(-1)
        return torch.log_softmax(pad(ones, (0, 1)) - pad(k * scaled, (1, 0)), -1)  # (2)

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        """Return the shape of x for the shape of z, ``(..., K - 1) -> (..., K)``."""
        return torch.Size([*shape[:-1], shape[-1] + 1])

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        """Return the shape of z for the shape of x, ``(..., K) -> (..., K - 1)``."""
        return torch.Size([*shape[:-1], shape[-1] - 1])


class CorrelationCholesky(_VectorTransform):
    """The map onto Cholesky factors of correlation matrices.

    Each row is a point of the unit sphere with a positive last entry. Row i takes its
    i - 1 numbers z as they come (row by row) and

        y_ij = tanh(z_ij) prod_{k<j} sech(z_ik),  y_ii = prod_{k<i} sech(z_ik),
        log |det| = sum_{j<i} [2 log sech z_ij + sum_{k<j} log sech z_ik].                       (3)

    Lewandowski, Kurowicka and Joe 2009; the same map as torch's, with ``log sech`` in place of
    ``log(1 - sum y^2)``.
    """

    codomain = constraints.corr_cholesky

    def _call(self, x: Tensor) -> Tensor:
        rows = self._matrix(x)
        before = self._log_remaining(rows)
        below = (rows.tanh() * before.exp()).tril(-1)
        diagonal = before.diagonal(dim1=-2, dim2=-1).exp().clamp_min(torch.finfo(x.dtype).tiny)
        return below + torch.diag_embed(diagonal)  # (3)

    def _inverse(self, y: Tensor) -> Tensor:
        squares = y.tril().square()
        after = (
            squares.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        )  # of a unit row: 1 - sum_{k<=j} y_ik^2, without the cancellation
        ratio = torch.asinh(y[..., :-1] / after.sqrt())
        row, column = self._below(y.shape[-1])
        return ratio[..., row, column]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the log-determinant, ``(..., D (D - 1) / 2) -> (...)``, in nats."""
        rows = self._matrix(x)
        terms = self._log_remaining(rows) - 2 * _log_cosh(rows)  # (3)
        return terms.tril(-1).sum((-2, -1))

    def _matrix(self, z: Tensor) -> Tensor:
        """Return the strictly lower triangular matrix that holds the coordinates z."""
        size = self._size(z.shape[-1])
        row, column = self._below(size)
        flat = z.new_zeros(*z.shape[:-1], size * size).index_copy(-1, row * size + column, z)
        return flat.reshape(*z.shape[:-1], size, size)

    def _log_remaining(self, rows: Tensor) -> Tensor:
        """Return ``sum_{k<j} log sech z_ik``, the log of a row's length left by earlier entries."""
        log_sech = -_log_cosh(rows)
        return log_sech.cumsum(-1) - log_sech

    def _below(self, size: int) -> Tensor:
        """Return the row and column indices of the entries below the diagonal."""
        return torch.tril_indices(size, size, -1)

    def _size(self, free: int) -> int:
        """Return the D of a matrix with so many entries below the diagonal."""
        size = round((1 + math.sqrt(1 + 8 * free)) / 2)
        if size * (size - 1) // 2 != free:
            raise ValueError(
                f"{free} numbers fill no triangle below a diagonal: use 1, 3, 6, 10, ..."
            )
        return size

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        """Return the shape of x for that of z, ``(..., D (D - 1) / 2) -> (..., D, D)``."""
        size = self._size(shape[-1])
        return torch.Size([*shape[:-1], size, size])

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        """Return the shape of z for that of x, ``(..., D, D) -> (..., D (D - 1) / 2)``."""
        if shape[-2] != shape[-1]:
            raise ValueError("a Cholesky factor is square")
        return torch.Size([*shape[:-2], shape[-1] * (shape[-1] - 1) // 2])


def _log_cosh(z: Tensor) -> Tensor:
    """Return ``log cosh z`` without overflow."""
    return torch.logaddexp(z, -z) - math.log(2)


_OURS = ConstraintRegistry()
_OURS.register(_OrderedVector, lambda constraint: Ordered())
_OURS.register(constraints.simplex, lambda constraint: IsometricLogRatio())
_OURS.register(constraints.corr_cholesky, lambda constraint: CorrelationCholesky())
biject_to.register(_OrderedVector, lambda constraint: Ordered())


def bijection(constraint: constraints.Constraint) -> Transform:
    """Return the smooth map from unconstrained space onto a constraint.

    It is one of this module where torch's loses digits, else torch's ``biject_to(constraint)``.

    Raises:
        OrnsteinError: if the constraint is discrete, or has no such map.
    """
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    if constraint.is_discrete:
        raise OrnsteinError(
            f"the constraint {constraint} is discrete: sum the density over its values"
            " (marginalise)"
        )
    for registry in (_OURS, biject_to):
        try:
            return registry(constraint)
        except NotImplementedError:
            continue
    raise OrnsteinError(
        f"no smooth map onto the constraint {constraint} exists: write the density in"
        " unconstrained coordinates"
    )
