"""`Discretisation`: what it says exactly, how close it comes on a mixture, and what it does not
speak about.

For data ``N(mu, v)`` and a method of ``data_std = sqrt(v)`` the part F of the denoiser that a
method interpolates, ``D - kappa x = mu sigma_t^2 / (alpha_t^2 v + sigma_t^2)``, depends on the time
alone: nothing is held that would move, and the estimate is the difference between the run and one
whose every step has one order less.
"""

import math

import pytest
import torch

from ornstein.core import processes as p
from ornstein.core.methods import Ancestral, Heun, Multistep, Singlestep
from ornstein.core.methods.multistep import step_coefficients
from ornstein.core.processes.reverse import Reverse
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.solvers.error_estimate import Discretisation
from ornstein.core.timesteps.clock import Asinh, Log
from ornstein.errors import OrnsteinError
from ornstein.inference.sampling.sample import sample
from ornstein.inference.sampling.samplers import default_sampler
from problems import NormalPosterior, mixture

F64 = torch.float64
MU, VAR = 1.3, 0.49


def affine_run(sde, times, x, method, lower: bool):
    """The run step by step with the closed form of F; each step of the order it has, or of one
    less."""
    reverse = Reverse(NormalPosterior(sde, MU, VAR), 0.0)
    top = step_coefficients(method, reverse.process, reverse.eta, times)
    alpha2, sigma2 = sde.alpha(times).square(), sde.sigma(times).square()
    f = (MU * sigma2 / (alpha2 * VAR + sigma2)).tolist()
    for k, row in enumerate(top):
        order = len(row.weights) - 1 if lower else len(row.weights)
        used = step_coefficients(
            Multistep(max(order, 1), method.data_std, method.clock),
            reverse.process,
            reverse.eta,
            times,
        )[k].weights
        x = row.keep * x + sum(w * f[k - j] for j, w in enumerate(used))
    return x


METHODS = [
    Multistep(2, VAR**0.5), Multistep(3, VAR**0.5, Log()), Multistep(4, VAR**0.5, Asinh(0.1)),
    Multistep(4, VAR**0.5, Asinh(0.1), last=2),
]  # fmt: skip


@pytest.mark.parametrize("sde", [p.VP(), p.EDM(10.0), p.RectifiedFlow()], ids=repr)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_is_the_distance_to_the_run_of_one_order_less_where_nothing_else_moves(sde, method):
    watch, times = Discretisation(), sde.times(9)
    x = Noise(0).normal((3, 2), F64)
    end = simulate(Reverse(NormalPosterior(sde, MU, VAR), 0.0), x, times, method, watch=[watch])
    torch.testing.assert_close(
        end, affine_run(sde, times, x, method, lower=False), rtol=1e-9, atol=1e-11
    )
    less = affine_run(sde, times, x, method, lower=True)
    torch.testing.assert_close(watch.gap, end - less, rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(
        watch.rms(), (end - less).square().mean(1).sqrt(), rtol=1e-7, atol=1e-10
    )
    assert float(watch.gap.abs().max()) > 1e-4
    if method.order == 2:
        plain = simulate(
            Reverse(NormalPosterior(sde, MU, VAR), 0.0), x, times, Multistep(1, method.data_std)
        )
        torch.testing.assert_close(watch.gap, end - plain, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("sde", [p.VP(), p.EDM()], ids=repr)
@pytest.mark.parametrize(("n", "factor"), [(15, 10), (30, 10), (50, 20)])
def test_is_close_to_the_error_of_a_mixture_and_on_the_safe_side(sde, n, factor):
    """Medians over 64 samples, against 200 steps; the factor grows with n, since the estimate falls
    with one order less."""
    posterior = mixture().posterior(sde)
    auto, watch = default_sampler(posterior), Discretisation()
    x = sde.prior((64, 2), posterior.data_std**2).std * Noise(0).normal((64, 2), F64)
    flow = Reverse(posterior, 0.0)
    end = simulate(flow, x, sde.times(n, auto.spacing), auto.method, watch=[watch])
    best = simulate(flow, x, sde.times(200, auto.spacing), auto.method)
    true = float((end - best).square().mean(1).sqrt().median())
    assert true / 2 < float(watch.rms().median()) < factor * true


def test_falls_at_the_lower_order():
    sde, sizes = p.VP(), (40, 80)
    flow, x, found = Reverse(mixture().posterior(sde), 0.0), Noise(0).normal((32, 2), F64), []
    for n in sizes:
        watch = Discretisation()
        simulate(flow, x, torch.linspace(0.9, 0.1, n + 1, dtype=F64), Multistep(2), watch=[watch])
        found.append(float(watch.rms().median()))
    assert math.log2(found[0] / found[1]) == pytest.approx(1, abs=0.3)


def test_watches_a_draw():
    watch = Discretisation()
    posterior = mixture().posterior(p.VP())
    x = sample(posterior, 5, 12, watch=[watch])
    assert torch.equal(x, sample(posterior, 5, 12))
    assert watch.rms().shape == (5,)
    assert bool((watch.rms() > 0).all())


@pytest.mark.parametrize("method", [Ancestral(), Heun(), Singlestep(), Multistep(1)], ids=repr)
def test_methods_without_a_lower_order_are_refused(method):
    """A gap of 0 would be no estimate."""
    sde = p.VP()
    with pytest.raises(OrnsteinError, match=r"Multistep\(order=2\) or higher"):
        simulate(
            Reverse(mixture().posterior(sde), 0.0),
            torch.zeros(2, 2, dtype=F64),
            sde.times(5),
            method,
            watch=[Discretisation()],
        )
