"""Ito's formula as symbolic mathematics, with SymPy; `ito_formula` computes the same as numbers.

df(X_t, t) = [d_t f + sum_i a_i d_i f + 1/2 sum_ij (g g^t)_ij d_i d_j f] dt
             + sum_k (sum_i g_ik d_i f) dB_k.                                                (1)
"""

__all__ = ["SymbolicFormula", "symbolic"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ornstein.errors import OrnsteinError

Expression = Callable[..., Any] | Any
"""A SymPy expression or a number, a list of them, or a function ``(x, t)`` of symbols that returns
one."""


def _sympy() -> Any:
    """Return the module sympy, or raise an error that says how to install the package."""
    try:
        import sympy
    except ImportError as error:
        raise OrnsteinError(
            "formulas are SymPy's: pip install 'ornstein[calculus]', or use ito_formula for numbers"
        ) from error
    return sympy


@dataclass(frozen=True)
class SymbolicFormula:
    """The formula ``df = drift dt + sum_k diffusion_k dB_k``, which is also its printed form.

    Attributes:
        f: the function.
        drift: the factor of dt, a SymPy expression.
        diffusion: the factors of the Brownian motions.
        x: symbols of the state; more than one if it is a vector.
        t: symbol of time.
    """

    f: Any
    drift: Any
    diffusion: tuple[Any, ...]
    x: tuple[Any, ...]
    t: Any

    def __str__(self) -> str:
        terms = [
            name if c == 1 else f"({c}) {name}" if c.is_Add else f"{c} {name}"
            for c, name in self._terms("dB{}")
        ]
        return f"d({self.f}) = " + (" + ".join(terms) or "0").replace("+ -", "- ")

    def latex(self) -> str:
        """Return the formula as a string for LaTeX."""
        latex = _sympy().latex
        terms = [rf"\left({latex(c)}\right) {name}" for c, name in self._terms("dB^{{{}}}")]
        return rf"d\left({latex(self.f)}\right) = " + (" + ".join(terms) or "0")

    def _terms(self, name: str) -> list[tuple[Any, str]]:
        """Return the nonzero terms of the formula, each with the name of its differential."""
        count = len(self.diffusion)
        names = ["dB"] if count == 1 else [name.format(k + 1) for k in range(count)]
        factors = zip([self.drift, *self.diffusion], ["dt", *names], strict=True)
        return [(factor, differential) for factor, differential in factors if factor != 0]


def symbolic(
    f: Expression, drift: Expression = 0, diffusion: Expression = 1, dim: int = 1
) -> SymbolicFormula:
    """Return Ito's formula for ``f(X, t)`` with ``dX = drift dt + diffusion dB``, by SymPy.

    Without drift and diffusion X is a Brownian motion.

        print(symbolic(lambda x, t: x**2))                # d(x**2) = dt + 2*x dB

    Args:
        f: of the state and time. Functions get symbols: ``x``, or for a vector the tuple ``(x1,
            ..., xd)``, and ``t``; expressions use these names, positive time and real states:
            ``sympy.Symbol("x", real=True)``, ``sympy.Symbol("t", nonnegative=True)``.
        drift: the same; for a vector a list of d.
        diffusion: the same; for a vector a list of d for diagonal noise, or d lists of m for m
            Brownian motions.
        dim: d.

    Raises:
        OrnsteinError: if SymPy is not installed, or drift or diffusion do not have d entries.
    """
    sp = _sympy()
    x = sp.symbols(f"x1:{dim + 1}", real=True) if dim > 1 else (sp.Symbol("x", real=True),)
    t = sp.Symbol("t", nonnegative=True)

    def read(value: Expression) -> Any:
        if callable(value) and not isinstance(value, sp.Basic):
            return value(x if dim > 1 else x[0], t)
        return value

    def entries(value: Any) -> list[Any]:
        return list(value) if isinstance(value, list | tuple) else [value] * dim

    a, g = entries(read(drift)), entries(read(diffusion))
    if len(a) != dim or len(g) != dim:
        raise OrnsteinError(
            f"a drift of {len(a)} and a diffusion of {len(g)} entries for a state of dim={dim}:"
            " give one for each"
        )
    if not isinstance(g[0], list | tuple):
        g = [[entry if i == j else 0 for j in range(dim)] for i, entry in enumerate(g)]
    matrix = sp.Matrix(g)
    y = sp.sympify(read(f))
    slope = [sp.diff(y, v) for v in x]
    spread = matrix * matrix.T
    rate = sp.diff(y, t) + sum(sp.sympify(c) * d for c, d in zip(a, slope, strict=True))
    curvature = (spread[i, j] * sp.diff(y, u, v) for i, u in enumerate(x) for j, v in enumerate(x))
    rate += sum(curvature) / 2  # (1)
    factors = tuple(
        sp.simplify(sum(matrix[i, k] * slope[i] for i in range(dim)))
        for k in range(matrix.shape[1])
    )
    return SymbolicFormula(y, sp.simplify(rate), factors, tuple(x), t)
