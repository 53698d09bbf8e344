"""Limits on the constants of a process, checked where a user passes the constants.

Constants outside these limits overflow in float32, or put all steps of a grid at one time: samples
would be NaN. `check_constants` and `check_noise` raise an error that names the value, the limits
and the fix.
"""

__all__ = ["check_constants", "check_noise", "check_rate", "check_steps"]

from numbers import Integral
from typing import Any

from ornstein.core.numerics.checks import require_integers, require_positive, require_range
from ornstein.errors import OrnsteinError

_CONSTANTS = (1e-30, 1e30)  # rates, times and standard deviations, in any units
_NOISE_LEVELS = (1e-12, 1e6)  # standard deviations of the noise, in the units of the data
_MAX_RATE = 1e9  # rate times T: beyond it no grid of a usable size resolves the process


def check_constants(process: Any, *names: str) -> None:
    """Raise `OrnsteinError` unless constants of a process are positive and of a usable size."""
    require_positive(process, *names)
    low, high = _CONSTANTS
    values = {name: float(getattr(process, name)) for name in names}
    require_range(process, low, high, "measure time or data in other units", **values)


def check_noise(process: Any, **levels: float) -> None:
    """Raise `OrnsteinError` unless noise levels of a process are of a size that float32 can square.

    Args:
        process: the process; its class stands in the message.
        levels: standard deviations of the noise, by name, in the units of the data.
    """
    low, high = _NOISE_LEVELS
    require_range(process, low, high, "measure the data in other units", **levels)


def check_rate(process: Any, **rates: float) -> None:
    """Raise `OrnsteinError` if a rate of a process times its end of time is too large.

    Args:
        process: the process; its class stands in the message.
        rates: rate times T, dimensionless, by name.
    """
    require_range(process, 0.0, _MAX_RATE, "choose a smaller rate or a smaller T", **rates)


def check_steps(n: Any) -> None:
    """Raise `OrnsteinError` unless this is a number of steps of a grid, an integer from 1 on."""
    if isinstance(n, Integral) and not isinstance(n, bool) and int(n) < 1:
        raise OrnsteinError(f"a grid of {n} steps: at least 1 step is needed, usually 10 to 100")
    require_integers(1, n=n)
