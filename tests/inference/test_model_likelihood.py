"""`DiffusionModel.log_likelihood`: the density in the user's units, sample by sample, whatever the
batch, the label or the origin."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.core.random.noise import Noise
from ornstein.errors import OrnsteinError
from ornstein.training.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("seeded_weights")

COARSE = {
    "tol": 1e-2,
    "refine": False,
}  # a network of random weights is rough: 1e-2 is cheap, and errors stay below 0.02


def wild(d=2, sde=None, labels=0, codec=None, event=None, strength=0.05):
    """A model with random weights, whose density is far from a Gaussian's."""
    net = orn.MLP(event or (d,), 16, 1, labels=labels)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(p + strength * orn.Noise(p.numel()).normal((1, *p.shape))[0])
    denoiser = (
        orn.Denoiser(net, sde or orn.Cosine(), orn.parametrisations.edm, 1.0, event or (d,))
        .requires_grad_(False)
        .eval()
    )
    return orn.DiffusionModel(denoiser, codec or orn.codecs.Codec(torch.zeros(d), torch.ones(d)))


@pytest.fixture(scope="module")
def trained():
    """Five dimensions, two modes, 150 steps."""
    x = points(1000, 5, seed=2) * 0.4
    x[::3, :2] += 2.0
    net = lambda event, labels: orn.MLP(event, width=16, depth=1)  # noqa: E731
    small = replace(
        RECIPES["points"],
        net=net,
        training=orn.TrainingConfig(steps=150, rate=5e-3, warmup=10, ema=0.95),
        batch=128,
    )
    return orn.fit(x, small, progress=False)


def points(n, d=2, seed=0):
    return orn.Noise(seed).normal((n, d))


@pytest.mark.parametrize("process", [orn.Cosine(), orn.VP()], ids=["Cosine", "VP"])
def test_data_in_units_ten_times_smaller_shift_log_p_by_log_ten_per_dimension(process):
    """The same network behind two codecs; a matrix counts by its determinant, and what is left is
    the density of the encoded data."""
    plain, x = wild(sde=process), points(9)
    scaled = orn.DiffusionModel(
        plain.denoiser, orn.codecs.Codec(torch.full((2,), 3.0), torch.full((2,), 10.0))
    )
    mixed = orn.DiffusionModel(
        plain.denoiser, orn.codecs.Codec(torch.ones(2), torch.tensor([[3.0, 0.0], [0.5, 2.0]]))
    )
    base = plain.log_likelihood(x, **COARSE)
    torch.testing.assert_close(
        scaled.log_likelihood(10 * x + 3, **COARSE).value,
        base.value - 2 * math.log(10),
        atol=0.02,
        rtol=0,
    )
    y = mixed.codec.decode(x)
    torch.testing.assert_close(
        mixed.log_likelihood(y.numpy(), **COARSE).value, base.value - math.log(6), atol=0.02, rtol=0
    )
    inner = orn.log_likelihood(plain.denoiser, x, **COARSE)
    assert torch.equal(base.value, inner.value) and torch.equal(base.x_T, inner.x_T)
    gaussian = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    assert float((base.value - gaussian).std()) > 0.1, "the model is a Gaussian: nothing was tested"


def test_the_density_in_the_users_units_has_mass_one():
    """A grid over 6 standard deviations either way, on a codec of two scales: the sum of ``p dx``
    is 1 to 1 %."""
    model = wild(codec=orn.codecs.Codec(torch.tensor([5.0, -1.0]), torch.tensor([20.0, 0.1])))
    axis = torch.linspace(-6, 6, 41)
    z = torch.cartesian_prod(axis, axis)
    found = model.log_likelihood(model.codec.decode(z), **COARSE, batch=len(z))
    cell = float((axis[1] - axis[0]) ** 2) * 20 * 0.1
    assert float(found.value.double().exp().sum()) * cell == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    "rule",
    [None, orn.likelihood.trace.Hutchinson(2), orn.likelihood.trace.HutchPlusPlus(2, 1)],
    ids=["exact", "probes", "hutch++"],
)
def test_sample_i_is_the_same_in_any_batch_within_its_error(trained, rule):
    """A trained model, batches of 3 against one of 11, and the first 5 alone: the root mean square
    of the differences is at most twice that of the errors."""
    model, x = trained, points(11, 5)
    whole, small = (model.log_likelihood(x, 1e-3, rule, batch=size) for size in (256, 3))
    few = model.log_likelihood(x[:5], 1e-3, rule)
    for other in (small, few):
        n = len(other.value)
        apart = (whole.value[:n] - other.value).square().mean()
        assert float(apart) <= 4 * float(
            whole.error[:n].square().mean() + other.error.square().mean()
        )
    if not isinstance(
        rule, orn.likelihood.trace.HutchPlusPlus
    ):  # whose basis turns along the path, and is met at other points
        torch.testing.assert_close(whole.stderr, small.stderr, atol=5e-3, rtol=0.03)
    assert whole.prior_gap == pytest.approx(small.prior_gap) and isinstance(small.evaluations, int)
    assert small.x_T.shape == (11, 5) and small.passes >= small.evaluations - 2


def test_each_batch_is_reported_and_the_largest_cost_is_given():
    model, x, seen = wild(), points(7), []
    whole = model.log_likelihood(x, **COARSE, batch=3, callback=seen.append)
    each = [model.log_likelihood(part, **COARSE) for part in x.split(3)]
    assert seen == [3, 6, 7]
    assert whole.evaluations == max(p.evaluations for p in each) and whole.passes == max(
        p.passes for p in each
    )


def test_labels_for_all_and_for_each_give_the_conditional_density():
    """Against `log_likelihood` of the conditioned denoiser, class by class, in the order of the
    samples; without a label, that of the unconditional model."""
    model, x = wild(labels=3, sde=orn.VP(0.1, 3.0), strength=0.15), points(8)
    label = [2, 0, 2, 1, 0, 0, 2, 1]
    found = model.log_likelihood(x, **COARSE, label=label)
    for k in range(3):
        mine = torch.tensor(label) == k
        expected = orn.log_likelihood(
            model.denoiser.given(label=k), x[mine], **COARSE, seed=Noise(0).fold(k)
        )
        assert torch.equal(found.value[mine], expected.value) and torch.equal(
            found.x_T[mine], expected.x_T
        )
        torch.testing.assert_close(
            model.log_likelihood(x, **COARSE, label=k).value[mine],
            expected.value,
            atol=0.03,
            rtol=0,
        )
    gaps = [
        orn.log_likelihood(model.denoiser.given(label=k), x[:1], **COARSE).prior_gap for k in label
    ]
    assert (
        found.prior_gap == pytest.approx(float(np.mean(gaps)), rel=1e-6)
        and len({round(g, 9) for g in gaps}) == 3
    )
    free = model.log_likelihood(x, **COARSE)
    assert torch.equal(free.value, orn.log_likelihood(model.denoiser, x, **COARSE).value)
    assert float((free.value - found.value).abs().max()) > 0.05, (
        "the label changes nothing: nothing was tested"
    )


def test_probes_of_a_sample_do_not_depend_on_later_samples_of_other_classes():
    model, x = wild(5, labels=2), points(6, 5)
    rule = orn.likelihood.trace.Hutchinson(2)
    mixed = model.log_likelihood(x, **COARSE, divergence=rule, label=[0, 1, 0, 1, 1, 0])
    zeros = model.log_likelihood(x[[0, 2, 5]], **COARSE, divergence=rule, label=0)
    assert torch.equal(mixed.value[[0, 2, 5]], zeros.value) and float(zeros.stderr.min()) > 0


@pytest.mark.parametrize(
    ("layout", "event"),
    [("add_channel", (4, 4)), ("channels_last", (2, 2, 3)), ("same", (3, 2, 2))],
)
def test_layouts_and_levels_are_the_users(layout, event):
    """Quantised pictures: the density of the encoded values, less the codec's volume."""
    inner = (1 if layout == "add_channel" else 3, *((4, 4) if layout == "add_channel" else (2, 2)))
    codec = orn.codecs.Codec(
        torch.tensor(4.0), torch.tensor(4.0), orn.codecs.Levels(0.0, 1.0, 9), layout
    )
    model = wild(event=inner, codec=codec)
    x = orn.Noise(1).normal((3, *event)).mul(2).add(4).round().clamp(0, 8)
    rule = orn.likelihood.trace.Hutchinson(4)
    found = model.log_likelihood(x, **COARSE, divergence=rule)
    expected = orn.log_likelihood(model.denoiser, codec.encode(x), **COARSE, divergence=rule)
    torch.testing.assert_close(found.value, expected.value - math.prod(event) * math.log(4))
    assert found.x_T.shape == (3, *inner)


def test_a_sampler_learned_from_a_gaussian_density_knows_its_log_density():
    """A correlated Gaussian far from the origin: each of 50 points within 0.3 nats of the truth."""
    mean, factor = torch.tensor([3.0, -2.0]), torch.tensor([[2.0, 0.0], [1.0, 0.5]])
    truth = torch.distributions.MultivariateNormal(mean, scale_tril=factor)
    r = orn.sample_density(lambda x: truth.log_prob(x) + 1.3, dim=2, n=500)
    x = mean + points(50, seed=7) @ factor.T
    found = r.sampler.log_likelihood(x)
    assert float((found.value - truth.log_prob(x)).abs().max()) < 0.3
    assert float(found.error.max()) < 1e-2 and found.prior_gap < 1e-6


def test_what_elbo_accepts_as_a_seed_continues_a_batch():
    """A shifted source gives the later samples what the whole batch gives them."""
    model, x = wild(), points(6)
    whole, rest = model.elbo(x, 5, seed=3), model.elbo(x[4:], 5, seed=Noise(3).shift(4))
    torch.testing.assert_close(whole.value[4:], rest.value)


def test_bad_arguments_are_refused():
    model = wild(labels=2)
    x = points(4)
    for call, words in [
        (lambda: model.log_likelihood(x[:, :1]), r"\(4, 1\).*\(n, 2\)"),
        (lambda: model.elbo(x[:, :1], 5), r"\(4, 1\).*\(n, 2\)"),
        (lambda: model.log_likelihood(x[:0]), "n > 0"),
        (lambda: model.log_likelihood(x, label=[0, 1]), "2 classes for 4"),
        (lambda: model.log_likelihood(x, label=2), "0 to 1"),
        (lambda: model.log_likelihood(x, batch=0), "batch=0"),
        (lambda: model.log_likelihood(x, tol=0.0), "tol=0"),
        (lambda: model.log_likelihood(x / 0), "not finite"),
    ]:
        with pytest.raises(OrnsteinError, match=words):
            call()


@pytest.mark.parametrize("tol", [1e-3, 1e-4])
def test_errors_of_a_rough_network_are_told(trained, tol):
    """Samples, midpoints of samples, and noise: at least 95 % of 120 points within three of the
    discretisation reported, of the value at a tolerance of 1e-6; and what is reported is no more
    than 20 times the error."""
    denoiser = trained.denoiser.to(torch.float64)
    x = orn.sample(denoiser, 40, steps=20, seed=1).double()
    x = torch.cat(
        [x, (x + x.roll(1, 0)) / 2, denoiser.data_std * orn.Noise(4).normal(x.shape, torch.float64)]
    )
    truth, found = (orn.log_likelihood(denoiser, x, t, refine=t == tol) for t in (1e-6, tol))
    trained.denoiser.float()
    off = (found.value - truth.value).abs()
    assert float((off <= 3 * found.discretisation).double().mean()) >= 0.95
    assert float(found.discretisation.mean()) < 20 * float(off.mean())


def test_probability_of_levels_is_that_of_the_pieces_and_may_be_compared_with_the_bound():
    """Value by hand from `Noised` and the flow at its time; of data that are not quantised there is
    none."""
    codec = orn.codecs.Codec(torch.zeros(1), torch.full((1,), 2.0), orn.codecs.Levels(-4.0, 1.0, 9))
    model, x = wild(codec=codec), points(6).mul(2).round().clamp(-4, 4)
    found = model.discrete_log_prob(x, 1e-2, seed=3)
    t = orn.dequantise.Noised.time(model.denoiser.sde, model.levels)
    x_t, log_q = orn.dequantise.Noised(model.denoiser, t).draw(
        x / 2, model.levels, Noise(3).fold(0, 0)
    )
    density = orn.log_likelihood(model.denoiser, x_t, 1e-2, None, Noise(3).fold(0, 1), at=t)
    torch.testing.assert_close(found.value, density.value.double() - log_q)
    assert torch.equal(found.error, density.error.double()) and float(found.value.max()) < 0
    with pytest.raises(OrnsteinError, match="not quantised"):
        wild().discrete_log_prob(x)
