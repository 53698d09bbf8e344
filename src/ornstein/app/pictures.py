"""Pictures of samples and of their likelihoods, as PNG files."""

__all__ = ["grid", "save_grid", "save_likelihood"]

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def grid(samples: Tensor, columns: int, scale: int = 1, gap: int = 1) -> np.ndarray:
    """Return samples side by side as one picture, from black to white over the range of the data.

    Args:
        samples: ``(n, h, w)``, ``(n, c, h, w)`` or ``(n, h, w, c)`` with 1 or 3 channels.
        columns: pictures per row.
        scale: pixels per value.
        gap: pixels between pictures, before scaling.

    Returns:
        Bytes ``(height, width)`` or ``(height, width, 3)``.
    """
    x = samples.detach().float()
    if x.ndim == 3:
        x = x[..., None]
    elif x.shape[1] in (1, 3) and x.shape[-1] not in (1, 3):
        x = x.movedim(1, -1)
    low, high = float(x.min()), float(x.max())
    x = ((x - low) / max(high - low, 1e-12) * 255).round()
    n, h, w, c = x.shape
    rows = math.ceil(n / columns)
    sheet = torch.full((rows * (h + gap) + gap, columns * (w + gap) + gap, c), 128.0)
    for i in range(n):
        top = (i // columns) * (h + gap) + gap
        left = (i % columns) * (w + gap) + gap
        sheet[top : top + h, left : left + w] = x[i]
    pixels = sheet.to(torch.uint8).numpy().repeat(scale, 0).repeat(scale, 1)
    return pixels[..., 0] if c == 1 else pixels


def save_grid(path: Path, samples: Tensor, columns: int = 8, scale: int | None = None) -> Path:
    """Save samples side by side as a PNG file, small ones enlarged, and return its path."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid(samples, columns, scale or max(1, 64 // samples.shape[-1]))).save(path)
    return path


def save_likelihood(
    path: Path, log_prob: Tensor, bound: Tensor, noise: float, quantised: bool
) -> Path:
    """Save histograms of log-densities and bounds as a PNG file, and return its path.

    They are in one plot with common bins, or side by side where the units differ.

    Args:
        path: of the file.
        log_prob: ``(n,)``, log-densities in nats per dimension.
        bound: ``(n,)``, their bounds in the same unit; for quantised data the costs in bits per
            dimension.
        noise: mean standard error of one bound, in its unit; it widens their histogram.
        quantised: which of the two.

    Raises:
        ImportError: without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9 if quantised else 6, 3.4), layout="constrained")
    axes = figure.subplots(1, 2 if quantised else 1, squeeze=False)[0]
    both = torch.cat([log_prob, bound]).double().numpy()
    shared = None if quantised else np.histogram_bin_edges(both, min(60, max(10, len(both) // 20)))
    rows = [
        (axes[0], log_prob, "tab:blue", "log p: density under the flow"),
        (
            axes[-1],
            bound,
            "tab:orange",
            f"{'cost of the discrete values' if quantised else 'lower bound'}, each +- {noise:.2g}",
        ),
    ]
    for ax, values, colour, name in rows:
        x = values.double().numpy()
        bins = min(60, max(10, len(x) // 10)) if shared is None else shared
        ax.hist(x, bins, color=colour, alpha=0.55, label=name)
        ax.axvline(x.mean(), color=colour, linewidth=1.5, label=f"its mean, {x.mean():.3f}")
        ax.set_ylabel("samples")
    axes[0].set_xlabel("nats per dimension")
    axes[-1].set_xlabel(
        "bits per dimension, less is likelier" if quantised else "nats per dimension"
    )
    for ax in axes:
        ax.set_ylim(top=1.35 * ax.get_ylim()[1])  # room for the legend
        ax.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
