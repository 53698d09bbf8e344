"""The codec: an affine map with its inverse and its determinant, in every layout; the levels of quantised data."""

import math

import pytest
import torch

import ornstein as orn

pytestmark = pytest.mark.usefixtures("seeded_weights")

DOUBLE = torch.float64


def codecs():
    matrix = torch.tensor([[2.0, 0.5, 0.0], [-0.3, 1.0, 0.7], [0.1, 0.0, 0.5]], dtype=DOUBLE)
    number = (torch.tensor(1.5, dtype=DOUBLE), torch.tensor(0.25, dtype=DOUBLE))
    vector = torch.tensor([1.0, -2.0, 3.0], dtype=DOUBLE)
    return {
        "per element": (orn.Codec(vector, vector.abs()), (3,)),
        "matrix": (orn.Codec(vector, matrix), (3,)),
        "same": (orn.Codec(*number), (2, 4, 5)),
        "add_channel": (orn.Codec(*number, layout="add_channel"), (4, 5)),
        "channels_last": (orn.Codec(*number, layout="channels_last"), (4, 5, 3)),
        "per channel": (orn.Codec(vector[:, None, None], vector.abs()[:, None, None]), (3, 2, 2)),
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
    jacobian = torch.autograd.functional.jacobian(lambda v: codec.decode(v.reshape(1, *shape)).flatten(), z)
    assert codec.log_det(shape) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), abs=1e-10)


def test_matrix_factor_whitens():
    """``z = A^-1 (x - m)`` with the Cholesky factor of the covariance has the identity as covariance."""
    a = torch.tensor([[1.0, 0.0], [3.0, 0.5]], dtype=DOUBLE)
    x = orn.Noise(0).normal((500, 2), DOUBLE) @ a.mT + 4
    codec = orn.Codec(x.mean(0), torch.linalg.cholesky(torch.cov(x.mT)))
    torch.testing.assert_close(torch.cov(codec.encode(x).mT), torch.eye(2, dtype=DOUBLE))


def test_layouts_put_the_channel_first():
    x = orn.Noise(0).normal((2, 4, 5, 3))
    one, zero = torch.ones(()), torch.zeros(())
    assert torch.equal(orn.Codec(zero, one, layout="channels_last").encode(x), x.permute(0, 3, 1, 2))
    assert torch.equal(orn.Codec(zero, one, layout="add_channel").encode(x), x[:, None])


def test_decode_rounds_to_the_nearest_level_and_stays_within():
    levels = orn.Levels(low=-2.0, step=0.5, count=7)  # -2 ... 1
    x = torch.tensor([-9.0, -2.2, -1.76, -1.74, 0.24, 0.26, 0.99, 44.0])
    expected = torch.tensor([-2.0, -2.0, -2.0, -1.5, 0.0, 0.5, 1.0, 1.0])
    torch.testing.assert_close(levels.nearest(x), expected)
    codec = orn.Codec(torch.tensor(3.0), torch.tensor(2.0), levels)
    z = (x[:, None] - 3) / 2
    torch.testing.assert_close(codec.decode(z)[:, 0], expected)
    torch.testing.assert_close(codec.decode(z, quantise=False)[:, 0], x)
