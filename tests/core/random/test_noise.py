"""Random numbers belong to samples: the same for every batch, independent between sources, and of
the right law.

Statistical tolerances are k = 5 standard errors; the seeds are in the tests.
"""

import itertools
import math

import pytest
import torch

from ornstein.core.random.noise import Noise

K = 5
EVENTS = [(), (1,), (2,), (3, 5), (3, 64, 64), (400_000,)]
F64 = torch.float64


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_a_sample_is_the_same_in_every_batch(event, dtype, kind):
    """Prefix stability, bit by bit, also below the 16 numbers from which torch draws in vectors."""
    large = getattr(Noise(7), kind)((9, *event), dtype)
    for b in (1, 2, 7):
        assert torch.equal(getattr(Noise(7), kind)((b, *event), dtype), large[:b])
    assert torch.equal(getattr(Noise(7, start=4), kind)((3, *event), dtype), large[4:7])


@pytest.mark.parametrize("event", [(2,), (5000,)])
@pytest.mark.parametrize("start", [0, 1, 63, 64, 4095, 4096, 10_001])
def test_a_sample_is_the_same_from_every_start(event, start):
    n = 64
    stream = Noise(3, start=start).stream((n, *event), torch.float32)
    first, second = stream.normal(), stream.normal()
    for i in (0, 1, n - 1):
        alone = Noise(3).shift(start + i).stream((1, *event), torch.float32)
        assert torch.equal(alone.normal()[0], first[i])
        assert torch.equal(alone.normal()[0], second[i])


def test_batches_put_together_are_one_batch():
    whole = Noise(5).normal((10_000, 2))
    parts = [Noise(5, start=start).normal((2_500, 2)) for start in range(0, 10_000, 2_500)]
    assert torch.equal(torch.cat(parts), whole)


def test_successive_draws_of_a_stream_differ_and_are_uncorrelated():
    stream = Noise(11).stream((50_000, 1), F64)
    a, b = stream.normal(), stream.normal()
    assert abs(float((a * b).mean())) < K / math.sqrt(50_000)


def test_the_same_source_gives_the_same_numbers_twice():
    noise = Noise(2)
    assert torch.equal(noise.normal((4, 3)), noise.normal((4, 3)))


class TestIndependence:
    n = 40_000

    def correlation(self, a: Noise, b: Noise) -> float:
        x, y = a.normal((self.n,), F64), b.normal((self.n,), F64)
        return float((x * y).mean()) * math.sqrt(self.n)  # in standard errors

    def test_folded_sources(self):
        root = Noise(123)
        sources = [
            root,
            root.fold(0),
            root.fold(1),
            root.fold(2),
            root.fold(0, 1),
            root.fold(1, 0),
            root.fold(1, 1),
        ]
        for a, b in itertools.combinations(sources, 2):
            assert abs(self.correlation(a, b)) < K

    def test_seeds(self):
        for a, b in itertools.combinations([Noise(s) for s in (0, 1, 2, -1, 2**32, 2**63)], 2):
            assert abs(self.correlation(a, b)) < K

    def test_blocks_of_one_source(self):
        x = Noise(9).normal((6 * 4096,), F64).reshape(6, 4096)
        for a, b in itertools.combinations(x, 2):
            assert abs(float((a * b).mean())) * math.sqrt(4096) < K

    def test_blocks_of_neighbouring_seeds_and_keys_have_different_generators(self):
        sources = [Noise(seed).fold(key) for seed in range(20) for key in range(10)]
        seeds = {
            source.generator(block).initial_seed() for source in sources for block in range(10)
        }
        assert len(seeds) >= 2000 - 5  # 2000 draws from 2^32 collide with probability 5e-4

    @pytest.mark.parametrize("draws, blocks", [(1, 100_000), (100_000, 1), (300, 300), (3000, 30)])
    def test_generators_of_one_source_never_collide(self, draws, blocks):
        seeds = {
            Noise(4).generator(k, draw=n).initial_seed()
            for n in range(draws)
            for k in range(blocks)
        }
        assert len(seeds) == draws * blocks


def test_folding_twice_is_folding_once_with_both_keys():
    assert Noise(1).fold(2, 3) == Noise(1).fold(2).fold(3)
    assert Noise(1).fold(2, 3) != Noise(1).fold(3, 2)


def test_shifting_and_folding_commute():
    assert Noise(1).fold(2).shift(3) == Noise(1).shift(3).fold(2)


@pytest.mark.parametrize("event", [(), (10,)])
def test_normal_numbers_have_the_moments_of_the_normal_law(event):
    z = Noise(17).normal((100_000 // max(1, math.prod(event)), *event), F64).flatten()
    n = len(z)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - moment) < K * math.sqrt(variance / n), power


def test_uniform_numbers_have_the_moments_of_the_uniform_law():
    u = Noise(17).uniform((100_000,), F64)
    assert u.min() >= 0 and u.max() < 1
    for power in (1, 2, 3):
        moment = 1 / (power + 1)
        variance = 1 / (2 * power + 1) - moment**2
        assert abs(float((u**power).mean()) - moment) < K * math.sqrt(variance / 100_000), power


def test_increments_have_the_variance_of_the_interval():
    t, s = torch.tensor(0.9, dtype=F64), torch.tensor(0.4, dtype=F64)
    stream = Noise(19).stream((100_000,), F64)
    dw = stream.increment(t, s)
    assert abs(float(dw.square().mean()) / 0.5 - 1) < K * math.sqrt(2 / 100_000)


def test_increments_take_one_interval_per_sample():
    t, s = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.0, 0.75, 1.0])
    dw = Noise(0).stream((3, 4), torch.float32).increment(t, s)
    z = Noise(0).normal((3, 4))
    assert torch.allclose(dw, z * torch.tensor([1.0, 0.5, 0.0])[:, None])


def test_nothing_is_empty_whatever_the_number_of_samples():
    """Events without elements take no numbers, also over many blocks."""
    assert Noise(0).normal((100_000, 0)).shape == (100_000, 0)


def test_an_empty_batch_is_empty():
    assert Noise(0).normal((0, 3)).shape == (0, 3)


def test_the_global_generator_is_not_touched():
    before = torch.get_rng_state()
    Noise(0).normal((100, 3))
    assert torch.equal(torch.get_rng_state(), before)
