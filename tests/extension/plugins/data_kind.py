"""A kind of data of a user: positive numbers in a text file of its own, learned on a log scale."""

from pathlib import Path

import torch

import ornstein as orn


@orn.register
class LogCodec(orn.codecs.Codec):
    """``z = (log x - m) / s``."""

    def encode(self, x):
        return super().encode(x.log())

    def decode(self, z, quantise=True):
        return super().decode(z).exp()

    def log_det(self, z):
        return super().log_det(z) + super().decode(z).sum(1)


class PositiveSamples(orn.training.Samples):
    """Samples whose map to the model's space is logarithmic."""

    def codec(self, dims):
        logs = self.x.log()
        return LogCodec(logs.mean(0), logs.std(0))


@orn.register
class Positive(orn.training.DataKind):
    """Files that end in ``.positive``: numbers, one row per line."""

    def accepts(self, data):
        return isinstance(data, str | Path) and str(data).endswith(".positive")

    def read(self, data):
        lines = Path(data).read_text().splitlines()
        return PositiveSamples(torch.tensor([[float(v) for v in line.split()] for line in lines]))
