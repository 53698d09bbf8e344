"""The codec: an affine map with its inverse and its determinant, in every layout; the levels of
quantised data."""

import math

import pytest
import torch

import ornstein as orn
from ornstein.models.codecs.triangular import TriangularCodec

pytestmark = pytest.mark.usefixtures("seeded_weights")

DOUBLE = torch.float64


def bend():
    """Coordinates in the order 2, 0, 1, each with a mean and a scale by those before; one that is
    held at 0.8."""
    z = torch.zeros(3, dtype=DOUBLE)
    below = torch.tril(torch.ones(3, 3, dtype=DOUBLE), -1)
    location = torch.cat([z[:, None] + 0.3, 0.5 * below, -0.2 * below], 1)
    log_scale = torch.cat([z[:, None] - 0.1, 0.4 * below], 1)
    limits = torch.tensor([[-9.0, -9.0, -9.0], [0.8, 9.0, 9.0]], dtype=DOUBLE)
    order = torch.tensor([2, 0, 1])
    return TriangularCodec(
        torch.tensor([1.0, 0.0, -2.0], dtype=DOUBLE), z + 0.7, order, location, log_scale, limits
    )


def codecs():
    matrix = torch.tensor([[2.0, 0.5, 0.0], [-0.3, 1.0, 0.7], [0.1, 0.0, 0.5]], dtype=DOUBLE)
    number = (torch.tensor(1.5, dtype=DOUBLE), torch.tensor(0.25, dtype=DOUBLE))
    vector = torch.tensor([1.0, -2.0, 3.0], dtype=DOUBLE)
    return {
        "per element": (orn.codecs.Codec(vector, vector.abs()), (3,)),
        "matrix": (orn.codecs.Codec(vector, matrix), (3,)),
        "bend": (bend(), (3,)),
        "same": (orn.codecs.Codec(*number), (2, 4, 5)),
        "add_channel": (orn.codecs.Codec(*number, layout="add_channel"), (4, 5)),
        "channels_last": (orn.codecs.Codec(*number, layout="channels_last"), (4, 5, 3)),
        "per channel": (
            orn.codecs.Codec(vector[:, None, None], vector.abs()[:, None, None]),
            (3, 2, 2),
        ),
    }


@pytest.mark.parametrize("name", codecs())
def test_encode_and_decode_are_inverse(name):
    codec, event = codecs()[name]
    x = 3 * orn.Noise(0).normal((7, *event), DOUBLE) + 1
    torch.testing.assert_close(codec.decode(codec.encode(x)), x, rtol=1e-12, atol=1e-12)
    z = orn.Noise(1).normal(tuple(codec.encode(x).shape), DOUBLE)
    torch.testing.assert_close(codec.encode(codec.decode(z)), z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", codecs())
def test_log_det_is_that_of_the_jacobian_of_decode(name):
    codec, event = codecs()[name]
    shape = tuple(codec.encode(torch.zeros(1, *event, dtype=DOUBLE)).shape[1:])
    z = torch.zeros(math.prod(shape), dtype=DOUBLE)
    jacobian = torch.autograd.functional.jacobian(
        lambda v: codec.decode(v.reshape(1, *shape)).flatten(), z
    )
    assert float(codec.log_det(z.reshape(1, *shape))) == pytest.approx(
        float(torch.linalg.slogdet(jacobian)[1]), abs=1e-10
    )


def test_matrix_factor_whitens():
    """``z = A^-1 (x - m)`` with the Cholesky factor of the covariance has the identity as
    covariance."""
    a = torch.tensor([[1.0, 0.0], [3.0, 0.5]], dtype=DOUBLE)
    x = orn.Noise(0).normal((500, 2), DOUBLE) @ a.mT + 4
    codec = orn.codecs.Codec(x.mean(0), torch.linalg.cholesky(torch.cov(x.mT)))
    torch.testing.assert_close(torch.cov(codec.encode(x).mT), torch.eye(2, dtype=DOUBLE))


def test_layouts_put_the_channel_first():
    x = orn.Noise(0).normal((2, 4, 5, 3))
    one, zero = torch.ones(()), torch.zeros(())
    assert torch.equal(
        orn.codecs.Codec(zero, one, layout="channels_last").encode(x), x.permute(0, 3, 1, 2)
    )
    assert torch.equal(orn.codecs.Codec(zero, one, layout="add_channel").encode(x), x[:, None])


def test_decode_rounds_to_the_nearest_level_and_stays_within():
    levels = orn.codecs.Levels(low=-2.0, step=0.5, count=7)  # -2 ... 1
    x = torch.tensor([-9.0, -2.2, -1.76, -1.74, 0.24, 0.26, 0.99, 44.0])
    expected = torch.tensor([-2.0, -2.0, -2.0, -1.5, 0.0, 0.5, 1.0, 1.0])
    torch.testing.assert_close(levels.nearest(x), expected)
    codec = orn.codecs.Codec(torch.tensor(3.0), torch.tensor(2.0), levels)
    z = (x[:, None] - 3) / 2
    torch.testing.assert_close(codec.decode(z)[:, 0], expected)
    torch.testing.assert_close(codec.decode(z, quantise=False)[:, 0], x)


def test_a_bend_straightens_a_funnel():
    """``x_1 = 3 z_1, x_2 = e^(x_1 / 2) z_2``: with that scale in the map, z comes back."""
    z = orn.Noise(0).normal((50, 2), DOUBLE)
    x = torch.stack([3 * z[:, 0], (1.5 * z[:, 0]).exp() * z[:, 1]], 1)
    reach = torch.full((2,), torch.inf, dtype=DOUBLE)
    log_scale = torch.tensor([[math.log(3.0), 0.0, 0.0], [0.0, 0.5, 0.0]], dtype=DOUBLE)
    zero, one = torch.zeros(2, dtype=DOUBLE), torch.ones(2, dtype=DOUBLE)
    codec = TriangularCodec(
        zero,
        one,
        torch.arange(2),
        torch.zeros(2, 5, dtype=DOUBLE),
        log_scale,
        torch.stack([-reach, reach]),
    )
    torch.testing.assert_close(codec.encode(x), z)
    torch.testing.assert_close(codec.log_det(z), math.log(3.0) + 1.5 * z[:, 0])


def test_a_model_that_bends_comes_back_from_its_folder(tmp_path):
    codec = bend().float()
    model = orn.DiffusionModel(
        orn.Denoiser(orn.MLP(3, 8, 1), orn.VP(), orn.parametrisations.edm, 1.0, (3,)), codec
    )
    again = orn.load(model.save(tmp_path))
    x = orn.Noise(0).normal((5, 3))
    assert type(again.codec) is TriangularCodec and torch.equal(
        again.sample(4, 5), model.sample(4, 5)
    )
    exact = (
        -codec.encode(x).square().sum(1) / 2
        - 1.5 * math.log(2 * math.pi)
        - codec.log_det(codec.encode(x))
    )
    torch.testing.assert_close(
        again.log_likelihood(x, tol=1e-5).value, exact, rtol=1e-3, atol=1e-3
    )  # untrained: z is N(0, I)
