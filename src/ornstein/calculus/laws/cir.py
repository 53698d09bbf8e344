"""The square-root process of Cox, Ingersoll and Ross: positive, returning to its mean, with
noncentral chi-square laws.

For ``dX = kappa (theta - X) dt + sigma sqrt(X) dB`` let ``d = 4 kappa theta / sigma^2`` and, for a
step h,

    c = sigma^2 (1 - e^{-kappa h}) / (4 kappa),     X_{t+h} | X_t = x  ~  c chi'^2_d(lambda),  lambda = x e^{-kappa h} / c,  (1)

so d need not be whole. The noncentral chi-square law is a mixture, chi-square with ``d + 2 N``
degrees of freedom and N Poisson of mean lambda / 2, with density

    p(y) = sum_n e^{-lambda/2} (lambda/2)^n / n!  y^{d/2+n-1} e^{-y/2} / (2^{d/2+n} Gamma(d/2 + n)).  (2)

Its terms are a smooth bump in n; where it is wide, every m-th term will do, m times as heavy: the
error of such a sum falls like ``exp(-2 pi^2 (width / m)^2)``. The stationary law is Gamma, (1) with
lambda = 0 and h infinite. Feller 1951; Cox et al. 1985, eq. 18.
"""

__all__ = ["CIR", "NoncentralChiSquare", "gamma_quantile", "poisson_quantile"]

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.special import gammainc, gammaincc, log_ndtr, ndtr, xlogy

from ornstein.calculus.laws.exact_process import ExactProcess, elapsed
from ornstein.core.numerics.checks import require_positive
from ornstein.core.numerics.gaussian import per_sample, sum_event
from ornstein.core.processes.linear import Time
from ornstein.errors import OrnsteinError

_NODES = 256  # terms of (2): all that matter of a bump 10 standard deviations wide to both sides, or enough of them


_LANES = 64  # a multiple of the numbers that a processor handles at once


def _whole(fn: Callable[[Tensor, Tensor], Tensor], shape: Tensor, x: Tensor) -> Tensor:
    """An incomplete gamma function on whole vectors: on what is left over torch's may differ in the
    last digit."""
    parts = (
        torch.nn.functional.pad(part.flatten(), (0, -x.numel() % _LANES), value=1.0)
        for part in torch.broadcast_tensors(shape, x)
    )
    return fn(*parts)[: x.numel()].reshape(x.shape)


def poisson_quantile(rate: Tensor, z: Tensor) -> Tensor:
    """The smallest n with ``P(N <= n) >= Phi(z)`` for a Poisson number N: a normal number becomes a
    Poisson one. Float64."""
    rate, z = torch.broadcast_tensors(rate.double(), z.double())
    level = ndtr(z)

    def reached(n: Tensor) -> Tensor:
        return (n >= 0) & (_whole(gammaincc, n.clamp(min=0) + 1, rate) >= level)

    guess = (rate + z * rate.sqrt() + (z.square() - 1) / 6).floor()  # Cornish and Fisher
    low, high, width = (guess - 4).clamp(min=-1), (guess + 4).clamp(min=0), 8
    while bool((bad := reached(low)).any()):
        low, width = torch.where(bad, (low - width).clamp(min=-1), low), 2 * width
    while bool((bad := ~reached(high)).any()):
        high, width = torch.where(bad, high + width, high), 2 * width
    while bool((high - low > 1).any()):
        middle = ((low + high) / 2).floor()
        above = reached(middle)
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return high


def gamma_quantile(shape: Tensor, z: Tensor) -> Tensor:
    """The x with ``P(G <= x) = Phi(z)`` for a Gamma variable G of the given shape and scale 1,
    float64; to 1e-9 standard deviations.

    Newton's method for ``log P``, or ``log(1 - P)`` if z > 0, in log x: both are concave, so that
    it cannot go astray. For large shapes the expansion of Cornish and Fisher, where torch's
    incomplete gamma function, which sets the last digits, has no tails.
    """
    shape, z = torch.broadcast_tensors(shape.double(), z.double())
    large, root, z2 = shape > 1e5, shape.sqrt(), z * z
    near = (z2 - 1) / 3 + z * (z2 - 7) / (36 * root) - (3 * z2 * z2 + 7 * z2 - 16) / (810 * shape)
    expansion = (
        shape + z * root + near + z * (9 * z2 * z2 + 256 * z2 - 433) / (38880 * shape * root)
    )
    shape = torch.where(large, 1.0, shape)
    lower, target, log_gamma = z <= 0, log_ndtr(-z.abs()), torch.lgamma(shape)
    power_law = (
        log_ndtr(z) + torch.lgamma(shape + 1)
    ) / shape  # P <= x^a / Gamma(a + 1), equal for small x
    cube = (1 - 1 / (9 * shape) + z / (3 * shape.sqrt())).clamp(min=1e-9)  # Wilson and Hilferty
    w = torch.maximum(power_law, shape.log() + 3 * cube.log())
    done = large | (w < -35)
    for _ in range(60):
        x, tail = w.exp(), torch.ones_like(w)
        tail[lower] = _whole(gammainc, shape[lower], x[lower])
        tail[~lower] = _whole(gammaincc, shape[~lower], x[~lower])
        log_tail = tail.log()
        slope = (shape * w - x - log_gamma - log_tail).exp()
        move = torch.where(
            done, 0.0, torch.where(lower, target - log_tail, log_tail - target) / slope
        ).clamp(-2, 2)
        w, done = w + move, done | (move.abs() < 1e-13)
        if bool(done.all()):
            break
    return torch.where(large, expansion, w.exp())


@dataclass(frozen=True)
class NoncentralChiSquare:
    """The law of ``scale chi'^2_df(noncentrality)``, independent in every entry; a Gamma law if the
    noncentrality is 0.

    Args:
        df: degrees of freedom d > 0, not necessarily whole.
        noncentrality: lambda >= 0, ``(b, *event)``.
        scale: broadcasts against it.
    """

    df: float
    noncentrality: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        """``scale (df + lambda)``."""
        return self.scale * (self.df + self.noncentrality)

    @property
    def var(self) -> Tensor:
        """``2 scale^2 (df + 2 lambda)``."""
        return 2 * self.scale.square() * (self.df + 2 * self.noncentrality)

    def draw(self, z: Tensor, w: Tensor) -> Tensor:
        """The state of two standard normal numbers per entry: z for the Poisson number of (2), w
        for the chi-square then."""
        count = poisson_quantile(self.noncentrality / 2, z)
        return (2 * self.scale * gamma_quantile(self.df / 2 + count, w)).to(z.dtype)

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Log-density in nats, for x > 0."""
        return sum_event(self.log_density(x))

    def log_density(self, x: Tensor) -> Tensor:
        """Log-density (2) of each entry by itself, float64."""
        y, rate = (x / self.scale).double() / 2, self.noncentrality.double() / 2
        a = self.df / 2
        nu = a - 1
        peak = ((-nu + (nu**2 + 4 * rate * y).sqrt()) / 2).clamp(min=0)
        width = (peak * (peak + nu) / (2 * peak + nu).clamp(min=1e-300)).clamp(min=0).sqrt()
        first, last = (peak - 10 * width).floor().clamp(min=0), peak + 10 * width + 40
        stride = ((last - first) / (_NODES - 1)).clamp(min=1.0)
        n = first + stride * torch.arange(_NODES, dtype=torch.float64).reshape(-1, *[1] * y.ndim)
        terms = (
            xlogy(n, rate)
            - rate
            - torch.lgamma(n + 1)
            + xlogy(a + n - 1, y)
            - y
            - torch.lgamma(a + n)
        )
        return (
            terms.logsumexp(0) + (stride / 2).log() - torch.as_tensor(self.scale).double().log()
        )  # (2)


@dataclass(frozen=True)
class CIR(ExactProcess):
    """``dX = kappa (theta - X) dt + sigma sqrt(X) dB`` on x >= 0, in every entry; stays positive if
    ``2 kappa theta >= sigma^2``.

    Draws are not differentiable in the start: a Poisson number stands between.

    Args:
        kappa: rate of return, per unit of time.
        theta: mean.
        sigma: volatility.
    """

    kappa: float = 1.0
    theta: float = 1.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "kappa", "theta", "sigma")

    @property
    def df(self) -> float:
        """``d = 4 kappa theta / sigma^2``, the dimension; 0 is never met if it is 2 or more."""
        return 4 * self.kappa * self.theta / self.sigma**2

    @property
    def numbers(self) -> int:
        """2: see `NoncentralChiSquare.draw`."""
        return 2

    def drift(self, x: Float[Tensor, "b *event"], t: Time) -> Float[Tensor, "b *event"]:
        """``kappa (theta - x)``."""
        return self.kappa * (self.theta - x)

    def diffusion(self, x: Float[Tensor, "b *event"], t: Time) -> Float[Tensor, "b *event"]:
        """``sigma sqrt(max(x, 0))``: 0 where a discretisation has gone below 0, as the process
        itself never does."""
        return self.sigma * x.clamp(min=0).sqrt()

    def transition(self, x_s: Float[Tensor, "b *event"], s: Time, t: Time) -> NoncentralChiSquare:
        """(1), for x_s >= 0 and s < t.

        Raises:
            OrnsteinError: if a state is negative or the times are equal.
        """
        h = elapsed(s, t)
        if not bool((h > 0).all()):
            raise OrnsteinError(
                f"a transition from s={s} to t={t}: needs s < t; without time the law is a point"
            )
        if not bool((x_s >= 0).all()):
            raise OrnsteinError(f"CIR from {float(x_s.min())}: states are at least 0")
        scale = per_sample(
            self.sigma**2 * -torch.expm1(-self.kappa * h) / (4 * self.kappa), x_s.double()
        )
        decay = per_sample((-self.kappa * h).exp(), x_s.double())
        return NoncentralChiSquare(self.df, x_s.double() * decay / scale, scale)  # (1)

    def stationary(self) -> NoncentralChiSquare:
        """``Gamma(2 kappa theta / sigma^2)`` of scale ``sigma^2 / (2 kappa)``, as a batch of one
        number."""
        scale = torch.tensor(self.sigma**2 / (4 * self.kappa), dtype=torch.float64)
        return NoncentralChiSquare(self.df, torch.zeros(1, dtype=torch.float64), scale)

    def entropy(self, t: float, start: float) -> float:
        """Entropy in nats at time t > 0 of one entry that was at ``start``; by quadrature in log x,
        to about 1e-8.

        Bounded in t; ``t = inf`` is the stationary law.
        """
        law = (
            self.stationary()
            if t == math.inf
            else self.transition(torch.tensor([start], dtype=torch.float64), 0.0, t)
        )
        root, reach = float(law.noncentrality.sqrt()), math.sqrt(self.df) + 14
        low = 2 * math.log(root - reach) if root > 2 * reach else -90 / self.df - 5
        w = torch.linspace(low, 2 * math.log(root + reach), 1 << 13, dtype=torch.float64)
        log_p = (
            law.log_density(law.scale * w.exp()) + w + law.scale.log()
        )  # the density of log(x / scale)
        weight = log_p.exp() * (w[1] - w[0])
        return float((weight * (w + law.scale.log() - log_p)).sum())
