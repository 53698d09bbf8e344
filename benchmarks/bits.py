"""Bits per dimension of held-out digits: by the bound and by the flow, for three losses.

    python -m benchmarks.bits              # three trainings of some minutes, then the likelihoods

The digits are those of ``./run demo``, without labels. The models differ in their loss alone: the
plain error of the noise at uniform times ("simple", Ho et al. 2020, eq. 14), the recipe's, and the
bound itself with levels drawn from a `LearnedNoiseLevels` fitted to the second model. The bound is
on the probability of the discrete picture, of the chain; the flow's is of the same, from noise of a
third of the distance of levels on (`Noised`), where the bound's chain ends too; beside it what
uniform dequantisation gives.
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
from ornstein.training.recipes import RECIPES

LOG_SNR = (
    -8.0,
    2 * math.log(24.0),
)  # levels that the likelihood is trained on: up to where the decoder takes over
DIM = 64


@dataclass(frozen=True)
class Options:
    """What to run."""

    steps: int | None = None
    """Of each training; by default the recipe's."""
    samples: int = 60
    """Held-out digits whose flow is solved; all of them are bounded."""
    tol: float = 1e-3
    """Of the flow, nats per dimension and step."""
    probes: int | None = None
    """Of the divergence; by default it is exact."""
    models: Path = Path("runs/bits")
    out: Path = Path("benchmarks/results/bits")


def models(train: Tensor, options: Options) -> dict[str, orn.DiffusionModel]:
    """The three, trained or loaded."""
    recipe = RECIPES["digits"]

    def fitted(name: str, changed: orn.Recipe) -> orn.DiffusionModel:
        folder = options.models / name
        if (folder / "model.safetensors").exists():
            return orn.load(folder)
        return orn.fit(train, recipe=changed, steps=options.steps, out=folder)

    plain = fitted("recipe", recipe)
    schedule = orn.training.LearnedNoiseLevels.fit(
        plain.denoiser, plain.codec.encode(train), *LOG_SNR
    )
    return {
        "simple": fitted(
            "simple",
            replace(recipe, times=orn.noise_levels.UniformTime(), weight=orn.training.snr_weight),
        ),
        "recipe": plain,
        "likelihood": fitted("likelihood", replace(recipe, times=schedule, weight=schedule.weight)),
    }


def bound(model: orn.DiffusionModel, x: Tensor) -> Tensor:
    """Bits per dimension of each digit by the discrete bound, 50 steps."""
    return -model.elbo(x, steps=50, spacing=BOUND_SPACING).value.double() / (DIM * math.log(2))


def uniform(
    model: orn.DiffusionModel, x: Tensor, options: Options
) -> orn.dequantise.DiscreteLogProb:
    """The flow's probability with uniform dequantisation."""

    def density(y: Tensor, noise: orn.Noise) -> tuple[Tensor, Tensor]:
        found = orn.log_likelihood(model.denoiser, y, options.tol, rule(options), noise)
        return found.value, found.error

    return orn.dequantise.discrete_log_prob(
        density, model.codec.encode(x), model.levels, orn.dequantise.Uniform(), draws=1
    )


def rule(options: Options) -> orn.likelihood.trace.Divergence:
    """How the divergence is computed."""
    return (
        orn.likelihood.trace.Exact()
        if options.probes is None
        else orn.likelihood.trace.Hutchinson(options.probes)
    )


def mean(bits: Tensor) -> str:
    """Of samples, with its standard error."""
    return f"{float(bits.mean()):.4f} +- {float(bits.std()) / math.sqrt(len(bits)):.4f}"


def row(name: str, model: orn.DiffusionModel, held: Tensor, options: Options) -> str:
    """One line of the table."""
    few, unit = held[: options.samples], DIM * math.log(2)
    ours, flat, bounds = (
        model.discrete_log_prob(few, options.tol, rule(options)),
        uniform(model, few, options),
        bound(model, few),
    )
    flow, plain = (-found.value.double() / unit for found in (ours, flat))
    reported = float(ours.error.double().square().mean().sqrt()) / unit
    cells = [
        mean(bound(model, held)),
        mean(bounds),
        mean(flow),
        f"{reported:.4f}",
        mean(bounds - flow),
        mean(plain),
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def main(options: Options) -> None:
    """Train, measure, print and write ``table.md``."""
    torch.set_num_threads(1)
    digits = split()
    train, held = torch.tensor(digits.x).float(), torch.tensor(digits.x_test).float()
    found = models(train, options)
    all_, few = f"{len(held)} digits", f"{options.samples}"
    head = (
        f"trained on | bound, {all_} | bound, {few} | flow, {few} | its error | bound - flow |"
        " flow, uniform"
    )
    lines = [f"| {head} |", "|" + "---|" * 7]
    for name, model in found.items():
        lines.append(row(name, model, held, options))
        print(lines[-1], flush=True)
    lines.append(
        "\nBits per dimension of held-out digits, means with standard errors over digits;"
        " differences are of pairs."
    )
    likely = bound(found["likelihood"], held)
    for name in ("simple", "recipe"):
        lines.append(
            f"Training for the likelihood takes {mean(bound(found[name], held) - likely)} bits off"
            f" the bound of {name!r}."
        )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[-3:]))


if __name__ == "__main__":
    main(tyro.cli(Options))
