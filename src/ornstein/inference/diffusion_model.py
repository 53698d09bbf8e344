"""A trained model: a denoiser and the codec between its space and the user's. What a run folder
holds.

Models learned from samples and models learned from densities are the same kind of object: `sample`,
`log_likelihood`, `elbo` and `save` serve both.
"""

__all__ = ["DiffusionModel", "load"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ornstein.core.methods import TabulatedMultistep
from ornstein.core.processes.reverse import Posterior
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.method import Method
from ornstein.core.timesteps.spacing import Spacing
from ornstein.errors import CheckpointError, OrnsteinError
from ornstein.inference import checkpoint
from ornstein.inference.likelihood.dequantise import Bits, Noised, discrete_log_prob
from ornstein.inference.likelihood.elbo import Bound, elbo
from ornstein.inference.likelihood.probability_flow import LogLikelihood, log_likelihood
from ornstein.inference.likelihood.trace import Divergence
from ornstein.inference.sampling.sample import (
    PILOT,
    Sampler,
    sample,
    sampler,
    start_states,
    steps_for,
)
from ornstein.inference.sampling.tune import Tuned, tune
from ornstein.models.codecs.affine import Codec, Levels
from ornstein.models.codecs.triangular import TriangularCodec
from ornstein.models.denoiser import Denoiser
from ornstein.models.guidance.classifier_free import guide
from ornstein.models.parametrisations import parametrisation

Label = int | Sequence[int] | np.ndarray | Tensor | None
_FORMAT = 1


@dataclass(frozen=True)
class DiffusionModel:
    """Draws from, and tells the likelihood of, what it was trained on, in the user's units and
    layout.

    Args:
        denoiser: the posterior in the model's space; it knows its event shape.
        codec: between the two spaces.
        names: of the elements of an event, where they have names.
        info: how it was made, for people; and ``path_steps``, the steps of its weighted paths, for
            one that was learned from a density.
        tuned: samplers that `tune` has fitted, by number of steps; ``method="auto"`` uses them.
    """

    denoiser: Denoiser
    codec: Codec
    names: tuple[str, ...] = ()
    info: dict[str, Any] = field(default_factory=dict)
    tuned: dict[int, Tuned] = field(default_factory=dict)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one sample in the model's space."""
        if self.denoiser.event_shape is None:
            raise OrnsteinError("a DiffusionModel needs Denoiser(..., event_shape=...)")
        return tuple(self.denoiser.event_shape)

    @property
    def labels(self) -> int:
        """Number of classes that the network conditions on; 0 for none."""
        return int(getattr(self.denoiser.net, "config", {}).get("labels", 0))

    def posterior(self, label: Label = None, guidance: float | None = None) -> Posterior:
        """The posterior with a label and classifier-free guidance bound.

        Raises:
            OrnsteinError: for a label that the model does not have, or guidance without a label.
        """
        if label is None:
            if guidance is not None:
                raise OrnsteinError(
                    f"guidance={guidance} needs a label to guide towards: pass label="
                )
            return self.denoiser
        classes = torch.as_tensor(label)
        if classes.is_floating_point() and bool((classes != classes.round()).any()):
            raise OrnsteinError(f"label={label}: labels are whole numbers")
        classes = classes.long()
        if self.labels == 0 or bool(((classes < 0) | (classes >= self.labels)).any()):
            known = f"0 to {self.labels - 1}" if self.labels else "none: it was trained without"
            raise OrnsteinError(f"label={label}: this model's labels are {known}")
        bound = self.denoiser.given(label=classes)
        return bound if guidance is None else guide(bound, self.denoiser, guidance)

    def sample(
        self,
        n: int,
        steps: int | Literal["auto"] = 20,
        method: str | Method | Sampler = "auto",
        seed: int = 0,
        label: Label = None,
        guidance: float | None = None,
        eta: float | None = None,
        spacing: Spacing | None = None,
        batch: int = 1024,
        tol: float | None = None,
    ) -> Tensor:
        """n samples in the user's units and layout, ``(n, *event)``.

        Args:
            n: how many.
            steps, method, eta, spacing: see `ornstein.sample`; "auto" is the sampler tuned for so
                many steps if there is one.
            seed: sample i depends on the seed and i alone.
            label: a class for all, or one per sample.
            guidance: scale of classifier-free guidance; 1 or None is none.
            batch: samples at a time.
            tol: with ``steps="auto"``, the error allowed: root mean square per element, in units of
                the data's standard deviation.
        """
        if method == "auto" and steps in self.tuned and eta is None and spacing is None:
            method = self.tuned[steps]
        if (steps == "auto") != (tol is not None):
            raise OrnsteinError(
                f"steps={steps!r} with tol={tol}: a tolerance and steps='auto' go together"
            )
        classes = None if label is None else torch.as_tensor(label)
        if classes is not None and classes.ndim and len(classes) != n:
            raise OrnsteinError(
                f"label holds {len(classes)} classes for n={n} samples: give one, or one per sample"
            )
        parts = []
        with torch.no_grad():
            if tol is not None:
                chosen = sampler(method, self.denoiser)
                method = replace(
                    chosen,
                    spacing=spacing or chosen.spacing,
                    eta=chosen.eta if eta is None else eta,
                )
                steps = self._steps(classes, guidance, method, tol, Noise(seed))
            for first in range(0, n, batch):
                size = min(batch, n - first)
                own = (
                    classes
                    if classes is None or classes.ndim == 0
                    else classes[first : first + size]
                )
                noise = Noise(seed).shift(first)
                z = sample(
                    self.posterior(own, guidance),
                    size,
                    steps,
                    method,
                    noise,
                    eta=eta,
                    spacing=spacing,
                )
                parts.append(self.codec.decode(z))
        if not parts:
            raise OrnsteinError(f"n={n} samples: at least 1")
        return torch.cat(parts)

    def _steps(
        self,
        classes: Tensor | None,
        guidance: float | None,
        method: Sampler,
        tol: float,
        noise: Noise,
    ) -> int:
        """The number of steps for a tolerance in standard deviations of the data, on samples apart
        from those asked for."""
        pilot = (
            classes
            if classes is None or classes.ndim == 0
            else classes[torch.arange(PILOT) % len(classes)]
        )
        posterior = self.posterior(pilot, guidance)
        return steps_for(
            posterior,
            tol * self.denoiser.data_std,
            method,
            start_states(posterior, PILOT, None, noise.fold(PILOT)),
        ).steps

    def tune(
        self,
        steps: int = 10,
        label: int | None = None,
        guidance: float | None = None,
        **options: Any,
    ) -> "DiffusionModel":
        """This model with a sampler of its own for so many steps, which ``method="auto"`` then uses
        and `save` keeps.

        Args:
            steps: number of steps to tune for.
            label: the class to fit it on, by default the unconditional model.
            guidance: scale of classifier-free guidance to fit under.
            options: of `ornstein.tune`: seed, n, iterations, seconds, order, progress.

        Returns:
            A model that shares the denoiser: ``model.tuned[steps].error`` against ``.before`` says
            what was gained.
        """
        found = tune(self.posterior(label, guidance), steps, **options)
        return replace(self, tuned={**self.tuned, steps: found})

    def log_likelihood(
        self,
        x: Tensor | np.ndarray,
        tol: float = 1e-4,
        divergence: Divergence | None = None,
        seed: int = 0,
        refine: bool = True,
        label: Label = None,
        batch: int = 256,
        report: Callable[[int], None] = lambda done: None,
    ) -> LogLikelihood:
        """``log p(x)`` of the probability flow in nats, each sample with its error: a density, in
        the user's units.

        Also for quantised data it is a density, at the points themselves, and no probability of a
        level: a model that has learned the levels well is large there and small between them,
            without limit.

        Args:
            x: samples as the user has them.
            tol, divergence, refine: see `ornstein.log_likelihood`.
            seed: of the probes; sample i has its own, which depend on its place among those with
                its label.
            label: a class for all, or one per sample, for the conditional likelihood.
            batch: samples at a time. A batch shares its steps: sample i changes with it by about
                its error.
            report: called after each batch with the number of samples that are done.

        Returns:
            The parts of all batches: ``evaluations`` and ``passes`` their largest, ``prior_gap``
            the mean over samples, ``x_T`` in the model's space.
        """
        if batch < 1:
            raise OrnsteinError(f"batch={batch}: at least 1")
        z, noise, parts, places, done = self.encode(x), Noise(seed), [], [], 0
        for klass, place in self._by_label(label, len(z)):
            posterior, source = (
                (self.denoiser, noise)
                if klass is None
                else (self.posterior(klass), noise.fold(klass))
            )
            for first in range(0, len(place), batch):
                rows = place[first : first + batch]
                parts.append(
                    log_likelihood(posterior, z[rows], tol, divergence, source.shift(first), refine)
                )
                places.append(rows)
                report(done := done + len(rows))
        found = LogLikelihood.joined(parts, torch.cat(places).argsort())
        return replace(found, value=found.value - self.codec.log_det(z))

    def elbo(
        self, x: Tensor | np.ndarray, steps: int = 100, seed: int | Noise = 0, repeats: int = 2,
        label: Label = None, spacing: Spacing | None = None,
    ) -> Bound:  # fmt: skip
        """A lower bound on ``log p(x)`` in nats: of the discrete probability for quantised data,
        else of the density.

        Args:
            x: samples as the user has them.
            steps, repeats, seed, spacing: see `ornstein.elbo`.
            label: one class per sample, for the conditional likelihood.
        """
        z = self.encode(x)
        bound = elbo(self.posterior(label), z, steps, seed, repeats, self.levels, spacing=spacing)
        if self.codec.levels is not None:
            return bound
        log_det = self.codec.log_det(z)
        return replace(
            bound, value=bound.value - log_det, reconstruction=bound.reconstruction + log_det
        )

    def discrete_log_prob(
        self,
        x: Tensor | np.ndarray,
        tol: float = 1e-3,
        divergence: Divergence | None = None,
        draws: int = 1,
        seed: int = 0,
        label: int | None = None,
        part: float = 1 / 3,
    ) -> Bits:
        """``log P(x)`` of quantised data by the probability flow, nats: comparable with `elbo`,
        where `log_likelihood` is a density.

        Args:
            x: samples as the user has them, with values that are levels.
            tol, divergence: see `ornstein.log_likelihood`.
            draws: of the small noise that takes the levels apart, see `Noised`.
            seed: of that noise and of the probes.
            label: a class for all samples, for the conditional probability.
            part: that noise in units of the distance of levels.

        Raises:
            OrnsteinError: for a model of data that are not quantised, or values that are no levels.
        """
        if self.levels is None:
            raise OrnsteinError(
                "log_probability of a model whose data are not quantised: its density is"
                " log_likelihood(x)"
            )
        posterior, t = self.posterior(label), Noised.time(self.denoiser.sde, self.levels, part)

        def density(x_t: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
            found = log_likelihood(posterior, x_t, tol, divergence, noise, at=t)
            return found.value, found.error

        return discrete_log_prob(
            density, self.encode(x), self.levels, Noised(posterior, t), draws, seed
        )

    def encode(self, x: Tensor | np.ndarray) -> Tensor:
        """Samples as the user has them, in the model's space, ``(n, *event)``.

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

    def _by_label(self, label: Label, n: int) -> list[tuple[int | None, Tensor]]:
        """Each class with the indices of its samples; the flow of one class ends in one law."""
        if label is None:
            return [(None, torch.arange(n))]
        self.posterior(label)  # refuses what is no label
        classes = torch.as_tensor(label).long()
        if classes.ndim and classes.shape != (n,):
            raise OrnsteinError(
                f"label holds {len(classes)} classes for {n} samples: give one, or one per sample"
            )
        classes = classes.expand(n)
        return [(int(k), (classes == k).nonzero().flatten()) for k in classes.unique()]

    def config(self) -> dict[str, Any]:
        """Everything that is not a tensor, as JSON takes it.

        Raises:
            OrnsteinError: for a network of your own, or a process made of functions.
        """
        net, sde = self.denoiser.net, self.denoiser.sde
        return {
            "format": _FORMAT,
            "sde": checkpoint.process_config(sde),
            "net": checkpoint.net_config(net),
            "param": self.denoiser.param.name,
            "data_std": self.denoiser.data_std,
            "event_shape": list(self.event_shape),
            "codec": self.codec.config(),
            "names": list(self.names),
            "info": self.info,
            "tuned": {
                str(steps): found.config()
                for steps, found in self.tuned.items()
                if isinstance(found.method, TabulatedMultistep)
            },
        }

    def save(self, path: str | Path) -> Path:
        """Write a run folder, each file atomically, and return it.

        Raises:
            OrnsteinError: if a part of the model has no configuration (see `config`).
            CheckpointError: if the disk refuses.
        """
        folder, config = Path(path), self.config()
        checkpoint.save_tensors(folder / "model.safetensors", self._tensors())
        checkpoint.write_config(folder / "config.json", config)
        return folder

    def _tensors(self) -> dict[str, Tensor]:
        parts = {"denoiser": self.denoiser, "codec": self.codec}
        return {
            f"{part}.{name}": t
            for part, module in parts.items()
            for name, t in module.state_dict().items()
        }

    @property
    def levels(self) -> Levels | None:
        """The levels in the model's space, where the codec is one number per element."""
        levels = self.codec.levels
        if levels is None:
            return None
        if self.codec.factor.numel() != 1 or self.codec.shift.numel() != 1:
            raise OrnsteinError("quantised data needs a codec of one shift and one factor")
        shift, factor = float(self.codec.shift), float(self.codec.factor)
        return Levels((levels.low - shift) / factor, levels.step / factor, levels.count)


def load(path: str | Path) -> DiffusionModel:
    """The model in a run folder, on the CPU.

    Raises:
        CheckpointError: if a file is missing, truncated, from a newer version, or does not fit the
            configuration.
    """
    folder = Path(path)
    config = checkpoint.read_config(folder / "config.json")
    if config.get("format") != _FORMAT:
        found = config.get("format")
        raise CheckpointError(
            f"{folder / 'config.json'} has format {found!r}, this version reads {_FORMAT}: upgrade"
            " ornstein"
        )
    try:
        tensors, _ = checkpoint.load_tensors(folder / "model.safetensors")
        codec = _codec(
            config["codec"], {name: t for name, t in tensors.items() if name.startswith("codec.")}
        )
        denoiser = Denoiser(
            checkpoint.net(config["net"]),
            checkpoint.process(config["sde"]),
            parametrisation(config["param"]),
            config["data_std"],
            tuple(config["event_shape"]),
        )
        denoiser.std_table = tensors["denoiser.std_table"]
        own = {
            name.removeprefix("denoiser."): t
            for name, t in tensors.items()
            if name.startswith("denoiser.")
        }
        denoiser.load_state_dict(own)
        tuned = {int(steps): Tuned.build(found) for steps, found in config.get("tuned", {}).items()}
    except (AttributeError, IndexError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder}: config.json and model.safetensors do not fit together ({error})"
        ) from error
    return DiffusionModel(
        denoiser.eval().requires_grad_(False), codec, tuple(config["names"]), config["info"], tuned
    )


def _codec(config: dict[str, Any], tensors: dict[str, Tensor]) -> Codec:
    """The codec of a run folder."""
    parts = {name.removeprefix("codec."): t for name, t in tensors.items()}
    if config.get("kind") == "bend":
        return TriangularCodec(**parts)
    levels = config["levels"]
    return Codec(parts["shift"], parts["factor"], levels and Levels(*levels), config["layout"])
