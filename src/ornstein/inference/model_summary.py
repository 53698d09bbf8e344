"""The summary of a `DiffusionModel` on one screen, as text and as a table for notebooks."""

__all__ = ["html", "rows", "text"]

from collections.abc import Mapping
from html import escape
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ornstein.models.codecs.affine import Codec
from ornstein.models.denoiser import Denoiser

_MAX_VALUE = 88  # characters of a value: with its name, a line of a terminal


@runtime_checkable
class Summarised(Protocol):
    """The parts of a model that its summary tells."""

    denoiser: Denoiser
    codec: Codec
    names: tuple[str, ...]
    info: dict[str, Any]
    tuned: dict[int, Any]
    bound: Mapping[str, Tensor]


def rows(model: Summarised) -> list[tuple[str, str]]:
    """Return what a model is as pairs of a name and a value."""
    denoiser, net = model.denoiser, model.denoiser.net
    levels = model.codec.levels
    weights = sum(p.numel() for p in net.parameters())
    data = f"events of shape {denoiser.event_shape}, standard deviation {denoiser.data_std:.4g}"
    if levels is not None:
        data += f", {levels.count} levels"
    found = {
        "data": data,
        "columns": ", ".join(model.names),
        "process": repr(denoiser.sde),
        "network": f"{type(net).__name__} with {weights:,} weights, predicts"
        f" {denoiser.param.name}, on {denoiser.device}",
        "conditions": ", ".join(f"{k}: {v!r}" for k, v in denoiser.conditions.items()),
        "given": ", ".join(f"{k}={v.tolist()}" for k, v in model.bound.items()),
        "tuned": ", ".join(f"{steps} steps" for steps in sorted(model.tuned)),
        "training": ", ".join(f"{k}={v}" for k, v in model.info.items() if v not in ("", None)),
    }
    return [(name, _short(value)) for name, value in found.items() if value]


def _short(value: str) -> str:
    """A value cut to a line."""
    return value if len(value) <= _MAX_VALUE else value[: _MAX_VALUE - 3] + "..."


def text(model: Summarised) -> str:
    """Return the summary of a model as lines of text."""
    lines = [f"  {name:<11}{value}" for name, value in rows(model)]
    return "\n".join([f"{type(model).__name__}", *lines])


def html(model: Summarised) -> str:
    """Return the summary of a model as a table in HTML."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in rows(model)
    )
    return f"<table><caption>{type(model).__name__}</caption>{cells}</table>"
