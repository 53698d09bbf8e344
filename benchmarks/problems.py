"""Laws whose denoiser and probability flow are known: what the samplers are compared on.

Each law is a Gaussian mixture. In EDM coordinates ``y = x / alpha = x_0 + sigma z``, where
``sigma`` is the noise-to-signal ratio, every process has the same probability-flow ODE

    dy/dsigma = (y - D(y, sigma)) / sigma = -sigma score(y, sigma),  D(y, sigma) = E[x_0 | y].  (1)

These laws have positive width, so their score is smooth down to sigma = 0. With ``sigma = w
sinh(c)``, w a width, (1) is smooth in c from 0 up, nearly uniform in log sigma where sigma is
large, and `reference` solves it to about 1e-9.
"""

__all__ = [
    "PROBLEMS",
    "ExactPosterior",
    "Law",
    "Mixture",
    "Problem",
    "Reference",
    "RotatedMixture",
    "reference",
]

import hashlib
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

import torch
from scipy.integrate import solve_ivp
from sklearn.datasets import load_digits
from torch import Tensor

from ornstein.core.numerics.gaussian import Gaussian
from ornstein.core.processes.linear import LinearSDE, Time
from ornstein.reference.common import polar, root


class Law(Protocol):
    """The law of x_0. In ``y = a x_0 + s z`` with any a and s: what is known of x_0 given y."""

    @property
    def dim(self) -> int:
        """Dimension d."""
        ...

    @property
    def width(self) -> float:
        """The smallest standard deviation of a component."""
        ...

    @property
    def std(self) -> float:
        """Root of the mean over coordinates of the variance."""
        ...

    def moments(self, y: Tensor, a: Tensor, s2: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance per coordinate of ``x_0 | y``, both ``(b, d)``; ``a`` and ``s2``
        broadcast to ``(b, 1)``."""
        ...

    def score(self, y: Tensor, sigma: float) -> Tensor:
        """Gradient of the log-density of ``x_0 + sigma z``, finite at sigma = 0."""
        ...

    def sample(self, n: int, seed: int) -> Tensor:
        """``n`` exact samples, float64."""
        ...


def _spread(weights: Tensor, means: Tensor, variances: Tensor) -> float:
    """Overall standard deviation, from the mean variance ``(k,)`` of each component."""
    centred = means - weights @ means
    return float((weights @ (variances + centred.square().mean(1))).sqrt())


@dataclass(frozen=True, eq=False)
class Mixture:
    """``sum_k w_k N(m_k, v I)``: one width for all components. All arithmetic is in matrix products
    ``(b, k)``.

    Args:
        means: ``(k, d)``, float64.
        width: the standard deviation ``sqrt(v)``.
        weights: ``(k,)``, float64, summing to one.
    """

    means: Tensor
    width: float
    weights: Tensor

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    @property
    def std(self) -> float:
        return _spread(self.weights, self.means, torch.full_like(self.weights, self.width**2))

    @cached_property
    def _squares(self) -> Tensor:
        return self.means.square()

    def _given(self, y: Tensor, a: Tensor | float, u: Tensor | float) -> Tensor:
        """``P(k | y)``: the softmax of ``log w - |y - a m|^2 / 2u``, less the term that is the same
        for all k."""
        log_joint = (y @ self.means.T).sub_(self._squares.sum(1) * (a / 2)).mul_(a / u)
        return log_joint.add_(self.weights.log()).softmax(1)

    def moments(self, y: Tensor, a: Tensor, s2: Tensor) -> tuple[Tensor, Tensor]:
        v = self.width**2
        u = a.square() * v + s2
        p = self._given(y, a, u)
        centre = p @ self.means
        mean = (s2 * centre + a * v * y) / u
        var = v * s2 / u + (s2 / u).square() * (p @ self._squares - centre.square()).clamp(min=0)
        return mean, var.expand_as(mean)

    def score(self, y: Tensor, sigma: float) -> Tensor:
        u = self.width**2 + sigma**2
        return (self._given(y, 1.0, u) @ self.means - y) / u

    def sample(self, n: int, seed: int) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        k = torch.multinomial(self.weights, n, replacement=True, generator=g)
        return self.means[k] + self.width * torch.randn(
            n, self.dim, generator=g, dtype=torch.float64
        )


@dataclass(frozen=True, eq=False)
class RotatedMixture:
    """``sum_k w_k N(m_k, Q_k diag(l_k) Q_k^T)``: a covariance of its own for each component,
    diagonal in its basis ``Q_k``.

    Args:
        means: ``(k, d)``, float64.
        bases: ``(k, d, d)``, the eigenvectors of component k in the columns.
        variances: ``(k, d)``, the eigenvalues.
        weights: ``(k,)``, summing to one.
    """

    means: Tensor
    bases: Tensor
    variances: Tensor
    weights: Tensor

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    @property
    def width(self) -> float:
        return float(self.variances.min().sqrt())

    @property
    def std(self) -> float:
        return _spread(self.weights, self.means, self.variances.mean(1))

    def _given(self, log_joint: list[Tensor]) -> list[Tensor]:
        return list(
            (torch.stack(log_joint, 1) + self.weights.log()).softmax(1)[..., None].unbind(1)
        )

    def moments(self, y: Tensor, a: Tensor, s2: Tensor) -> tuple[Tensor, Tensor]:
        means, variances, log_joint = [], [], []
        for m, q, l in zip(self.means, self.bases, self.variances, strict=True):
            u = a.square() * l + s2
            r = (y - a * m) @ q
            log_joint.append(-(r.square() / u + u.log()).sum(-1) / 2)
            means.append(m + (r * (a * l / u)) @ q.T)
            variances.append((l * s2 / u).expand_as(r) @ q.square().T)
        p = self._given(log_joint)
        mean = torch.stack([p_k * m_k for p_k, m_k in zip(p, means, strict=True)]).sum(0)
        terms = zip(p, means, variances, strict=True)
        return mean, torch.stack(
            [p_k * (v_k + (m_k - mean).square()) for p_k, m_k, v_k in terms]
        ).sum(0)

    def score(self, y: Tensor, sigma: float) -> Tensor:
        scores, log_joint = [], []
        for m, q, l in zip(self.means, self.bases, self.variances, strict=True):
            u = l + sigma**2
            r = (y - m) @ q
            log_joint.append(-(r.square() / u + u.log()).sum(-1) / 2)
            scores.append((r / -u) @ q.T)
        return torch.stack(
            [p_k * s_k for p_k, s_k in zip(self._given(log_joint), scores, strict=True)]
        ).sum(0)

    def sample(self, n: int, seed: int) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        k = torch.multinomial(self.weights, n, replacement=True, generator=g)
        z = torch.randn(n, self.dim, generator=g, dtype=torch.float64) * self.variances[k].sqrt()
        x = self.means[k]
        for j in k.unique():
            x[k == j] += z[k == j] @ self.bases[j].T
        return x


@dataclass(frozen=True, eq=False)
class ExactPosterior:
    """``x_0 | x_t`` of a law under a process, finite at both ends of time: computed in float64,
    returned in the dtype of x."""

    law: Law
    sde: LinearSDE

    @property
    def event_shape(self) -> tuple[int, ...]:
        """``(d,)``."""
        return (self.law.dim,)

    @property
    def data_std(self) -> float:
        """Overall standard deviation of x_0."""
        return self.law.std

    def __call__(self, x: Tensor, t: Time) -> Gaussian:
        """Mean and standard deviation, both ``(b, d)``; t is a scalar or ``(b,)``."""
        a, s2, y, _ = polar(self.sde, t, x.double())
        mean, var = self.law.moments(y, a, s2)
        return Gaussian(mean.to(x), root(var).to(x))


@dataclass(frozen=True, eq=False)
class Problem:
    """A law, and how many points of its flow are compared.

    Args:
        name: of the problem.
        law: of x_0.
        points: number of start points.
    """

    name: str
    law: Law
    points: int

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.law.dim

    @property
    def data_std(self) -> float:
        """Root of the mean over coordinates of the variance."""
        return self.law.std

    def posterior(self, sde: LinearSDE) -> ExactPosterior:
        """What a perfectly trained network would be, for any process of the library."""
        return ExactPosterior(self.law, sde)

    def noise(self, seed: int) -> Tensor:
        """Standard normal ``(points, d)``, float64: a start is ``sigma_max`` times this."""
        return torch.randn(
            self.points,
            self.dim,
            generator=torch.Generator().manual_seed(seed),
            dtype=torch.float64,
        )

    def sample(self, n: int, seed: int) -> Tensor:
        """``n`` exact samples, float64."""
        return self.law.sample(n, seed)

    def flow(self, y: Tensor, sigma: float) -> "Reference":
        """The exact flow from states at the level sigma."""
        return Reference(self, y, sigma)

    def denoise(self, y: Tensor, sigma: float) -> Tensor:
        """``D(y, sigma) = y + sigma^2 score``, float64."""
        return y + sigma**2 * self.law.score(y, sigma)


def reference(
    problem: Problem, y: Tensor, sigma_from: float, sigma_to: float, tol: float = 1e-11
) -> Tensor:
    """The flow (1) from one level to another, sigma_to = 0 included, by an adaptive Runge-Kutta
    method of order 8."""
    width, shape = problem.law.width, y.shape

    def slope(c: float, flat: object) -> object:
        sigma = width * math.sinh(c)
        state = torch.as_tensor(flat, dtype=torch.float64).reshape(shape)
        return (
            (problem.law.score(state, sigma) * (-sigma * width * math.cosh(c))).reshape(-1).numpy()
        )  # (1)

    span = (math.asinh(sigma_from / width), math.asinh(sigma_to / width))
    end = solve_ivp(
        slope, span, y.double().reshape(-1).numpy(), method="DOP853", rtol=tol, atol=tol
    )
    if not end.success:
        raise RuntimeError(f"{problem.name}: the reference failed: {end.message}")
    return torch.from_numpy(end.y[:, -1].copy()).reshape(shape)


class Reference:
    """The flow from one set of start points to any number of levels: kept on disk, and continued
    from the nearest level above.

    Levels above the start are reached by the flow backwards.

    Args:
        problem: whose flow.
        y: ``(b, d)``, states at ``sigma_from``.
        sigma_from: the level of the start.
        folder: where the results are kept; by default a folder for temporary files.
    """

    def __init__(
        self, problem: Problem, y: Tensor, sigma_from: float = 80.0, folder: Path | None = None
    ) -> None:
        self.problem = problem
        self._levels = {float(sigma_from): y.double()}
        self._folder = folder or Path(tempfile.gettempdir()) / "ornstein-references"
        digest = hashlib.sha256(repr((problem.name, float(sigma_from), tuple(y.shape))).encode())
        for tensor in (y, problem.sample(64, seed=0)):
            digest.update(tensor.double().contiguous().numpy().tobytes())
        self._key = digest.hexdigest()[:16]

    def __call__(self, sigma: float) -> Tensor:
        """The states at the level ``sigma``."""
        if sigma not in self._levels:
            path = self._folder / f"{self.problem.name}-{self._key}-{sigma!r}.pt"
            if not path.exists():
                above = min(
                    (level for level in self._levels if level > sigma), default=max(self._levels)
                )
                self._folder.mkdir(parents=True, exist_ok=True)
                torch.save(reference(self.problem, self._levels[above], above, sigma), path)
            self._levels[sigma] = torch.load(path, weights_only=True)
        return self._levels[sigma]


def _weights(n: int) -> Tensor:
    weights = (torch.rand(n, generator=torch.Generator().manual_seed(7)) + 0.2).double()
    return weights / weights.sum()


def _equal(n: int) -> Tensor:
    return torch.full((n,), 1 / n, dtype=torch.float64)


def _ring8() -> Problem:
    """Eight means on a circle."""
    angle = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
    return Problem(
        "ring8", Mixture(0.7 * torch.stack([angle.cos(), angle.sin()], 1), 0.05, _weights(8)), 4096
    )


def _grid25() -> Problem:
    """Five by five means on a square."""
    axis = torch.tensor([-0.7, -0.35, 0.0, 0.35, 0.7], dtype=torch.float64)
    return Problem("grid25", Mixture(torch.cartesian_prod(axis, axis), 0.03, _weights(25)), 4096)


def _digits500() -> Problem:
    """Five hundred images of 8 x 8 pixels."""
    means = torch.from_numpy(load_digits().data[:500]) / 16 - 0.5
    return Problem("digits500", Mixture(means, 0.1, _equal(500)), 512)


def _spiral() -> Problem:
    """A curve of two turns, as the empirical measure of a thousand points equally spaced in
    angle."""
    turn = torch.linspace(0.1, 1, 1000, dtype=torch.float64)
    angle = 4 * math.pi * turn
    return Problem(
        "spiral",
        Mixture(torch.stack([turn * angle.cos(), turn * angle.sin()], 1), 0.02, _equal(1000)),
        4096,
    )


def _mixture256() -> Problem:
    """Ten components in d = 256: random means, random bases, standard deviations log-uniform
    between 0.02 and 0.5."""
    g = torch.Generator().manual_seed(7)
    means = 0.3 * torch.randn(10, 256, generator=g, dtype=torch.float64)
    bases = torch.linalg.qr(torch.randn(10, 256, 256, generator=g, dtype=torch.float64))[0]
    std = 0.02 * 25 ** torch.rand(10, 256, generator=g, dtype=torch.float64)
    return Problem("mixture256", RotatedMixture(means, bases, std.square(), _weights(10)), 512)


_BUILD: tuple[Callable[[], Problem], ...] = (_ring8, _grid25, _digits500, _spiral, _mixture256)

PROBLEMS: dict[str, Callable[[], Problem]] = {
    build.__name__[1:]: lru_cache(build) for build in _BUILD
}
