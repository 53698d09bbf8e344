"""A small model, its objective and interrupted trainings, for the tests of the trainer."""

import os
import signal

import pytest
import torch

import ornstein as orn


def fresh_model(width=16, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = orn.MLP(2, width=width, depth=1)
    denoiser = orn.Denoiser(net, orn.Cosine(), orn.parametrisations.edm, 1.0, (2,))
    return orn.DiffusionModel(
        denoiser, orn.codecs.Codec(torch.zeros(2), torch.ones(2)), ("a", "b"), {"made": "here"}
    )


def objective(seed=0):
    x = orn.Noise(8).normal((64, 2)) * torch.tensor([1.0, 0.3])
    return orn.DenoisingObjective(x, batch=16, seed=seed)


SIX = orn.TrainingConfig(steps=6, rate=1e-2, warmup=2, ema=0.9)


def weights(model):
    return torch.cat([p.flatten() for p in model.denoiser.net.parameters()])


def interrupt_at(step):
    """A report that presses Ctrl-C after a step."""
    return lambda now: os.kill(os.getpid(), signal.SIGINT) if now.step == step else None


def stop_after(step, out, training=SIX):
    with pytest.raises(KeyboardInterrupt):
        orn.train(fresh_model(), objective(), training, out, interrupt_at(step))
