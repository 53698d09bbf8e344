"""``./run demo``: both jobs end to end on real input, with the numbers that say how good the result
is.

From samples: a class-conditional model of the 8 x 8 digits that come with scikit-learn, judged on
digits it has never seen. From a
density: the posterior of the eight schools, whose log Z is known. Every distance is shown beside
its floor, the same distance between two sets of real digits.
"""

__all__ = ["main"]

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.core.timesteps.spacing import Karras
from ornstein.density.result import DensityResult
from ornstein.density.sample_density import sample_density
from ornstein.errors import OrnsteinError
from ornstein.inference.diffusion_model import DiffusionModel
from ornstein.inference.manifest import Manifest
from ornstein.reference import metrics
from ornstein.reference.targets import EightSchools
from ornstein.training.datasets.read import bundled
from ornstein.training.fit import fit

HELD_OUT = 360
STEPS = 25
SPACING = Karras(
    sigma_min=0.02
)  # in the model's units, where grey levels are 1/8 apart: no step is spent on less
BOUND_SPACING = Karras(
    sigma_min=1 / 24
)  # a third of that distance: from there the decoder tells the levels apart


class Digits(NamedTuple):
    """Digits to train on and digits to judge with, ``(n, 8, 8)`` with values 0 to 16, and their
    classes."""

    x: np.ndarray
    labels: np.ndarray
    x_held: np.ndarray
    labels_held: np.ndarray


def split() -> Digits:
    """The bundled digits, a fifth of each class held out."""
    from sklearn.model_selection import train_test_split

    x, labels = bundled("digits")
    x, x_held, labels, labels_held = train_test_split(
        x, labels, test_size=HELD_OUT, random_state=0, stratify=labels
    )
    return Digits(x, labels, x_held, labels_held)


@dataclass(frozen=True)
class Judgement:
    """How samples compare with held-out digits; each ``floor`` is training digits in the samples'
    place."""

    c2st: float
    c2st_floor: float
    sliced_w2: float
    sliced_w2_floor: float
    classifier: float
    agreement: float
    nearest: float
    nearest_floor: float
    copies: int
    bits_per_dim: float
    bits_per_dim_stderr: float


def judge(model: DiffusionModel, samples: Tensor, digits: Digits) -> Judgement:
    """Everything that can be said about the samples without looking at them."""
    from sklearn.svm import SVC

    held, train = torch.tensor(digits.x_held).float(), torch.tensor(digits.x).float()
    real = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:HELD_OUT]]
    rest = train[~(train[:, None] == real[None]).flatten(2).all(2).any(1)]
    classifier = SVC(gamma=0.001, C=10).fit(digits.x.reshape(-1, 64), digits.labels)
    bits, bits_stderr = model.elbo(
        held, steps=50, label=digits.labels_held, spacing=BOUND_SPACING
    ).bits_per_dim(64)
    nearest = metrics.nearest_distance(samples, train)
    return Judgement(
        metrics.c2st(samples, held).value,
        metrics.c2st(real, held).value,
        metrics.sliced_w2(samples, held).value,
        metrics.sliced_w2(real, held).value,
        float(classifier.score(digits.x_held.reshape(-1, 64), digits.labels_held)),
        float((classifier.predict(samples.reshape(-1, 64).numpy()) == digits.labels_held).mean()),
        float(nearest.median()),
        float(metrics.nearest_distance(held, rest).median()),
        int((nearest == 0).sum()),
        bits,
        bits_stderr,
    )


def from_samples(out: Path) -> dict[str, Any]:
    """Train on the digits, draw the picture, print the judgement; returns it."""
    digits = split()
    model = fit((digits.x, digits.labels), recipe="digits", out=out / "digits")
    clock = time.time()
    samples = model.sample(HELD_OUT, steps=STEPS, label=digits.labels_held, seed=0, spacing=SPACING)
    seconds = time.time() - clock
    _draw_digits(out / "digits.png", digits, samples)
    found = judge(model, samples, digits)
    _print_judgement(found, seconds)
    return vars(found) | {"sampling_seconds": seconds}


def _print_judgement(found: Judgement, seconds: float) -> None:
    """The judgement as a table: samples, real digits in their place, goal."""
    rows = (
        ("two-sample test, accuracy", found.c2st, found.c2st_floor, "at most 0.60; 0.5 is perfect"),
        (
            "sliced Wasserstein-2, grey levels",
            found.sliced_w2,
            found.sliced_w2_floor,
            "at most 1.5 x real",
        ),
        (
            "recognised as the class asked for",
            found.agreement,
            found.classifier,
            "at least 0.95; classifier 0.97",
        ),
        (
            "median distance to nearest training digit",
            found.nearest,
            found.nearest_floor,
            "about equal: not memorised",
        ),
        ("exact copies of training digits", found.copies, 0, ""),
    )
    print(
        f"\n{HELD_OUT} samples in {STEPS} steps ({seconds:.1f} s), judged against {HELD_OUT}"
        " held-out digits\n"
    )
    print(f"  {'':<42} {'samples':>8} {'real':>8}   goal")
    for name, value, floor, goal in rows:
        print(f"  {name:<42} {value:8.3f} {floor:8.3f}   {goal}")
    print(
        f"  held-out bits per dimension, at most       {found.bits_per_dim:8.3f} +-"
        f" {found.bits_per_dim_stderr:.3f}\n"
    )


def from_density(out: Path) -> dict[str, Any]:
    """Sample the eight schools, print parameters and log Z beside the truth; returns them."""
    target = EightSchools()
    result = sample_density(target.log_prob, target.dim, seed=0)
    parameters = target.parameters(result.samples)
    mean, std, exact_mean, exact_std = (
        parameters.mean(0),
        parameters.std(0),
        target.exact_mean,
        target.exact_std,
    )
    print(
        "eight schools (Rubin 1981)        mean   exact       sd   exact    error of the mean / sd"
    )
    for i, name in enumerate(target.names):
        error = float((mean[i] - exact_mean[i]) / exact_std[i])
        print(
            f"  {name:<24} {mean[i]:11.3f} {exact_mean[i]:7.3f} {std[i]:8.3f} {exact_std[i]:7.3f}  "
            f"  {error:+.3f}"
        )
    low, high = result.log_z_interval
    print(
        f"  log Z = {result.log_z:.4f}, 95 % interval [{low:.4f}, {high:.4f}], exact"
        f" {target.log_z:.6f}\n  effective samples {result.ess:.0f}, Pareto k {result.k_hat:.2f},"
        f" {result.evaluations} density evaluations, {result.seconds:.1f} s"
    )
    for warning in result.warnings:
        print(f"  warning ({warning.code}): {warning.message}")
    result.sampler.save(out / "eight-schools")
    np.save(out / "eight-schools" / "samples.npy", parameters.numpy())
    _draw_schools(out / "eight-schools.png", target, parameters)
    return _density_numbers(result) | {"exact_log_z": target.log_z}


def _density_numbers(result: DensityResult) -> dict[str, Any]:
    keys = "log_z", "log_z_stderr", "log_z_interval", "ess", "k_hat", "evaluations", "seconds"
    return {key: getattr(result, key) for key in keys}


def _draw_digits(path: Path, digits: Digits, samples: Tensor) -> None:
    """Six real and six generated digits of each class, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.1), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, title, x in zip(
        axes, ("held-out digits", "generated digits"), (digits.x_held, samples.numpy()), strict=True
    ):
        columns = [
            np.concatenate([np.pad(d, 1) for d in x[digits.labels_held == k][:6]])
            for k in range(10)
        ]
        ax.imshow(np.concatenate(columns, axis=1), cmap="gray_r", vmin=0, vmax=16)
        ax.set_title(title)
        ax.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _draw_schools(path: Path, target: EightSchools, parameters: Tensor) -> None:
    """Posterior means and standard deviations, sampled and exact."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    ax, y = figure.subplots(), np.arange(len(target.names))
    ax.errorbar(parameters.mean(0), y - 0.12, xerr=parameters.std(0), fmt="o", label="sampled")
    ax.errorbar(target.exact_mean, y + 0.12, xerr=target.exact_std, fmt="x", label="exact")
    ax.set_yticks(y, target.names)
    ax.invert_yaxis()
    ax.set_xlabel("posterior mean and standard deviation")
    ax.set_title("eight schools")
    ax.legend()
    figure.savefig(path, dpi=120)


def main(out: Path = Path("runs/demo")) -> None:
    """Run both jobs and say where the files lie."""
    manifest, clock = Manifest("demo", {"out": str(out)}), time.time()
    try:
        print(
            f"1. From samples: train on {1797 - HELD_OUT} of scikit-learn's digits"
            f" ({out / 'digits'})",
            flush=True,
        )
        samples = from_samples(out)
        print("2. From a density: sample a posterior and estimate its evidence\n", flush=True)
        density = from_density(out)
    except OrnsteinError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            f"\nstopped; what was trained is in {out} and the next run goes on from there",
            file=sys.stderr,
        )
        sys.exit(130)
    results = {"digits": samples, "eight_schools": density}
    path = manifest.write(out, json.loads(json.dumps(results)))
    print(f"\nDone in {time.time() - clock:.0f} s. The files:")
    rows = {
        out / "digits.png": "generated digits beside real ones",
        out / "eight-schools.png": "the posterior beside the exact one",
        out / "digits": f"the model: ornstein sample {out / 'digits'} --label 3",
        out / "eight-schools": (
            f"the sampler and samples.npy: ornstein sample {out / 'eight-schools'}"
        ),
        path: "every number above, with options and versions",
    }
    for name, what in rows.items():
        print(f"  {name!s:<32} {what}")


if __name__ == "__main__":
    main(*[Path(argument) for argument in sys.argv[1:2]])
