"""Draw a process exactly at given times, from its transition kernel.

Some processes know the law of a later state, ``x_t`` given ``x_s`` for s < t: every `LinearSDE` and
the processes of `ornstein.laws`. Such a process is simulated without any discretisation error,
whatever the gaps between the times.
"""

__all__ = ["sample_exact"]

from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from ornstein.core.methods.ancestral import ForwardTransition
from ornstein.core.processes.linear import Time
from ornstein.core.random.noise import Noise
from ornstein.core.simulation.loop import simulate
from ornstein.core.simulation.watchers import Trajectory
from ornstein.errors import OrnsteinError


class _TransitionOnly(NamedTuple):
    """A process reduced to its transition: its draws have the shape of the state, whatever noise
    drives its equation."""

    process: Any

    @property
    def numbers(self) -> int:
        """How many standard normal numbers one draw takes for each entry of the state."""
        return getattr(self.process, "numbers", 1)

    def transition(self, x_s: Tensor, s: Time, t: Time) -> Any:
        """The law of ``x_t`` given ``x_s``, for s < t."""
        return self.process.transition(x_s, s, t)


def sample_exact(
    process: Any, x0: Float[Tensor, "b *event"], times: Float[Tensor, " n"], seed: int | Noise = 0
) -> Float[Tensor, "n b *event"]:
    """Draw paths of a process at increasing times from its exact transition kernel ``p(x_t |
    x_s)``.

    There is no discretisation error, whatever the gaps between the times. Differentiable in ``x0``.

    Args:
        process: a `LinearSDE`, a process of `ornstein.laws`, or any object with ``transition(x_s,
            s, t)`` that returns a law with a method ``draw(z)`` of standard normal numbers z.
        x0: the states at ``times[0]``, one row for each path.
        times: at least two times, strictly increasing.
        seed: path i depends on the seed, on the times and on ``x0[i]`` alone.

    Returns:
        The states at all times; the first entry is ``x0``.

    Raises:
        OrnsteinError: if the times do not increase.

    Example:
        >>> paths = orn.sample_exact(orn.OU(), torch.zeros(5, 1), torch.tensor([0.0, 0.5, 3.0]),
        seed=1) >>> paths.shape
        torch.Size([3, 5, 1])
    """
    if len(times) > 1 and bool(times[0] > times[-1]):
        raise OrnsteinError(
            f"sample_exact goes up in time, got times from {float(times[0]):g} to"
            f" {float(times[-1]):g}: use times.flip(0)"
        )
    path = Trajectory()
    noise = seed if isinstance(seed, Noise) else Noise(seed)
    simulate(_TransitionOnly(process), x0, times, ForwardTransition(), noise, watch=[path])
    return path.stacked()
