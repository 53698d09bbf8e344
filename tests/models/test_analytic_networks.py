"""Networks on laws that are known: untrained they are the exact posteriors, with their standard
deviations."""

import pytest
import torch

import ornstein as orn
from ornstein.models.analytic_networks import MixtureNetwork, ProductNetwork

pytestmark = pytest.mark.usefixtures("seeded_weights")

DOUBLE = torch.float64


def parts():
    """Three Gaussians with different axes."""
    axes = torch.linalg.qr(orn.Noise(0).normal((3, 2, 2), DOUBLE)).Q
    means = torch.tensor([[-1.5, 0.3], [0.9, -0.4], [0.2, 1.1]], dtype=DOUBLE)
    variances = torch.tensor([[0.2, 0.05], [0.3, 1.4], [0.01, 0.1]], dtype=DOUBLE)
    return torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE), means, variances, axes


TIMES = [1e-4, 0.03, 0.3, 0.7, 1.0]


def conditioned(parts, x, t):
    """Mean and standard deviation of x_0 by responsibilities and Gaussian conditioning written out,
    ``(b, d)`` each."""
    alpha, sigma, d = orn.VP().alpha(t), orn.VP().sigma(t), x.shape[1]
    joint, means, variances = [], [], []
    for w, m, v, u in zip(*parts, strict=True):
        cov = u @ torch.diag(v) @ u.mT
        law = torch.distributions.MultivariateNormal(
            alpha * m, alpha**2 * cov + sigma**2 * torch.eye(d, dtype=DOUBLE)
        )
        gain = torch.linalg.solve(law.covariance_matrix, alpha * cov)
        joint.append(w.log() + law.log_prob(x))
        means.append(m + (x - alpha * m) @ gain)
        variances.append((cov - alpha * cov @ gain).diagonal().expand_as(x))
    p, means, variances = (
        torch.stack(joint).softmax(0)[:, :, None],
        torch.stack(means),
        torch.stack(variances),
    )
    mean = (p * means).sum(0)
    return mean, (p * (variances + (means - mean).square())).sum(0).sqrt()


@pytest.mark.parametrize("time", TIMES)
def test_untrained_it_is_the_posterior_of_the_mixture(time):
    """Relative 1e-8, at both ends of time too, however many rows there are and with a time of
    each."""
    t = torch.tensor(time, dtype=DOUBLE)
    denoiser = orn.Denoiser(
        MixtureNetwork(2, 3, 8, 1, parts()).double(), orn.VP(), orn.parametrisations.edm, 1.0, (2,)
    )
    x = 1.5 * orn.Noise(1).normal((40, 2), DOUBLE)
    mean, std = conditioned(parts(), x, t)
    found = denoiser(x, t)
    torch.testing.assert_close(found.mean, mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found.std, std, rtol=1e-6, atol=1e-9)
    many = denoiser(x.repeat(2000, 1), t.expand(80000))
    torch.testing.assert_close(many.mean[-40:], mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(many.std[-40:], std, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("time", TIMES)
def test_untrained_it_is_the_posterior_of_the_product(time):
    """Each coordinate against the mixture on the line that it is; one component too."""
    t, x = torch.tensor(time, dtype=DOUBLE), 1.5 * orn.Noise(1).normal((40, 2), DOUBLE)
    weights = torch.tensor([[0.5, 0.2], [0.3, 0.2], [0.2, 0.6]], dtype=DOUBLE)
    _, means, variances, _ = parts()
    for k in (1, 3):
        w = weights[:k] / weights[:k].sum(0)
        net = ProductNetwork(2, k, product=(w, means[:k], variances[:k])).double()
        found = orn.Denoiser(net, orn.VP(), orn.parametrisations.edm, 1.0, (2,))(x, t)
        for j in range(2):
            line = (
                w[:, j],
                means[:k, j : j + 1],
                variances[:k, j : j + 1],
                torch.ones(k, 1, 1, dtype=DOUBLE),
            )
            mean, std = conditioned(line, x[:, j : j + 1], t)
            torch.testing.assert_close(found.mean[:, j : j + 1], mean, rtol=1e-8, atol=1e-8)
            torch.testing.assert_close(found.std[:, j : j + 1], std, rtol=1e-6, atol=1e-9)


def test_a_known_law_needs_few_steps_where_its_standard_deviation_is_known():
    """Two modes: with 16 steps of the exact standard deviation more than nine in ten paths are
    effective, log Z within 4 errors; with that of Gaussian data, fewer."""
    law = orn.targets.GaussianMixture(
        torch.tensor([[-1.0], [1.0]]), torch.full((2, 1), 0.15), torch.tensor([0.2, 0.8])
    )
    product = (law.weights[:, None], law.means, law.stds.square())

    class Plain(ProductNetwork):
        moments = None

        def forward(self, x, c, cond=None):
            return ProductNetwork.moments(self, x, c, cond)[0]

    kept = []
    for net in (ProductNetwork(1, 2, product=product), Plain(1, 2, product=product)):
        denoiser = orn.Denoiser(net, orn.VP(), orn.parametrisations.edm, 1.0, (1,))
        with torch.no_grad():
            z = orn.log_z(
                orn.log_weights(denoiser, law.log_prob, orn.VP().times(16), 4000, orn.Noise(0))
            )
        kept.append(z.ess / 4000)
        assert abs(z.value) < 4 * z.stderr
    assert kept[0] > 0.9 > kept[1]


@pytest.mark.parametrize("width", [0, 8])
@pytest.mark.parametrize("kind", [MixtureNetwork, ProductNetwork])
def test_it_comes_back_from_its_folder(kind, width, tmp_path):
    mixture = tuple(part.float() for part in parts())
    net = kind(
        2,
        3,
        width,
        1,
        mixture if kind is MixtureNetwork else (mixture[0][:, None].expand(3, 2), *mixture[1:3]),
    )
    model = orn.DiffusionModel(
        orn.Denoiser(net, orn.VP(), orn.parametrisations.edm, 1.0, (2,)),
        orn.codecs.Codec(torch.zeros(2), torch.eye(2)),
    )
    assert torch.equal(orn.load(model.save(tmp_path)).sample(6, 5), model.sample(6, 5))


def test_a_standard_normal_asks_nothing_of_the_network():
    x = orn.Noise(0).normal((7, 3))
    for net in (MixtureNetwork(3, 1, 8, 1), ProductNetwork(3), ProductNetwork(3, 1, 8, 1)):
        for c in (-3.0, 0.0, 3.0):
            output, ratio = net.moments(x, torch.tensor([c]))
            assert float(output.detach().abs().max()) == 0.0
            torch.testing.assert_close(ratio, torch.ones(7, 3))


@pytest.mark.parametrize("net", [MixtureNetwork(2, 3, 0, 3, parts()), ProductNetwork(2)])
def test_without_a_network_it_still_has_a_dtype_and_takes_no_rows(net):
    """Samples come in the dtype of what it computes with; no rows give no rows; a network on top
    takes that dtype, and training needs one."""
    denoiser = orn.Denoiser(net.double(), orn.VP(), orn.parametrisations.edm, 1.0, (2,))
    assert orn.sample(denoiser, 4, 5).dtype == DOUBLE
    assert denoiser(torch.zeros(0, 2, dtype=DOUBLE), torch.tensor(0.5)).mean.shape == (0, 2)
    model = orn.DiffusionModel(denoiser, orn.codecs.Codec(torch.zeros(2), torch.eye(2)))
    with pytest.raises(orn.errors.OrnsteinError, match=r"nothing to train.*width"):
        orn.train(model, lambda denoiser, k: (torch.zeros(1), None), orn.TrainingConfig(steps=1))
    net.add_network(8, 1)
    assert {p.dtype for p in net.parameters()} == {DOUBLE}
    assert orn.sample(denoiser, 4, 5).shape == (4, 2)
