"""The demo ``./run demo``: sampling from data and from a density, judged by numbers.

From samples: a class-conditional model of the 8 x 8 digits that come with scikit-learn, judged on
digits that it was not trained on. From a density: the posterior of the eight schools, whose log Z
is computed by quadrature too. Every distance is shown with its floor, the same distance between two
sets of real digits.
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
import tyro
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

HELD_OUT = 360  # digits to judge with, a fifth of all
STEPS = 25  # steps of the sampler
SPACING = Karras(sigma_min=0.02)  # grey levels are 1/8 apart: no step below that
BOUND_SPACING = Karras(sigma_min=1 / 24)  # a third of 1/8: the decoder separates levels there


class Digits(NamedTuple):
    """Digits for training and held-out digits for judging, with the classes of both.

    Args:
        x, x_test: ``(n, 8, 8)``, with values from 0 to 16.
        labels, labels_test: ``(n,)``, from 0 to 9.
    """

    x: np.ndarray
    labels: np.ndarray
    x_test: np.ndarray
    labels_test: np.ndarray


def split() -> Digits:
    """Return the bundled digits with a fifth of each class held out."""
    from sklearn.model_selection import train_test_split

    x, labels = bundled("digits")
    x, x_test, labels, labels_test = train_test_split(
        x, labels, test_size=HELD_OUT, random_state=0, stratify=labels
    )
    return Digits(x, labels, x_test, labels_test)


@dataclass(frozen=True)
class Judgement:
    """How generated samples compare with held-out digits, each distance with its floor.

    A ``floor`` is the same number with training digits in place of the samples.
    """

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
    """Measure the quality of samples by distances and classifiers, without looking at pictures."""
    from sklearn.svm import SVC

    test = torch.tensor(digits.x_test).float()
    train = torch.tensor(digits.x).float()
    real = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:HELD_OUT]]
    others = train[~(train[:, None] == real[None]).flatten(2).all(2).any(1)]
    classifier = SVC(gamma=0.001, C=10).fit(digits.x.reshape(-1, 64), digits.labels)
    predicted = classifier.predict(samples.reshape(-1, 64).numpy())
    bound = model.elbo(test, steps=50, label=digits.labels_test, spacing=BOUND_SPACING)
    bits, bits_stderr = bound.bits_per_dim(64)
    nearest = metrics.nearest_distance(samples, train)
    return Judgement(
        c2st=metrics.c2st(samples, test).value,
        c2st_floor=metrics.c2st(real, test).value,
        sliced_w2=metrics.sliced_w2(samples, test).value,
        sliced_w2_floor=metrics.sliced_w2(real, test).value,
        classifier=float(classifier.score(digits.x_test.reshape(-1, 64), digits.labels_test)),
        agreement=float((predicted == digits.labels_test).mean()),
        nearest=float(nearest.median()),
        nearest_floor=float(metrics.nearest_distance(test, others).median()),
        copies=int((nearest == 0).sum()),
        bits_per_dim=bits,
        bits_per_dim_stderr=bits_stderr,
    )


def from_samples(out: Path) -> dict[str, Any]:
    """Train a model on digits, judge its samples, draw a picture, and return the judgement."""
    digits = split()
    model = fit((digits.x, digits.labels), recipe="digits", out=out / "digits")
    began = time.monotonic()
    samples = model.sample(HELD_OUT, steps=STEPS, label=digits.labels_test, seed=0, spacing=SPACING)
    seconds = time.monotonic() - began
    _draw_digits(out / "digits.png", digits, samples)
    judgement = judge(model, samples, digits)
    _print_judgement(judgement, seconds)
    return vars(judgement) | {"sampling_seconds": seconds}


def _print_judgement(j: Judgement, seconds: float) -> None:
    """Print the judgement as a table: samples, real digits in their place, goal."""
    rows = (
        ("two-sample test, accuracy", j.c2st, j.c2st_floor, "at most 0.60; 0.5 is perfect"),
        ("sliced Wasserstein-2, grey levels", j.sliced_w2, j.sliced_w2_floor, "at most 1.5 x real"),
        (
            "recognised as the class asked for",
            j.agreement,
            j.classifier,
            "at least 0.95; classifier 0.97",
        ),
        (
            "median distance to nearest training digit",
            j.nearest,
            j.nearest_floor,
            "about equal: not memorised",
        ),
        ("exact copies of training digits", j.copies, 0, ""),
    )
    print(
        f"\n{HELD_OUT} samples in {STEPS} steps ({seconds:.1f} s), judged against {HELD_OUT}"
        " held-out digits\n"
    )
    print(f"  {'':<42} {'samples':>8} {'real':>8}   goal")
    for name, value, floor, goal in rows:
        print(f"  {name:<42} {value:8.3f} {floor:8.3f}   {goal}")
    print(
        f"  held-out bits per dimension, at most       {j.bits_per_dim:8.3f} +-"
        f" {j.bits_per_dim_stderr:.3f}\n"
    )


def from_density(out: Path) -> dict[str, Any]:
    """Sample the eight schools posterior, and compare parameters and log Z with exact values."""
    target = EightSchools()
    result = sample_density(target.log_prob, target.dim, seed=0)
    parameters = target.parameters(result.samples)
    mean, std = parameters.mean(0), parameters.std(0)
    exact_mean, exact_std = target.exact_mean, target.exact_std
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
    """Return the numbers of the result of `sample_density` as JSON takes them."""
    keys = "log_z", "log_z_stderr", "log_z_interval", "ess", "k_hat", "evaluations", "seconds"
    return {key: getattr(result, key) for key in keys}


def _draw_digits(path: Path, digits: Digits, samples: Tensor) -> None:
    """Draw six real and six generated digits of each class side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.1), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, title, x in zip(
        axes, ("held-out digits", "generated digits"), (digits.x_test, samples.numpy()), strict=True
    ):
        columns = [
            np.concatenate([np.pad(d, 1) for d in x[digits.labels_test == k][:6]])
            for k in range(10)
        ]
        ax.imshow(np.concatenate(columns, axis=1), cmap="gray_r", vmin=0, vmax=16)
        ax.set_title(title)
        ax.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _draw_schools(path: Path, target: EightSchools, parameters: Tensor) -> None:
    """Draw the posterior means and standard deviations, sampled and exact."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    ax = figure.subplots()
    y = np.arange(len(target.names))
    ax.errorbar(parameters.mean(0), y - 0.12, xerr=parameters.std(0), fmt="o", label="sampled")
    ax.errorbar(target.exact_mean, y + 0.12, xerr=target.exact_std, fmt="x", label="exact")
    ax.set_yticks(y, target.names)
    ax.invert_yaxis()
    ax.set_xlabel("posterior mean and standard deviation")
    ax.set_title("eight schools")
    ax.legend()
    figure.savefig(path, dpi=120)


def main(out: tyro.conf.Positional[Path] = Path("runs/demo")) -> None:
    """Run both jobs, from samples and from a density, and print where the files are.

    Args:
        out: folder of the results.
    """
    manifest = Manifest("demo", {"out": str(out)})
    began = time.monotonic()
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
            f"\nstopped; what was trained is in {out} and the next run resumes from there",
            file=sys.stderr,
        )
        sys.exit(130)
    results = {"digits": samples, "eight_schools": density}
    path = manifest.write(out, json.loads(json.dumps(results)))
    print(f"\nDone in {time.monotonic() - began:.0f} s. The files:")
    rows = {
        out / "digits.png": "generated and real digits",
        out / "eight-schools.png": "the sampled and the exact posterior",
        out / "digits": f"the model: ornstein sample {out / 'digits'} --label 3",
        out / "eight-schools": (
            f"the sampler and samples.npy: ornstein sample {out / 'eight-schools'}"
        ),
        path: "every number above, with options and versions",
    }
    for name, what in rows.items():
        print(f"  {name!s:<32} {what}")


if __name__ == "__main__":
    tyro.cli(main, prog="./run demo")
