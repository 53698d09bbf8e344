"""The base of a diffusion model: a denoiser and a codec, with conditions bound."""

__all__ = ["BoundModel", "Given", "Labels"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ornstein.core.processes.reverse import Posterior
from ornstein.errors import OrnsteinError
from ornstein.inference.sampling.tune import Tuned
from ornstein.models.codecs.affine import Codec, Levels
from ornstein.models.conditions import Conditions, Label
from ornstein.models.denoiser import ConditionedDenoiser, Denoiser
from ornstein.models.guidance.classifier_free import guide

Labels = int | Sequence[int] | np.ndarray | Tensor | None
"""Values of the condition "label": a class for all samples, or one per sample."""
Given = Mapping[str, Any] | None
"""Values of conditions by name, for all samples or one per sample."""
_Model = TypeVar("_Model", bound="BoundModel")


@dataclass(frozen=True, repr=False)
class BoundModel:
    """The denoiser, the codec and the bound conditions of a `DiffusionModel`.

    Args:
        denoiser: the posterior in the model's space, with an event shape.
        codec: the map between the two spaces.
        names: of the elements of an event, where they have names.
        info: how it was made, for people; and ``path_steps``, the steps of its weighted paths, for
            one that was learned from a density.
        tuned: samplers that `tune` has fitted, by number of steps; ``method="auto"`` uses them.
        bound: values of the conditions that `given` has bound.
    """

    denoiser: Denoiser
    codec: Codec
    names: tuple[str, ...] = ()
    info: dict[str, Any] = field(default_factory=dict)
    tuned: dict[int, Tuned] = field(default_factory=dict)
    bound: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one sample in the model's space."""
        if self.denoiser.event_shape is None:
            raise OrnsteinError("a DiffusionModel needs Denoiser(..., event_shape=...)")
        return tuple(self.denoiser.event_shape)

    @property
    def device(self) -> torch.device:
        """The device on which the model computes."""
        return self.denoiser.device

    @property
    def labels(self) -> int:
        """The number of classes that the condition "label" has; 0 for none."""
        kind = self.denoiser.conditions.get("label")
        return kind.classes if isinstance(kind, Label) else 0

    @property
    def levels(self) -> Levels | None:
        """The levels of quantised data in the model's space, if the codec is a single scale."""
        levels = self.codec.levels
        if levels is None:
            return None
        if self.codec.factor.numel() != 1 or self.codec.shift.numel() != 1:
            raise OrnsteinError("quantised data needs a codec of one shift and one factor")
        shift, factor = float(self.codec.shift), float(self.codec.factor)
        return Levels((levels.low - shift) / factor, levels.step / factor, levels.count)

    def given(self: _Model, **conditions: Any) -> _Model:
        """Bind conditions, ``model.given(label=3)``, and return a model of the others.

        Args:
            conditions: for each name, one value for all samples or one per sample.

        Returns:
            A model that shares the denoiser and has these conditions in every call that does not
            pass other values of theirs.

        Raises:
            OrnsteinError: for a name that the model does not have, or a value that it cannot take.
        """
        return replace(self, bound=dict(self.conditions(None, conditions)))

    def conditions(self, label: Labels = None, conditions: Given = None) -> Conditions:
        """Return the checked conditions of a call, together with those that `given` has bound.

        Args:
            label: value of the condition "label".
            conditions: values of conditions by name.
        """
        kinds = self.denoiser.conditions
        call = Conditions.of(kinds, {} if conditions is None else conditions)
        if label is not None and "label" in call:
            raise OrnsteinError(
                "label= and conditions={'label': ...} are the same: pass one of the two"
            )
        values: dict[str, Any] = {**self.bound, **call}
        if label is not None:
            values["label"] = label
        return Conditions.of(kinds, values)

    def posterior(
        self, label: Labels = None, guidance: float | None = None, conditions: Given = None
    ) -> Posterior:
        """Return the posterior with conditions and classifier-free guidance bound.

        Guidance moves away from the posterior in which all conditions are null.

        Args:
            label: a class for all samples, or one per sample.
            guidance: scale of classifier-free guidance; 1 or None is none.
            conditions: values of conditions by name.

        Raises:
            OrnsteinError: for a condition that the model does not have, or guidance without one.
        """
        return self.bind(self.conditions(label, conditions), guidance)

    def bind(self, cond: Conditions, guidance: float | None = None) -> Posterior:
        """Return the posterior with checked `conditions` and classifier-free guidance bound."""
        if not cond:
            if guidance is not None:
                raise OrnsteinError(
                    f"guidance={guidance} needs a label to guide towards: pass label="
                )
            return self.denoiser
        posterior = ConditionedDenoiser(self.denoiser, cond)
        return posterior if guidance is None else guide(posterior, self.denoiser, guidance)

    def encode(self, x: Tensor | np.ndarray) -> Tensor:
        """Map samples in the user's layout to the model's space, ``(n, *event)``.

        Raises:
            OrnsteinError: for none, or of another shape than the model's.
        """
        values = torch.as_tensor(x).to(self.codec.shift)
        own = self.codec.decode(torch.zeros(1, *self.event_shape).to(self.codec.shift)).shape[1:]
        if values.shape[1:] != own or len(values) == 0:
            raise OrnsteinError(
                f"samples of shape {tuple(values.shape)}: this model needs (n,"
                f" {', '.join(map(str, own))}) with n > 0"
            )
        return self.codec.encode(values)
