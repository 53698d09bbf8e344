"""The evidence bound: below the exact log-likelihood, by the amount that theory says; a probability
for quantised data."""

import math
from itertools import pairwise

import pytest
import torch
from scipy import stats

import ornstein as orn
from ornstein.core.numerics.gaussian import Gaussian
from ornstein.errors import OrnsteinError
from ornstein.inference.likelihood.elbo import level_log_prob

pytestmark = pytest.mark.usefixtures("seeded_weights")

DOUBLE = torch.float64
PROCESSES = {
    "VP": orn.VP(),
    "Cosine": orn.Cosine(),
    "EDM": orn.EDM(20.0),
    "RectifiedFlow": orn.RectifiedFlow(),
}


def gaussian(s, sde, d=2):
    target = orn.targets.Normal(torch.zeros(d, dtype=DOUBLE), torch.full((d,), s, dtype=DOUBLE))
    return target, target.posterior(sde)


def exact_terms(sde, s, steps):
    """Means over ``x ~ N(0, s^2)`` of the three terms, per element: all laws are Gaussian."""
    times = sde.times(steps).flip(0)
    alpha, sigma = sde.alpha(times), sde.sigma(times)
    end = alpha[-1] ** 2 * s**2 + sigma[-1] ** 2
    prior = float((end / sigma[-1] ** 2).log()) / 2
    diffusion = 0.0
    for i, j in pairwise(range(1, steps + 1)):  # from time j to time i
        ratio = alpha[j] / alpha[i]
        new = sigma[j] ** 2 - ratio**2 * sigma[i] ** 2
        var_q, c = sigma[i] ** 2 * new / sigma[j] ** 2, alpha[i] * new / sigma[j] ** 2
        var_0 = s**2 * sigma[j] ** 2 / (alpha[j] ** 2 * s**2 + sigma[j] ** 2)
        diffusion += float(torch.log1p(c**2 * var_0 / var_q)) / 2
    first = s**2 * sigma[1] ** 2 / (alpha[1] ** 2 * s**2 + sigma[1] ** 2)
    reconstruction = float((2 * math.pi * math.e * first).log()) / 2
    return prior, diffusion, reconstruction


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("steps", [2, 10])
def test_terms_on_gaussian_data_are_their_closed_forms(process, steps):
    """Within 4 standard errors over 4000 samples, seed 0; they add up to the value."""
    sde, s, n = PROCESSES[process], 0.8, 4000
    target, posterior = gaussian(s, sde)
    bound = orn.elbo(posterior, target.sample(n, dtype=DOUBLE), steps, var=s**2)
    for term, exact in zip(
        (bound.prior, bound.diffusion, bound.reconstruction),
        exact_terms(sde, s, steps),
        strict=True,
    ):
        assert abs(float(term.mean()) - 2 * exact) < 4 * float(term.std()) / n**0.5 + 1e-9
    torch.testing.assert_close(bound.value, -(bound.prior + bound.diffusion + bound.reconstruction))
    assert bound.evaluations == 2 * steps


@pytest.mark.parametrize("process", ["VP", "Cosine"])
def test_bound_is_exact_for_gaussian_data_and_the_exact_posterior(process):
    """The generating kernels are then the true ones, so the mean gap is 0 at any number of steps: 4
    standard errors."""
    sde, s, n = PROCESSES[process], 0.8, 4000
    target, posterior = gaussian(s, sde)
    x = target.sample(n, dtype=DOUBLE)
    for steps in (2, 5, 20):
        gap = target.log_prob(x) - orn.elbo(posterior, x, steps, var=s**2).value
        assert abs(float(gap.mean())) < 4 * float(gap.std()) / n**0.5


def test_gap_falls_with_the_number_of_steps_and_is_never_negative():
    """A mixture with its exact posterior: the mean gap to the log-density at 5, 10, 20, 80 steps; 4
    standard errors, n = 2000."""
    sde, n = orn.VP(), 2000
    means = torch.tensor([[-1.5], [1.0]], dtype=DOUBLE)
    target = orn.targets.GaussianMixture(
        means, torch.full_like(means, 0.3), torch.tensor([0.4, 0.6])
    )
    posterior, x = target.posterior(sde), target.sample(n, dtype=DOUBLE)
    gaps = []
    for steps in (5, 10, 20, 80):
        bound = orn.elbo(posterior, x, steps, var=float(target.std**2))
        gap = target.log_prob(x) - bound.value
        gaps.append(float(gap.mean()))
        assert gaps[-1] > -4 * float(gap.std()) / n**0.5
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 0.02 < gaps[0]


def test_bound_holds_for_a_wrong_posterior():
    """A denoiser of the wrong width: the gap is positive by more than 4 standard errors, at every
    number of steps."""
    target, _ = gaussian(0.8, orn.VP())
    _, wrong = gaussian(1.5, orn.VP())
    x = target.sample(1000, dtype=DOUBLE)
    for steps in (5, 40):
        gap = target.log_prob(x) - orn.elbo(wrong, x, steps, var=1.5**2).value
        assert float(gap.mean()) > 4 * float(gap.std()) / 1000**0.5


def test_stderr_is_the_scatter_of_the_estimate():
    """Over 2000 copies of a point, each with noise of its own, the variance of the value is the
    mean of ``stderr^2``: both are estimates of one number, compared within 4 of their standard
    errors."""
    _, posterior = gaussian(0.8, orn.VP())
    bound = orn.elbo(
        posterior, torch.tensor([[0.5, -0.2]], dtype=DOUBLE).expand(2000, 2), 4, repeats=8
    )
    squares, variances = (bound.value - bound.value.mean()).square(), bound.stderr.square()
    error = float((squares.std() ** 2 + variances.std() ** 2).sqrt()) / 2000**0.5
    assert abs(float(squares.mean() - variances.mean())) < 4 * error


def test_bits_per_dim_is_the_mean_in_base_two():
    _, posterior = gaussian(0.8, orn.VP())
    bound = orn.elbo(posterior, orn.Noise(0).normal((20, 2), DOUBLE), 4)
    bits, stderr = bound.bits_per_dim(2)
    assert bits == pytest.approx(-float(bound.value.mean()) / 2 / math.log(2))
    assert stderr == pytest.approx(float(bound.value.std()) / 2 / math.log(2) / 20**0.5)


# ----------------------------------------------------------------------------------- quantised data


def testlevel_log_prob_is_the_mass_of_the_cell_also_in_the_tails():
    """Against scipy: inside by differences of the distribution function, in the tails by its
    asymptotic difference in log space."""
    levels = orn.codecs.Levels(-1.0, 0.5, 5)  # -1, -0.5, 0, 0.5, 1; the outermost cells are open
    values = torch.linspace(-1, 1, 5, dtype=DOUBLE)[:, None]
    for mean, std in ((0.1, 0.3), (-3.0, 0.4), (9.0, 0.2), (0.0, 5.0)):
        law = Gaussian(torch.full((5, 1), mean, dtype=DOUBLE), torch.tensor(std, dtype=DOUBLE))
        got = level_log_prob(law, values, levels)
        edges = [-math.inf, -0.75, -0.25, 0.25, 0.75, math.inf]
        for value, (low, high) in zip(got.tolist(), pairwise(edges), strict=True):
            low, high = (low - mean) / std, (high - mean) / std
            if low > 0:
                low, high = -high, -low
            top, bottom = stats.norm.logcdf(high), stats.norm.logcdf(low)
            assert value == pytest.approx(top + math.log1p(-math.exp(bottom - top)), rel=1e-9)
        assert float(got.exp().sum()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("process", ["VP", "Cosine"])
@pytest.mark.parametrize("kind", ["ignorant", "exact"])
def test_discrete_bounds_are_sub_probabilities(process, kind):
    """Over all levels of one pixel ``sum exp(elbo) <= 1`` (4 standard errors): for a zero network,
    and for the exact posterior of the data, where it also nears the true probabilities."""
    sde, count = PROCESSES[process], 6
    levels = orn.codecs.Levels(-1.0, 0.4, count)
    x = torch.linspace(-1, 1, count, dtype=DOUBLE)[:, None]
    weights = torch.tensor([0.3, 0.05, 0.15, 0.2, 0.1, 0.2], dtype=DOUBLE)
    if kind == "exact":
        posterior = orn.targets.GaussianMixture(x, torch.full_like(x, 0.02), weights).posterior(sde)
    else:
        posterior = orn.Denoiser(
            orn.MLP(1, 8, 1).double(), sde, orn.parametrisations.edm, 0.7, (1,)
        )
    draws = orn.elbo(posterior, x.repeat(400, 1), 60, levels=levels).value.reshape(400, count)
    value, stderr = draws.mean(0), draws.std(0) / 20
    p = value.exp()
    error = float((p * stderr).square().sum().sqrt())
    assert float(p.sum()) < 1 + 4 * error
    if kind == "exact":
        assert bool((value < weights.log() + 4 * stderr).all())
        assert float((weights.log() - value).mean()) < 0.2  # 0.1 with 60 steps
    else:
        assert float(p.sum()) > 0.2


def test_model_elbo_counts_the_codec():
    """``log p(x) = log p(z) - log |det A|`` for densities; for quantised data the bound is of the
    level and has no such term."""
    net, x = orn.MLP(2, 8, 1), orn.Noise(0).normal((6, 2)) * 3 + 1
    denoiser = orn.Denoiser(net, orn.Cosine(), orn.parametrisations.edm, 1.0, (2,)).requires_grad_(
        False
    )
    model = orn.DiffusionModel(
        denoiser, orn.codecs.Codec(torch.ones(2), torch.tensor([[3.0, 0.0], [0.5, 2.0]]))
    )
    bound, inner = model.elbo(x, 5), orn.elbo(denoiser, model.codec.encode(x), 5)
    torch.testing.assert_close(bound.value, inner.value - math.log(6))
    torch.testing.assert_close(
        bound.value, -(bound.prior + bound.diffusion + bound.reconstruction), rtol=1e-5, atol=1e-5
    )
    quantised = orn.DiffusionModel(
        denoiser,
        orn.codecs.Codec(torch.tensor(4.0), torch.tensor(4.0), orn.codecs.Levels(0.0, 1.0, 9)),
    )
    whole = (x + 4).round().clamp(0, 8)
    expected = orn.elbo(denoiser, (whole - 4) / 4, 5, levels=orn.codecs.Levels(-1.0, 0.25, 9))
    torch.testing.assert_close(quantised.elbo(whole, 5).value, expected.value)
    assert bool((quantised.elbo(whole, 20).value < 0).all())


def test_a_bound_given_a_label_starts_from_the_data_variance_of_the_model():
    """The prior term of a conditional bound is that of the unconditional one: both models end in
    the same law."""
    denoiser = orn.Denoiser(
        orn.MLP(2, 8, 1, labels=2), orn.VP(0.1, 1.0), orn.parametrisations.edm, 3.0, (2,)
    ).requires_grad_(False)
    model = orn.DiffusionModel(denoiser, orn.codecs.Codec(torch.zeros(2), torch.ones(2)))
    x = 3 * orn.Noise(0).normal((5, 2))
    torch.testing.assert_close(
        model.elbo(x, 4, label=[0, 1, 0, 1, 1]).prior, model.elbo(x, 4).prior
    )


def test_bad_arguments_are_refused():
    _, posterior = gaussian(1.0, orn.VP())
    x = torch.zeros(2, 2, dtype=DOUBLE)
    with pytest.raises(OrnsteinError, match="steps=1"):
        orn.elbo(posterior, x, 1)
    with pytest.raises(OrnsteinError, match="repeats=1"):
        orn.elbo(posterior, x, 4, repeats=1)
    with pytest.raises(OrnsteinError, match=r"Bridge.*start density"):
        orn.elbo(gaussian(1.0, orn.Bridge())[1], x, 4)
