"""Networks on top of exact denoisers, which learn how the data differ from a given distribution.

In the polar form (see `ornstein.models.denoiser`) with data of unit scale, ``y = cos x_0 + sin
eps``, a component N(m, v) of x_0 in a direction makes y Gaussian with variance ``total = cos^2 v +
sin^2``, and with ``r = y - cos m``

    E[x_0 | y] - cos y = sin^2 q,    q = m + cos (v - 1) / total r,
    Var[x_0 | y] = sin^2 v / total.

The output is

    sin E[q]   averaged over P(component | y), plus the output of a network,                     (1)

which is what the parametrisation `edm` asks for, free of cancellation at both ends of time, and 0
for N(0, I). The standard deviation of the posterior follows from the law as well: in units of sin,
that of N(0, I),

    ratio^2 = E[v / total] + sin^2 Var[q].                                                       (2)
"""

__all__ = ["AnalyticNetwork", "MixtureNetwork", "ProductNetwork"]

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ornstein.nets.conditions import Condition
from ornstein.nets.mlp import MLP

_CACHE = 2**18  # numbers that a processor's cache holds: rows are taken so many at a time


class AnalyticNetwork(nn.Module, ABC):
    """The exact denoiser of a distribution, plus an `MLP` of a given width, if any.

    For vectors, and for ``Denoiser(..., param=edm, data_std=1.0)``.

    Args:
        event: dimension d.
        components: number of components of the law.
        width, depth: of the MLP; width 0 for none.
        parts: the tensors of the law, by name.
    """

    event: int
    mlp: MLP | None

    def __init__(
        self, event: int, components: int, width: int, depth: int, parts: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.conditions: dict[str, Condition] = {}
        self.config = {"event": event, "components": components, "width": 0, "depth": depth}
        for name, part in parts.items():
            self.register_buffer(name, part)
        self.event = event
        self.event_shape = (event,)
        self.mlp = None
        if width:
            self.add_network(width, depth)

    def add_network(self, width: int, depth: int = 3) -> None:
        """Add a new MLP to the exact denoiser, whose output starts at zero.

        Args:
            width, depth: of the MLP.
        """
        self.config |= {"width": width, "depth": depth}
        self.mlp = MLP(self.event, width, depth).to(next(self.buffers()))

    @abstractmethod
    def exact(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return E[q] under the distribution and the ratio of standard deviations, ``(b, d)`` each.

        Args:
            x: y, ``(b, d)``.
            cos, sin: of the level, ``(b, 1)`` or ``(1, 1)``.
        """

    def moments(
        self,
        x: Float[Tensor, "b d"],
        c: Float[Tensor, " #b"],
        cond: Mapping[str, Tensor] | None = None,
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Return network output and ratio of standard deviations, ``(b, d)`` each.

        Args:
            x: y, ``(b, d)``.
            c: the noise level ``-lambda / 8``.
            cond: not used.
        """
        log_snr = (-8 * c)[:, None]
        cos, sin = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
        q, ratio = self.exact(x, cos, sin)
        return sin * q if self.mlp is None else sin * q + self.mlp(x, c, cond), ratio  # (1)

    def forward(
        self,
        x: Float[Tensor, "b d"],
        c: Float[Tensor, " #b"],
        cond: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "b d"]:
        """Return the network output alone, without the standard deviation."""
        return self.moments(x, c, cond)[0]


class MixtureNetwork(AnalyticNetwork):
    """The exact denoiser of a mixture of Gaussians ``N(m_k, V_k diag(v_k) V_k^T)``.

    Args:
        event: d.
        components: of the mixture, k.
        width, depth: of the MLP; width 0 for none.
        mixture: weights ``(k,)``, means ``(k, d)``, variances ``(k, d)``, and axes ``(k, d, d)``
            with the axes as columns; None leaves them for a checkpoint to fill.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    axes: Tensor

    def __init__(
        self, event: int, components: int, width: int = 0, depth: int = 3,
        mixture: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
    ) -> None:  # fmt: skip
        k, d = components, event
        parts = mixture or (
            torch.ones(k),
            torch.zeros(k, d),
            torch.ones(k, d),
            torch.eye(d).expand(k, d, d).clone(),
        )
        names = ("weights", "means", "variances", "axes")
        super().__init__(event, components, width, depth, dict(zip(names, parts, strict=True)))

    def exact(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return E[q] and the std ratio of the mixture, in groups of rows that fit the cache."""
        rows = max(16, _CACHE // self.means.numel())
        pieces = x.split(rows)
        levels = [
            level.split(rows) if len(level) == len(x) else [level] * len(pieces)
            for level in (cos, sin)
        ]
        parts = [self._exact(*part) for part in zip(pieces, *levels, strict=True)]
        return torch.cat([mean for mean, _ in parts]), torch.cat([ratio for _, ratio in parts])

    def _exact(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return E[q] and the standard deviation ratio (2) of some rows."""
        total = cos.square()[:, None] * self.variances + sin.square()[:, None]  # (#b, k, d)
        k, d = self.means.shape
        projected = (x @ self.axes.transpose(0, 1).reshape(d, k * d)).reshape(-1, k, d)
        r = projected - cos[:, None] * torch.einsum("kd,kde->ke", self.means, self.axes)
        distance = torch.einsum("bke,bke->bk", r.square(), total.reciprocal()) + total.log().sum(2)
        p = (self.weights.log() - distance / 2).softmax(1)
        q = self.means + torch.einsum(
            "bke,kde->bkd", r * (cos[:, None] * (self.variances - 1) / total), self.axes
        )
        mean = torch.einsum("bk,bkd->bd", p, q)
        within = torch.einsum(
            "bk,bkd->bd",
            p,
            torch.einsum("bke,kde->bkd", self.variances / total, self.axes.square()),
        )
        between = torch.einsum("bk,bkd->bd", p, (q - mean[:, None]).square())
        return mean, (within + sin.square() * between).sqrt()  # (2)


class ProductNetwork(AnalyticNetwork):
    """The exact denoiser of independent coordinates, each a mixture of Gaussians on the line.

    The density is ``prod_j sum_k w_jk N(m_jk, v_jk)``.

    Args:
        event: d.
        components: of each coordinate, k; one component N(0, 1) asks nothing of the network.
        width, depth: of the MLP; width 0 for none.
        product: weights, means and variances, ``(k, d)`` each; None stands for N(0, 1), or leaves
            them for a checkpoint to fill.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def __init__(
        self,
        event: int,
        components: int = 1,
        width: int = 0,
        depth: int = 3,
        product: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> None:
        ones = torch.ones(components, event)
        parts = product or (ones / components, torch.zeros_like(ones), ones)
        super().__init__(
            event,
            components,
            width,
            depth,
            dict(zip(("weights", "means", "variances"), parts, strict=True)),
        )

    def exact(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return E[q] and the ratio of standard deviations in each coordinate."""
        total = cos.square()[..., None] * self.variances + sin.square()[..., None]  # (#b, k, d)
        r = x[:, None] - cos[..., None] * self.means
        q = self.means + cos[..., None] * (self.variances - 1) / total * r
        if len(self.weights) == 1:
            return q[:, 0], (self.variances / total).sqrt()[:, 0].expand_as(x)
        p = ((self.weights / total.sqrt()).log() - r.square() / (2 * total)).softmax(1)
        mean = (p * q).sum(1)
        spread = self.variances / total + sin.square()[..., None] * (q - mean[:, None]).square()
        return mean, (p * spread).sum(1).sqrt()  # (2)
