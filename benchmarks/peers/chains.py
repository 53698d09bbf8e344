"""NUTS from NumPyro and BlackJAX as chains that are carried on block by block, with compilation,
warm-up and sampling timed apart."""

__all__ = ["NUTS", "Chains", "bulk_ess", "mean_ess"]

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.peers.densities import Function, effective_sample_size, jax, jnp

Compiled = Callable[..., Any]


@dataclass
class Chains:
    """Chains one after another, each in a compiled loop of its own.

    Args:
        warm: a key and a start to a state.
        advance: a key and a state to the next state, the draws ``(n, d)``, and gradients taken and
            divergences, ``(n,)`` each.
        starts: ``(chains, d)``.
        seed: of everything.

    Attributes:
        compiling, warming, sampling: processor seconds.
        blocks: draws ``(chains, n, d)``.
        gradients, divergences: without the warm-up.
    """

    warm: Compiled
    advance: Compiled
    starts: np.ndarray
    seed: int
    compiling: float = 0.0
    warming: float = 0.0
    sampling: float = 0.0
    blocks: list[np.ndarray] = field(default_factory=list)
    gradients: int = 0
    divergences: int = 0

    def __post_init__(self) -> None:
        self._keys = list(jax.random.split(jax.random.PRNGKey(self.seed), len(self.starts)))
        began = time.process_time()
        self.warm = jax.jit(self.warm).lower(self._keys[0], self.starts[0]).compile()
        self.compiling = time.process_time() - began
        began = time.process_time()
        self._states = [
            jax.block_until_ready(self.warm(key, x))
            for key, x in zip(self._keys, self.starts, strict=True)
        ]
        self.warming = time.process_time() - began
        began = time.process_time()
        self.advance = jax.jit(self.advance).lower(self._keys[0], self._states[0]).compile()
        self.compiling += time.process_time() - began

    def more(self) -> None:
        """A block of every chain."""
        draws = []
        for k, key in enumerate(self._keys):
            began = time.process_time()
            self._states[k], (x, gradients, divergent) = self.advance(
                jax.random.fold_in(key, len(self.blocks)), self._states[k]
            )
            draws.append(np.asarray(x))
            self.sampling += time.process_time() - began
            self.gradients += int(gradients.sum())
            self.divergences += int(divergent.sum())
        self.blocks.append(np.stack(draws))

    @property
    def x(self) -> np.ndarray:
        """All draws, ``(chains, n, d)``."""
        return np.concatenate(self.blocks, 1)


def numpyro(
    log_prob: Function, starts: np.ndarray, seed: int, block: int, warmup: int = 1000
) -> Chains:
    """With its defaults. Phan et al. 2019."""
    kernel = importlib.import_module("numpyro.infer").NUTS(potential_fn=lambda z: -log_prob(z))

    def step(state: Any, _: None) -> Any:
        state = kernel.sample(state, (), {})
        return state, (state.z, state.num_steps, state.diverging)

    def warm(key: Any, x: Any) -> Any:
        return jax.lax.scan(step, kernel.init(key, warmup, x, (), {}), length=warmup)[0]

    def advance(key: Any, state: Any) -> Any:
        return jax.lax.scan(step, state, length=block)

    return Chains(warm, advance, starts, seed)


def blackjax(
    log_prob: Function, starts: np.ndarray, seed: int, block: int, warmup: int = 1000
) -> Chains:
    """With its defaults, after its window adaptation. Cabezas et al. 2024."""
    lib = importlib.import_module("blackjax")
    adaptation = lib.window_adaptation(lib.nuts, log_prob)

    def warm(key: Any, x: Any) -> Any:
        return tuple(adaptation.run(key, x, warmup)[0])

    def advance(key: Any, found: Any) -> Any:
        state, parameters = found
        kernel = lib.nuts(log_prob, **parameters)

        def step(state: Any, key: Any) -> Any:
            state, info = kernel.step(key, state)
            return state, (state.position, info.num_integration_steps, info.is_divergent)

        state, out = jax.lax.scan(step, state, jax.random.split(key, block))
        return (state, parameters), out

    return Chains(warm, advance, starts, seed)


NUTS: dict[str, Callable[..., Chains]] = {"numpyro": numpyro, "blackjax": blackjax}
"""By library."""


def _halves(x: np.ndarray) -> np.ndarray:
    """Chains ``(m, n, ...)`` as twice as many half as long."""
    n = x.shape[1] // 2
    return np.concatenate([x[:, :n], x[:, -n:]])


def mean_ess(x: np.ndarray) -> np.ndarray:
    """Effective sample size of means, ``(chains, n, d) -> (d,)``, from split chains. Gelman et al.
    2013, section 11.5."""
    return np.asarray(effective_sample_size(_halves(x)))


def bulk_ess(x: np.ndarray) -> np.ndarray:
    """The same of rank-normalised draws, which heavy tails do not upset. Vehtari et al. 2021."""
    ranks = x.reshape(-1, x.shape[-1]).argsort(0).argsort(0).reshape(x.shape)
    return mean_ess(
        np.asarray(
            jax.scipy.special.ndtri((jnp.asarray(ranks) + 0.625) / (ranks[..., 0].size + 0.25))
        )
    )
