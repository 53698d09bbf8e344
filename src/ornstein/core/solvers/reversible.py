"""Gradients of long runs by a reversible scheme, with the memory of a single step.

The run is undone step by step, from its end, while the derivative is computed.

A step of `ReversibleHeun` of length h with increment dB is, with ``F_k(h, dB) = a(z_k, t_k) h +
g(z_k, t_k) dB``,

    z_{k+1} = 2 x_k - z_k + F_k,      x_{k+1} = x_k + 1/2 (F_k + F_{k+1}),                       (1)

where all F have h and dB of this step, and so, whatever a and g are,

    z_k = 2 x_{k+1} - z_{k+1} - F_{k+1},      x_k = x_{k+1} - 1/2 (F_k + F_{k+1}).               (2)

Let X_k and Z_k be the derivatives of a loss by x_k and z_k. F_k is in both lines of (1) for the
step that begins at k, and, with that step's noise, in the second line of the one that ends there:

    Z_k = -Z_{k+1} + (X_{k+1} / 2 + Z_{k+1}) dF_k/dz + (X_k / 2) dF_k^-/dz,                      (3)
    X_k = X_{k+1} + 2 Z_{k+1},

where ``F^-`` is of the noise before. A parameter has the same two products with ``dF/dparameter``,
summed over k. One evaluation and one derivative at each k, and the memory of a single one: exact to
rounding for the scheme, as back-propagation is. Kidger et al. 2021 (Efficient and accurate
gradients for neural SDEs), algorithm 2.
"""

__all__ = ["Reversible"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ornstein.core.methods.stratonovich import ReversibleHeun
from ornstein.core.numerics.gaussian import per_sample
from ornstein.core.processes.noise_type import driving
from ornstein.core.random.noise import NoiseStream
from ornstein.core.random.replay import ReplayableStream
from ornstein.core.simulation.method import Method, Step
from ornstein.core.solvers.checkpointed import CheckpointedSegment, Gradient
from ornstein.errors import OrnsteinError


@dataclass(frozen=True)
class Reversible(Gradient):
    """Compute gradients of `solve` with `ReversibleHeun`, with the memory of a single step.

    The memory does not depend on the number of steps:

        method, gradient = orn.methods.ReversibleHeun(), orn.solvers.Reversible()
        xs = orn.solve(sde, x0, [0.0, 1.0], method, seed=0, dt=1e-3, gradient=gradient)

    With an integer or a `Noise` as seed the path is made by `solve`, with the steps as cells: other
    numbers than without a gradient. Watchers see all steps between two saved times as one step.
    What drift and diffusion depend on must be leaves, such as the parameters of a module, or be
    computed inside them. First derivatives only.
    """

    def plan(self, method: Method, parts: Sequence[Tensor]) -> tuple[CheckpointedSegment, Tensor]:
        """Return a method that goes from one saved time to the next, and the grid of saved times.

        Raises:
            OrnsteinError: for a method other than `ReversibleHeun`.
        """
        if not isinstance(method, ReversibleHeun):
            raise OrnsteinError(
                f"gradient=Reversible() undoes the steps of the method, and those of {method}"
                " cannot be undone: use method=orn.methods.ReversibleHeun(), for equations of"
                " Stratonovich (see to_stratonovich) and for additive noise; or"
                " gradient=orn.solvers.Checkpointed(), which takes any method"
            )
        inner = {(float(part[0]), float(part[-1])): part for part in parts}
        return ReversibleSegment(method, inner), torch.stack(
            [*(part[0] for part in parts), parts[-1][-1]]
        )


class ReversibleSegment(CheckpointedSegment):
    """A segment of steps that are undone one by one for the gradient."""

    def step(
        self, sde: Any, x: Tensor, t: Tensor, s: Tensor, stream: NoiseStream, memory: Any
    ) -> Step:
        """Take all steps from t to s; the memory is the second state z of the scheme."""
        draws = ReplayableStream.of(stream, "a run that is undone") if self.noisy(sde) else None
        z = x if memory is None else memory
        run = _Run(sde, self.inner[float(t), float(s)], draws)
        ends, leaves = run.forth(x.detach(), z.detach())
        y, z = _Differentiable.apply(run, ends, x, z, *leaves)
        return Step(y, memory=z, evaluations=len(run.grid))


class _Differentiable(torch.autograd.Function):
    """The end of a finished run as a differentiable function of its start and its parameters."""

    @staticmethod
    def forward(
        ctx: Any, run: "_Run", ends: tuple[Tensor, Tensor], x: Tensor, z: Tensor, *leaves: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.run = run
        ctx.save_for_backward(*ends, *leaves)
        return ends

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, X: Tensor, Z: Tensor) -> tuple[Tensor | None, ...]:
        x, z, *leaves = ctx.saved_tensors
        X, Z, gradients = ctx.run.back(x, z, leaves, X, Z)
        return None, None, X, Z, *gradients


class _Run(NamedTuple):
    """A run of the reversible scheme: an equation on a grid, driven by a path."""

    sde: Any
    grid: Tensor
    draws: ReplayableStream | None

    def forth(self, x: Tensor, z: Tensor) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
        """Run forward: return x and z at the end, and the leaves of drift and diffusion."""
        leaves: dict[int, Tensor] = {}
        first = _now()
        at = self._at(z, 0)
        _add_leaves(leaves, at, first)
        for k in range(len(self.grid) - 1):
            jump = self._jump(k)
            force = self._force(at, k, jump).detach()
            z = 2 * x - z + force
            at = self._at(z, k + 1)
            _add_leaves(leaves, at, first)
            x = x + (force + self._force(at, k, jump).detach()) / 2  # (1)
        return (x, z), list(leaves.values())

    def back(
        self, x: Tensor, z: Tensor, leaves: list[Tensor], X: Tensor, Z: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Run backward: return derivatives by x and z at the start, and by the leaves.

        Args:
            x, z: the states at the end.
            leaves: the tensors on which drift and diffusion depend.
            X, Z: the derivatives by x and z at the end.
        """
        total: list[Tensor | None] = [None] * len(leaves)
        force_derivative = torch.zeros_like(X)
        later_jump = None
        later_force = torch.zeros_like(x)
        for k in range(len(self.grid) - 1, -1, -1):
            earlier_jump = self._jump(k - 1) if k else None
            with torch.enable_grad():
                point = z.detach().requires_grad_()
                coefficients = self._at(point, k)
                forces, by = [], []
                if k < len(self.grid) - 1:
                    forces.append(self._force(coefficients, k, later_jump))
                    by.append(force_derivative)
                    x = x - (forces[0].detach() + later_force) / 2  # (2)
                if k:
                    forces.append(self._force(coefficients, k - 1, earlier_jump))
                    by.append(X / 2)
                derivatives = _products(forces, [point, *leaves], by)
            Z = Z if derivatives[0] is None else Z + derivatives[0]
            total = [
                b if a is None else a if b is None else a + b
                for a, b in zip(total, derivatives[1:], strict=True)
            ]
            if k:
                later_force, later_jump = forces[-1].detach(), earlier_jump
                z = 2 * x - z - later_force  # (2)
                force_derivative, X, Z = X / 2 + Z, X + 2 * Z, -Z  # (3)
        return X, Z, total

    def _jump(self, k: int) -> Tensor | None:
        """Return the Brownian increment dB of step k."""
        return None if self.draws is None else self.draws.increment(self.grid[k], self.grid[k + 1])

    def _at(self, z: Tensor, k: int) -> tuple[Tensor, Tensor | None]:
        """Return drift and diffusion at the state z and the time of step k."""
        t = self.grid[k]
        return self.sde.drift(z, t), None if self.draws is None else self.sde.diffusion(z, t)

    def _force(self, at: tuple[Tensor, Tensor | None], k: int, jump: Tensor | None) -> Tensor:
        """Return the increment F of step k, from drift, diffusion and dB."""
        a, g = at
        force = a * per_sample(self.grid[k + 1] - self.grid[k], a)
        return force if g is None or jump is None else force + driving(self.sde).apply(g, jump)


def _products(
    outputs: list[Tensor], inputs: list[Tensor], by: list[Tensor]
) -> tuple[Tensor | None, ...]:
    """Return sums of vector-Jacobian products, or None for inputs without influence."""
    pairs = [(y, v) for y, v in zip(outputs, by, strict=True) if y.requires_grad]
    if not pairs:
        return (None,) * len(inputs)
    return torch.autograd.grad(
        [y for y, _ in pairs], inputs, [v for _, v in pairs], allow_unused=True
    )


def _now() -> int:
    """Return a number between those of earlier and of later nodes of the autograd graph."""
    with torch.enable_grad():
        node = torch.zeros((), requires_grad=True).clone().grad_fn
    return int(node._sequence_nr())  # type: ignore[union-attr]


def _add_leaves(leaves: dict[int, Tensor], at: tuple[Tensor, Tensor | None], first: int) -> None:
    """Add to a dictionary the leaf tensors on which drift and diffusion depend.

    Raises:
        OrnsteinError: if they depend on something that was computed before.
    """
    for value in at:
        if value is not None and value.requires_grad and value.grad_fn is None:
            leaves[id(value)] = value
    todo = [value.grad_fn for value in at if value is not None]
    seen = set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves[id(node.variable)] = node.variable
        elif node._sequence_nr() < first:
            raise OrnsteinError(
                "gradient=Reversible() differentiates by leaves, but the equation uses the result"
                f" of {node.name()}: compute it inside drift and diffusion, or use"
                " gradient=orn.solvers.Checkpointed()"
            )
        else:
            todo.extend(parent for parent, _ in node.next_functions)
