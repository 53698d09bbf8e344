"""Pictures of samples, as PNG files."""

__all__ = ["grid", "save_grid"]

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def grid(samples: Tensor, columns: int, scale: int = 1, gap: int = 1) -> np.ndarray:
    """Samples side by side, as bytes ``(height, width)`` or ``(height, width, 3)``; the data's range becomes black to white.

    Args:
        samples: ``(n, h, w)``, ``(n, c, h, w)`` or ``(n, h, w, c)`` with 1 or 3 channels.
        columns: pictures per row.
        scale: pixels per value.
        gap: pixels between pictures, before scaling.
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
        top, left = (i // columns) * (h + gap) + gap, (i % columns) * (w + gap) + gap
        sheet[top : top + h, left : left + w] = x[i]
    pixels = sheet.to(torch.uint8).numpy().repeat(scale, 0).repeat(scale, 1)
    return pixels[..., 0] if c == 1 else pixels


def save_grid(path: Path, samples: Tensor, columns: int = 8, scale: int | None = None) -> Path:
    """`grid` as a PNG file; small pictures are enlarged."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid(samples, columns, scale or max(1, 64 // samples.shape[-1]))).save(path)
    return path
