"""`fit` in one call: reproducible, resumable, and silent about the state of others."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.errors import CheckpointError, DataError
from ornstein.training.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("seeded_weights")

X = np.random.default_rng(0).normal(size=(60, 2)) * [1.0, 0.2] + [3.0, -1.0]
NET = {
    "plain": lambda event, labels: orn.MLP(event, width=16, depth=1, labels=labels),
    "dropout": lambda event, labels: orn.MLP(event, width=16, depth=1, labels=labels, dropout=0.5),
}


def small(kind="plain", **changes):
    return replace(
        RECIPES["points"],
        net=NET[kind],
        training=orn.TrainingConfig(steps=6, warmup=2),
        batch=16,
        held_out=0.5,
        **changes,
    )


def fit(kind="plain", data=X, **options):
    return orn.fit(data, small(kind, **options.pop("changes", {})), progress=False, **options)


def weights(model):
    return torch.cat([p.flatten() for p in model.denoiser.net.parameters()])


def interrupt_at(step):
    return lambda now: os.kill(os.getpid(), signal.SIGINT) if now.step == step else None


@pytest.mark.parametrize("kind", NET)
def test_same_seed_same_model_whatever_the_global_generator(kind):
    """Dropout included: everything random comes from the seed."""
    first = fit(kind)
    torch.manual_seed(1234)
    second = fit(kind)
    assert torch.equal(weights(first), weights(second)) and torch.equal(
        first.sample(4, 5), second.sample(4, 5)
    )
    assert not torch.equal(weights(first), weights(fit(kind, seed=1)))


@pytest.mark.parametrize("kind", NET)
def test_fit_leaves_the_global_generator_alone(kind):
    before = torch.get_rng_state()
    fit(kind)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", NET)
def test_interrupted_and_resumed_equals_uninterrupted_to_the_bit(tmp_path, kind):
    whole = fit(kind)
    with pytest.raises(KeyboardInterrupt):
        orn.fit(X, small(kind), tmp_path, progress=interrupt_at(3))
    assert orn.load(tmp_path).sample(3, 4).shape == (3, 2)
    torch.manual_seed(77)
    resumed = fit(kind, out=tmp_path)
    assert torch.equal(weights(resumed), weights(whole)) and torch.equal(
        resumed.denoiser.std_table, whole.denoiser.std_table
    )
    assert torch.equal(orn.load(tmp_path).sample(3, 4), whole.sample(3, 4))


def test_a_folder_with_another_run_is_refused(tmp_path):
    fit(out=tmp_path)
    with pytest.raises(CheckpointError, match="other data"):
        fit(out=tmp_path, data=X + 1)
    with pytest.raises(CheckpointError, match="net="):
        fit(out=tmp_path, data=(X, np.arange(60) % 3))
    with pytest.raises(CheckpointError, match="param="):
        fit(out=tmp_path, changes={"param": orn.parametrisations.v})
    assert orn.load(tmp_path).sample(2, 3).shape == (2, 2)


def test_a_folder_with_a_run_of_another_seed_or_other_labels_is_refused(tmp_path):
    """They are other trainings: to go on with them silently would give a model that neither call
    asked for."""
    fit(out=tmp_path / "a")
    with pytest.raises(CheckpointError, match="seed"):
        fit(out=tmp_path / "a", seed=1)
    fit(out=tmp_path / "b", data=(X, np.arange(60) % 2))
    with pytest.raises(CheckpointError):
        fit(out=tmp_path / "b", data=(X, (np.arange(60) + 1) % 2))


def test_a_process_with_a_tuple_of_numbers_can_be_resumed(tmp_path):
    """JSON turns tuples into lists: that is no other process."""
    changes = {"sde": orn.DiscreteVP(tuple(np.linspace(0.01, 0.5, 10)))}
    first = fit(out=tmp_path, changes=changes)
    again = fit(out=tmp_path, changes=changes)
    assert torch.equal(weights(first), weights(again))


def test_a_finished_run_is_given_back_unchanged(tmp_path):
    first, again = fit(out=tmp_path), fit(out=tmp_path)
    assert torch.equal(weights(first), weights(again)) and torch.equal(
        first.denoiser.std_table, again.denoiser.std_table
    )


def test_labels_make_a_conditional_model():
    labels = np.arange(60) % 3
    model = fit(data=(X, labels))
    assert model.labels == 3 and model.sample(5, 4, label=2).shape == (5, 2)
    assert torch.equal(weights(fit(labels=labels)), weights(model))


def test_samples_come_in_the_layout_and_the_values_of_the_data():
    """Channel-last pictures of whole numbers: the same shape, whole numbers within the data's
    range."""
    pixels = np.random.default_rng(1).integers(0, 5, (20, 4, 4, 3))
    chosen = replace(
        RECIPES["digits"],
        net=NET["plain"],
        training=orn.TrainingConfig(steps=2),
        batch=8,
        held_out=0.5,
    )
    x = orn.fit(pixels, chosen, progress=False).sample(3, 4)
    assert x.shape == (3, 4, 4, 3) and set(x.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_learns_a_gaussian_in_the_users_units():
    """200 steps on 1000 points: mean and standard deviation of 2000 samples within 0.15 standard
    deviations of the data's."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1000, 2)) * [30.0, 0.01] + [-500.0, 2.0]
    recipe = replace(
        small(), training=orn.TrainingConfig(steps=200, rate=5e-3, warmup=10, ema=0.95), batch=128
    )
    y = orn.fit(x, recipe, progress=False).sample(2000, 20).numpy()
    assert np.all(np.abs(y.mean(0) - x.mean(0)) < 0.15 * x.std(0)) and np.all(
        np.abs(y.std(0) / x.std(0) - 1) < 0.15
    )


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match="at least"):
        fit(data=X[:1])
