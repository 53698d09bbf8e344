"""The diffusion model: a trained denoiser, and a codec between its space and the user's.

It is what `ornstein.fit` returns and what a run folder holds. Models learned from samples and
models learned from densities are the same kind of object: `sample`, `log_likelihood`, `elbo` and
`save` serve both.
"""

__all__ = ["DiffusionModel", "load"]

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ornstein.inference import checkpoint, model_summary, run_folder
from ornstein.inference.model_likelihood import LikelihoodModel
from ornstein.inference.model_sampling import SamplingModel


@dataclass(frozen=True, repr=False)
class DiffusionModel(SamplingModel, LikelihoodModel):
    """A generative model of data: samples and likelihoods, in the user's units and layout.

    Args:
        denoiser: the posterior in the model's space, with an event shape.
        codec: the map between the two spaces.
        names: of the elements of an event, where they have names.
        info: how it was made, for people; and ``path_steps``, the steps of its weighted paths, for
            one that was learned from a density.
        tuned: samplers that `tune` has fitted, by number of steps; ``method="auto"`` uses them.
        bound: values of the conditions that `given` has bound.

    Example:
        >>> denoiser = orn.Denoiser(orn.MLP(2), orn.VP())
        >>> codec = orn.codecs.Codec(torch.zeros(2), torch.ones(2))
        >>> orn.DiffusionModel(denoiser, codec).sample(5, steps=4).shape
        torch.Size([5, 2])
    """

    def __repr__(self) -> str:
        return model_summary.text(self)

    def _repr_html_(self) -> str:
        """Return the summary as a table, for notebooks."""
        return model_summary.html(self)

    def config(self) -> dict[str, Any]:
        """Return everything of the model that is not a tensor, as JSON takes it.

        Raises:
            OrnsteinError: for a part without a configuration, or a process made of functions.
        """
        return run_folder.configuration(self)

    def save(self, path: str | Path) -> Path:
        """Write a run folder, each file atomically, and return its path.

        Raises:
            OrnsteinError: if a part of the model has no configuration (see `config`).
            CheckpointError: if the disk refuses.
        """
        folder = checkpoint.folder_path(path)
        config = self.config()
        checkpoint.save_tensors(folder / "model.safetensors", run_folder.tensors(self))
        checkpoint.write_config(folder / "config.json", config)
        return folder


def load(path: str | Path) -> DiffusionModel:
    """Load the model of a run folder, on the CPU; nothing in the folder is executed.

    A process, network, codec or condition of your own is loaded if the running program has
    registered its class (`ornstein.register` or `ornstein.allow`).

    Raises:
        CheckpointError: if the folder or a file is missing, truncated, from a newer version, names
            a class that is not registered, or does not fit the configuration.

    Example:
        >>> import tempfile
        >>> denoiser = orn.Denoiser(orn.MLP(2), orn.VP())
        >>> model = orn.DiffusionModel(denoiser, orn.codecs.Codec(torch.zeros(2), torch.ones(2)))
        >>> orn.load(model.save(tempfile.mkdtemp())).event_shape
        (2,)
    """
    return DiffusionModel(**run_folder.read(checkpoint.folder_path(path)))
