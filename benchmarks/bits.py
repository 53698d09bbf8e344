"""Bits per dimension of held-out digits: by the bound and by the flow, trained for pictures and trained for the likelihood.

    python -m benchmarks.bits              # two trainings of some minutes, then the likelihoods

The digits are those of ``./run demo``, without labels. The first model is the recipe's; the second differs in its loss alone, which is
the bound with levels drawn from a `Schedule` that was fitted to the first. The bound is on the probability of the discrete picture; the
flow's density is turned into one by dequantisation, uniform and in a cell's middle with a width chosen on training data.
"""

__all__ = ["Options", "main"]

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import Tensor

import ornstein as orn
from ornstein.app.demo import BOUND_SPACING, split
from ornstein.app.recipes import RECIPES

LOG_SNR = (-8.0, 8.0)  # levels that the likelihood is trained on


@dataclass(frozen=True)
class Options:
    """What to run."""

    steps: int | None = None
    """Of each training; by default the recipe's."""
    samples: int = 64
    """Held-out digits whose flow is solved; all of them are bounded."""
    draws: int = 2
    """Of dequantisation."""
    tol: float = 1e-3
    """Of the flow, nats per dimension and step."""
    probes: int = 16
    models: Path = Path("runs/bits")
    out: Path = Path("benchmarks/results/bits")


def bound(model: orn.DiffusionModel, x: Tensor) -> tuple[float, float]:
    """Bits per dimension by the discrete bound, 50 steps, with the standard error over digits and noise."""
    return model.elbo(x, steps=50, spacing=BOUND_SPACING).bits_per_dim(64)


def flow(model: orn.DiffusionModel, x: Tensor, how: orn.Uniform | orn.Truncated, options: Options) -> tuple[float, float, float]:
    """The same by the flow, and the root mean square error that it reports, in bits per dimension."""
    z, levels = model.codec.encode(x), model.levels

    def density(y: Tensor, noise: orn.Noise) -> tuple[Tensor, Tensor]:
        found = orn.log_likelihood(model.denoiser, y, options.tol, orn.divergence.Hutchinson(options.probes), noise)
        return found.value, found.error

    found = orn.log_probability(density, z, levels, how, options.draws)
    return *found.bits_per_dim(64), float(found.error.square().mean().sqrt()) / (64 * math.log(2))


def width(model: orn.DiffusionModel, x: Tensor) -> orn.Truncated:
    """The width with the best bound on training digits, by the bound in continuous time."""

    def density(y: Tensor, noise: orn.Noise) -> tuple[Tensor, Tensor]:
        found = orn.continuous_elbo(model.denoiser, y, 16, noise, 2)
        return found.value, found.stderr

    return orn.Truncated.fit(density, model.codec.encode(x), model.levels)


def main(options: Options) -> None:
    """Train, measure, print and write ``table.md``."""
    torch.set_num_threads(1)
    digits = split()
    train, held = torch.tensor(digits.x).float(), torch.tensor(digits.x_held).float()
    plain = orn.fit(train, recipe="digits", steps=options.steps, out=options.models / "plain")
    schedule = orn.Schedule.fit(plain.denoiser, plain.codec.encode(train), *LOG_SNR)
    recipe = replace(RECIPES["digits"], times=schedule, weight=schedule.weight)
    likely = orn.fit(train, recipe=recipe, steps=options.steps, out=options.models / "likelihood")
    lines = ["| trained for | bound | flow, uniform | error | flow, truncated | error | width |", "|" + "---|" * 7]
    for name, model in (("pictures", plain), ("likelihood", likely)):
        cells = ["{:.4f} +- {:.4f}".format(*bound(model, held))]
        few, narrow = held[: options.samples], width(model, train[:128])
        for how in (orn.Uniform(), narrow):
            bits, stderr, error = flow(model, few, how, options)
            cells += [f"{bits:.4f} +- {stderr:.4f}", f"{error:.4f}"]
        cells.append(f"{narrow.width}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    gain = (plain.elbo(held, steps=50, spacing=BOUND_SPACING).value - likely.elbo(held, steps=50, spacing=BOUND_SPACING).value).double()
    gain = gain / (64 * math.log(2))
    stderr = float(gain.std()) / math.sqrt(len(gain))
    lines.append(f"\nBits per dimension; the flow on {options.samples} digits, the bound on {len(held)}.")
    lines.append(f"Training for the likelihood takes {float(-gain.mean()):.4f} +- {stderr:.4f} bits off the bound (paired).")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[-2:]))


if __name__ == "__main__":
    main(tyro.cli(Options))
