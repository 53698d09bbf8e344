"""Parallel tempering: the right law at every level, log Z, modes in their proportions."""

import math

import pytest
import torch
from benchmarks.peers.replica_exchange import parallel_tempering

import ornstein as orn
from ornstein.density.proposals.mixture import Mixture
from ornstein.errors import OrnsteinError

DOUBLE = torch.float64


def round_law(d, std):
    return Mixture(
        torch.ones(1, dtype=DOUBLE),
        torch.zeros(1, d, dtype=DOUBLE),
        std * torch.eye(d, dtype=DOUBLE)[None],
    )


def test_modes_of_unequal_weight_and_log_z():
    """Two modes 8 standard deviations apart, weights 0.8 and 0.2, Z = e^2.5: share within 4
    standard errors over chains, log Z in 4 standard errors and 0.05."""
    pair = torch.tensor([[-4.0, 0.0], [4.0, 0.0]])
    target = orn.targets.GaussianMixture(pair, torch.ones(2, 2), torch.tensor([0.8, 0.2]))
    levels = [1.0, 0.6, 0.3, 0.1, 0.0]
    run = parallel_tempering(
        lambda x: target.log_prob(x) + 2.5,
        round_law(2, 4.0),
        levels,
        250,
        24,
        orn.Noise(0),
        warmup=80,
    )
    share = (run.chains.x[:, :, 0] < 0).double().mean(0)
    assert abs(float(share.mean()) - 0.8) < 4 * float(share.std()) / math.sqrt(24)
    assert abs(float(share.mean()) - 0.8) < 0.08
    assert abs(run.log_z.value - 2.5) < 4 * run.log_z.stderr < 0.4
    assert float(run.chains.r_hat.max()) < 1.1
    assert all(0.2 < rate < 1 for rate in run.exchanged)


def test_levels_must_descend_from_one_to_zero():
    for levels in ([1.0], [0.9, 0.0], [1.0, 0.2, 0.5, 0.0]):
        with pytest.raises(OrnsteinError, match="levels must descend"):
            parallel_tempering(
                lambda x: -x.square().sum(1), round_law(1, 1.0), levels, 10, 2, orn.Noise(0)
            )
