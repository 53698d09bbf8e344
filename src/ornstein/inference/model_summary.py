"""The summary of a `DiffusionModel` on one screen, as text and as an HTML table."""

__all__ = ["html", "rows", "text"]

from html import escape

from ornstein.inference.bound_model import BoundModel

_MAX_VALUE = 88  # characters of a value: with its name, a line of a terminal


def rows(model: BoundModel) -> list[tuple[str, str]]:
    """Return the summary of a model as pairs of a name and a value."""
    denoiser, net = model.denoiser, model.denoiser.net
    levels = model.codec.levels
    weights = sum(p.numel() for p in net.parameters())
    data = f"events of shape {denoiser.event_shape}, standard deviation {denoiser.data_std:.4g}"
    if levels is not None:
        data += f", {levels.count} levels"
    described = {
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
    return [(name, _short(value)) for name, value in described.items() if value]


def _short(value: str) -> str:
    """Return a value as text, cut to one line."""
    return value if len(value) <= _MAX_VALUE else value[: _MAX_VALUE - 3] + "..."


def text(model: BoundModel) -> str:
    """Return the summary of a model as lines of text."""
    lines = [f"  {name:<11}{value}" for name, value in rows(model)]
    return "\n".join([f"{type(model).__name__}", *lines])


def html(model: BoundModel) -> str:
    """Return the summary of a model as a table in HTML."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in rows(model)
    )
    return f"<table><caption>{type(model).__name__}</caption>{cells}</table>"
