"""The square-root process of Cox, Ingersoll and Ross, with noncentral chi-square transitions.

For ``dX = kappa (theta - X) dt + sigma sqrt(X) dB`` let ``d = 4 kappa theta / sigma^2`` and, for a
step h,

    c = sigma^2 (1 - e^{-kappa h}) / (4 kappa),
    X_{t+h} | X_t = x  ~  c chi'^2_d(lambda),     lambda = x e^{-kappa h} / c,                   (1)

so d need not be whole. The noncentral chi-square law is a mixture, chi-square with ``d + 2 N``
degrees of freedom and N Poisson of mean lambda / 2, with density

    p(y) = sum_n e^{-lambda/2} (lambda/2)^n / n!
                 y^{d/2+n-1} e^{-y/2} / (2^{d/2+n} Gamma(d/2 + n)).                              (2)

Its terms are a smooth bump in n; where the bump is wide, every m-th term is enough, with a weight
of m: the error of such a sum falls like ``exp(-2 pi^2 (width / m)^2)``. The stationary law is
Gamma, (1) with lambda = 0 and h infinite. Feller 1951; Cox et al. 1985, eq. 18.
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
from ornstein.core.numerics.roots import bisect
from ornstein.core.processes.linear import Time
from ornstein.errors import OrnsteinError

_TERMS = 256  # terms of (2) over 10 standard deviations to both sides: all, or every m-th
_LANES = 64  # a multiple of the numbers that a processor handles at once
_BRACKET = 4  # distance from the Cornish-Fisher guess at which the search for a quantile starts
_LARGE_SHAPE = 1e5  # shape above which the expansion is as exact as the incomplete gamma function
_MAX_NEWTON_STEPS = 60  # largest number of Newton steps for a quantile
_REACH = 14  # standard deviations beyond which the density does not count in an entropy
_ENTROPY_NODES = 1 << 13  # nodes of the quadrature of an entropy


def _on_whole_vectors(fn: Callable[[Tensor, Tensor], Tensor], shape: Tensor, x: Tensor) -> Tensor:
    """Evaluate an incomplete gamma function on inputs padded to whole processor vectors.

    In an incomplete vector torch's function may differ in the last digit, so the input is padded.
    """
    parts = (
        torch.nn.functional.pad(part.flatten(), (0, -x.numel() % _LANES), value=1.0)
        for part in torch.broadcast_tensors(shape, x)
    )
    return fn(*parts)[: x.numel()].reshape(x.shape)


def poisson_quantile(rate: Tensor, z: Tensor) -> Tensor:
    """Return the smallest n with ``P(N <= n) >= Phi(z)`` for a Poisson number N, in float64.

    So a normal number z becomes a Poisson number.

    Args:
        rate: the mean of N, at least 0.
        z: standard normal numbers; both broadcast.
    """
    rate, z = torch.broadcast_tensors(rate.double(), z.double())
    level = ndtr(z)

    def reached(n: Tensor) -> Tensor:
        return (n >= 0) & (_on_whole_vectors(gammaincc, n.clamp(min=0) + 1, rate) >= level)

    guess = (rate + z * rate.sqrt() + (z.square() - 1) / 6).floor()  # Cornish and Fisher
    low = (guess - _BRACKET).clamp(min=-1)
    high = (guess + _BRACKET).clamp(min=0)
    width = 2 * _BRACKET
    while bool((bad := reached(low)).any()):
        low = torch.where(bad, (low - width).clamp(min=-1), low)
        width = 2 * width
    while bool((bad := ~reached(high)).any()):
        high = torch.where(bad, high + width, high)
        width = 2 * width
    # the interval ends shorter than 1, with the quantile as the only whole number in it
    steps = math.ceil(math.log2(float((high - low).max()))) if high.numel() else 0
    _, high = bisect(lambda n: ~reached(n.floor()), low, high, steps)
    return high.floor()


def gamma_quantile(shape: Tensor, z: Tensor) -> Tensor:
    """Return the x with ``P(G <= x) = Phi(z)`` for a Gamma variable G of scale 1, in float64.

    It is accurate to 1e-9 standard deviations: by Newton's method for ``log P``, or ``log(1 - P)``
    if z > 0, in log x. Both are concave, so that the method converges from below. For large shapes
    it is the expansion of Cornish and Fisher, where the incomplete gamma function of torch has no
    tails.

    Args:
        shape: shape of the Gamma law, positive.
        z: standard normal numbers; both broadcast.
    """
    shape, z = torch.broadcast_tensors(shape.double(), z.double())
    large = shape > _LARGE_SHAPE
    root = shape.sqrt()
    z2 = z * z
    near = (z2 - 1) / 3 + z * (z2 - 7) / (36 * root) - (3 * z2 * z2 + 7 * z2 - 16) / (810 * shape)
    far = z * (9 * z2 * z2 + 256 * z2 - 433) / (38880 * shape * root)
    expansion = shape + z * root + near + far
    shape = torch.where(large, 1.0, shape)
    lower = z <= 0
    target = log_ndtr(-z.abs())
    log_gamma = torch.lgamma(shape)
    # P <= x^a / Gamma(a + 1), equal for small x
    power_law = (log_ndtr(z) + torch.lgamma(shape + 1)) / shape
    cube = (1 - 1 / (9 * shape) + z / (3 * shape.sqrt())).clamp(min=1e-9)  # Wilson and Hilferty
    w = torch.maximum(power_law, shape.log() + 3 * cube.log())
    done = large | (w < -35)
    for _ in range(_MAX_NEWTON_STEPS):
        x = w.exp()
        tail = torch.ones_like(w)
        tail[lower] = _on_whole_vectors(gammainc, shape[lower], x[lower])
        tail[~lower] = _on_whole_vectors(gammaincc, shape[~lower], x[~lower])
        log_tail = tail.log()
        slope = (shape * w - x - log_gamma - log_tail).exp()
        newton = torch.where(lower, target - log_tail, log_tail - target) / slope
        move = torch.where(done, 0.0, newton).clamp(-2, 2)
        w = w + move
        done = done | (move.abs() < 1e-13)
        if bool(done.all()):
            break
    return torch.where(large, expansion, w.exp())


@dataclass(frozen=True)
class NoncentralChiSquare:
    """The law of ``scale chi'^2_df(noncentrality)``, independent in every entry.

    It is a Gamma law if the noncentrality is 0.

    Args:
        df: degrees of freedom d > 0, not necessarily whole.
        noncentrality: lambda >= 0, ``(b, *event)``.
        scale: broadcasts against the noncentrality.
    """

    df: float
    noncentrality: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean of the law, ``scale (df + lambda)``."""
        return self.scale * (self.df + self.noncentrality)

    @property
    def var(self) -> Tensor:
        """The variance of the law, ``2 scale^2 (df + 2 lambda)``."""
        return 2 * self.scale.square() * (self.df + 2 * self.noncentrality)

    def draw(self, z: Tensor, w: Tensor) -> Tensor:
        """Return the state that is made of two standard normal numbers per entry.

        Args:
            z: numbers for the Poisson number N of the mixture.
            w: numbers for the chi-square variable given N.
        """
        count = poisson_quantile(self.noncentrality / 2, z)
        return (2 * self.scale * gamma_quantile(self.df / 2 + count, w)).to(z.dtype)

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, " b"]:
        """Return the log-density of each sample in nats, for x > 0."""
        return sum_event(self.log_density(x))

    def log_density(self, x: Tensor) -> Tensor:
        """Return the log-density of each entry by itself in nats, float64, for x > 0.

        It is the sum over the Poisson number of the mixture.
        """
        y = (x / self.scale).double() / 2
        rate = self.noncentrality.double() / 2
        a = self.df / 2
        nu = a - 1
        peak = ((-nu + (nu**2 + 4 * rate * y).sqrt()) / 2).clamp(min=0)
        width = (peak * (peak + nu) / (2 * peak + nu).clamp(min=1e-300)).clamp(min=0).sqrt()
        first = (peak - 10 * width).floor().clamp(min=0)
        last = peak + 10 * width + 40
        stride = ((last - first) / (_TERMS - 1)).clamp(min=1.0)
        n = first + stride * torch.arange(_TERMS, dtype=torch.float64).reshape(-1, *[1] * y.ndim)
        poisson = xlogy(n, rate) - rate - torch.lgamma(n + 1)
        terms = poisson + xlogy(a + n - 1, y) - y - torch.lgamma(a + n)
        log_scale = torch.as_tensor(self.scale).double().log()
        return terms.logsumexp(0) + (stride / 2).log() - log_scale  # (2)


@dataclass(frozen=True)
class CIR(ExactProcess):
    """The square-root process ``dX = kappa (theta - X) dt + sigma sqrt(X) dB`` on x >= 0.

    It stays positive if ``2 kappa theta >= sigma^2``. Draws are not differentiable in the start, as
    they depend on it through a Poisson number.

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
        """The degrees of freedom ``d = 4 kappa theta / sigma^2``; if d >= 2, X stays above 0."""
        return 4 * self.kappa * self.theta / self.sigma**2

    @property
    def numbers(self) -> int:
        """The number of standard normal numbers that a draw takes for each entry, 2."""
        return 2

    def drift(self, x: Float[Tensor, "b *event"], t: Time) -> Float[Tensor, "b *event"]:
        """Return the drift ``kappa (theta - x)`` of the process."""
        return self.kappa * (self.theta - x)

    def diffusion(self, x: Float[Tensor, "b *event"], t: Time) -> Float[Tensor, "b *event"]:
        """Return the diffusion ``sigma sqrt(max(x, 0))`` of the process.

        It is 0 where a discretisation has gone below 0, as the process itself never does.
        """
        return self.sigma * x.clamp(min=0).sqrt()

    def transition(self, x_s: Float[Tensor, "b *event"], s: Time, t: Time) -> NoncentralChiSquare:
        """Return the noncentral chi-square law of x_t given x_s, for x_s >= 0 and s < t.

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
        x = x_s.double()
        variance = self.sigma**2 * -torch.expm1(-self.kappa * h) / (4 * self.kappa)
        scale = per_sample(variance, x)
        decay = per_sample((-self.kappa * h).exp(), x)
        return NoncentralChiSquare(self.df, x * decay / scale, scale)  # (1)

    def stationary(self) -> NoncentralChiSquare:
        """Return the stationary law, Gamma of shape ``2 kappa theta / sigma^2``, as a batch of one.

        Its scale is ``sigma^2 / (2 kappa)``.
        """
        scale = torch.tensor(self.sigma**2 / (4 * self.kappa), dtype=torch.float64)
        return NoncentralChiSquare(self.df, torch.zeros(1, dtype=torch.float64), scale)

    def entropy(self, t: float, start: float) -> float:
        """Return the entropy in nats at time t > 0 of one entry that was at ``start``.

        By quadrature in log x, to about 1e-8. It is bounded in t; ``t = inf`` is the stationary
        law.
        """
        if t == math.inf:
            law = self.stationary()
        else:
            law = self.transition(torch.tensor([start], dtype=torch.float64), 0.0, t)
        root = float(law.noncentrality.sqrt())
        reach = math.sqrt(self.df) + _REACH
        low = 2 * math.log(root - reach) if root > 2 * reach else -90 / self.df - 5
        w = torch.linspace(low, 2 * math.log(root + reach), _ENTROPY_NODES, dtype=torch.float64)
        # the density of w = log(x / scale)
        log_p = law.log_density(law.scale * w.exp()) + w + law.scale.log()
        weight = log_p.exp() * (w[1] - w[0])
        return float((weight * (w + law.scale.log() - log_p)).sum())
