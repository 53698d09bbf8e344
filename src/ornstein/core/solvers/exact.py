"""Exact simulation of a process at given times, from its transition kernel.

Some processes have a law of the later state, ``x_t`` given ``x_s`` for s < t, in closed form: every
`LinearSDE` and the processes of `ornstein.laws`. Such a process is simulated without discretisation
error, whatever the gaps between the times.
"""

__all__ = ["sample_exact"]

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from ornstein.core.methods.ancestral import ForwardTransition
from ornstein.core.processes.linear import LinearSDE, Time
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import as_times, simulate
from ornstein.core.simulation.watchers import Trajectory
from ornstein.errors import OrnsteinError


class _TransitionOnly(NamedTuple):
    """A process reduced to its transition kernel, whose draws have the shape of the state."""

    process: Any

    @property
    def numbers(self) -> int:
        """The number of standard normal numbers that one draw takes for each entry of the state."""
        return getattr(self.process, "numbers", 1)

    def transition(self, x_s: Tensor, s: Time, t: Time) -> Any:
        """Return the law of ``x_t`` given ``x_s``, for s < t."""
        return self.process.transition(x_s, s, t)


def sample_exact(
    process: Any,
    x0: Float[Tensor, "b *event"],
    times: Sequence[float] | Float[Tensor, " n"],
    seed: int | Noise = 0,
) -> Float[Tensor, "n b *event"]:
    """Draw paths of a process at increasing times from its exact transition kernel.

    There is no discretisation error, whatever the gaps between the times, for each state is drawn
    from ``p(x_t | x_s)``. Differentiable in ``x0``.

    Args:
        process: a `LinearSDE`, a process of `ornstein.laws`, or any object with ``transition(x_s,
            s, t)`` that returns a law with a method ``draw(z)`` of standard normal numbers z.
        x0: the states at ``times[0]``, one row for each path.
        times: at least two times, strictly increasing.
        seed: path i depends on the seed, on the times and on ``x0[i]`` alone.

    Returns:
        The states at all times; the first entry is ``x0``.

    Raises:
        OrnsteinError: if the times do not increase or leave the time of the process, or the process
            has no transition.

    Example:
        >>> paths = orn.sample_exact(orn.OU(), torch.zeros(5, 1), [0.0, 0.5, 3.0], seed=1)
        >>> paths.shape
        torch.Size([3, 5, 1])
    """
    if not hasattr(process, "transition"):
        raise OrnsteinError(
            f"sample_exact({type(process).__name__}): the process has no transition kernel; use"
            " orn.solve for an equation given by drift and diffusion"
        )
    times = as_times(times)
    if len(times) > 1 and bool(times[0] > times[-1]):
        raise OrnsteinError(
            f"sample_exact goes up in time, got times from {float(times[0]):g} to"
            f" {float(times[-1]):g}: use times.flip(0)"
        )
    if isinstance(process, LinearSDE):
        process.check_times(times)
    path = Trajectory()
    simulate(_TransitionOnly(process), x0, times, ForwardTransition(), Noise.of(seed), watch=[path])
    return path.stacked()
