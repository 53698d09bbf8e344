"""The trainer: a function of its seed, resumable to the bit, averaged by its formula."""

import json
import math
import signal

import pytest
import torch
from training_problems import SIX, fresh_model, objective, stop_after, weights

import ornstein as orn
from ornstein.errors import DataError, OrnsteinError
from ornstein.inference import checkpoint

pytestmark = pytest.mark.usefixtures("seeded_weights")


def test_same_seed_same_weights():
    first, second = (orn.train(fresh_model(), objective(), SIX) for _ in range(2))
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(orn.train(fresh_model(), objective(1), SIX)))


@pytest.mark.parametrize("step", [1, 3, 5])
def test_interrupted_and_resumed_equals_uninterrupted_to_the_bit(tmp_path, step):
    whole = orn.train(fresh_model(), objective(), SIX)
    stop_after(step, tmp_path)
    resumed = orn.train(
        fresh_model(seed=5), objective(), SIX, tmp_path
    )  # other first weights: all comes from the folder
    assert torch.equal(weights(resumed), weights(whole))
    assert torch.equal(orn.load(tmp_path).sample(5, 4), resumed.sample(5, 4))


def test_after_an_interruption_the_folder_loads_and_holds_the_average(tmp_path):
    handler = signal.getsignal(signal.SIGINT)  # ignored where the tests run in a shell's background
    stop_after(3, tmp_path)
    three = orn.train(fresh_model(), objective(), SIX, callback=lambda now: None)
    loaded = orn.load(tmp_path)
    tensors, metadata = checkpoint.load_tensors(tmp_path / "training.safetensors")
    assert metadata["step"] == "3"
    average = torch.cat(
        [tensors[f"average.{name}"].flatten() for name, _ in loaded.denoiser.net.named_parameters()]
    )
    assert torch.equal(weights(loaded), average) and not torch.equal(
        weights(loaded), weights(three)
    )
    assert (
        loaded.names == ("a", "b")
        and loaded.info == {"made": "here"}
        and loaded.denoiser.sde == orn.Cosine()
    )
    assert signal.getsignal(signal.SIGINT) is handler


def test_average_follows_its_formula():
    """``a_k+1 = b a_k + (1 - b) w_k+1`` with ``b = min(ema, (k + 1) / (k + 10))``, from the weights
    after each step."""
    model, seen = fresh_model(), []
    start = weights(model).detach().clone()
    result = orn.train(
        model, objective(), SIX, callback=lambda now: seen.append(weights(model).detach().clone())
    )
    average = start.double()
    for k, w in enumerate(seen):
        b = min(0.9, (k + 1) / (k + 10))
        average = b * average + (1 - b) * w.double()
    torch.testing.assert_close(weights(result).double(), average, rtol=1e-5, atol=1e-7)


def test_first_step_is_adamw_with_clipping_and_warm_up():
    """After one step: ``w (1 - lr decay) - lr g / (|g| + eps)``, lr half the rate at step 1 of 2
    warm-up steps (Adam's first step does not see the clipping)."""
    model = fresh_model()
    before = weights(model).detach().clone()
    losses, _ = objective()(model.denoiser, 0)
    gradients = torch.autograd.grad(losses.mean(), list(model.denoiser.net.parameters()))
    g = torch.cat([v.flatten() for v in gradients])
    g = g * min(1.0, 1e-3 / float(g.norm()))
    once = Once(model)
    orn.train(
        model,
        objective(),
        orn.TrainingConfig(steps=2, rate=1e-2, warmup=2, clip=1e-3, decay=0.1),
        callback=once,
    )
    lr = 1e-2 / 2
    expected = before * (1 - lr * 0.1) - lr * g / (g.abs() + 1e-8)
    torch.testing.assert_close(once.first, expected, rtol=1e-4, atol=1e-6)


class Once:
    """Keeps the weights after the first step."""

    def __init__(self, model):
        self.model, self.first = model, None

    def __call__(self, now):
        if now.step == 1:
            self.first = weights(self.model).detach().clone()


def test_training_learns_the_posterior_mean_of_gaussian_data():
    """150 steps bring the loss on N(0, 0.3^2) data, denoised as if it were N(0, 1), from its closed
    form near the Bayes risk."""
    x = 0.3 * orn.Noise(0).normal((2000, 2))
    goal = orn.DenoisingObjective(
        x, batch=128, times=orn.noise_levels.UniformLogSNR(-2, 2), weight=orn.training.unit_weight
    )
    result = orn.train(
        fresh_model(), goal, orn.TrainingConfig(steps=150, rate=1e-2, warmup=10, ema=0.9)
    )
    losses, log_snr = goal(result.denoiser, 5000)
    bayes = 1 / (1 / 0.09 + log_snr.exp())
    naive_gain = (log_snr.exp() / (1 + log_snr.exp())).double()
    naive = (1 - naive_gain) ** 2 * 0.09 + naive_gain**2 / log_snr.exp()
    excess = float((losses.double() - bayes).mean())
    assert float((naive - bayes).mean()) > 0.1 and excess < 0.02


def test_log_holds_the_loss_by_noise_level(tmp_path):
    """Means of the losses of all steps in bins of the log-SNR, recomputed by hand from the
    objective."""
    model, goal, losses, levels = fresh_model(), objective(), [], []

    def recording(denoiser, k):
        loss, log_snr = goal(denoiser, k)
        losses.append(loss.detach().double())
        levels.append(log_snr)
        return loss, log_snr

    orn.train(model, recording, SIX, tmp_path)
    (row,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    loss, level = torch.cat(losses), torch.cat(levels)
    assert row["step"] == 6 and row["loss"] == pytest.approx(float(loss.mean()), rel=1e-5)
    edges = [-math.inf, *row["log_snr_edges"], math.inf]
    assert len(row["loss_by_log_snr"]) == len(edges) - 1
    for value, low, high in zip(row["loss_by_log_snr"], edges, edges[1:], strict=False):
        inside = (level > low) & (level <= high)
        assert value == pytest.approx(
            float(loss[inside].mean()) if bool(inside.any()) else 0.0, abs=2e-6
        )


def test_a_loss_that_is_not_finite_stops_the_training():
    def broken(denoiser, k):
        loss, log_snr = objective()(denoiser, k)
        return loss * (math.nan if k == 2 else 1), log_snr

    with pytest.raises(DataError, match=r"nan at step 2.*rate"):
        orn.train(fresh_model(), broken, SIX)


def test_bad_training_arguments_are_refused():
    for wrong in ({"steps": 0}, {"rate": -1.0}, {"ema": 1.0}):
        with pytest.raises(OrnsteinError, match=next(iter(wrong))):
            orn.TrainingConfig(**wrong)
