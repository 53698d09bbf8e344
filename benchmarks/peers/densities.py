"""NUTS from NumPyro on the library's targets, whose log-densities are written again here, in JAX,
for one point."""

__all__ = ["LOG_PROBS", "nuts"]

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import numpyro  # noqa: E402
from jax.scipy.special import logsumexp  # noqa: E402
from numpyro.diagnostics import effective_sample_size  # noqa: E402
from numpyro.infer import MCMC, NUTS  # noqa: E402

Function = Callable[[jax.Array], jax.Array]
_LOG_2PI = math.log(2 * math.pi)


def _normal(x: jax.Array, mean: Any = 0.0, std: Any = 1.0) -> jax.Array:
    return jnp.sum(-(((x - mean) / std) ** 2) / 2 - jnp.log(std) - _LOG_2PI / 2)


def _mixture(target: Any) -> Function:
    means, stds, weights = (np.asarray(v) for v in (target.means, target.stds, target.weights))
    return lambda x: logsumexp(
        jnp.log(weights)
        + jnp.sum(-(((x - means) / stds) ** 2) / 2 - jnp.log(stds) - _LOG_2PI / 2, 1)
    )


def _funnel(target: Any) -> Function:
    return lambda x: (
        _normal(x[0], 0.0, target.std)
        + jnp.sum(-(x[1:] ** 2) * jnp.exp(-x[0]) / 2 - x[0] / 2 - _LOG_2PI / 2)
    )


def _many_well(target: Any) -> Function:
    return lambda x: (
        jnp.sum(-(x[0::2] ** 4) + 6 * x[0::2] ** 2 + x[0::2] / 2) - jnp.sum(x[1::2] ** 2) / 2
    )


def _multi_well(target: Any) -> Function:
    m, delta = target.m, target.delta
    return lambda x: -jnp.sum((x[:m] ** 2 - delta) ** 2) - jnp.sum(x[m:] ** 2) / 2


def _rings(target: Any) -> Function:
    radii = np.asarray(target.radii)
    return lambda x: -target.stiffness * jnp.min((jnp.sqrt(jnp.sum(x**2)) - radii) ** 2)


def _schools(target: Any) -> Function:
    y, s = np.asarray(target.y), np.asarray(target.s)

    def log_prob(z: jax.Array) -> jax.Array:
        mu, tau, eta = z[0], jnp.exp(z[1]), z[2:]
        half_cauchy = math.log(2 / (5 * math.pi)) - jnp.log1p((tau / 5) ** 2) + z[1]
        return _normal(mu, 0.0, 5.0) + half_cauchy + _normal(eta) + _normal(y, mu + tau * eta, s)

    return log_prob


def _brownian(target: Any) -> Function:
    y, seen = np.asarray(target.y), np.asarray(target.times) - 1

    def log_prob(z: jax.Array) -> jax.Array:
        inner, outer, x = jnp.exp(z[0]), jnp.exp(z[1]), z[2:]
        path = _normal(x[0], 0.0, inner) + _normal(x[1:] - x[:-1], 0.0, inner)
        return _normal(z[:2], 0.0, 2.0) + path + _normal(y, x[seen], outer)

    return log_prob


def _logistic(target: Any) -> Function:
    rows = np.asarray(target.design * target.labels[:, None])
    return lambda w: jnp.sum(jax.nn.log_sigmoid(rows @ w)) + _normal(w, 0.0, target.prior_std)


def _cox(target: Any) -> Function:
    factor, counts = np.linalg.cholesky(np.asarray(target.covariance)), np.asarray(target.counts)

    def log_prob(z: jax.Array) -> jax.Array:
        f = target.mean + factor @ z
        return counts @ f - jnp.sum(jnp.exp(f)) / len(counts) + _normal(z)

    return log_prob


LOG_PROBS: dict[str, Callable[[Any], Function]] = {
    "GaussianMixture": _mixture,
    "Normal": _mixture,
    "Funnel": _funnel,
    "ManyWell": _many_well,
    "MultiWell": _multi_well,
    "Rings": _rings,
    "EightSchools": _schools,
    "BrownianMissing": _brownian,
    "LogisticRegression": _logistic,
    "CoxProcess": _cox,
}
"""By the class of the target."""


class Chains(NamedTuple):
    """Samples ``(n, d)``, the least effective sample size of a coordinate, and gradients taken,
    warm-up included."""

    samples: np.ndarray
    ess: float
    gradients: int


def nuts(
    log_prob: Function, start: np.ndarray, seed: int, warmup: int = 1000, draws: int = 1000
) -> Chains:
    """One chain from each row of ``start``, side by side. Hoffman and Gelman 2014; Phan et al.
    2019."""
    numpyro.set_host_device_count(1)
    kernel = NUTS(potential_fn=lambda z: -log_prob(z))
    mcmc = MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=draws,
        num_chains=len(start),
        chain_method="vectorized",
        progress_bar=False,
    )
    key = jax.random.PRNGKey(seed)
    mcmc.warmup(
        key, init_params=jnp.asarray(start), extra_fields=("num_steps",), collect_warmup=True
    )
    steps = int(np.asarray(mcmc.get_extra_fields()["num_steps"]).sum())
    mcmc.run(key, extra_fields=("num_steps",))
    samples = np.asarray(mcmc.get_samples(group_by_chain=True))
    steps += int(np.asarray(mcmc.get_extra_fields()["num_steps"]).sum())
    return Chains(
        samples.reshape(-1, samples.shape[-1]), float(effective_sample_size(samples).min()), steps
    )
