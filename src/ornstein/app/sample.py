"""The command ``ornstein sample``: draw samples from a saved model, as ``model.sample`` does."""

__all__ = ["SampleCommand"]

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ornstein.app.files import check_memory, claim_folder, save_array, writing
from ornstein.app.imports import ConditionValues, Imports, made
from ornstein.app.options import arguments, condition_values, takes
from ornstein.app.pictures import save_grid
from ornstein.core.timesteps import spacing as spacings
from ornstein.inference.diffusion_model import DiffusionModel, load
from ornstein.inference.manifest import Manifest, options
from ornstein.inference.sampling.samplers import names as methods


@dataclass(frozen=True)
@takes(DiffusionModel.sample)
class SampleCommand:
    """Draw samples from a model in a run folder."""

    model: tyro.conf.Positional[Path]
    """A run folder."""
    n: int = 64
    """How many samples."""
    steps: int | Literal["auto"] = 20
    """Number of steps from noise to data; "auto" takes as many as --tol needs."""
    method: Annotated[str, tyro.conf.arg(help=f"One of {', '.join(methods)}; or module:name.")] = (
        "auto"
    )
    eta: float | None = None
    """Amount of fresh noise, 0 for the ordinary differential equation; by default the method's."""
    spacing: Annotated[
        str | None,
        tyro.conf.arg(
            help=f"Where the steps lie: {', '.join(spacings.names)}; or module:name;"
            " by default the method's."
        ),
    ] = None
    label: int | tuple[int, ...] | None = None
    """A class for all samples, or one per sample, for a model that has classes."""
    conditions: ConditionValues = None
    imports: Imports = ()
    out: Path | None = None
    """Where to write; by default samples/ in the run folder."""

    def run(self) -> None:
        """Draw samples, and write samples.npy, a picture if possible, and the manifest."""
        manifest = Manifest("sample", options(self))
        spacing = None if self.spacing is None else made(self.spacing, spacings.named)
        method = made(self.method, str)
        model = load(self.model)
        check_memory(f"--n {self.n}", self.n * math.prod(model.event_shape))
        folder = claim_folder(self.out or self.model / "samples")
        conditions = condition_values(self.conditions)
        resolved = {"method": method, "spacing": spacing, "conditions": conditions}
        keywords = arguments(self, DiffusionModel.sample, **resolved)
        x = model.sample(**keywords)
        print(f"samples: {save_array(folder / 'samples.npy', x)}  {tuple(x.shape)}")
        if x.ndim in (3, 4):
            with writing(folder / "samples.png"):
                print(f"picture: {save_grid(folder / 'samples.png', x)}")
        manifest.write(folder, {"shape": list(x.shape), "steps": self.steps}, model.device)
