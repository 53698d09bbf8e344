"""Samplers by name: numerical method, amount of noise and time grid, chosen for a posterior.

A sampler of a diffusion model is a numerical method, the amount of fresh noise eta that the method
runs with, and a spacing of its steps. `sampler` resolves the names that `ornstein.sample` accepts,
and `default_sampler` is the rule behind ``method="auto"``.
"""

__all__ = ["DENSE_RATIO", "Sampler", "data_std", "default_sampler", "names", "sampler"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ornstein.core.methods import Ancestral, EulerMaruyama, Heun, Multistep, PredictorCorrector
from ornstein.core.methods.exponential_weights import middle
from ornstein.core.processes.reverse import Posterior
from ornstein.core.simulation.method import Method
from ornstein.core.timesteps import spacing as spacings
from ornstein.core.timesteps.clock import Asinh
from ornstein.core.timesteps.spacing import Spacing
from ornstein.errors import OrnsteinError, UnknownNameError
from ornstein.models.posterior import attributes

DENSE_RATIO = 0.36
"""Noise-to-signal ratio around which steps are densest, in standard deviations of the data: there a
state decides for one of several modes in two dimensions."""
# The ratio of that density and the one below which the clock of the default method is linear.
_CLOCK_FACTOR = 2.4


@dataclass(frozen=True)
class Sampler:
    """A numerical method, the amount of noise that the method runs with, and a spacing of steps.

    Args:
        method: such as ``orn.Heun()``.
        eta: amount of fresh noise, from 0, the ODE, to 1, the reverse SDE.
        spacing: where the steps are.

    Example:
        >>> heun = orn.Sampler(orn.Heun(), eta=0.0, spacing=orn.spacing.Karras())
        >>> orn.sample(orn.targets.gmm9().posterior(orn.VP()), 4, 10, heun).shape
        torch.Size([4, 2])
    """

    method: Method
    eta: float
    spacing: Spacing = spacings.cosine


def data_std(posterior: Posterior) -> float:
    """Return the overall standard deviation of the data, 1 where the posterior has none."""
    return attributes(posterior).data_std


def default_sampler(
    posterior: Posterior,
    width: float = 1.0,
    turn: float = 1.0,
    std: float = 1.0,
    *,
    shape: Sequence[int] | None = None,
) -> Sampler:
    """Return the sampler of ``method="auto"``, from the std and dimension of the data.

    Fourth-order Adams-Bashforth on the velocity of data ``N(0, d^2)``, as polynomials in
    ``asinh(2.4 r / w)``, on a grid that is densest where the noise-to-signal ratio r is ``w = 0.36
    d (n / 2)^(1/6)``; order 2 in the last step, which ends in the data. The level at which a state
    decides for one of several modes rises with the dimension n: as n^(1/2) if all coordinates
    tell the modes apart, not at all if one does.

    Args:
        posterior: whose ``data_std`` is d.
        width: factor on w.
        turn: factor on the ratio ``w / 2.4`` below which the clock is linear.
        std: the standard deviation that the velocity belongs to, in units of d.
        shape: of an event, for a posterior that does not know its own.
    """
    d = data_std(posterior)
    event = shape or attributes(posterior).event_shape or (2,)
    w = DENSE_RATIO * d * (math.prod(event) / 2) ** (1 / 6)
    method = Multistep(4, std * d, Asinh(turn * w / _CLOCK_FACTOR), last=2)
    return Sampler(method, 0.0, spacings.Balanced(width * w))


_NAMES: dict[str, Sampler] = {
    "multistep": Sampler(Multistep(2, weights=middle), 0.0),
    "dpm++2m": Sampler(Multistep(2, weights=middle), 0.0),
    "sde-dpm++2m": Sampler(Multistep(2, weights=middle), 1.0),
    "unipc": Sampler(Multistep(2, weights=middle, corrector=2), 0.0),
    "deis": Sampler(Multistep(3, math.inf), 0.0),
    "ancestral": Sampler(Ancestral(), 1.0),
    "ddim": Sampler(Ancestral(), 0.0),
    "heun": Sampler(Heun(), 0.0),
    "euler": Sampler(EulerMaruyama(), 0.0),
    "predictor-corrector": Sampler(PredictorCorrector(), 1.0),
}

names: tuple[str, ...] = ("auto", *_NAMES)
"""The names that ``method=`` of `ornstein.sample` accepts."""


def sampler(
    method: str | Method | Sampler, posterior: Posterior, shape: Sequence[int] | None = None
) -> Sampler:
    """Return the sampler that a name, a method or a sampler stands for, for a posterior.

    Args:
        method: "auto", "dpm++2m", "ancestral" and others (see `names`), a method, or a `Sampler`.
        posterior: for which "auto" chooses.
        shape: of an event, for a posterior that does not know its own.

    Raises:
        UnknownNameError: for a name that no sampler has.
        OrnsteinError: for what is neither a name, nor a method, nor a sampler.
    """
    if isinstance(method, Sampler):
        return method
    if method == "auto":
        return default_sampler(posterior, shape=shape)
    if isinstance(method, str):
        if method not in _NAMES:
            raise UnknownNameError("method", method, names)
        return _NAMES[method]
    if isinstance(method, type) or not callable(getattr(method, "step", None)):
        raise OrnsteinError(
            f"method={method!r}: pass a name, such as 'auto', an instance of a method, such as"
            " orn.Heun(), or an orn.Sampler"
        )
    stochastic = (
        isinstance(method, (EulerMaruyama, PredictorCorrector))
        or getattr(method, "eta", 0.0) is None
    )
    return Sampler(method, 1.0 if stochastic else 0.0)
